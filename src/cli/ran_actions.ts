import type { Client } from "../api/client.ts";
import type { JobId } from "../domain/ids.ts";
import type { JobView, TaskView } from "../protocol/client_messages.ts";

/**
 * Jobs of Remote Execution with their one task, the newest first.
 *
 * @param limit so many jobs are looked at, of whatever kind.
 * @param isWorthALook asked before a job's task is.
 */
export async function* ranActions(
  client: Client,
  limit: number,
  isWorthALook: (job: JobView) => boolean = () => true,
): AsyncGenerator<{ readonly job: JobView; readonly task: TaskView }> {
  let left = limit;
  let before: JobId | undefined;
  while (left > 0) {
    const size = Math.min(left, 500);
    const page = await client.jobs({ limit: size, ...(before === undefined ? {} : { before }) });
    for (const job of page) {
      if (job.tasks !== 1 || !isWorthALook(job)) continue;
      const [task] = (await client.job(job.jobId)).tasks;
      if (task?.action !== undefined) yield { job, task };
    }
    if (page.length < size) return;
    left -= page.length;
    before = page.at(-1)!.jobId;
  }
}
