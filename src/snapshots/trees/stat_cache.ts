import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { type Digest, digestOfHash, emptyDigest, hashOf, isDigest, sizeOf } from "../../domain/digest.ts";

/**
 * What files held when they were last read, by what `lstat` said of them then: a file that is as it was is not read
 * again, and a folder in which all is as it was is not encoded again. What cannot be trusted is not kept, so a cache that
 * is lost, damaged or of another folder only costs time.
 *
 * The file, numbers in this machine's byte order: u32 magic · u32 entries · u32 folders · u32 text bytes ·
 * f64 × 4 an entry (inode, size, mtime ms, ctime ms) · u32 × 3 a folder (how many entries are its, how many folders are
 * in it, bytes of its Directory or 0) · 32 bytes an entry (SHA-256) · 32 bytes a folder (of its Directory) · the text
 * (what it is of, the snapshot, then each folder's path and its entries' names, each ended by NUL) · SHA-256 of all
 * before.
 */
export interface StatCache {
  readonly entries: number;
  /** What was captured then: the entries are files of it. */
  readonly snapshot?: Digest;
  /** What is known of one folder, if anything is. @param path "" or "src/web/". */
  folder(path: string): StatCacheFolder | undefined;
}

export interface StatCacheFolder {
  /** How many files are known of it. */
  readonly entries: number;
  /** What it was encoded as, if those files and so many folders are all that was in it. */
  readonly directory?: Digest;
  readonly folders: number;
  /** The number of the entry of a file that is as it was, else -1. Names are to be asked for in the order in which they were added. */
  find(name: string, stat: FileStat): number;
  /** What the file of an entry held. */
  digestOf(entry: number): Digest;
  statOf(entry: number): FileStat;
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

const magic = 0x33747373; // "sst3"
const headBytes = 16;
const numbersAnEntry = 4;
const numbersAFolder = 3;
const hashBytes = 32;

/** Of this process: captures of one folder at once write files of their own. */
let saves = 0;

const emptyCache: StatCache = { entries: 0, folder: () => undefined };

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
  const foldersFrom = headBytes + entries * numbersAnEntry * 8;
  const hashesFrom = foldersFrom + folders * numbersAFolder * 4;
  const textFrom = hashesFrom + (entries + folders) * hashBytes;
  if (foundMagic !== magic || textFrom + textBytes !== bytes.byteLength) return emptyCache;
  const numbers = new Float64Array(bytes, headBytes, entries * numbersAnEntry);
  const folderNumbers = new Uint32Array(bytes, foldersFrom, folders * numbersAFolder);
  const hashes = Buffer.from(bytes, hashesFrom, (entries + folders) * hashBytes);
  const texts = Buffer.from(bytes, textFrom, textBytes).toString("utf8").split("\0");
  const [foundOf, snapshot = ""] = texts;
  if (foundOf !== of || !isDigest(snapshot)) return emptyCache;
  const digestAt = (at: number, size: number): Digest =>
    digestOfHash(hashes.toString("hex", at * hashBytes, (at + 1) * hashBytes), size);

  /** Where each folder's entries and the texts of their names start. */
  const places = new Map<string, { readonly number: number; readonly entry: number; readonly text: number }>();
  let entry = 0;
  let text = 2;
  for (let number = 0; number < folders; number++) {
    places.set(texts[text]!, { number, entry, text: text + 1 });
    const count = folderNumbers[number * numbersAFolder]!;
    entry += count;
    text += 1 + count;
  }
  return {
    entries,
    snapshot,
    folder(folderPath) {
      const place = places.get(folderPath);
      if (place === undefined) return undefined;
      const [count, foldersIn, directoryBytes] = folderNumbers.subarray(place.number * numbersAFolder) as unknown as [
        number,
        number,
        number,
      ];
      let next = 0;
      return {
        entries: count,
        folders: foldersIn,
        ...(directoryBytes === 0 ? {} : { directory: digestAt(entries + place.number, directoryBytes) }),
        find(name, { ino, size, mtimeMs, ctimeMs }) {
          // Mostly the very next one; names that are gone or not yet known lie between.
          let i = next;
          while (i < count && texts[place.text + i] !== name) i++;
          if (i === count) return -1;
          next = i + 1;
          const at = (place.entry + i) * numbersAnEntry;
          const isSame = numbers[at] === ino && numbers[at + 1] === size && numbers[at + 2] === mtimeMs &&
            numbers[at + 3] === ctimeMs;
          return isSame ? place.entry + i : -1;
        },
        digestOf: (entry) => digestAt(entry, numbers[entry * numbersAnEntry + 1]!),
        statOf(entry) {
          const [ino = 0, size = 0, mtimeMs = 0, ctimeMs = 0] = numbers.subarray(entry * numbersAnEntry);
          return { ino, size, mtimeMs, ctimeMs };
        },
      };
    },
  };
}

/**
 * How long before now a file must have changed last, so that a later change cannot bear the same time: file systems
 * stamp with a clock that ticks every 1 to 10 ms, or tell whole seconds (every other one, on FAT).
 */
export const settledMs = (timeMs: number): number => timeMs % 1000 === 0 ? 2000 : 100;

/** Files of a folder that are as a cache knows them, in the order in which they are listed. */
export class KnownFiles {
  readonly names: string[] = [];
  readonly entries: number[] = [];
  readonly modes: number[] = [];

  add(name: string, entry: number, mode: number): void {
    this.names.push(name);
    this.entries.push(entry);
    this.modes.push(mode);
  }
}

interface WrittenEntry {
  readonly name: string;
  readonly stat: FileStat;
  readonly digest: Digest;
}

/** One folder of those that the next reader may trust. */
export class WrittenFolder {
  readonly path: string;
  #startedAtMs: number;
  /** Each with how many of those that are kept are listed before it. */
  #added: (readonly [after: number, entry: WrittenEntry])[] = [];
  #known: KnownFiles;
  #cached: StatCacheFolder | undefined;
  #folders = 0;
  #directory: Digest | undefined;

  /** @param known the files that are as they were; it may grow until {@link end}. */
  constructor(path: string, startedAtMs: number, known: KnownFiles, cached: StatCacheFolder | undefined) {
    this.path = path;
    this.#startedAtMs = startedAtMs;
    this.#known = known;
    this.#cached = cached;
  }

  /** Adds a file of the folder, unless it changed so lately that it could change again and look the same. */
  add(name: string, stat: FileStat, digest: Digest): void {
    const { mtimeMs, ctimeMs } = stat;
    if (mtimeMs > this.#startedAtMs - settledMs(mtimeMs) || ctimeMs > this.#startedAtMs - settledMs(ctimeMs)) return;
    this.#added.push([this.#known.names.length, { name, stat, digest }]);
  }

  /** How many files of it may be trusted. */
  get size(): number {
    return this.#added.length + this.#known.names.length;
  }

  /** @param directory what it was encoded as, if files that may be trusted and so many folders are all that is in it. */
  end(directory: Digest | undefined, folders: number): void {
    this.#directory = directory;
    this.#folders = folders;
  }

  /** In the order in which they are listed. */
  entries(): readonly WrittenEntry[] {
    const cached = this.#cached;
    const entries: WrittenEntry[] = cached === undefined ? [] : this.#known.names.map((name, place) => {
      const entry = this.#known.entries[place]!;
      return { name, stat: cached.statOf(entry), digest: cached.digestOf(entry) };
    });
    for (const [place, [after, entry]] of this.#added.entries()) entries.splice(after + place, 0, entry);
    return entries;
  }

  get numbers(): readonly [entries: number, folders: number, directoryBytes: number] {
    return [this.size, this.#folders, this.#directory === undefined ? 0 : sizeOf(this.#directory)];
  }

  get hash(): string {
    return hashOf(this.#directory ?? emptyDigest);
  }
}

/** Gathers what the next reader may trust. */
export class StatCacheWriter {
  #startedAtMs: number;
  #folders: WrittenFolder[] = [];

  /** @param startedAtMs a time before the first file was looked at. */
  constructor(startedAtMs: number) {
    this.#startedAtMs = startedAtMs;
  }

  get entries(): number {
    return this.#folders.reduce((sum, { size }) => sum + size, 0);
  }

  folder(path: string, known: KnownFiles, cached: StatCacheFolder | undefined): WrittenFolder {
    const folder = new WrittenFolder(path, this.#startedAtMs, known, cached);
    this.#folders.push(folder);
    return folder;
  }

  /** Replaces the file in one step. Where that cannot be, what was there stays: the next capture takes longer. */
  async save(path: string, of: string, snapshot: Digest): Promise<void> {
    const byFolder = this.#folders.map((folder) => ({ path: folder.path, entries: folder.entries() }));
    const all = byFolder.flatMap(({ entries }) => entries);
    const texts = byFolder.flatMap(({ path, entries }) => [path, ...entries.map(({ name }) => name)]);
    const text = Buffer.from(`${[of, snapshot, ...texts].join("\0")}\0`);
    const body = Buffer.concat([
      bytesOf(new Uint32Array([magic, all.length, this.#folders.length, text.length])),
      bytesOf(
        new Float64Array(all.flatMap(({ stat: { ino, size, mtimeMs, ctimeMs } }) => [ino, size, mtimeMs, ctimeMs])),
      ),
      bytesOf(
        new Uint32Array(this.#folders.flatMap(({ numbers }) => numbers)),
      ),
      Buffer.from(all.map(({ digest }) => hashOf(digest)).join(""), "hex"),
      Buffer.from(this.#folders.map(({ hash }) => hash).join(""), "hex"),
      text,
    ]);
    const beside = `${path}.${process.pid}.${++saves}.tmp`;
    try {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(beside, Buffer.concat([body, Buffer.from(hash("sha256", body, "hex"), "hex")]));
      await rename(beside, path);
    } catch {
      await rm(beside, { recursive: true, force: true }).catch(() => {});
    }
  }
}

const bytesOf = ({ buffer }: Uint32Array<ArrayBuffer> | Float64Array<ArrayBuffer>): Uint8Array =>
  new Uint8Array(buffer);
