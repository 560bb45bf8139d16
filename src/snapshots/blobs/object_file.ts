import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { pipeline as pipelined } from "node:stream/promises";
import { type Digest, digestOfHash } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { hasZstd, zstdDecompressed } from "../../runtime/zstd.ts";
import { deflated, deflateStream, type Encoding, inflateStream, isWorthDeflating, raw, zstd } from "./deflate.ts";

/** What {@link writeObject} wrote. */
export interface ObjectFile {
  /** Of the raw bytes. */
  readonly digest: Digest;
  readonly encoding: Encoding;
  readonly storedBytes: number;
}

const pieceBytes = 256 * 1024;

/** The same bytes in pieces of 256 KiB, the last one shorter: many small chunks cost a trip through the streams each. */
async function* inPieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let piece = new Uint8Array(pieceBytes);
  let filled = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + pieceBytes - filled);
      piece.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled === pieceBytes) {
        yield piece;
        piece = new Uint8Array(pieceBytes);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

/**
 * Writes a stream to a new file, hashed, deflated where that is worth it, and synced. Holds a few MiB at most.
 * The file is the caller's to rename or, after an error too, to remove.
 */
export async function writeObject(
  source: AsyncIterable<Uint8Array>,
  path: string,
  signal?: AbortSignal,
): Promise<ObjectFile> {
  const pieces = inPieces(source);
  const hash = createHash("sha256");
  let size = 0;
  const first = await pieces.next();
  const encoding = !first.done && isWorthDeflating(first.value) ? deflated : raw;
  const hashed = async function* (): AsyncGenerator<Uint8Array> {
    for (let next = first; !next.done; next = await pieces.next()) {
      hash.update(next.value);
      size += next.value.length;
      yield next.value;
    }
  };
  const options = signal === undefined ? {} : { signal };
  const file = createWriteStream(path, { flags: "wx" });
  try {
    if (encoding === deflated) await pipelined(hashed, deflateStream(), file, options);
    else await pipelined(hashed, file, options);
  } catch (error) {
    await pieces.return(undefined).catch(() => {});
    throw signal?.aborted ? signal.reason : error;
  }
  await sync(path);
  return {
    digest: digestOfHash(hash.digest("hex"), size),
    encoding,
    storedBytes: (await stat(path)).size,
  };
}

/**
 * The raw bytes of what lies compressed in a file, which must be all of the file.
 *
 * @throws {Fault} `STORE_NEWER` for zstd where the runtime has none.
 */
async function* decompressed(path: string, encoding: Exclude<Encoding, typeof raw>): AsyncGenerator<Uint8Array> {
  if (encoding === zstd) {
    if (hasZstd) return yield* zstdDecompressed(fileBytes(path));
    throw new Fault(
      "STORE_NEWER",
      "Cannot read a blob that lies as zstd, as the runtime must have that: use Node 22.15",
    );
  }
  const inflate = inflateStream();
  pipeline(createReadStream(path, { highWaterMark: pieceBytes }), inflate, () => {}); // errors surface in `inflate`
  try {
    yield* inflate as AsyncIterable<Uint8Array>;
  } finally {
    inflate.destroy();
  }
  if (inflate.bytesWritten !== (await stat(path)).size) throw new Error("there is more behind it");
}

/** Yields raw bytes `from` (inclusive) `to` (exclusive) of a file written by {@link writeObject}. */
export async function* readObject(
  path: string,
  digest: Digest,
  encoding: Encoding,
  range: { readonly from: number; readonly to: number },
  { signal, isPassing = false }: { readonly signal?: AbortSignal; readonly isPassing?: boolean } = {},
): AsyncGenerator<Uint8Array> {
  const { from, to } = range;
  if (encoding === raw) {
    let at = from;
    const file = await open(path, "r");
    try {
      // One piece for all is worth it: what is allocated anew for each is collected, which costs more than to read it.
      let piece: Buffer | undefined;
      while (at < to) {
        signal?.throwIfAborted();
        if (piece === undefined || !isPassing) piece = Buffer.allocUnsafeSlow(Math.min(pieceBytes, to - at));
        const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, to - at), at);
        if (bytesRead === 0) break;
        at += bytesRead;
        yield piece.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
    if (at !== to) throw damaged(path, digest, `${at} bytes`);
    return;
  }
  // A compressed stream has no middle to start from: what lies before the range is inflated and dropped.
  let at = 0;
  try {
    for await (const chunk of decompressed(path, encoding)) {
      signal?.throwIfAborted();
      const part = chunk.subarray(Math.max(0, from - at), Math.max(0, to - at));
      at += chunk.length;
      if (part.length > 0) yield part;
      if (at >= to) return;
    }
  } catch (error) {
    // What is no call to the system is of the decompressor, whose errors runtimes name differently.
    if (!(error instanceof Fault) && !signal?.aborted && (error as NodeJS.ErrnoException).syscall === undefined) {
      throw damaged(path, digest, (error as Error).message, error);
    }
    throw error;
  }
  throw damaged(path, digest, `${at} bytes`);
}

/**
 * The digest of what lies compressed in a file, which must be all of the file.
 *
 * @param bytesMax a byte more of raw ones ends it.
 * @returns undefined for a file that is no such whole stream, or holds more.
 */
export async function hashCompressed(
  path: string,
  encoding: Exclude<Encoding, typeof raw>,
  bytesMax: number,
  signal?: AbortSignal,
): Promise<Digest | undefined> {
  const hash = createHash("sha256");
  let size = 0;
  try {
    for await (const chunk of decompressed(path, encoding)) {
      signal?.throwIfAborted();
      size += chunk.length;
      if (size > bytesMax) return undefined;
      hash.update(chunk);
    }
  } catch (error) {
    if (error instanceof Fault || signal?.aborted || (error as NodeJS.ErrnoException).syscall !== undefined) {
      throw error;
    }
    return undefined;
  }
  return digestOfHash(hash.digest("hex"), size);
}

/** A file's bytes, as they are. */
export const fileBytes = (path: string): AsyncIterable<Uint8Array> =>
  createReadStream(path, { highWaterMark: pieceBytes });

/** The digest of a file's bytes. Holds one chunk. */
export async function hashFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of fileBytes(path)) {
    hash.update(chunk);
    size += chunk.length;
  }
  return digestOfHash(hash.digest("hex"), size);
}

/** Makes what was written to a file, or the names in a folder, survive a power cut. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const damaged = (path: string, digest: Digest, found: string, cause?: unknown): Fault =>
  new Fault("STORE_CORRUPT", `Cannot read blob ${digest} as ${path} must hold it whole: current value is ${found}`, {
    cause,
  });
