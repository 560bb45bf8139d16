import type { Address } from "../domain/ids.ts";
import type { Latency, Rate, Rates } from "./routes.ts";
import type { Known, Leap, Step, Tally } from "./tally.ts";

const isQueued = (known: Known | undefined): boolean => known?.kind === "task" && known.state === "queued";
const isPlaced = (known: Known | undefined): boolean => known?.kind === "task" && known.workerId !== "";

/** Of so many each the spread is told; of more, the newest. */
const samplesMax = 50_000;

/**
 * What happened to tasks in the time up to a moment, in equal stretches.
 *
 * @param start how it stood before the first step. @param steps up to the moment, oldest first.
 */
export function ratesOf(
  start: Tally,
  steps: Iterable<Step | Leap>,
  { toMs, spanMs, points }: { readonly toMs: number; readonly spanMs: number; readonly points: number },
): Omit<Rates, "isCounted"> {
  const stepMs = Math.max(1, Math.ceil(spanMs / points));
  const fromMs = toMs - stepMs * points;
  const placed = new Array<number>(points).fill(0);
  const settled = new Array<number>(points).fill(0);
  const stands: ({ readonly queued: number; readonly running: number } | undefined)[] = new Array(points).fill(
    undefined,
  );
  const queuedAt = new Map<Address, number>();
  const placedAt = new Map<Address, number>();
  const waits: number[] = [];
  const runs: number[] = [];
  let queued = start.states.get("task/queued") ?? 0;
  let running = start.onWorker.size;
  /** The stretch before which all are told. */
  let open = 0;
  let isFirst = true;
  const tellUpTo = (end: number): void => {
    for (; open < end; open++) stands[open] = isFirst ? undefined : { queued, running };
  };
  const leapOver = (leap: Leap): void => {
    const [first, last] = [leap.fromMs, leap.toMs].map((ms) => Math.floor((ms - fromMs - 1) / stepMs)) as [
      number,
      number,
    ];
    if (isFirst && first > open) open = Math.min(points, Math.max(0, first));
    tellUpTo(Math.min(points, first));
    isFirst = false;
    // Spread evenly over the stretches that it was in.
    const parts = last - first + 1;
    for (let at = Math.max(0, first); at <= Math.min(points - 1, last); at++) {
      placed[at]! += leap.placed / parts;
      settled[at]! += leap.settled / parts;
    }
    if (last >= 0 && last < points) {
      waits.push(...leap.waits);
      runs.push(...leap.runs);
    }
    ({ queued, running } = leap);
    queuedAt.clear();
    placedAt.clear();
    tellUpTo(Math.min(points, last));
  };
  for (const step of steps) {
    if ("waits" in step) {
      leapOver(step);
      continue;
    }
    const { atMs, address, before, after } = step;
    const at = Math.floor((atMs - fromMs - 1) / stepMs);
    if (isFirst && at > open) open = Math.min(points, Math.max(0, at)); // of before it nothing is known
    else tellUpTo(Math.min(points, at));
    isFirst = false;
    queued += Number(isQueued(after)) - Number(isQueued(before));
    running += Number(isPlaced(after)) - Number(isPlaced(before));
    const isInside = at >= 0 && at < points;
    if (isQueued(after) && !isQueued(before)) queuedAt.set(address, atMs);
    if (isPlaced(after) && !isPlaced(before)) {
      if (isInside) placed[at]!++;
      const since = queuedAt.get(address);
      if (isInside && since !== undefined) waits.push(atMs - since);
      placedAt.set(address, atMs);
    }
    if (!isQueued(after)) queuedAt.delete(address);
    if (isPlaced(before) && !isPlaced(after) && !isQueued(after)) {
      if (isInside) settled[at]!++;
      const since = placedAt.get(address);
      if (isInside && since !== undefined) runs.push(atMs - since);
    }
    if (!isPlaced(after)) placedAt.delete(address);
  }
  tellUpTo(points);
  const told: Rate[] = [];
  for (const [at, stand] of stands.entries()) {
    if (stand === undefined) continue;
    told.push({
      toMs: fromMs + (at + 1) * stepMs,
      placed: Math.round(placed[at]!),
      settled: Math.round(settled[at]!),
      ...stand,
    });
  }
  return { stepMs, points: told, wait: latencyOf(waits), run: latencyOf(runs) };
}

function latencyOf(samples: readonly number[]): Latency {
  const sorted = samples.slice(-samplesMax).sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { count: samples.length, p50Ms: at(0.5), p95Ms: at(0.95) };
}
