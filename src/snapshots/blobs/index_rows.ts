import { type Digest, hashOf, sizeOf } from "../../domain/digest.ts";
import { deflated, type Encoding, raw, zstd } from "./deflate.ts";

/*
 * Two tables of the index, by hash. Every blob has facts; a small one has its bytes in the other table, a large one in
 * a file that the facts name. Numbers are big-endian.
 *
 * facts := kind u8 · last use u32 (epoch seconds; a put is one) · raw size u48 · bytes at rest u48 · file name u64 (file)
 * bytes := kind u8 · raw size u48 · bytes as stored
 *
 * kind: bit 0 deflated, bit 1 a file, bit 2 zstd.
 */
const isFileBit = 2;
const encodingBits = { [raw]: 0, [deflated]: 1, [zstd]: 4 } as const;
const factsBytes = 17;
const headBytes = 7;

export interface Facts {
  readonly usedAtSeconds: number;
  readonly size: number;
  readonly bytesAtRest: number;
  readonly encoding: Encoding;
  /** What its file has in its name: 16 hex digits. Undefined for a small blob. */
  readonly file: string | undefined;
}

export const keyOf = (digest: Digest): Buffer => Buffer.from(hashOf(digest), "hex");

export function writeFacts({ usedAtSeconds, size, bytesAtRest, encoding, file }: Facts): Buffer {
  const row = Buffer.alloc(factsBytes + (file === undefined ? 0 : 8));
  row[0] = encodingBits[encoding] | (file === undefined ? 0 : isFileBit);
  row.writeUInt32BE(usedAtSeconds, 1);
  row.writeUIntBE(size, 5, 6);
  row.writeUIntBE(bytesAtRest, 11, 6);
  if (file !== undefined) row.write(file, factsBytes, "hex");
  return row;
}

export const readFacts = (row: Buffer): Facts => ({
  usedAtSeconds: row.readUInt32BE(1),
  size: row.readUIntBE(5, 6),
  bytesAtRest: row.readUIntBE(11, 6),
  encoding: encodingIn(row),
  file: (row[0]! & isFileBit) === 0 ? undefined : row.toString("hex", factsBytes, factsBytes + 8),
});

/** The same facts, used at another time. */
export function usedAt(row: Buffer, seconds: number): Buffer {
  const next = Buffer.from(row);
  next.writeUInt32BE(seconds, 1);
  return next;
}

export function writeBytes(size: number, encoding: Encoding, body: Uint8Array): Buffer {
  const row = Buffer.allocUnsafe(headBytes + body.length);
  row[0] = encodingBits[encoding];
  row.writeUIntBE(size, 1, 6);
  row.set(body, headBytes);
  return row;
}

/** What is stored of a small blob, if that row is of this digest. `body` is a view. */
export const readBytes = (row: Buffer, digest: Digest): { encoding: Encoding; body: Buffer } | undefined =>
  row.readUIntBE(1, 6) === sizeOf(digest)
    ? { encoding: encodingIn(row), body: row.subarray(headBytes, row.length) }
    : undefined;

const encodingIn = (row: Buffer): Encoding =>
  (row[0]! & encodingBits[zstd]) !== 0 ? zstd : (row[0]! & encodingBits[deflated]) !== 0 ? deflated : raw;

const pageBytes = 4096;
const wholePages = (bytes: number): number => Math.ceil(bytes / pageBytes) * pageBytes;
/** A key and what LMDB keeps beside it. */
const entryBytes = 32 + 8;
/** LMDB moves a longer row to pages of its own, which begin with 16 bytes of its own (lmdb.h, me_nodemax). */
const rowInPageMax = 2038;
/** Keys come in no order, so pages are filled by ln 2. */
const filled = Math.LN2;

export const fileBytesAtRest = (storedBytes: number): number => wholePages(storedBytes);

/** What a small blob takes, about: its share of the pages that it is in with others, and those of its own. */
export function smallBytesAtRest(storedBytes: number): number {
  const row = headBytes + storedBytes;
  const facts = (entryBytes + factsBytes) / filled;
  return Math.round(
    entryBytes + row > rowInPageMax
      ? facts + (entryBytes + 8) / filled + wholePages(row + 16)
      : facts + (entryBytes + row) / filled,
  );
}
