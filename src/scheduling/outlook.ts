import type { WorkerId } from "../domain/ids.ts";
import type { Fitting } from "./fitting.ts";
import type { Needs } from "./fleet.ts";
import { countBefore, type Group, type Queue, type Unmet, type Waiting } from "./queue.ts";

export type WaitsFor = "slot" | "memory" | "cpu" | "counter" | "share" | "throttle";

/** A worker that takes nothing for now, although it is here. */
export interface Aside {
  readonly workerId: WorkerId;
  readonly why: string;
}

/** What is told of a queued task. */
export interface Outlook {
  readonly class: string;
  /** Slots that its class should have now, and those that it has. */
  readonly target: number;
  readonly used: number;
  readonly waitingInClass: number;
  /** Tasks of its kind and of lower rank in its class: so many go ahead at most (some may have left from the middle). */
  readonly ahead: number;
  /** The requestors of its class whose turn comes first, of those that go ahead; a few, with how many tasks are in line. */
  readonly aheadOf: readonly { readonly requestor: string; readonly tasks: number; readonly running: number }[];
  /** What keeps it from every worker that is here, were it empty. Absent: one could run it. */
  readonly unmet?: Unmet;
  /** Then, of the workers that are here and take nothing for now, a few. */
  readonly aside?: readonly Aside[];
  readonly waitsFor: WaitsFor;
  /** How many tasks its requestor may run at once, when that is what it waits for. */
  readonly runningMax?: number;
}

/** What is told of queued tasks when somebody asks: where each stands, and what it waits for. */
export interface Outlooks {
  /** @param targets slots that each class should have now. */
  of(entry: Waiting, targets: readonly number[]): Outlook;
}

const aheadMax = 5;
const aheadLookedAtMax = 8;
const asideMax = 3;

/**
 * @param lacksCounter whether too little is free of a counter that it wants.
 * @param aside why, by worker.
 */
export function createOutlooks(
  queue: Queue,
  { couldRun, unmetBy }: Fitting,
  lacksCounter: (needs: Needs | undefined) => boolean,
  aside: ReadonlyMap<WorkerId, string>,
): Outlooks {
  const waitsFor = ({ wish, isHeld }: Group, target: number): WaitsFor => {
    const { needs, ask } = wish;
    if (isHeld) return "throttle";
    if (lacksCounter(needs)) return "counter";
    let lacksMemory = false;
    let lacksCpu = false;
    for (const { rooms } of ask.pools) {
      if (rooms.most.slots <= 0) continue;
      if (rooms.find(needs?.cpuMillis ?? 0, needs?.memoryBytes ?? 0) >= 0) return "share";
      if (rooms.find(0, needs?.memoryBytes ?? 0) < 0) lacksMemory = true;
      else lacksCpu = true;
    }
    if (lacksMemory || lacksCpu) return lacksMemory ? "memory" : "cpu";
    const others = queue.classes.some((one) => one !== wish.class && one.waiting > 0);
    return others && wish.class.running >= target ? "share" : "slot";
  };
  /** Whoever comes before it, as far as the tops of the heaps tell. */
  const requestorsAhead = (entry: Waiting): Outlook["aheadOf"] => {
    const own = entry.group;
    const isBefore = (group: Waiting["group"]): boolean =>
      group !== own &&
      (group.level - own.level || group.rank - own.rank || group.running - own.running || group.order - entry.order) <
        0;
    const groups = own.wish.class.ready.members.slice(0, aheadLookedAtMax)
      .flatMap((wish) => wish.groups.members.slice(0, aheadLookedAtMax).filter(isBefore))
      .sort((a, b) => a.level - b.level || a.rank - b.rank || a.running - b.running || a.order - b.order);
    const found = new Map<string, { requestor: string; tasks: number; running: number }>();
    for (const { requestor, size } of groups) {
      const known = found.get(requestor.name);
      if (known !== undefined) known.tasks += size;
      else if (found.size < aheadMax) {
        found.set(requestor.name, { requestor: requestor.name, tasks: size, running: requestor.running });
      }
    }
    return [...found.values()];
  };

  const someAside = (): Outlook["aside"] & object =>
    [...aside].slice(0, asideMax).map(([workerId, why]) => ({ workerId, why }));

  return {
    of(entry, targets) {
      const { again, againHead, first, firstHead, rank, wish, isHeld, requestor } = entry.group;
      let ahead = entry.again
        ? countBefore(again, againHead, entry.order)
        : again.length - againHead + countBefore(first, firstHead, entry.order);
      for (const [other, waits] of wish.class.waitingByRank) if (other < rank) ahead += waits;
      const { class: one } = wish;
      const target = targets[one.at]!;
      return {
        class: one.name,
        target,
        used: one.running,
        waitingInClass: one.waiting,
        ahead,
        aheadOf: requestorsAhead(entry),
        ...(couldRun(wish) ? {} : { unmet: unmetBy(wish), aside: someAside() }),
        waitsFor: waitsFor(entry.group, target),
        ...(isHeld ? { runningMax: requestor.runningMax } : {}),
      };
    },
  };
}
