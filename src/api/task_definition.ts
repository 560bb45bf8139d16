import * as v from "valibot";
import { Fault } from "../domain/fault.ts";
import { cachesMax, cText, digest, name, parse, textRecord, whole } from "../protocol/schema.ts";

const path = v.pipe(cText(4_096), v.minLength(1));
const mountSchema = v.union([
  /** What that task made at this very path. */
  name(200),
  v.strictObject({ task: name(200), from: v.exactOptional(path) }),
  v.strictObject({ snapshot: v.union([digest, name(512)]), from: v.exactOptional(path) }),
  /** Of the git repository around the task file. */
  v.strictObject({ revision: name(512), from: v.exactOptional(path) }),
]);
const definition = v.strictObject({
  /** Globs of gitignore's kind from the folder of the task file on; without, all that git's ignore rules leave. */
  inputs: v.exactOptional(v.array(path)),
  /** By path: what is put there beside the inputs. */
  mount: v.exactOptional(v.record(path, mountSchema)),
  /** A line for sh, or the words of a command. */
  run: v.union([v.pipe(cText(100_000), v.minLength(1)), v.pipe(v.array(cText(100_000)), v.minLength(1))]),
  /** Files, folders or globs that it makes and that are kept. */
  out: v.exactOptional(v.array(path)),
  /** Folders that it leaves to the next run of this file's tasks that name them, such as "target". */
  caches: v.exactOptional(v.pipe(v.array(path), v.maxLength(cachesMax))),
  /** All of its environment: nothing is inherited. */
  env: v.exactOptional(textRecord(1_000, 100_000)),
  /** What a worker must have. */
  platform: v.exactOptional(textRecord(64, 200)),
  /** "30s", "10m", "1h30m"; 30 minutes if absent. */
  timeout: v.exactOptional(name(40)),
  /** How often it is run again when it exits other than 0. */
  retries: v.exactOptional(whole(0, 20)),
  /** It runs so many times at once, with SCOOT_SHARD from 0 on and SCOOT_SHARDS in its environment; what they make is put together. */
  shards: v.exactOptional(whole(1, 1_000)),
});

/** A task of a task file: docs/tasks.md. */
export type TaskDefinition = v.InferInput<typeof definition>;
/** What is put at a path: what a task made there, or somewhere else, a snapshot by digest or name, or a commit. */
export type TaskMount = v.InferInput<typeof mountSchema>;

/** Where a file that is being read says its tasks; one place, however often this module is loaded in a process. */
const registryKey = Symbol.for("scoot-actors.task-file");
type Registry = [name: string, task: unknown][];
const place = globalThis as { [registryKey]?: Registry };

/**
 * Says a task of a task file, such as `task("test", { run: "npm test" })` in scoot.ts: see docs/tasks.md.
 *
 * @param name differs from those of the file's other tasks.
 * @throws {Fault} `REQUEST_INVALID` outside of a task file.
 */
export function task(name: string, definition: TaskDefinition): void {
  const registry = place[registryKey];
  if (registry === undefined) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot take task "${name}" as a task file must be read: it is for files that scoot-actors do reads`,
    );
  }
  registry.push([name, definition]);
}

/** What `read` said by {@link task}, in order. One file at a time. */
export async function tasksSaid(read: () => Promise<unknown>): Promise<readonly (readonly [string, unknown])[]> {
  const said: Registry = [];
  place[registryKey] = said;
  const global = globalThis as { task?: unknown };
  const before = Object.getOwnPropertyDescriptor(global, "task");
  global.task = task;
  try {
    await read();
    return said;
  } finally {
    delete place[registryKey];
    if (before === undefined) delete global.task;
    else Object.defineProperty(global, "task", before);
  }
}

/** Checked tasks by name. @throws {Fault} `REQUEST_INVALID` in one sentence: a bad field, two tasks with one name. */
export function parseTasks(said: readonly (readonly [string, unknown])[]): ReadonlyMap<string, TaskDefinition> {
  const tasks = new Map<string, TaskDefinition>();
  for (const [given, task] of said) {
    const called = parse(name(180), "the name of a task", given);
    if (tasks.has(called)) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot take task "${called}" as its name must be its own: there are two of that name`,
      );
    }
    tasks.set(called, parse(definition, `task "${called}"`, task));
  }
  return tasks;
}
