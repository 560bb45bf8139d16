import type { State } from "../machines/step.ts";
import type { WorkerContext } from "../machines/worker.ts";
import type { States } from "../snapshots/states/states.ts";
import type { Tally } from "./tally.ts";

/**
 * How it stands with the workers at a moment, as the end of the sentence "Queued: …". What was not recorded of why a task
 * waits is not guessed: these are the figures that it waits with.
 */
export async function standingOf(states: States, seq: number, nowMs: number, counts: Tally): Promise<string> {
  const open = new Set<string>();
  let connected = 0;
  let slots = 0;
  for await (const { state } of states.cut(seq, "worker/")) {
    const { workerId, slots: own, offline, paused, flaky } = (state as State).context as WorkerContext;
    if ((state as State).value !== "present") continue;
    connected++;
    if (offline !== undefined || paused !== undefined || (flaky !== undefined && flaky.untilMs > nowMs)) continue;
    open.add(workerId);
    slots += own;
  }
  if (connected === 0) return "no worker is connected";
  if (open.size === 0) {
    return connected === 1 ? "the one worker is given nothing" : `none of the ${connected} workers is given anything`;
  }
  let busy = 0;
  for (const workerId of counts.onWorker.values()) if (open.has(workerId)) busy++;
  const queued = counts.states.get("task/queued") ?? 0;
  const taken = busy < slots
    ? `${busy} of ${slots} slots are taken`
    : slots === 1
    ? "the one slot is taken"
    : `all ${slots} slots are taken`;
  return `${taken}, and ${queued} ${queued === 1 ? "task waits" : "tasks wait"}`;
}
