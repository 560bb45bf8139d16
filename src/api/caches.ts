import { Fault } from "../domain/fault.ts";
import type { TaskSpec } from "../protocol/client_messages.ts";
import { segmentsOf } from "../snapshots/trees/read_tree.ts";

/**
 * The folders that a task keeps, with their paths in one form.
 *
 * @throws {Fault} `PATH_INVALID` for one that leads outside, for the task's folder itself, and for two that are one
 * inside the other; `JOB_INVALID` for two of one name.
 */
export function cachesOf({ name: task, caches }: Pick<TaskSpec, "name" | "caches">): Pick<TaskSpec, "caches"> {
  if (caches === undefined || caches.length === 0) return {};
  const refuse = (code: "PATH_INVALID" | "JOB_INVALID", must: string): never => {
    throw new Fault(code, `Cannot accept the job as what task "${task.slice(0, 200)}" keeps must ${must}`);
  };
  const all = caches.map(({ path, name }) => {
    let segments: readonly string[] = [];
    try {
      segments = segmentsOf(path);
    } catch { /* told as what it is */ }
    if (segments.length === 0) {
      refuse("PATH_INVALID", `be inside of its folder: current value is "${path.slice(0, 200)}"`);
    }
    return { path: segments.join("/"), name };
  });
  for (const [at, { path, name }] of all.entries()) {
    for (const other of all.slice(at + 1)) {
      if (other.name === name) refuse("JOB_INVALID", `have names of their own: two are called "${name}"`);
      if (`${path}/`.startsWith(`${other.path}/`) || `${other.path}/`.startsWith(`${path}/`)) {
        refuse("PATH_INVALID", `lie beside each other: "${path}" and "${other.path}" do not`);
      }
    }
  }
  return { caches: all };
}
