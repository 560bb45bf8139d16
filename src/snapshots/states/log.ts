import { Buffer } from "node:buffer";
import { constants, readdirSync, statSync } from "node:fs";
import { mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { asFault, Fault, isFault } from "../../domain/fault.ts";
import { invariant } from "../../domain/invariant.ts";
import { checkEntries, encodeEntry } from "./entry_codec.ts";
import { type FileHandle, readFully, syncDirectory, writeFully, writeFullySync } from "./files.ts";
import {
  type Batch,
  type BatchWriter,
  batchWriter,
  headerBytes,
  type LogRecord,
  ordinalOf,
  parseRecord,
  parseSegmentHeader,
  readBatches,
  recordBytes,
  segmentHeader,
  segmentName,
  wasDurable,
} from "./segment.ts";
import {
  type Chunk,
  type IndexRecord,
  type Location,
  offsetOfPosition,
  ordinalOfPosition,
  positionOf,
} from "./state_index.ts";
import type { Entry } from "./states.ts";

export interface Segment {
  readonly ordinal: number;
  readonly firstSeq: number;
  /** When the last entry before this segment was made. */
  readonly previousAtMs: number;
  /** Durable bytes, the header included. */
  readonly bytes: number;
}

/** What one write made durable: whole commits, in order. */
export interface Written extends Chunk {
  readonly entries: readonly Entry[];
}

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

/** What a scan of the log yields. */
export interface Scanned {
  readonly ordinal: number;
  readonly batch: Batch;
}

/** The segments of a store that is open for writing or reading. */
export interface StateLog {
  segments(): Promise<readonly Segment[]>;
  /** The batches from the one that holds `seq` on, as far as they are durable. @throws {Fault} `STORE_CORRUPT` */
  scan(seq: number): AsyncGenerator<Scanned>;
  /**
   * The records at these places, in that order; undefined when one of them lies in a segment that is gone.
   * @throws {Fault} `STORE_CORRUPT` with segment and offset.
   */
  read(locations: readonly Location[]): Promise<LogRecord[] | undefined>;
  /** Removes the oldest segment. */
  dropFirst(): Promise<void>;
  close(): Promise<void>;
}

export interface WritableLog extends StateLog {
  /** Group commit: see `States.commit`. */
  commit(entries: readonly Entry[]): Promise<void>;
  /** Resolves when a loss of power takes nothing of what was committed before. */
  flush(): Promise<void>;
  readonly lastSeq: number;
}

/** Whether a commit is flushed before it resolves, or by the next {@link WritableLog.flush}. */
export type FlushTime = "first" | "later";

const corrupt = (path: string, offset: number, found: string): Fault =>
  new Fault("STORE_CORRUPT", `Cannot read ${path} at offset ${offset} as it must hold a whole batch: ${found}`);

const readFilesMax = 64;

/** Open files of segments for reading, at most {@link readFilesMax} that nobody uses. */
function segmentFiles(dir: string) {
  const files = new Map<number, { file: Promise<FileHandle>; users: number; gone: boolean }>();
  const close = async (ordinal: number): Promise<void> => {
    const held = files.get(ordinal)!;
    files.delete(ordinal);
    await held.file.then((file) => file.close(), () => undefined);
  };
  return {
    /** Runs with the open file of a segment. */
    async use<T>(ordinal: number, run: (file: FileHandle) => Promise<T>): Promise<T> {
      let held = files.get(ordinal);
      if (held === undefined) held = { file: open(join(dir, segmentName(ordinal)), "r"), users: 0, gone: false };
      // The newest use is last in the map.
      else files.delete(ordinal);
      files.set(ordinal, held);
      held.users++;
      try {
        return await run(await held.file);
      } catch (error) {
        if ((error as { code?: string }).code === "ENOENT") held.gone = true;
        throw error;
      } finally {
        held.users--;
        if (held.users === 0 && held.gone && files.get(ordinal) === held) await close(ordinal);
        for (const [old, { users }] of files) {
          if (files.size <= readFilesMax) break;
          if (users === 0) await close(old);
        }
      }
    },
    /** Closes a file that will not be asked for again. */
    async forget(ordinal: number): Promise<void> {
      const held = files.get(ordinal);
      if (held === undefined) return;
      held.gone = true;
      if (held.users === 0) await close(ordinal);
    },
    /** The same for all of older segments, which were dropped: the disk has their room when nobody has them open. */
    async forgetBefore(ordinal: number): Promise<void> {
      for (const old of [...files.keys()]) {
        const held = files.get(old);
        if (old >= ordinal || held === undefined) continue;
        held.gone = true;
        if (held.users === 0) await close(old);
      }
    },
    async close(): Promise<void> {
      for (const ordinal of [...files.keys()]) await close(ordinal);
    },
  };
}

/**
 * @param known segments that another follows are as they were; they are added to it.
 * @returns the segments in the folder, in order; the last may have no whole header and then has no `firstSeq`.
 */
async function listSegments(
  dir: string,
  known = new Map<number, Segment>(),
): Promise<(Omit<Segment, "firstSeq"> & { firstSeq: number | undefined })[]> {
  const ordinals = (await readdir(dir)).map(ordinalOf).filter((ordinal) => ordinal !== undefined).sort((a, b) => a - b);
  const segments = [];
  for (const [index, ordinal] of ordinals.entries()) {
    const path = join(dir, segmentName(ordinal));
    if (ordinal !== ordinals[0]! + index) {
      throw corrupt(join(dir, segmentName(ordinals[0]! + index)), 0, "it is missing");
    }
    const isLast = index === ordinals.length - 1;
    const before = isLast ? undefined : known.get(ordinal);
    if (before !== undefined) {
      segments.push(before);
      continue;
    }
    const file = await open(path, "r");
    try {
      const header = parseSegmentHeader(await readFully(file, 0, headerBytes), path);
      if (header === undefined && !isLast) throw corrupt(path, 0, "its header is damaged");
      const { size } = await file.stat();
      segments.push({ ordinal, firstSeq: header?.firstSeq, previousAtMs: header?.previousAtMs ?? 0, bytes: size });
      if (header === undefined) continue;
      if (!isLast) known.set(ordinal, { ordinal, bytes: size, ...header });
    } finally {
      await file.close();
    }
  }
  return segments;
}

const runGapBytes = 16 * 1024;
const runBytesMax = 1024 * 1024;

/** Between two places of a segment that a scan may begin at. */
const markBytes = 64 * 1024;

/** @param isShared whether another process writes it: then its end may be a batch that is being written. */
function logReader(dir: string, segments: () => Promise<readonly Segment[]>, isShared: boolean) {
  const files = segmentFiles(dir);
  /** Where batches begin that were met: of each segment in order. */
  const marks = new Map<number, { readonly seq: number; readonly offset: number }[]>();
  const met = (ordinal: number, seq: number, offset: number): void => {
    const found = marks.get(ordinal);
    if (found === undefined) marks.set(ordinal, [{ seq, offset }]);
    else if (offset >= found.at(-1)!.offset + markBytes) found.push({ seq, offset });
  };
  const readRun = (run: readonly Location[], into: Map<number, LogRecord>): Promise<void> => {
    const ordinal = ordinalOfPosition(run[0]!.position);
    const start = offsetOfPosition(run[0]!.position);
    const last = run.at(-1)!;
    const end = offsetOfPosition(last.position) + recordBytes + last.payloadBytes;
    return files.use(ordinal, async (file) => {
      const bytes = await readFully(file, start, end - start);
      for (const { position, seq } of run) {
        const offset = offsetOfPosition(position);
        const record = parseRecord(bytes, offset - start, offset, seq);
        if (record === undefined) throw corrupt(join(dir, segmentName(ordinal)), offset, `entry ${seq} is damaged`);
        into.set(position, record);
      }
    });
  };
  return {
    files,
    met,
    async *scan(seq: number): AsyncGenerator<Scanned> {
      const all = await segments();
      for (const old of marks.keys()) if (old < (all[0]?.ordinal ?? 0)) marks.delete(old);
      const first = Math.max(0, all.findLastIndex(({ firstSeq }) => firstSeq <= seq));
      for (const { ordinal, bytes } of all.slice(first)) {
        // One that is dropped meanwhile stays readable while it is open, and is left out if it is not open yet.
        const path = join(dir, segmentName(ordinal));
        const file = await open(path, "r").catch((error) => {
          if (error.code === "ENOENT") return undefined;
          throw error;
        });
        if (file === undefined) continue;
        try {
          const from = marks.get(ordinal)?.findLast((mark) => mark.seq <= seq)?.offset ?? headerBytes;
          const batches = readBatches(file, from, bytes, seq);
          for (;;) {
            const next = await batches.next();
            if (!next.done) {
              met(ordinal, next.value.records[0]!.seq, next.value.offset);
              yield { ordinal, batch: next.value };
              continue;
            }
            const isWhole = next.value >= bytes;
            const isBeingWritten = isShared && ordinal === all.at(-1)!.ordinal;
            if (isWhole || (isBeingWritten && !(await wasDurable(file, next.value, bytes)))) break;
            throw corrupt(path, next.value, "it is damaged");
          }
        } finally {
          await file.close();
        }
      }
    },
    async read(locations: readonly Location[]): Promise<LogRecord[] | undefined> {
      const found = new Map<number, LogRecord>();
      const sorted = [...locations].sort((a, b) => a.position - b.position);
      try {
        // Neighbours are read at once.
        for (let from = 0, to = 1; from < sorted.length; from = to, to++) {
          let last = sorted[from]!;
          while (to < sorted.length) {
            const next = sorted[to]!;
            const gap = next.position - last.position - recordBytes - last.payloadBytes;
            if (gap > runGapBytes || next.position - sorted[from]!.position > runBytesMax) break;
            last = next;
            to++;
          }
          await readRun(sorted.slice(from, to), found);
        }
      } catch (error) {
        if ((error as { code?: string }).code === "ENOENT") return undefined;
        throw error;
      }
      return locations.map(({ position }) => found.get(position)!);
    },
  };
}

/** A log that another process writes. */
export interface SharedLog extends StateLog {
  /** A batch that was met there, so that a scan may begin with it. Of each segment in order. */
  met(ordinal: number, seq: number, offset: number): void;
}

/** For readers: the log as another process writes it. */
export function readLog(store: string): SharedLog {
  const dir = join(store, "log");
  /** Those that another follows. */
  const known = new Map<number, Segment>();
  let last: Segment | undefined;
  /** As they are now, when there is none that was not seen before; undefined: it must be looked. */
  const seen = (): readonly Segment[] | undefined => {
    const ordinals = readdirSync(dir).map(ordinalOf).filter((one) => one !== undefined).sort((a, b) => a - b);
    if (last === undefined || ordinals.at(-1) !== last.ordinal) return undefined;
    const found: Segment[] = [];
    for (const ordinal of ordinals.slice(0, -1)) {
      const segment = known.get(ordinal);
      if (segment === undefined) return undefined;
      found.push(segment);
    }
    return [...found, last = { ...last, bytes: statSync(join(dir, segmentName(last.ordinal))).size }];
  };
  const segments = async (): Promise<readonly Segment[]> => {
    const found = await listed();
    await files.forgetBefore(found[0]?.ordinal ?? 0);
    return found;
  };
  const listed = async (): Promise<readonly Segment[]> => {
    // A segment without a header is being made; one that vanishes meanwhile was dropped.
    for (;;) {
      try {
        const before = seen();
        if (before !== undefined) return before;
        const found = (await listSegments(dir, known)).filter((one): one is Segment => one.firstSeq !== undefined);
        for (const ordinal of known.keys()) if (ordinal < (found[0]?.ordinal ?? Infinity)) known.delete(ordinal);
        last = found.at(-1);
        return found;
      } catch (error) {
        if ((error as { code?: string }).code !== "ENOENT") throw error;
      }
    }
  };
  const { files, scan, read, met } = logReader(dir, segments, true);
  return {
    segments,
    met,
    scan,
    read,
    dropFirst: () => Promise.reject(new Error("a log open for reading")),
    close: () => files.close(),
  };
}

/** A log whose end has not been found yet. */
export interface OpenedLog {
  readonly segments: readonly Segment[];
  /**
   * The batches to the end of the log, checked, from the one at `position` on, which begins with `seq`; without a
   * position from the start of the segment that holds `seq`.
   */
  replay(from: { readonly seq: number; readonly position: number | undefined }): AsyncGenerator<Scanned>;
  /**
   * Cuts what is torn off the end, and opens the log for writing. Call it once `replay` is through.
   *
   * @param knownSeq the last entry that is known to have been durable. @param lastAtMs when the last entry was made.
   * @param written is told of every write, in order, before the commits in it resolve.
   * @throws {Fault} `STORE_CORRUPT` when the log does not reach `knownSeq`.
   */
  ready(
    options: { readonly knownSeq: number; readonly lastAtMs: number; readonly written: (written: Written) => void },
  ): Promise<WritableLog>;
}

/** @param store the folder of the store. @param segmentBytes a new segment is begun before one grows longer. */
export async function openLog(
  store: string,
  segmentBytes: number,
  flushTime: FlushTime = "first",
): Promise<OpenedLog> {
  const dir = join(store, "log");
  await mkdir(dir, { recursive: true });
  const pathOf = (ordinal: number): string => join(dir, segmentName(ordinal));
  const listed = await listSegments(dir);
  const last = listed.at(-1);
  if (last !== undefined && last.firstSeq === undefined) {
    const file = await open(pathOf(last.ordinal), "r");
    try {
      if (await wasDurable(file, 0, last.bytes)) throw corrupt(pathOf(last.ordinal), 0, "its header is damaged");
    } finally {
      await file.close();
    }
  }
  const segments = listed.filter((segment): segment is Segment => segment.firstSeq !== undefined);
  let end: { readonly seq: number; readonly offset: number } | undefined;

  return {
    segments,
    async *replay({ seq, position }) {
      const startOrdinal = position === undefined ? undefined : ordinalOfPosition(position);
      const first = startOrdinal === undefined
        ? Math.max(0, segments.findLastIndex(({ firstSeq }) => firstSeq <= seq))
        : segments.findIndex(({ ordinal }) => ordinal === startOrdinal);
      if (segments.length === 0) return;
      if (first < 0) throw corrupt(pathOf(startOrdinal!), 0, "it is missing");
      let expectedSeq = position === undefined ? segments[first]!.firstSeq : seq;
      for (let index = first; index < segments.length; index++) {
        const { ordinal, bytes, firstSeq } = segments[index]!;
        const start = index === first && position !== undefined ? offsetOfPosition(position) : headerBytes;
        const isLast = index === segments.length - 1;
        if (start > bytes) throw corrupt(pathOf(ordinal), bytes, `it ends before ${start}, which was durable`);
        if (start === headerBytes && firstSeq !== expectedSeq) {
          throw corrupt(pathOf(ordinal), 0, `it begins with entry ${firstSeq} where ${expectedSeq} is next`);
        }
        const file = await open(pathOf(ordinal), "r");
        try {
          const batches = readBatches(file, start, bytes);
          let offset = start;
          for (;;) {
            const next = await batches.next();
            if (next.done) break;
            const batch = next.value;
            const batchSeq = batch.records[0]?.seq ?? expectedSeq;
            if (batchSeq !== expectedSeq) {
              throw corrupt(pathOf(ordinal), batch.offset, `entry ${batchSeq} where ${expectedSeq} is next`);
            }
            expectedSeq += batch.records.length;
            offset = batch.offset + batch.bytes.length;
            yield { ordinal, batch };
          }
          if (offset < bytes && (!isLast || (await wasDurable(file, offset, bytes)))) {
            throw corrupt(pathOf(ordinal), offset, "it is damaged, and what lies there had been durable");
          }
          end = { seq: expectedSeq - 1, offset };
        } finally {
          await file.close();
        }
      }
    },
    async ready({ knownSeq, lastAtMs, written }) {
      const lastSeq = end?.seq ?? 0;
      if (lastSeq < knownSeq) {
        throw new Fault(
          "STORE_CORRUPT",
          `Cannot open ${dir} as it must reach entry ${knownSeq}, which was durable: it ends at ${lastSeq}` +
            (end === undefined ? "" : ` (${segmentName(segments.at(-1)!.ordinal)} at offset ${end.offset})`),
        );
      }
      for (const { ordinal } of listed.slice(segments.length)) await rm(pathOf(ordinal));
      let file: FileHandle | undefined;
      const active = segments.at(-1);
      if (active !== undefined) {
        file = await open(pathOf(active.ordinal), constants.O_RDWR | writeThrough(flushTime));
        if (end!.offset < active.bytes) await file.truncate(end!.offset);
        // What a killed process wrote may still be in memory only.
        await file.sync();
        segments[segments.length - 1] = { ...active, bytes: end!.offset };
      }
      await syncDirectory(dir);
      return writableLog({ dir, pathOf, segments, file, lastSeq, lastAtMs, segmentBytes, flushTime, written });
    },
  };
}

interface Group {
  readonly writer: BatchWriter;
  readonly entries: Entry[];
  /** Their positions count from the start of the group until it is known where that lies. */
  readonly records: Mutable<IndexRecord>[];
  readonly done: Promise<void>;
  resolve(): void;
  reject(fault: Fault): void;
}

function newGroup(buffer: Buffer): Group {
  let resolve!: () => void;
  let reject!: (fault: Fault) => void;
  const done = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { writer: batchWriter(buffer), entries: [], records: [], done, resolve, reject };
}

/**
 * A write to the log is durable when it returns: one journey to a thread instead of two. Elsewhere the flag is missing or
 * promises less than fdatasync.
 */
const isWrittenThrough = process.platform === "linux";
const writeThrough = (flushTime: FlushTime): number =>
  isWrittenThrough && flushTime === "first" ? constants.O_DSYNC : 0;

const firstBufferBytes = 64 * 1024;
/** A longer buffer of a group is let go of when the group is written; others are used again, two of them at most. */
const spareBytesMax = 4 * 1024 * 1024;

function writableLog(
  { dir, pathOf, segments, segmentBytes, flushTime, written, ...found }: {
    readonly dir: string;
    readonly pathOf: (ordinal: number) => string;
    readonly segments: Segment[];
    readonly file: FileHandle | undefined;
    readonly lastSeq: number;
    readonly lastAtMs: number;
    readonly segmentBytes: number;
    readonly flushTime: FlushTime;
    readonly written: (written: Written) => void;
  },
): WritableLog {
  const reader = logReader(dir, () => Promise.resolve(segments), false);
  /** Of the last segment. */
  let file = found.file;
  let lastSeq = found.lastSeq;
  let lastAtMs = found.lastAtMs;
  let nextSeq = lastSeq + 1;
  /** Of the last segment, its header included. */
  let durableBytes = segments.at(-1)?.bytes ?? 0;
  /** The last flush, which follows those before it. */
  let flushing: Promise<void> = Promise.resolve();
  /** Takes what is committed while a write is under way. */
  let gathering: Group | undefined;
  const spares: Buffer[] = [];
  let pumping: Promise<void> | undefined;
  /** Set by a full disk until a write succeeds: what was committed behind the failed write is refused as well. */
  let full: Fault | undefined;
  /** Set by any other failure: what the disk holds is not known any more. */
  let broken: Fault | undefined;

  /** Begins a segment; its header becomes durable with its first batch. */
  const begin = async (firstSeq: number): Promise<{ segment: Segment; file: FileHandle }> => {
    const ordinal = (segments.at(-1)?.ordinal ?? 0) + 1;
    const begun = await open(
      pathOf(ordinal),
      constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | writeThrough(flushTime),
    );
    try {
      await writeFully(begun, segmentHeader({ firstSeq, previousAtMs: lastAtMs }), 0);
    } catch (error) {
      await begun.close();
      await rm(pathOf(ordinal), { force: true });
      throw error;
    }
    return { segment: { ordinal, firstSeq, previousAtMs: lastAtMs, bytes: headerBytes }, file: begun };
  };

  const write = async (group: Group): Promise<void> => {
    const active = segments.at(-1);
    if (active === undefined || (active.bytes > headerBytes && active.bytes + group.writer.bytes > segmentBytes)) {
      await flush();
      const begun = await begin(group.entries[0]!.seq);
      try {
        const bytes = group.writer.seal(0);
        await writeFully(begun.file, bytes, headerBytes);
        await begun.file.sync();
        await syncDirectory(dir);
        await file?.close();
        file = begun.file;
        durableBytes = headerBytes + bytes.length;
        segments.push({ ...begun.segment, bytes: durableBytes });
        succeed(group, begun.segment.ordinal, bytes.length, headerBytes);
      } catch (error) {
        if (file !== begun.file) {
          await begun.file.close();
          await rm(pathOf(begun.segment.ordinal), { force: true });
        }
        throw error;
      }
      return;
    }
    const bytes = group.writer.seal(durableBytes);
    try {
      if (flushTime === "later") writeFullySync(file!, bytes, active.bytes); // to memory: as soon done as begun
      else {
        await writeFully(file!, bytes, active.bytes);
        if (!isWrittenThrough) await file!.datasync();
        durableBytes = active.bytes + bytes.length;
      }
    } catch (error) {
      await file!.truncate(active.bytes);
      await file!.sync();
      throw error;
    }
    segments[segments.length - 1] = { ...active, bytes: active.bytes + bytes.length };
    succeed(group, active.ordinal, bytes.length, active.bytes);
  };

  const flush = (): Promise<void> =>
    flushing = flushing.then(async () => {
      const active = segments.at(-1);
      if (active === undefined || durableBytes === active.bytes) return;
      try {
        await file!.datasync();
        durableBytes = active.bytes;
      } catch (error) {
        throw broken = asFault(error, `Cannot save states in ${dir}`); // the system may have forgotten what it could not write
      }
    });

  const succeed = (group: Group, ordinal: number, bytes: number, offset: number): void => {
    const last = group.entries.at(-1)!;
    lastSeq = last.seq;
    lastAtMs = Math.max(lastAtMs, last.atMs); // what was taken in from another store is older than what stands before it
    full = undefined;
    const start = positionOf(ordinal, offset);
    for (const record of group.records) record.position += start;
    written({ entries: group.entries, records: group.records, end: start + bytes, lastAtMs });
    group.resolve();
  };

  const fail = (group: Group, error: unknown): void => {
    const fault = asFault(error, `Cannot save states in ${dir}`);
    if (isFault(fault, "NO_SPACE")) full = fault;
    else broken = fault;
    nextSeq = lastSeq + 1;
    group.reject(fault);
    gathering?.reject(fault);
    gathering = undefined;
  };

  const pump = async (): Promise<void> => {
    // Commits of one turn of the event loop go together.
    await undefined;
    while (gathering !== undefined) {
      const group = gathering;
      gathering = undefined;
      try {
        await write(group);
      } catch (error) {
        fail(group, error);
      }
      if (group.writer.buffer.length <= spareBytesMax) spares.push(group.writer.buffer);
    }
    pumping = undefined;
  };

  return {
    segments: () => Promise.resolve(segments),
    scan: reader.scan,
    read: reader.read,
    async commit(entries) {
      if (broken !== undefined) throw broken;
      const first = entries[0];
      if (first === undefined) return;
      if (full !== undefined && first.seq !== nextSeq) throw full;
      checkEntries(entries, nextSeq);
      gathering ??= newGroup(spares.pop() ?? Buffer.allocUnsafeSlow(firstBufferBytes));
      const group = gathering;
      const { writer, records } = group;
      const recordsBefore = records.length;
      writer.begin(first.seq);
      try {
        for (const entry of entries) {
          const { seq, address } = entry;
          const gone = entry.state === null;
          const position = writer.bytes;
          const payloadBytes = writer.record(address, gone, encodeEntry(entry));
          records.push({ address, seq, position, payloadBytes, gone });
        }
      } catch (error) {
        writer.abandon();
        records.length = recordsBefore;
        if (group.entries.length === 0) gathering = undefined;
        throw error;
      }
      writer.end();
      for (const entry of entries) group.entries.push(entry);
      nextSeq += entries.length;
      pumping ??= pump();
      await group.done;
    },
    flush,
    get lastSeq() {
      return lastSeq;
    },
    async dropFirst() {
      invariant(segments.length > 1, "the segment that is written to is not dropped");
      const { ordinal } = segments.shift()!;
      await reader.files.forget(ordinal);
      await rm(pathOf(ordinal), { force: true });
      await syncDirectory(dir);
    },
    async close() {
      await pumping;
      await flush().finally(() => file?.close());
      await reader.files.close();
    },
  };
}
