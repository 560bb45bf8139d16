import type { Client } from "../api/client.ts";
import { jobOfTask, type TaskId } from "../domain/ids.ts";
import { isSuccess } from "../domain/job.ts";
import type { JobView, TaskView } from "../protocol/client_messages.ts";
import { moment } from "./render.ts";
import { diffLines, diffTasks, type TaskDiff } from "./task_diff.ts";
import { commandOf, type WholeTask } from "./tasks.ts";
import type { World } from "./world.ts";

/** So many jobs that succeeded are looked through for one of the same name. */
const lookedMax = 100;
const atOnce = 10;
const changesShown = 10;

/** The newest run of the same task of the same requestor that succeeded before. */
export async function lastGood(client: Client, job: JobView, task: TaskView): Promise<WholeTask | undefined> {
  const jobs = await client.jobs({ state: "succeeded", limit: lookedMax, before: job.jobId });
  const candidates = jobs.filter(({ requestor }) => requestor === job.requestor);
  for (let at = 0; at < candidates.length; at += atOnce) {
    const some = await Promise.all(candidates.slice(at, at + atOnce).map(({ jobId }) => client.job(jobId)));
    for (const { job, tasks } of some) {
      const good = tasks.find(({ name, outcome }) =>
        name === task.name && outcome?.kind === "exited" && isSuccess(outcome)
      );
      if (good !== undefined) return { job, task: good, command: await commandOf(client, good) };
    }
  }
  return undefined;
}

/** Why a task that failed may have failed: how to look further, and what differs from when it was good. */
export interface FailureReport {
  readonly taskId: TaskId;
  /** The page of its job, in a browser. */
  readonly page: string;
  readonly lastGood?: { readonly taskId: TaskId; readonly endedAtMs?: number; readonly diff: TaskDiff };
}

/** As the inspector's page has it. */
export const pageOf = (client: Client, taskId: TaskId): string => `${client.url}/#/job/${jobOfTask(taskId)}`;

export async function failureReport(world: World, client: Client, taskId: TaskId): Promise<FailureReport> {
  const report = { taskId, page: pageOf(client, taskId) };
  const { job, tasks } = await client.job(jobOfTask(taskId));
  const task = tasks.find((each) => each.taskId === taskId);
  if (task === undefined) return report;
  const good = await lastGood(client, job, task);
  if (good === undefined) return report;
  const diff = await diffTasks(world, client, good, { job, task, command: await commandOf(client, task) });
  const { endedAtMs } = good.job;
  return { ...report, lastGood: { taskId: good.task.taskId, ...(endedAtMs === undefined ? {} : { endedAtMs }), diff } };
}

/** Lines for people. */
export function failureLines({ taskId, page, lastGood }: FailureReport): readonly string[] {
  const further = [
    `look further: scoot-actors shell ${taskId}, job status ${taskId}, rerun ${taskId} --times 10`,
    `in a browser: ${page}`,
  ];
  if (lastGood === undefined) return further;
  const { taskId: goodId, endedAtMs, diff } = lastGood;
  const causes = diffLines({ ...diff, ends: [], outputs: { changes: [], isCut: false } }, changesShown);
  const when = endedAtMs === undefined ? "" : ` at ${moment(endedAtMs)}`;
  return [
    ...further,
    causes.length === 0
      ? `last good: ${goodId}${when}, of the very same command and files: it is flaky`
      : `last good: ${goodId}${when}; since then:`,
    ...causes.map((line) => `  ${line}`),
  ];
}
