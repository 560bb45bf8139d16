import { Buffer } from "node:buffer";
import * as zlib from "node:zlib";
import { NotOffered } from "./client.ts";

/** `Compressor.Value` as resource names have it. */
export const compressorNames: Readonly<Record<number, string>> = { 1: "zstd", 2: "deflate", 3: "brotli" };

type Transform = (bytes: Uint8Array) => Buffer;
/** Younger runtimes alone have zstd. */
const { zstdCompressSync, zstdDecompressSync } = zlib as unknown as {
  readonly zstdCompressSync?: Transform;
  readonly zstdDecompressSync?: Transform;
};
const known: Readonly<Record<string, readonly [Transform | undefined, Transform | undefined]>> = {
  zstd: [zstdCompressSync, zstdDecompressSync],
  deflate: [zlib.deflateRawSync, zlib.inflateRawSync],
  brotli: [zlib.brotliCompressSync, zlib.brotliDecompressSync],
};

function transform(name: string, place: 0 | 1): Transform {
  const found = known[name]?.[place];
  if (found === undefined) throw new NotOffered(`the runtime of this check has no ${name}`);
  return found;
}

/** @throws {NotOffered} where this runtime has no such compressor. */
export const compressWith = (name: string, bytes: Uint8Array): Buffer => transform(name, 0)(bytes);
export const decompressWith = (name: string, parts: readonly Uint8Array[]): Buffer =>
  transform(name, 1)(Buffer.concat(parts));
