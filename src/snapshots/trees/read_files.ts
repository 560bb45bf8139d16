import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, type Stats } from "node:fs";
import { type Digest, digestOfHash, sizeOf } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import { encodeDirectory } from "../../protocol/reapi/canonical.ts";
import { compareUtf8 } from "../../protocol/reapi/wire.ts";
import type { Clock } from "../../runtime/clock.ts";
import { type Blobs, digestOf } from "../blobs/blobs.ts";
import { fileStart, Outbox, type PutFile, wholeBytesMax } from "./outbox.ts";
import { isSameStat } from "./stat_cache.ts";
import type { Node } from "./tree.ts";

export interface CaptureProgress {
  readonly files: number;
  readonly bytes: number;
  readonly sentBytes: number;
}

/** Where files come from and their bytes go. */
export interface SourceOptions {
  /** The folder to capture. A symlink to a folder will do. */
  readonly dir: string;
  readonly blobs: Blobs;
  readonly clock: Clock;
  /** The store's own way to take a large file, if it has one; without, the file is read as a stream. */
  readonly putFile?: PutFile;
  /** A way to hash large files beside this thread. */
  readonly hashFile?: (path: string) => Promise<Digest>;
  /** Called now and then, at most once for every 64 files. */
  readonly onProgress?: (progress: CaptureProgress) => void;
  readonly signal?: AbortSignal;
}

/** A file that changes under the reader is read so often at most. */
const readingsMax = 4;
/** After so many bytes or files the reader lets others run. */
const turnBytes = 1024 * 1024;
const turnFilesRead = 64;
const turnFilesSeen = 2000;

export interface Reading {
  readonly digest: Digest;
  /** After it was read. */
  readonly stat: Stats;
  /** Whether it was the same before. */
  readonly isStill: boolean;
  /** All that it held, of a file that was read whole: already offered to the store. */
  readonly bytes?: Uint8Array;
}

export interface EncodedDirectory {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}

export function encodedDirectory(nodes: readonly Node[]): EncodedDirectory {
  const bytes = encodeDirectory(nodes);
  return { digest: digestOf(bytes), bytes };
}

/** Reads files for a store. Synchronously, which is several times quicker than not; it takes turns with others. */
export class FileReader {
  readonly outbox: Outbox;
  /** Files that changed while they were read. */
  readonly changed = new Set<string>();
  files = 0;
  bytes = 0;
  filesRead = 0;
  #options: SourceOptions;
  #turnBytes = 0;
  #turnFilesRead = 0;
  #turnFilesSeen = 0;

  constructor(options: SourceOptions) {
    this.#options = options;
    this.outbox = new Outbox(options);
  }

  progress(): void {
    this.#options.onProgress?.({ files: this.files, bytes: this.bytes, sentBytes: this.outbox.sentBytes });
  }

  /** Encodes a directory and offers it to the store. */
  add(nodes: readonly Node[]): EncodedDirectory {
    const encoded = encodedDirectory(nodes);
    this.outbox.offer(encoded.digest, encoded.bytes, false);
    return encoded;
  }

  addFile(nodes: Node[], name: string, digest: Digest, { mode }: Stats): void {
    this.files++;
    this.bytes += sizeOf(digest);
    nodes.push({ kind: "file", name, digest, executable: isExecutable(mode) });
  }

  /** Counts a file that was seen and needs no reading. */
  pass({ size }: Stats): void {
    this.files++;
    this.bytes += size;
    this.#turnFilesSeen++;
  }

  /** A symlink's node. */
  link(path: string, shown: string, name: string): Node {
    return { kind: "symlink", name, target: linkTarget(path, shown) };
  }

  /**
   * Reads a file and offers it; undefined when it is gone. The caller waits only for large ones.
   *
   * @param shown how faults call it.
   * @throws {Fault} `CAPTURE_FAILED` when it cannot be read, or does not hold still.
   */
  read(path: string, shown: string, seen: Stats): Reading | undefined | Promise<Reading | undefined> {
    return seen.size > wholeBytesMax ? this.#readLarge(path, shown) : this.#readSmall(path, shown, seen);
  }

  #readSmall(path: string, name: string, seen: Stats): Reading | undefined {
    let before = seen;
    for (let reading = 1;; reading++) {
      let bytes: Buffer;
      try {
        bytes = readFileSync(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw unreadable(name, error);
        this.changed.add(name);
        return undefined;
      }
      const after = lstatSync(path, { throwIfNoEntry: false });
      const isStill = after !== undefined && isSameStat(before, after) && bytes.length === after.size;
      if (!isStill) this.changed.add(name);
      if (!isStill && after?.isFile() && reading < readingsMax) {
        before = after;
        continue;
      }
      if (after !== undefined && !after.isFile()) return undefined; // something else now: as good as gone
      const digest = digestOf(bytes);
      this.outbox.offer(digest, bytes, true);
      this.#turnBytes += bytes.length;
      this.#turnFilesRead++;
      this.filesRead++;
      return { digest, stat: after ?? before, isStill, bytes };
    }
  }

  /**
   * Reads a file in chunks, twice if the store lacks it; undefined when it is gone. Of a file that never stops growing,
   * the beginning is captured as it was at one look.
   */
  async #readLarge(path: string, name: string): Promise<Reading | undefined> {
    const { signal } = this.#options;
    for (let reading = 1;; reading++) {
      try {
        const before = lstatSync(path);
        const hashFile = this.#options.hashFile ?? ((from) => hashStart(from, before.size, signal));
        const digest = await hashFile(path);
        const after = lstatSync(path);
        const isStill = isSameStat(before, after);
        signal?.throwIfAborted();
        if (!isStill) {
          this.changed.add(name);
          if (reading < readingsMax) continue;
        }
        await this.outbox.sendLarge(digest, path, isStill);
        this.filesRead++;
        return { digest, stat: after, isStill };
      } catch (error) {
        signal?.throwIfAborted();
        const isGone = (error as NodeJS.ErrnoException).code === "ENOENT";
        if (isGone || isFault(error, "BLOB_CORRUPT")) this.changed.add(name);
        if (isGone) return undefined;
        if (error instanceof Fault && !isFault(error, "BLOB_CORRUPT")) throw error;
        if (!(error instanceof Fault)) throw unreadable(name, error);
        if (reading < readingsMax) continue;
        throw new Fault(
          "CAPTURE_FAILED",
          `Cannot capture "${name}" as it must hold still while it is read: it changed ${readingsMax} times`,
          { cause: error },
        );
      }
    }
  }

  get isTurnOver(): boolean {
    return this.#turnFilesRead >= turnFilesRead || this.#turnBytes >= turnBytes || this.#turnFilesSeen >= turnFilesSeen;
  }

  /** Lets others run, and waits until the store keeps up. */
  async rest(): Promise<void> {
    this.#turnBytes = 0;
    this.#turnFilesRead = 0;
    this.#turnFilesSeen = 0;
    this.progress();
    await new Promise((resolve) => setImmediate(resolve));
    this.#options.signal?.throwIfAborted();
    await this.outbox.room();
  }
}

export const isExecutable = (mode: number): boolean => (mode & 0o111) !== 0;

/** What is at a path, or undefined when nothing is, also because a file is where a folder would have to be. */
export function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined; // Deno throws that, Node does not
    throw error;
  }
}

/** @throws {Fault} `PATH_UNKNOWN`, `PATH_INVALID` for what is no folder. */
export function realFolder(dir: string): string {
  try {
    const real = realpathSync(dir);
    if (lstatSync(real).isDirectory()) return real;
  } catch (error) {
    throw new Fault("PATH_UNKNOWN", `Cannot capture ${dir} as it must be a folder: ${(error as Error).message}`, {
      cause: error,
    });
  }
  throw new Fault("PATH_INVALID", `Cannot capture ${dir} as it must be a folder: current value is a file`);
}

async function hashStart(path: string, length: number, signal: AbortSignal | undefined): Promise<Digest> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of fileStart(path, length)) {
    signal?.throwIfAborted();
    hash.update(chunk);
    size += chunk.length;
  }
  return digestOfHash(hash.digest("hex"), size);
}

const unreadable = (name: string, error: unknown): Fault =>
  new Fault("CAPTURE_FAILED", `Cannot capture "${name}" as it must be readable: ${(error as Error).message}`, {
    cause: error,
  });

/** Stands for what is not UTF-8 in a name that a runtime made text of. */
const replacement = "\ufffd";

const notUtf8 = (name: Buffer): Fault => {
  const shown = name.toString("latin1").replace(
    /[^\x20-\x7e]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  return new Fault("NAME_NOT_UTF8", `Cannot capture "${shown}" as its name must be UTF-8: current value is not`);
};

/** The names in a folder, in byte order. */
export function listFolder(path: string, folderName: string): string[] {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    throw unreadable(folderName === "" ? path : folderName, error);
  }
  if (names.some((name) => name.includes(replacement))) refuseMangled(path, folderName, names);
  return names.sort(compareUtf8);
}

/** Tells names that truly have a U+FFFD from those that were made to have one. */
function refuseMangled(path: string, folderName: string, names: readonly string[]): void {
  for (const name of readdirSync(path, { encoding: "buffer" })) {
    if (!Buffer.from(name.toString("utf8")).equals(name)) throw notUtf8(Buffer.concat([Buffer.from(folderName), name]));
  }
  // Deno tells no bytes, even then. A mangled name is of no file, or of one that is listed beside it.
  for (const name of names) {
    if (!name.includes(replacement)) continue;
    const isThere = lstatSync(`${path}/${name}`, { throwIfNoEntry: false }) !== undefined;
    if (!isThere || names.indexOf(name) !== names.lastIndexOf(name)) throw notUtf8(Buffer.from(folderName + name));
  }
}

/** Where a symlink leads, as it says. */
function linkTarget(path: string, name: string): string {
  try {
    const target = readlinkSync(path);
    if (!target.includes(replacement)) return target;
    const raw: unknown = readlinkSync(path, { encoding: "buffer" });
    // Deno gives text here, too; but it has thrown by now if that were not what the link says.
    if (!(raw instanceof Uint8Array) || Buffer.from(target).equals(raw)) return target;
  } catch (error) {
    // Deno throws an error without a code for a target that is no UTF-8.
    if ((error as NodeJS.ErrnoException).code !== undefined) throw unreadable(name, error);
  }
  throw new Fault(
    "NAME_NOT_UTF8",
    `Cannot capture the symlink "${name}" as its target must be UTF-8: current value is not`,
  );
}
