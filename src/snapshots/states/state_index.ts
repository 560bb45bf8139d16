import { Buffer } from "node:buffer";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { type Database, open, type RootDatabase } from "lmdb";
import { Fault } from "../../domain/fault.ts";
import { hasRoom, lmdbFault } from "../lmdb_fault.ts";
import type { SaidPlace } from "./entry_codec.ts";
import { entryBytesAt, isGoneAt, payloadBytesAt } from "./segment.ts";

/** An index of another format is made anew. */
const indexFormat = 1;

/** Where an entry lies in the log. */
export interface Location {
  readonly seq: number;
  /** The ordinal of the segment times 2^32, plus the offset of the record in it. */
  readonly position: number;
  readonly payloadBytes: number;
  readonly gone: boolean;
}

export const positionOf = (ordinal: number, offset: number): number => ordinal * 2 ** 32 + offset;
export const ordinalOfPosition = (position: number): number => Math.floor(position / 2 ** 32);
export const offsetOfPosition = (position: number): number => position % 2 ** 32;

/** Durable entries that lie together in a segment, and are to be indexed. */
export interface Chunk {
  readonly ordinal: number;
  /** Of the bytes in the segment: where a batch begins. */
  readonly offset: number;
  /** Whole batches; nobody writes to them any more. */
  readonly bytes: Buffer;
  readonly firstSeq: number;
  readonly addresses: readonly string[];
  /** Of each entry's record in the bytes. */
  readonly starts: readonly number[];
  /** When the last of them was made. */
  readonly lastAtMs: number;
}

/** How far the index has come, saved with every step of it. */
export interface IndexMeta {
  readonly format: typeof indexFormat;
  readonly indexedSeq: number;
  readonly indexedAtMs: number;
  /** Of the batch after the last one indexed. */
  readonly position: number;
  readonly lastEpoch: number;
  readonly mark: SaidPlace;
  readonly openFrom: number;
}

export interface Kept {
  readonly address: string;
  readonly bytes: Uint8Array;
}

/** The rows of one actor in the history, or a part of them. */
export interface HistoryRow {
  readonly address: string;
  readonly firstSeq: number;
  readonly locations: Buffer;
}

/**
 * Follows the log: the newest entry of every actor, and where each actor's entries lie. All of it can be made again
 * from the log and the base. Reads are synchronous and short; callers page.
 */
export interface StateIndex {
  meta(): IndexMeta | undefined;
  /**
   * Adds entries of one segment that follow those that are indexed, and then the new meta, in slices. When that ends
   * half-way, adding what follows the old meta again is the same as adding it once.
   */
  add(chunks: readonly Chunk[], meta: IndexMeta): Promise<void>;
  /** Fills the empty index with what the base keeps. */
  seed(kept: readonly Kept[]): Promise<void>;
  get(address: string): Uint8Array | undefined;
  /** The next actors after `after` under `prefix`, in byte order. */
  current(prefix: string, after: string | undefined, limit: number): Kept[];
  /** The next rows after that one (of an address and its first seq) under `prefix`, by address, then seq. */
  rows(prefix: string, after: readonly [string, number] | undefined, limit: number): HistoryRow[];
  /** The rows of one actor that begin after `afterFirstSeq`, oldest first. */
  rowsOf(address: string, afterFirstSeq: number, limit: number): HistoryRow[];
  /** The last row of that actor that begins at or before `seq`. */
  lastRow(address: string, seq: number): HistoryRow | undefined;
  /** Removes the rows of these actors that begin before `seq`. */
  forget(addresses: readonly string[], seq: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * What the dropped segments leave behind: for each actor that was there at `firstSeq`, the entry it was at, unless the
 * index or the log tell it. Part of the store: it cannot be made again.
 */
export interface StateBase {
  /** As of now, like {@link page}: a reader that looks at the index first never misses what was moved here from it. */
  firstSeq(): number;
  /** Durable when it resolves. */
  setFirstSeq(seq: number): Promise<void>;
  page(prefix: string, after: string | undefined, limit: number): Kept[];
  put(kept: readonly { readonly address: string; readonly bytes: Uint8Array | undefined }[]): Promise<void>;
  /** Resolves when all that was put is durable. */
  flushed(): Promise<void>;
  close(): Promise<void>;
}

/** Work between two looks at the event loop: a few ms each. */
const foldEntries = 4000;
const sliceActors = 400;

const locationBytes = 20;
const goneBit = 2 ** 31;

/** What one actor did in the chunks that are being added. */
interface Steps {
  /** For each entry: seq, position, and payload bytes with the bit of an actor that is gone. */
  readonly places: number[];
  last: Chunk;
  lastStart: number;
}

/** Adds the entries of a chunk to the steps of their actors. */
function fold(actors: Map<string, Steps>, chunk: Chunk): void {
  const { ordinal, offset, bytes, firstSeq, addresses, starts } = chunk;
  const position = positionOf(ordinal, offset);
  for (let index = 0; index < addresses.length; index++) {
    const start = starts[index]!;
    let steps = actors.get(addresses[index]!);
    if (steps === undefined) actors.set(addresses[index]!, steps = { places: [], last: chunk, lastStart: start });
    steps.last = chunk;
    steps.lastStart = start;
    const length = payloadBytesAt(bytes, start);
    steps.places.push(firstSeq + index, position + start, isGoneAt(bytes, start) ? length + goneBit : length);
  }
}

function packPlaces(places: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe((places.length / 3) * locationBytes);
  for (let index = 0, at = 0; index < places.length; index += 3, at += locationBytes) {
    bytes.writeDoubleLE(places[index]!, at);
    bytes.writeDoubleLE(places[index + 1]!, at + 8);
    bytes.writeUInt32LE(places[index + 2]!, at + 16);
  }
  return bytes;
}

function unpack(bytes: Buffer, at: number): Location {
  const length = bytes.readUInt32LE(at + 16);
  const gone = length >= goneBit;
  return {
    seq: bytes.readDoubleLE(at),
    position: bytes.readDoubleLE(at + 8),
    payloadBytes: gone ? length - goneBit : length,
    gone,
  };
}

export function locationsOf(row: HistoryRow): Location[] {
  const locations: Location[] = [];
  for (let at = 0; at < row.locations.length; at += locationBytes) locations.push(unpack(row.locations, at));
  return locations;
}

/** The last location of a row at or before `seq`; the row must begin there or before. */
export function lastLocation(row: HistoryRow, seq: number): Location {
  let at = row.locations.length - locationBytes;
  while (at > 0 && row.locations.readDoubleLE(at) > seq) at -= locationBytes;
  return unpack(row.locations, at);
}

/** Sorts after every address under the prefix: addresses are printable ASCII. */
const endOf = (prefix: string): string => `${prefix}\x7f`;

const addressRange = (prefix: string, after: string | undefined, limit: number) => ({
  ...(after !== undefined ? { start: after, exclusiveStart: true } : prefix === "" ? {} : { start: prefix }),
  end: endOf(prefix),
  limit,
});

function openEnvironment(path: string, readOnly: boolean): RootDatabase<Buffer, string> {
  // Event turn batching drops a promise, which ends the process when the disk is full.
  return open<Buffer, string>({ path, noSubdir: false, encoding: "binary", readOnly, eventTurnBatching: false });
}

/** What LMDB may write beside the entries: pages are copied as a whole. */
const pagesBytes = 1024 * 1024;

/** Writes under way in an environment; failures become faults, and none is left unheard. */
function writesTo(dir: string, doing: string) {
  const running: Promise<{ readonly error: unknown } | undefined>[] = [];
  return {
    /** LMDB copes with a full disk, but prints each failure. @throws {Fault} `NO_SPACE` */
    needRoom(bytes: number): void {
      const needed = bytes * 2 + pagesBytes;
      if (hasRoom(dir, needed)) return;
      throw new Fault("NO_SPACE", `${doing} as ${needed} bytes must be free on the disk of ${dir}: they are not`);
    },
    add(write: Promise<unknown>): void {
      running.push(write.then(() => undefined, (error: unknown) => ({ error })));
    },
    /** Resolves when all that was added is done. @throws {Fault} the first failure. */
    async done(): Promise<void> {
      for (const failed of await Promise.all(running.splice(0))) {
        if (failed !== undefined) throw await lmdbFault(failed.error, doing, () => !hasRoom(dir, pagesBytes));
      }
    },
  };
}

const bytesOf = (kept: readonly { readonly bytes: Uint8Array | undefined }[]): number =>
  kept.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0);

/** @param dir the folder of the store. */
export async function openIndex(dir: string, readOnly: boolean): Promise<StateIndex> {
  const path = join(dir, "index");
  let root = openEnvironment(path, readOnly);
  let metas: Database<IndexMeta, string> = root.openDB({ name: "meta", encoding: "json" });
  if ((metas.get("meta")?.format ?? indexFormat) !== indexFormat && !readOnly) {
    await root.close();
    await rm(path, { recursive: true });
    root = openEnvironment(path, readOnly);
    metas = root.openDB({ name: "meta", encoding: "json" });
  }
  const currents: Database<Buffer, string> = root.openDB({ name: "current", encoding: "binary" });
  const histories: Database<Buffer, [string, number]> = root.openDB({ name: "history", encoding: "binary" });
  const rowOf = ({ key, value }: { key: [string, number]; value: Buffer }): HistoryRow => ({
    address: key[0],
    firstSeq: key[1],
    locations: value,
  });
  return {
    meta: () => metas.get("meta"),
    async add(chunks, meta) {
      const actors = new Map<string, Steps>();
      let folded = 0;
      for (const chunk of chunks) {
        fold(actors, chunk);
        folded += chunk.addresses.length;
        if (folded < foldEntries) continue;
        folded = 0;
        await setImmediate();
      }
      const writes = writesTo(dir, "Cannot index states");
      writes.needRoom(chunks.reduce((sum, { bytes }) => sum + bytes.length, 0));
      // LMDB's own thread writes them, as many as there are in one transaction; the meta once all are there.
      const all = [...actors];
      for (let from = 0; from < all.length; from += sliceActors) {
        writes.add(root.batch(() => {
          for (const [address, { places, last, lastStart }] of all.slice(from, from + sliceActors)) {
            void histories.put([address, places[0]!], packPlaces(places));
            if (isGoneAt(last.bytes, lastStart)) void currents.remove(address);
            else void currents.put(address, entryBytesAt(last.bytes, lastStart));
          }
        }));
        await setImmediate();
      }
      await writes.done();
      writes.add(metas.put("meta", meta));
      await writes.done();
    },
    async seed(kept) {
      const writes = writesTo(dir, "Cannot index states");
      writes.needRoom(bytesOf(kept));
      writes.add(root.batch(() => {
        for (const { address, bytes } of kept) void currents.put(address, bytes as Buffer);
      }));
      await writes.done();
    },
    get: (address) => currents.get(address),
    current: (prefix, after, limit) =>
      Array.from(currents.getRange(addressRange(prefix, after, limit)), ({ key, value }) => ({
        address: key,
        bytes: value,
      })),
    rows(prefix, after, limit) {
      const range = {
        ...(after !== undefined
          ? { start: [...after] as [string, number], exclusiveStart: true }
          : prefix === ""
          ? {}
          : { start: [prefix] as unknown as [string, number] }),
        end: [endOf(prefix)] as unknown as [string, number],
        limit,
      };
      return Array.from(histories.getRange(range), rowOf);
    },
    rowsOf: (address, afterFirstSeq, limit) =>
      Array.from(
        histories.getRange({
          start: [address, afterFirstSeq],
          exclusiveStart: true,
          end: [address, Number.MAX_VALUE],
          limit,
        }),
        rowOf,
      ),
    lastRow: (address, seq) =>
      Array.from(
        histories.getRange({ start: [address, seq], end: [address, -1], reverse: true, limit: 1 }),
        rowOf,
      )[0],
    async forget(addresses, seq) {
      const writes = writesTo(dir, "Cannot prune the index");
      writes.needRoom(0);
      writes.add(root.batch(() => {
        for (const address of addresses) {
          for (const key of histories.getKeys({ start: [address, 0], end: [address, seq] })) void histories.remove(key);
        }
      }));
      await writes.done();
    },
    close: () => root.close(),
  };
}

/** @param dir the folder of the store. */
export function openBase(dir: string, readOnly: boolean): StateBase {
  const root = openEnvironment(join(dir, "base"), readOnly);
  const metas = root.openDB<{ readonly firstSeq: number }, string>({ name: "meta", encoding: "json" });
  const entries: Database<Buffer, string> = root.openDB({ name: "entries", encoding: "binary" });
  return {
    firstSeq() {
      root.resetReadTxn();
      return metas.get("meta")?.firstSeq ?? 1;
    },
    async setFirstSeq(seq) {
      const writes = writesTo(dir, "Cannot prune states");
      writes.needRoom(0);
      writes.add(metas.put("meta", { firstSeq: seq }));
      await writes.done();
      await root.flushed;
    },
    page(prefix, after, limit) {
      root.resetReadTxn();
      return Array.from(entries.getRange(addressRange(prefix, after, limit)), ({ key, value }) => ({
        address: key,
        bytes: value,
      }));
    },
    async put(kept) {
      const writes = writesTo(dir, "Cannot prune states");
      writes.needRoom(bytesOf(kept));
      writes.add(root.batch(() => {
        for (const { address, bytes } of kept) {
          if (bytes === undefined) void entries.remove(address);
          else void entries.put(address, bytes as Buffer);
        }
      }));
      await writes.done();
    },
    flushed: async () => void (await root.flushed),
    close: () => root.close(),
  };
}
