import { Fault } from "../domain/fault.ts";
import type { JobInput, JobTask } from "../machines/job.ts";
import type { EncodedJob, JobSpec } from "../protocol/client_messages.ts";

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
  }));
  const { key, requestor, tag, priority, failFast } = job;
  return { key, requestor, tag, priority, failFast, tasks };
}

type Named = Pick<JobSpec["tasks"][number], "name" | "input">;

/** Each task has at most one input, so walking up from each finds every cycle; what was walked is not walked again. */
export function checkGraph(tasks: readonly Named[]): void {
  const byName = new Map<string, Named>();
  for (const task of tasks) {
    if (byName.has(task.name)) throw new Fault("JOB_INVALID", `Cannot accept the job as two of its tasks are called "${task.name}": names must differ`);
    byName.set(task.name, task);
  }
  const ends = new Set<string>();
  for (const start of tasks) {
    const walked = new Set<string>();
    for (let task = start; !ends.has(task.name);) {
      if (walked.has(task.name)) throw new Fault("JOB_INVALID", `Cannot accept the job as its tasks wait for each other: ${[...walked, task.name].join(" → ")}`);
      walked.add(task.name);
      if (task.input.kind !== "task") break;
      const next = byName.get(task.input.task);
      if (next === undefined) throw new Fault("JOB_INVALID", `Cannot accept the job as task "${task.name}" takes the output of "${task.input.task}", which is no task of the job`);
      task = next;
    }
    for (const name of walked) ends.add(name);
  }
}
