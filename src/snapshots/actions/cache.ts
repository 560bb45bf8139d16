import type { ActionResultData } from "../../domain/action_result.ts";
import { digestOfHash, hashOf, sizeOf } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import type { TaskId } from "../../domain/ids.ts";
import { decodeActionResult, encodeActionResult } from "../../protocol/reapi/action_result.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Blobs } from "../blobs/blobs.ts";
import {
  type ActionCache,
  type ActionEntry,
  type ActionKey,
  type CachedAction,
  type GetOptions,
  type Made,
  type PutAnswer,
  resultBytesMax,
  type Revoked,
  usersMax,
} from "./actions.ts";
import { absentOf } from "./complete.ts";
import { type ActionRows, after, type Reading, type Writing } from "./rows.ts";

/*
 * key := instance (UTF-8) · 00 · hash (32 bytes) · size u48
 * entries      key                              → u32 length of JSON · JSON of Made · result
 * counts       key                              → last use u48 (epoch ms) · hits u32 · users u32 (rows below)
 * users        key · use u48 (epoch ms) · task  → nothing
 * differences  key                              → count u32 · as an entry: what came of it the last time it differed
 */
const digestBytes = 32 + 6;
const sizeMax = 2 ** 48 - 1;
const instanceBytesMax = 256;
/** Entries looked at in one go; between two goes others have their turn. */
const pageEntries = 200;
/** Hits are noted at most this often, so that answering stays a read. */
const noteEveryMs = 1000;
/** Hits that wait to be noted; beyond, they are noted at once. */
const notesMax = 10_000;

// deno-lint-ignore no-control-regex
const controls = /[\u0000-\u001f\u007f]/;

function keyBytes({ instance, action }: ActionKey): Buffer {
  const digest = Buffer.alloc(digestBytes);
  digest.write(hashOf(action), 0, "hex");
  const size = sizeOf(action);
  if (size > sizeMax) {
    throw new Fault(
      "DIGEST_INVALID",
      `Cannot use ${action} as an action as its size must be at most ${sizeMax} bytes: current value is ${size}`,
    );
  }
  digest.writeUIntBE(size, 32, 6);
  return Buffer.concat([instancePrefix(instance), digest]);
}

function instancePrefix(instance: string): Buffer {
  const bytes = Buffer.from(instance, "utf8");
  if (bytes.length > instanceBytesMax || controls.test(instance)) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot use an instance as its name must be at most ${instanceBytesMax} bytes without control characters: current value is ${
        JSON.stringify(instance.slice(0, 100))
      }`,
    );
  }
  return Buffer.concat([bytes, Buffer.of(0)]);
}

function keyOf(bytes: Buffer): ActionKey {
  const at = bytes.length - digestBytes;
  const action = digestOfHash(bytes.toString("hex", at, at + 32), bytes.readUIntBE(at + 32, 6));
  return { instance: bytes.toString("utf8", 0, at - 1), action };
}

function entryBytes(made: Made, result: Uint8Array): Buffer {
  const head = Buffer.from(JSON.stringify(made));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(head.length);
  return Buffer.concat([length, head, result]);
}

function readEntry(row: Uint8Array, from = 0): { readonly made: Made; readonly result: Uint8Array } {
  const bytes = Buffer.from(row.buffer, row.byteOffset, row.length);
  const end = from + 4 + bytes.readUInt32BE(from);
  return { made: JSON.parse(bytes.toString("utf8", from + 4, end)) as Made, result: new Uint8Array(row.slice(end)) };
}

interface Counts {
  readonly usedAtMs: number;
  readonly hits: number;
  readonly users: number;
}

function readCounts(rows: Reading, key: Uint8Array): Counts {
  const row = rows.get("counts", key);
  if (row === undefined) return { usedAtMs: 0, hits: 0, users: 0 };
  const bytes = Buffer.from(row);
  return { usedAtMs: bytes.readUIntBE(0, 6), hits: bytes.readUInt32BE(6), users: bytes.readUInt32BE(10) };
}

function countBytes({ usedAtMs, hits, users }: Counts): Buffer {
  const bytes = Buffer.alloc(14);
  bytes.writeUIntBE(usedAtMs, 0, 6);
  bytes.writeUInt32BE(Math.min(hits, 2 ** 32 - 1), 6);
  bytes.writeUInt32BE(users, 10);
  return bytes;
}

/** What makes two outcomes one: exit code and outputs. Streams, times and the form of an answer are left out. */
const outcomeOf = (result: ActionResultData): Uint8Array =>
  encodeActionResult({
    outputFiles: result.outputFiles.map(({ path, digest, executable }) => ({ path, digest, executable })),
    outputDirectories: result.outputDirectories.map((each) => ({ ...each, isTopologicallySorted: false })),
    outputSymlinks: result.outputSymlinks,
    outputFileSymlinks: result.outputFileSymlinks,
    outputDirectorySymlinks: result.outputDirectorySymlinks,
    exitCode: result.exitCode,
  });

const isSameOutcome = (a: Uint8Array, b: Uint8Array): boolean =>
  Buffer.compare(a, b) === 0 ||
  Buffer.compare(outcomeOf(decodeActionResult(a)), outcomeOf(decodeActionResult(b))) === 0;

function usersOf(rows: Reading, key: Uint8Array): TaskId[] {
  const found = rows.range("users", key, after(key), usersMax)
    .map(([row]) => row.toString("utf8", key.length + 6) as TaskId);
  return [...new Set(found)];
}

function removeAll(rows: Writing, key: Uint8Array): void {
  for (const table of ["entries", "counts", "differences"] as const) rows.remove(table, key);
  for (const [row] of rows.range("users", key, after(key), usersMax + 1)) rows.remove("users", row);
}

interface Note {
  readonly key: Buffer;
  hits: number;
  usedAtMs: number;
  readonly users: { readonly atMs: number; readonly task: TaskId }[];
}

/** The cache, over rows that a store keeps. */
export function cacheOver(
  rows: ActionRows,
  { blobs, clock }: { readonly blobs: Blobs; readonly clock: Clock },
): ActionCache {
  /** Hits that were served and are not noted yet, by key. */
  let notes = new Map<string, Note>();
  let noting: Promise<void> = Promise.resolve();
  let cancelNoting: (() => void) | undefined;

  function note(key: Buffer, task: TaskId | undefined): void {
    const name = key.toString("latin1");
    let found = notes.get(name);
    if (found === undefined) notes.set(name, found = { key, hits: 0, usedAtMs: 0, users: [] });
    found.hits++;
    found.usedAtMs = Math.max(found.usedAtMs, clock.now());
    if (task !== undefined) {
      found.users.push({ atMs: clock.now(), task });
      if (found.users.length > usersMax) found.users.shift();
    }
    if (notes.size >= notesMax) flushNotes();
    else cancelNoting ??= clock.at(clock.now() + noteEveryMs, flushNotes);
  }

  function flushNotes(): void {
    cancelNoting?.();
    cancelNoting = undefined;
    const flushed = [...notes.values()];
    notes = new Map();
    if (flushed.length === 0) return;
    const write = rows.transact((writing) => {
      for (const { key, hits, usedAtMs, users } of flushed) {
        if (writing.get("entries", key) === undefined) continue;
        const before = readCounts(writing, key);
        for (const { atMs, task } of users) {
          const at = Buffer.alloc(6);
          at.writeUIntBE(atMs, 0, 6);
          writing.put("users", Buffer.concat([key, at, Buffer.from(task)]), new Uint8Array(0));
        }
        const over = Math.max(0, before.users + users.length - usersMax);
        const oldest = over === 0 ? [] : writing.range("users", key, after(key), over);
        for (const [row] of oldest) writing.remove("users", row);
        writing.put(
          "counts",
          key,
          countBytes({
            usedAtMs: Math.max(before.usedAtMs, usedAtMs),
            hits: before.hits + hits,
            users: before.users + users.length - oldest.length,
          }),
        );
      }
    }).catch(() => {}); // what is used when is worth no failure: the disk is full, and the answer was given
    noting = Promise.all([noting, write]).then(() => {});
  }

  async function get(key: ActionKey, { usedBy, signal }: GetOptions = {}): Promise<CachedAction | undefined> {
    const bytes = keyBytes(key);
    const row = rows.get("entries", bytes);
    if (row === undefined) return undefined;
    const { made, result } = readEntry(row);
    if ((await absentOf(blobs, decodeActionResult(result), signal)).length > 0) {
      await rows.transact((writing) => {
        const now = writing.get("entries", bytes); // somebody may have put it anew
        if (now !== undefined && Buffer.compare(now, row) === 0) removeAll(writing, bytes);
      });
      return undefined;
    }
    note(bytes, usedBy);
    return { key, result, made };
  }

  function whole(reading: Reading, bytes: Buffer, row: Uint8Array): ActionEntry {
    const entry = readEntry(row);
    const counts = readCounts(reading, bytes);
    const difference = reading.get("differences", bytes);
    return {
      key: keyOf(bytes),
      ...entry,
      useCount: counts.hits,
      usedAtMs: counts.usedAtMs,
      usedBy: usersOf(reading, bytes),
      ...(difference === undefined
        ? {}
        : { differed: { count: Buffer.from(difference).readUInt32BE(0), ...readEntry(difference, 4) } }),
    };
  }

  /** Entries from `from` to `to` page by page. */
  async function* entries(
    from: Buffer,
    to: Buffer,
    signal?: AbortSignal,
  ): AsyncGenerator<readonly [Buffer, Uint8Array]> {
    let start = from;
    for (;;) {
      signal?.throwIfAborted();
      const page = rows.range("entries", start, to, pageEntries);
      for (const row of page) yield await Promise.resolve(row);
      if (page.length < pageEntries) return;
      start = Buffer.concat([page.at(-1)![0], Buffer.of(0)]);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const everything = [Buffer.alloc(0), Buffer.alloc(instanceBytesMax + digestBytes + 2, 0xff)] as const;

  return {
    get,
    getMany: (keys, options) => Promise.all(keys.map((key) => get(key, options))),
    knows: (key) => rows.get("entries", keyBytes(key)) !== undefined,

    async put(key, given, made, options = {}) {
      const bytes = keyBytes(key);
      if (given.length > resultBytesMax) {
        throw new Fault(
          "REQUEST_INVALID",
          `Cannot keep a result of action ${key.action} as it must be at most ${resultBytesMax} bytes: current value is ${given.length}`,
        );
      }
      const data = decodeActionResult(given);
      const result = encodeActionResult(data);
      if (options.checked === true) {
        const absent = await absentOf(blobs, data, options.signal);
        if (absent.length > 0) {
          throw new Fault(
            "OUTPUT_MISSING",
            `Cannot keep a result of action ${key.action} as all that it refers to must be in the store: ${
              absent.slice(0, 5).join(", ")
            }${absent.length > 5 ? ` and ${absent.length - 5} more` : ""} must be uploaded first`,
          );
        }
      }
      // What is there counts only while its outputs do.
      const before = rows.get("entries", bytes);
      const isGone = before !== undefined &&
        (await absentOf(blobs, decodeActionResult(readEntry(before).result), options.signal)).length > 0;
      return await rows.transact((writing): PutAnswer => {
        const row = writing.get("entries", bytes);
        const isBefore = row !== undefined && before !== undefined && Buffer.compare(row, before) === 0;
        if (row === undefined || (isGone && isBefore)) {
          removeAll(writing, bytes);
          writing.put("entries", bytes, entryBytes(made, result));
          return { kind: "stored" };
        }
        const existing = { key, ...readEntry(row) };
        if (isSameOutcome(existing.result, result)) return { kind: "same", existing };
        const count = Buffer.alloc(4);
        const difference = writing.get("differences", bytes);
        count.writeUInt32BE(difference === undefined ? 1 : Buffer.from(difference).readUInt32BE(0) + 1);
        const isReplaced = options.replace === true;
        const other = isReplaced ? row : entryBytes(made, result);
        writing.put("differences", bytes, Buffer.concat([count, other]));
        if (isReplaced) writing.put("entries", bytes, entryBytes(made, result));
        return { kind: "differs", existing, given: result, kept: isReplaced ? "given" : "existing" };
      });
    },

    async show(key) {
      const bytes = keyBytes(key);
      const row = rows.get("entries", bytes);
      return await Promise.resolve(row === undefined ? undefined : whole(rows, bytes, row));
    },

    async *list({ instance, prefix = "", after: last, limit = Number.POSITIVE_INFINITY } = {}) {
      const start = instance === undefined
        ? undefined
        : Buffer.concat([instancePrefix(instance), Buffer.from(prefix.slice(0, prefix.length & ~1), "hex")]);
      const [first, end] = start === undefined ? everything : [start, after(start)];
      const from = last === undefined ? first : Buffer.concat([keyBytes(last), Buffer.of(0)]);
      let left = limit;
      if (left <= 0) return;
      for await (const [key, row] of entries(Buffer.compare(from, first) < 0 ? first : from, end)) {
        if (!hashOf(keyOf(key).action).startsWith(prefix)) continue;
        yield whole(rows, key, row);
        if (--left <= 0) return;
      }
    },

    remove: (key) =>
      rows.transact((writing) => {
        const bytes = keyBytes(key);
        const isThere = writing.get("entries", bytes) !== undefined;
        removeAll(writing, bytes);
        return isThere;
      }),

    async *revoke({ workerId, sinceMs }) {
      flushNotes();
      await noting; // so that who was served just now is told too
      for await (const [key, row] of entries(...everything)) {
        const { made } = readEntry(row);
        if (made.workerId !== workerId || made.atMs < sinceMs) continue;
        const revoked = await rows.transact((writing): Revoked | undefined => {
          const now = writing.get("entries", key);
          if (now === undefined || Buffer.compare(now, row) !== 0) return undefined;
          const usedBy = usersOf(writing, key);
          removeAll(writing, key);
          return { key: keyOf(key), made, usedBy };
        });
        if (revoked !== undefined) yield revoked;
      }
    },

    async forget(beforeMs, signal) {
      flushNotes();
      await noting;
      let count = 0;
      for await (const [key, row] of entries(...everything, signal)) {
        if (Math.max(readEntry(row).made.atMs, readCounts(rows, key).usedAtMs) >= beforeMs) continue;
        count += await rows.transact((writing) => {
          const now = writing.get("entries", key);
          if (now === undefined || Buffer.compare(now, row) !== 0) return 0;
          if (readCounts(writing, key).usedAtMs >= beforeMs) return 0;
          removeAll(writing, key);
          return 1;
        });
      }
      return count;
    },

    size: () => rows.size(),

    async close() {
      flushNotes();
      await noting;
      await rows.close();
    },
  };
}
