import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseTasks, type TaskDefinition, tasksSaid } from "../../api/task_definition.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import { usage } from "../flags.ts";
import { plain } from "../render.ts";

const names = ["scoot.ts", "scoot.js", "scoot.json"] as const;

export interface TaskFile {
  /** The folder that it is in: paths of its tasks are relative to it. */
  readonly dir: string;
  /** The file. */
  readonly path: string;
  readonly tasks: ReadonlyMap<string, TaskDefinition>;
}

/**
 * Reads the task file of a folder, or of the nearest one above.
 *
 * @throws {Fault} `USAGE_INVALID` in one sentence: none is there, two are, it throws, one of its tasks is wrong.
 */
export async function loadTaskFile(userDir: string): Promise<TaskFile> {
  const path = find(userDir);
  let said: readonly (readonly [string, unknown])[];
  try {
    said = path.endsWith(".json") ? fromJson(path) : await fromModule(path);
  } catch (thrown) {
    if (isFault(thrown, "USAGE_INVALID")) throw thrown;
    throw cannotRead(path, thrown);
  }
  try {
    const tasks = parseTasks(said);
    if (tasks.size > 0) return { dir: dirname(path), path, tasks };
  } catch (thrown) {
    throw cannotRead(path, thrown);
  }
  throw usage(`Cannot use ${path} as it must say at least one task: it says none`);
}

function find(userDir: string): string {
  for (let dir = userDir;; dir = dirname(dir)) {
    const here = names.filter((name) => existsSync(join(dir, name)));
    if (here.length > 1) {
      throw usage(`Cannot choose a task file as there must be one in ${dir}: there are ${here.join(" and ")}`);
    }
    if (here[0] !== undefined) return join(dir, here[0]);
    if (dirname(dir) === dir) {
      throw usage(
        `Cannot find a task file: neither ${userDir} nor a folder above has a ${
          names.join(", ")
        }; docs/tasks.md tells how to write one`,
      );
    }
  }
}

/** What files said: a module is run once, so it says its tasks once. */
const saidBefore = new Map<string, Promise<readonly (readonly [string, unknown])[]>>();

/** Read anew when the file itself has changed; what it imports is not. */
async function fromModule(path: string): Promise<readonly (readonly [string, unknown])[]> {
  const url = `${pathToFileURL(path).href}?changed=${statSync(path).mtimeMs}`;
  let said = saidBefore.get(url);
  if (said === undefined) saidBefore.set(url, said = tasksSaid(() => import(url)));
  return await said;
}

function fromJson(path: string): readonly (readonly [string, unknown])[] {
  const whole: unknown = JSON.parse(readFileSync(path, "utf8"));
  if (typeof whole === "object" && whole !== null && !Array.isArray(whole)) return Object.entries(whole);
  throw usage(`Cannot read ${path} as it must be an object of tasks by name, such as {"test": {"run": "npm test"}}`);
}

function cannotRead(path: string, thrown: unknown): Fault {
  const { code, message = String(thrown) } = (thrown ?? {}) as { code?: unknown; message?: string };
  const first = plain(message.split("\n", 1)[0] ?? "");
  const isUnknownKind = code === "ERR_UNKNOWN_FILE_EXTENSION";
  const why = isUnknownKind ? "this Node cannot run TypeScript; Node 24 can, or call it scoot.js" : first;
  return new Fault("USAGE_INVALID", `Cannot read ${basename(path)} in ${dirname(path)}: ${why}`, { cause: thrown });
}
