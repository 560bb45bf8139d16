import { Fault } from "../domain/fault.ts";
import { jobAddress, type JobId, newJobId, taskAddress, type TaskId, taskId } from "../domain/ids.ts";
import type { JobState, TaskState } from "../domain/job.ts";
import { jobView, taskView } from "../machines/explain.ts";
import type { State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { JobView, TaskView } from "../protocol/client_messages.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import { typeOf } from "./actors.ts";
import type { JobFacts, jobFacts } from "./facts.ts";
import { momentOf } from "./moments.ts";
import type { Cost } from "./routes.ts";

/** What led an actor into its state. */
export interface CauseLine {
  readonly seq: number;
  readonly atMs: number;
  readonly event: string;
  readonly from: string;
  readonly reason?: string;
}

export interface TaskLine extends TaskView {
  readonly cause: CauseLine;
  /** When it settled. */
  readonly settledAtMs?: number;
}

export interface JobPage {
  readonly job: JobView;
  readonly cause: CauseLine;
  /** Why it is as it is, in one sentence: of the task that tells most, if one does. */
  readonly why: string;
  /** The task that tells most. */
  readonly task?: { readonly taskId: TaskId; readonly name: string; readonly state: TaskState };
  readonly cost: Cost;
  /** In the order of the job. */
  readonly tasks: readonly TaskLine[];
  /** The place of the first task of the next page. */
  readonly next?: number;
}

export const tasksPerPage = 100;
/** Jobs looked at for one page of a list, found or not. */
const scannedMax = 2_000;

const causeOf = ({ seq, atMs, cause, reason }: Entry): CauseLine => ({
  seq,
  atMs,
  event: typeOf(cause.event),
  from: cause.from,
  ...(reason === undefined ? {} : { reason }),
});

/** @throws {Fault} `JOB_UNKNOWN` */
export async function needJob(states: States, jobId: JobId, seq: number): Promise<Entry> {
  const entry = await states.get(jobAddress(jobId), seq);
  if (entry !== undefined) return entry;
  throw new Fault("JOB_UNKNOWN", `Cannot find job ${jobId} at entry ${seq}: it was not here`);
}

/** A job at a moment, with a page of its tasks from the place `from` on. @throws {Fault} `JOB_UNKNOWN` */
export async function jobPage(
  states: States,
  facts: ReturnType<typeof jobFacts>,
  jobId: JobId,
  seq: number,
  from: number,
  nowMs: number,
): Promise<JobPage> {
  const entry = await needJob(states, jobId, seq);
  const { cost, telling } = await facts.of(states, entry.state as State, seq, nowMs);
  const job = jobView(entry.state as State);
  const end = Math.min(job.tasks, from + tasksPerPage);
  const places = Array.from({ length: Math.max(0, end - from) }, (_, place) => from + place);
  const entries = await Promise.all(places.map((place) => states.get(taskAddress(taskId(jobId, place)), seq)));
  const tasks = entries.filter((one) => one !== undefined).map((one): TaskLine => {
    const { settledAtMs } = (one.state as State).context as TaskContext;
    return {
      ...taskView(one.state as State),
      cause: causeOf(one),
      ...(settledAtMs === undefined ? {} : { settledAtMs }),
    };
  });
  return {
    job,
    cause: causeOf(entry),
    ...whyOf(job, telling),
    cost,
    tasks,
    ...(end < job.tasks ? { next: end } : {}),
  };
}

/** A job's state in one sentence, and the task that it is about. */
export function whyOf(job: JobView, telling: JobFacts["telling"]): Pick<JobPage, "why" | "task"> {
  if (telling === undefined) return { why: job.why };
  const { why, ...task } = telling;
  return { why: job.tasks === 1 ? why : `Task ${task.name}: ${why}`, task };
}

export interface JobFilter {
  readonly state?: JobState | undefined;
  /** In the id, the requestor, the basis, the tag or the reason; upper and lower case are the same. */
  readonly text?: string | undefined;
  /** Exactly. */
  readonly requestor?: string | undefined;
}

/**
 * Jobs at a moment, the newest first. A page may be short though more follow: so many were looked at.
 * `next`: the job before which the next page begins.
 */
export async function jobList(
  states: States,
  seq: number,
  { state, text, requestor }: JobFilter,
  { before, limit }: { readonly before?: JobId | undefined; readonly limit: number },
): Promise<{ readonly jobs: readonly JobView[]; readonly next?: JobId }> {
  const jobs: JobView[] = [];
  const wanted = text?.toLowerCase() ?? "";
  let scanned = 0;
  for await (const entry of newestJobs(states, seq, before)) {
    const job = jobView(entry.state as State);
    const texts = [job.jobId, job.requestor, job.basis ?? "", job.tag, job.why];
    const isWanted = (state === undefined || job.state === state) &&
      (requestor === undefined || job.requestor === requestor) &&
      (wanted === "" || texts.some((one) => one.toLowerCase().includes(wanted)));
    if (isWanted) jobs.push(job);
    if (jobs.length >= limit || ++scanned >= scannedMax) return { jobs, next: job.jobId };
  }
  return { jobs };
}

/** Jobs in a stretch of time that is looked at at once: about so many, never more than that. */
const jobsWanted = 192;
const jobsMax = 256;
const firstMs = 100;

/**
 * Jobs in a cut, the newest first. Cuts go forward, and ids begin with the time: so it looks at the last moments, then at
 * what was before that, in stretches as long as it takes for some jobs.
 */
export async function* newestJobs(states: States, seq: number, before?: JobId): AsyncGenerator<Entry> {
  /** Of the stretch before it nothing is known yet; it itself may be a job's. */
  let end: string | undefined = before === undefined ? undefined : jobAddress(before);
  let endMs = before === undefined ? await newestMs(states, seq) : timeOf(before);
  let widthMs = firstMs;
  while (end === undefined || endMs > 0) {
    const startMs = Math.max(0, endMs - Math.ceil(widthMs));
    const start = startMs === 0 ? undefined : jobAddress(newJobId(startMs, 0));
    const found: Entry[] = [];
    for await (const entry of states.cut(seq, "job/", start)) {
      if (end !== undefined && (entry.address > end || entry.address === jobAddress(before ?? "" as JobId))) break;
      found.push(entry);
      if (found.length > jobsMax && widthMs > 1) break;
    }
    if (found.length > jobsMax && widthMs > 1) {
      widthMs = Math.max(1, widthMs / 8);
      continue;
    }
    yield* found.reverse();
    if (start === undefined) return;
    end = start;
    endMs = startMs;
    widthMs *= Math.min(16, Math.max(1 / 4, jobsWanted / Math.max(1, found.length)));
  }
}

/**
 * When there was the newest job, or a little later: mostly when there was the newest entry. That one may be older, when it
 * was taken in from another cluster; then it is looked ever later until there are no more, and back in halves.
 */
async function newestMs(states: States, seq: number): Promise<number> {
  const areLater = async (ms: number): Promise<boolean> => {
    for await (const _ of states.cut(seq, "job/", jobAddress(newJobId(ms, 0)))) return true;
    return false;
  };
  let { atMs: fromMs } = await momentOf(states, seq);
  if (!await areLater(fromMs)) return fromMs;
  let toMs = fromMs + firstMs;
  for (let aheadMs = firstMs; toMs < timeMaxMs && await areLater(toMs); aheadMs *= 4) {
    fromMs = toMs;
    toMs = Math.min(timeMaxMs, toMs + aheadMs);
  }
  while (toMs - fromMs > firstMs) {
    const halfMs = Math.floor((fromMs + toMs) / 2);
    if (await areLater(halfMs)) fromMs = halfMs;
    else toMs = halfMs;
  }
  return toMs;
}

const digits = "0123456789abcdefghjkmnpqrstvwxyz";
/** The latest that an id can tell. */
const timeMaxMs = 32 ** 10 - 1;
const timeOf = (id: JobId): number => [...id.slice(1, 11)].reduce((sum, digit) => sum * 32 + digits.indexOf(digit), 0);
