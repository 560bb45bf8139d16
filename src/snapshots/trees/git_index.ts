import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Fault } from "../../domain/fault.ts";

/** What a repository tracks, as byte texts from its top: what its ignore rules do not touch. */
export interface Tracked {
  readonly files: ReadonlySet<string>;
  /** Every folder that something tracked is in. */
  readonly folders: ReadonlySet<string>;
  /** Other repositories at a commit (submodules). */
  readonly repositories: ReadonlySet<string>;
}

const headerBytes = 12;
const statBytes = 40;
const submoduleMode = 0o160000;
const sparseFolderMode = 0o040000;
const extendedFlag = 0x4000;

/**
 * Reads a git index, versions 2 to 4, split ones too (gitformat-index(5)). No index: nothing is tracked.
 *
 * @param hashBytes 20 for SHA-1 repositories, 32 for SHA-256.
 * @throws {Fault} `CAPTURE_FAILED` for a file that is no such index.
 */
export function readGitIndex(path: string, hashBytes: 20 | 32): Tracked {
  const files = new Set<string>();
  const folders = new Set<string>();
  const repositories = new Set<string>();
  for (const { name, mode } of readEntries(path, hashBytes)) {
    if (mode === submoduleMode) repositories.add(name);
    else if (mode !== sparseFolderMode) files.add(name);
    for (let slash = name.lastIndexOf("/"); slash > 0; slash = name.lastIndexOf("/", slash - 1)) {
      const folder = name.slice(0, slash);
      if (folders.has(folder)) break;
      folders.add(folder);
    }
  }
  return { files, folders, repositories };
}

interface Entry {
  readonly name: string;
  readonly mode: number;
}

function readEntries(path: string, hashBytes: number): Entry[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new Fault("CAPTURE_FAILED", `Cannot read the git index ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  try {
    return parse(bytes, path, hashBytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // Buffer's own, for a read past the end
    throw new Fault("CAPTURE_FAILED", `Cannot read the git index ${path} as it must be whole: it ends too soon`, {
      cause: error,
    });
  }
}

function parse(bytes: Buffer, path: string, hashBytes: number): Entry[] {
  const refuse = (why: string): never => {
    throw new Fault("CAPTURE_FAILED", `Cannot read the git index ${path} as ${why}`);
  };
  if (bytes.toString("latin1", 0, 4) !== "DIRC") refuse('it must start with "DIRC": current value is something else');
  const version = bytes.readUInt32BE(4);
  if (version < 2 || version > 4) refuse(`its version must be 2, 3 or 4: current value is ${version}`);
  const count = bytes.readUInt32BE(8);
  const entries: Entry[] = [];
  let at = headerBytes;
  let previous = "";
  for (let i = 0; i < count; i++) {
    const from = at;
    const mode = bytes.readUInt32BE(at + 24);
    const flags = bytes.readUInt16BE(at + statBytes + hashBytes);
    at += statBytes + hashBytes + ((flags & extendedFlag) === 0 ? 2 : 4);
    let kept = "";
    if (version === 4) {
      // How much of the name before to drop, in the variable-width form of pack offsets.
      let dropped = 0;
      let byte = bytes.readUInt8(at++);
      dropped = byte & 0x7f;
      while ((byte & 0x80) !== 0) {
        byte = bytes.readUInt8(at++);
        dropped = (dropped + 1) * 0x80 + (byte & 0x7f);
      }
      if (dropped > previous.length) refuse("a name must start with part of the one before: it drops more");
      kept = previous.slice(0, previous.length - dropped);
    }
    const end = bytes.indexOf(0, at);
    if (end < 0) refuse("a name must end: it does not");
    const name = kept + bytes.toString("latin1", at, end);
    // Up to version 3, one to eight NULs make the entry a multiple of eight bytes.
    at = version === 4 ? end + 1 : from + ((end - from + 8) & ~7);
    previous = name;
    entries.push({ name, mode });
  }
  return withSharedEntries(entries, bytes, at, path, hashBytes);
}

/** A split index has most of its entries in another file beside it, and says which of those are gone. */
function withSharedEntries(entries: Entry[], bytes: Buffer, from: number, path: string, hashBytes: number): Entry[] {
  let at = from;
  while (at + 8 <= bytes.length - hashBytes) {
    const name = bytes.toString("latin1", at, at + 4);
    const length = bytes.readUInt32BE(at + 4);
    if (name !== "link") {
      at += 8 + length;
      continue;
    }
    const sharedHash = bytes.toString("hex", at + 8, at + 8 + hashBytes);
    const shared = readEntries(join(dirname(path), `sharedindex.${sharedHash}`), hashBytes);
    const deleted = length > hashBytes ? readBitmap(bytes, at + 8 + hashBytes) : new Set<number>();
    // Entries that stand for a shared one have no name.
    return [...shared.filter((_, place) => !deleted.has(place)), ...entries.filter((entry) => entry.name !== "")];
  }
  return entries;
}

/**
 * The set bits of an EWAH bitmap: u32 bits, u32 words, the words of 64 bits, u32 place of the last marker. A marker
 * word says, from its lowest bit: one bit, how many words are all that bit (32), how many words follow as they are (31).
 */
function readBitmap(bytes: Buffer, from: number): Set<number> {
  const places = new Set<number>();
  const bits = bytes.readUInt32BE(from);
  const words = bytes.readUInt32BE(from + 4);
  let place = 0;
  for (let word = 0; word < words; word++) {
    const marker = bytes.readBigUInt64BE(from + 8 + word * 8);
    const isRunSet = (marker & 1n) === 1n;
    const runEnd = Math.min(bits, place + Number((marker >> 1n) & 0xffffffffn) * 64);
    for (; place < runEnd; place++) if (isRunSet) places.add(place);
    for (let left = Number(marker >> 33n); left > 0 && word + 1 < words; left--) {
      word++;
      const literal = bytes.readBigUInt64BE(from + 8 + word * 8);
      for (let bit = 0; bit < 64; bit++) if (((literal >> BigInt(bit)) & 1n) === 1n) places.add(place + bit);
      place += 64;
    }
  }
  return places;
}
