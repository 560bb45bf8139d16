import {
  chmodSync,
  closeSync,
  fchmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  writeSync,
} from "node:fs";
import { type Digest, sizeOf } from "../../domain/digest.ts";
import { asFault, Fault, isFault } from "../../domain/fault.ts";
import { type Blobs, readBlob } from "../blobs/blobs.ts";
import { collisionsIn } from "./name_collisions.ts";
import { readDirectory, readRoot, refuseDepth } from "./read_tree.ts";
import type { Node } from "./tree.ts";

export interface CheckoutProgress {
  readonly files: number;
  readonly bytes: number;
}

export interface WriteOptions {
  readonly snapshot: Digest;
  /** The folder to fill; made if it is not there, together with those above it. */
  readonly dir: string;
  readonly blobs: Blobs;
  /** A tree with more entries is refused: a few small blobs can name a tree of any size. */
  readonly entriesMax?: number;
  /** Called now and then, at most once for every 64 files. */
  readonly onProgress?: (progress: CheckoutProgress) => void;
  readonly signal?: AbortSignal;
  /** Whether in this folder names are one that differ only in case or normalization; found out by default. */
  readonly foldsNames?: (dir: string) => boolean;
}

export const entriesMaxDefault = 1_000_000;

export const fileMode = 0o644;
export const executableMode = 0o755;
export const folderMode = 0o755;
/** After so many files or bytes the writer lets others run. */
const turnFiles = 64;
const turnKept = 2000;
const turnBytes = 1024 * 1024;
/** Blobs that a store must wait for are read so many at once. */
const fetchesMax = 16;
/** Blobs of more bytes pass through in chunks. */
const wholeBytesMax = 1024 * 1024;

/** How a tree's entries come into being at their paths. */
export interface Making {
  /** Hears what is to be in a folder, before any of it is made. */
  enter?(path: string, nodes: readonly Node[]): void;
  /** Whether that very file or symlink is there already, and stays. */
  keeps?(path: string, node: LeafNode): boolean;
  /** Makes a folder and says where it is. */
  folder(path: string): string;
  /** Opens a new file. */
  file(path: string, node: FileNode): number;
  /** Ends a file that was written whole. @param isChanged whether it is not as it was in a tree of before. */
  closeFile(fd: number, path: string, node: FileNode, isChanged: boolean): void;
  /** Takes away a file that was not; its descriptor is closed. */
  dropFile?(path: string): void;
  symlink(path: string, target: string): void;
}

export type LeafNode = Exclude<Node, { readonly kind: "directory" }>;
export type FileNode = Extract<Node, { readonly kind: "file" }>;

export interface WriterOptions extends WriteOptions {
  /** Trees of before. */
  readonly since: readonly Digest[];
}

/** A folder of the trees of before: each one's nodes by name, or the folders themselves as long as nobody asked. */
type Before = readonly (Digest | undefined)[];

/** Walks a tree and has everything made. Writes synchronously, which is several times quicker than not. */
export class TreeWriter {
  files = 0;
  bytes = 0;
  #options: WriterOptions;
  #making: Making;
  #entries = 0;
  #turnFiles = 0;
  #turnKept = 0;
  #turnBytes = 0;
  #fetches = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(options: WriterOptions, making: Making) {
    this.#options = options;
    this.#making = making;
  }

  /** @returns all folders, parents before what is in them. */
  async write(top: string): Promise<string[]> {
    const { blobs, snapshot, signal, since } = this.#options;
    const options = signal === undefined ? {} : { signal };
    const folders: string[] = [];
    const symlinks: { readonly path: string; readonly node: Extract<Node, { readonly kind: "symlink" }> }[] = [];
    try {
      // Folders still to be filled. Each is read when its turn comes, so that only names wait in memory.
      const open = [{ path: top, depth: 0, digest: snapshot, before: since as Before }];
      for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
        const nodes = folder.depth === 0
          ? await readRoot(blobs, snapshot, options)
          : await readDirectory(blobs, folder.digest, options);
        this.#countEntries(nodes.length);
        this.#refuseCollisions(folder.path, nodes);
        folders.push(folder.path);
        make(folder.path, () => this.#making.enter?.(folder.path, nodes));
        const before = await this.#nodesBefore(folder.digest, folder.before);
        for (const node of nodes) {
          const path = `${folder.path}/${node.name}`;
          if (node.kind === "symlink") symlinks.push({ path, node });
          else if (node.kind === "directory") {
            refuseDepth(folder.depth + 1, path);
            const made = make(path, () => this.#making.folder(path));
            open.push({
              path: made,
              depth: folder.depth + 1,
              digest: node.digest,
              before: before.map((nodes) => {
                const there = nodes === "same" ? node : nodes.get(node.name);
                return there?.kind === "directory" ? there.digest : undefined;
              }),
            });
          } else if (this.#making.keeps?.(path, node)) {
            this.files++;
            this.bytes += sizeOf(node.digest);
            if (++this.#turnKept >= turnKept) await this.#yield();
          } else {
            const isChanged = before.some((nodes) => nodes !== "same" && !isSameFile(nodes.get(node.name), node));
            const bytes = blobs.peek?.(node.digest);
            if (bytes === undefined) await this.#fetch(path, node, isChanged);
            else this.#writeFile(path, node, bytes, isChanged);
            if (++this.#turnFiles >= turnFiles || this.#turnBytes >= turnBytes) await this.#yield();
          }
        }
      }
    } finally {
      await Promise.all(this.#fetches);
    }
    this.#throwFailure();
    for (const { path, node } of symlinks) {
      if (!this.#making.keeps?.(path, node)) make(path, () => this.#making.symlink(path, node.target));
    }
    this.#progress();
    return folders;
  }

  #refuseCollisions(dir: string, nodes: readonly Node[]): void {
    const [first] = collisionsIn(nodes.map(({ name }) => name));
    if (first === undefined || !make(dir, () => (this.#options.foldsNames ?? foldsNames)(dir))) return;
    throw new Fault(
      "CHECKOUT_FAILED",
      `Cannot write "${first[0]}" and "${
        first[1]
      }" into ${dir} as they must be two names: this file system takes them for one`,
    );
  }

  /** What was in a folder before, in each tree: "same" where nothing in it has changed. */
  async #nodesBefore(now: Digest, before: Before): Promise<("same" | ReadonlyMap<string, Node>)[]> {
    const found: ("same" | ReadonlyMap<string, Node>)[] = [];
    for (const digest of before) {
      if (digest === now) found.push("same");
      else found.push(new Map((await this.#readBefore(digest)).map((node) => [node.name, node])));
    }
    return found;
  }

  async #readBefore(digest: Digest | undefined): Promise<readonly Node[]> {
    if (digest === undefined) return [];
    const { blobs, signal } = this.#options;
    try {
      return await readDirectory(blobs, digest, signal === undefined ? {} : { signal });
    } catch (error) {
      if (isFault(error, "BLOB_MISSING")) return []; // work is then repeated, not skipped
      throw error;
    }
  }

  #countEntries(more: number): void {
    const most = this.#options.entriesMax ?? entriesMaxDefault;
    this.#entries += more;
    if (this.#entries <= most) return;
    throw new Fault("TREE_INVALID", `Cannot write the tree as it must have at most ${most} entries: it has more`);
  }

  #writeFile(path: string, node: FileNode, bytes: Uint8Array, isChanged: boolean): void {
    this.#fill(path, node, isChanged, (fd) => writeAll(fd, bytes));
  }

  /** Opens a file, fills it and closes it, or takes it away. */
  #fill(path: string, node: FileNode, isChanged: boolean, write: (fd: number) => void): void {
    make(path, () => {
      const fd = this.#making.file(path, node);
      try {
        write(fd);
      } catch (error) {
        closeSync(fd);
        this.#making.dropFile?.(path);
        throw error;
      }
      this.#making.closeFile(fd, path, node, isChanged);
    });
    this.#count(node);
  }

  /** Starts to read a file's blob from a store that must wait for it; resolves when the next may start. */
  async #fetch(path: string, node: FileNode, isChanged: boolean): Promise<void> {
    const fetched = this.#fetchNow(path, node, isChanged).catch((error: unknown) => {
      this.#failure ??= { error };
    }).finally(() => this.#fetches.delete(fetched));
    this.#fetches.add(fetched);
    while (this.#fetches.size >= fetchesMax) await Promise.race(this.#fetches);
    this.#throwFailure();
  }

  async #fetchNow(path: string, node: FileNode, isChanged: boolean): Promise<void> {
    const { blobs, signal } = this.#options;
    const options = signal === undefined ? {} : { signal };
    if (sizeOf(node.digest) <= wholeBytesMax) {
      return this.#writeFile(path, node, await readBlob(blobs, node.digest, wholeBytesMax, options), isChanged);
    }
    const fd = make(path, () => this.#making.file(path, node));
    try {
      for await (const chunk of blobs.get(node.digest, options)) make(path, () => writeAll(fd, chunk));
    } catch (error) {
      closeSync(fd);
      this.#making.dropFile?.(path);
      throw error;
    }
    make(path, () => this.#making.closeFile(fd, path, node, isChanged));
    this.#count(node);
  }

  #count({ digest }: FileNode): void {
    this.files++;
    this.bytes += sizeOf(digest);
    this.#turnBytes += sizeOf(digest);
  }

  #progress(): void {
    this.#options.onProgress?.({ files: this.files, bytes: this.bytes });
  }

  async #yield(): Promise<void> {
    this.#turnFiles = 0;
    this.#turnKept = 0;
    this.#turnBytes = 0;
    this.#progress();
    await new Promise((resolve) => setImmediate(resolve));
    this.#options.signal?.throwIfAborted();
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

const isSameFile = (before: Node | undefined, now: FileNode): boolean =>
  before?.kind === "file" && before.digest === now.digest && before.executable === now.executable;

export function makeFolder(path: string): string {
  mkdirSync(path, folderMode);
  chmodSync(path, folderMode);
  return path;
}

const modeOf = ({ executable }: FileNode): number => executable ? executableMode : fileMode;

/** Opens new files. The umask is one for all of them: what it takes of a mode is looked at once. */
export class Modes {
  #isKept = new Map<number, boolean>();

  open(path: string, node: FileNode): number {
    const mode = modeOf(node);
    const isKept = this.#isKept.get(mode);
    if (isKept === false) return openFile(path, node);
    const fd = openSync(path, "wx", mode);
    if (isKept === true) return fd;
    this.#isKept.set(mode, (fstatSync(fd).mode & 0o777) === mode);
    fchmodSync(fd, mode);
    return fd;
  }
}

/** Only ever a new file: what is there already, a symlink too, is an error. */
export function openFile(path: string, node: FileNode): number {
  const mode = modeOf(node);
  const fd = openSync(path, "wx", mode);
  fchmodSync(fd, mode); // the umask took its part
  return fd;
}

/** Whether two names that differ only in case or normalization are one file in a folder. Writes there, and cleans up. */
function foldsNames(dir: string): boolean {
  const name = `.scoot-${process.pid}-name`;
  const fd = openSync(`${dir}/${name}`, "wx");
  closeSync(fd);
  try {
    return lstatSync(`${dir}/${name.toUpperCase()}`, { throwIfNoEntry: false }) !== undefined;
  } finally {
    rmSync(`${dir}/${name}`);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}

/** Does one thing at a path, and names the path when that fails. */
function make<Value>(path: string, act: () => Value): Value {
  try {
    return act();
  } catch (error) {
    throw failed(path, error);
  }
}

export function failed(path: string, error: unknown): Fault {
  const fault = asFault(error, `Cannot write ${path}`);
  return fault.code === "INTERNAL" ? new Fault("CHECKOUT_FAILED", fault.message, { cause: error }) : fault;
}
