import { BinaryHeap } from "deno-std/data_structures/binary_heap.js";
import type { TaskId, WorkerId } from "../domain/ids.ts";

/**
 * Whose turn it is, and where: the decision of the scheduler, without IO, clock or chance (architecture, idea 5).
 *
 * A view is kept up to date by what changes, so that a decision costs what it decides, not what is queued. Order: rank
 * (lower first), then the requestor with the fewest running tasks, then who was put back, then who waits longest.
 * Placement: a worker that has every property that the task asks for and a free slot; of those the ones that last ran
 * the same input, then the one with the most free slots, then the first by name.
 */
export interface QueuedTask {
  readonly taskId: TaskId;
  readonly requestor: string;
  /** Lower first. */
  readonly rank: number;
  readonly platform: Readonly<Record<string, string>>;
  /** What its files come from: tasks of one input are put together. */
  readonly input: string;
  /** Queued before and given back: goes ahead of its requestor's others. */
  readonly again: boolean;
}

export interface PlacingWorker {
  readonly workerId: WorkerId;
  readonly slots: number;
  readonly platform: Readonly<Record<string, string>>;
}

export interface Assignment {
  readonly taskId: TaskId;
  readonly workerId: WorkerId;
  /** Why this one, as a sentence. */
  readonly why: string;
}

/** Flat and small: there may be a million. What tasks share stands in their group. */
interface Waiting {
  readonly taskId: TaskId;
  readonly input: string;
  readonly again: boolean;
  /** Of arrival in the view. */
  readonly order: number;
  readonly group: Group;
  gone: boolean;
}

/** Tasks that differ in nothing that a decision looks at but their age and input. */
interface Group {
  readonly key: string;
  readonly rank: number;
  readonly requestor: string;
  readonly platform: Readonly<Record<string, string>>;
  again: Waiting[];
  first: Waiting[];
  againHead: number;
  firstHead: number;
  size: number;
  /** Of the task that came last: tasks of one job come together and share one text. */
  lastInput: string;
  /** Its place among the others, as far as it was looked at. */
  turn: Turn | undefined;
  /** It has no turn: what it waits for, while no worker can take its head. */
  parked: Set<Group> | undefined;
}

/** What says whose turn it is, as of when it was written down. It counts while it is its group's. */
interface Turn {
  readonly group: Group;
  readonly running: number;
  readonly again: boolean;
  readonly order: number;
}

const compareTurns = (a: Turn, b: Turn): number =>
  a.group.rank - b.group.rank || a.running - b.running || Number(b.again) - Number(a.again) || a.order - b.order;

interface Slots extends PlacingWorker {
  busy: number;
  lastInput: string | undefined;
}

/** The pure view that {@link SchedulingView.plan} decides from. */
export interface SchedulingView {
  enqueue(task: QueuedTask): void;
  /** Does nothing when the task is not queued. */
  dequeue(taskId: TaskId): void;
  /** A task came to be on a worker (true) or is there no more (false), whoever decided it. */
  occupy(workerId: WorkerId, requestor: string, input: string): void;
  vacate(workerId: WorkerId, requestor: string): void;
  /** A worker that may be given tasks. */
  setWorker(worker: PlacingWorker): void;
  removeWorker(workerId: WorkerId): void;
  /** The next assignment; the caller carries it out (dequeue, occupy) before asking again. Undefined: nothing fits. */
  next(): Assignment | undefined;
  readonly queued: number;
  readonly busy: number;
  readonly slots: number;
  readonly workers: number;
  busyOn(workerId: WorkerId): number;
  /**
   * How many tasks of its kind and of lower rank go ahead of this one at most (some may have left from the middle of
   * their queue), and whether any present worker could run it.
   */
  outlook(
    taskId: TaskId,
  ): { readonly ahead: number; readonly fits: boolean; readonly unmet: readonly string[] } | undefined;
}

/** As JSON, because names and values may hold any character. */
const groupKey = ({ rank, requestor, platform }: QueuedTask): string =>
  JSON.stringify([rank, requestor, Object.entries(platform).sort(([a], [b]) => (a < b ? -1 : 1))]);

const isEmpty = (platform: Readonly<Record<string, string>>): boolean => {
  for (const _ in platform) return false;
  return true;
};

/** Whether a task is plainly of that group: most ask for nothing of their worker, and come after one like them. */
const isPlainlyOf = ({ rank, requestor, platform }: QueuedTask, group: Group): boolean =>
  group.size > 0 && rank === group.rank && requestor === group.requestor && isEmpty(platform) &&
  isEmpty(group.platform);

export const meets = (worker: PlacingWorker, platform: Readonly<Record<string, string>>): boolean => {
  for (const name in platform) if (worker.platform[name] !== platform[name]) return false;
  return true;
};

const isBetter = (a: Slots, b: Slots, input: string): boolean => {
  const isSame = a.lastInput === input;
  if (isSame !== (b.lastInput === input)) return isSame;
  const more = (a.slots - a.busy) - (b.slots - b.busy);
  return more === 0 ? a.workerId < b.workerId : more > 0;
};

/** How many of those that came in order came before: those that have gone since count as well. */
function countBefore(entries: readonly Waiting[], head: number, order: number): number {
  let low = head;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries[middle]!.order < order) low = middle + 1;
    else high = middle;
  }
  return low - head;
}

export function schedulingView(): SchedulingView {
  const waiting = new Map<TaskId, Waiting>();
  const groups = new Map<string, Group>();
  /** Of the task that came last. */
  let lastGroup: Group | undefined;
  const groupsOf = new Map<string, Set<Group>>();
  const waitingByRank = new Map<number, number>();
  /** Also turns that no longer count. */
  let turns = new BinaryHeap<Turn>(compareTurns);
  /** Groups whose head fits no worker: until one has room again, or until there is another worker. */
  const untilRoom = new Set<Group>();
  const untilWorker = new Set<Group>();
  const workers = new Map<WorkerId, Slots>();
  /** By worker, also of those that may not be given tasks now. */
  const occupied = new Map<WorkerId, number>();
  const running = new Map<string, number>();
  let order = 0;
  let busy = 0;
  let slots = 0;

  const headOf = (group: Group): Waiting | undefined => {
    while (group.againHead < group.again.length && group.again[group.againHead]!.gone) group.againHead++;
    if (group.againHead < group.again.length) return group.again[group.againHead];
    group.again = [];
    group.againHead = 0;
    while (group.firstHead < group.first.length && group.first[group.firstHead]!.gone) group.firstHead++;
    if (group.firstHead > 1_024 && group.firstHead * 2 > group.first.length) {
      group.first = group.first.slice(group.firstHead);
      group.firstHead = 0;
    }
    return group.first[group.firstHead];
  };
  /** Writes down when it is the turn of a group of which something has changed. */
  const takeTurn = (group: Group): void => {
    if (group.parked !== undefined) return;
    const head = headOf(group)!;
    const now = running.get(group.requestor) ?? 0;
    const { turn } = group;
    if (turn !== undefined && turn.order === head.order && turn.running === now) return;
    group.turn = { group, running: now, again: head.again, order: head.order };
    if (turns.length > 2 * groups.size + 64) {
      turns = new BinaryHeap<Turn>(compareTurns);
      for (const { turn } of groups.values()) if (turn !== undefined) turns.push(turn);
    } else turns.push(group.turn);
  };
  const takeTurns = (those: Iterable<Group>): void => {
    for (const group of those) takeTurn(group);
  };
  const park = (group: Group, where: Set<Group>): void => {
    group.turn = undefined;
    group.parked = where;
    where.add(group);
  };
  const comeBack = (those: Set<Group>): void => {
    for (const group of those) {
      group.parked = undefined;
      takeTurn(group);
    }
    those.clear();
  };
  const count = (rank: number, change: number): void =>
    void waitingByRank.set(rank, (waitingByRank.get(rank) ?? 0) + change);
  const hasFreeSlot = (): boolean => {
    for (const worker of workers.values()) if (worker.busy < worker.slots) return true;
    return false;
  };
  const workerFor = (group: Group, input: string): { worker: Slots; same: boolean } | undefined => {
    let best: Slots | undefined;
    for (const worker of workers.values()) {
      if (worker.busy >= worker.slots || !meets(worker, group.platform)) continue;
      if (best === undefined || isBetter(worker, best, input)) best = worker;
    }
    return best === undefined ? undefined : { worker: best, same: best.lastInput === input };
  };

  const view: SchedulingView = {
    enqueue(task) {
      if (waiting.has(task.taskId)) return;
      let group = lastGroup !== undefined && isPlainlyOf(task, lastGroup) ? lastGroup : groups.get(groupKey(task));
      if (group === undefined) {
        const key = groupKey(task);
        group = {
          key,
          rank: task.rank,
          requestor: task.requestor,
          platform: task.platform,
          again: [],
          first: [],
          againHead: 0,
          firstHead: 0,
          size: 0,
          lastInput: task.input,
          turn: undefined,
          parked: undefined,
        };
        groups.set(key, group);
        const those = groupsOf.get(task.requestor);
        if (those === undefined) groupsOf.set(task.requestor, new Set([group]));
        else those.add(group);
      }
      lastGroup = group;
      if (task.input !== group.lastInput) group.lastInput = task.input;
      const entry: Waiting = {
        taskId: task.taskId,
        input: group.lastInput,
        again: task.again,
        order: order++,
        group,
        gone: false,
      };
      (task.again ? group.again : group.first).push(entry);
      group.size++;
      count(group.rank, 1);
      waiting.set(task.taskId, entry);
      if (headOf(group) === entry) takeTurn(group);
    },
    dequeue(taskId) {
      const entry = waiting.get(taskId);
      if (entry === undefined) return;
      waiting.delete(taskId);
      entry.gone = true;
      const { group } = entry;
      count(group.rank, -1);
      if (--group.size > 0) {
        if (group.turn?.order === entry.order) takeTurn(group);
        return;
      }
      group.turn = undefined;
      group.parked?.delete(group);
      groups.delete(group.key);
      const those = groupsOf.get(group.requestor)!;
      those.delete(group);
      if (those.size === 0) groupsOf.delete(group.requestor);
    },
    occupy(workerId, requestor, input) {
      busy++;
      occupied.set(workerId, (occupied.get(workerId) ?? 0) + 1);
      running.set(requestor, (running.get(requestor) ?? 0) + 1);
      takeTurns(groupsOf.get(requestor) ?? []);
      const worker = workers.get(workerId);
      if (worker === undefined) return;
      worker.busy++;
      worker.lastInput = input;
    },
    vacate(workerId, requestor) {
      busy--;
      const left = (occupied.get(workerId) ?? 1) - 1;
      if (left === 0) occupied.delete(workerId);
      else occupied.set(workerId, left);
      const others = (running.get(requestor) ?? 1) - 1;
      if (others === 0) running.delete(requestor);
      else running.set(requestor, others);
      takeTurns(groupsOf.get(requestor) ?? []);
      const worker = workers.get(workerId);
      if (worker === undefined) return;
      worker.busy--;
      comeBack(untilRoom);
    },
    setWorker(worker) {
      const known = workers.get(worker.workerId);
      slots += worker.slots - (known?.slots ?? 0);
      workers.set(worker.workerId, {
        ...worker,
        busy: occupied.get(worker.workerId) ?? 0,
        lastInput: known?.lastInput,
      });
      comeBack(untilRoom);
      comeBack(untilWorker);
    },
    removeWorker(workerId) {
      slots -= workers.get(workerId)?.slots ?? 0;
      workers.delete(workerId);
    },
    next() {
      if (groups.size === 0 || !hasFreeSlot()) return undefined;
      for (let turn = turns.peek(); turn !== undefined; turn = turns.peek()) {
        const { group } = turn;
        if (group.turn !== turn) {
          turns.pop();
          continue;
        }
        const { taskId, input } = headOf(group)!;
        const chosen = workerFor(group, input);
        if (chosen !== undefined) {
          const { worker, same } = chosen;
          const free = `${worker.slots - worker.busy} of ${worker.slots} slots free`;
          const why = same
            ? `${worker.workerId} ran the same input last and has ${free}`
            : workers.size === 1
            ? `${worker.workerId} is the only worker, with ${free}`
            : `${worker.workerId} has the most free slots of those that fit: ${free}`;
          return { taskId, workerId: worker.workerId, why };
        }
        turns.pop();
        const mayFit = [...workers.values()].some((worker) => meets(worker, group.platform));
        park(group, mayFit ? untilRoom : untilWorker);
      }
      return undefined;
    },
    get queued() {
      return waiting.size;
    },
    get busy() {
      return busy;
    },
    get slots() {
      return slots;
    },
    get workers() {
      return workers.size;
    },
    busyOn: (workerId) => occupied.get(workerId) ?? 0,
    outlook(taskId) {
      const entry = waiting.get(taskId);
      if (entry === undefined) return undefined;
      const { again, againHead, first, firstHead, rank, platform } = entry.group;
      let ahead = entry.again
        ? countBefore(again, againHead, entry.order)
        : again.length - againHead + countBefore(first, firstHead, entry.order);
      for (const [other, waits] of waitingByRank) if (other < rank) ahead += waits;
      const fits = [...workers.values()].some((worker) => meets(worker, platform));
      const unmet = fits ? [] : Object.entries(platform)
        .filter(([name, value]) => ![...workers.values()].some((worker) => worker.platform[name] === value))
        .map(([name, value]) => `${name}=${value}`);
      return { ahead, fits, unmet };
    },
  };
  return view;
}
