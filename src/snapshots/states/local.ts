/**
 * States in a folder of one machine. What is on disk, all of it written by one process at a time:
 *
 * ```
 * format                "scoot-actors states 1"
 * lock.<n>              the process that writes: id, boot, start time; empty when there is none
 * log/0000000001.seg    the truth: checksummed batches of entries, appended (the format is in segment.ts)
 * base/                 LMDB; what dropped segments leave behind: firstSeq, and the entry at which each actor stood there
 * index/                LMDB; where the newest entry of each actor lies in the log, and where all of them do
 * ```
 *
 * - A commit is one batch in the log. Commits that overlap share one write that is synced; nothing else is on their
 *   way. (Of a store that is flushed later, the log is synced before what is in it is indexed.) The index follows in bulk, within a second, and may be deleted while no process has the store open: it is
 *   made again from the log.
 * - A log that ends in a torn batch is cut there when it is opened. Damage to what is known to have been durable is
 *   `STORE_CORRUPT`, with segment and offset, when the log is opened or when it is read.
 * - Reading processes see what is indexed, and what the log has beyond it (tail.ts). A value of the base is an entry as in the log, a CBOR array without its
 *   address; one of the index is 20-byte places (f64 seq, f64 segment·2^32 + offset, u32 payload bytes with the top bit
 *   set for an actor that is gone). The keys are the address, and in the history the address and the first seq of a row
 *   of places. Who has an entry in the base and no current place is where the base says, unless the history knows better.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { asFault, Fault } from "../../domain/fault.ts";
import type { Address } from "../../domain/ids.ts";
import type { Clock } from "../../runtime/clock.ts";
import { claimFormat } from "../store_format.ts";
import { checkCut, decodeEntry, decodeStanding, isAfter, placeOf, type UnsentMark, unsentMark } from "./entry_codec.ts";
import { lockStore, type StoreLock } from "./lock.ts";
import { type FlushTime, type OpenedLog, openLog, readLog, type StateLog, type WritableLog } from "./log.ts";
import { type Batch, logFormat, type LogRecord } from "./segment.ts";
import {
  addSteps,
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
  type Steps,
  stepsOf,
} from "./state_index.ts";
import type { Entry, States, Tail } from "./states.ts";
import { logTail } from "./tail.ts";

export interface LocalStatesOptions {
  /** The folder of the store; made when it is not there. */
  readonly dir: string;
  /** Says when the index follows. */
  readonly clock: Clock;
  /** Opens a store that another process may be writing, to read what it has indexed; false by default. */
  readonly readOnly?: boolean;
  /** A new segment is begun before one grows longer than this: what `prune` forgets at once. 16 MiB by default. */
  readonly segmentBytes?: number;
  /**
   * Whether commits are flushed before they resolve, or within a second: the death of this process loses nothing then,
   * a loss of power what was committed in that second. For who has that made again. "first" by default.
   */
  readonly flush?: FlushTime;
}

const indexDelayMs = 500;
/** So many entries that wait go into the index at once: of an actor that did much there is one row. */
const windowEntries = 20_000;
/** Commits wait for the index when so many entries wait for it, some 150 bytes of memory each. */
const pendingEntriesMax = 100_000;
const pageEntries = 256;
/** Actors are read from the log so many at a time, and so many bytes. */
const pageActors = 1024;
const pageBytesMax = 4 * 1024 * 1024;
/** Decoded between two looks at the event loop: some ms. */
const yieldActors = 256;
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
  const tail = logTail({ dir, index, log });
  const refuse = (): Promise<never> =>
    Promise.reject(
      new Fault("REQUEST_INVALID", `Cannot write to ${dir} as it must be open for writing: it is open for reading`),
    );
  return {
    ...reading({
      index,
      base,
      log,
      ready: () => Promise.resolve(),
      look: tail.refresh,
      waiting: tail.waiting,
      beyond: (prefix) => ({ indexedSeq: tail.indexedSeq(), places: tail.waitingUnder(prefix) }),
      lastSeq: tail.lastSeq,
    }),
    async news(afterSeq) {
      await tail.refresh();
      return { lastSeq: tail.lastSeq(), addresses: tail.addressesAfter(afterSeq) };
    },
    commit: refuse,
    prune: refuse,
    async close() {
      await tail.close();
      await log.close();
      await index.close();
      await base.close();
    },
  };
}

async function openForWriting(options: LocalStatesOptions): Promise<States> {
  const { dir, clock, segmentBytes = 16 * 1024 * 1024, flush } = options;
  claimFormat(dir, "states", logFormat);
  const lock = await lockStore(dir);
  const opened: { close(): Promise<void> }[] = [{ close: () => lock.release() }];
  try {
    const base = openBase(dir, false);
    opened.push(base);
    const log = await openLog(dir, segmentBytes, flush);
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
  if (meta !== undefined && meta.indexedSeq < oldest - 1) {
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
  /** What was written before this process is flushed when the log is opened for writing. */
  let flush = (): Promise<void> => Promise.resolve();
  const follower = indexFollower({ index, clock, unsent, meta, flush: () => flush() });
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
      follower.take(written);
    },
  });
  flush = log.flush;
  try {
    await follower.catchUp();
  } catch (error) {
    follower.stop();
    await log.close();
    throw error;
  }
  return writing({ dir, log, index, base, lock, unsent, follower });
}

function chunkOf(ordinal: number, { offset, bytes, records }: Batch, lastAtMs: number): Chunk {
  const start = positionOf(ordinal, 0);
  return {
    records: records.map(({ address, seq, offset, payloadBytes, gone }) => {
      return { address, seq, position: start + offset, payloadBytes, gone };
    }),
    end: start + offset + bytes.length,
    lastAtMs,
  };
}

/** Keeps the index at most a second behind the log, in steps that leave the event loop to others. */
interface IndexFollower {
  take(chunk: Chunk): void;
  /** Resolves when all that was taken before is in the index. */
  catchUp(): Promise<void>;
  /** Resolves soon, or with the index when too much waits for it. */
  room(): Promise<void>;
  /** Where the entries of that actor lie that wait to be indexed, oldest first. */
  waiting(address: string): Location[];
  /** Entries that wait. */
  readonly pending: number;
  lastEpoch: number;
  stop(): void;
}

function indexFollower(
  { index, clock, unsent, meta, flush }: {
    readonly index: StateIndex;
    readonly clock: Clock;
    readonly unsent: UnsentMark;
    readonly meta: IndexMeta;
    /** Of the log: an index knows of nothing that a loss of power takes. */
    readonly flush: () => Promise<void>;
  },
): IndexFollower {
  /** What waits, and how far the index has come with it. */
  interface Window {
    readonly steps: Steps;
    readonly entries: number;
    readonly meta: IndexMeta;
  }
  let steps: Steps = new Map();
  let last: Chunk | undefined;
  /** On its way into the index, until it is there. */
  let window: Window | undefined;
  let takenEntries = 0;
  let indexedEntries = 0;
  let running: Promise<void> | undefined;
  let cancel: (() => void) | undefined;
  let stopped = false;

  const closeWindow = (): Window => {
    const closed: Window = {
      steps,
      entries: takenEntries - indexedEntries,
      meta: {
        format: meta.format,
        indexedSeq: last!.records.at(-1)!.seq,
        indexedAtMs: last!.lastAtMs,
        position: last!.end,
        lastEpoch: follower.lastEpoch,
        mark: unsent.mark,
        openFrom: unsent.openFrom,
      },
    };
    steps = new Map();
    return closed;
  };

  const run = async (): Promise<void> => {
    // What is taken meanwhile waits for the next time: the more an actor does between two, the less there is to write.
    const target = takenEntries;
    while (indexedEntries < target) {
      window ??= closeWindow();
      await flush();
      await index.add(window.steps, window.meta);
      indexedEntries += window.entries;
      window = undefined;
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
      addSteps(steps, chunk);
      last = chunk;
      takenEntries += chunk.records.length;
      if (running !== undefined) return;
      if (follower.pending >= windowEntries) void start().catch(() => undefined);
      else startLater();
    },
    async catchUp() {
      const target = takenEntries;
      while (indexedEntries < target) await start();
    },
    async room() {
      // Whether or not that succeeds, what was committed is durable.
      if (follower.pending > pendingEntriesMax) await start().catch(() => undefined);
    },
    waiting: (address) => [...(window === undefined ? [] : stepsOf(window.steps, address)), ...stepsOf(steps, address)],
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
  /** Brings the index up to what is durable, where this process writes it. */
  ready(): Promise<void>;
  /** Sees what another process has written meanwhile. */
  look(): Promise<void>;
  /** Where the entries of that actor lie that are not in the index yet, oldest first. */
  waiting(address: string): Location[];
  /** The same of all actors under a prefix, and how far the index has come; undefined: `ready` brings it up to all. */
  beyond(prefix: string): Beyond | undefined;
  lastSeq(): number;
}

/** What the index does not have. */
interface Beyond {
  readonly indexedSeq: number;
  /** Of each actor oldest first. */
  readonly places: ReadonlyMap<string, readonly Location[]>;
}

function reading(
  { index, base, log, ready, look, waiting, beyond, lastSeq }: Sources,
): Omit<States, "commit" | "prune" | "close" | "news"> {
  const firstSeq = (): number => base.firstSeq();

  async function bounds(): Promise<{ firstSeq: number; lastSeq: number; bytes: number }> {
    await look();
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
    const found = new Set(places.map(({ seq }) => seq));
    for (const later of beyond(prefix)?.places.values() ?? []) {
      for (const place of later) {
        if (place.seq > afterSeq && place.seq <= toSeq && !found.has(place.seq)) places.push(place);
      }
    }
    return places.sort((a, b) => a.seq - b.seq);
  }

  /** Does not wait for the index: what is not in it yet comes last. */
  async function* historyOf(address: string, afterSeq: number, toSeq: number): AsyncGenerator<Entry> {
    const isWanted = ({ seq }: Location): boolean => seq > afterSeq && seq <= toSeq;
    const later = waiting(address);
    const indexedTo = Math.min(toSeq, (later[0]?.seq ?? Infinity) - 1);
    // The row that holds the first entry wanted may begin before it.
    let next = index.lastRow(address, afterSeq)?.firstSeq;
    let cursor = next === undefined ? afterSeq : next - 1;
    for (;;) {
      const rows: HistoryRow[] = index.rowsOf(address, cursor, 16);
      yield* entriesAt(rows.flatMap(locationsOf).filter((place) => isWanted(place) && place.seq <= indexedTo));
      next = rows.at(-1)?.firstSeq;
      if (next === undefined || next > indexedTo || rows.length < 16) break;
      cursor = next;
    }
    yield* entriesAt(later.filter(isWanted));
  }

  /** Who comes next, with the place in the log or the entry of the base; `end`: more may come after that address. */
  interface Page {
    readonly actors: { readonly address: string; readonly place?: Location; readonly bytes?: Uint8Array }[];
    readonly end: string | undefined;
  }
  const inOrder = (actors: Page["actors"]): Page["actors"] => actors.sort((a, b) => (a.address < b.address ? -1 : 1));

  /** Where that actor stands that has no current place; a place that is gone, or undefined, when it is not there. */
  function standsInBase(address: string): Location | Uint8Array | undefined {
    const bytes = base.get(address);
    const row = bytes === undefined ? undefined : index.lastRow(address, Number.MAX_VALUE);
    return row === undefined ? bytes : lastLocation(row, Number.MAX_VALUE);
  }

  /** The entry of that actor in a cut. */
  async function entryAt(address: string, seq: number): Promise<Entry | undefined> {
    for (;;) {
      checkCut(seq, firstSeq(), lastSeq());
      const row = index.lastRow(address, seq);
      const found = waiting(address).findLast((place) => place.seq <= seq) ??
        (row === undefined ? undefined : lastLocation(row, seq)) ?? base.get(address);
      if (found instanceof Uint8Array) return decodeEntry(address, found);
      if (found === undefined || found.gone) return undefined;
      const record = (await log.read([found]))?.[0];
      if (record !== undefined) return decodeEntry(address, record.bytes);
    }
  }

  /** The next actors that are not gone after `after`. */
  function currentPage(prefix: string, after: string | undefined): Page {
    const placed = index.current(prefix, after, pageActors);
    const kept = base.addresses(prefix, after, pageActors);
    const ends = [placed.at(-1)?.address, kept.at(-1)].filter((_, which) =>
      [placed, kept][which]!.length === pageActors
    ) as string[];
    const end = ends.sort()[0];
    const known = new Set(placed.map(({ address }) => address));
    const actors: Page["actors"] = placed;
    for (const address of kept) {
      if (known.has(address)) continue;
      const found = standsInBase(address);
      if (found instanceof Uint8Array) actors.push({ address, bytes: found });
      else if (found !== undefined && !found.gone) actors.push({ address, place: found });
    }
    return { actors: inOrder(end === undefined ? actors : actors.filter(({ address }) => address <= end)), end };
  }

  /** The next actors of a cut after `after`. */
  function cutPage(seq: number, prefix: string, after: string | undefined): Page {
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
    const isHere = (address: string): boolean => end === undefined || address <= end;
    const actors: Page["actors"] = [];
    for (const [address, place] of found) {
      if (isHere(address) && place !== undefined && !place.gone) actors.push({ address, place });
    }
    for (const { address, bytes } of kept) {
      if (isHere(address) && found.get(address) === undefined) actors.push({ address, bytes });
    }
    return { actors: inOrder(actors), end };
  }

  /** The beginning of a page, so that its entries in the log are not too long to be read at once. */
  function firstOf({ actors, end }: Page): Page {
    let bytes = 0;
    const over = actors.findIndex(({ place }, at) => (bytes += place?.payloadBytes ?? 0) > pageBytesMax && at > 0);
    return over < 0 ? { actors, end } : { actors: actors.slice(0, over), end: actors[over - 1]!.address };
  }

  /** @param check is called at the beginning, and before anything of a page is given. */
  async function* pagesOf<T>(
    pageAfter: (after: string | undefined) => Page,
    decode: (address: string, bytes: Uint8Array) => T,
    check: () => void = () => {},
    start?: string,
  ): AsyncGenerator<T[]> {
    check();
    await ready();
    let after = start;
    for (;;) {
      const { actors, end } = firstOf(pageAfter(after));
      const records = await log.read(actors.flatMap(({ place }) => (place === undefined ? [] : [place])));
      check();
      // A segment was dropped while it was read: its entries are in the base by now.
      if (records === undefined) continue;
      let next = 0;
      for (let from = 0; from < actors.length; from += yieldActors) {
        yield actors.slice(from, from + yieldActors)
          .map(({ address, bytes }) => decode(address, bytes ?? records[next++]!.bytes));
        await setImmediate();
      }
      if (end === undefined) return;
      after = end;
    }
  }
  async function* each<T>(pages: AsyncIterable<readonly T[]>): AsyncGenerator<T> {
    for await (const page of pages) yield* page;
  }

  /**
   * Actors as they were after entry `seq`, from the index as far as it has come, and from what lies beyond it.
   *
   * @param indexed what the index tells of the actors after an address.
   */
  async function* asOf(
    seq: number,
    prefix: string,
    start: string | undefined,
    indexed: (seq: number) => AsyncIterable<readonly Entry[]>,
  ): AsyncGenerator<Entry> {
    const { indexedSeq, places } = beyond(prefix) ?? { indexedSeq: seq, places: new Map<string, Location[]>() };
    const later: { readonly address: string; readonly place: Location }[] = [];
    for (const [address, those] of places) {
      const place = those.findLast((one) => one.seq <= seq);
      if (place !== undefined && (start === undefined || address > start)) later.push({ address, place });
    }
    later.sort((a, b) => (a.address < b.address ? -1 : 1));
    let at = 0;
    let page: (Entry | undefined)[] = [];
    let pageFrom = 0;
    /** Of those that lie beyond the index, asked for one after the other. Undefined: it is gone. */
    const entryOf = async (index: number): Promise<Entry | undefined> => {
      if (index >= pageFrom + page.length) {
        const wanted = later.slice(index, index + pageEntries).map(({ place }) => place);
        const records = await log.read(wanted.filter(({ gone }) => !gone));
        let next = 0;
        page = records === undefined
          // They were indexed meanwhile, and their segment was dropped.
          ? await Promise.all(later.slice(index, index + pageEntries).map(({ address }) => entryAt(address, seq)))
          : wanted.map(({ gone }) => {
            if (gone) return undefined;
            const { address, bytes } = records[next++]!;
            return decodeEntry(address, bytes);
          });
        pageFrom = index;
      }
      return page[index - pageFrom];
    };
    for await (const entry of each(indexed(Math.min(seq, indexedSeq)))) {
      for (; at < later.length && later[at]!.address < entry.address; at++) {
        const born = await entryOf(at);
        if (born !== undefined) yield born;
      }
      if (later[at]?.address === entry.address) {
        const newer = await entryOf(at++);
        if (newer !== undefined) yield newer;
      } else yield entry;
    }
    for (; at < later.length; at++) {
      const born = await entryOf(at);
      if (born !== undefined) yield born;
    }
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
    async get(address, seq) {
      if (seq !== undefined) return await entryAt(address, seq);
      await look();
      for (;;) {
        const found = waiting(address).at(-1) ?? index.get(address) ?? standsInBase(address);
        if (found instanceof Uint8Array) return decodeEntry(address, found);
        if (found === undefined || found.gone) return undefined;
        const record = (await log.read([found]))?.[0];
        if (record !== undefined) return decodeEntry(address, record.bytes);
      }
    },
    async *current(prefix = "") {
      await look();
      yield* asOf(lastSeq(), prefix, undefined, () => pagesOf((after) => currentPage(prefix, after), decodeEntry));
    },
    standing: (prefix = "") => pagesOf((after) => currentPage(prefix, after), decodeStanding),
    async addresses(afterSeq, toSeq) {
      const found: Address[] = [];
      const from = Math.max(afterSeq, firstSeq() - 1);
      const end = Math.min(toSeq, lastSeq());
      if (from >= end) return found;
      for await (const { batch } of log.scan(from + 1)) {
        for (const { seq, address } of batch.records) if (seq > from && seq <= end) found.push(address as Address);
        if (batch.records.at(-1)!.seq >= end) break;
      }
      return found;
    },
    async *history(address, range = {}) {
      if (range.toSeq === undefined) await look();
      const afterSeq = Math.max(range.afterSeq ?? 0, firstSeq() - 1);
      const toSeq = Math.min(range.toSeq ?? Infinity, lastSeq());
      let left = range.limit ?? Infinity;
      if (left <= 0 || afterSeq >= toSeq) return;
      let entries: AsyncIterable<Entry>;
      if (address === "") entries = fromLog("", afterSeq, toSeq);
      else if (!address.endsWith("/")) entries = historyOf(address, afterSeq, toSeq);
      else if (lastSeq() - afterSeq <= scanEntries) entries = fromLog(address, afterSeq, toSeq);
      else {
        await ready();
        const places = await placesUnder(address, afterSeq, toSeq);
        entries = places === undefined ? fromLog(address, afterSeq, toSeq) : entriesAt(places);
      }
      for await (const entry of entries) {
        yield entry;
        if (--left <= 0) return;
      }
    },
    async *cut(seq, prefix = "", start) {
      const check = (): void => checkCut(seq, firstSeq(), lastSeq());
      yield* asOf(
        seq,
        prefix,
        start,
        (indexed) => pagesOf((after) => cutPage(indexed, prefix, after), decodeEntry, check, start),
      );
    },
    async seqAt(atMs) {
      const segments = await log.segments();
      const segment = segments.findLast(({ previousAtMs }) => previousAtMs <= atMs) ?? segments[0];
      if (segment === undefined) return lastSeq();
      const isLater = ({ address, bytes }: LogRecord): boolean => decodeEntry(address, bytes).atMs > atMs;
      let before: readonly LogRecord[] = [];
      for await (const { batch } of log.scan(Math.max(segment.firstSeq, firstSeq()))) {
        if (isLater(batch.records[0]!)) break;
        before = batch.records;
        if (isLater(before.at(-1)!)) break;
      }
      const last = before.find(isLater)?.seq ?? (before.at(-1)?.seq ?? Math.max(segment.firstSeq, firstSeq()) - 1) + 1;
      return last - 1;
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
  const read = reading({
    index,
    base,
    log,
    ready: () => follower.catchUp(),
    look: () => Promise.resolve(),
    waiting: follower.waiting,
    beyond: () => undefined,
    lastSeq: () => log.lastSeq,
  });

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
    await index.flushed(); // or, after a power cut, it would lead to what is not there
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
    async news(afterSeq) {
      if (afterSeq > log.lastSeq) return { lastSeq: log.lastSeq, addresses: [] };
      if (afterSeq < base.firstSeq() - 1 || log.lastSeq - afterSeq > scanEntries) {
        return { lastSeq: log.lastSeq, addresses: undefined };
      }
      const addresses: string[] = [];
      if (afterSeq < log.lastSeq) {
        for await (const { batch } of log.scan(afterSeq + 1)) {
          for (const { seq, address } of batch.records) if (seq > afterSeq) addresses.push(address);
        }
      }
      return { lastSeq: afterSeq + addresses.length, addresses };
    },
    async commit(entries) {
      isOpen();
      await log.commit(entries);
      await follower.room();
    },
    tail(isInternal) {
      unsent.narrow(isInternal as (to: Address) => boolean);
      return read.tail(isInternal);
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
