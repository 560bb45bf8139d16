import { existsSync, mkdirSync } from "node:fs";
import { mkdir, open as openFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { open } from "lmdb";
import { type Digest, emptyDigest, hashOf, sizeOf } from "../../domain/digest.ts";
import { asFault, Fault } from "../../domain/fault.ts";
import type { Clock } from "../../runtime/clock.ts";
import { hasRoom, lmdbFault } from "../lmdb_fault.ts";
import { claimFormat, syncFolder } from "../store_format.ts";
import type { Pool } from "../pool/pool.ts";
import { blobCorrupt, blobMissing, type Blobs, chunksOf, digestOf, gather, rangeOf } from "./blobs.ts";
import { deflated, deflateSmall, type Encoding, inflateSmall, raw } from "./deflate.ts";
import { fileBytes, type ObjectFile, readObject, sync, writeObject } from "./object_file.ts";
import { rowWriter } from "./row_writer.ts";
import { temporaryFiles } from "./temporary.ts";

export interface LocalBlobsOptions {
  /** A folder of this machine's own disk; made if it is not there. Any number of processes may open it. */
  readonly dir: string;
  readonly clock: Clock;
  /** Threads for the bytes of large files; without, they pass through this one. Stays the caller's to close. */
  readonly pool?: Pool;
}

export interface LocalBlobs extends Blobs {
  peek(digest: Digest): Uint8Array | undefined;
  /**
   * Stores a file's bytes as they were while they were read, once, and says how they are named.
   *
   * @param options.expected what the file should hold: cheap when that is stored already (the file is not read then).
   * @throws {Fault} `BLOB_CORRUPT` when it holds something else, and whatever `put` throws; nothing is kept then.
   */
  putFile(path: string, options?: { readonly expected?: Digest; readonly signal?: AbortSignal }): Promise<Digest>;
}

/*
 * <dir>/format          which format this is
 * <dir>/index/          LMDB: "blobs" has one row a blob, "uses" when a blob was last asked for
 * <dir>/objects/ab/…    bytes of large blobs, named by the rest of the hash; ".z": deflated
 * <dir>/writing/        files that are being written
 *
 * A row is the truth: bytes without a row are not there. So a file is synced under its name before its row is
 * committed, and a row whose file somebody took away counts as absent.
 *
 * row := kind u8 · put at u32 (epoch seconds) · raw size u48 · bytes as stored (inline) | stored size u48 (file)
 */
const formatVersion = 1;
const headBytes = 11;
const isFileBit = 2;

/** Blobs of more raw bytes than this are files. A file costs three syncs, so the files of source trees stay below. */
const inlineBytesMax = 128 * 1024;

/** The index may grow to this; address space, not memory or disk. */
const mapBytes = 2 ** 38;

/** A use is noted at most this often a blob, so that asking stays a read. */
const useEverySeconds = 3600;
/** Uses noted while others may not write: about 5 ms. */
const usesPerCommit = 1000;

/** Blobs on this machine's disk: an LMDB index with the small ones in it, and files for the large ones. */
export function localBlobs(options: LocalBlobsOptions): LocalBlobs {
  const { dir, clock, pool } = options;
  claimFormat(dir, "blobs", formatVersion);
  const objects = join(dir, "objects");
  const writing = join(dir, "writing");
  mkdirSync(objects, { recursive: true });
  mkdirSync(writing, { recursive: true });
  const temporary = temporaryFiles(writing);
  // A commit is visible only once it is synced (no overlapping sync): what one process sees survives a power cut,
  // so "it is there already" may be answered at once.
  const root = open({
    path: join(dir, "index"),
    mapSize: mapBytes,
    overlappingSync: false,
    eventTurnBatching: false,
    maxDbs: 4,
    maxReaders: 512,
    encoding: "binary",
    keyEncoding: "binary",
  });
  const rows = root.openDB<Uint8Array, Uint8Array>("blobs", { encoding: "binary", keyEncoding: "binary" });
  const uses = root.openDB<Uint8Array, Uint8Array>("uses", { encoding: "binary", keyEncoding: "binary" });
  for (const folder of [dir, join(dir, "index")]) syncFolder(folder);
  const writer = rowWriter(root, (bytes) => hasRoom(dir, bytes));
  /** Small blobs on their way to the disk. */
  const committing = new Map<Digest, Promise<void>>();
  let isClosed = false;

  const keyOf = (digest: Digest): Buffer => Buffer.from(hashOf(digest), "hex");
  const secondsNow = (): number => Math.floor(clock.now() / 1000);

  /** The row of a blob; a view that the next read of the index overwrites, true only up to its `length`. */
  function rowNow(digest: Digest): Buffer | undefined {
    if (isClosed) throw new Fault("DRAINING", `Cannot use the blob store in ${dir} as it must be open: it was closed`);
    const row = rows.getBinaryFast(keyOf(digest));
    return row !== undefined && row.readUIntBE(5, 6) === sizeOf(digest) ? row : undefined;
  }
  /** The same, sure to see what any process has committed by now: within a turn, LMDB shows one moment. */
  function rowOf(digest: Digest): Buffer | undefined {
    const row = rowNow(digest);
    if (row !== undefined) return row;
    root.resetReadTxn();
    return rowNow(digest);
  }

  const encodingIn = (row: Buffer): Encoding => (row[0]! & 1) === deflated ? deflated : raw;
  const isFileIn = (row: Buffer): boolean => (row[0]! & isFileBit) !== 0;
  /** Whether the blob of that row is there: somebody may have taken its file away. */
  const isWhole = (digest: Digest, row: Buffer): boolean =>
    !isFileIn(row) || existsSync(fileOf(digest, encodingIn(row)));

  function holds(digest: Digest): boolean {
    const row = rowOf(digest);
    return row !== undefined && isWhole(digest, row);
  }

  /** Whether a blob was put so long ago that its use is worth a note. */
  const isOld = (row: Uint8Array): boolean => secondsNow() - (row as Buffer).readUInt32BE(1) >= useEverySeconds;

  /**
   * Notes that blobs are wanted, so that they are not collected soon. A note is written while nobody else writes, and
   * only beside a row: a collector, which looks at both in the same way, either sees the note or was there before.
   *
   * @returns those whose row was taken away meanwhile.
   */
  async function noteUses(digests: Iterable<Digest>): Promise<readonly Digest[]> {
    const now = secondsNow();
    const wanted: Digest[] = [];
    for (const digest of digests) {
      const row = rowNow(digest);
      if (row !== undefined && !isOld(row)) continue;
      const used = uses.getBinaryFast(keyOf(digest));
      if (row === undefined || used === undefined || now - used.readUInt32BE(0) >= useEverySeconds) wanted.push(digest);
    }
    const gone: Digest[] = [];
    for (let at = 0; at < wanted.length; at += usesPerCommit) {
      const group = wanted.slice(at, at + usesPerCommit);
      try {
        await root.transaction(() => {
          for (const digest of group) {
            if (rowNow(digest) === undefined) gone.push(digest);
            else {
              const value = Buffer.alloc(4);
              value.writeUInt32BE(now);
              uses.putSync(keyOf(digest), value);
            }
          }
        });
      } catch (error) {
        throw await lmdbFault(error, "Cannot note that blobs are wanted", () => !hasRoom(dir, group.length * 256));
      }
    }
    return gone;
  }

  function rowFor(digest: Digest, encoding: Encoding, isFile: boolean, body: Uint8Array): Uint8Array {
    const row = Buffer.alloc(headBytes + body.length);
    row[0] = encoding | (isFile ? isFileBit : 0);
    row.writeUInt32BE(secondsNow(), 1);
    row.writeUIntBE(sizeOf(digest), 5, 6);
    row.set(body, headBytes);
    return row;
  }

  function putSmall(digest: Digest, bytes: Uint8Array): Promise<void> {
    const before = committing.get(digest);
    if (before !== undefined) return before;
    const committed = writer
      .write(rows, keyOf(digest), bytes.length, () => {
        const small = deflateSmall(bytes);
        return small === undefined ? rowFor(digest, raw, false, bytes) : rowFor(digest, deflated, false, small);
      })
      .finally(() => committing.delete(digest));
    committing.set(digest, committed);
    return committed;
  }

  const fileOf = (digest: Digest, encoding: Encoding): string =>
    join(objects, digest.slice(0, 2), hashOf(digest).slice(2) + (encoding === deflated ? ".z" : ""));

  /** Writes an object beside by `write`, checks it, gives it its name and then its row. */
  async function putObject(
    expected: Digest | undefined,
    write: (path: string) => Promise<ObjectFile>,
    signal: AbortSignal | undefined,
  ): Promise<Digest> {
    const beside = temporary.next();
    try {
      const { digest, encoding, storedBytes } = await write(beside);
      signal?.throwIfAborted();
      if (expected !== undefined && digest !== expected) throw blobCorrupt(expected, digest);
      if (!holds(digest)) {
        const path = fileOf(digest, encoding);
        const folder = dirname(path);
        await mkdir(folder, { recursive: true });
        await rename(beside, path);
        // Both: another process may have made the folder and not synced it yet.
        await Promise.all([sync(objects), sync(folder)]);
        const body = Buffer.alloc(6);
        body.writeUIntBE(storedBytes, 0, 6);
        await writer.write(rows, keyOf(digest), body.length, () => rowFor(digest, encoding, true, body));
      }
      return digest;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw asFault(error, `Cannot store ${expected === undefined ? "a file" : `blob ${expected}`}`);
    } finally {
      await rm(beside, { force: true });
    }
  }

  function inline(digest: Digest, row: Buffer): Uint8Array {
    const body = row.subarray(headBytes, row.length);
    if (encodingIn(row) === raw) return new Uint8Array(body); // a copy: the row is a view
    try {
      const bytes = inflateSmall(body, sizeOf(digest));
      if (bytes.length === sizeOf(digest)) return bytes;
      throw new Error(`${bytes.length} bytes`);
    } catch (error) {
      throw new Fault(
        "STORE_CORRUPT",
        `Cannot read blob ${digest} as its row must inflate to its size: ${(error as Error).message}`,
        { cause: error },
      );
    }
  }

  async function put(
    digest: Digest,
    bytes: Uint8Array | AsyncIterable<Uint8Array>,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    signal?.throwIfAborted();
    if (digest === emptyDigest) return;
    if (holds(digest) && (await noteUses([digest])).length === 0) return;
    if (sizeOf(digest) <= inlineBytesMax) return putSmall(digest, await gather(digest, bytes, signal));
    await putObject(digest, (path) => writeObject(atMost(digest, bytes), path, signal), signal);
  }

  return {
    async *get(digest, options) {
      const range = rangeOf(digest, options);
      options?.signal?.throwIfAborted();
      if (digest === emptyDigest) return;
      const row = rowOf(digest);
      if (row === undefined) throw blobMissing(digest);
      if (!isFileIn(row)) {
        const bytes = inline(digest, row).subarray(range.from, range.to);
        if (bytes.length > 0) yield bytes;
        return;
      }
      const encoding = encodingIn(row);
      const path = fileOf(digest, encoding);
      try {
        yield* readObject(path, digest, encoding, range, options?.signal);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") throw blobMissing(digest);
        throw options?.signal?.aborted ? options.signal.reason : asFault(error, `Cannot read blob ${digest}`);
      }
    },

    put,

    async missing(digests) {
      if (!isClosed) root.resetReadTxn();
      const absent = new Set<Digest>();
      const old: Digest[] = [];
      for (const digest of digests) {
        if (digest === emptyDigest) continue;
        const row = rowNow(digest);
        if (row === undefined || !isWhole(digest, row)) absent.add(digest);
        else if (isOld(row)) old.push(digest);
      }
      for (const digest of await noteUses(old)) absent.add(digest);
      return absent;
    },

    peek(digest) {
      if (digest === emptyDigest) return new Uint8Array(0);
      if (sizeOf(digest) > inlineBytesMax) return undefined;
      const row = rowOf(digest);
      return row === undefined || isFileIn(row) ? undefined : inline(digest, row);
    },

    async putFile(path, options = {}) {
      const { expected, signal } = options;
      signal?.throwIfAborted();
      if (expected === emptyDigest) return expected;
      if (expected !== undefined && holds(expected) && (await noteUses([expected])).length === 0) return expected;
      const bytes = await readSmall(path);
      if (bytes !== undefined) {
        const digest = digestOf(bytes);
        if (expected !== undefined && digest !== expected) throw blobCorrupt(expected, digest);
        await put(digest, bytes, options);
        return digest;
      }
      return putObject(
        expected,
        async (beside) =>
          pool === undefined ? await writeObject(fileBytes(path), beside, signal) : await pool.storeFile(path, beside),
        signal,
      );
    },

    async close() {
      if (isClosed) return;
      isClosed = true;
      await writer.idle();
      await root.close();
    },
  };
}

/** A large blob as a stream that ends with a fault as soon as it is longer than its digest says. */
async function* atMost(
  digest: Digest,
  bytes: Uint8Array | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let left = sizeOf(digest);
  for await (const chunk of bytes instanceof Uint8Array ? chunksOf(bytes) : bytes) {
    left -= chunk.length;
    if (left < 0) throw blobCorrupt(digest, `more than ${sizeOf(digest)} bytes`);
    yield chunk;
  }
}

/** A file's bytes when they are few enough to be kept inline. */
async function readSmall(path: string): Promise<Uint8Array | undefined> {
  const file = await openFile(path, "r");
  try {
    const { size } = await file.stat();
    if (size > inlineBytesMax) return undefined;
    const bytes = Buffer.alloc(size + 1);
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled);
      if (bytesRead === 0) return bytes.subarray(0, filled);
      filled += bytesRead;
    }
    return undefined; // it grows while it is read: whoever reads to its end takes what there is
  } finally {
    await file.close();
  }
}
