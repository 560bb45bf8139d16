import { type Address, kindOf } from "../domain/ids.ts";
import { explainJob, explainTask } from "../machines/explain.ts";
import type { SchedulerContext } from "../machines/scheduler.ts";
import { pathOf, type State } from "../machines/step.ts";
import type { WorkerContext } from "../machines/worker.ts";

/** Any actor's saved state as a sentence. */
export function explainActor(address: Address, state: State): string {
  switch (kindOf(address)) {
    case "job":
      return explainJob(state);
    case "task":
      return explainTask(state);
    case "worker":
      return explainWorker(state);
    case "scheduler":
      return explainScheduler(state);
    default:
      return `It is ${pathOf(state.value)}.`;
  }
}

const time = (atMs: number): string => new Date(atMs).toISOString();

export function explainWorker(state: State): string {
  const { slots, sinceMs, wakeAtMs, offline, paused, flaky, lostAfterMs } = state.context as WorkerContext;
  const aside = offline !== undefined
    ? ` It is given nothing: set aside by an operator at ${time(offline.atMs)}, "${offline.reason}".`
    : paused !== undefined
    ? ` It is given nothing for now: ${paused}.`
    : flaky !== undefined && flaky.untilMs > 0
    ? ` It is given nothing until ${time(flaky.untilMs)}: ${flaky.why}.`
    : "";
  switch (pathOf(state.value)) {
    case "present":
      return `Connected with ${slots} ${slots === 1 ? "slot" : "slots"} since ${time(sinceMs)}.${aside}`;
    case "absent":
      return `Away since ${time(sinceMs)}; what it runs is run elsewhere ${
        wakeAtMs === undefined ? `after ${lostAfterMs / 1_000} s` : `if it has not come back by ${time(wakeAtMs)}`
      }.${aside}`;
    default:
      return `Given up for lost at ${time(sinceMs)}: what it ran is run elsewhere.${aside}`;
  }
}

export function explainScheduler(state: State): string {
  const { epoch, startedAtMs, drainReason } = state.context as SchedulerContext;
  const begun = `Start ${epoch} of this scheduler, at ${time(startedAtMs)}`;
  return drainReason === undefined
    ? `${begun}. It places tasks on workers.`
    : `${begun}. It is about to stop: ${drainReason}.`;
}
