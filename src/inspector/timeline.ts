import { Fault } from "../domain/fault.ts";
import { type Address, kindOf, nameOf } from "../domain/ids.ts";
import { jobState } from "../machines/explain.ts";
import { pathOf, type State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import { type CountingTally, type Known, knownStates, type Leap, type Step, type Tally, tally } from "./tally.ts";

/**
 * Counts at every moment of the recent history, so that a moment costs some ms however many actors there are. It is made
 * from the states when somebody first asks, goes on with each question, and is forgotten when nobody has asked for a while:
 * a cluster that nobody looks at pays nothing. Where so much has happened since the last question that to read it would cost
 * more than to ask those it happened to how they are, it leaps: counts are exact at its end, what happened meanwhile is told
 * from a sample, and a moment within it is counted from its cut.
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
  /** All that is held up to entry `seq`, and how it stood before; nothing for a moment before that. */
  steps(seq: number): Promise<{ readonly start: Tally; readonly steps: Iterable<Step | Leap> }>;
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
/** Fewer entries are read, whatever that costs. */
const leapEntriesMin = 2_000;
/** Of a leap so many entries are read, in so many stretches. */
const stretchSteps = 100;
const stretches = 5;
/** Asked at once how they are. */
const atOnce = 64;

/** A stretch of history: its steps, or a leap, which has none. */
interface Chunk {
  /** Of its first step. */
  readonly firstSeq: number;
  /** Just before its first step. */
  readonly start: Tally;
  readonly steps: Step[];
  readonly leap?: Leap & { readonly lastSeq: number };
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
  { states, clock, leapMin = leapEntriesMin }: {
    readonly states: States;
    readonly clock: Clock;
    readonly leapMin?: number;
  },
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

  /** @param toSeq up to here it is wanted. */
  async function follow(all: Held, toSeq: number): Promise<Held> {
    if (toSeq - all.lastSeq > leapMin) await leap(all, toSeq);
    for await (const { seq, atMs, address, state } of states.history("", { afterSeq: all.lastSeq, toSeq })) {
      const before = all.known.get(address);
      const after = shown(kindOf(address)) ? all.shared.of(address, state) : undefined;
      let chunk = all.chunks.at(-1);
      if (chunk === undefined || chunk.leap !== undefined || chunk.steps.length === stepsPerChunk) {
        add(all, chunk = { firstSeq: seq, start: all.now.copy(), steps: [] });
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

  function add({ chunks }: Held, chunk: Chunk): void {
    chunks.push(chunk);
    if (chunks.length * stepsPerChunk > momentsMax) chunks.shift();
  }

  /** To entry `seq` without reading what is between, where that is cheaper; else it stays where it is. */
  async function leap(all: Held, seq: number): Promise<void> {
    const addresses = await states.addresses(all.lastSeq, seq);
    const touched = new Set(addresses);
    const after = new Map<Address, Known | undefined>();
    let [atMs, isKept] = [0, true];
    const ask = async (those: readonly Address[]): Promise<void> => {
      for (let from = 0; from < those.length; from += atOnce) {
        await Promise.all(
          those.slice(from, from + atOnce).map(async (address) => {
            const entry = await states.get(address, seq).catch(() => void (isKept = false));
            after.set(address, entry === undefined ? undefined : all.shared.of(address, entry.state));
            atMs = Math.max(atMs, entry?.atMs ?? 0);
          }),
        );
      }
    };
    const tasksByJob = new Map<string, Address[]>();
    const others: Address[] = [];
    for (const address of touched) {
      if (kindOf(address) !== "task") {
        if (shown(kindOf(address))) others.push(address);
        continue;
      }
      const job = jobOf(address);
      const those = tasksByJob.get(job);
      if (those === undefined) tasksByJob.set(job, [address]);
      else those.push(address);
    }
    await ask(others);
    // Of a job that has ended each task has settled, and is not counted any more: none of them is asked.
    const ended = new Set(
      [...after].flatMap(([address, known]) =>
        kindOf(address) === "job" && known?.state.startsWith("running") !== true ? [nameOf(address)] : []
      ),
    );
    const open = [...tasksByJob].flatMap(([job, tasks]) => ended.has(job) ? [] : tasks);
    if (others.length + open.length > addresses.length / 2) return;
    await ask(open);
    if (!isKept) return; // it is so long ago that it is not kept any more
    for (const address of all.known.keys()) {
      if (kindOf(address) === "task" && ended.has(jobOf(address))) after.set(address, undefined);
    }
    const sample = await sampled(all.lastSeq, seq);
    const chunk = { firstSeq: all.lastSeq + 1, start: all.now.copy(), steps: [] };
    for (const [address, known] of after) {
      all.now.apply({ atMs, address, before: all.known.get(address), after: known });
      if (known === undefined) all.known.delete(address);
      else all.known.set(address, known);
    }
    const queued = all.now.states.get("task/queued") ?? 0;
    add(all, { ...chunk, leap: { ...sample, queued, running: all.now.onWorker.size, lastSeq: seq } });
    all.lastSeq = seq;
  }

  /** What happened after an entry up to another, told from stretches of it. */
  async function sampled(afterSeq: number, toSeq: number): Promise<Omit<Leap, "queued" | "running">> {
    const found: Entry[] = [];
    const step = (toSeq - afterSeq) / stretches;
    for (let place = 0; place < stretches; place++) {
      const from = afterSeq + Math.floor(place * step);
      for await (const entry of states.history("", { afterSeq: from, toSeq: Math.min(toSeq, from + stretchSteps) })) {
        found.push(entry);
      }
    }
    for await (const entry of states.history("", { afterSeq: toSeq - 1, toSeq })) found.push(entry);
    const [waits, runs]: [number[], number[]] = [[], []];
    for (const { address, state, cause, atMs } of found) {
      if (kindOf(address) !== "task" || state === null) continue;
      const type = typeof cause.event === "string" ? cause.event : (cause.event as { readonly type?: unknown }).type;
      const { queuedAtMs, attempts } = (state as State).context as TaskContext;
      const last = attempts.at(-1);
      if (type === "task.placed") waits.push(atMs - queuedAtMs);
      else if (last !== undefined && type === "task.ended" && pathOf((state as State).value) === "settled") {
        runs.push(atMs - last.placedAtMs);
      }
    }
    const scale = (toSeq - afterSeq) / Math.max(1, found.length);
    const times = found.map(({ atMs }) => atMs);
    return {
      fromMs: Math.min(...times),
      toMs: Math.max(...times),
      placed: waits.length * scale,
      settled: runs.length * scale,
      waits,
      runs,
    };
  }

  async function newest(seq: number): Promise<Held> {
    stayAwake();
    const next = (held ?? begin()).then((all) => follow(all, seq));
    held = next;
    next.catch(() => {
      if (held === next) held = undefined;
    });
    return await next;
  }

  async function heldAt(seq: number): Promise<Tally | undefined> {
    const all = await newest(seq);
    const chunk = all.chunks.findLast(({ firstSeq }) => firstSeq <= seq + 1);
    if (chunk === undefined) return seq === all.lastSeq ? all.now.copy() : undefined;
    if (chunk.leap !== undefined && seq >= chunk.firstSeq) {
      return chunk.leap.lastSeq === seq && seq === all.lastSeq ? all.now.copy() : undefined;
    }
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
      const all = await newest(seq);
      const chunks = all.chunks.filter(({ firstSeq }) => firstSeq <= seq);
      return {
        start: chunks[0]?.start ?? tally(all.now),
        steps: (function* () {
          for (const { firstSeq, steps, leap } of chunks) {
            if (leap === undefined) yield* steps.slice(0, seq + 1 - firstSeq);
            else if (leap.lastSeq <= seq) yield leap;
          }
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

/** Of a task its job's id. */
const jobOf = (address: Address): string => nameOf(address).slice(0, nameOf(address).lastIndexOf("/"));

const shown = (kind: string): boolean => kind === "task" || kind === "job" || kind === "worker" || kind === "scheduler";
