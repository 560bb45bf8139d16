/**
 * States in a folder of one machine. What is on disk, all of it written by one process at a time:
 *
 * ```
 * format                "scoot-actors states 1"
 * lock.<n>              the process that writes: id, boot, start time; empty when there is none
 * log/0000000001.seg    the truth: checksummed batches of entries, appended (the format is in segment.ts)
 * base/                 LMDB; what dropped segments leave behind: firstSeq, and the entry at which each actor stood there
 * index/                LMDB; the newest entry of each actor, and where each actor's entries lie in the log
 * ```
 *
 * - A commit is one batch in the log. Commits that overlap share one write and one fdatasync; nothing else is on their
 *   way. The index follows in bulk, within a second, and may be deleted while no process has the store open: it is
 *   made again from the log and the base.
 * - A log that ends in a torn batch is cut there when it is opened. Damage to what is known to have been durable is
 *   `STORE_CORRUPT`, with segment and offset, when the log is opened or when it is read.
 * - Reading processes see what is indexed. An LMDB value is an entry as in the log, a CBOR map without its address;
 *   the keys are the address, and in the history the address and the first seq of a row of 20-byte places
 *   (f64 seq, f64 segment·2^32 + offset, u32 payload bytes with the top bit set for an actor that is gone).
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { asFault, Fault } from "../../domain/fault.ts";
import type { Address } from "../../domain/ids.ts";
import type { Clock } from "../../runtime/clock.ts";
import { claimFormat } from "../store_format.ts";
import { checkCut, decodeEntry, isAfter, placeOf, type UnsentMark, unsentMark } from "./entry_codec.ts";
import { lockStore, type StoreLock } from "./lock.ts";
import { type OpenedLog, openLog, readLog, type StateLog, type WritableLog } from "./log.ts";
import { type Batch, entryBytesAt, isGoneAt, logFormat } from "./segment.ts";
import {
  type Chunk,
  type HistoryRow,
  type IndexMeta,
  lastLocation,
  type Location,
  locationsOf,
  openBase,
  openIndex,
  positionOf,
  type StateBase,
  type StateIndex,
} from "./state_index.ts";
import type { Entry, States, Tail } from "./states.ts";

export interface LocalStatesOptions {
  /** The folder of the store; made when it is not there. */
  readonly dir: string;
  /** Says when the index follows. */
  readonly clock: Clock;
  /** Opens a store that another process may be writing, to read what it has indexed; false by default. */
  readonly readOnly?: boolean;
  /** A new segment is begun before one grows longer than this: what `prune` forgets at once. 16 MiB by default. */
  readonly segmentBytes?: number;
}

const indexDelayMs = 500;
/** About so many entries go into the index at once: of an actor that did much there is one row. */
const windowEntries = 20_000;
/** Commits wait for the index when so many bytes of entries wait for it. */
const pendingBytesMax = 256 * 1024 * 1024;
const pageEntries = 256;
/** Above so many places, the history of a prefix is read from the log instead. */
const placesMax = 100_000;
/** A history that begins so close to the end is read from the log. */
const scanEntries = 5_000;

/**
 * Opens the store, cuts off what a crash tore, and brings the index up to date.
 *
 * @throws {Fault} `STORE_LOCKED` with the process that has it open, `STORE_NEWER`, `STORE_CORRUPT`.
 */
export async function localStates(options: LocalStatesOptions): Promise<States> {
  return options.readOnly === true ? await openForReading(options) : await openForWriting(options);
}

async function openForReading({ dir }: LocalStatesOptions): Promise<States> {
  if (!existsSync(join(dir, "format"))) {
    throw new Fault("REQUEST_INVALID", `Cannot read ${dir} as it must be a store of states: it is none`);
  }
  claimFormat(dir, "states", logFormat);
  const base = openBase(dir, true);
  const index = await openIndex(dir, true);
  const log = readLog(dir);
  const refuse = (): Promise<never> =>
    Promise.reject(
      new Fault("REQUEST_INVALID", `Cannot write to ${dir} as it must be open for writing: it is open for reading`),
    );
  return {
    ...reading({ index, base, log, ready: () => Promise.resolve(), lastSeq: () => index.meta()?.indexedSeq ?? 0 }),
    commit: refuse,
    prune: refuse,
    async close() {
      await log.close();
      await index.close();
      await base.close();
    },
  };
}

async function openForWriting(options: LocalStatesOptions): Promise<States> {
  const { dir, clock, segmentBytes = 16 * 1024 * 1024 } = options;
  claimFormat(dir, "states", logFormat);
  const lock = await lockStore(dir);
  const opened: { close(): Promise<void> }[] = [{ close: () => lock.release() }];
  try {
    const base = openBase(dir, false);
    opened.push(base);
    const log = await openLog(dir, segmentBytes);
    const index = await openIndex(dir, false);
    opened.push(index);
    return await recover({ dir, clock, lock, base, log, index });
  } catch (error) {
    for (const thing of opened.reverse()) await thing.close().catch(() => undefined);
    throw error;
  }
}

/** Brings the index up to the end of the log. */
async function recover(
  { dir, clock, lock, base, log: openedLog, index }: {
    readonly dir: string;
    readonly clock: Clock;
    readonly lock: StoreLock;
    readonly base: StateBase;
    readonly log: OpenedLog;
    readonly index: StateIndex;
  },
): Promise<States> {
  const firstSeq = base.firstSeq();
  const oldest = openedLog.segments[0]?.firstSeq ?? 1;
  if (oldest > firstSeq) {
    throw new Fault(
      "STORE_CORRUPT",
      `Cannot open ${dir} as its log must reach back to entry ${firstSeq}: it begins with ${oldest}`,
    );
  }
  let meta = index.meta();
  if (meta === undefined) await seedIndex(index, base);
  else if (meta.indexedSeq < oldest - 1) {
    throw new Fault(
      "STORE_CORRUPT",
      `Cannot open ${dir} as its index must reach entry ${oldest - 1}, where the log begins: it ends at ` +
        `${meta.indexedSeq}. Delete the folder index, and it is made again`,
    );
  }
  meta ??= {
    format: 1,
    indexedSeq: oldest - 1,
    indexedAtMs: 0,
    position: openedLog.segments[0] === undefined ? 0 : positionOf(openedLog.segments[0].ordinal, 0),
    lastEpoch: 0,
    mark: { seq: 0, place: 0 },
    openFrom: oldest,
  };
  const unsent = unsentMark({ mark: meta.mark, lastSeq: Math.min(meta.openFrom, meta.indexedSeq + 1) - 1 });
  const follower = indexFollower({ index, clock, unsent, meta });
  // Entries that are indexed are read again only if they may have said something that nobody heard.
  const rereads = meta.openFrom <= meta.indexedSeq || meta.indexedSeq < oldest;
  const replay = openedLog.replay(
    rereads ? { seq: meta.openFrom, position: undefined } : { seq: meta.indexedSeq + 1, position: meta.position },
  );
  let lastAtMs = meta.indexedAtMs;
  for await (const { ordinal, batch } of replay) {
    for (const record of batch.records) {
      if (record.seq < meta.openFrom && record.seq <= meta.indexedSeq) continue;
      const entry = decodeEntry(record.address, record.bytes);
      unsent.follow(entry);
      lastAtMs = Math.max(lastAtMs, entry.atMs);
      follower.lastEpoch = entry.epoch;
    }
    if (batch.records.at(-1)!.seq <= meta.indexedSeq) continue;
    follower.take(chunkOf(ordinal, batch, lastAtMs));
    if (follower.pending >= windowEntries) await follower.catchUp();
  }
  const log = await openedLog.ready({
    knownSeq: Math.max(meta.indexedSeq, firstSeq - 1),
    lastAtMs,
    written(written) {
      for (const entry of written.entries) unsent.follow(entry);
      follower.lastEpoch = written.entries.at(-1)!.epoch;
      // Its entries are not kept: they would be in memory until they are indexed.
      const { ordinal, offset, bytes, firstSeq, addresses, starts, lastAtMs } = written;
      follower.take({ ordinal, offset, bytes, firstSeq, addresses, starts, lastAtMs });
    },
  });
  try {
    await follower.catchUp();
  } catch (error) {
    follower.stop();
    await log.close();
    throw error;
  }
  return writing({ dir, log, index, base, lock, unsent, follower });
}

async function seedIndex(index: StateIndex, base: StateBase): Promise<void> {
  let after: string | undefined;
  for (;;) {
    const page = base.page("", after, pageEntries);
    if (page.length === 0) return;
    await index.seed(page);
    after = page.at(-1)!.address;
  }
}

const chunkOf = (ordinal: number, { offset, bytes, records }: Batch, lastAtMs: number): Chunk => ({
  ordinal,
  offset,
  bytes,
  firstSeq: records[0]!.seq,
  addresses: records.map(({ address }) => address),
  starts: records.map((record) => record.offset - offset),
  lastAtMs,
});

/** Keeps the index at most a second behind the log, in steps that leave the event loop to others. */
interface IndexFollower {
  take(chunk: Chunk): void;
  /** Resolves when all that was taken before is in the index. */
  catchUp(): Promise<void>;
  /** Resolves soon, or with the index when too much waits for it. */
  room(): Promise<void>;
  /** The newest entry of that actor that waits to be indexed, without its address; null when the actor is gone by it. */
  newest(address: string): Uint8Array | null | undefined;
  /** Entries that wait. */
  readonly pending: number;
  lastEpoch: number;
  stop(): void;
}

function indexFollower(
  { index, clock, unsent, meta }: {
    readonly index: StateIndex;
    readonly clock: Clock;
    readonly unsent: UnsentMark;
    readonly meta: IndexMeta;
  },
): IndexFollower {
  let chunks: Chunk[] = [];
  let takenEntries = 0;
  let indexedEntries = 0;
  let pendingBytes = 0;
  let running: Promise<void> | undefined;
  let cancel: (() => void) | undefined;
  let stopped = false;

  /** The next chunks of one segment, up to a window's worth of entries. */
  const nextWindow = (): Chunk[] => {
    let count = 0;
    let entries = 0;
    for (const { ordinal, addresses } of chunks) {
      if (ordinal !== chunks[0]!.ordinal || entries >= windowEntries) break;
      count++;
      entries += addresses.length;
    }
    return chunks.slice(0, count);
  };

  const run = async (): Promise<void> => {
    // What is taken meanwhile waits for the next time: the more an actor does between two, the less there is to write.
    const target = takenEntries;
    while (indexedEntries < target) {
      const window = nextWindow();
      const last = window.at(-1)!;
      const indexedSeq = last.firstSeq + last.addresses.length - 1;
      await index.add(window, {
        format: meta.format,
        indexedSeq,
        indexedAtMs: last.lastAtMs,
        position: positionOf(last.ordinal, last.offset + last.bytes.length),
        lastEpoch: follower.lastEpoch,
        mark: unsent.mark,
        openFrom: unsent.openFrom,
      });
      chunks = chunks.slice(window.length);
      for (const { addresses, bytes } of window) {
        indexedEntries += addresses.length;
        pendingBytes -= bytes.length;
      }
    }
  };
  const start = (): Promise<void> => {
    cancel?.();
    cancel = undefined;
    running ??= run().catch((error) => {
      throw asFault(error, "Cannot index the states");
    }).finally(() => {
      running = undefined;
      if (indexedEntries < takenEntries) startLater();
    });
    return running;
  };
  const startLater = (): void => {
    // A failure is told to whoever waits for the index; the next try is made after the same delay.
    if (!stopped) cancel ??= clock.at(clock.now() + indexDelayMs, () => void start().catch(() => undefined));
  };

  const follower: IndexFollower = {
    take(chunk) {
      chunks.push(chunk);
      takenEntries += chunk.addresses.length;
      pendingBytes += chunk.bytes.length;
      if (running === undefined) startLater();
    },
    async catchUp() {
      const target = takenEntries;
      while (indexedEntries < target) await start();
    },
    async room() {
      // Whether or not that succeeds, what was committed is durable.
      if (pendingBytes > pendingBytesMax) await start().catch(() => undefined);
    },
    newest(address) {
      for (let at = chunks.length - 1; at >= 0; at--) {
        const { bytes, addresses, starts } = chunks[at]!;
        const found = addresses.lastIndexOf(address);
        if (found >= 0) return isGoneAt(bytes, starts[found]!) ? null : entryBytesAt(bytes, starts[found]!);
      }
      return undefined;
    },
    get pending() {
      return takenEntries - indexedEntries;
    },
    lastEpoch: meta.lastEpoch,
    stop() {
      stopped = true;
      cancel?.();
      cancel = undefined;
    },
  };
  return follower;
}

/** What readers and the writer have in common. */
interface Sources {
  readonly index: StateIndex;
  readonly base: StateBase;
  readonly log: StateLog;
  /** Brings the index up to what is durable. */
  ready(): Promise<void>;
  lastSeq(): number;
}

function reading({ index, base, log, ready, lastSeq }: Sources): Omit<States, "commit" | "prune" | "close"> {
  const firstSeq = (): number => base.firstSeq();

  async function bounds(): Promise<{ firstSeq: number; lastSeq: number; bytes: number }> {
    let bytes = 0;
    for (const segment of await log.segments()) bytes += segment.bytes;
    return { firstSeq: firstSeq(), lastSeq: lastSeq(), bytes };
  }

  /** Entries at these places, oldest first; those in segments that are dropped meanwhile are left out. */
  async function* entriesAt(places: readonly Location[]): AsyncGenerator<Entry> {
    for (let from = 0; from < places.length; from += pageEntries) {
      const page = places.slice(from, from + pageEntries);
      let records = await log.read(page);
      while (records === undefined) records = await log.read(page.filter(({ seq }) => seq >= firstSeq()));
      for (const record of records) yield decodeEntry(record.address, record.bytes);
    }
  }

  async function* fromLog(prefix: string, afterSeq: number, toSeq: number): AsyncGenerator<Entry> {
    if (afterSeq >= toSeq) return;
    for await (const { batch } of log.scan(afterSeq + 1)) {
      for (const record of batch.records) {
        if (record.seq <= afterSeq || record.seq > toSeq || !record.address.startsWith(prefix)) continue;
        yield decodeEntry(record.address, record.bytes);
      }
      if (batch.records.at(-1)!.seq >= toSeq) return;
    }
  }

  /** Places of entries under the prefix in that range, or undefined when there are too many. */
  async function placesUnder(prefix: string, afterSeq: number, toSeq: number): Promise<Location[] | undefined> {
    const places: Location[] = [];
    let after: readonly [string, number] | undefined;
    for (;;) {
      const page = index.rows(prefix, after, pageEntries);
      for (const row of page) {
        for (const place of locationsOf(row)) if (place.seq > afterSeq && place.seq <= toSeq) places.push(place);
      }
      if (page.length < pageEntries) break;
      if (places.length > placesMax) return undefined;
      after = [page.at(-1)!.address, page.at(-1)!.firstSeq];
      await setImmediate();
    }
    return places.sort((a, b) => a.seq - b.seq);
  }

  async function* historyOf(address: string, afterSeq: number, toSeq: number): AsyncGenerator<Entry> {
    // The row that holds the first entry wanted may begin before it.
    let next = index.lastRow(address, afterSeq)?.firstSeq;
    let cursor = next === undefined ? afterSeq : next - 1;
    for (;;) {
      const rows: HistoryRow[] = index.rowsOf(address, cursor, 16);
      const places = rows.flatMap(locationsOf).filter(({ seq }) => seq > afterSeq && seq <= toSeq);
      yield* entriesAt(places);
      next = rows.at(-1)?.firstSeq;
      if (next === undefined || next > toSeq || rows.length < 16) return;
      cursor = next;
    }
  }

  /** The next actors of a cut after `after`, as places in the log or as entries of the base. */
  function cutPage(seq: number, prefix: string, after: string | undefined) {
    const found = new Map<string, Location | undefined>();
    const rows = index.rows(prefix, after === undefined ? undefined : [after, Number.MAX_VALUE], pageEntries);
    for (const row of rows) {
      if (row.firstSeq <= seq) found.set(row.address, lastLocation(row, seq));
      else if (!found.has(row.address)) found.set(row.address, undefined);
    }
    let end: string | undefined;
    if (rows.length === pageEntries) {
      // The rows of the last actor go on behind this page.
      end = rows.at(-1)!.address;
      const last = index.lastRow(end, seq);
      found.set(end, last === undefined ? undefined : lastLocation(last, seq));
    }
    const kept = base.page(prefix, after, pageEntries);
    if (kept.length === pageEntries && (end === undefined || kept.at(-1)!.address < end)) end = kept.at(-1)!.address;
    const page: { address: string; place?: Location; bytes?: Uint8Array }[] = [];
    for (const [address, place] of found) {
      if ((end === undefined || address <= end) && place !== undefined) page.push({ address, place });
    }
    for (const { address, bytes } of kept) {
      if ((end === undefined || address <= end) && found.get(address) === undefined) page.push({ address, bytes });
    }
    page.sort((a, b) => (a.address < b.address ? -1 : 1));
    return { page, end };
  }

  return {
    async tail(isInternal): Promise<Tail> {
      await ready();
      const meta = index.meta();
      if (meta === undefined) return { lastSeq: 0, lastEpoch: 0, unsent: [] };
      const said: Tail["unsent"][number][] = [];
      for await (const entry of fromLog("", meta.openFrom - 1, meta.indexedSeq)) {
        for (const message of entry.said) if (isInternal(message.to)) said.push({ ...message, from: entry.address });
      }
      const unsent = said.filter(({ id }) => isAfter(placeOf(id) ?? meta.mark, meta.mark));
      return { lastSeq: meta.indexedSeq, lastEpoch: meta.lastEpoch, unsent };
    },
    get(address) {
      const bytes = index.get(address);
      return Promise.resolve(bytes === undefined ? undefined : decodeEntry(address, bytes));
    },
    async *current(prefix = "") {
      await ready();
      let after: string | undefined;
      for (;;) {
        const page = index.current(prefix, after, pageEntries);
        for (const { address, bytes } of page) yield decodeEntry(address, bytes);
        if (page.length < pageEntries) return;
        after = page.at(-1)!.address;
        await setImmediate();
      }
    },
    async *history(address, range = {}) {
      await ready();
      const afterSeq = Math.max(range.afterSeq ?? 0, firstSeq() - 1);
      const toSeq = Math.min(range.toSeq ?? Infinity, lastSeq());
      let left = range.limit ?? Infinity;
      if (left <= 0 || afterSeq >= toSeq) return;
      let entries: AsyncIterable<Entry>;
      if (!address.endsWith("/")) entries = historyOf(address, afterSeq, toSeq);
      else {
        const places = lastSeq() - afterSeq <= scanEntries ? undefined : await placesUnder(address, afterSeq, toSeq);
        entries = places === undefined ? fromLog(address, afterSeq, toSeq) : entriesAt(places);
      }
      for await (const entry of entries) {
        yield entry;
        if (--left <= 0) return;
      }
    },
    async *cut(seq, prefix = "") {
      checkCut(seq, firstSeq(), lastSeq());
      await ready();
      let after: string | undefined;
      for (;;) {
        const { page, end } = cutPage(seq, prefix, after);
        const places = page.flatMap(({ place }) => (place === undefined || place.gone ? [] : [place]));
        const records = await log.read(places);
        checkCut(seq, firstSeq(), lastSeq());
        // A segment was dropped while it was read: its entries are in the base by now.
        if (records === undefined) continue;
        let next = 0;
        for (const { address, place, bytes } of page) {
          if (bytes !== undefined) yield decodeEntry(address, bytes);
          else if (!place!.gone) yield decodeEntry(address, records[next++]!.bytes);
        }
        if (end === undefined) return;
        after = end;
        await setImmediate();
      }
    },
    bounds,
  };
}

function writing(
  { dir, log, index, base, lock, unsent, follower }: {
    readonly dir: string;
    readonly log: WritableLog;
    readonly index: StateIndex;
    readonly base: StateBase;
    readonly lock: StoreLock;
    readonly unsent: UnsentMark;
    readonly follower: IndexFollower;
  },
): States {
  let closing: Promise<void> | undefined;
  let pruning: Promise<unknown> = Promise.resolve();
  const isOpen = (): void => {
    if (closing !== undefined) {
      throw new Fault("CANCELLED", `Cannot use the store ${dir} as it must be open: it is closed`);
    }
  };
  const read = reading({ index, base, log, ready: () => follower.catchUp(), lastSeq: () => log.lastSeq });

  /** Moves what the oldest segment alone tells to the base, then drops it. */
  const dropOldest = async (nextFirstSeq: number): Promise<void> => {
    // First of all, so that no cut is begun that needs what is forgotten now.
    if (base.firstSeq() < nextFirstSeq) await base.setFirstSeq(nextFirstSeq);
    const [oldest] = await log.segments();
    const last = new Map<string, { readonly gone: boolean; readonly bytes: Uint8Array }>();
    for await (const { ordinal, batch } of log.scan(oldest!.firstSeq)) {
      if (ordinal !== oldest!.ordinal) break;
      for (const { address, gone, bytes } of batch.records) last.set(address, { gone, bytes });
    }
    const actors = Array.from(last, ([address, { gone, bytes }]) => ({ address, bytes: gone ? undefined : bytes }));
    const slices = Array.from(
      { length: Math.ceil(actors.length / pageEntries) },
      (_, slice) => actors.slice(slice * pageEntries, (slice + 1) * pageEntries),
    );
    for (const slice of slices) {
      await base.put(slice);
      await setImmediate();
    }
    await base.flushed();
    for (const slice of slices) {
      await index.forget(slice.map(({ address }) => address), nextFirstSeq);
      await setImmediate();
    }
    await log.dropFirst();
  };

  const prune: States["prune"] = async ({ beforeMs, bytesMax }) => {
    await follower.catchUp();
    for (;;) {
      isOpen();
      const segments = await log.segments();
      const next = segments[1];
      const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0);
      // A drop that a crash interrupted is finished first. What may be unsent is kept, whatever its age.
      const begun = next !== undefined && next.firstSeq <= base.firstSeq();
      const old = next !== undefined && (bytes > bytesMax || next.previousAtMs < beforeMs) &&
        next.firstSeq <= unsent.openFrom && next.firstSeq <= (index.meta()?.indexedSeq ?? 0);
      if (!begun && !old) return { firstSeq: base.firstSeq(), bytes };
      await dropOldest(next!.firstSeq);
    }
  };

  return {
    ...read,
    async commit(entries) {
      isOpen();
      await log.commit(entries);
      await follower.room();
    },
    tail(isInternal) {
      unsent.narrow(isInternal as (to: Address) => boolean);
      return read.tail(isInternal);
    },
    async get(address) {
      const newest = follower.newest(address);
      if (newest === undefined) return await read.get(address);
      return newest === null ? undefined : decodeEntry(address, newest);
    },
    prune(limits) {
      const result = pruning.then(() => prune(limits));
      pruning = result.catch(() => undefined);
      return result;
    },
    close() {
      closing ??= (async () => {
        await pruning;
        await log.close();
        await follower.catchUp().finally(async () => {
          follower.stop();
          await index.close();
          await base.close();
          await lock.release();
        });
      })();
      return closing;
    },
  };
}
