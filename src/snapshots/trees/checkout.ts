import {
  closeSync,
  futimesSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import type { Digest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { beside, removeLeftBeside } from "./beside.ts";
import { type Since, unchangedSince } from "./changed_since.ts";
import { folderAt, refuseFolder } from "./places.ts";
import { failed, makeFolder, Modes, openFile, TreeWriter, type WriteOptions } from "./tree_writer.ts";

export interface CheckoutOptions extends WriteOptions {
  /** When everything was last changed, ms since the epoch; {@link checkoutMtimeSeconds} by default. */
  readonly mtimeMs?: number;
  /**
   * Gives files another time of change that are not as they were in every one of these trees: for tools that compare
   * times (make, cargo) in a folder that keeps what they made of those. A tree that the store lacks has nothing as it is.
   */
  readonly changed?: { readonly since: readonly Digest[]; readonly mtimeMs: number };
}

export interface BringBackOptions extends WriteOptions {
  /** Files that somebody has changed since are not replaced; without, all are. */
  readonly since?: Since;
}

export interface CheckoutReport {
  readonly files: number;
  readonly bytes: number;
}

/** When all files of a checkout were last changed: 2010-01-01T00:00:00Z. Equal trees then look equal to tools. */
export const checkoutMtimeSeconds = 1_262_304_000;

/**
 * Writes a snapshot into an empty folder: files with their execute bit (0755 or 0644, whatever the umask), symlinks as
 * they are, empty folders; all with one fixed time of change unless told otherwise. Nothing is ever written
 * through a symlink: they are made last. What was written stays when it fails.
 *
 * @throws {Fault} `SNAPSHOT_UNKNOWN`, `BLOB_MISSING` for what the store lacks; `TREE_INVALID`, `PATH_INVALID` for a bad
 * tree; `CHECKOUT_FAILED` naming the path when it cannot be written, the folder is not empty, or two names are one in
 * its file system; `NO_SPACE`.
 * The signal's reason when it is aborted.
 */
export async function checkout(options: CheckoutOptions): Promise<CheckoutReport> {
  const { dir } = options;
  try {
    mkdirSync(dir, { recursive: true });
    if (readdirSync(dir).length > 0) {
      throw new Fault("CHECKOUT_FAILED", `Cannot check out into ${dir} as it must be empty: something is in it`);
    }
  } catch (error) {
    throw failed(dir, error);
  }
  const mtimeSeconds = options.mtimeMs === undefined ? checkoutMtimeSeconds : options.mtimeMs / 1000;
  const changedSeconds = options.changed === undefined ? mtimeSeconds : options.changed.mtimeMs / 1000;
  const modes = new Modes();
  const writer = new TreeWriter({ ...options, since: options.changed?.since ?? [] }, {
    folder: makeFolder,
    file: (path, node) => modes.open(path, node),
    closeFile(fd, _path, _node, isChanged) {
      const seconds = isChanged ? changedSeconds : mtimeSeconds;
      futimesSync(fd, seconds, seconds);
      closeSync(fd);
    },
    symlink: (path, target) => symlinkSync(target, path),
  });
  const folders = await writer.write(realpathSync(dir));
  // Writing into a folder changes its time, so the innermost come first.
  for (const folder of folders.reverse()) utimesSync(folder, mtimeSeconds, mtimeSeconds);
  return { files: writer.files, bytes: writer.bytes };
}

/**
 * Brings a snapshot back into a folder where people work: each file and symlink replaces what has its name in one step,
 * folders are joined, everything else stays. A symlink to a folder is followed only if it leads to one inside. What was
 * cut off half-way is made whole by doing it again, which takes away what that left.
 *
 * @throws {Fault} as {@link checkout} does; `PATH_INVALID` for a symlink that leads outside; `CHECKOUT_FAILED` where a
 * folder and a file have one name; `OUTPUT_CHANGED` for a file that was changed meanwhile, and a repository. What of that was so when it
 * began is told before anything is written, and so is what the store lacks.
 */
export async function bringBack(options: BringBackOptions): Promise<CheckoutReport> {
  mkdirSync(options.dir, { recursive: true });
  const top = realpathSync(options.dir);
  const replace = (path: string): void => {
    try {
      unchanged.refuseChanged(path);
      renameSync(beside(path), path);
    } catch (error) {
      rmSync(beside(path), { force: true });
      throw error;
    }
  };
  const { snapshot, blobs, since } = options;
  const unchanged = await unchangedSince(blobs, snapshot, top, since);
  const writer = new TreeWriter({ ...options, since: [] }, {
    enter: removeLeftBeside,
    folder: (path) => folderAt(path, top) ?? makeFolder(path),
    file(path, node) {
      refuseFolder(path);
      rmSync(beside(path), { force: true }); // of an earlier process of this number
      return openFile(beside(path), node);
    },
    closeFile(fd, path) {
      closeSync(fd);
      replace(path);
    },
    dropFile: (path) => rmSync(beside(path), { force: true }),
    symlink(path, target) {
      refuseFolder(path);
      rmSync(beside(path), { force: true });
      symlinkSync(target, beside(path));
      replace(path);
    },
  });
  await writer.write(top);
  return { files: writer.files, bytes: writer.bytes };
}
