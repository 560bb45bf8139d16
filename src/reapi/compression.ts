import { PassThrough, pipeline, Readable } from "node:stream";
import * as zlib from "node:zlib";
import { type Digest, sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { compressors } from "../protocol/reapi/messages.ts";
import type { CompressorName } from "../protocol/reapi/resource_name.ts";
import { hasZstd, zstdCompressor, zstdDecompressed, zstdDecompressedSync } from "../runtime/zstd.ts";

/** How blobs travel smaller: as zstd (RFC 8878), where the runtime has it, and as raw DEFLATE (RFC 1951). */
export type Compression = Exclude<CompressorName, "identity">;

/** What this server takes and gives, the one that clients should like best first. */
export const served: readonly Compression[] = hasZstd ? ["zstd", "deflate"] : ["deflate"];

/** @param number of `Compressor.Value`. @throws {Fault} `REQUEST_INVALID` for one that is not served. */
export function compressorNamed(number: number): CompressorName {
  if (number === compressors.identity) return "identity";
  const found = served.find((name) => compressors[name] === number);
  if (found !== undefined) return found;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot store a blob as its compressor must be one that is served here, ${
      ["identity", ...served].join(" or ")
    }: current value is ${number}`,
  );
}

/** @throws {Fault} `REQUEST_INVALID` for one that is not served. */
export function needServed(name: CompressorName): void {
  if (name !== "identity") void compressorNamed(compressors[name]);
}

const level = 1;
const chunkSize = 256 * 1024;

/** Chunks of raw bytes as one compressed stream. */
export const compressed = (by: Compression, chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> =>
  through(chunks, by === "zstd" ? zstdCompressor() : zlib.createDeflateRaw({ level, chunkSize }));

/** The raw bytes again; who reads bounds them. @throws {Fault} `BLOB_CORRUPT` for what is no whole stream. */
export async function* decompressed(
  by: Compression,
  digest: Digest,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  // Runtimes name the errors of zstd differently: what the source did not throw is one of them.
  let trouble: { readonly thrown: unknown } | undefined;
  const source = async function* (): AsyncGenerator<Uint8Array> {
    try {
      yield* chunks;
    } catch (thrown) {
      trouble = { thrown };
      throw thrown;
    }
  };
  try {
    yield* by === "zstd" ? zstdDecompressed(source()) : through(source(), zlib.createInflateRaw({ chunkSize }));
  } catch (thrown) {
    throw trouble === undefined ? corrupt(by, digest, thrown) : trouble.thrown;
  }
}

/** @throws {Fault} `BLOB_CORRUPT` for what is no such stream, or holds more than the digest says. */
export function decompressSmall(by: Compression, digest: Digest, bytes: Uint8Array): Uint8Array {
  const size = sizeOf(digest);
  try {
    return by === "zstd"
      ? zstdDecompressedSync(bytes, size)
      : zlib.inflateRawSync(bytes, { maxOutputLength: Math.max(1, size) });
  } catch (thrown) {
    throw corrupt(by, digest, thrown);
  }
}

const corrupt = (by: Compression, digest: Digest, cause: unknown): Fault =>
  new Fault("BLOB_CORRUPT", `Cannot take blob ${digest} as its bytes must be ${by}: ${(cause as Error).message}`, {
    cause,
  });

function through(chunks: AsyncIterable<Uint8Array>, transform: NodeJS.ReadWriteStream): AsyncIterable<Uint8Array> {
  const out = new PassThrough();
  pipeline(Readable.from(chunks, { objectMode: false }), transform, out, () => {}); // errors surface in `out`
  return out;
}
