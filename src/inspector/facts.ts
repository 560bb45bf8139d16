import type { JobId, TaskId } from "../domain/ids.ts";
import { isSuccess, type TaskState } from "../domain/job.ts";
import { explainTask, jobState, taskState } from "../machines/explain.ts";
import type { JobContext } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { States } from "../snapshots/states/states.ts";
import { type SavedTask, tasksOf } from "./job_tasks.ts";
import type { Cost } from "./routes.ts";

/** What the tasks of a job say of it. */
export interface JobFacts {
  readonly cost: Cost;
  /** The task that tells most of why the job is as it is, and its sentence. */
  readonly telling?: {
    readonly taskId: TaskId;
    readonly name: string;
    readonly state: TaskState;
    readonly why: string;
  };
}

/** Of one job so many tasks are looked at. */
export const tasksMax = 2_000;
/** Facts of so many jobs that have ended are kept: they do not change. */
const keptMax = 5_000;

/**
 * The facts of jobs, each read once when it has ended.
 *
 * @param nowMs up to when what runs has run.
 */
export function jobFacts() {
  const kept = new Map<JobId, JobFacts>();
  return {
    /** How many tasks must be looked at for it. */
    costOf: (state: State): number => {
      const { jobId, total } = state.context as JobContext;
      return kept.has(jobId) && jobState(state) !== "running" ? 0 : Math.min(total, tasksMax);
    },
    async of(states: States, job: State, seq: number, nowMs: number): Promise<JobFacts> {
      const { jobId, total } = job.context as JobContext;
      const hasEnded = jobState(job) !== "running";
      const known = hasEnded ? kept.get(jobId) : undefined;
      if (known !== undefined) return known;
      const tasks = await tasksOf(states, jobId, seq, { total, limit: tasksMax });
      const telling = tellingOf(job, tasks);
      const facts: JobFacts = {
        cost: { ...costOf(tasks, nowMs), ...(tasks.length < total ? { ofTasks: tasks.length } : {}) },
        ...(telling === undefined ? {} : { telling }),
      };
      if (hasEnded) {
        kept.set(jobId, facts);
        if (kept.size > keptMax) kept.delete(kept.keys().next().value!);
      }
      return facts;
    },
  };
}

/** What tasks took together. */
export function costOf(tasks: readonly SavedTask[], nowMs: number): Cost {
  const cost = { cpuMs: 0, ranMs: 0, attempts: 0, cached: 0, savedMs: 0 };
  for (const { task } of tasks) {
    const { outcome, attempts, cached } = task;
    cost.attempts += attempts.length;
    if (cached !== undefined) {
      cost.cached++;
      cost.savedMs += cached.savedMs;
      continue;
    }
    if (outcome !== undefined && outcome.kind !== "skipped") {
      cost.cpuMs += outcome.usage?.cpuMs ?? 0;
      if (outcome.startedAtMs !== undefined && outcome.endedAtMs !== undefined) {
        cost.ranMs += Math.max(0, outcome.endedAtMs - outcome.startedAtMs);
      }
    } else {
      const last = attempts.at(-1);
      if (last?.startedAtMs !== undefined && last.ended === undefined) {
        cost.ranMs += Math.max(0, nowMs - last.startedAtMs);
      }
    }
  }
  return cost;
}

const sum = (a: Cost, b: Cost): Cost => ({
  cpuMs: a.cpuMs + b.cpuMs,
  ranMs: a.ranMs + b.ranMs,
  attempts: a.attempts + b.attempts,
  cached: a.cached + b.cached,
  savedMs: a.savedMs + b.savedMs,
});
export const sumOf = (costs: readonly Cost[]): Cost =>
  costs.reduce(sum, { cpuMs: 0, ranMs: 0, attempts: 0, cached: 0, savedMs: 0 });

/** One that failed; else, of a job that goes on, one that runs, waits for a slot, or has not settled for another reason. */
function tellingOf(job: State, tasks: readonly SavedTask[]): JobFacts["telling"] {
  const by = (which: (task: SavedTask) => boolean): SavedTask | undefined => tasks.find(which);
  const is = (wanted: TaskState) => (one: SavedTask): boolean => taskState(one.state) === wanted;
  const state = jobState(job);
  const failed = by(({ task }) => hasFailed(task));
  const found = state === "cancelled"
    ? undefined
    : state === "succeeded"
    ? tasks.length === 1 ? tasks[0] : undefined
    : failed ?? by(is("running")) ?? by(is("placed")) ?? by(is("queued")) ?? by((one) => !is("settled")(one));
  if (found === undefined) return undefined;
  const { taskId, name } = found.task;
  return { taskId, name, state: taskState(found.state), why: explainTask(found.state) };
}

const hasFailed = ({ outcome }: TaskContext): boolean =>
  outcome !== undefined && outcome.kind !== "skipped" && outcome.kind !== "killed" && !isSuccess(outcome);
