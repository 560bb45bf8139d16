import { Buffer } from "node:buffer";
import { existsSync, fstatSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { type FileHandle, readFully } from "./files.ts";
import type { SharedLog } from "./log.ts";
import {
  batchBytes,
  type BatchHeader,
  glanceAtRecord,
  headerBytes,
  parseBatchHeader,
  parseSegmentHeader,
  recordBytes,
  segmentName,
} from "./segment.ts";
import {
  addSteps,
  type IndexRecord,
  type Location,
  offsetOfPosition,
  ordinalOfPosition,
  positionOf,
  type StateIndex,
  type Steps,
  stepsOf,
} from "./state_index.ts";

/**
 * What the log holds beyond the index, for a process that reads a store which another one writes: so that it sees what was
 * done as soon as it is in the file, and not when it is indexed, and costs the writer nothing.
 *
 * It may see a batch a moment before the disk has it for sure. After a power cut such a batch may be gone; nobody was told
 * of it but those who look. Entries are only glanced at; whoever reads one checks it.
 */
export interface LogTail {
  /** Reads what has been appended. */
  refresh(): Promise<void>;
  /** Of the newest entry, indexed or not, as of the last refresh. */
  lastSeq(): number;
  /** Of the newest that the index has. */
  indexedSeq(): number;
  /** Where the entries of that actor lie that the index does not have, oldest first. */
  waiting(address: string): Location[];
  /** The same for all actors under a prefix. */
  waitingUnder(prefix: string): Map<string, Location[]>;
  /** The addresses of the entries after that one, in order; undefined when that is not known any more. */
  addressesAfter(seq: number): readonly string[] | undefined;
  close(): Promise<void>;
}

interface Taken {
  readonly lastSeq: number;
  readonly steps: Steps;
}

/** Read at once, unless a single batch is longer. */
const windowBytes = 4 * 1024 * 1024;
/** Addresses of so many entries are remembered, whether they are indexed by now or not. */
const recentMax = 20_000;

export function logTail(
  { dir, index, log }: { readonly dir: string; readonly index: StateIndex; readonly log: Pick<SharedLog, "met"> },
): LogTail {
  let file: FileHandle | undefined;
  let ordinal = 0;
  let offset = 0;
  let lastSeq = 0;
  let taken: Taken[] = [];
  let recent: string[] = [];
  let running: Promise<void> | undefined;
  let again: Promise<void> | undefined;

  const indexedSeq = (): number => index.meta()?.indexedSeq ?? 0;
  // Asked many times a second while somebody follows, and mostly in vain: so the file system is asked without a wait.
  const openSegment = async (number: number): Promise<FileHandle | undefined> => {
    const path = join(dir, "log", segmentName(number));
    if (!existsSync(path)) return undefined;
    try {
      return await open(path, "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  };
  const leave = async (): Promise<void> => {
    const left = file;
    file = undefined;
    await left?.close();
  };
  /** Begins where the index ends. */
  const begin = async (): Promise<boolean> => {
    const meta = index.meta();
    if (meta === undefined || meta.position === 0) return false;
    await leave();
    ordinal = ordinalOfPosition(meta.position);
    offset = offsetOfPosition(meta.position);
    lastSeq = meta.indexedSeq;
    taken = [];
    recent = [];
    file = await openSegment(ordinal);
    return file !== undefined;
  };

  const recordsOf = (
    bytes: Buffer,
    at: number,
    { count, firstSeq, bodyBytes }: BatchHeader,
  ): IndexRecord[] | undefined => {
    const found: IndexRecord[] = [];
    const end = at + batchBytes + bodyBytes;
    let next = at + batchBytes;
    for (let place = 0; place < count; place++) {
      if (next + recordBytes + 2 > end) return undefined;
      const { address, gone, payloadBytes } = glanceAtRecord(bytes, next);
      found.push({ address, seq: firstSeq + place, position: positionOf(ordinal, offset + next), payloadBytes, gone });
      next += recordBytes + payloadBytes;
    }
    return next === end ? found : undefined;
  };

  /** Takes the whole batches of these bytes, which begin at `offset`. @returns how many bytes they are. */
  const take = (bytes: Buffer): number => {
    let at = 0;
    const records: IndexRecord[] = [];
    while (at + batchBytes <= bytes.length) {
      const header = parseBatchHeader(bytes, at);
      if (header === undefined || header.firstSeq !== lastSeq + 1) break; // it is being written
      if (at + batchBytes + header.bodyBytes > bytes.length) break;
      const found = recordsOf(bytes, at, header);
      if (found === undefined) break; // it is damaged: who reads it by the index is told
      log.met(ordinal, header.firstSeq, offset + at);
      for (const record of found) {
        records.push(record);
        recent.push(record.address);
      }
      lastSeq += found.length;
      at += batchBytes + header.bodyBytes;
    }
    if (records.length > 0) {
      const steps: Steps = new Map();
      addSteps(steps, { records, end: 0, lastAtMs: 0 });
      taken.push({ lastSeq, steps });
      if (recent.length > 2 * recentMax) recent = recent.slice(-recentMax);
    }
    return at;
  };

  const read = async (): Promise<void> => {
    const indexed = indexedSeq();
    taken = taken.filter((one) => one.lastSeq > indexed);
    if ((file === undefined || indexed > lastSeq) && !await begin()) return;
    let wanted = windowBytes;
    for (;;) {
      const { size } = fstatSync(file!.fd);
      // Cut by its writer, whose disk had not taken it.
      if (size < offset && !await begin()) return;
      if (size > offset) {
        const bytes = take(await readFully(file!, offset, Math.min(size - offset, wanted)));
        offset += bytes;
        if (bytes > 0) continue;
        if (wanted < size - offset) {
          wanted *= 4;
          continue;
        }
      }
      const next = await openSegment(ordinal + 1);
      if (next === undefined) return;
      const header = parseSegmentHeader(await readFully(next, 0, headerBytes), segmentName(ordinal + 1));
      if (header?.firstSeq !== lastSeq + 1) return await next.close(); // something more comes of this one first
      await leave();
      file = next;
      ordinal++;
      offset = headerBytes;
    }
  };
  const start = (): Promise<void> => {
    running = read().finally(() => running = undefined);
    return running;
  };

  return {
    refresh() {
      if (running === undefined) return start();
      // What is under way may have looked too early.
      again ??= running.then(() => undefined, () => undefined).then(() => {
        again = undefined;
        return running ?? start();
      });
      return again;
    },
    lastSeq: () => Math.max(lastSeq, indexedSeq()),
    indexedSeq,
    waiting(address) {
      const indexed = indexedSeq();
      return taken.filter((one) => one.lastSeq > indexed).flatMap(({ steps }) => stepsOf(steps, address));
    },
    waitingUnder(prefix) {
      const indexed = indexedSeq();
      const found = new Map<string, Location[]>();
      for (const { steps, lastSeq } of taken) {
        if (lastSeq <= indexed) continue;
        for (const address of steps.keys()) {
          if (!address.startsWith(prefix)) continue;
          const places = found.get(address);
          if (places === undefined) found.set(address, stepsOf(steps, address));
          else places.push(...stepsOf(steps, address));
        }
      }
      return found;
    },
    addressesAfter(seq) {
      const count = lastSeq - seq;
      if (indexedSeq() > lastSeq || count > recent.length) return undefined;
      return count <= 0 ? [] : recent.slice(recent.length - count);
    },
    async close() {
      await running?.catch(() => undefined);
      await again?.catch(() => undefined);
      await leave();
    },
  };
}
