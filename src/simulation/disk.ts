import { Fault } from "../domain/fault.ts";
import type { Random } from "../runtime/random.ts";
import type { States } from "../snapshots/states/states.ts";
import type { Life, VirtualTime } from "./time.ts";

/** Mistakes that a simulation can make on purpose, to show that it would find them. */
export type Planted = "none" | "speakBeforeSave" | "forgetUnsent" | "ignoreEpoch";

/**
 * A process's view of a disk that outlives it. A commit takes its time; a kill meanwhile loses it, or leaves it written
 * and unanswered, as chance has it. While it is full, commits are refused.
 */
export function simulatedDisk(
  kept: States,
  life: Life,
  time: VirtualTime,
  random: Random,
  planted: Planted,
  isFull: () => boolean,
): States {
  let last: Promise<void> = Promise.resolve();
  let isLost = false;
  return {
    ...kept,
    commit(entries) {
      // Chance is asked in the order of the calls; the disk works in that order too.
      const tookMs = random.integer(8);
      const survives = random.integer(2) === 0;
      const written = last.then(() =>
        new Promise<void>((resolve, reject) => {
          const write = (): void => {
            if (life.isAlive && isFull() && planted !== "speakBeforeSave") {
              return reject(new Fault("NO_SPACE", "Cannot write as the disk is full"));
            }
            // What comes after something lost is lost too: a log has no holes.
            isLost ||= !life.isAlive && !survives;
            if (!isLost) void kept.commit(entries).then(() => time.at(time.now() + 1, () => life.isAlive && resolve()));
          };
          time.at(time.now() + tookMs, write);
        })
      );
      last = written.catch(() => {}); // the host comes again with what was refused, and with nothing else before
      return planted === "speakBeforeSave" ? Promise.resolve() : written;
    },
    async tail(isInternal) {
      const tail = await kept.tail(isInternal);
      return planted === "forgetUnsent" ? { ...tail, unsent: [] } : tail;
    },
  };
}
