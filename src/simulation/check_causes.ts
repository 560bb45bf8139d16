import { nameOf, type TaskId, type WorkerId } from "../domain/ids.ts";
import type { AttemptReason, Outcome } from "../domain/job.ts";
import { pathOf, type State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { WorkerContext } from "../machines/worker.ts";
import type { History } from "./world.ts";

type Heard =
  | { readonly type: "task.attemptLost"; readonly workerId: WorkerId; readonly why: string }
  | { readonly type: "task.ended"; readonly workerId: WorkerId; readonly outcome: Outcome }
  | { readonly type: "task.putBack"; readonly preempted?: true }
  | { readonly type: "task.placed" | "task.held" };

interface Followed {
  /** Its state by the last entry. */
  path: string;
  /** What the log says had happened to its last attempt. */
  happened: AttemptReason | undefined;
  placedSeq: number;
}

/** G2, G4: every attempt after the first names its reason, and the log says that this had happened. */
export function* attemptsHaveCauses({ entries }: History): Iterable<string> {
  const tasks = new Map<TaskId, Followed>();
  const incarnations = new Map<WorkerId, string>();
  /** The entry by which a worker was given up or had started anew. */
  const gone = new Map<WorkerId, number>();
  for (const entry of entries) {
    if (entry.state === null || entry.machine === "scheduler") continue;
    const state = entry.state as State;
    const path = pathOf(state.value);
    if (entry.machine === "worker") {
      const { workerId, incarnation } = state.context as WorkerContext;
      if (path === "lost" || (incarnations.get(workerId) ?? incarnation) !== incarnation) gone.set(workerId, entry.seq);
      incarnations.set(workerId, incarnation);
      continue;
    }
    const taskId = nameOf(entry.address) as TaskId;
    const { attempt, attempts, retries } = state.context as TaskContext;
    const task = tasks.get(taskId) ?? { path: "", happened: undefined, placedSeq: 0 };
    const heard = entry.cause.event as Heard;
    const wasActive = task.path.startsWith("active");
    switch (heard.type) {
      case "task.placed": {
        const { reason, workerId } = attempts.at(-1)!;
        if (reason !== (attempt === 1 ? "first" : task.happened)) {
          yield `G2: attempt ${attempt} of ${taskId} on ${workerId} was made for "${reason}"; the log says "${task.happened}"`;
        }
        if (attempt > 1 && attempts.at(-2)!.ended === undefined) {
          yield `G2: attempt ${attempt} of ${taskId} was made, and the one before has no end`;
        }
        task.placedSeq = entry.seq;
        break;
      }
      case "task.attemptLost":
        task.happened = "workerLost";
        if (!heard.why.includes("no longer knows") && (gone.get(heard.workerId) ?? 0) < task.placedSeq) {
          yield `G2: ${taskId} lost attempt ${attempt} on ${heard.workerId}, which was neither given up nor started anew`;
        }
        break;
      case "task.putBack":
        task.happened = heard.preempted === true ? "preempted" : "drained";
        break;
      case "task.ended":
        if (!wasActive || path !== "queued") break;
        task.happened = "retry";
        if (heard.outcome.kind === "failed" && heard.outcome.fault.code === "MEMORY_EXCEEDED") task.happened = "memory";
        else if (heard.outcome.kind === "killed") {
          yield `G2: ${taskId} was killed on ${heard.workerId}, and nobody had asked`;
        } else if (retries === 0) yield `G2: ${taskId} is tried again, and nobody asked for retries`;
    }
    task.path = path;
    tasks.set(taskId, task);
  }
}
