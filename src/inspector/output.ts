import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { type Digest, sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { taskAddress, type TaskId } from "../domain/ids.ts";
import type { Output } from "../domain/job.ts";
import { taskState } from "../machines/explain.ts";
import type { State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { States } from "../snapshots/states/states.ts";
import type { OutputHits, OutputPage } from "./routes.ts";

/** Streams that are kept, by line: so that 100 MB can be scrolled and searched without anybody holding them. */

const lineCharactersMax = 4_096;
const pageBytesMax = 1024 * 1024;
/** Where every so-manieth line begins is known; of very long streams every second of those. */
const stride = 256;
const marksMax = 65_536;
const indexesMax = 16;
/** Searched for one page of hits. */
const searchedBytesMax = 256 * 1024 * 1024;
/** Of a line that goes on and on, so much is held. */
const heldBytesMax = 64 * 1024;
const aroundBytes = 100;
const newline = 10;
/** Where the next one is, or -1: quicker than that of a `Buffer`, which may be any text. */
const newlineIn = (bytes: Uint8Array, from: number): number => Uint8Array.prototype.indexOf.call(bytes, newline, from);

/** @throws {Fault} `TASK_UNKNOWN` */
export async function needTask(states: States, taskId: TaskId, seq: number): Promise<State> {
  const entry = await states.get(taskAddress(taskId), seq);
  if (entry !== undefined) return entry.state as State;
  throw new Fault("TASK_UNKNOWN", `Cannot find task ${taskId} at entry ${seq}: it was not there`);
}

/**
 * The stream that is kept of a task; undefined: it wrote nothing, or was not run.
 *
 * @throws {Fault} `TASK_UNKNOWN`; `OUTPUT_MISSING` of one that has not settled.
 */
export async function keptStream(
  states: States,
  taskId: TaskId,
  stream: "stdout" | "stderr",
  seq: number,
): Promise<Output | undefined> {
  const state = await needTask(states, taskId, seq);
  const { outcome } = state.context as TaskContext;
  if (outcome === undefined) {
    throw new Fault(
      "OUTPUT_MISSING",
      `Cannot give the ${stream} of task ${taskId} by line as it is kept when the task has settled: it is ${
        taskState(state)
      }. Follow it`,
    );
  }
  return outcome.kind === "skipped" ? undefined : outcome[stream];
}

/** Where lines begin. */
interface LineIndex {
  readonly lines: number;
  readonly every: number;
  /** Of the lines 0, every, 2 · every, … */
  readonly marks: readonly number[];
}

/** Streams by line, from a blob store. */
export function lineReader(blobs: Blobs) {
  const indexes = new Map<Digest, Promise<LineIndex>>();

  const indexOf = (digest: Digest): Promise<LineIndex> => {
    const known = indexes.get(digest);
    indexes.delete(digest);
    const index = known ?? countLines(blobs, digest);
    indexes.set(digest, index); // the newest use is last
    if (known === undefined) {
      index.catch(() => indexes.get(digest) === index && indexes.delete(digest));
      if (indexes.size > indexesMax) indexes.delete(indexes.keys().next().value!);
    }
    return index;
  };
  const beginOf = ({ every, marks }: LineIndex, line: number): { readonly line: number; readonly offset: number } => {
    const at = Math.min(Math.floor(line / every), marks.length - 1);
    return { line: at * every, offset: marks[at]! };
  };

  return {
    /** Lines from `line` on, at most so many. */
    async page({ digest, truncatedBytes }: Output, line: number, limit: number): Promise<OutputPage> {
      const index = await indexOf(digest);
      const text: string[] = [];
      const first = Math.min(line, index.lines);
      let bytes = 0;
      if (first < index.lines) {
        const begin = beginOf(index, first);
        let number = begin.line;
        for await (const one of linesOf(blobs, digest, begin.offset)) {
          if (number++ < first) continue;
          const shown = shownLine(one);
          bytes += shown.length;
          if (text.length > 0 && bytes > pageBytesMax) break;
          text.push(shown);
          if (text.length >= limit) break;
        }
      }
      return { bytes: sizeOf(digest), lines: index.lines, truncatedBytes, line: first, text };
    },

    /** Lines from `line` on that have a text, at most so many. */
    async find({ digest }: Output, wanted: string, line: number, limit: number): Promise<OutputHits> {
      const index = await indexOf(digest);
      const hits: OutputHits["hits"][number][] = [];
      if (line >= index.lines || wanted === "") return { hits };
      const begin = beginOf(index, line);
      const isAnyCase = wanted === wanted.toLowerCase();
      const needleBytes = Buffer.from(wanted, "utf8");
      const folded = (bytes: Buffer): string => {
        const text = bytes.toString("latin1");
        return isAnyCase ? text.toLowerCase() : text;
      };
      const needle = folded(needleBytes);
      /** What is folded as Latin 1 may be found where it is not: then only letters of ASCII may differ. */
      const isHere = (bytes: Buffer, hit: number): boolean =>
        needleBytes.every((byte, place) => {
          const met = bytes[hit + place]!;
          return met === byte || (isAnyCase && met >= 0x41 && met <= 0x5a && met + 0x20 === byte);
        });
      let number = begin.line;
      let searched = 0;
      let held: Buffer = Buffer.alloc(0);
      /** The line that is being read was told already: of each the first place is. */
      let isTold = false;
      /** @returns the line to look on from, when there are enough. */
      const search = (bytes: Buffer): number | undefined => {
        const text = folded(bytes);
        let from = 0;
        const nextLine = (end: number): void => {
          number++;
          from = end + 1;
          isTold = false;
        };
        let hit = -1;
        const find = (at: number): number => {
          hit = text.indexOf(needle, at);
          while (hit >= 0 && !isHere(bytes, hit)) hit = text.indexOf(needle, hit + 1);
          return hit;
        };
        while (find(from) >= 0) {
          let end = newlineIn(bytes, from);
          for (; end >= 0 && end < hit; end = newlineIn(bytes, from)) nextLine(end);
          if (number >= line && !isTold) {
            isTold = true;
            hits.push({ line: number, ...around(bytes, from, end < 0 ? bytes.length : end, hit) });
            if (hits.length >= limit) return number + 1;
          }
          if (end < 0) break;
          nextLine(end);
        }
        for (let end = newlineIn(bytes, from); end >= 0; end = newlineIn(bytes, from)) nextLine(end);
        const rest = bytes.subarray(from);
        held = Buffer.from(rest.length > heldBytesMax ? rest.subarray(rest.length - needle.length) : rest);
        return undefined;
      };
      for await (const chunk of blobs.get(digest, { offset: begin.offset })) {
        searched += chunk.length;
        await setImmediate(); // others have their turn
        const next = search(Buffer.concat([held, chunk]));
        if (next !== undefined) return next < index.lines ? { hits, next } : { hits };
        if (searched >= searchedBytesMax) return { hits, next: Math.max(number, line) };
      }
      return { hits };
    },
  };
}

async function countLines(blobs: Blobs, digest: Digest): Promise<LineIndex> {
  let every = stride;
  let marks = [0];
  let lines = 0;
  let offset = 0;
  let endsWithNewline = true;
  for await (const chunk of blobs.get(digest)) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let at = newlineIn(bytes, 0); at >= 0; at = newlineIn(bytes, at + 1)) {
      if (++lines % every !== 0) continue;
      marks.push(offset + at + 1);
      if (marks.length > marksMax) {
        marks = marks.filter((_, place) => place % 2 === 0);
        every *= 2;
      }
    }
    endsWithNewline = bytes.at(-1) === newline;
    offset += bytes.length;
    await setImmediate(); // others have their turn
  }
  if (!endsWithNewline) lines++;
  return { lines, every, marks };
}

/** The lines from an offset on, which is the beginning of one; of a long line its beginning. */
async function* linesOf(blobs: Blobs, digest: Digest, offset: number): AsyncGenerator<Buffer> {
  let held: Buffer = Buffer.alloc(0);
  const bytesMax = lineCharactersMax * 4;
  const keep = (bytes: Buffer): void => {
    if (held.length < bytesMax) held = Buffer.concat([held, bytes.subarray(0, bytesMax - held.length)]);
  };
  let isOpen = false;
  for await (const chunk of blobs.get(digest, { offset })) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let from = 0;
    for (let at = newlineIn(bytes, 0); at >= 0; at = newlineIn(bytes, from)) {
      keep(bytes.subarray(from, at));
      yield held;
      held = Buffer.alloc(0);
      from = at + 1;
    }
    isOpen = from < bytes.length || (isOpen && from === 0);
    if (from < bytes.length) keep(Buffer.from(bytes.subarray(from)));
  }
  if (isOpen) yield held;
}

function shownLine(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  const line = text.endsWith("\r") ? text.slice(0, -1) : text;
  return line.length <= lineCharactersMax ? line : `${line.slice(0, lineCharactersMax - 1)}…`;
}

/** A line around what was found in it; a character that is cut is left out. */
function around(
  bytes: Buffer,
  from: number,
  to: number,
  hit: number,
): { readonly text: string; readonly column: number } {
  let start = Math.max(from, hit - aroundBytes);
  while (start > from && start < hit && (bytes[start]! & 0xc0) === 0x80) start++;
  const end = Math.min(to, hit + aroundBytes + 40);
  const before = bytes.subarray(start, hit).toString("utf8");
  const text = before + bytes.subarray(hit, end).toString("utf8").replace(/\ufffd+$/, "").replace(/\r$/, "");
  return { text, column: before.length };
}
