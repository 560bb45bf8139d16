import {
  constants,
  createDeflateRaw,
  createInflateRaw,
  deflateRawSync,
  type InflateRaw,
  inflateRawSync,
} from "node:zlib";
import type { Transform } from "node:stream";
import { hasZstd } from "../../runtime/zstd.ts";

/**
 * How bytes lie in a store: as they are, as raw DEFLATE (RFC 1951), or as the frames of zstd (RFC 8878) that a client sent.
 * Written in rows, so numbers never change.
 */
export type Encoding = 0 | 1 | 2;
export const raw = 0 satisfies Encoding;
export const deflated = 1 satisfies Encoding;
export const zstd = 2 satisfies Encoding;

/** Whether this runtime can read it: another program that has zstd may have filled the store. */
export const isReadable = (encoding: Encoding): boolean => encoding !== zstd || hasZstd;

/** Blobs up to this size are kept as they are: there is nothing to win. */
const rawBytesMax = 1024;

/**
 * Level 1: 30–60 µs for 4 KB of source on one core, 22 % larger than level 6 at 60 % of its time. A window and
 * tables of the blob's own size make the fixed cost of a call small.
 */
const level = constants.Z_BEST_SPEED;

/** The deflated bytes of a small blob, or undefined when it is better kept as it is. Blocks for about 10 ms a MiB. */
export function deflateSmall(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length <= rawBytesMax) return undefined;
  const options = bytes.length <= 4096
    ? { level, windowBits: 12, memLevel: 5, chunkSize: 4096 }
    : { level, chunkSize: Math.min(bytes.length, 64 * 1024) };
  const small = deflateRawSync(bytes, options);
  return small.length < bytes.length ? small : undefined;
}

/**
 * The raw bytes of a small deflated blob.
 *
 * @param size what comes out; a byte more is an error, so hostile input costs at most that much.
 */
export const inflateSmall = (bytes: Uint8Array, size: number): Uint8Array =>
  inflateRawSync(bytes, { maxOutputLength: size, chunkSize: Math.max(64, size) });

const streamChunkBytes = 256 * 1024;
export const deflateStream = (): Transform => createDeflateRaw({ level, chunkSize: streamChunkBytes });
/** The reader bounds what comes out; a chunk is at most 256 KiB. */
export const inflateStream = (): InflateRaw => createInflateRaw({ chunkSize: streamChunkBytes });

/** Whether a large blob that is put is worth deflating, judged by its beginning: it must save a tenth. */
export function isWorthDeflating(beginning: Uint8Array): boolean {
  const sample = beginning.subarray(0, 64 * 1024);
  return deflateRawSync(sample, { level }).length < sample.length * 0.9;
}
