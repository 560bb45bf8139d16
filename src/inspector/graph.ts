import type { JobId } from "../domain/ids.ts";
import { isSuccess, type Outcome } from "../domain/job.ts";
import { taskState } from "../machines/explain.ts";
import type { JobContext } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import type { States } from "../snapshots/states/states.ts";
import { sourcesOf, tasksOf } from "./job_tasks.ts";
import { needJob } from "./jobs.ts";
import type { TaskGraph } from "./routes.ts";

const nodesMax = 2_000;

/** Which task of a job takes whose output, at a moment. @throws {Fault} `JOB_UNKNOWN` */
export async function taskGraph(states: States, jobId: JobId, seq: number): Promise<TaskGraph> {
  const { total } = ((await needJob(states, jobId, seq)).state as State).context as JobContext;
  const tasks = await tasksOf(states, jobId, seq, { total, limit: nodesMax });
  const places = new Set(tasks.map(({ place }) => place));
  return {
    nodes: tasks.map(({ place, state, task }) => ({
      place,
      taskId: task.taskId,
      name: task.name,
      state: taskState(state),
      ...(task.outcome === undefined ? {} : { result: resultOf(task.outcome) }),
      isCached: task.cached !== undefined,
    })),
    edges: tasks.flatMap(({ place, task }) =>
      sourcesOf(task).filter((from) => places.has(from)).map((from) => [from, place] as const)
    ),
    more: Math.max(0, total - tasks.length),
  };
}

function resultOf(outcome: Outcome): NonNullable<TaskGraph["nodes"][number]["result"]> {
  if (outcome.kind === "skipped" || outcome.kind === "killed") return outcome.kind;
  return isSuccess(outcome) ? "succeeded" : "failed";
}
