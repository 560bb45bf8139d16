import { PassThrough, pipeline, Readable } from "node:stream";
import * as zlib from "node:zlib";
import type { Digest } from "../domain/digest.ts";
import { sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";

/** Zstandard (RFC 8878), where the runtime has it: Node from 22.15 on, and Deno. */
export const hasZstd: boolean = typeof zlib.createZstdCompress === "function";

/** 2^23: what every level but the "ultra" ones uses; a stranger's frame costs at most that much memory. */
const windowLogMax = 23;
const decompressing = (): zlib.ZstdOptions => ({ params: { [zlib.constants.ZSTD_d_windowLogMax]: windowLogMax } });

export const needZstd = (): void => {
  if (!hasZstd) throw new Fault("REQUEST_INVALID", "Cannot use zstd as the server's runtime must have it: it has not");
};

/** Chunks of raw bytes as chunks of one frame. */
export const compressed = (chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> =>
  through(chunks, zlib.createZstdCompress());

/** The raw bytes again; who reads bounds them. @throws {Fault} `BLOB_CORRUPT` for what is no whole frame. */
export async function* decompressed(digest: Digest, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
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
    yield* through(source(), zlib.createZstdDecompress(decompressing()));
  } catch (thrown) {
    throw trouble === undefined ? corrupt(digest, thrown) : trouble.thrown;
  }
}

/** @throws {Fault} `BLOB_CORRUPT` for what is no frame, or holds more than the digest says. */
export function decompressSmall(digest: Digest, bytes: Uint8Array): Uint8Array {
  try {
    return zlib.zstdDecompressSync(bytes, { ...decompressing(), maxOutputLength: Math.max(1, sizeOf(digest)) });
  } catch (thrown) {
    throw corrupt(digest, thrown);
  }
}

const corrupt = (digest: Digest, cause: unknown): Fault =>
  new Fault("BLOB_CORRUPT", `Cannot take blob ${digest} as its bytes must be zstd: ${(cause as Error).message}`, {
    cause,
  });

function through(chunks: AsyncIterable<Uint8Array>, transform: NodeJS.ReadWriteStream): AsyncIterable<Uint8Array> {
  const out = new PassThrough();
  pipeline(Readable.from(chunks, { objectMode: false }), transform, out, () => {}); // errors surface in `out`
  return out;
}
