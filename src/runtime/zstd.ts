import { pipeline, Readable, type Transform } from "node:stream";
import * as zlib from "node:zlib";
import { zstdFrame } from "./zstd_frame.ts";

/** Zstandard (RFC 8878), where the runtime has it: Node from 22.15 on, and Deno. What follows is for there only. */
export const hasZstd: boolean = typeof zlib.createZstdCompress === "function";

/** 2^23: what every level but the "ultra" ones uses; a stranger's frame costs at most that much memory. */
const windowLogMax = 23;
const chunkBytes = 256 * 1024;
/** A decompressor is made for each. */
const framesMax = 10_000;
/** The same for bytes in memory: with a large window each takes a third of a millisecond, in which nothing else is done. */
const framesAtOnceMax = (bytesMax: number): number => 16 + Math.floor(bytesMax / (64 * 1024));

/** Level 1: as small as level 3 for text, in half the time. */
export const zstdCompressor = (): Transform =>
  zlib.createZstdCompress({ chunkSize: chunkBytes, params: { [zlib.constants.ZSTD_c_compressionLevel]: 1 } });

/** How a stranger's frame is read. */
const reading = (): zlib.ZstdOptions => ({
  params: { [zlib.constants.ZSTD_d_windowLogMax]: windowLogMax },
  chunkSize: chunkBytes,
});

const notWhole = (): Error => new Error("its last frame is not whole");
const tooMany = (max: number): Error => new Error(`it has more than ${max} frames`);

/**
 * The raw bytes of whole frames one after the other, in chunks of at most 256 KiB; who reads bounds them.
 *
 * @throws {Error} for anything else: bytes that are no frame, before, behind or in between, and a frame that ends early.
 */
export async function* zstdDecompressed(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const source = chunks[Symbol.asyncIterator]();
  let rest = new Uint8Array(0);
  const fill = async (): Promise<boolean> => {
    while (rest.length === 0) {
      const next = await source.next();
      if (next.done) return false;
      rest = next.value as Uint8Array<ArrayBuffer>;
    }
    return true;
  };
  async function* partsOf(frame: ReturnType<typeof zstdFrame>): AsyncGenerator<Uint8Array> {
    while (!frame.isWhole()) {
      if (!await fill()) throw notWhole();
      const part = rest.subarray(0, frame.take(rest));
      rest = rest.subarray(part.length);
      yield part;
    }
  }
  try {
    for (let frames = 0; await fill(); frames++) {
      if (frames === framesMax) throw tooMany(framesMax);
      const frame = zstdFrame();
      const parts = partsOf(frame);
      const decompressor = zlib.createZstdDecompress(reading());
      let trouble: unknown;
      const piped = new Promise<void>((resolve) =>
        pipeline(Readable.from(parts, { objectMode: false }), decompressor, (error) => {
          trouble = error;
          resolve();
        })
      );
      try {
        yield* decompressor as AsyncIterable<Uint8Array>;
      } catch (error) {
        await piped;
        throw trouble ?? error;
      } finally {
        decompressor.destroy();
      }
      // Runtimes may end with the last raw byte, before what ends the frame has been read.
      await piped;
      await parts.return(undefined);
      for await (const _ of partsOf(frame));
    }
  } finally {
    await source.return?.();
  }
}

/**
 * The same for bytes in memory, while nothing else is done.
 *
 * @throws {Error} also when more than `bytesMax` come out, or there are more frames than whoever compresses so little makes.
 */
export function zstdDecompressedSync(bytes: Uint8Array, bytesMax: number): Uint8Array {
  const parts: Uint8Array[] = [];
  let left = bytesMax;
  const partsMax = framesAtOnceMax(bytesMax);
  for (let at = 0; at < bytes.length;) {
    if (parts.length === partsMax) throw tooMany(partsMax);
    const frame = zstdFrame();
    const length = frame.take(bytes.subarray(at));
    if (!frame.isWhole()) throw notWhole();
    const options = { ...reading(), maxOutputLength: Math.max(1, left) };
    const part = zlib.zstdDecompressSync(bytes.subarray(at, at + length), options);
    left -= part.length;
    if (left < 0) throw new Error(`it holds more than ${bytesMax} bytes`);
    parts.push(part);
    at += length;
  }
  if (parts.length === 0) throw notWhole();
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}
