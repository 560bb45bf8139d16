import type { TraceTask } from "./forecast.ts";

/** A day's work as it might be: arrivals that swell by day, durations with a long tail, a few requestors that ask for most. */
export interface Synthetic {
  readonly tasks: number;
  readonly hours: number;
  /** With how many of the tasks each comes. */
  readonly requestors: readonly { readonly name: string; readonly part: number; readonly rank: number }[];
  /** The median, in ms; one in twenty takes five times as long. */
  readonly durationMs: number;
}

/**
 * Tasks in the order of their arrival.
 *
 * @param chance numbers from 0 to below 1: the same ones give the same tasks.
 */
export function* syntheticTrace(of: Synthetic, chance: () => number): Generator<TraceTask> {
  const lastsMs = of.hours * 3_600_000;
  const parts = of.requestors.reduce((sum, { part }) => sum + part, 0);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - chance())) * Math.cos(2 * Math.PI * chance());
  for (let number = 0; number < of.tasks; number++) {
    // Evenly by rank, shifted so that the middle of the day has three times the work of the night.
    const even = (number + chance()) / of.tasks;
    const atMs = Math.floor(lastsMs * (even + Math.sin(2 * Math.PI * even) / (4 * Math.PI)));
    let pick = chance() * parts;
    const from = of.requestors.find(({ part }) => (pick -= part) < 0) ?? of.requestors.at(-1)!;
    const durationMs = Math.max(1, Math.round(of.durationMs * Math.exp(normal() * 0.98)));
    yield { atMs: Math.max(0, atMs), requestor: from.name, rank: from.rank, durationMs };
  }
}
