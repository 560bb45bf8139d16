import { Fault } from "../domain/fault.ts";
import { type Address, kindOf, nameOf } from "../domain/ids.ts";
import { jobState } from "../machines/explain.ts";
import type { State } from "../machines/step.ts";
import type { Clock } from "../runtime/clock.ts";
import type { States } from "../snapshots/states/states.ts";
import { type CountingTally, type Known, knownStates, type Step, type Tally, tally } from "./tally.ts";

/**
 * Counts at every moment of the recent history, so that a moment costs some ms however many actors there are. It is made
 * from the states when somebody first asks, goes on with each question, and is forgotten when nobody has asked for a while:
 * a cluster that nobody looks at pays nothing.
 */
export interface Timeline {
  /**
   * The counts just after entry `seq`, which is one of the history's. For a moment before those that are held, the whole
   * cut is read: the longer, the more actors there were.
   *
   * @throws {Fault} `REQUEST_INVALID` when seq is not kept any more, `LIMIT_EXCEEDED` when others were asked for meanwhile.
   */
  at(seq: number): Promise<Tally>;
  /** The same of a moment that is held; undefined of an older one, whose cut would have to be read. */
  heldAt(seq: number): Promise<Tally | undefined>;
  /** All steps that are held up to entry `seq`, and how it stood before them; none for a moment before those. */
  steps(seq: number): Promise<{ readonly start: Tally; readonly steps: Iterable<Step> }>;
  close(): void;
}

/** Moments that are held at the least, when so many are kept. */
const momentsMin = 100_000;
/** Beyond so many the oldest are let go. */
const momentsMax = 200_000;
/** Older moments whose counts are kept, or waited for. */
const oldMax = 4;
const stepsPerChunk = 4_096;
const idleMs = 10 * 60_000;

interface Chunk {
  /** Of its first step. */
  readonly firstSeq: number;
  /** Just before its first step. */
  readonly start: Tally;
  readonly steps: Step[];
}

interface Held {
  readonly chunks: Chunk[];
  readonly now: CountingTally;
  /** Of every actor that is counted. */
  readonly known: Map<Address, Known>;
  readonly shared: ReturnType<typeof knownStates>;
  lastSeq: number;
}

export function timeline(
  { states, clock }: { readonly states: States; readonly clock: Clock },
): Timeline {
  let held: Promise<Held> | undefined;
  let cancelIdle = (): void => {};
  const olds = new Map<number, Promise<Tally>>();
  let counting: Promise<unknown> = Promise.resolve();

  const stayAwake = (): void => {
    cancelIdle();
    cancelIdle = clock.at(clock.now() + idleMs, () => {
      held = undefined;
      olds.clear();
    });
  };

  /** All that is counted in a cut. Of a job that has ended no task is. */
  async function countAt(seq: number, { known, now, shared }: Omit<Held, "chunks" | "lastSeq">): Promise<void> {
    const take = (address: Address, atMs: number, state: unknown): void => {
      const after = shared.of(address, state);
      if (after === undefined) return;
      known.set(address, after);
      now.apply({ atMs, address, before: undefined, after });
    };
    const live: Address[] = [];
    let ended = 0;
    for (const prefix of ["scheduler", "worker/", "job/"]) {
      for await (const { address, atMs, state } of states.cut(seq, prefix)) {
        take(address, atMs, state);
        if (prefix !== "job/") continue;
        if (jobState(state as State) === "running") live.push(address);
        else ended++;
      }
    }
    // One walk over all tasks is cheaper than one for each job, unless most of them belong to jobs that have ended.
    const prefixes = ended < live.length ? ["task/"] : live.map((address) => `task/${nameOf(address)}/`);
    for (const prefix of prefixes) {
      for await (const { address, atMs, state } of states.cut(seq, prefix)) take(address, atMs, state);
    }
  }

  const empty = (): Held => ({
    chunks: [],
    now: tally(),
    known: new Map(),
    shared: knownStates(),
    lastSeq: 0,
  });

  async function begin(): Promise<Held> {
    const { firstSeq, lastSeq } = await states.bounds();
    const all = empty();
    const from = Math.max(firstSeq, lastSeq - momentsMin);
    if (lastSeq >= firstSeq) await countAt(from, all);
    all.lastSeq = Math.min(from, lastSeq);
    return all;
  }

  async function follow(all: Held): Promise<Held> {
    for await (const { seq, atMs, address, state } of states.history("", { afterSeq: all.lastSeq })) {
      const before = all.known.get(address);
      const after = shown(kindOf(address)) ? all.shared.of(address, state) : undefined;
      let chunk = all.chunks.at(-1);
      if (chunk === undefined || chunk.steps.length === stepsPerChunk) {
        all.chunks.push(chunk = { firstSeq: seq, start: all.now.copy(), steps: [] });
        if (all.chunks.length * stepsPerChunk > momentsMax) all.chunks.shift();
      }
      const step = { atMs, address, before, after };
      chunk.steps.push(step);
      all.now.apply(step);
      if (after === undefined) all.known.delete(address);
      else all.known.set(address, after);
      all.lastSeq = seq;
    }
    return all;
  }

  async function newest(): Promise<Held> {
    stayAwake();
    const next = (held ?? begin()).then(follow);
    held = next;
    next.catch(() => {
      if (held === next) held = undefined;
    });
    return await next;
  }

  async function heldAt(seq: number): Promise<Tally | undefined> {
    const all = await newest();
    const chunk = all.chunks.findLast(({ firstSeq }) => firstSeq <= seq + 1);
    if (chunk === undefined) return seq === all.lastSeq ? all.now.copy() : undefined;
    const found = tally(chunk.start);
    for (const step of chunk.steps.slice(0, seq + 1 - chunk.firstSeq)) found.apply(step);
    return found;
  }

  /** Of a moment that is not held: counted once, one after the other, and kept for who asks again. */
  function oldAt(seq: number): Promise<Tally> {
    const known = olds.get(seq);
    if (known !== undefined) return known;
    const own: Promise<Tally> = counting.then(async () => {
      if (olds.get(seq) !== own) {
        throw new Fault(
          "LIMIT_EXCEEDED",
          `Cannot count at entry ${seq} as at most ${oldMax} old moments may wait for it`,
        );
      }
      const all = empty();
      await countAt(seq, all);
      return all.now;
    });
    counting = own.catch(() => {
      if (olds.get(seq) === own) olds.delete(seq);
    });
    olds.set(seq, own);
    if (olds.size > oldMax) olds.delete(olds.keys().next().value!);
    return own;
  }

  return {
    heldAt,
    async at(seq) {
      return await heldAt(seq) ?? await oldAt(seq);
    },
    async steps(seq) {
      const all = await newest();
      const chunks = all.chunks.filter(({ firstSeq }) => firstSeq <= seq);
      return {
        start: chunks[0]?.start ?? tally(all.now),
        steps: (function* () {
          for (const { firstSeq, steps } of chunks) yield* steps.slice(0, seq + 1 - firstSeq);
        })(),
      };
    },
    close: () => {
      cancelIdle();
      held = undefined;
      olds.clear();
    },
  };
}

const shown = (kind: string): boolean => kind === "task" || kind === "job" || kind === "worker" || kind === "scheduler";
