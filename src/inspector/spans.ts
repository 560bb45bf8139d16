import { type JobId, taskAddress, taskId } from "../domain/ids.ts";
import { taskState } from "../machines/explain.ts";
import type { JobContext } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { States } from "../snapshots/states/states.ts";
import { needJob } from "./jobs.ts";
import type { Span, TaskTimeline } from "./routes.ts";

const rowsMax = 500;

/** Where the time of each task of a job went, up to a moment. @throws {Fault} `JOB_UNKNOWN` */
export async function taskTimeline(
  states: States,
  jobId: JobId,
  seq: number,
  from: number,
  nowMs: number,
): Promise<TaskTimeline> {
  const { total } = ((await needJob(states, jobId, seq)).state as State).context as JobContext;
  const end = Math.min(total, from + rowsMax);
  const places = Array.from({ length: Math.max(0, end - from) }, (_, place) => from + place);
  const entries = await Promise.all(places.map((place) => states.get(taskAddress(taskId(jobId, place)), seq)));
  const rows = entries.filter((entry) => entry !== undefined).map((entry) => {
    const state = entry.state as State;
    const task = state.context as TaskContext;
    return { taskId: task.taskId, name: task.name, state: taskState(state), spans: spansOf(state, nowMs) };
  });
  return { rows, ...(end < total ? { next: end } : {}) };
}

/** Where a task's time went, attempt by attempt, from what its state says. In order; none is shorter than nothing. */
export function spansOf(state: State, nowMs: number): readonly Span[] {
  const task = state.context as TaskContext;
  const spans: Span[] = [];
  if (taskState(state) === "waiting" || task.queuedAtMs === undefined) return spans;
  let fromMs = task.queuedAtMs;
  const add = (span: Span): void => {
    spans.push({ ...span, toMs: Math.max(span.fromMs, span.toMs) });
    fromMs = Math.max(fromMs, span.toMs);
  };
  for (const [place, { attempt, workerId, placedAtMs, startedAtMs, ended }] of task.attempts.entries()) {
    add({ name: "queued", fromMs, toMs: placedAtMs, says: place === 0 ? "queued" : `queued for attempt ${attempt}` });
    const next = task.attempts[place + 1];
    const outcome = next === undefined && task.outcome !== undefined && task.outcome.kind !== "skipped"
      ? task.outcome
      : undefined;
    // What ended without a result says when only by what followed.
    const endMs = next?.placedAtMs ?? task.settledAtMs ?? (ended === undefined ? nowMs : startedAtMs ?? placedAtMs);
    const beganMs = outcome?.startedAtMs ?? startedAtMs;
    const by = `attempt ${attempt} on ${workerId}`;
    const on = { attempt, workerId };
    const told = ended === undefined ? "" : `, ended: ${ended}`;
    if (beganMs === undefined) {
      add({ name: "checkout", fromMs: placedAtMs, toMs: endMs, ...on, says: `${by}, not started${told}` });
      continue;
    }
    const ranMs = outcome?.endedAtMs ?? endMs;
    add({ name: "checkout", fromMs: placedAtMs, toMs: beganMs, ...on, says: `${by}: checkout` });
    add({ name: "run", fromMs: beganMs, toMs: ranMs, ...on, says: `${by}: run${told}` });
    if (outcome?.endedAtMs !== undefined) {
      add({ name: "capture", fromMs: ranMs, toMs: endMs, ...on, says: `${by}: capture` });
    }
  }
  if (taskState(state) === "queued") add({ name: "queued", fromMs, toMs: nowMs, says: "queued" });
  return spans;
}
