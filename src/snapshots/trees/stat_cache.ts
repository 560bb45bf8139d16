import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { type Digest, digestOfHash, hashOf, isDigest } from "../../domain/digest.ts";
import { asFault } from "../../domain/fault.ts";

/**
 * What files held when they were last read, by what `lstat` said of them then: a file that is as it was is not read
 * again. What cannot be trusted is not kept, so a cache that is lost, damaged or of another folder only costs time.
 *
 * The file, numbers in this machine's byte order: u32 magic · u32 entries · u32 folders · u32 text bytes ·
 * f64 × 4 an entry (inode, size, mtime ms, ctime ms) · u32 a folder (how many entries are its) · 32 bytes an entry
 * (SHA-256) · the text (what it is of, the snapshot, then each folder's path and its entries' names, each ended by NUL) · SHA-256 of
 * all before.
 */
export interface StatCache {
  readonly entries: number;
  /** What was captured then: the entries are files of it. */
  readonly snapshot?: Digest;
  /** What is known of one folder. @param path "" or "src/web/". */
  folder(path: string): StatCacheFolder;
}

export interface StatCacheFolder {
  /** The digest of a file that is as it was. Names are to be asked for in the order in which they were added. */
  find(name: string, stat: FileStat): Digest | undefined;
}

/** The part of `Stats` that says whether a file is as it was. Sub-millisecond where the runtime tells. */
export interface FileStat {
  readonly ino: number;
  readonly size: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
}

export const isSameStat = (a: FileStat, b: FileStat): boolean =>
  a.ino === b.ino && a.size === b.size && a.mtimeMs === b.mtimeMs && a.ctimeMs === b.ctimeMs;

const magic = 0x32747373; // "sst2"
const headBytes = 16;
const numbersAnEntry = 4;
const hashBytes = 32;

const nothing: StatCacheFolder = { find: () => undefined };
const emptyCache: StatCache = { entries: 0, folder: () => nothing };

/** @param of what the cache must be of, as {@link StatCacheWriter.save} was told; another is as good as none. */
export function readStatCache(path: string, of: string): StatCache {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch {
    return emptyCache;
  }
  if (file.length < headBytes + hashBytes) return emptyCache;
  const body = file.subarray(0, file.length - hashBytes);
  if (hash("sha256", body, "hex") !== file.toString("hex", body.length)) return emptyCache;
  // A copy at the start of a buffer of its own, where 64-bit numbers are aligned.
  const bytes = new Uint8Array(body).buffer;
  const [foundMagic, entries, folders, textBytes] = new Uint32Array(bytes, 0, 4) as unknown as [
    number,
    number,
    number,
    number,
  ];
  const countsFrom = headBytes + entries * numbersAnEntry * 8;
  const hashesFrom = countsFrom + folders * 4;
  const textFrom = hashesFrom + entries * hashBytes;
  if (foundMagic !== magic || textFrom + textBytes !== bytes.byteLength) return emptyCache;
  const numbers = new Float64Array(bytes, headBytes, entries * numbersAnEntry);
  const counts = new Uint32Array(bytes, countsFrom, folders);
  const hashes = Buffer.from(bytes, hashesFrom, entries * hashBytes).toString("hex");
  const texts = Buffer.from(bytes, textFrom, textBytes).toString("utf8").split("\0");
  const [foundOf, snapshot = ""] = texts;
  if (foundOf !== of || !isDigest(snapshot)) return emptyCache;

  /** Where each folder's entries and the texts of their names start. */
  const places = new Map<string, { readonly entry: number; readonly text: number; readonly count: number }>();
  let entry = 0;
  let text = 2;
  for (const count of counts) {
    places.set(texts[text]!, { entry, text: text + 1, count });
    entry += count;
    text += 1 + count;
  }
  return {
    entries,
    snapshot,
    folder(folderPath) {
      const place = places.get(folderPath);
      if (place === undefined) return nothing;
      let next = 0;
      return {
        find(name, { ino, size, mtimeMs, ctimeMs }) {
          // Mostly the very next one; names that are gone or not yet known lie between.
          let i = next;
          while (i < place.count && texts[place.text + i] !== name) i++;
          if (i === place.count) return undefined;
          next = i + 1;
          const at = (place.entry + i) * numbersAnEntry;
          const isSame = numbers[at] === ino && numbers[at + 1] === size && numbers[at + 2] === mtimeMs &&
            numbers[at + 3] === ctimeMs;
          if (!isSame) return undefined;
          const from = (place.entry + i) * hashBytes * 2;
          return digestOfHash(hashes.slice(from, from + hashBytes * 2), size);
        },
      };
    },
  };
}

/**
 * How long before now a file must have changed last, so that a later change cannot bear the same time: file systems
 * stamp with a clock that ticks every 1 to 10 ms, or tell whole seconds (every other one, on FAT).
 */
const settledMs = (timeMs: number): number => timeMs % 1000 === 0 ? 2000 : 100;

/** Gathers what the next reader may trust. */
export class StatCacheWriter {
  entries = 0;
  #startedAtMs: number;
  #numbers = new Float64Array(1024);
  #counts: number[] = [];
  #hashes: string[] = [];
  #texts: string[] = [];

  /** @param startedAtMs a time before the first file was looked at. */
  constructor(startedAtMs: number) {
    this.#startedAtMs = startedAtMs;
  }

  /** Makes this the folder that the next files are of. */
  folder(path: string): void {
    this.#texts.push(path);
    this.#counts.push(0);
  }

  /** Adds a file of the folder, unless it changed so lately that it could change again and look the same. */
  add(name: string, stat: FileStat, digest: Digest): void {
    const { ino, size, mtimeMs, ctimeMs } = stat;
    if (mtimeMs > this.#startedAtMs - settledMs(mtimeMs) || ctimeMs > this.#startedAtMs - settledMs(ctimeMs)) return;
    const at = this.entries * numbersAnEntry;
    if (at === this.#numbers.length) {
      const grown = new Float64Array(at * 2);
      grown.set(this.#numbers);
      this.#numbers = grown;
    }
    this.#numbers[at] = ino;
    this.#numbers[at + 1] = size;
    this.#numbers[at + 2] = mtimeMs;
    this.#numbers[at + 3] = ctimeMs;
    this.#hashes.push(hashOf(digest));
    this.#texts.push(name);
    this.#counts[this.#counts.length - 1]! += 1;
    this.entries++;
  }

  /** Replaces the file in one step. @throws {Fault} `NO_SPACE`, `INTERNAL`. */
  async save(path: string, of: string, snapshot: Digest): Promise<void> {
    const text = Buffer.from(`${[of, snapshot, ...this.#texts].join("\0")}\0`);
    const body = Buffer.concat([
      new Uint8Array(new Uint32Array([magic, this.entries, this.#counts.length, text.length]).buffer),
      new Uint8Array(this.#numbers.buffer, 0, this.entries * numbersAnEntry * 8),
      new Uint8Array(new Uint32Array(this.#counts).buffer),
      Buffer.from(this.#hashes.join(""), "hex"),
      text,
    ]);
    const beside = `${path}.${process.pid}.tmp`;
    try {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(beside, Buffer.concat([body, Buffer.from(hash("sha256", body, "hex"), "hex")]));
      await rename(beside, path);
    } catch (error) {
      await rm(beside, { force: true });
      throw asFault(error, `Cannot keep the stat cache ${path}`);
    }
  }
}
