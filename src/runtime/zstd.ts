import type { Transform } from "node:stream";
import * as zlib from "node:zlib";

/** Zstandard (RFC 8878), where the runtime has it: Node from 22.15 on, and Deno. */
export const hasZstd: boolean = typeof zlib.createZstdCompress === "function";

/** 2^23: what every level but the "ultra" ones uses; a stranger's frame costs at most that much memory. */
const windowLogMax = 23;
const chunkBytes = 256 * 1024;

/** How a stranger's frame is read. Only where there is zstd. */
export const zstdReading = (): zlib.ZstdOptions => ({
  params: { [zlib.constants.ZSTD_d_windowLogMax]: windowLogMax },
  chunkSize: chunkBytes,
});

/** Reads one frame; `bytesWritten` says how much of what came was of it. */
export const zstdDecompressor = (): Transform & { readonly bytesWritten: number } =>
  zlib.createZstdDecompress(zstdReading());
export const zstdCompressor = (): Transform => zlib.createZstdCompress({ chunkSize: chunkBytes });
