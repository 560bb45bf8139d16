import type { Needs, PlacingWorker } from "./fleet.ts";
import { type Fleet, meets, type Worker } from "./fleet.ts";
import type { Unmet, Wish } from "./queue.ts";

/** Whether any worker that is here could run what a wish wants, were it empty, and what keeps it from all of them. */
export interface Fitting {
  couldRun(wish: Wish): boolean;
  /** Of a wish that none could run. Costs as much as there are workers; the same until a worker comes or goes. */
  unmetBy(wish: Wish): Unmet;
}

const noCounters: Readonly<Record<string, number>> = {};

/** @param capacityOf how many there are of a counter. */
export function createFitting(fleet: Fleet, capacityOf: (counter: string) => number): Fitting {
  const lacksCounter = (needs: Needs | undefined): string[] => {
    const { counters = noCounters } = needs ?? {};
    return Object.keys(counters).filter((name) => capacityOf(name) < counters[name]!);
  };
  const couldRun = (wish: Wish): boolean => {
    if (wish.fitsVersion === fleet.version) return wish.fits;
    wish.fitsVersion = fleet.version;
    wish.unmet = undefined;
    wish.fits = false;
    if (lacksCounter(wish.needs).length > 0) return false;
    for (const worker of fleet.meeting(wish.ask)) if (fleet.couldRun(worker, wish.needs)) return wish.fits = true;
    return false;
  };
  const unmet = ({ ask, needs }: Wish): Unmet => {
    const { cpuMillis = 0, memoryBytes = 0, counters = noCounters } = needs ?? {};
    const wanted = Object.entries(ask.platform);
    const isThere = wanted.map(() => false);
    let most = { cpuMillis: 0, memoryBytes: 0 };
    let nearest: Worker | undefined;
    let least = Infinity;
    for (const worker of fleet.workers.values()) {
      most = {
        cpuMillis: Math.max(most.cpuMillis, worker.cpuMillis),
        memoryBytes: Math.max(most.memoryBytes, worker.memoryBytes),
      };
      let far = worker.slots > 0 ? 0 : 1;
      for (const [at, [name, value]] of wanted.entries()) {
        if (worker.platform[name] === value) isThere[at] = true;
        else far++;
      }
      if (worker.cpuMillis < cpuMillis) far += 1 - worker.cpuMillis / cpuMillis;
      if (worker.memoryBytes < memoryBytes) far += 1 - worker.memoryBytes / memoryBytes;
      if (far < least || (far === least && worker.workerId < nearest!.workerId)) [least, nearest] = [far, worker];
    }
    const lacks = wanted.filter((_, at) => !isThere[at]).map(([name, value]) => `${name}=${value}`);
    if (nearest !== undefined && most.cpuMillis < cpuMillis) lacks.push(`cpuMillis=${cpuMillis}`);
    if (nearest !== undefined && most.memoryBytes < memoryBytes) lacks.push(`memoryBytes=${memoryBytes}`);
    for (const name of lacksCounter(needs)) lacks.push(`${name}=${counters[name]}`);
    // Where a counter alone is too small, no worker is nearer than another.
    if (nearest === undefined || least === 0) return { lacks };
    const { workerId, platform, slots } = nearest;
    const has = wanted.filter(([name, value]) => platform[name] !== value)
      .map(([name]) => platform[name] === undefined ? `no ${name}` : `${name}=${platform[name]}`);
    if (slots === 0) has.push("no slots");
    if (nearest.cpuMillis < cpuMillis) has.push(`cpuMillis=${nearest.cpuMillis}`);
    if (nearest.memoryBytes < memoryBytes) has.push(`memoryBytes=${nearest.memoryBytes}`);
    return { lacks, nearest: { workerId, has } };
  };
  return {
    couldRun,
    unmetBy: (wish) => couldRun(wish) ? { lacks: [] } : wish.unmet ??= unmet(wish),
  };
}

/** What the largest worker has that meets the platform: a task that needs more can never run. Undefined: nobody counts. */
export function mostMemory(
  workers: Iterable<Pick<PlacingWorker, "platform" | "memoryBytes">>,
  platform: Readonly<Record<string, string>>,
): number | undefined {
  let most: number | undefined;
  for (const worker of workers) {
    if (!meets(worker.platform, platform)) continue;
    if (worker.memoryBytes === undefined) return undefined;
    most = Math.max(most ?? 0, worker.memoryBytes);
  }
  return most;
}
