import type { ActionResultData, OutputDirectory, OutputFile, OutputSymlink } from "../domain/action_result.ts";
import type { CommandData } from "../domain/command.ts";
import { type Digest, emptyDigest } from "../domain/digest.ts";
import { isFault } from "../domain/fault.ts";
import type { Node } from "../domain/node.ts";
import { decodeActionResult, encodeActionResult } from "../protocol/reapi/action_result.ts";
import {
  decodeAction,
  decodeCommand,
  decodeDirectory,
  encodeDirectory,
  encodeTree,
} from "../protocol/reapi/canonical.ts";
import type { ActionCache, ActionKey } from "../snapshots/actions/actions.ts";
import { type Blobs, readBlob, writeBlob } from "../snapshots/blobs/blobs.ts";
import { lookup } from "../snapshots/trees/read_tree.ts";

const actionBytesMax = 1024 * 1024;
const commandBytesMax = 64 * 1024 * 1024;
const directoryBytesMax = 64 * 1024 * 1024;

/**
 * A kept result as a client of this API reads it. Jobs keep all outputs as one tree at the working directory: of that,
 * each output that the action's command names is told by its kind.
 *
 * @returns undefined when there is none, or what says how to read it has gone.
 */
export async function keptResult(
  key: ActionKey,
  { actions, blobs }: { readonly actions: ActionCache; readonly blobs: Blobs },
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const found = await actions.get(key, { signal });
  if (found === undefined || found.made.by !== "job" || found.made.taskId === undefined) return found?.result;
  const result = decodeActionResult(found.result);
  const [root] = result.outputDirectories;
  if (root === undefined || root.path !== "" || root.tree !== undefined) return found.result;
  try {
    const action = decodeAction(await readBlob(blobs, key.action, actionBytesMax, { signal }));
    const command = decodeCommand(await readBlob(blobs, action.command, commandBytesMax, { signal }));
    return encodeActionResult({ ...result, ...await outputsOf(root.rootDirectory!, command, blobs) });
  } catch (thrown) {
    if (isFault(thrown, "BLOB_MISSING") || isFault(thrown, "SNAPSHOT_UNKNOWN")) return undefined;
    throw thrown;
  }
}

type Outputs = Pick<
  ActionResultData,
  "outputFiles" | "outputDirectories" | "outputSymlinks" | "outputFileSymlinks" | "outputDirectorySymlinks"
>;

async function outputsOf(
  root: Digest,
  { outputs, outputFiles = [], outputDirectories = [] }: CommandData,
  blobs: Blobs,
): Promise<Outputs> {
  const files: OutputFile[] = [];
  const directories: OutputDirectory[] = [];
  const symlinks: OutputSymlink[] = [];
  for (const path of new Set(outputs.length > 0 ? outputs : [...outputFiles, ...outputDirectories])) {
    let node: Node;
    try {
      node = await lookup(blobs, root, path);
    } catch (thrown) {
      if (isFault(thrown, "PATH_UNKNOWN")) continue;
      throw thrown;
    }
    if (node.kind === "file") files.push({ path, digest: node.digest, executable: node.executable });
    else if (node.kind === "symlink") symlinks.push({ path, target: node.target });
    else directories.push({ path, tree: await treeOf(node.digest, blobs), isTopologicallySorted: false });
  }
  // Which of the two a symlink was is not known any more; where it leads is told all the same.
  return {
    outputFiles: files,
    outputDirectories: directories,
    outputSymlinks: symlinks,
    outputFileSymlinks: symlinks,
    outputDirectorySymlinks: [],
  };
}

/** Each directory below once. */
async function treeOf(root: Digest, blobs: Blobs): Promise<Digest> {
  const found = new Map<Digest, Uint8Array>();
  const open = [root];
  for (let digest = open.pop(); digest !== undefined; digest = open.pop()) {
    if (found.has(digest)) continue;
    const bytes = digest === emptyDigest ? encodeDirectory([]) : await readBlob(blobs, digest, directoryBytesMax);
    found.set(digest, bytes);
    for (const node of decodeDirectory(bytes)) if (node.kind === "directory") open.push(node.digest);
  }
  const [top, ...below] = found.values();
  return await writeBlob(blobs, encodeTree(top!, below));
}
