import { createHash } from "node:crypto";
import { type Digest, digestOfHash, emptyDigest, sizeOf } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";

export interface ReadOptions {
  /** First byte wanted, from 0 to the blob's size; 0 by default. */
  readonly offset?: number;
  /** At most so many bytes; to the end by default. */
  readonly length?: number;
  readonly signal?: AbortSignal;
  /** A chunk is used before the next is asked for, so that its memory may be that of the next one. */
  readonly isPassing?: boolean;
}

/** Immutable bytes, named by what they are. Safe for use by several processes of one machine at once. */
export interface Blobs {
  /**
   * Yields the blob's raw bytes in order, in chunks of at most 1 MiB.
   * The empty blob is always there. A read never ends short: loss or damage met half-way is thrown.
   *
   * @throws {Fault} `BLOB_MISSING` only if known to be absent, before any byte; other trouble keeps its code.
   */
  get(digest: Digest, options?: ReadOptions): AsyncIterable<Uint8Array>;
  /**
   * Stores all of it or none, durably before it resolves; storing again is cheap.
   *
   * @param bytes the raw bytes, whole or in chunks of any size, in order; left alone by the caller until it resolves.
   * @throws {Fault} `BLOB_CORRUPT` if bytes and digest differ, `NO_SPACE` when the disk is full; nothing is kept then.
   */
  put(
    digest: Digest,
    bytes: Uint8Array | AsyncIterable<Uint8Array>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<void>;
  /** Exactly the absent ones; keeps the present ones from being collected soon. */
  missing(digests: ReadonlySet<Digest>): Promise<ReadonlySet<Digest>>;
  /**
   * The whole blob at once, where a store can give it without waiting: for readers of many small blobs.
   * Undefined says nothing: the blob may be large, far or absent; ask {@link get} then. The bytes are the caller's own.
   */
  peek?(digest: Digest): Uint8Array | undefined;
  /** The blob of that hash (64 lower-case hex digits), for who names blobs by that alone. Undefined says nothing, as with {@link peek}. */
  find?(hash: string): Digest | undefined;
  /**
   * Stores what lies in a file, which is moved where that can be: cheaper than to put its bytes. A large blob lies as it
   * came: raw bytes stay raw, as deflating and inflating would take longer than all else together, and who wants them
   * small sends them so. What is compressed is read and checked; raw bytes are not, for the caller has hashed them.
   *
   * @throws {Fault} as {@link put}; the file is the caller's to remove, if it is still there.
   */
  adopt?(
    digest: Digest,
    file: { readonly path: string; readonly compressor: "identity" | Compressed },
    options?: { readonly signal?: AbortSignal },
  ): Promise<void>;
  /** The whole blob as it lies compressed, where it lies so; not checked, for who reads it has to inflate it. */
  asKept?(digest: Digest, compressor: Compressed): AsyncIterable<Uint8Array> | undefined;
  close(): Promise<void>;
}

/** How blobs lie compressed: raw DEFLATE (RFC 1951), and frames of zstd (RFC 8878). */
export type Compressed = "deflate" | "zstd";

/** Chunks that stores yield are at most this long. */
export const chunkBytesMax = 1024 * 1024;

/** The digest of bytes held in memory; about 5 µs for 4 KB. */
export const digestOf = (bytes: Uint8Array): Digest =>
  digestOfHash(createHash("sha256").update(bytes).digest("hex"), bytes.length);

/**
 * The whole blob in memory.
 *
 * @param bytesMax the most that the caller is ready to hold.
 * @throws {Fault} `REQUEST_INVALID` when the blob is larger, and whatever `get` throws.
 */
export async function readBlob(
  blobs: Blobs,
  digest: Digest,
  bytesMax: number,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Uint8Array> {
  const size = sizeOf(digest);
  if (size > bytesMax) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot read blob ${digest} whole as it must be at most ${bytesMax} bytes: current value is ${size}`,
    );
  }
  const quick = blobs.peek?.(digest);
  if (quick !== undefined) return quick;
  const whole = new Uint8Array(size);
  let filled = 0;
  for await (const chunk of blobs.get(digest, options)) {
    if (filled + chunk.length > size) throw blobCorrupt(digest, `more than ${size} bytes`);
    whole.set(chunk, filled);
    filled += chunk.length;
  }
  if (filled < size) throw blobCorrupt(digest, `${filled} bytes`);
  return whole;
}

/** Stores bytes held in memory and says how they are named. @throws {Fault} as `put` does. */
export async function writeBlob(blobs: Blobs, bytes: Uint8Array): Promise<Digest> {
  const digest = digestOf(bytes);
  await blobs.put(digest, bytes);
  return digest;
}

/**
 * The part of a blob that a read asks for, as offsets from its first byte.
 *
 * @throws {Fault} `REQUEST_INVALID` when the offset lies outside of the blob or either number is not a whole one.
 */
export function rangeOf(digest: Digest, options: ReadOptions = {}): { readonly from: number; readonly to: number } {
  const size = sizeOf(digest);
  const from = options.offset ?? 0;
  const length = options.length ?? size;
  if (!Number.isSafeInteger(from) || from < 0 || from > size) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot read blob ${digest} as the offset must be a whole number from 0 to its size: current value is ${from}`,
    );
  }
  if (!Number.isSafeInteger(length) || length < 0) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot read blob ${digest} as the length must be a whole number from 0: current value is ${length}`,
    );
  }
  return { from, to: Math.min(size, from + length) };
}

/** Whether a store lacks that blob. What is there stays for a while: it was asked for. */
export const isMissing = async (blobs: Pick<Blobs, "missing">, digest: Digest): Promise<boolean> =>
  digest !== emptyDigest && (await blobs.missing(new Set([digest]))).size > 0;

/** The fault of a store that is sure not to hold a blob. */
export const blobMissing = (digest: Digest): Fault =>
  new Fault("BLOB_MISSING", `Cannot read blob ${digest}: this store does not hold it`);

/** The fault of bytes that are not what their digest says. @param found what they are. */
export const blobCorrupt = (digest: Digest, found: string): Fault =>
  new Fault("BLOB_CORRUPT", `Cannot take the bytes of blob ${digest} as they must match it: current value is ${found}`);

/** Bytes in memory as chunks of at most {@link chunkBytesMax}; views, not copies. */
export function* chunksOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytesMax) yield bytes.subarray(at, at + chunkBytesMax);
}

/**
 * A blob given as bytes or as a stream, whole in memory and checked. Holds at most the size that the digest tells.
 *
 * @throws {Fault} `BLOB_CORRUPT` as soon as the bytes cannot match any more.
 */
export async function gather(
  digest: Digest,
  bytes: Uint8Array | AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const size = sizeOf(digest);
  let whole: Uint8Array;
  if (bytes instanceof Uint8Array) whole = bytes;
  else {
    const chunks: Uint8Array[] = []; // what came, not what the digest claims, decides how much is held
    let length = 0;
    for await (const chunk of bytes) {
      signal?.throwIfAborted();
      length += chunk.length;
      if (length > size) throw blobCorrupt(digest, `more than ${size} bytes`);
      chunks.push(chunk);
    }
    whole = Buffer.concat(chunks);
  }
  signal?.throwIfAborted();
  const found = whole.length === 0 ? emptyDigest : digestOf(whole);
  if (found !== digest) throw blobCorrupt(digest, found);
  return whole;
}

/**
 * Reads what `put` has left unread, as it does of a blob that is there: whoever sends over a connection hears the answer
 * only when all that was sent has been taken. Nothing is left of what was read to its end.
 */
export async function passOver(bytes: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of bytes);
}
