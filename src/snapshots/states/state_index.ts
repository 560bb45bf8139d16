import { Buffer } from "node:buffer";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Database, open, type RootDatabase } from "lmdb";
import { Fault } from "../../domain/fault.ts";
import { hasRoom, lmdbFault } from "../lmdb_fault.ts";
import type { SaidPlace } from "./entry_codec.ts";

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

/** A record in the log, as the index knows it. */
export interface IndexRecord extends Location {
  readonly address: string;
}

/** Durable entries that follow each other, and are to be indexed. */
export interface Chunk {
  readonly records: readonly IndexRecord[];
  /** The position of the batch after them. */
  readonly end: number;
  /** When the last of them was made. */
  readonly lastAtMs: number;
}

/**
 * What actors did: of each its entries in order, as three numbers each (seq, position, and payload bytes with the bit
 * of an actor that is gone).
 */
export type Steps = Map<string, number[]>;

/** Adds the entries of a chunk to the steps of their actors. */
export function addSteps(steps: Steps, { records }: Chunk): void {
  for (const { address, seq, position, payloadBytes, gone } of records) {
    const length = gone ? payloadBytes + goneBit : payloadBytes;
    const places = steps.get(address);
    if (places === undefined) steps.set(address, [seq, position, length]);
    else places.push(seq, position, length);
  }
}

/** The places of that actor in these steps, oldest first. */
export function stepsOf(steps: Steps, address: string): Location[] {
  const places = steps.get(address) ?? [];
  return Array.from(
    { length: places.length / 3 },
    (_, at) => locationOf(places[at * 3]!, places[at * 3 + 1]!, places[at * 3 + 2]!),
  );
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
 * Follows the log: where the newest entry of every actor lies that is not gone, and where all entries of each actor lie.
 * Of an actor whose newest entry was in a segment that is dropped, the base tells. All of the index can be made again from
 * the log. Reads are synchronous and short; callers page.
 */
export interface StateIndex {
  meta(): IndexMeta | undefined;
  /**
   * Adds what actors did after all that is indexed, and then the new meta, in slices. When that ends half-way, adding
   * what follows the old meta again is the same as adding it once.
   */
  add(steps: Steps, meta: IndexMeta): Promise<void>;
  get(address: string): Location | undefined;
  /** The next actors after `after` under `prefix`, in byte order. */
  current(prefix: string, after: string | undefined, limit: number): { address: string; place: Location }[];
  /** The next rows after that one (of an address and its first seq) under `prefix`, by address, then seq. */
  rows(prefix: string, after: readonly [string, number] | undefined, limit: number): HistoryRow[];
  /** The rows of one actor that begin after `afterFirstSeq`, oldest first. */
  rowsOf(address: string, afterFirstSeq: number, limit: number): HistoryRow[];
  /** The last row of that actor that begins at or before `seq`. */
  lastRow(address: string, seq: number): HistoryRow | undefined;
  /** Removes what is told of these actors before `seq`. */
  forget(addresses: readonly string[], seq: number): Promise<void>;
  /** Resolves when all that was done is durable. */
  flushed(): Promise<void>;
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
  /** Like {@link page}, the addresses alone. */
  addresses(prefix: string, after: string | undefined, limit: number): string[];
  get(address: string): Uint8Array | undefined;
  put(kept: readonly { readonly address: string; readonly bytes: Uint8Array | undefined }[]): Promise<void>;
  /** Resolves when all that was put is durable. */
  flushed(): Promise<void>;
  close(): Promise<void>;
}

/** In one transaction, and between two looks at the event loop: some ms. */
const sliceActors = 2000;
/** Bound on what a slice adds to the index, about: for the question whether the disk has room. */
const actorBytes = 512;

const locationBytes = 20;
const goneBit = 2 ** 31;

/** A row lies in one segment, so that it can be forgotten with it. */
function rowsOfSteps(places: number[]): readonly number[][] {
  const rows: number[][] = [];
  let from = 0;
  for (let next = 3; next < places.length; next += 3) {
    if (ordinalOfPosition(places[next + 1]!) === ordinalOfPosition(places[from + 1]!)) continue;
    rows.push(places.slice(from, next));
    from = next;
  }
  rows.push(from === 0 ? places : places.slice(from));
  return rows;
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

function locationOf(seq: number, position: number, length: number): Location {
  const gone = length >= goneBit;
  return { seq, position, payloadBytes: gone ? length - goneBit : length, gone };
}

const unpack = (bytes: Buffer, at: number): Location =>
  locationOf(bytes.readDoubleLE(at), bytes.readDoubleLE(at + 8), bytes.readUInt32LE(at + 16));

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
  let last: Promise<unknown> = Promise.resolve();
  /** One writes at a time: what is removed is looked at before. */
  const alone = (work: () => Promise<void>): Promise<void> => {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  };
  return {
    meta: () => metas.get("meta"),
    add: (steps, meta) =>
      alone(async () => {
        const writes = writesTo(dir, "Cannot index states");
        writes.needRoom(steps.size * actorBytes);
        const all = [...steps];
        for (let from = 0; from < all.length; from += sliceActors) {
          // LMDB's own thread writes them; the meta with the last, once the others are there.
          writes.add(root.batch(() => {
            for (const [address, places] of all.slice(from, from + sliceActors)) {
              for (const row of rowsOfSteps(places)) void histories.put([address, row[0]!], packPlaces(row));
              if (places.at(-1)! >= goneBit) void currents.remove(address);
              else void currents.put(address, packPlaces(places.slice(-3)));
            }
            if (from + sliceActors >= all.length) void metas.put("meta", meta);
          }));
          await writes.done();
        }
      }),
    get(address) {
      const packed = currents.get(address);
      return packed === undefined ? undefined : unpack(packed, 0);
    },
    current: (prefix, after, limit) =>
      Array.from(currents.getRange(addressRange(prefix, after, limit)), ({ key, value }) => ({
        address: key,
        place: unpack(value, 0),
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
    forget: (addresses, seq) =>
      alone(async () => {
        const writes = writesTo(dir, "Cannot prune the index");
        writes.needRoom(0);
        root.resetReadTxn();
        writes.add(root.batch(() => {
          for (const address of addresses) {
            for (const key of histories.getKeys({ start: [address, 0], end: [address, seq] })) {
              void histories.remove(key);
            }
            const packed = currents.get(address);
            if (packed !== undefined && unpack(packed, 0).seq < seq) void currents.remove(address);
          }
        }));
        await writes.done();
      }),
    flushed: async () => void (await root.flushed),
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
    addresses(prefix, after, limit) {
      root.resetReadTxn();
      return Array.from(entries.getKeys(addressRange(prefix, after, limit)));
    },
    get(address) {
      root.resetReadTxn();
      return entries.get(address);
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
