import { Buffer } from "node:buffer";
import { type Digest, digestOfHash, hashOf, sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";

/**
 * Many small blobs in one HTTP body. Per blob: 32 bytes of SHA-256, 4 bytes of length (unsigned, big-endian), then so
 * many bytes. Nothing stands before the first or after the last.
 */

/** Of one body. */
export const batchBytesMax = 16 * 1024 * 1024;
/** Blobs in one body. */
export const batchBlobsMax = 10_000;
export const batchHeaderBytes = 36;

export interface BatchEntry {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}

/** The header of one blob; its bytes follow. */
export function batchHeader(digest: Digest): Uint8Array {
  const header = Buffer.allocUnsafe(batchHeaderBytes);
  header.write(hashOf(digest), 0, 32, "hex");
  header.writeUInt32BE(sizeOf(digest), 32);
  return header;
}

/** The entries as one body. */
export function encodeBatch(entries: readonly BatchEntry[]): Uint8Array {
  return Buffer.concat(entries.flatMap(({ digest, bytes }) => [batchHeader(digest), bytes]));
}

/**
 * The entries of a body; their bytes are views of it.
 *
 * @throws {Fault} `REQUEST_INVALID` when it is cut off or holds too many.
 */
export function decodeBatch(body: Uint8Array): BatchEntry[] {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const entries: BatchEntry[] = [];
  for (let at = 0; at < buffer.length;) {
    const cut = (what: string): Fault =>
      new Fault(
        "REQUEST_INVALID",
        `Cannot read a batch of blobs as it must end with a whole one: ${what} of blob ${entries.length} is cut off`,
      );
    if (entries.length === batchBlobsMax) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot read a batch of blobs as it must hold at most ${batchBlobsMax}: it holds more`,
      );
    }
    if (buffer.length - at < batchHeaderBytes) throw cut("the header");
    const size = buffer.readUInt32BE(at + 32);
    const digest = digestOfHash(buffer.toString("hex", at, at + 32), size);
    at += batchHeaderBytes;
    if (buffer.length - at < size) throw cut("the content");
    entries.push({ digest, bytes: body.subarray(at, at + size) });
    at += size;
  }
  return entries;
}
