import { checkGraph } from "../domain/graph.ts";
import type { JobInput, JobTask } from "../machines/job.ts";
import type { EncodedJob } from "../protocol/client_messages.ts";

/**
 * A job's tasks as a graph: names become places, and each task learns who waits for it.
 *
 * @throws {Fault} `JOB_INVALID` for two tasks of one name, an input that is no task of the job, and cycles.
 */
export function planJob(job: EncodedJob): Omit<JobInput, "jobId" | "atMs"> {
  checkGraph(job.tasks);
  const places = new Map(job.tasks.map((task, index) => [task.name, index]));
  const dependents: number[][] = job.tasks.map(() => []);
  for (const [index, task] of job.tasks.entries()) {
    if (task.input.kind === "task") dependents[places.get(task.input.task)!]!.push(index);
  }
  const tasks = job.tasks.map((task, index): JobTask => ({
    name: task.name,
    command: task.command,
    source: task.input.kind === "task" ? { kind: "task", index: places.get(task.input.task)! } : task.input,
    dependents: dependents[index]!,
    timeoutMs: task.timeoutMs,
    retries: task.retries,
    platform: task.platform,
    ...(task.needs === undefined ? {} : { needs: task.needs }),
    cache: task.cache,
    ...(task.caches === undefined ? {} : { caches: task.caches }),
    ...(task.action === undefined ? {} : { action: task.action }),
  }));
  const { key, requestor, basis, tag, priority, failFast } = job;
  return { key, requestor, ...(basis === "" ? {} : { basis }), tag, priority, failFast, tasks };
}
