import type { Client } from "../api/client.ts";
import type { CommandData } from "../domain/command.ts";
import { Fault } from "../domain/fault.ts";
import type { JobView, TaskView } from "../protocol/client_messages.ts";
import { decodeCommand } from "../protocol/reapi/canonical.ts";
import { readBlob } from "../snapshots/blobs/blobs.ts";
import { readTaskRef } from "./ids.ts";
import { count } from "./render.ts";

const commandBytesMax = 64 * 1024 * 1024;

/** A task with all that it is run of. */
export interface WholeTask {
  readonly job: JobView;
  readonly task: TaskView;
  readonly command: CommandData;
}

/** A task by its id, or the first of a job by the job's. @throws {Fault} `USAGE_INVALID`, `JOB_UNKNOWN`, `TASK_UNKNOWN`. */
export async function readTask(client: Client, ref: string): Promise<WholeTask> {
  const { jobId, index = 0 } = readTaskRef(ref);
  const { job, tasks } = await client.job(jobId);
  const task = tasks[index];
  if (task !== undefined) return { job, task, command: await commandOf(client, task) };
  throw new Fault(
    "TASK_UNKNOWN",
    `Cannot find task ${ref} as the job must have it: it has ${count(tasks.length, "task")}`,
  );
}

export const commandOf = async (client: Client, { command }: TaskView): Promise<CommandData> =>
  decodeCommand(await readBlob(client.blobs, command, commandBytesMax));
