import { type Digest, emptyDigest } from "../domain/digest.ts";
import { Fault, isFault } from "../domain/fault.ts";
import type { ActionData, CommandData } from "../domain/command.ts";
import { decodeAction, decodeCommand, decodeDirectory, segmentFlaw } from "../protocol/reapi/canonical.ts";
import { type Blobs, readBlob } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";

/** What a client has asked to be run, read and checked. */
export interface ReadAction {
  readonly action: ActionData;
  readonly command: CommandData;
  /** By name: the one value that a worker must have. */
  readonly platform: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

const actionBytesMax = 1024 * 1024;
const commandBytesMax = 64 * 1024 * 1024;
const directoryBytesMax = 64 * 1024 * 1024;
/** When an action has no time limit of its own. */
const timeoutMsDefault = 3_600_000;
const timeoutMsMax = 30 * 24 * 3_600_000;
/** Of what is missing, so many are told at once. */
const missingMax = 10_000;
/** Of a tree that is searched for what is missing. */
const directoriesMax = 1_000_000;
const lookupsAtOnce = 1_000;

/**
 * Reads an action for who takes it in: all of its inputs stay for the guaranteed age from now on.
 *
 * @returns what is missing of the Action, its Command and its inputs, if something is. What is there and is no folder,
 *   though one is named so, comes to light when it is checked out.
 * @throws {Fault} `REQUEST_INVALID`, `PATH_INVALID`.
 */
export async function readAction(
  { blobs, trees }: { readonly blobs: Blobs; readonly trees: TreeKeeper },
  digest: Digest,
  signal: AbortSignal,
): Promise<ReadAction | { readonly missing: readonly Digest[] }> {
  const read = async <Value>(blob: Digest, bytesMax: number, decode: (bytes: Uint8Array) => Value) => {
    try {
      return decode(blob === emptyDigest ? new Uint8Array(0) : await readBlob(blobs, blob, bytesMax, { signal }));
    } catch (thrown) {
      if (isFault(thrown, "BLOB_MISSING")) return undefined;
      throw thrown;
    }
  };
  const action = await read(digest, actionBytesMax, decodeAction);
  if (action === undefined) return { missing: [digest] };
  const command = await read(action.command, commandBytesMax, decodeCommand);
  const { inputRoot } = action;
  const isWhole = (await trees.keep(inputRoot, signal)).length === 0;
  const absent = isWhole ? [] : await missingInputs(blobs, inputRoot, signal);
  if (command === undefined || absent.length > 0) {
    return { missing: [...(command === undefined ? [action.command] : []), ...absent] };
  }
  checkCommand(command);
  const { timeoutMs = 0 } = action;
  if (timeoutMs > timeoutMsMax) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot run the action as its timeout must be at most ${timeoutMsMax / 1_000} s: current value is ${
        timeoutMs / 1_000
      } s`,
    );
  }
  return {
    action,
    command,
    platform: platformOf(action.platform.length > 0 ? action.platform : command.platform),
    timeoutMs: timeoutMs === 0 ? timeoutMsDefault : timeoutMs,
  };
}

function platformOf(properties: ActionData["platform"]): Readonly<Record<string, string>> {
  const found = new Map<string, string>();
  for (const { name, value } of properties) {
    if (found.has(name) && found.get(name) !== value) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot run the action as its platform may name a property once here: "${
          name.slice(0, 200)
        }" has several values`,
      );
    }
    if (name === "" || name.length > 1_000 || value.length > 200 || found.size >= 64 || /\0/.test(name + value)) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot run the action as its platform must have at most 64 properties with names, and values of at most 200 characters: "${
          name.slice(0, 200)
        }" is none of them`,
      );
    }
    found.set(name, value);
  }
  return Object.fromEntries(found);
}

function checkCommand({ argv, env, workingDirectory, outputs, outputFiles, outputDirectories }: CommandData): void {
  const refuse = (what: string): never => {
    throw new Fault("REQUEST_INVALID", `Cannot run the action as ${what}`);
  };
  if (argv.length === 0 || argv[0] === "") refuse("its command must have arguments: the first of them is none");
  if (argv.some((argument) => argument.includes("\0")) || Object.values(env).some((value) => value.includes("\0"))) {
    refuse("its arguments and environment must hold no NUL");
  }
  checkPath(workingDirectory, "the working directory");
  for (const path of [...outputs, ...outputFiles ?? [], ...outputDirectories ?? []]) checkPath(path, "an output");
}

function checkPath(path: string, what: string): void {
  const refuse = (must: string): never => {
    throw new Fault(
      "PATH_INVALID",
      `Cannot run the action as ${what} must ${must}: current value is "${path.slice(0, 200)}"`,
    );
  };
  if (path.startsWith("/")) refuse("be relative");
  if (path === "") return;
  for (const segment of path.split("/")) {
    const flaw = segmentFlaw(segment);
    if (flaw !== undefined) refuse(`be a path inside of the inputs whose names ${flaw}`);
  }
}

/** All that is missing of a tree, the root included, so that a client sends it in one go. */
export async function missingInputs(blobs: Blobs, root: Digest, signal: AbortSignal): Promise<Digest[]> {
  const missing = new Set<Digest>();
  const seen = new Set<Digest>([emptyDigest]);
  let folders = root === emptyDigest ? [] : [root];
  let asked = new Set<Digest>(folders);
  const ask = async (): Promise<void> => {
    if (asked.size > 0) { for (const digest of await blobs.missing(asked)) missing.add(digest); }
    asked = new Set();
  };
  let count = 0;
  while (folders.length > 0 && missing.size < missingMax && count < directoriesMax) {
    await ask();
    const below: Digest[] = [];
    for (const folder of folders) {
      if (missing.has(folder)) continue;
      count++;
      let nodes;
      try {
        nodes = decodeDirectory(await readBlob(blobs, folder, directoryBytesMax, { signal }));
      } catch (thrown) {
        if (isFault(thrown, "BLOB_MISSING")) missing.add(folder);
        continue; // what is no directory is told by the run
      }
      for (const node of nodes) {
        if (node.kind === "symlink" || seen.has(node.digest)) continue;
        seen.add(node.digest);
        asked.add(node.digest);
        if (node.kind === "directory") below.push(node.digest);
        if (asked.size >= lookupsAtOnce) await ask();
      }
    }
    folders = below;
  }
  await ask();
  return [...missing].slice(0, missingMax);
}
