import { type Address, kindOf } from "../domain/ids.ts";
import { pathOf, type State } from "../machines/step.ts";
import type { JobContext } from "../machines/job.ts";
import type { TaskContext } from "../machines/task.ts";

/** What is counted of an actor: equal ones are one object, so that a long history of few states is small. */
export interface Known {
  readonly kind: string;
  /** "active.running". */
  readonly state: string;
  /** Of a job or a task. */
  readonly requestor: string;
  /** Of a task that is with a worker. */
  readonly workerId: string;
}

/** One entry as far as it is counted. */
export interface Step {
  readonly atMs: number;
  readonly address: Address;
  /** Undefined: it was not there, or is not counted. */
  readonly before: Known | undefined;
  readonly after: Known | undefined;
}

/** What happened where entries were not read one by one, told from a sample of them; how it stood after it is exact. */
export interface Leap {
  readonly fromMs: number;
  readonly toMs: number;
  /** As many as there will have been. */
  readonly placed: number;
  readonly settled: number;
  readonly queued: number;
  readonly running: number;
  /** Of those in the sample, how long they waited and ran. */
  readonly waits: readonly number[];
  readonly runs: readonly number[];
}

/** How many tasks of a requestor wait for a slot, and how many have one. */
export interface RequestorCount {
  readonly queued: number;
  readonly running: number;
}

/** Counts at one moment. */
export interface Tally {
  /** By kind and state: "task/queued". Tasks that have settled are not among them: there is no end to those. */
  readonly states: ReadonlyMap<string, number>;
  readonly requestors: ReadonlyMap<string, RequestorCount>;
  /** Tasks that are with a worker, by address, with its id. */
  readonly onWorker: ReadonlyMap<Address, string>;
}

export interface CountingTally extends Tally {
  apply(step: Step): void;
  copy(): CountingTally;
}

const isQueued = (known: Known | undefined): boolean => known?.kind === "task" && known.state === "queued";
const isWithWorker = (known: Known | undefined): boolean => known !== undefined && known.workerId !== "";

export function tally(from?: Tally): CountingTally {
  const states = new Map(from?.states);
  const requestors = new Map(from?.requestors);
  const onWorker = new Map(from?.onWorker);
  const count = (known: Known | undefined, by: 1 | -1): void => {
    if (known === undefined) return;
    const key = `${known.kind}/${known.state}`;
    const now = (states.get(key) ?? 0) + by;
    if (now === 0) states.delete(key);
    else states.set(key, now);
    if (!isQueued(known) && !isWithWorker(known)) return;
    const { queued, running } = requestors.get(known.requestor) ?? { queued: 0, running: 0 };
    const next = isQueued(known) ? { queued: queued + by, running } : { queued, running: running + by };
    if (next.queued === 0 && next.running === 0) requestors.delete(known.requestor);
    else requestors.set(known.requestor, next);
  };
  return {
    states,
    requestors,
    onWorker,
    apply({ address, before, after }) {
      count(before, -1);
      count(after, 1);
      if (after !== undefined && isWithWorker(after)) onWorker.set(address, after.workerId);
      else onWorker.delete(address);
    },
    copy: () => tally({ states, requestors, onWorker }),
  };
}

/** Beyond so many different ones they are forgotten: each build of a client is a requestor of its own. */
const knownMax = 50_000;

/** One object for each different {@link Known}, mostly: equal ones may be two, so nobody asks whether they are one. */
export function knownStates(most = knownMax) {
  const all = new Map<string, Known>();
  return {
    /** Undefined for what is not counted: an actor that is gone, and a task that has settled. */
    of(address: Address, state: unknown): Known | undefined {
      if (state === null) return undefined;
      const { value, context } = state as State;
      const kind = kindOf(address);
      const path = pathOf(value);
      if (kind === "task" && path === "settled") return undefined;
      const requestor = kind === "job" || kind === "task" ? (context as JobContext).requestor : "";
      const isPlaced = kind === "task" && (path.startsWith("active.") || path === "stopping");
      const workerId = isPlaced ? (context as TaskContext).attempts.at(-1)?.workerId ?? "" : "";
      const key = JSON.stringify([kind, path, requestor, workerId]);
      let known = all.get(key);
      if (known !== undefined) return known;
      if (all.size >= most) all.clear();
      all.set(key, known = { kind, state: path, requestor, workerId });
      return known;
    },
  };
}
