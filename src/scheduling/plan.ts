import type { TaskId, WorkerId } from "../domain/ids.ts";
import { allot, type ClassLoad, sharesOf, targetsOf } from "./fairness.ts";
import { basisKey, createFleet, type Found, type Needs, type PlacingWorker, type Worker } from "./fleet.ts";
import { createFitting } from "./fitting.ts";
import { defaultPolicy, type Policy } from "./policy.ts";
import {
  type Class,
  createQueue,
  isWishBefore,
  type QueuedTask,
  type Unmet,
  type Waiting,
  type Wish,
} from "./queue.ts";
import { createOutlooks, type Outlook, type WaitsFor } from "./outlook.ts";
import { createPreemption, type Running } from "./preemption.ts";
import { createStranded, type Tidings } from "./stranded.ts";

/**
 * Whose turn it is, and where: the decision of the scheduler, without IO, clock or chance (architecture, idea 5).
 *
 * A view is kept up to date by what changes, so that a decision costs what it decides, not what is queued: at most the
 * logarithm of what waits and of the workers, times the groups of one requestor (queue.ts). Of the classes that have
 * tasks for which there may be room, the one is next that lacks most of its share among those that free slots come to
 * (fairness.ts); of its tasks the first by the order of queue.ts; and it goes where fleet.ts says. What finds no room
 * holds up nobody, until it has waited so long that room is kept for it.
 */
export type { Outlook, PlacingWorker, QueuedTask, Tidings, Unmet, WaitsFor };

/** What is known of a task when it comes to be on a worker. */
export type PlacedTask = Pick<QueuedTask, "taskId" | "requestor" | "rank" | "input" | "basis" | "needs">;

export interface Assignment {
  readonly taskId: TaskId;
  readonly workerId: WorkerId;
  /** Why this one, as a sentence. */
  readonly why: string;
}

/** The pure view that decisions are made from. Times are of one clock, in ms, and do not run backwards. */
export interface SchedulingView {
  /** Sorts what waits and what runs anew. */
  setPolicy(policy: Policy): void;
  /** Does nothing when it is queued already. */
  enqueue(task: QueuedTask): void;
  /** Does nothing when the task is not queued. */
  dequeue(taskId: TaskId): void;
  /** A task came to be on a worker, whoever decided it; if it was on another, it is there no more. */
  occupy(workerId: WorkerId, task: PlacedTask): void;
  /** It is there no more. Does nothing when it is on none. */
  vacate(taskId: TaskId): void;
  /** A worker that may be given tasks. */
  setWorker(worker: PlacingWorker): void;
  /** @param why it may be given nothing, when it is still here. */
  removeWorker(workerId: WorkerId, why?: string): void;
  /** The next assignment; the caller carries it out (dequeue, occupy) before asking again. Undefined: nothing fits. */
  next(nowMs: number): Assignment | undefined;
  /**
   * Tasks to be put back into the queue because classes are too far from their shares, those that started last first;
   * none unless the policy says `rebalance`. To be asked about as often as `rebalance.minimumMs`, or oftener.
   */
  preemptions(nowMs: number): readonly Assignment[];
  /** What queued tasks are to be told of whether a worker could ever run them: see {@link Stranded}. */
  news(nowMs: number): readonly Tidings[];
  /** Whether a requestor runs as many as it may. */
  isThrottled(requestor: string): boolean;
  /**
   * Whether a task of the one would be given a slot before those of the other, whatever came first: the other runs as many
   * as it may, or its class has its share while that of the one has slots to claim and nothing else for them.
   */
  goesBefore(requestor: string, other: string): boolean;
  /** Undefined when it is not queued. */
  outlook(taskId: TaskId, nowMs: number): Outlook | undefined;
  readonly queued: number;
  /** Whether {@link goesBefore} can be so of any of those that wait. */
  readonly mayPass: boolean;
  readonly busy: number;
  readonly slots: number;
  readonly workers: number;
  busyOn(workerId: WorkerId): number;
}

/** Licences and devices. */
interface Counter {
  readonly capacity: number;
  used: number;
  /** Kept for the task for which room is kept. */
  kept: number;
  readonly waiters: Set<Wish>;
}

/** What is kept for a task that small ones would never let through. */
interface Kept {
  readonly entry: Waiting;
  readonly worker: Worker | undefined;
  readonly counters: Readonly<Record<string, number>>;
  readonly sinceMs: number;
}

/** An hour of one slot: beyond it nobody's patience counts, in slot-seconds. */
const owedMax = 3_600;
/** How often it is looked whether something has waited so long, as a part of that time. */
const reserveChecks = 8;
const noCounters: Readonly<Record<string, number>> = {};

export function schedulingView(policy: Policy = defaultPolicy): SchedulingView {
  let settings = policy;
  const fleet = createFleet();
  const queue = createQueue(fleet, policy);
  /** Workers that are here and may be given nothing, with the reason. */
  const aside = new Map<WorkerId, string>();
  const running = new Map<TaskId, Running>();
  const blocked = new Map<Wish["ask"], Set<Wish>>();
  let counters = new Map<string, Counter>();
  let kept: Kept | undefined;
  let reserveCheckAtMs = 0;
  /** Credits are to be divided anew: something has changed beside what {@link next} decided. */
  let isStale = true;
  /** The free slots that were divided last. */
  let divided = 0;
  let promised: TaskId | undefined;
  let nowMs = 0;
  let accruedAtMs: number | undefined;

  // ---- room --------------------------------------------------------------------------------------------------------

  const counterOf = (name: string): Counter => {
    let counter = counters.get(name);
    if (counter === undefined) {
      counter = { capacity: settings.counters[name] ?? 0, used: 0, kept: 0, waiters: new Set() };
      counters.set(name, counter);
    }
    return counter;
  };
  const count = (needs: Needs | undefined, sign: 1 | -1): void => {
    if (needs?.counters === undefined) return;
    for (const name in needs.counters) {
      const counter = counterOf(name);
      counter.used += sign * needs.counters[name]!;
      if (sign < 0) wakeForCounter(counter);
    }
  };
  /** A counter of which too little is free. @param own what is kept counts as free. */
  const lacking = (needs: Needs | undefined, own: boolean): Counter | undefined => {
    if (needs?.counters === undefined) return undefined;
    for (const name in needs.counters) {
      const amount = needs.counters[name]!;
      if (amount === 0) continue;
      const counter = counterOf(name);
      if (counter.capacity - counter.used - (own ? 0 : counter.kept) < amount) return counter;
    }
    return undefined;
  };
  /** For how many tasks that want so much each enough of the counters is free. */
  const enoughFor = (needs: Needs | undefined): number => {
    let tasks = Infinity;
    for (const [name, amount] of Object.entries(needs?.counters ?? noCounters)) {
      const { capacity, used, kept } = counterOf(name);
      if (amount > 0) tasks = Math.min(tasks, Math.max(0, Math.floor((capacity - used - kept) / amount)));
    }
    return tasks;
  };
  const wake = (wish: Wish): void => {
    const { ask, class: one } = wish;
    const before = one.readyTasks;
    queue.wake(wish);
    if (blocked.get(ask)?.size === 0) blocked.delete(ask);
    noteReady(one, before);
  };
  const wakeForCounter = ({ waiters }: Counter): void => {
    for (const wish of waiters) if (lacking(wish.needs, false) === undefined) wake(wish);
  };
  const wakeFor = (worker: Worker): void => {
    if (worker.free <= 0) return;
    for (const ask of worker.pool.asks) {
      const those = blocked.get(ask);
      if (those === undefined) continue;
      for (const wish of those) if (fleet.hasRoom(worker, wish.needs)) wake(wish);
    }
  };
  const block = (wish: Wish, counter: Counter | undefined): void => {
    let where = counter?.waiters ?? blocked.get(wish.ask);
    if (where === undefined) blocked.set(wish.ask, where = new Set());
    const before = wish.class.readyTasks;
    queue.block(wish, where, nowMs);
    noteReady(wish.class, before);
  };
  const { couldRun, unmetBy } = createFitting(fleet, (name) => settings.counters[name] ?? 0);
  const stranded = createStranded(fleet, queue, { couldRun, unmetBy }, () => settings);
  const preemption = createPreemption({ fleet, queue, running, couldRun, enoughFor, policy: () => settings });
  const told = createOutlooks(queue, { couldRun, unmetBy }, (needs) => lacking(needs, false) !== undefined, aside);

  // ---- room that is kept -------------------------------------------------------------------------------------------

  const release = (): void => {
    if (kept === undefined) return;
    const { worker, counters: held } = kept;
    kept = undefined;
    isStale = true;
    for (const name in held) {
      const counter = counterOf(name);
      counter.kept = 0;
      wakeForCounter(counter);
    }
    if (worker === undefined) return;
    fleet.keep(worker, false);
    wakeFor(worker);
  };
  /** What it lacks there, in parts of what it wants. */
  const shortOf = ({ slots, load, cpuMillis, memoryBytes }: Worker, needs: Needs): number => {
    const cpu = needs.cpuMillis ?? 0;
    const memory = needs.memoryBytes ?? 0;
    return (cpu === 0 ? 0 : Math.max(0, cpu - (cpuMillis - load.cpuMillis)) / cpu) +
      (memory === 0 ? 0 : Math.max(0, memory - (memoryBytes - load.memoryBytes)) / memory) +
      (load.busy >= slots ? 1 : 0);
  };
  const keepRoom = (): void => {
    // The workers that it could have run on have gone, or its requestor runs as many as it may: nobody is to wait for it.
    if (kept !== undefined && (kept.entry.group.isHeld || !couldRun(kept.entry.group.wish))) release();
    const { reserveAfterMs } = settings;
    if (reserveAfterMs === 0 || kept !== undefined || queue.big.size === 0 || nowMs < reserveCheckAtMs) return;
    reserveCheckAtMs = nowMs + reserveAfterMs / reserveChecks;
    let oldest: Wish | undefined;
    for (const wish of queue.big) {
      if (wish.open === 0 || wish.noRoomSinceMs! > nowMs - reserveAfterMs || !couldRun(wish)) continue;
      const longer = oldest === undefined ? 1 : oldest.noRoomSinceMs! - wish.noRoomSinceMs!;
      if (longer > 0 || (longer === 0 && isWishBefore(wish, oldest!))) oldest = wish;
    }
    if (oldest === undefined) return;
    const needs = oldest.needs!;
    let best: Worker | undefined;
    if ((needs.cpuMillis ?? 0) > 0 || (needs.memoryBytes ?? 0) > 0) {
      let least = Infinity;
      for (const worker of fleet.meeting(oldest.ask)) {
        if (!fleet.couldRun(worker, needs)) continue;
        const short = shortOf(worker, needs);
        if (short < least) [least, best] = [short, worker];
      }
      fleet.keep(best!, true);
    }
    const held = needs.counters ?? noCounters;
    for (const name in held) counterOf(name).kept = held[name]!;
    kept = {
      entry: queue.headOf(oldest.groups.peek()!),
      worker: best,
      counters: held,
      sinceMs: oldest.noRoomSinceMs!,
    };
    isStale = true;
  };
  const nextKept = (): Assignment | undefined => {
    if (kept === undefined) return undefined;
    const { entry, worker, sinceMs } = kept;
    const { wish } = entry.group;
    if (lacking(wish.needs, true) !== undefined) return undefined;
    const found = worker ?? fleet.find(wish.ask, wish.needs, entry.input, undefined)?.worker;
    if (found === undefined || !fleet.hasRoom(found, wish.needs)) return undefined;
    const waited = Math.round((nowMs - sinceMs) / 1_000);
    promised = entry.taskId;
    return {
      taskId: entry.taskId,
      workerId: found.workerId,
      why: worker === undefined
        ? `what it wants of the cluster's counters was kept for it, after it had found too little for ${waited} s`
        : `${found.workerId} was kept for it, after it had found no worker with enough room for ${waited} s`,
    };
  };

  // ---- whose turn --------------------------------------------------------------------------------------------------

  const readyLoads = (): ClassLoad[] =>
    queue.classes.map(({ percent, floor, running, readyTasks, owed }) => ({
      percent,
      floor,
      running,
      waiting: readyTasks,
      owed,
    }));
  const accrue = (): void => {
    const { classes } = queue;
    const ms = nowMs - (accruedAtMs ?? nowMs);
    accruedAtMs = nowMs;
    if (classes.length < 2 || ms <= 0) return;
    for (const one of classes) {
      if (one.waiting === 0) one.owed = 0;
      else if (one.readyTasks > 0) {
        const lacks = fleet.slots * one.percent / 100 - one.running;
        one.owed = Math.max(-owedMax, Math.min(owedMax, one.owed + lacks * ms / 1_000));
      }
    }
    isStale = true;
  };
  const divide = (): void => {
    const loads = readyLoads();
    const shares = sharesOf(fleet.slots, loads);
    const credits = allot(fleet.slots, fleet.free, loads);
    for (const one of queue.classes) [one.share, one.credit] = [shares[one.at]!, credits[one.at]!];
    isStale = false;
    divided = fleet.free;
  };
  /** A class has more or fewer ready tasks than before: that counts only where they are fewer than it could be given. */
  const noteReady = (one: Class, before: number): void => {
    if (Math.min(before, one.readyTasks) <= Math.max(divided, one.floor)) isStale = true;
  };
  /** Of those that may start one, the class that lacks most: what room there is may end before the credits do. */
  const neediest = (): Class | undefined => {
    let best: Class | undefined;
    let most = -Infinity;
    for (const one of queue.classes) {
      const lacks = one.share - one.running;
      if (one.credit > 0 && one.readyTasks > 0 && lacks > most) [best, most] = [one, lacks];
    }
    return best;
  };
  const classInTurn = (): Class | undefined => {
    let only: Class | undefined;
    let ready = 0;
    for (const one of queue.classes) if (one.readyTasks > 0) [only, ready] = [one, ready + 1];
    if (ready < 2) return only;
    if (isStale) divide();
    const best = neediest();
    if (best !== undefined) return best;
    divide();
    return neediest();
  };
  const sentenceOf = ({ worker, near }: Found): string => {
    const { workerId, slots, load, pool } = worker;
    const free = `${slots - load.busy} of ${slots} slots free`;
    return near === "input"
      ? `${workerId} ran the same input last and has ${free}`
      : near === "basis"
      ? `${workerId} ran the same requestor's same basis last and has ${free}`
      : fleet.workers.size === 1
      ? `${workerId} is the only worker, with ${free}`
      : pool.workers.length - pool.vacant.length === fleet.workers.size
      ? `${workerId} has the most free slots of those that fit: ${free}`
      : `${workerId} has the most free slots of those that fit and have the fewest other properties: ${free}`;
  };

  const view: SchedulingView = {
    setPolicy(policy) {
      release();
      settings = policy;
      queue.setPolicy(policy);
      blocked.clear();
      counters = new Map();
      for (const { needs } of running.values()) count(needs, 1);
      isStale = true;
      promised = undefined;
      reserveCheckAtMs = 0;
      preemption.reset();
    },
    enqueue(task) {
      const one = queue.enqueue(task);
      if (one !== undefined) noteReady(one, one.readyTasks - 1);
    },
    dequeue(taskId) {
      const entry = queue.dequeue(taskId);
      if (entry === undefined) return;
      const { wish } = entry.group;
      if (blocked.get(wish.ask)?.size === 0) blocked.delete(wish.ask);
      if (taskId === promised) queue.served(wish);
      else noteReady(wish.class, wish.class.readyTasks + 1);
      if (entry === kept?.entry) release();
    },
    occupy(workerId, { taskId, requestor, rank, input, basis, needs }) {
      if (running.has(taskId)) view.vacate(taskId);
      const on = queue.start(requestor, rank, nowMs);
      running.set(taskId, { workerId, requestor: on, needs });
      count(needs, 1);
      fleet.occupy(workerId, needs, input, basis === undefined ? undefined : basisKey(requestor, basis));
      if (taskId === promised) {
        on.class.credit--;
        promised = undefined;
      } else isStale = true;
      if (on.running >= on.runningMax) isStale = true; // its others wait: its class may have less to start
    },
    vacate(taskId) {
      const was = running.get(taskId);
      if (was === undefined) return;
      running.delete(taskId);
      queue.end(was.requestor);
      const worker = fleet.vacate(was.workerId, was.needs);
      count(was.needs, -1);
      if (worker !== undefined) wakeFor(worker);
      isStale = true;
    },
    setWorker(fresh) {
      aside.delete(fresh.workerId);
      const known = fleet.workers.get(fresh.workerId);
      const worker = fleet.set(fresh);
      if (worker === undefined) return;
      if (known !== undefined && kept?.worker === known) release();
      wakeFor(worker);
      isStale = true;
    },
    removeWorker(workerId, why) {
      if (why === undefined) aside.delete(workerId);
      else aside.set(workerId, why);
      const known = fleet.workers.get(workerId);
      if (known === undefined) return;
      fleet.remove(workerId);
      if (kept?.worker === known) release();
      isStale = true;
    },
    next(atMs) {
      nowMs = Math.max(nowMs, atMs);
      accrue();
      promised = undefined;
      keepRoom();
      const first = nextKept();
      if (first !== undefined) return first;
      if (fleet.free <= 0) return undefined;
      for (let one = classInTurn(); one !== undefined; one = classInTurn()) {
        const wish = one.ready.peek()!;
        const counter = lacking(wish.needs, false);
        if (counter !== undefined) {
          block(wish, counter);
          continue;
        }
        const group = wish.groups.peek()!;
        const { taskId, input, basis } = queue.headOf(group);
        const near = basis === undefined ? undefined : basisKey(group.requestor.name, basis);
        const found = fleet.find(wish.ask, wish.needs, input, near);
        if (found === undefined) {
          block(wish, undefined);
          continue;
        }
        promised = taskId;
        return { taskId, workerId: found.worker.workerId, why: sentenceOf(found) };
      }
      return undefined;
    },
    preemptions: preemption.next,
    news: stranded.news,
    isThrottled: queue.isThrottled,
    goesBefore(requestor, other) {
      if (queue.isThrottled(requestor)) return false;
      if (queue.isThrottled(other)) return true;
      const [one, another] = [queue.classOf(requestor), queue.classOf(other)];
      if (one === another) return false;
      const shareOf = ({ percent, floor }: Class): number => Math.max(floor, fleet.slots * percent / 100);
      return one.running + one.readyTasks + 1 <= shareOf(one) && another.running >= shareOf(another);
    },
    outlook(taskId, atMs) {
      const entry = queue.waiting.get(taskId);
      if (entry === undefined) return undefined;
      nowMs = Math.max(nowMs, atMs);
      accrue();
      return told.of(entry, targetsOf(fleet.slots, readyLoads()));
    },
    get queued() {
      return queue.waiting.size;
    },
    get mayPass() {
      return queue.waiting.size > 0 && (queue.classes.length > 1 || queue.classes.some(({ held }) => held > 0));
    },
    get busy() {
      return running.size;
    },
    get slots() {
      return fleet.slots;
    },
    get workers() {
      return fleet.workers.size;
    },
    busyOn: fleet.busyOn,
  };
  return view;
}
