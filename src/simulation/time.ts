import { BinaryHeap } from "deno-std/data_structures/binary_heap.js";
import type { Clock } from "../runtime/clock.ts";

interface Happening {
  readonly atMs: number;
  readonly order: number;
  readonly work: () => void;
  cancelled: boolean;
}

/** Time that passes when the simulation says so. What falls on one moment happens in the order in which it was planned. */
export interface VirtualTime extends Clock {
  /** As soon as what is planned for now has happened. */
  soon(work: () => void): void;
  /**
   * Lets things happen until `isDone` says so or time would pass `untilMs`. Between two happenings every promise that
   * can settle does.
   *
   * @returns whether `isDone` became true.
   */
  run(untilMs: number, isDone: () => boolean): Promise<boolean>;
  readonly happenings: number;
}

/** Not zero, so that a forgotten time is seen. */
const startMs = 1_700_000_000_000;

const promisesSettle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export function virtualTime(): VirtualTime {
  const planned = new BinaryHeap<Happening>((a, b) => a.atMs - b.atMs || a.order - b.order);
  let nowMs = startMs;
  let order = 0;
  let happenings = 0;
  const at = (atMs: number, work: () => void): () => void => {
    const happening: Happening = { atMs: Math.max(atMs, nowMs), order: order++, work, cancelled: false };
    planned.push(happening);
    return () => {
      happening.cancelled = true;
    };
  };
  return {
    now: () => nowMs,
    at,
    soon: (work) => void at(nowMs, work),
    async run(untilMs, isDone) {
      await promisesSettle();
      while (!isDone()) {
        const next = planned.peek();
        if (next === undefined || next.atMs > untilMs) {
          nowMs = Math.max(nowMs, untilMs);
          return isDone();
        }
        planned.pop();
        if (next.cancelled) continue;
        nowMs = next.atMs;
        happenings++;
        next.work();
        await promisesSettle();
      }
      return true;
    },
    get happenings() {
      return happenings;
    },
  };
}

/** One life of one process: what it planned does not happen once it is dead. */
export interface Life extends Clock {
  soon(work: () => void): void;
  readonly isAlive: boolean;
  /** `kill -9`: at once, and nothing is told. */
  kill(): void;
  /** Called at the kill, or at once after it, for what is outside of the process: its sockets. */
  onKill(work: () => void): void;
}

export function newLife(time: VirtualTime): Life {
  let isAlive = true;
  const onKill: (() => void)[] = [];
  const ifAlive = (work: () => void) => () => {
    if (isAlive) work();
  };
  return {
    now: time.now,
    at: (atMs, work) => time.at(atMs, ifAlive(work)),
    soon: (work) => time.soon(ifAlive(work)),
    get isAlive() {
      return isAlive;
    },
    kill() {
      if (!isAlive) return;
      isAlive = false;
      for (const work of onKill) work();
    },
    onKill(work) {
      if (isAlive) onKill.push(work);
      else work();
    },
  };
}
