import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import { createReadStream, mkdirSync } from "node:fs";
import { type FileHandle, open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../runtime/clock.ts";

/** An interrupted upload that nobody goes on with is forgotten after this, or when there are too many younger ones. */
const keptMs = 24 * 3600 * 1000;
const keptMax = 1_000;
/** The same when they have more bytes than this together: what is not whole counts to no budget of the store. */
const keptBytesMax = 16 * 1024 ** 3;
/**
 * The disk is told to keep what it has while more comes, so that there is little left to wait for at the end; of one upload
 * at a time, for it takes one of the few threads that all files share.
 */
const syncEveryBytes = 16 * 1024 * 1024;
/** What is written at once. */
const pieceBytes = 256 * 1024;

/** The part of a blob that has come so far, in a file: what is left of an upload that broke off, after a restart too. */
export interface Upload {
  /** Bytes that are there. */
  readonly size: number;
  append(bytes: Uint8Array): Promise<void>;
  /** Goes back to its first so many bytes, at most {@link size}. */
  rewind(size: number): Promise<void>;
  /** Everything, once nothing is appended any more. */
  read(): AsyncIterable<Uint8Array>;
  /** The same as a file, which may be moved away; `hash` is the SHA-256 of it, where that was wanted. */
  asFile?(): Promise<{ readonly path: string; readonly hash: string | undefined }>;
  /** Ends this use of it. @param isDone whether the file is not needed any more. */
  close(isDone: boolean): Promise<void>;
}

export interface Uploads {
  /** Goes on with the upload of that name. A connection that still has it loses it: its client has come back on another. */
  take(name: string, options: { readonly onTaken: () => void; readonly isHashed: boolean }): Promise<Upload>;
  /** How much of it is on the disk. */
  sizeOf(name: string): Promise<number>;
}

async function writeWhole(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten;
}

/** Of a file's first so many bytes, as they are on the disk now. */
async function hashStart(path: string, bytes: number): Promise<Hash> {
  const hash = createHash("sha256");
  if (bytes === 0) return hash;
  for await (const chunk of createReadStream(path, { end: bytes - 1, highWaterMark: pieceBytes })) {
    hash.update(chunk as Uint8Array);
  }
  return hash;
}

/**
 * @param dir made if it is not there; for this process alone.
 * @param bytesMax of those that broke off, together; those that are being sent are kept besides.
 */
export function fileUploads(dir: string, clock: Clock, bytesMax = keptBytesMax): Uploads {
  mkdirSync(dir, { recursive: true });
  const inUse = new Map<string, { readonly taken: () => void; readonly closed: Promise<void> }>();
  const pathOf = (name: string): string => join(dir, createHash("sha256").update(name).digest("hex"));
  let sweepAtMs = 0;
  let isSyncing = false;

  async function sweep(): Promise<void> {
    if (clock.now() < sweepAtMs) return;
    sweepAtMs = clock.now() + 60_000;
    const names = (await readdir(dir, { withFileTypes: true })).filter((entry) => entry.isFile());
    const files = (await Promise.all(names.map(async ({ name }) => {
      const path = join(dir, name);
      return await stat(path).then(({ mtimeMs, size }) => ({ path, usedAtMs: mtimeMs, bytes: size }), () => undefined);
    }))).filter((file) => file !== undefined);
    let bytesBefore = 0;
    files.sort((a, b) => b.usedAtMs - a.usedAtMs);
    for (const [place, { path, usedAtMs, bytes }] of files.entries()) {
      if (inUse.has(path)) continue;
      bytesBefore += bytes;
      const isOld = place >= keptMax || bytesBefore > bytesMax || usedAtMs < clock.now() - keptMs;
      if (isOld) await rm(path, { force: true });
    }
  }

  return {
    async take(name, { onTaken, isHashed }) {
      await sweep();
      const path = pathOf(name);
      for (let other; (other = inUse.get(path)) !== undefined;) {
        other.taken();
        await other.closed;
      }
      let release = (): void => {};
      inUse.set(path, { taken: onTaken, closed: new Promise((resolve) => release = resolve) });
      let file: FileHandle;
      let size: number;
      let hash: Hash | undefined;
      try {
        file = await open(path, "a+");
        size = (await file.stat()).size;
        if (isHashed) hash = await hashStart(path, size);
      } catch (thrown) {
        inUse.delete(path);
        release();
        throw thrown;
      }
      // The disk takes one piece while the other is filled. Messages are copied: those that had to wait for the disk would
      // have to be collected as old ones, which costs more.
      let filling = Buffer.alloc(0);
      let filled = 0;
      let other = Buffer.alloc(0);
      let writing: Promise<unknown> = Promise.resolve();
      let unsynced = 0;
      let syncing: Promise<unknown> = Promise.resolve();
      const begin = async (): Promise<void> => {
        await writing;
        if (filled === 0) return;
        unsynced += filled;
        writing = writeWhole(file, filling.subarray(0, filled));
        writing.catch(() => {}); // whoever awaits it hears it
        [filling, other, filled] = [other, filling, 0];
        if (unsynced < syncEveryBytes || isSyncing) return;
        unsynced = 0;
        isSyncing = true;
        syncing = writing.then(() => file.datasync()).catch(() => {}).finally(() => isSyncing = false);
      };
      const write = async (): Promise<void> => {
        await begin();
        await writing;
      };
      return {
        get size() {
          return size;
        },
        async append(bytes) {
          size += bytes.length;
          hash?.update(bytes);
          for (let at = 0; at < bytes.length;) {
            if (filling.length === 0) filling = Buffer.allocUnsafeSlow(pieceBytes);
            const part = bytes.subarray(at, at + pieceBytes - filled);
            filling.set(part, filled);
            filled += part.length;
            at += part.length;
            if (filled === pieceBytes) await begin();
          }
        },
        async rewind(to) {
          await write();
          await file.truncate(to);
          size = to;
          if (isHashed) hash = await hashStart(path, to);
        },
        async *read() {
          await write();
          yield* createReadStream(path, { highWaterMark: pieceBytes }) as AsyncIterable<Uint8Array>;
        },
        async asFile() {
          await write();
          return { path, hash: hash?.digest("hex") };
        },
        async close(isDone) {
          try {
            if (isDone) await rm(path, { force: true });
            else await write();
          } finally {
            await Promise.allSettled([writing, syncing]);
            await file.close();
            inUse.delete(path);
            release();
          }
        },
      };
    },
    async sizeOf(name) {
      try {
        const file = await open(pathOf(name), "r");
        try {
          await file.sync(); // never more than what is kept
          return (await file.stat()).size;
        } finally {
          await file.close();
        }
      } catch (thrown) {
        if ((thrown as { code?: unknown }).code === "ENOENT") return 0;
        throw thrown;
      }
    },
  };
}
