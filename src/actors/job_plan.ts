import { checkGraph } from "../domain/graph.ts";
import type { JobInput, JobTask } from "../machines/job.ts";
import type { EncodedJob } from "../protocol/client_messages.ts";

/**
 * A job's tasks as a graph: names become places, and each task learns who waits for it.
 *
 * @throws {Fault} `JOB_INVALID` for two tasks of one name, an input that is no task of the job, and cycles.
 */
export function planJob(job: EncodedJob): Omit<JobInput, "jobId" | "atMs"> {
  const needs = job.tasks.map(({ input }) => [...new Set(tasksOf(input))]);
  checkGraph(job.tasks.map(({ name }, at) => ({ name, needs: needs[at]! })));
  const places = new Map(job.tasks.map((task, index) => [task.name, index]));
  const dependents: number[][] = job.tasks.map(() => []);
  for (const [index, names] of needs.entries()) {
    for (const name of names) dependents[places.get(name)!]!.push(index);
  }
  const tasks = job.tasks.map((task, index): JobTask => ({
    name: task.name,
    command: task.command,
    source: sourceOf(task.input, places),
    dependents: dependents[index]!,
    timeoutMs: task.timeoutMs,
    retries: task.retries,
    platform: task.platform,
    ...(task.needs === undefined ? {} : { needs: task.needs }),
    cache: task.cache,
    ...(task.caches === undefined ? {} : { caches: task.caches }),
    ...(task.output === "full" ? { output: task.output } : {}),
    ...(task.action === undefined ? {} : { action: task.action }),
  }));
  const { key, requestor, basis, tag, priority, failFast } = job;
  return { key, requestor, ...(basis === "" ? {} : { basis }), tag, priority, failFast, tasks };
}

type Input = EncodedJob["tasks"][number]["input"];

function tasksOf(input: Input): readonly string[] {
  if (input.kind === "task") return [input.task];
  return input.kind === "mounted" ? input.parts.flatMap(({ task }) => task ?? []) : [];
}

function sourceOf(input: Input, places: ReadonlyMap<string, number>): JobTask["source"] {
  if (input.kind === "task") return { kind: "task", index: places.get(input.task)! };
  if (input.kind !== "mounted") return input;
  return {
    kind: "mounted",
    parts: input.parts.map(({ task, snapshot, ...part }) =>
      task === undefined ? { ...part, snapshot: snapshot! } : { ...part, index: places.get(task)! }
    ),
  };
}
