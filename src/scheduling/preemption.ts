import type { TaskId, WorkerId } from "../domain/ids.ts";
import { type ClassLoad, rebalanceOf, spreadOf } from "./fairness.ts";
import type { Fleet, Needs, Worker } from "./fleet.ts";
import type { Assignment } from "./plan.ts";
import type { Policy } from "./policy.ts";
import type { Queue, Requestor, Wish } from "./queue.ts";

/** A task that is with a worker. */
export interface Running {
  readonly workerId: WorkerId;
  readonly requestor: Requestor;
  readonly needs: Needs | undefined;
}

export interface PreemptionOptions {
  readonly fleet: Fleet;
  readonly queue: Queue;
  /** In the order in which they were placed. */
  readonly running: ReadonlyMap<TaskId, Running>;
  /** Whether any worker could run what it wants, were it empty. */
  readonly couldRun: (wish: Wish) => boolean;
  /** For how many tasks that want so much the cluster's counters have enough. */
  readonly enoughFor: (needs: Needs | undefined) => number;
  readonly policy: () => Policy;
}

/**
 * Which running tasks go back into the queue, as classes were too far from their shares for too long. Each that does makes
 * room, where it is, for one that waits and may start: nobody gives way in vain. A task that takes the room of several is
 * not made room for; it has room kept for it (plan.ts).
 */
export interface Preemption {
  next(nowMs: number): readonly Assignment[];
  /** The policy is another. */
  reset(): void;
}

/** Tasks that could start if there were room. */
interface Want {
  readonly wish: Wish;
  left: number;
}

/** What is free at a worker, when what was decided has been done. */
interface Room {
  slots: number;
  cpuMillis: number;
  memoryBytes: number;
}

const cpuOf = (needs: Needs | undefined): number => needs?.cpuMillis ?? 0;
const memoryOf = (needs: Needs | undefined): number => needs?.memoryBytes ?? 0;

const fits = (room: Room, needs: Needs | undefined): boolean =>
  room.slots > 0 && cpuOf(needs) <= Math.max(0, room.cpuMillis) && memoryOf(needs) <= Math.max(0, room.memoryBytes);
const take = (room: Room, needs: Needs | undefined, sign: 1 | -1): void => {
  room.slots -= sign;
  room.cpuMillis -= sign * cpuOf(needs);
  room.memoryBytes -= sign * memoryOf(needs);
};
const roomOf = ({ slots, cpuMillis, memoryBytes, load }: Worker): Room => ({
  slots: slots - load.busy,
  cpuMillis: cpuMillis - load.cpuMillis,
  memoryBytes: memoryBytes - load.memoryBytes,
});

export function createPreemption(options: PreemptionOptions): Preemption {
  const { fleet, queue, running, couldRun, enoughFor } = options;
  let unbalancedSinceMs: number | undefined;

  /**
   * What could start if there were room, what takes the least memory first: nobody gives way to a task that no worker could
   * run, nor to more than their requestor may run or the cluster's counters have enough for. Costs as much as there are
   * groups.
   */
  const startable = (): readonly Want[] => {
    const byRequestor = new Map<Requestor, number>();
    const wants: Want[] = [];
    for (const wish of queue.wishes.values()) {
      if (!couldRun(wish)) continue;
      const enough = enoughFor(wish.needs);
      let left = enough;
      for (const { requestor, isHeld, size } of wish.byKey.values()) {
        if (isHeld || left === 0) continue;
        const before = byRequestor.get(requestor) ?? 0;
        const more = Math.min(size, left, requestor.runningMax - requestor.running - before);
        byRequestor.set(requestor, before + more);
        left -= more;
        if (wants.at(-1)?.wish === wish) wants.at(-1)!.left += more;
        else wants.push({ wish, left: more });
      }
    }
    return wants.sort((a, b) => memoryOf(a.wish.needs) - memoryOf(b.wish.needs));
  };

  /** @param starts of each class: how many more are to start. It is counted down, as stops are. */
  const chosen = (wants: readonly Want[], starts: number[], stops: number[], why: string): readonly Assignment[] => {
    const rooms = new Map<Worker, Room>();
    const wanting = wants.filter(({ wish }) => starts[wish.class.at]! > 0);
    const wantedAt = ({ pool }: Worker, room: Room): Want | undefined => {
      for (const want of wanting) {
        const { wish } = want;
        if (memoryOf(wish.needs) > room.memoryBytes) return undefined;
        if (want.left > 0 && starts[wish.class.at]! > 0 && wish.ask.pools.has(pool) && fits(room, wish.needs)) {
          return want;
        }
      }
      return undefined;
    };
    const give = (room: Room, want: Want): void => {
      take(room, want.wish.needs, 1);
      want.left--;
      starts[want.wish.class.at]!--;
    };
    const those: Assignment[] = [];
    for (const [taskId, { workerId, requestor, needs }] of [...running].reverse()) {
      if (starts.every((start) => start === 0)) break;
      const worker = fleet.workers.get(workerId);
      if (stops[requestor.class.at]! <= 0 || worker === undefined || worker.isKept) continue;
      let room = rooms.get(worker);
      if (room === undefined) {
        rooms.set(worker, room = roomOf(worker));
        // For these nobody needs to go.
        for (let want = wantedAt(worker, room); want !== undefined; want = wantedAt(worker, room)) give(room, want);
      }
      take(room, needs, -1);
      const want = wantedAt(worker, room);
      if (want === undefined) {
        take(room, needs, 1);
        continue;
      }
      give(room, want);
      stops[requestor.class.at]!--;
      those.push({ taskId, workerId, why: `${why}: class ${requestor.class.name} had more than its own` });
    }
    return those;
  };

  return {
    reset() {
      unbalancedSinceMs = undefined;
    },
    next(nowMs) {
      const { rebalance } = options.policy();
      if (rebalance === undefined) return [];
      const loads = queue.classes.map(({ percent, floor, running, waiting, held, owed }) => ({
        percent,
        floor,
        running,
        waiting: waiting - held,
        owed,
      }));
      const isBalanced = (those: readonly ClassLoad[]): boolean => spreadOf(fleet.slots, those) <= rebalance.threshold;
      if (isBalanced(loads)) {
        unbalancedSinceMs = undefined;
        return [];
      }
      unbalancedSinceMs ??= nowMs;
      if (nowMs - unbalancedSinceMs < rebalance.minimumMs) return [];
      unbalancedSinceMs = undefined;
      const wants = startable();
      const spread = spreadOf(fleet.slots, loads);
      for (const load of loads) load.waiting = 0;
      for (const { wish, left } of wants) loads[wish.class.at]!.waiting += left;
      if (isBalanced(loads)) return [];
      const changes = rebalanceOf(fleet.slots, loads);
      const starts = changes.map((change, at) => Math.max(0, Math.min(change, loads[at]!.waiting)));
      const stops = changes.map((change) => Math.max(0, -change));
      const why = `The shares of classes were ${spread} points apart for ${rebalance.minimumMs / 1_000} s or more`;
      return chosen(wants, starts, stops, why);
    },
  };
}
