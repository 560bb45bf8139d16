import { Fault } from "../domain/fault.ts";
import { type JobId, taskId } from "../domain/ids.ts";
import type { JobContext } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import { inputRootOf, type TaskContext } from "../machines/task.ts";
import type { EncodedJob } from "../protocol/client_messages.ts";
import type { States } from "../snapshots/states/states.ts";
import { tasksOf } from "./job_tasks.ts";
import { needJob } from "./jobs.ts";
import { needTask } from "./output.ts";

type EncodedTask = EncodedJob["tasks"][number];

/** What of a task does not depend on the job that it is in. */
const alone = ({ name, command, timeoutMs, retries, platform, needs, caches, output, action }: TaskContext) => ({
  name,
  command,
  timeoutMs,
  retries,
  platform: { ...platform },
  ...(needs === undefined ? {} : { needs: structuredClone(needs) as NonNullable<EncodedTask["needs"]> }),
  ...(caches === undefined ? {} : { caches: caches.map((kept) => ({ ...kept })) }),
  ...(output === undefined ? {} : { output }),
  ...(action === undefined ? {} : { action }),
});

/**
 * A job once more, from its saved states: what succeeded is known, unless it may not be used, and the rest is run. Or one
 * of its tasks, on the files that it had, which is run whatever is known.
 *
 * @throws {Fault} `JOB_UNKNOWN`, `TASK_UNKNOWN`; `OUTPUT_MISSING` for a task whose input was never made, and for a job
 *   that is so old that some of its tasks are forgotten.
 */
export async function again(
  states: States,
  { jobId, place, key }: { readonly jobId: JobId; readonly place?: number | undefined; readonly key: string },
): Promise<EncodedJob> {
  const { lastSeq } = await states.bounds();
  const job = ((await needJob(states, jobId, lastSeq)).state as State).context as JobContext;
  const { requestor, tag, priority, failFast } = job;
  const asked = { key, requestor, basis: "", tag, priority, failFast };
  if (place !== undefined) {
    const task = (await needTask(states, taskId(jobId, place), lastSeq)).context as TaskContext;
    const snapshot = inputRootOf(task);
    if (snapshot === undefined) {
      throw new Fault(
        "OUTPUT_MISSING",
        `Cannot run task ${task.taskId} again as its input must be there: it is made by a task that did not succeed`,
      );
    }
    return { ...asked, tasks: [{ ...alone(task), input: { kind: "snapshot", snapshot }, cache: "refresh" }] };
  }
  const tasks = await tasksOf(states, jobId, lastSeq, { total: job.total, limit: job.total });
  if (tasks.length < job.total) {
    throw new Fault(
      "OUTPUT_MISSING",
      `Cannot run job ${jobId} again as all of its ${job.total} tasks must be known: ${tasks.length} are, it is too old`,
    );
  }
  const nameOf = (index: number): string => tasks[index]!.task.name;
  return {
    ...asked,
    tasks: tasks.map(({ task }): EncodedTask => ({
      ...alone(task),
      input: inputOf(task.source, nameOf),
      cache: task.cache,
    })),
  };
}

function inputOf(source: TaskContext["source"], nameOf: (index: number) => string): EncodedTask["input"] {
  switch (source.kind) {
    case "task":
      return { kind: "task", task: nameOf(source.index) };
    case "mounted":
      return {
        kind: "mounted",
        parts: source.parts.map((part) => {
          const { path, name, subtree } = part;
          const at = { path, name, ...(subtree === undefined ? {} : { subtree }) };
          return "index" in part ? { ...at, task: nameOf(part.index) } : { ...at, snapshot: part.snapshot };
        }),
      };
    default:
      return source;
  }
}
