import { type Digest, emptyDigest, isDigest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import type { EncodedJob, TaskSpec } from "../protocol/client_messages.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { mountTrees } from "../snapshots/trees/compose.ts";
import { segmentsOf } from "../snapshots/trees/read_tree.ts";
import { needTree } from "./trees.ts";

/** What a task is made of, as the scheduler takes it. */
export type EncodedInput = EncodedJob["tasks"][number]["input"];

/** Names of the tasks whose outputs a task is made of. */
export const tasksNeededBy = ({ input, inputs = [] }: Pick<TaskSpec, "input" | "inputs">): readonly string[] =>
  input.kind === "task" ? [input.task] : [...new Set(inputs.flatMap(({ task }) => task ?? []))];

export interface InputsOptions {
  readonly blobs: Blobs;
  readonly trees: TreeKeeper;
  readonly names: Pick<Refs, "get">;
}

/**
 * A task's inputs: names become digests, and what is mounted of snapshots alone becomes one. What is mounted of outputs
 * too is put together when those are there; whether its snapshots fit each other is known now.
 *
 * @throws {Fault} naming the task: `SNAPSHOT_UNKNOWN` for one of which the store lacks something, `REF_UNKNOWN`,
 *   `PATH_INVALID` for a path that leads outside and for two parts that have different things at one place,
 *   `PATH_UNKNOWN` for a subtree that is not there.
 */
export async function encodeInput(
  { name: task, input, inputs }: Pick<TaskSpec, "name" | "input" | "inputs">,
  { blobs, trees, names }: InputsOptions,
): Promise<EncodedInput> {
  const what = `accept the job as the input of task "${task}"`;
  if (inputs === undefined) {
    if (input.kind === "snapshot") await needTree(trees, input.snapshot, what);
    return input;
  }
  const digestOf = async (given: string): Promise<Digest> => {
    if (isDigest(given)) return given;
    const named = await names.get(given);
    if (named !== undefined && isDigest(named)) return named;
    throw new Fault("REF_UNKNOWN", `Cannot ${what} must be a digest or a name: no snapshot is called "${given}"`);
  };
  try {
    const parts = await Promise.all(inputs.map(async (part) => {
      const { subtree: below, task: of, snapshot, name: called } = part;
      const path = segmentsOf(part.path).join("/");
      const subtree = segmentsOf(below ?? "").join("/");
      const at = { path, ...(subtree === "" ? {} : { subtree }) };
      if (snapshot === undefined) return { ...at, name: called ?? `the output of task "${of}"`, task: of! };
      const name = called ?? (isDigest(snapshot) ? `snapshot ${snapshot.slice(0, 12)}` : `snapshot "${snapshot}"`);
      return { ...at, name, snapshot: await digestOf(snapshot) };
    }));
    const snapshots = parts.flatMap((part) => "snapshot" in part ? [part] : []);
    for (const { snapshot } of snapshots) if (snapshot !== emptyDigest) await needTree(trees, snapshot, what);
    const [only] = parts;
    if (snapshots.length === parts.length) return { kind: "snapshot", snapshot: await mountTrees(blobs, snapshots) };
    if (parts.length === 1 && only !== undefined && "task" in only && only.path === "" && !("subtree" in only)) {
      return { kind: "task", task: only.task };
    }
    if (snapshots.length > 1) await mountTrees(blobs, snapshots);
    return { kind: "mounted", parts };
  } catch (thrown) {
    if (!(thrown instanceof Fault) || thrown.message.includes(what)) throw thrown;
    throw new Fault(thrown.code, `Cannot accept the job as the inputs of task "${task}" must fit: ${thrown.message}`, {
      cause: thrown,
    });
  }
}
