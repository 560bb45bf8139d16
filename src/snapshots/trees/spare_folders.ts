import {
  chmodSync,
  closeSync,
  fstatSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { type Digest, sizeOf } from "../../domain/digest.ts";
import { isFault } from "../../domain/fault.ts";
import type { Clock } from "../../runtime/clock.ts";
import { removeBeside, removeLeft } from "../../runtime/remove_left.ts";
import { digestOf } from "../blobs/blobs.ts";
import { checkout, checkoutMtimeSeconds, type CheckoutOptions } from "./checkout.ts";
import { readRoot } from "./read_tree.ts";
import { type FileStat, isSameStat, settledMs } from "./stat_cache.ts";
import { executableMode, fileMode, folderMode, type LeafNode, makeFolder, Modes, TreeWriter } from "./tree_writer.ts";

/*
 * To make 20,000 files takes a second, to look at them a twentieth of that: a folder that a task has left is made into
 * the inputs of the next by what differs. A file counts as untouched by what `lstat` said when it was laid out: whatever
 * is done to it afterwards, its time of change (ctime) tells, which nobody can set. What was laid out so lately that a
 * change could bear the same time is read again.
 */

/** A folder that was laid out for somebody. */
export interface LaidFolder {
  /** Without symlinks. */
  readonly dir: string;
}

/** Working folders that have been left, for those who come next. */
export interface SpareFolders {
  /** As `checkout()` does, with the same faults, by a folder that was left where one has much of it. */
  checkout(options: CheckoutOptions): Promise<LaidFolder>;
  /**
   * Takes a folder back: one that may serve again is moved away, and rid of all that was added to it or changed in it;
   * another is removed. Nobody may use it any more. It never rejects.
   */
  leave(folder: LaidFolder): Promise<void>;
  /** A folder that was laid out is somebody else's to remove. */
  forget(folder: LaidFolder): void;
  /** Removes those that wait, beside other work: there is no room for them. */
  drop(): void;
}

export interface SpareFoldersOptions {
  /** For those that wait, on the file system of those that are laid out. Made when needed. */
  readonly dir: string;
  readonly clock: Clock;
  /** So many are laid out or wait at once; those that are laid out beyond are not counted. */
  readonly foldersMax: number;
  /** Whether the disk has room for folders that wait; true unless given. */
  readonly hasRoom?: () => boolean;
  /** With fewer files a folder is as soon made anew; {@link filesMinDefault} unless given. */
  readonly filesMin?: number;
}

const filesMinDefault = 200;
/** Of more files than that nothing is remembered: about 300 bytes each. */
const filesMax = 200_000;
/** A file that may be looked into again is read whole. */
const readBytesMax = 4 * 1024 * 1024;
const turnFiles = 1000;

interface LaidFile {
  readonly digest: Digest;
  readonly executable: boolean;
  readonly stat: FileStat;
}

/** What a folder held when it was laid out. */
interface Laid extends LaidFolder {
  readonly snapshot: Digest;
  readonly mtimeMs: number;
  /** After the last file: whoever changes one does so later. */
  readonly atMs: number;
  /** By path from the folder: "/src/a.ts". */
  readonly files: ReadonlyMap<string, LaidFile>;
  /** Where symlinks lead, and the folders, itself ("") first. */
  readonly links: ReadonlyMap<string, string>;
  readonly folders: readonly string[];
  /** At its top. */
  readonly names: ReadonlySet<string>;
}

/** A folder that waits. */
interface Spare extends Laid {
  /** Resolves when nobody rids it of anything any more. */
  stopTidying(): Promise<void>;
}

export function spareFolders(options: SpareFoldersOptions): SpareFolders {
  const { clock, foldersMax, hasRoom = () => true, filesMin = filesMinDefault } = options;
  const inUse = new Map<LaidFolder, Laid>();
  /** Least lately left first. */
  let waiting: Spare[] = [];
  let number = 0;

  /** The one that has most of a tree, taken out. */
  const take = (snapshot: Digest, mtimeMs: number, names: ReadonlySet<string>): Spare | undefined => {
    const fitting = waiting.filter((spare) => spare.mtimeMs === mtimeMs);
    const found = fitting.find((spare) => spare.snapshot === snapshot) ??
      fitting.findLast((spare) => isAlike(spare.names, names));
    waiting = waiting.filter((spare) => spare !== found);
    return found;
  };

  const remove = (spare: Spare): void => void spare.stopTidying().then(() => removeBeside(spare.dir));
  const drop = (): void => {
    for (const spare of waiting) remove(spare);
    waiting = [];
  };

  return {
    async checkout(given) {
      const { dir, snapshot, mtimeMs = checkoutMtimeSeconds * 1000 } = given;
      if (given.changed !== undefined) {
        await checkout(given);
        return { dir: realpathSync.native(dir) };
      }
      let laid: Laid | undefined;
      const names = waiting.length === 0 ? new Set<string>() : await namesIn(given);
      const spare = take(snapshot, mtimeMs, names);
      await spare?.stopTidying();
      if (spare !== undefined && isMoved(spare.dir, dir)) {
        try {
          laid = spare.snapshot === snapshot && await isAsLaid(dir, spare, given.signal)
            ? again(dir, spare, clock)
            : await layOut({ ...given, mtimeMs }, spare, clock);
        } catch (thrown) {
          removeLeft(dir);
          given.signal?.throwIfAborted();
          if (isFault(thrown, "BLOB_MISSING") || isFault(thrown, "SNAPSHOT_UNKNOWN")) throw thrown;
          // Whatever a task did to its folder must not keep the next one from having its own.
        }
      }
      laid ??= await layOut({ ...given, mtimeMs }, undefined, clock);
      inUse.set(laid, laid);
      while (waiting.length > 0 && waiting.length + inUse.size > foldersMax) remove(waiting.shift()!);
      return laid;
    },
    async leave(folder) {
      const laid = inUse.get(folder);
      inUse.delete(folder);
      const isRoom = hasRoom();
      if (!isRoom) drop();
      const isWorthIt = isRoom && laid !== undefined && laid.files.size >= filesMin && laid.files.size <= filesMax &&
        waiting.length + inUse.size < foldersMax && isOwnFolder(laid.dir) && !isLivedIn(laid.dir);
      if (!isWorthIt) return await removeBeside(folder.dir);
      const dir = join(options.dir, `${++number}`);
      try {
        mkdirSync(options.dir, { recursive: true });
        renameSync(laid.dir, dir);
      } catch {
        return await removeBeside(laid.dir);
      }
      // Whoever comes before it is tidy may have it, too: what is wrong with it is put right then.
      const turn = { left: turnFiles, isStopped: false };
      const tidied = tidy(dir, "", laid.files, turn).then(() => true, () => false);
      const spare: Spare = {
        ...laid,
        dir,
        async stopTidying() {
          turn.isStopped = true;
          await tidied;
        },
      };
      waiting.push(spare);
      if (await tidied || !waiting.includes(spare)) return;
      waiting = waiting.filter((each) => each !== spare);
      removeLeft(dir);
    },
    forget: (folder) => void inUse.delete(folder),
    drop,
  };
}

function isMoved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch {
    removeLeft(from);
    return false;
  }
}

/** Whether one top is likely another state of the other. */
function isAlike(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  let both = 0;
  for (const name of one) if (other.has(name)) both++;
  return both > 0 && both * 2 >= Math.max(one.size, other.size);
}

async function namesIn({ blobs, snapshot, signal }: CheckoutOptions): Promise<ReadonlySet<string>> {
  const nodes = await readRoot(blobs, snapshot, signal === undefined ? {} : { signal });
  return new Set(nodes.map(({ name }) => name));
}

/** As a rule its parent is there, and to make it alone takes half the time. */
function makeWithParents(dir: string): void {
  try {
    mkdirSync(dir);
  } catch {
    mkdirSync(dir, { recursive: true });
  }
}

/** Makes a folder what a snapshot says. @param before what it was, if it is there. */
async function layOut(
  options: CheckoutOptions & { readonly mtimeMs: number },
  before: Laid | undefined,
  clock: Clock,
): Promise<Laid> {
  const { dir, snapshot, mtimeMs } = options;
  makeWithParents(dir);
  const top = realpathSync.native(dir);
  const files = new Map<string, LaidFile>();
  const links = new Map<string, string>();
  let names: ReadonlySet<string> | undefined;
  const seconds = mtimeMs / 1000;
  const modes = new Modes();
  const clear = (path: string): void => {
    if (before !== undefined) rmSync(path, { recursive: true, force: true });
  };
  const keepFolder = (path: string): boolean => {
    const stat = before === undefined ? undefined : lstatSync(path, { throwIfNoEntry: false });
    if (!stat?.isDirectory()) return false;
    if ((stat.mode & 0o7777) !== folderMode) chmodSync(path, folderMode);
    return true;
  };
  keepFolder(top);
  const writer = new TreeWriter({ ...options, since: [] }, {
    enter(path, nodes) {
      const wanted = new Set(nodes.map(({ name }) => name));
      names ??= wanted;
      if (before === undefined) return;
      for (const name of readdirSync(path)) {
        // Its bytes are no text, so that it cannot be named one by one.
        if (name.includes("\ufffd")) throw new Error("it holds what only goes with the whole folder");
        if (!wanted.has(name)) clear(`${path}/${name}`);
      }
    },
    keeps(path, node) {
      if (before === undefined) return false;
      if (node.kind === "symlink") {
        links.set(path.slice(top.length), node.target);
        return leadsTo(path, node.target);
      }
      const key = path.slice(top.length);
      const was = before.files.get(key);
      if (was === undefined || !isOf(was, node) || !isUntouched(path, was, before.atMs)) return false;
      files.set(key, was);
      return true;
    },
    folder(path) {
      if (keepFolder(path)) return path;
      clear(path);
      return makeFolder(path);
    },
    file(path, node) {
      clear(path);
      return modes.open(path, node);
    },
    closeFile(fd, path, { digest, executable }) {
      futimesSync(fd, seconds, seconds);
      const { ino, size, mtimeMs, ctimeMs } = fstatSync(fd);
      files.set(path.slice(top.length), { digest, executable, stat: { ino, size, mtimeMs, ctimeMs } });
      closeSync(fd);
    },
    symlink(path, target) {
      clear(path);
      symlinkSync(target, path);
      links.set(path.slice(top.length), target);
    },
  });
  const folders = await writer.write(top);
  for (const folder of folders.reverse()) utimesSync(folder, seconds, seconds);
  return {
    dir: top,
    snapshot,
    mtimeMs,
    atMs: clock.now(),
    files,
    links,
    folders: folders.reverse().map((folder) => folder.slice(top.length)),
    names: names ?? new Set(),
  };
}

/** Whether a folder holds what it was laid out with and nothing else: twice as soon known as what it should hold is read. */
async function isAsLaid(
  dir: string,
  { files, links, folders, atMs }: Laid,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const known = new Set(folders);
  let seen = 0;
  let turn = turnFiles;
  for (const folder of folders) {
    const stat = lstatSync(dir + folder, { throwIfNoEntry: false });
    if (!stat?.isDirectory() || (stat.mode & 0o7777) !== folderMode) return false;
    for (const name of readdirSync(dir + folder)) {
      const key = `${folder}/${name}`;
      const file = files.get(key);
      const target = links.get(key);
      if (
        file !== undefined
          ? !isUntouched(dir + key, file, atMs)
          : target !== undefined
          ? !leadsTo(dir + key, target)
          : !known.has(key)
      ) {
        return false;
      }
      seen++;
      if (--turn > 0) continue;
      turn = turnFiles;
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
    }
  }
  return seen === files.size + links.size + folders.length - 1;
}

/** A folder that is as it was laid out, for the next. */
function again(dir: string, laid: Laid, clock: Clock): Laid {
  const top = realpathSync.native(dir);
  const seconds = laid.mtimeMs / 1000;
  for (const folder of laid.folders) utimesSync(top + folder, seconds, seconds);
  return { ...laid, dir: top, atMs: clock.now() };
}

const isOf = (was: LaidFile, node: LeafNode): boolean =>
  node.kind === "file" && was.digest === node.digest && was.executable === node.executable;

/** @param atMs when the file was handed out at the earliest. */
function isUntouched(path: string, { digest, executable, stat: was }: LaidFile, atMs: number): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile() || !isSameStat(stat, was)) return false;
  if (was.ctimeMs < atMs - settledMs(was.ctimeMs)) return true;
  const isModeKept = (stat.mode & 0o7777) === (executable ? executableMode : fileMode);
  return isModeKept && sizeOf(digest) <= readBytesMax && digestOf(readFileSync(path)) === digest;
}

function leadsTo(path: string, target: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true && readlinkSync(path) === target;
  } catch {
    return false; // to what is no text
  }
}

interface Turn {
  left: number;
  isStopped: boolean;
}

/** Rids a folder of what was added and changed, so that it takes no more room than what it was laid out with. */
async function tidy(
  dir: string,
  within: string,
  files: Laid["files"],
  turn: Turn,
): Promise<void> {
  const path = dir + within;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (turn.isStopped) return;
    const key = `${within}/${entry.name}`;
    if (entry.isDirectory()) {
      await tidy(dir, key, files, turn);
      continue;
    }
    const was = files.get(key);
    const stat = was === undefined ? undefined : lstatSync(dir + key, { throwIfNoEntry: false });
    const isSame = was !== undefined && stat !== undefined && isSameStat(stat, was.stat);
    if (!isSame && !entry.isSymbolicLink()) rmSync(dir + key, { force: true });
    if (--turn.left > 0) continue;
    turn.left = turnFiles;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A task may have put a symlink in its place: what that leads to is not ours to tidy. */
const isOwnFolder = (dir: string): boolean => lstatSync(dir, { throwIfNoEntry: false })?.isDirectory() === true;

/** Whether a process that a task has left works in a folder; so it is taken to be where that cannot be told. */
function isLivedIn(dir: string): boolean {
  try {
    return readdirSync("/proc").some((name) => /^[0-9]+$/.test(name) && isIn(dir, `/proc/${name}/cwd`));
  } catch {
    return true;
  }
}

function isIn(dir: string, link: string): boolean {
  try {
    const at = readlinkSync(link);
    return at === dir || at.startsWith(`${dir}/`);
  } catch {
    return false; // it is gone, or of another user, who could not have been run here
  }
}
