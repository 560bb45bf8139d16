import type { TaskDefinition } from "../../api/task_definition.ts";
import { didYouMean, duration, usage } from "../flags.ts";
import { compileGlob } from "../../snapshots/trees/output_glob.ts";
import { checkOutputs } from "../../snapshots/trees/outputs.ts";
import { segmentsOf } from "../../snapshots/trees/read_tree.ts";
import { Fault } from "../../domain/fault.ts";

const timeoutMsMax = 30 * 24 * 3_600_000;

/** What is put at a path of a task's folder. */
export type PlannedMount =
  & { readonly path: string; readonly from: string }
  & ({ readonly task: string } | { readonly snapshot: string } | { readonly revision: string });

/** A task of a task file, ready to be run. */
export interface PlannedTask {
  readonly name: string;
  /** Undefined: all that the ignore rules leave. */
  readonly inputs: readonly string[] | undefined;
  readonly mounts: readonly PlannedMount[];
  readonly argv: readonly string[];
  readonly outputs: readonly string[];
  readonly caches: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly platform: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  readonly retries?: number;
  readonly shards: number;
}

/**
 * The named tasks and all that they need, each after what it needs.
 *
 * @throws {Fault} `USAGE_INVALID` in one sentence: an unknown name, an unknown or doubled mount, a cycle, a path or glob
 * that climbs out, a time that is none.
 */
export function planOf(tasks: ReadonlyMap<string, TaskDefinition>, names: readonly string[]): readonly PlannedTask[] {
  const planned = new Map<string, PlannedTask>();
  const visit = (name: string, path: readonly string[], by: string): void => {
    if (path.includes(name)) {
      const cycle = [...path.slice(path.indexOf(name)), name];
      throw usage(`Cannot run "${name}" as tasks must not wait for each other in a ring: ${cycle.join(" needs ")}`);
    }
    if (planned.has(name)) return;
    const definition = tasks.get(name);
    if (definition === undefined) {
      throw usage(
        `Cannot ${by}: there is no task "${name}"${
          didYouMean(name, [...tasks.keys()]) || `; there are ${[...tasks.keys()].join(", ")}`
        }`,
      );
    }
    const task = plannedTask(name, definition);
    for (const mount of task.mounts) {
      if ("task" in mount) visit(mount.task, [...path, name], `mount "${mount.path}" of task "${name}"`);
    }
    planned.set(name, task);
  };
  for (const name of names) visit(name, [], `do "${name}"`);
  return [...planned.values()];
}

function plannedTask(name: string, definition: TaskDefinition): PlannedTask {
  const { inputs, mount = {}, run, out = [], caches = [], env = {}, platform = {}, timeout, retries, shards = 1 } =
    definition;
  try {
    for (const glob of inputs ?? []) compileGlob(glob);
    checkOutputs(out);
    const mounts = Object.entries(mount).map(([path, what]): PlannedMount => {
      const at = segmentsOf(path).join("/");
      if (typeof what === "string") return { path: at, task: what, from: at };
      const from = segmentsOf(what.from ?? "").join("/");
      if ("task" in what) return { path: at, task: what.task, from };
      return "snapshot" in what
        ? { path: at, snapshot: what.snapshot, from }
        : { path: at, revision: what.revision, from };
    });
    const timeoutMs = timeout === undefined ? undefined : duration(timeoutMsMax)(timeout, "its timeout");
    return {
      name,
      inputs,
      mounts,
      argv: typeof run === "string" ? ["sh", "-c", run] : run,
      outputs: out,
      caches: caches.map((path) => segmentsOf(path).join("/")),
      env,
      platform,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(retries === undefined ? {} : { retries }),
      shards,
    };
  } catch (thrown) {
    const { message } = thrown as Error;
    throw new Fault("USAGE_INVALID", `Cannot use task "${name}": ${message}`, { cause: thrown });
  }
}
