import { type Found, noResults, type TaskResults } from "../actors/task_results.ts";
import type { Digest } from "../domain/digest.ts";
import type { Random } from "../runtime/random.ts";
import type { Life } from "./time.ts";

/** What an action cache on a disk keeps: it outlives the process that wrote it. */
export type KeptResults = Map<Digest, Found>;

/** An action cache that takes its time, loses some of what it was given, and finds some of it no longer whole. */
export function simulatedResults(kept: KeptResults, life: Life, random: Random): TaskResults {
  const later = <Value>(value: () => Value): Promise<Value> =>
    new Promise((resolve) => void life.at(life.now() + random.integer(50), () => resolve(value())));
  return {
    actionOf: noResults.actionOf,
    find(action) {
      if (!kept.has(action)) return undefined;
      return later(() => {
        if (random.integer(10) === 0) kept.delete(action);
        return kept.get(action);
      });
    },
    keep: (task) =>
      later(() => {
        const { outcome, taskId, settledAtMs } = task;
        if (outcome?.kind !== "exited" || outcome.exitCode !== 0 || random.integer(10) === 0) return;
        const action = noResults.actionOf(task);
        if (!kept.has(action)) kept.set(action, { outcome, cached: { taskId, madeAtMs: settledAtMs!, savedMs: 1 } });
      }),
  };
}
