import { setImmediate as turn } from "node:timers/promises";
import { asFault, isFault } from "../domain/fault.ts";
import type { Log } from "../observability/log.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ActionCache } from "./actions/actions.ts";
import type { CollectableBlobs, HeldBlob, Taken } from "./blobs/held.ts";
import { type Cut, type UseTimes, useTimes } from "./collect_plan.ts";
import { type Leases, leasesOf, type Roots } from "./lease.ts";

/*
 * One budget over everything that a machine keeps. Nothing is done below 95 % of it; then the least recently used blobs
 * go until 90 % are left, and with them the results of actions that were last used as long ago. A blob stays while a
 * root leads to it, and for the guaranteed age after any process put it, asked for it or was told that it is there.
 *
 * One process of a machine collects: the gateway, which refuses new work while there is no room; a worker with a store
 * of its own does so for that. It holds a lock meanwhile, and looks at each use again while nobody else writes.
 */

export interface CollectorOptions {
  /** Stays the caller's to close, after {@link Collector.stop}. */
  readonly blobs: CollectableBlobs;
  /** Results that refer to those blobs. */
  readonly actions?: ActionCache;
  readonly roots: Roots;
  /** What else counts and is bounded by others: states, logs. */
  readonly statesBytes: () => number;
  readonly clock: Clock;
  readonly log: Log;
  /** The budget; {@link maxBytesDefault} unless given. */
  readonly maxBytes?: number;
}

export const maxBytesDefault = 20 * 1000 ** 3;

export interface Collector {
  /**
   * Collects once. Concurrent calls run one after the other.
   *
   * @param options.dryRun says what would go, and removes nothing.
   * @param options.maxBytes another budget for this once.
   * @throws {Fault} `STORE_LOCKED` when another process collects, and what keeps stores or roots from being read.
   */
  collect(options?: CollectOptions): Promise<CollectReport>;
  df(): Usage;
  /**
   * Whether new work should be refused as `NO_SPACE`: over the budget with nothing that may go, or further over it than
   * collecting keeps up with. That it became so is seen at once between {@link start} and {@link stop}, that it no longer
   * is within a second.
   */
  readonly isFull: boolean;
  /** Collects whenever the budget is nearly used up. Does not throw; what fails is logged and tried again. */
  start(): void;
  /** Resolves when nothing is under way any more. */
  stop(): Promise<void>;
}

export interface CollectOptions {
  readonly dryRun?: boolean;
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
}

export interface Usage {
  readonly maxBytes: number;
  /** The budget, or less when the disk has not that much left. */
  readonly limitBytes: number;
  /** All that counts. */
  readonly bytes: number;
  readonly blobs: { readonly count: number; readonly bytes: number };
  readonly actions: { readonly entries: number; readonly bytes: number };
  readonly statesBytes: number;
  /** What the disk has left. */
  readonly freeBytes: number;
  readonly guaranteedAgeMs: number;
  readonly isFull: boolean;
}

export interface CollectReport {
  readonly isDryRun: boolean;
  readonly before: Usage;
  readonly after: Usage;
  /** Blobs that went or would go; when the first and the last of them were used, epoch ms. */
  readonly goes: Taken & { readonly oldestUseAtMs?: number; readonly newestUseAtMs?: number };
  /** Results of actions that went with them. */
  readonly results: number;
  /** Files of processes that died while they wrote; none are looked for in a dry run. */
  readonly orphans: Taken;
  /** Why the rest stays, most bytes first: what roots say, {@link usedLately}, {@link withinBudget}. */
  readonly stays: readonly (Taken & { readonly why: string })[];
  /** Trees that had to stay and could not be read. */
  readonly unreadTrees: number;
  readonly tookMs: number;
}

export const usedLately = "used within the guaranteed age";
export const withinBudget = "within the budget";

/** Collecting begins above this share of the limit, … */
const highShare = 0.95;
/** … ends at this one, … */
const lowShare = 0.9;
/** … and above this one new work is refused. */
const hardShare = 1.05;
/** Of the disk so much stays free: more than the twentieth below which new work is refused. */
const reserveShare = 0.1;

const lookEveryMs = 1000;
/** Between two looks how much there is: what is put in the meantime is no more than there is room for. */
const sizeEveryMs = 20;
const bytesPerMsMax = 1024 * 1024;
/** After a run that could not free enough, the next: soon enough to see that something became old enough. */
const retryMsMax = 60_000;
/** Orphans are rare and old, and looking for them reads all names. */
const orphansEveryMs = 3600_000;

/** Blobs looked at before others have their turn: about 3 ms. */
const pageBlobs = 1000;
/** Blobs removed in one transaction. */
const sliceBlobs = 500;
/** What a blob takes is an estimate, so it is looked again how much was freed. */
const roundsMax = 4;

export function createCollector(options: CollectorOptions): Collector {
  const { blobs, actions, roots, statesBytes, clock, log, maxBytes = maxBytesDefault } = options;
  const { held } = blobs;
  const retryMs = Math.max(lookEveryMs, Math.min(retryMsMax, held.guaranteedAgeMs / 4));
  let isFull = false;
  let sizeAgainAtMs = -Infinity;
  let last: Promise<unknown> = Promise.resolve();
  let nextAtMs = 0;
  let orphansAtMs = 0;
  let stopping: AbortController | undefined;
  let wake = (): void => {};
  let looking: Promise<void> = Promise.resolve();

  function df(budgetBytes = maxBytes): Usage {
    const { count, bytes: blobBytes, freeBytes, diskBytes } = held.size();
    const results = actions?.size() ?? { entries: 0, bytes: 0 };
    const others = statesBytes();
    const bytes = blobBytes + results.bytes + others;
    const reserveBytes = diskBytes * reserveShare;
    return {
      maxBytes: budgetBytes,
      limitBytes: Math.max(0, Math.min(budgetBytes, Math.floor(bytes + freeBytes - reserveBytes))),
      bytes,
      blobs: { count, bytes: blobBytes },
      actions: results,
      statesBytes: others,
      freeBytes,
      guaranteedAgeMs: held.guaranteedAgeMs,
      isFull,
    };
  }

  /** All blobs, page by page: others have their turn in between. */
  async function* pages(signal: AbortSignal | undefined): AsyncGenerator<readonly HeldBlob[]> {
    let after: Uint8Array | undefined;
    for (;;) {
      await turn();
      signal?.throwIfAborted();
      const page = held.page(after, pageBlobs);
      yield page;
      if (page.length < pageBlobs) return;
      after = page.at(-1)!.key;
    }
  }

  /** Looks at all blobs: when those that may go were used, and what keeps the others. */
  async function weigh(
    leases: Leases,
    safeSinceMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly mayGo: UseTimes; readonly kept: Map<string, Taken> }> {
    const mayGo = useTimes();
    const kept = new Map<string, Taken>();
    for await (const page of pages(signal)) {
      for (const { key, bytes, usedAtMs } of page) {
        const why = leases.whyOf(key) ?? (usedAtMs >= safeSinceMs ? usedLately : undefined);
        if (why === undefined) mayGo.add(usedAtMs, bytes);
        else {
          const before = kept.get(why) ?? nothing;
          kept.set(why, { count: before.count + 1, bytes: before.bytes + bytes });
        }
      }
    }
    return { mayGo, kept };
  }

  /** Removes what the cut takes, or only counts it. */
  async function remove(
    leases: Leases,
    cut: Cut,
    isDryRun: boolean,
    signal: AbortSignal | undefined,
  ): Promise<CollectReport["goes"]> {
    let [count, bytes, oldest, newest] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    let left = cut.untilBytes;
    const goes = ({ key, usedAtMs }: HeldBlob): boolean =>
      usedAtMs < cut.untilMs && (usedAtMs < cut.beforeMs || left > 0) && leases.whyOf(key) === undefined;
    for await (const page of pages(signal)) {
      const going: HeldBlob[] = [];
      for (const blob of page) {
        if (!goes(blob)) continue;
        going.push(blob);
        if (blob.usedAtMs >= cut.beforeMs) left -= blob.bytes;
        oldest = Math.min(oldest, blob.usedAtMs);
        newest = Math.max(newest, blob.usedAtMs);
      }
      for (let at = 0; at < going.length; at += sliceBlobs) {
        const slice = going.slice(at, at + sliceBlobs);
        const taken = isDryRun
          ? { count: slice.length, bytes: slice.reduce((total, each) => total + each.bytes, 0) }
          : await held.remove(slice.map(({ key }) => key), cut.untilMs);
        count += taken.count;
        bytes += taken.bytes;
      }
    }
    return count === 0 ? nothing : { count, bytes, oldestUseAtMs: oldest, newestUseAtMs: newest };
  }

  async function resultsBefore(beforeMs: number, isDryRun: boolean, signal: AbortSignal | undefined): Promise<number> {
    if (actions === undefined || beforeMs <= 0) return 0;
    if (!isDryRun) return await actions.forget(beforeMs, signal);
    let count = 0;
    for await (const { made, usedAtMs } of actions.list()) {
      signal?.throwIfAborted();
      if (Math.max(made.atMs, usedAtMs) < beforeMs) count++;
    }
    return count;
  }

  async function run({ dryRun: isDryRun = false, maxBytes: budget, signal }: CollectOptions): Promise<CollectReport> {
    const startedAtMs = clock.now();
    const before = df(budget);
    // A note may be as old as that when it is relied on, and so may what a tree's keeper remembers; seconds are cut off.
    const safeSinceMs = startedAtMs - held.guaranteedAgeMs - 2 * held.noteEveryMs - 2000;
    const leases = await leasesOf(blobs, roots, signal);
    let orphans: Taken = nothing;
    if (!isDryRun && startedAtMs >= orphansAtMs) {
      orphans = await held.removeOrphans(signal);
      orphansAtMs = startedAtMs + orphansEveryMs;
    }
    let goes: CollectReport["goes"] = nothing;
    let results = 0;
    let kept = new Map<string, Taken>();
    for (let round = 1;; round++) {
      const { bytes, limitBytes } = df(budget);
      const weighed = await weigh(leases, safeSinceMs, signal);
      const cut = weighed.mayGo.cut(bytes - limitBytes * lowShare);
      const gone = await remove(leases, { ...cut, untilMs: Math.min(cut.untilMs, safeSinceMs) }, isDryRun, signal);
      results += await resultsBefore(Math.min(cut.beforeMs, safeSinceMs), isDryRun, signal);
      goes = sum(goes, gone);
      kept = weighed.kept;
      kept.set(withinBudget, {
        count: weighed.mayGo.count - gone.count,
        bytes: weighed.mayGo.bytes - gone.bytes,
      });
      const now = df(budget);
      if (isDryRun || gone.count === 0 || round === roundsMax || now.bytes <= now.limitBytes * lowShare) break;
    }
    return {
      isDryRun,
      before,
      after: df(budget),
      goes,
      results,
      orphans,
      stays: [...kept].filter(([, { count }]) => count > 0).map(([why, taken]) => ({ why, ...taken }))
        .sort((a, b) => b.bytes - a.bytes),
      unreadTrees: leases.unread,
      tookMs: clock.now() - startedAtMs,
    };
  }

  function collect(wanted: CollectOptions = {}): Promise<CollectReport> {
    const next = last.then(async () => {
      wanted.signal?.throwIfAborted();
      return await (wanted.dryRun === true ? run(wanted) : held.alone(() => run(wanted)));
    });
    last = next.catch(() => {});
    return next;
  }

  /** Full is said of the budget alone: how full the disk may be is judged by whoever refuses work for that. */
  function setFull(next: boolean, { bytes, maxBytes }: Usage): void {
    if (next === isFull) return;
    isFull = next;
    if (next) log.warn("No room for new work until something may be removed", { bytes, maxBytes });
    else log.info("There is room for new work again", { bytes, maxBytes });
  }

  async function look(signal: AbortSignal): Promise<void> {
    let usage = df();
    const isOver = (): boolean => usage.bytes > usage.limitBytes * highShare;
    setFull(usage.bytes > usage.maxBytes * (isFull || clock.now() < nextAtMs ? 1 : hardShare), usage);
    if (!isOver() || clock.now() < nextAtMs) return;
    try {
      const { goes, results, orphans, tookMs } = await collect({ signal });
      log.info("Removed what was used least recently", {
        blobs: goes.count,
        bytes: goes.bytes,
        results,
        orphans: orphans.count,
        tookMs,
      });
    } catch (thrown) {
      if (signal.aborted) return;
      if (isFault(thrown, "STORE_LOCKED")) log.info("Another process removes blobs", { error: thrown });
      else log.error("Cannot remove blobs", { error: asFault(thrown) });
      nextAtMs = clock.now() + retryMs;
    }
    usage = df();
    if (isOver()) nextAtMs = clock.now() + retryMs;
    setFull(usage.bytes > usage.maxBytes, usage);
  }

  return {
    collect,
    df: () => df(),
    get isFull() {
      // A second's uploads may be more than all that there is room for.
      if (!isFull && stopping !== undefined && clock.now() >= sizeAgainAtMs) {
        const usage = df();
        const roomBytes = usage.maxBytes * hardShare - usage.bytes;
        sizeAgainAtMs = clock.now() + Math.min(lookEveryMs, Math.max(sizeEveryMs, roomBytes / bytesPerMsMax));
        setFull(roomBytes < 0, usage);
      }
      return isFull;
    },
    start() {
      if (stopping !== undefined) return;
      const { signal } = stopping = new AbortController();
      const step = (): void => {
        looking = look(signal)
          .catch((thrown: unknown) => log.error("Cannot look how much there is", { error: asFault(thrown) }))
          .then(() => {
            if (!signal.aborted) wake = clock.at(clock.now() + lookEveryMs, step);
          });
      };
      step();
    },
    async stop() {
      stopping?.abort();
      stopping = undefined;
      wake();
      await looking;
      await last;
    },
  };
}

const nothing: Taken = { count: 0, bytes: 0 };

const sum = (a: CollectReport["goes"], b: CollectReport["goes"]): CollectReport["goes"] => {
  if (a.count === 0) return b;
  if (b.count === 0) return a;
  return {
    count: a.count + b.count,
    bytes: a.bytes + b.bytes,
    oldestUseAtMs: Math.min(a.oldestUseAtMs!, b.oldestUseAtMs!),
    newestUseAtMs: Math.max(a.newestUseAtMs!, b.newestUseAtMs!),
  };
};
