import { statfsSync } from "node:fs";
import type { Clock } from "../runtime/clock.ts";

/** Below this share of free disk a worker takes nothing: enough is left for what it holds to end. */
const freeShareMin = 0.01;
/** Once it took nothing, it takes again from this share on: what is freed and filled again is not told each second. */
const freeShareAgain = 0.015;
const lookEveryMs = 1_000;
/** After a task found no room: what it had laid out goes, and what others have laid out may. */
const lackMsMin = 2_000;

export interface DiskWatch {
  /** A task could not write. */
  lacks(): void;
  end(): void;
}

/**
 * Watches the disk of a worker.
 *
 * @param tell hears that it became full, and why nothing is taken; undefined when it no longer is.
 */
export function watchDisk(dir: string, clock: Clock, tell: (why: string | undefined) => void): DiskWatch {
  let isFull = false;
  let isScarce = false;
  let lackedAtMs = -Infinity;
  let cancel = (): void => {};
  const look = (): void => {
    cancel();
    const wasFull = isFull;
    const freeShare = freeShareOf(dir);
    if (freeShare !== undefined) isScarce = freeShare < (isScarce ? freeShareAgain : freeShareMin);
    isFull = isScarce || clock.now() - lackedAtMs < lackMsMin;
    if (isFull !== wasFull) tell(isFull ? "Its disk is full: it goes on when there is room again" : undefined);
    cancel = clock.at(clock.now() + lookEveryMs, look);
  };
  look();
  return {
    lacks() {
      lackedAtMs = clock.now();
      look();
    },
    end: () => cancel(),
  };
}

/** Undefined where nobody can tell for now: what was known stays so. */
function freeShareOf(dir: string): number | undefined {
  try {
    const { bavail, blocks } = statfsSync(dir);
    return blocks > 0 ? bavail / blocks : 1;
  } catch {
    return undefined;
  }
}
