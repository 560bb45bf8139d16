import type { WorkerId } from "../domain/ids.ts";
import { type HeapMember, IndexedHeap } from "./indexed_heap.ts";
import { Rooms } from "./rooms.ts";

/**
 * Where a task may go: the workers that are here, what is free there, and which properties they have.
 *
 * Workers of one platform are a pool. What tasks ask for is a platform as well (an ask), met by every pool that has all
 * of its properties, and the pools of an ask are tried from the fewest properties up, so that special workers stay free
 * for those who need them. Among those with the fewest that have room, a worker that last ran the same input is taken,
 * else one that last ran the same requestor's same basis, else the one with the most free slots. So nothing waits for a
 * worker that it likes.
 */
export interface PlacingWorker {
  readonly workerId: WorkerId;
  readonly slots: number;
  readonly platform: Readonly<Record<string, string>>;
  /** What its tasks may take together, in thousandths of a processor and bytes. Absent: nobody counts. */
  readonly cpuMillis?: number;
  readonly memoryBytes?: number;
}

/** What a task takes while it is with a worker, beside a slot. */
export interface Needs {
  readonly cpuMillis?: number;
  readonly memoryBytes?: number;
  readonly counters?: Readonly<Record<string, number>>;
}

/** What is taken of a worker, also of one that is away; it may come back with less than that. */
interface Load {
  busy: number;
  cpuMillis: number;
  memoryBytes: number;
}

/** A worker's place among those that last ran the same. In the heap while it has a free slot. */
interface Near extends HeapMember {
  readonly worker: Worker;
  key: string | undefined;
}

export class Worker {
  readonly workerId: WorkerId;
  readonly slots: number;
  readonly platform: Readonly<Record<string, string>>;
  /** Infinite: nobody counts. */
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly load: Load;
  readonly pool: Pool;
  readonly place: number;
  readonly byInput: Near;
  readonly byBasis: Near;
  /** Free slots as others see them; 0 while it is kept for a task. */
  free = 0;
  isKept = false;

  constructor(from: PlacingWorker, load: Load, pool: Pool, place: number, known: Worker | undefined) {
    this.workerId = from.workerId;
    this.slots = from.slots;
    this.platform = from.platform;
    this.cpuMillis = from.cpuMillis ?? Infinity;
    this.memoryBytes = from.memoryBytes ?? Infinity;
    this.load = load;
    this.pool = pool;
    this.place = place;
    this.byInput = { heapAt: -1, worker: this, key: known?.byInput.key };
    this.byBasis = { heapAt: -1, worker: this, key: known?.byBasis.key };
  }
}

interface Pool {
  readonly platform: Readonly<Record<string, string>>;
  readonly properties: number;
  readonly rooms: Rooms;
  readonly workers: (Worker | undefined)[];
  readonly vacant: number[];
  readonly asks: Set<Ask>;
}

/** Pools that have as many properties, and the most room in each. */
interface Tier {
  readonly properties: number;
  readonly pools: Pool[];
  readonly rooms: Rooms;
}

/** A distinct platform that tasks ask for. */
export interface Ask {
  readonly key: string;
  readonly platform: Readonly<Record<string, string>>;
  readonly pools: Set<Pool>;
  /** From the fewest properties up; made anew when a pool has come or gone. */
  tiers: readonly Tier[] | undefined;
  readonly places: Map<Pool, { readonly rooms: Rooms; readonly place: number }>;
  /** How many use it. */
  uses: number;
}

export interface Found {
  readonly worker: Worker;
  readonly near: "input" | "basis" | undefined;
}

/** Asks that nobody uses are kept for those who come again soon. */
const unusedAsksMax = 16;
/** Workers that last ran the same are looked at until one has room; the freest come first, so few are. */
const nearTriesMax = 8;

export const platformKey = (platform: Readonly<Record<string, string>>): string =>
  JSON.stringify(Object.entries(platform).sort(([a], [b]) => (a < b ? -1 : 1)));

export const meets = (
  has: Readonly<Record<string, string>>,
  wants: Readonly<Record<string, string>>,
): boolean => {
  for (const name in wants) if (has[name] !== wants[name]) return false;
  return true;
};

export const basisKey = (requestor: string, basis: string): string => `${requestor}\n${basis}`;

export interface Fleet {
  /** Of all workers that are here. */
  readonly slots: number;
  /** Free slots, but for a kept worker's. */
  readonly free: number;
  readonly workers: ReadonlyMap<WorkerId, Worker>;
  /** Counts what may change whether a task could run at all. */
  readonly version: number;
  /** To be called once for each user, and {@link unask} when it has gone. */
  ask(platform: Readonly<Record<string, string>>): Ask;
  unask(ask: Ask): void;
  /** @returns the worker as it is now; undefined when that changes nothing. */
  set(worker: PlacingWorker): Worker | undefined;
  remove(workerId: WorkerId): void;
  occupy(workerId: WorkerId, needs: Needs | undefined, input: string, basis: string | undefined): void;
  /** @returns the worker, when it is here. */
  vacate(workerId: WorkerId, needs: Needs | undefined): Worker | undefined;
  busyOn(workerId: WorkerId): number;
  /** A worker with room now. @param basis as {@link basisKey} makes it. */
  find(ask: Ask, needs: Needs | undefined, input: string, basis: string | undefined): Found | undefined;
  /** Whether there is room for it now, kept or not. */
  hasRoom(worker: Worker, needs: Needs | undefined): boolean;
  /** Whether the empty worker would have room. */
  couldRun(worker: Worker, needs: Needs | undefined): boolean;
  /** All workers that meet it, in no order. */
  meeting(ask: Ask): Iterable<Worker>;
  /** From now on nobody finds it, or everybody again. */
  keep(worker: Worker, isKept: boolean): void;
}

const isFreer = (a: Near, b: Near): boolean =>
  a.worker.free > b.worker.free || (a.worker.free === b.worker.free && a.worker.place < b.worker.place);

export function createFleet(): Fleet {
  const workers = new Map<WorkerId, Worker>();
  /** Of workers that are here, and of those away that have tasks. */
  const loads = new Map<WorkerId, Load>();
  const pools = new Map<string, Pool>();
  const asks = new Map<string, Ask>();
  const unused = new Set<Ask>();
  const lastInputs = new Map<string, IndexedHeap<Near>>();
  const lastBases = new Map<string, IndexedHeap<Near>>();
  let slots = 0;
  let free = 0;
  let version = 0;

  const leaveNear = (all: Map<string, IndexedHeap<Near>>, near: Near): void => {
    if (near.heapAt < 0) return;
    const heap = all.get(near.key!)!;
    heap.remove(near);
    if (heap.size === 0) all.delete(near.key!);
  };
  const placeNear = (all: Map<string, IndexedHeap<Near>>, near: Near): void => {
    if (near.key === undefined) return;
    if (near.worker.free <= 0) return leaveNear(all, near);
    let heap = all.get(near.key);
    if (heap === undefined) all.set(near.key, heap = new IndexedHeap<Near>(isFreer));
    heap.put(near);
  };
  const rekey = (all: Map<string, IndexedHeap<Near>>, near: Near, key: string | undefined): void => {
    if (near.key === key) return;
    leaveNear(all, near);
    near.key = key;
  };
  /** Writes down what is free there now. */
  const note = (worker: Worker): void => {
    const { load, pool } = worker;
    const now = worker.isKept ? 0 : Math.max(0, worker.slots - load.busy);
    free += now - worker.free;
    worker.free = now;
    placeNear(lastInputs, worker.byInput);
    placeNear(lastBases, worker.byBasis);
    noteRoom(
      pool,
      worker.place,
      now,
      Math.max(0, worker.cpuMillis - load.cpuMillis),
      Math.max(0, worker.memoryBytes - load.memoryBytes),
    );
  };
  const noteRoom = (pool: Pool, place: number, slots: number, cpu: number, memory: number): void => {
    if (!pool.rooms.set(place, slots, cpu, memory)) return;
    const { most } = pool.rooms;
    for (const { tiers, places } of pool.asks) {
      if (tiers === undefined) continue;
      const { rooms, place } = places.get(pool)!;
      rooms.set(place, most.slots, most.cpuMillis, most.memoryBytes);
    }
  };
  const tiersOf = (ask: Ask): readonly Tier[] => {
    if (ask.tiers !== undefined) return ask.tiers;
    const tiers = new Map<number, Tier>();
    ask.places.clear();
    for (const pool of ask.pools) {
      const { properties } = pool;
      let tier = tiers.get(properties);
      if (tier === undefined) tiers.set(properties, tier = { properties, pools: [], rooms: new Rooms() });
      const place = tier.pools.push(pool) - 1;
      ask.places.set(pool, { rooms: tier.rooms, place });
      const { slots, cpuMillis, memoryBytes } = pool.rooms.most;
      tier.rooms.set(place, slots, cpuMillis, memoryBytes);
    }
    return ask.tiers = [...tiers.values()].sort((a, b) => a.properties - b.properties);
  };
  const meet = (ask: Ask, pool: Pool): void => {
    if (!meets(pool.platform, ask.platform)) return;
    ask.pools.add(pool);
    ask.tiers = undefined;
    pool.asks.add(ask);
  };
  const loadOf = (workerId: WorkerId): Load => {
    let load = loads.get(workerId);
    if (load === undefined) loads.set(workerId, load = { busy: 0, cpuMillis: 0, memoryBytes: 0 });
    return load;
  };
  const take = (load: Load, needs: Needs | undefined, sign: 1 | -1): void => {
    load.busy += sign;
    if (needs?.cpuMillis !== undefined) load.cpuMillis += sign * needs.cpuMillis;
    if (needs?.memoryBytes !== undefined) load.memoryBytes += sign * needs.memoryBytes;
  };
  const fits = (worker: Worker, needs: Needs | undefined, load: Load | undefined): boolean =>
    needs === undefined ||
    ((needs.cpuMillis ?? 0) <= Math.max(0, worker.cpuMillis - (load?.cpuMillis ?? 0)) &&
      (needs.memoryBytes ?? 0) <= Math.max(0, worker.memoryBytes - (load?.memoryBytes ?? 0)));
  const nearOf = (
    all: Map<string, IndexedHeap<Near>>,
    key: string,
    ask: Ask,
    needs: Needs | undefined,
    properties: number,
  ): Worker | undefined => {
    const near = all.get(key)?.members;
    if (near === undefined) return undefined;
    for (let at = 0; at < near.length && at < nearTriesMax; at++) {
      const { worker } = near[at]!;
      if (worker.pool.properties === properties && ask.pools.has(worker.pool) && fits(worker, needs, worker.load)) {
        return worker;
      }
    }
    return undefined;
  };
  const remove = (workerId: WorkerId): void => {
    const worker = workers.get(workerId);
    if (worker === undefined) return;
    const { pool, load } = worker;
    workers.delete(workerId);
    slots -= worker.slots;
    free -= worker.free;
    worker.free = 0;
    leaveNear(lastInputs, worker.byInput);
    leaveNear(lastBases, worker.byBasis);
    noteRoom(pool, worker.place, 0, 0, 0);
    pool.workers[worker.place] = undefined;
    pool.vacant.push(worker.place);
    if (load.busy === 0) loads.delete(workerId);
    version++;
    if (pool.vacant.length < pool.workers.length) return;
    pools.delete(platformKey(pool.platform));
    for (const ask of pool.asks) {
      ask.pools.delete(pool);
      ask.tiers = undefined;
    }
  };

  return {
    get slots() {
      return slots;
    },
    get free() {
      return free;
    },
    workers,
    get version() {
      return version;
    },
    ask(platform) {
      const key = platformKey(platform);
      let ask = asks.get(key);
      if (ask === undefined) {
        ask = { key, platform, pools: new Set(), tiers: undefined, places: new Map(), uses: 0 };
        asks.set(key, ask);
        for (const pool of pools.values()) meet(ask, pool);
      }
      unused.delete(ask);
      ask.uses++;
      return ask;
    },
    unask(ask) {
      if (--ask.uses > 0) return;
      unused.add(ask);
      if (unused.size <= unusedAsksMax) return;
      const [oldest] = unused;
      unused.delete(oldest!);
      asks.delete(oldest!.key);
      for (const pool of oldest!.pools) pool.asks.delete(oldest!);
    },
    set(fresh) {
      const { workerId } = fresh;
      const known = workers.get(workerId);
      const key = platformKey(fresh.platform);
      if (
        known?.slots === fresh.slots && known.cpuMillis === (fresh.cpuMillis ?? Infinity) &&
        known.memoryBytes === (fresh.memoryBytes ?? Infinity) && platformKey(known.platform) === key
      ) return undefined;
      const load = loadOf(workerId);
      remove(workerId);
      loads.set(workerId, load);
      let pool = pools.get(key);
      if (pool === undefined) {
        pool = {
          platform: fresh.platform,
          properties: Object.keys(fresh.platform).length,
          rooms: new Rooms(),
          workers: [],
          vacant: [],
          asks: new Set(),
        };
        pools.set(key, pool);
        for (const ask of asks.values()) meet(ask, pool);
      }
      const place = pool.vacant.pop() ?? pool.workers.length;
      const worker = new Worker(fresh, load, pool, place, known);
      pool.workers[place] = worker;
      workers.set(workerId, worker);
      slots += worker.slots;
      version++;
      note(worker);
      return worker;
    },
    remove,
    occupy(workerId, needs, input, basis) {
      take(loadOf(workerId), needs, 1);
      const worker = workers.get(workerId);
      if (worker === undefined) return;
      rekey(lastInputs, worker.byInput, input);
      rekey(lastBases, worker.byBasis, basis);
      note(worker);
    },
    vacate(workerId, needs) {
      const load = loads.get(workerId);
      if (load === undefined) return undefined;
      take(load, needs, -1);
      const worker = workers.get(workerId);
      if (worker !== undefined) note(worker);
      else if (load.busy === 0) loads.delete(workerId);
      return worker;
    },
    busyOn: (workerId) => loads.get(workerId)?.busy ?? 0,
    find(ask, needs, input, basis) {
      const cpu = needs?.cpuMillis ?? 0;
      const memory = needs?.memoryBytes ?? 0;
      for (const { properties, pools, rooms } of tiersOf(ask)) {
        const place = rooms.find(cpu, memory);
        if (place < 0) continue;
        let pool = pools[place]!;
        let at = pool.rooms.find(cpu, memory);
        // Both are asked for and this pool has them on different workers: any other may have them on one.
        for (let other = 0; at < 0 && other < pools.length; other++) {
          pool = pools[other]!;
          at = pool.rooms.find(cpu, memory);
        }
        if (at < 0) continue;
        const sameInput = nearOf(lastInputs, input, ask, needs, properties);
        if (sameInput !== undefined) return { worker: sameInput, near: "input" };
        const sameBasis = basis === undefined ? undefined : nearOf(lastBases, basis, ask, needs, properties);
        if (sameBasis !== undefined) return { worker: sameBasis, near: "basis" };
        return { worker: pool.workers[at]!, near: undefined };
      }
      return undefined;
    },
    hasRoom: (worker, needs) => worker.slots > worker.load.busy && fits(worker, needs, worker.load),
    couldRun: (worker, needs) => worker.slots > 0 && fits(worker, needs, undefined),
    *meeting(ask) {
      for (const pool of ask.pools) for (const worker of pool.workers) if (worker !== undefined) yield worker;
    },
    keep(worker, isKept) {
      worker.isKept = isKept;
      if (workers.get(worker.workerId) === worker) note(worker);
    },
  };
}
