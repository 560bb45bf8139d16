import { availableParallelism, totalmem } from "node:os";
import process from "node:process";

/** What a machine, or a worker's part of one, has for the needs of tasks. */
export interface Room {
  /** Thousandths of a processor. */
  readonly cpuMillis: number;
  readonly memoryBytes: number;
}

/** All of this machine. */
export function machineRoom(): Room {
  // A container may have less than its machine; where it has no limit, that is a number beyond all measure, or 0.
  const limit = process.constrainedMemory?.() ?? 0;
  return {
    cpuMillis: 1_000 * availableParallelism(),
    memoryBytes: limit > 0 ? Math.min(limit, totalmem()) : totalmem(),
  };
}

/**
 * What each of several workers of one machine has: an equal part, so that together they give away no byte twice. Of
 * processors, which may be shared, each has a whole one at least: a task that asks for one can run.
 *
 * @param workers 1 or more.
 */
export function roomOfEach({ cpuMillis, memoryBytes }: Room, workers: number): Room {
  return {
    cpuMillis: Math.max(Math.min(1_000, cpuMillis), Math.floor(cpuMillis / workers)),
    memoryBytes: Math.floor(memoryBytes / workers),
  };
}
