import { lstatSync, mkdirSync, realpathSync } from "node:fs";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { checkoutMtimeSeconds } from "./checkout.ts";
import { mountTrees } from "./compose.ts";
import { capturePresentOutputs } from "./outputs.ts";
import { lookup, segmentsOf } from "./read_tree.ts";

/**
 * A folder that one run leaves to the next (`target`, `node_modules/.cache`): what was in it, and the inputs that it was
 * made of. It is a snapshot with the two as folders, so that a ref can name it and nothing of it is collected.
 */
export interface KeptFolder {
  readonly content: Digest;
  readonly madeFor: Digest;
}

const contentName = "content";
const madeForName = "made-for";

/** @returns the snapshot that {@link readKeptFolder} reads. */
export const writeKeptFolder = (blobs: Blobs, { content, madeFor }: KeptFolder): Promise<Digest> =>
  mountTrees(blobs, [{ path: contentName, snapshot: content }, { path: madeForName, snapshot: madeFor }]);

/** @throws {Fault} `PATH_UNKNOWN`, `TREE_INVALID` for another snapshot, `SNAPSHOT_UNKNOWN` for one that is gone. */
export async function readKeptFolder(blobs: Blobs, kept: Digest): Promise<KeptFolder> {
  const digestAt = async (name: string): Promise<Digest> => {
    const node = await lookup(blobs, kept, name);
    if (node.kind === "directory") return node.digest;
    throw new Fault("TREE_INVALID", `Cannot read what was kept as "${name}" must be a folder: it is a ${node.kind}`);
  };
  return { content: await digestAt(contentName), madeFor: await digestAt(madeForName) };
}

/**
 * When files were last changed, for tools that compare times: what was kept is newer than inputs that are as they were
 * when it was made, and older than those that are not. An hour apart, which every file system can tell.
 */
export const keptTimes = (mtimeMs = checkoutMtimeSeconds * 1000): {
  readonly inputsMs: number;
  readonly keptMs: number;
  readonly changedMs: number;
} => ({ inputsMs: mtimeMs, keptMs: mtimeMs + 3_600_000, changedMs: mtimeMs + 7_200_000 });

/**
 * Where a kept folder has its place among inputs that were checked out. Folders above it are made.
 *
 * @param top of the inputs, absolute, without symlinks.
 * @param path relative to it.
 * @throws {Fault} `PATH_INVALID` for a path that leads outside or is the top, or where the inputs have something.
 */
export function keptFolderPlace(top: string, path: string): string {
  const segments = segmentsOf(path);
  const last = segments.pop();
  const dir = last === undefined ? top : `${makeFolders(top, segments.join("/"))}/${last}`;
  if (last !== undefined && lstatSync(dir, { throwIfNoEntry: false }) === undefined) return dir;
  throw new Fault("PATH_INVALID", `Cannot keep "${path}" from run to run as the inputs must not have it: they do`);
}

/**
 * What is in a kept folder after a run; undefined when it is not there, is no folder, or lies behind a symlink.
 *
 * @throws {Fault} as `captureOutputs` does.
 */
export async function takeKeptFolder(
  options: { readonly top: string; readonly path: string; readonly blobs: Blobs; readonly clock: Clock },
): Promise<Digest | undefined> {
  const { top: dir, path, blobs, clock } = options;
  const snapshot = await capturePresentOutputs({ dir, paths: [path], blobs, clock });
  if (snapshot === undefined) return undefined;
  const node = await lookup(blobs, snapshot, path);
  return node.kind === "directory" ? node.digest : undefined;
}

/**
 * Makes the folders of a path that are not there, and says where the last is. Symlinks are followed inside of the top.
 *
 * @param top absolute, without symlinks.
 * @throws {Fault} `PATH_INVALID` for a path that leads outside, or on which something else than a folder is.
 */
export function makeFolders(top: string, path: string): string {
  let at = top;
  for (const segment of segmentsOf(path)) {
    const next = `${at}/${segment}`;
    const stat = lstatSync(next, { throwIfNoEntry: false });
    if (stat === undefined) mkdirSync(next);
    const real = stat?.isSymbolicLink() ? realFolderIn(top, next) : next;
    if (real === undefined || (stat !== undefined && !lstatSync(real).isDirectory())) {
      throw new Fault("PATH_INVALID", `Cannot make "${path}" as "${segment}" in it must be a folder: it is not one`);
    }
    at = real;
  }
  return at;
}

/** Where a symlink leads, if that is inside of the top. */
function realFolderIn(top: string, link: string): string | undefined {
  try {
    const real = realpathSync(link);
    return real === top || real.startsWith(`${top}/`) ? real : undefined;
  } catch {
    return undefined; // it leads nowhere
  }
}
