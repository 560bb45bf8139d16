import { Fault } from "../domain/fault.ts";
import {
  type Address,
  jobAddress,
  type JobId,
  kindOf,
  nameOf,
  schedulerAddress,
  taskAddress,
  type TaskId,
} from "../domain/ids.ts";
import { jobView, taskState, taskView } from "../machines/explain.ts";
import type { State } from "../machines/step.ts";
import { inputRootOf, type TaskContext } from "../machines/task.ts";
import type { Answer } from "../protocol/client_messages.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import { type SchedulerIndex, schedulerIndex } from "./scheduler_index.ts";

type Why = Extract<Answer, { type: "job.why" }>;

/** What the scheduler knows of its queue now. */
export interface Present {
  readonly outlook: (taskId: TaskId) => ReturnType<SchedulerIndex["view"]["outlook"]>;
  readonly followed: (taskId: TaskId) => TaskId | undefined;
}

const tasksMax = 100;
/** Whoever asks why wants to know of these first. */
const order = ["stopping", "running", "placed", "queued", "settled", "waiting"] as const;

/**
 * Why a job and its tasks are as they are, from what is saved. For a time in the past the whole cluster is taken as it was
 * at that moment, and its queue built anew from it, by the same code: so it says what was so then.
 *
 * @throws {Fault} `JOB_UNKNOWN` when there was no such job then; `REQUEST_INVALID` for a time that is no longer kept.
 */
export async function whyJob(states: States, jobId: JobId, present: Present, atMs?: number): Promise<Why> {
  const { firstSeq, lastSeq } = await states.bounds();
  const seq = atMs === undefined ? lastSeq : await states.seqAt(atMs);
  if (seq < firstSeq) {
    const first = (await states.history(schedulerAddress, { limit: 1 })[Symbol.asyncIterator]().next()).value?.atMs;
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot say what was at ${new Date(atMs!).toISOString()} as history is kept from entry ${firstSeq} on${
        first === undefined ? "" : `, about ${new Date(first).toISOString()}`
      }`,
    );
  }
  const job = await first(states.cut(seq, jobAddress(jobId)), jobAddress(jobId));
  if (job === undefined) {
    throw new Fault(
      "JOB_UNKNOWN",
      `Cannot find job ${jobId}${atMs === undefined ? "" : ` at ${new Date(atMs).toISOString()}`}: it was not here`,
    );
  }
  const entries: Entry[] = [];
  for await (const entry of states.cut(seq, `${taskAddress(jobId as unknown as TaskId)}/`)) entries.push(entry);
  const rank = ({ state }: Entry): number => {
    const name = taskState(state as State);
    if (name !== "settled") return order.indexOf(name);
    const { outcome } = (state as State).context as TaskContext;
    return outcome?.kind === "exited" && outcome.exitCode === 0 ? order.length : order.indexOf(name);
  };
  const chosen = entries.sort((a, b) => rank(a) - rank(b)).slice(0, tasksMax);
  const isQueued = chosen.some(({ state }) => taskState(state as State) === "queued");
  const queue = atMs === undefined || !isQueued ? present : await queueAt(states, seq, atMs);
  return {
    type: "job.why",
    seq,
    atMs: atMs ?? Math.max(job.atMs, ...chosen.map((entry) => entry.atMs)),
    job: jobView(job.state as State),
    jobCause: causeOf(job),
    tasks: chosen.map((entry) => {
      const taskId = nameOf(entry.address) as TaskId;
      const state = entry.state as State;
      const task = taskState(state) === "queued"
        ? taskView(state, queue.outlook(taskId), queue.followed(taskId))
        : taskView(state);
      return { task, cause: causeOf(entry) };
    }),
    more: entries.length - chosen.length,
  };
}

async function first(entries: AsyncIterable<Entry>, address: Address): Promise<Entry | undefined> {
  for await (const entry of entries) if (entry.address === address) return entry;
  return undefined;
}

const causeOf = ({ seq, atMs, cause, reason }: Entry): Why["jobCause"] => ({
  seq,
  atMs,
  event: typeof cause.event === "string" ? cause.event : (cause.event as { readonly type: string }).type,
  from: cause.from,
  ...(reason === undefined ? {} : { reason }),
});

/** The queue as it was after an entry. */
async function queueAt(states: States, seq: number, nowMs: number): Promise<Present> {
  const index = schedulerIndex();
  const running = new Map<string, TaskId>();
  const queued = new Map<TaskId, string>();
  const keyOf = (task: TaskContext): string =>
    JSON.stringify([task.command, inputRootOf(task), task.timeoutMs, task.platform]);
  for (const prefix of ["scheduler", "worker/", "task/"]) {
    for await (const { address, state } of states.cut(seq, prefix)) {
      index.observe(address, undefined, state as State);
      if (kindOf(address) !== "task") continue;
      const task = (state as State).context as TaskContext;
      if (task.cache !== "use") continue;
      const name = taskState(state as State);
      if (name === "placed" || name === "running") running.set(keyOf(task), task.taskId);
      else if (name === "queued") queued.set(task.taskId, keyOf(task));
    }
  }
  return {
    outlook: (taskId) => index.view.outlook(taskId, nowMs),
    followed(taskId) {
      const key = queued.get(taskId);
      return key === undefined ? undefined : running.get(key);
    },
  };
}
