import { existsSync, mkdirSync } from "node:fs";
import { copyFile, mkdir, open as openFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Digest, digestOfHash, emptyDigest, hashOf, sizeOf } from "../../domain/digest.ts";
import { asFault, Fault } from "../../domain/fault.ts";
import type { Clock } from "../../runtime/clock.ts";
import { randomHex } from "../../runtime/random.ts";
import { claimFormat } from "../store_format.ts";
import type { Pool } from "../pool/pool.ts";
import { blobIndex, type ObjectNames } from "./blob_index.ts";
import { blobCorrupt, blobMissing, chunksOf, digestOf, gather, rangeOf } from "./blobs.ts";
import { deflated, type Encoding, inflateSmall, isReadable, raw, zstd } from "./deflate.ts";
import type { CollectableBlobs, HeldBlobs } from "./held.ts";
import type { Facts } from "./index_rows.ts";
import { fileBytes, hashCompressed, type ObjectFile, readObject, sync, writeObject } from "./object_file.ts";
import { temporaryFiles } from "./temporary.ts";

export interface LocalBlobsOptions {
  /** A folder of this machine's own disk; made if it is not there. Any number of processes may open it. */
  readonly dir: string;
  readonly clock: Clock;
  /** Threads for the bytes of large files; without, they pass through this one. Stays the caller's to close. */
  readonly pool?: Pool;
  /**
   * What was put, asked for or said to be present is not collected for at least so long; an hour by default. All
   * processes that open the folder must say the same.
   */
  readonly guaranteedAgeMs?: number;
}

export interface LocalBlobs extends CollectableBlobs {
  readonly held: HeldBlobs;
  peek(digest: Digest): Uint8Array | undefined;
  find(hash: string): Digest | undefined;
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
 * <dir>/index/          LMDB: which blobs there are, when each was last used, and the bytes of the small ones
 * <dir>/objects/ab/…    bytes of large blobs: the rest of the hash and what makes the name one put's own; ".z": deflated,
 *                       ".zst": frames of zstd
 * <dir>/writing/        files that are being written
 * <dir>/collecting/     who removes blobs at present
 *
 * A row of the index is the truth: bytes without a row are not there. So a file is synced under its name before its row
 * is committed, and a row whose file somebody took away counts as absent. Each put names its file anew, so that who
 * removes one never hits another that was just put in its place.
 */
const formatVersion = 1;

/** Blobs of more raw bytes than this are files. A file costs three syncs, so the files of source trees stay below. */
const inlineBytesMax = 128 * 1024;

const guaranteedAgeMsDefault = 3600_000;

const fileName = /^([0-9a-f]{62})(\.[0-9a-f]{16})?(\.z|\.zst)?$/;
const endings = { [raw]: "", [deflated]: ".z", [zstd]: ".zst" } as const;
const encodings = { deflate: deflated, zstd } as const;
const objectNames = (dir: string): ObjectNames => ({
  dir,
  pathOf: (hash, encoding, file) => join(dir, hash.slice(0, 2), `${hash.slice(2)}.${file}${endings[encoding]}`),
  hashOf(folder, name) {
    const rest = fileName.exec(name)?.[1];
    return rest === undefined || !/^[0-9a-f]{2}$/.test(folder) ? undefined : folder + rest;
  },
});

/** Blobs on this machine's disk: an LMDB index with the small ones in it, and files for the large ones. */
export function localBlobs(options: LocalBlobsOptions): LocalBlobs {
  const { dir, clock, pool, guaranteedAgeMs = guaranteedAgeMsDefault } = options;
  claimFormat(dir, "blobs", formatVersion);
  const objects = objectNames(join(dir, "objects"));
  const writing = join(dir, "writing");
  mkdirSync(objects.dir, { recursive: true });
  mkdirSync(writing, { recursive: true });
  const temporary = temporaryFiles(writing);
  const index = blobIndex({ dir, clock, guaranteedAgeMs }, objects);
  /** Small blobs on their way to the disk. */
  const committing = new Map<Digest, Promise<void>>();

  const pathOf = (digest: Digest, encoding: Encoding, file: string): string =>
    objects.pathOf(hashOf(digest), encoding, file);
  /**
   * Whether a blob is there of which the index says so: somebody may have taken its file away. What cannot be read here is
   * as good as absent: nobody is promised it, and it is put again.
   */
  const isWhole = (digest: Digest, { encoding, file }: Facts): boolean =>
    file === undefined || isReadable(encoding) && existsSync(pathOf(digest, encoding, file));

  function holds(digest: Digest): boolean {
    const facts = index.facts(digest) ?? index.facts(digest, true);
    return facts !== undefined && (isWhole(digest, facts) || isWholeNow(digest));
  }
  /** The file that was looked for may have been replaced since. */
  function isWholeNow(digest: Digest): boolean {
    const facts = index.facts(digest, true);
    return facts !== undefined && isWhole(digest, facts);
  }
  /** Whether the blob is there and stays for the guaranteed age. */
  const keeps = async (digest: Digest): Promise<boolean> =>
    holds(digest) && (await index.noteUses([digest])).length === 0;

  function putSmall(digest: Digest, bytes: Uint8Array): Promise<void> {
    const before = committing.get(digest);
    if (before !== undefined) return before;
    const committed = index.putSmall(digest, bytes).finally(() => committing.delete(digest));
    committing.set(digest, committed);
    return committed;
  }

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
      if (!(await keeps(digest))) await putObjectFile(digest, encoding, storedBytes, beside);
      return digest;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw asFault(error, `Cannot store ${expected === undefined ? "a file" : `blob ${expected}`}`);
    } finally {
      await rm(beside, { force: true });
    }
  }

  /** Gives what was written a name of its own, and then its row; nothing of it stays where another was quicker. */
  async function putObjectFile(digest: Digest, encoding: Encoding, storedBytes: number, beside: string): Promise<void> {
    const file = randomHex(8);
    const path = pathOf(digest, encoding, file);
    const folder = dirname(path);
    await mkdir(folder, { recursive: true });
    await rename(beside, path);
    let isKept = false;
    try {
      // Both: another process may have made the folder and not synced it yet.
      await Promise.all([sync(objects.dir), sync(folder)]);
      isKept = await index.putFile(digest, encoding, file, storedBytes);
    } finally {
      if (!isKept) await rm(path, { force: true });
    }
  }

  function small(digest: Digest): Uint8Array | undefined {
    const found = index.small(digest);
    if (found === undefined) return undefined;
    const { encoding, body } = found;
    if (encoding === raw) return new Uint8Array(body); // a copy: the row is a view
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
    if (await keeps(digest)) return;
    if (sizeOf(digest) <= inlineBytesMax) return putSmall(digest, await gather(digest, bytes, signal));
    await putObject(digest, (path) => writeObject(atMost(digest, bytes), path, signal), signal);
  }

  async function putFile(
    path: string,
    options: { readonly expected?: Digest; readonly signal?: AbortSignal } = {},
  ): Promise<Digest> {
    const { expected, signal } = options;
    signal?.throwIfAborted();
    if (expected === emptyDigest) return expected;
    if (expected !== undefined && await keeps(expected)) return expected;
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
  }

  return {
    async *get(digest, options) {
      const range = rangeOf(digest, options);
      options?.signal?.throwIfAborted();
      if (digest === emptyDigest) return;
      if (sizeOf(digest) <= inlineBytesMax) {
        const bytes = small(digest)?.subarray(range.from, range.to);
        if (bytes !== undefined && bytes.length > 0) yield bytes;
        if (bytes !== undefined) return; // else a file: it was that small when a large one that shrank had been read
      }
      let absent: string | undefined;
      for (;;) {
        const facts = index.facts(digest, true);
        const path = facts?.file === undefined ? undefined : pathOf(digest, facts.encoding, facts.file);
        // What was removed between the look and the read may have been put again since, under another name.
        if (path === undefined || path === absent || !isReadable(facts!.encoding)) throw blobMissing(digest);
        try {
          yield* readObject(path, digest, facts!.encoding, range, options);
          return;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
            throw options?.signal?.aborted ? options.signal.reason : asFault(error, `Cannot read blob ${digest}`);
          }
          absent = path;
        }
      }
    },

    put,

    async missing(digests) {
      const absent = new Set<Digest>();
      const stale: Digest[] = [];
      let isFresh = true;
      for (const digest of digests) {
        if (digest === emptyDigest) continue;
        const facts = index.facts(digest, isFresh);
        isFresh = false;
        if (facts === undefined || !(isWhole(digest, facts) || isWholeNow(digest))) absent.add(digest);
        else if (index.isStale(facts)) stale.push(digest);
      }
      for (const digest of await index.noteUses(stale)) absent.add(digest);
      return absent;
    },

    peek(digest) {
      if (digest === emptyDigest) return new Uint8Array(0);
      return sizeOf(digest) > inlineBytesMax ? undefined : small(digest);
    },

    find(hash) {
      if (hash === hashOf(emptyDigest)) return emptyDigest;
      const size = index.sizeOfHash(hash);
      return size === undefined ? undefined : digestOfHash(hash, size);
    },

    putFile,

    async adopt(digest, { path, compressor }, options = {}) {
      const { signal } = options;
      signal?.throwIfAborted();
      if (digest === emptyDigest || await keeps(digest)) return;
      const encoding = compressor === "identity" ? raw : encodings[compressor];
      if (encoding !== raw) {
        const found = await hashCompressed(path, encoding, sizeOf(digest), signal);
        if (found !== digest) throw blobCorrupt(digest, found ?? `no whole ${compressor} of it`);
      } else if (sizeOf(digest) <= inlineBytesMax) {
        await putFile(path, { ...options, expected: digest });
        return;
      }
      const beside = temporary.next();
      try {
        await rename(path, beside).catch((error) => {
          if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
          return copyFile(path, beside); // the file lies on another disk
        });
        await sync(beside);
        await putObjectFile(digest, encoding, (await stat(beside)).size, beside);
      } catch (error) {
        throw asFault(error, `Cannot store blob ${digest}`);
      } finally {
        await rm(beside, { force: true });
      }
    },

    asKept(digest, compressor) {
      const facts = index.facts(digest, true);
      if (facts === undefined || facts.encoding !== encodings[compressor]) return undefined;
      if (facts.file !== undefined) {
        const path = pathOf(digest, facts.encoding, facts.file);
        return existsSync(path) ? keptFile(digest, path) : undefined;
      }
      const body = index.small(digest)?.body;
      return body === undefined ? undefined : chunksLater(new Uint8Array(body));
    },

    held: index.held,
    close: () => index.close(),
  };
}

/** It may have been taken away since it was looked for. */
async function* keptFile(digest: Digest, path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* fileBytes(path);
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === "ENOENT"
      ? blobMissing(digest)
      : asFault(error, `Cannot read blob ${digest}`);
  }
}

async function* chunksLater(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield* await Promise.resolve(chunksOf(bytes));
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
