import type { TaskId, WorkerId } from "../domain/ids.ts";
import { type Ask, type Fleet, type Needs } from "./fleet.ts";
import { type HeapMember, IndexedHeap } from "./indexed_heap.ts";
import { classifier, type Policy, throttler } from "./policy.ts";

/**
 * Who is next of a class. Tasks that differ in nothing that a decision looks at but their age and input are a group;
 * groups that want the same of a worker are a wish, which waits as a whole while there is no room for it.
 *
 * Order of groups: their rank (lower first), then the requestor with the fewest running tasks, then whose head was put
 * back, then whose head came first. The head of a group ages: a task of rank r goes ahead of every head of rank s that
 * became one at least (r − s + 1) × ageingMs later, and of no lower rank's that became one less than (r − s) × ageingMs
 * later. A head became one when it was queued (or the task behind it, when it was put back), or when its requestor was
 * last given a slot at that rank, whichever came later.
 */
export interface QueuedTask {
  readonly taskId: TaskId;
  readonly requestor: string;
  /** Lower first. */
  readonly rank: number;
  readonly platform: Readonly<Record<string, string>>;
  /** What its files come from: tasks of one input are put together. */
  readonly input: string;
  /** What its job is based on: tasks of one requestor and basis are put together. */
  readonly basis?: string | undefined;
  readonly needs?: Needs | undefined;
  /** Queued before and given back: goes ahead of its requestor's others. */
  readonly again: boolean;
  readonly queuedAtMs: number;
  /** It was told before that no worker could run it. */
  readonly told?: boolean;
}

/** Flat and small: there may be a million. What tasks share stands in their group. */
export interface Waiting {
  readonly taskId: TaskId;
  readonly input: string;
  readonly basis: string | undefined;
  readonly again: boolean;
  readonly queuedAtMs: number;
  /** Of arrival in the queue. */
  readonly order: number;
  readonly group: Group;
  gone: boolean;
  /** Which statement of its wish it was told last (stranded.ts); 0: none, -1: one of an earlier life of this scheduler. */
  told: number;
}

export interface Group extends HeapMember {
  readonly key: string;
  readonly rank: number;
  readonly requestor: Requestor;
  wish: Wish;
  /** Its requestor may start no more now: it is in no heap. */
  isHeld: boolean;
  again: Waiting[];
  first: Waiting[];
  againHead: number;
  firstHead: number;
  size: number;
  /** Of the task that came last: tasks of one job come together and share one text. */
  lastInput: string;
  lastBasis: string | undefined;
  /** What its place among the others is by, as of when it was put there. */
  level: number;
  running: number;
  queuedAtMs: number;
  isAgain: boolean;
  order: number;
}

export interface Wish extends HeapMember {
  readonly key: string;
  readonly class: Class;
  readonly ask: Ask;
  readonly needs: Needs | undefined;
  readonly groups: IndexedHeap<Group>;
  readonly byKey: Map<string, Group>;
  size: number;
  /** Of those, in groups whose requestor may start one. */
  open: number;
  /** It has found no room, and waits in here; otherwise, if any of it is open, it is among the ready ones of its class. */
  blockedIn: Set<Wish> | undefined;
  /** When it first found no room, since one of its tasks was last given some. */
  noRoomSinceMs: number | undefined;
  /** Whether a worker could run it, as of that version of the fleet, and what is nowhere to be had if somebody asked. */
  fits: boolean;
  unmet: Unmet | undefined;
  fitsVersion: number;
  /** Since when it has been seen that no worker could run it; undefined: one could. */
  strandedSinceMs: number | undefined;
  /** What its tasks are to be told, as a text and a number from 1; and how many were told anything, and this. */
  statement: string;
  statementNumber: number;
  told: number;
  toldThis: number;
}

/** What keeps a wish from every worker that is here. */
export interface Unmet {
  /** Properties, resources and counters that nobody has, as `name=value`. Empty: they are there, but not together. */
  readonly lacks: readonly string[];
  /** The worker that comes nearest, and what it has instead: `gpu=b`, `no gpu`, `memoryBytes=16000000000`. */
  readonly nearest?: { readonly workerId: WorkerId; readonly has: readonly string[] };
}

export interface Class {
  readonly at: number;
  readonly name: string;
  readonly percent: number;
  readonly floor: number;
  readonly ready: IndexedHeap<Wish>;
  readonly waitingByRank: Map<number, number>;
  running: number;
  waiting: number;
  /** Of those, of requestors that may start no more now. */
  held: number;
  /** Of the others, in wishes that may find room. */
  readyTasks: number;
  /** See `ClassLoad.owed`; in slot-seconds. */
  owed: number;
  /** By the last division of the free slots: what it should have, not rounded, and how many of its tasks may start. */
  share: number;
  credit: number;
}

export interface Requestor {
  readonly name: string;
  class: Class;
  running: number;
  /** So many may run at once. */
  runningMax: number;
  readonly groups: Set<Group>;
  /** By rank: when it was last given a slot. */
  readonly servedAtMs: Map<number, number>;
}

export interface Queue {
  readonly classes: readonly Class[];
  readonly waiting: ReadonlyMap<TaskId, Waiting>;
  readonly wishes: ReadonlyMap<string, Wish>;
  /** Wishes for which there was no room at least once since they were last served, and that want more than a slot. */
  readonly big: ReadonlySet<Wish>;
  /** Does nothing when it is queued already. @returns its class, if its wish is not blocked. */
  enqueue(task: QueuedTask): Class | undefined;
  dequeue(taskId: TaskId): Waiting | undefined;
  /** A task of that requestor and rank was given a slot, then. */
  start(requestor: string, rank: number, atMs: number): Requestor;
  end(requestor: Requestor): void;
  /** Whether it runs as many as it may. */
  isThrottled(requestor: string): boolean;
  classOf(requestor: string): Class;
  headOf(group: Group): Waiting;
  block(wish: Wish, where: Set<Wish>, atMs: number): void;
  wake(wish: Wish): void;
  /** It was given room. */
  served(wish: Wish): void;
  /** What waits and what runs is sorted anew, and nothing is blocked. What classes of the same name are owed stays. */
  setPolicy(policy: Policy): void;
}

const isGroupBefore = (a: Group, b: Group): boolean =>
  a.level !== b.level
    ? a.level < b.level
    : a.rank !== b.rank
    ? a.rank < b.rank
    : a.running !== b.running
    ? a.running < b.running
    : a.isAgain !== b.isAgain
    ? a.isAgain
    : a.order < b.order;
export const isWishBefore = (a: Wish, b: Wish): boolean => isGroupBefore(a.groups.peek()!, b.groups.peek()!);

const isEmpty = (record: Readonly<Record<string, unknown>>): boolean => {
  for (const _ in record) return false;
  return true;
};

/** What it wants beside a slot, as a text: equal for equal needs, and empty for none. */
function needsKey(needs: Needs | undefined): string {
  if (needs === undefined) return "";
  const { cpuMillis = 0, memoryBytes = 0, counters = {} } = needs;
  const counted = Object.entries(counters).filter(([, amount]) => amount > 0).sort(([a], [b]) => (a < b ? -1 : 1));
  if (cpuMillis === 0 && memoryBytes === 0 && counted.length === 0) return "";
  return JSON.stringify([cpuMillis, memoryBytes, counted]);
}

/** How many of those that came in order came before: those that have gone since count as well. */
export function countBefore(entries: readonly Waiting[], head: number, order: number): number {
  let low = head;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entries[middle]!.order < order) low = middle + 1;
    else high = middle;
  }
  return low - head;
}

export function createQueue(fleet: Fleet, initial: Policy): Queue {
  const waiting = new Map<TaskId, Waiting>();
  const requestors = new Map<string, Requestor>();
  const wishes = new Map<string, Wish>();
  const big = new Set<Wish>();
  let classes: readonly Class[] = [];
  let classOf: (requestor: string) => number = () => 0;
  let runningMaxOf: (requestor: string) => number = () => Infinity;
  let ageingMs = 0;
  let order = 0;
  /** Of the task that came last. */
  let lastGroup: Group | undefined;

  const requestorOf = (name: string): Requestor => {
    let requestor = requestors.get(name);
    if (requestor === undefined) {
      requestor = {
        name,
        class: classes[classOf(name)]!,
        running: 0,
        runningMax: runningMaxOf(name),
        groups: new Set(),
        servedAtMs: new Map(),
      };
      requestors.set(name, requestor);
    }
    return requestor;
  };
  const forgetIdle = (requestor: Requestor): void => {
    if (requestor.running === 0 && requestor.groups.size === 0) requestors.delete(requestor.name);
  };
  /** The first of those that were put back, and the first of the others. */
  const againOf = (group: Group): Waiting | undefined => {
    while (group.againHead < group.again.length && group.again[group.againHead]!.gone) group.againHead++;
    if (group.againHead > 0 && group.againHead === group.again.length) {
      group.again = [];
      group.againHead = 0;
    }
    return group.again[group.againHead];
  };
  const firstOf = (group: Group): Waiting | undefined => {
    while (group.firstHead < group.first.length && group.first[group.firstHead]!.gone) group.firstHead++;
    if (group.firstHead > 1_024 && group.firstHead * 2 > group.first.length) {
      group.first = group.first.slice(group.firstHead);
      group.firstHead = 0;
    }
    return group.first[group.firstHead];
  };
  /** Puts a group where it belongs, and its wish as well: what its requestor has may have changed, its heads have not. */
  const reorder = (group: Group): void => {
    const { wish, requestor, rank } = group;
    if (group.isHeld) return;
    if (ageingMs === 0) group.level = rank;
    else {
      const sinceMs = Math.max(group.queuedAtMs, requestor.servedAtMs.get(rank) ?? -Infinity);
      group.level = rank + Math.floor(sinceMs / ageingMs);
    }
    group.running = requestor.running;
    const leader = wish.groups.peek();
    wish.groups.put(group);
    if (wish.blockedIn !== undefined) return;
    if (leader === group || wish.groups.peek() === group) wish.class.ready.put(wish);
  };
  /** The same when its heads may have changed. */
  const place = (group: Group): void => {
    const again = againOf(group);
    const first = firstOf(group);
    const head = (again ?? first)!;
    // Whoever was put back goes ahead of others of its group, and must not make them younger.
    group.queuedAtMs = Math.min(head.queuedAtMs, first?.queuedAtMs ?? Infinity);
    group.isAgain = head.again;
    group.order = head.order;
    reorder(group);
  };
  const hold = (group: Group): void => {
    const { wish, size } = group;
    const isLeader = wish.groups.peek() === group;
    group.isHeld = true;
    wish.groups.remove(group);
    wish.open -= size;
    wish.class.held += size;
    if (wish.blockedIn !== undefined) return;
    wish.class.readyTasks -= size;
    if (wish.groups.size === 0) wish.class.ready.remove(wish);
    else if (isLeader) wish.class.ready.put(wish);
  };
  const letGo = (group: Group): void => {
    const { wish, size } = group;
    group.isHeld = false;
    wish.open += size;
    wish.class.held -= size;
    if (wish.blockedIn === undefined) wish.class.readyTasks += size;
    reorder(group);
  };
  /** Of a requestor that has more or fewer running tasks. There may be many, so the tasks themselves are not looked at. */
  const reorderAll = ({ groups, running, runningMax }: Requestor): void => {
    const isHeld = running >= runningMax;
    for (const group of groups) {
      if (isHeld === group.isHeld) reorder(group);
      else if (isHeld) hold(group);
      else letGo(group);
    }
  };
  const count = (one: Class, rank: number, change: number): void => {
    one.waiting += change;
    const now = (one.waitingByRank.get(rank) ?? 0) + change;
    if (now === 0) one.waitingByRank.delete(rank);
    else one.waitingByRank.set(rank, now);
  };
  const wishFor = (one: Class, platform: Readonly<Record<string, string>>, needs: Needs | undefined): Wish => {
    const ask = fleet.ask(platform);
    const wants = needsKey(needs);
    const key = `${one.at} ${ask.key} ${wants}`;
    const known = wishes.get(key);
    if (known !== undefined) {
      fleet.unask(ask);
      return known;
    }
    const wish: Wish = {
      heapAt: -1,
      key,
      class: one,
      ask,
      needs: wants === "" ? undefined : needs,
      groups: new IndexedHeap<Group>(isGroupBefore),
      byKey: new Map(),
      size: 0,
      open: 0,
      blockedIn: undefined,
      noRoomSinceMs: undefined,
      fits: false,
      unmet: undefined,
      fitsVersion: -1,
      strandedSinceMs: undefined,
      statement: "",
      statementNumber: 0,
      told: 0,
      toldThis: 0,
    };
    wishes.set(key, wish);
    return wish;
  };
  const dropWish = (wish: Wish): void => {
    wish.class.ready.remove(wish);
    wish.blockedIn?.delete(wish);
    big.delete(wish);
    wishes.delete(wish.key);
    fleet.unask(wish.ask);
  };
  const groupFor = (task: QueuedTask): Group => {
    const { rank, platform, needs, input, basis } = task;
    if (
      lastGroup !== undefined && lastGroup.size > 0 && rank === lastGroup.rank &&
      task.requestor === lastGroup.requestor.name &&
      (platform === lastGroup.wish.ask.platform || (isEmpty(platform) && isEmpty(lastGroup.wish.ask.platform))) &&
      needs === lastGroup.wish.needs
    ) return lastGroup;
    const requestor = requestorOf(task.requestor);
    const wish = wishFor(requestor.class, platform, needs);
    const key = `${rank} ${requestor.name}`;
    let group = wish.byKey.get(key);
    if (group === undefined) {
      group = {
        heapAt: -1,
        key,
        rank,
        requestor,
        wish,
        isHeld: requestor.running >= requestor.runningMax,
        again: [],
        first: [],
        againHead: 0,
        firstHead: 0,
        size: 0,
        lastInput: input,
        lastBasis: basis,
        level: 0,
        running: 0,
        queuedAtMs: 0,
        isAgain: false,
        order: 0,
      };
      wish.byKey.set(key, group);
      requestor.groups.add(group);
    }
    return group;
  };
  const wake = (wish: Wish): void => {
    if (wish.blockedIn === undefined) return;
    wish.blockedIn.delete(wish);
    wish.blockedIn = undefined;
    wish.class.readyTasks += wish.open;
    if (wish.open > 0) wish.class.ready.put(wish);
  };
  /** What its tasks were told was by another wish. @returns how many were told anything. */
  const retold = ({ again, againHead, first, firstHead }: Group): number => {
    let told = 0;
    for (const [entries, head] of [[again, againHead], [first, firstHead]] as const) {
      for (let at = head; at < entries.length; at++) {
        const entry = entries[at]!;
        if (entry.gone || entry.told === 0) continue;
        entry.told = -1;
        told++;
      }
    }
    return told;
  };
  const sort = (policy: Policy): void => {
    const owed = new Map(classes.map((one) => [one.name, one.owed]));
    classOf = classifier(policy);
    runningMaxOf = throttler(policy);
    ageingMs = policy.ageingMs;
    classes = policy.classes.map(({ name, percent, floor }, at) => ({
      at,
      name,
      percent,
      floor,
      ready: new IndexedHeap<Wish>(isWishBefore),
      waitingByRank: new Map(),
      running: 0,
      waiting: 0,
      held: 0,
      readyTasks: 0,
      owed: owed.get(name) ?? 0,
      share: 0,
      credit: 0,
    }));
    const old = [...wishes.values()];
    wishes.clear();
    big.clear();
    lastGroup = undefined;
    for (const requestor of requestors.values()) {
      requestor.class = classes[classOf(requestor.name)]!;
      requestor.class.running += requestor.running;
      requestor.runningMax = runningMaxOf(requestor.name);
    }
    for (const wish of old) {
      wish.blockedIn?.delete(wish);
      for (const group of wish.byKey.values()) {
        const now = wishFor(group.requestor.class, wish.ask.platform, wish.needs);
        group.wish = now;
        group.heapAt = -1;
        group.isHeld = group.requestor.running >= group.requestor.runningMax;
        now.byKey.set(group.key, group);
        now.size += group.size;
        if (group.isHeld) now.class.held += group.size;
        else {
          now.open += group.size;
          now.class.readyTasks += group.size;
        }
        now.told += retold(group);
        count(now.class, group.rank, group.size);
        place(group);
      }
    }
    for (const wish of old) fleet.unask(wish.ask);
  };
  sort(initial);

  return {
    get classes() {
      return classes;
    },
    waiting,
    wishes,
    big,
    enqueue(task) {
      if (waiting.has(task.taskId)) return undefined;
      const group = groupFor(task);
      lastGroup = group;
      if (task.input !== group.lastInput) group.lastInput = task.input;
      if (task.basis !== group.lastBasis) group.lastBasis = task.basis;
      const entry: Waiting = {
        taskId: task.taskId,
        input: group.lastInput,
        basis: group.lastBasis,
        again: task.again,
        queuedAtMs: task.queuedAtMs,
        order: order++,
        group,
        gone: false,
        told: task.told === true ? -1 : 0,
      };
      (task.again ? group.again : group.first).push(entry);
      group.size++;
      const { wish } = group;
      wish.size++;
      count(wish.class, group.rank, 1);
      if (entry.told !== 0) wish.told++;
      const isReady = wish.blockedIn === undefined && !group.isHeld;
      if (group.isHeld) wish.class.held++;
      else wish.open++;
      if (isReady) wish.class.readyTasks++;
      waiting.set(task.taskId, entry);
      if ((task.again ? againOf(group) : firstOf(group)) === entry) place(group);
      return isReady ? wish.class : undefined;
    },
    dequeue(taskId) {
      const entry = waiting.get(taskId);
      if (entry === undefined) return undefined;
      waiting.delete(taskId);
      entry.gone = true;
      const { group } = entry;
      const { wish, requestor } = group;
      count(wish.class, group.rank, -1);
      wish.size--;
      if (group.isHeld) wish.class.held--;
      else {
        wish.open--;
        if (wish.blockedIn === undefined) wish.class.readyTasks--;
      }
      if (entry.told !== 0) wish.told--;
      if (entry.told === wish.statementNumber && entry.told !== 0) wish.toldThis--;
      if (--group.size > 0) {
        if (group.order === entry.order || group.isAgain) place(group);
        return entry;
      }
      wish.groups.remove(group);
      wish.byKey.delete(group.key);
      requestor.groups.delete(group);
      if (requestor.groups.size === 0) requestor.servedAtMs.clear();
      forgetIdle(requestor);
      if (wish.size === 0) dropWish(wish);
      else if (wish.open === 0) wish.class.ready.remove(wish);
      else if (wish.blockedIn === undefined) wish.class.ready.put(wish);
      return entry;
    },
    start(name, rank, atMs) {
      const requestor = requestorOf(name);
      requestor.running++;
      requestor.class.running++;
      if (requestor.groups.size > 0) {
        requestor.servedAtMs.set(rank, atMs);
        reorderAll(requestor);
      }
      return requestor;
    },
    end(requestor) {
      requestor.running--;
      requestor.class.running--;
      reorderAll(requestor);
      forgetIdle(requestor);
    },
    isThrottled(name) {
      const requestor = requestors.get(name);
      return (requestor?.running ?? 0) >= (requestor?.runningMax ?? runningMaxOf(name));
    },
    classOf: (name) => requestors.get(name)?.class ?? classes[classOf(name)]!,
    headOf: (group) => (againOf(group) ?? firstOf(group))!,
    block(wish, where, atMs) {
      wish.class.ready.remove(wish);
      wish.class.readyTasks -= wish.open;
      wish.blockedIn = where;
      where.add(wish);
      wish.noRoomSinceMs ??= atMs;
      if (wish.needs !== undefined) big.add(wish);
    },
    wake,
    served(wish) {
      wish.noRoomSinceMs = undefined;
      big.delete(wish);
    },
    setPolicy: sort,
  };
}
