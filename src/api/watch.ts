import { Fault } from "../domain/fault.ts";
import { type JobId, type TaskId, taskId as taskIdOf } from "../domain/ids.ts";
import type { Answer, EncodedJob, Push, TaskView } from "../protocol/client_messages.ts";
import type { Change } from "./client.ts";
import { feed } from "./feed.ts";
import type { Link } from "./link.ts";

/** Changes that wait for a reader; at more, the peer is asked to stop, and again when they are read. */
const changesMax = 2_000;

type WatchRequest =
  | {
    readonly type: "job.watch";
    readonly jobId: JobId;
    readonly watch: number;
    readonly afterSeq: number;
    readonly tasks?: boolean;
  }
  | { readonly type: "job.unwatch"; readonly watch: number };

export interface WatchOptions {
  /** Changes up to this one are known; 0 by default. */
  readonly afterSeq?: number | undefined;
  /** Whether the changes of the job's tasks are wanted too; true by default. */
  readonly tasks?: boolean | undefined;
  /** Aborted: the watch throws `CANCELLED`. */
  readonly signal?: AbortSignal | undefined;
}

/** Every change of a job after an entry, without gaps or doubles however often the connection ends; ends after its last. */
export function watchJob(
  link: Link<WatchRequest>,
  jobId: JobId,
  { afterSeq = 0, tasks = true, signal }: WatchOptions = {},
): AsyncIterable<Change> {
  let lastSeq = afterSeq;
  const changes = feed<Change>({
    weightMax: changesMax,
    onFull: () => subscribed.pause(),
    onEmpty: () => subscribed.resume(),
    onClose: () => subscribed.close(),
    signal,
  });
  const subscribed = link.subscribe({
    begin: (watch) => ({ type: "job.watch", jobId, watch, afterSeq: lastSeq, ...(tasks ? {} : { tasks }) }),
    stop: (watch) => ({ type: "job.unwatch", watch }),
    hear(push) {
      if (push.type === "watch.end") return changes.end(faultOf(push));
      if ((push.type !== "job.changed" && push.type !== "task.changed") || push.seq <= lastSeq) return;
      lastSeq = push.seq;
      const { seq, atMs } = push;
      changes.put(
        push.type === "job.changed"
          ? { kind: "job", seq, atMs, job: push.job }
          : { kind: "task", seq, atMs, task: push.task },
        1,
      );
    },
    failed: changes.end,
  });
  return changes;
}

type TaskWatchRequest =
  | {
    readonly type: "task.watch";
    readonly taskId: TaskId;
    readonly watch: number;
    readonly afterSeq: number;
    readonly latest?: true;
  }
  | { readonly type: "job.unwatch"; readonly watch: number };

/**
 * The changes of one task.
 *
 * @param hear.begun called when what was past has been heard, at each beginning.
 */
export function watchTask(
  link: Link<TaskWatchRequest>,
  taskId: TaskId,
  hear: {
    readonly changed: (task: Extract<Change, { kind: "task" }>["task"]) => void;
    readonly begun: () => void;
    readonly ended: (why?: Fault) => void;
  },
): { close(): void } {
  let lastSeq = 0;
  return link.subscribe({
    begin: (watch) => ({ type: "task.watch", taskId, watch, afterSeq: lastSeq }),
    stop: (watch) => ({ type: "job.unwatch", watch }),
    hear(push) {
      if (push.type === "task.changed" && push.seq > lastSeq) {
        lastSeq = push.seq;
        hear.changed(push.task);
      } else if (push.type === "watch.end") hear.ended(faultOf(push));
    },
    begun: hear.begun,
    failed: hear.ended,
  });
}

/** A task as it is, then that it runs, and its end, which is the last; for one reader. */
export const readTask = (
  link: Link<TaskWatchRequest>,
  taskId: TaskId,
  signal: AbortSignal | undefined,
): AsyncIterable<TaskView> => readLatest(link, (afterSeq, watch) => latestOf(taskId, afterSeq, watch), signal);

export interface Accepted {
  readonly jobId: JobId;
  readonly existing: boolean;
  /** What becomes of its task from then on: that it runs, and its end, which is the last. */
  readonly changes: AsyncIterable<TaskView>;
}

/** Hands over a job of one task and reads it, in one go. Durable when it resolves. */
export function acceptTask(
  link: Link<TaskWatchRequest | { readonly type: "job.accept"; readonly job: EncodedJob; readonly watch: number }>,
  job: EncodedJob,
  signal: AbortSignal,
): Promise<Accepted> {
  return new Promise((resolve, reject) => {
    let jobId: JobId | undefined;
    const changes = readLatest(
      link,
      // What is not known to be accepted is handed over again: its key makes it one.
      (afterSeq, watch) =>
        jobId === undefined
          ? { type: "job.accept", job, watch } as const
          : latestOf(taskIdOf(jobId, 0), afterSeq, watch),
      signal,
      (answer) => {
        if (answer.type !== "job.accepted") return;
        jobId = answer.jobId;
        resolve({ jobId, existing: answer.existing, changes });
      },
      reject,
    );
  });
}

const latestOf = (taskId: TaskId, afterSeq: number, watch: number) =>
  ({ type: "task.watch", taskId, watch, afterSeq, latest: true }) as const;

function readLatest<Request>(
  link: Link<Request | { readonly type: "job.unwatch"; readonly watch: number }>,
  begin: (afterSeq: number, watch: number) => Request,
  signal: AbortSignal | undefined,
  begun?: (answer: Answer) => void,
  failed?: (why: Fault) => void,
): AsyncIterable<TaskView> {
  let lastSeq = 0;
  const changes = feed<TaskView>({ weightMax: changesMax, onClose: () => subscribed.close(), signal });
  const subscribed = link.subscribe({
    begin: (watch) => begin(lastSeq, watch),
    stop: (watch) => ({ type: "job.unwatch", watch }),
    hear(push) {
      if (push.type === "watch.end") return changes.end(faultOf(push));
      if (push.type !== "task.changed" || push.seq <= lastSeq) return;
      lastSeq = push.seq;
      changes.put(push.task, 1);
      if (push.task.state !== "settled") return;
      changes.end();
      return "over";
    },
    ...(begun === undefined ? {} : { begun }),
    failed(why) {
      failed?.(why);
      changes.end(why);
    },
  });
  return changes;
}

const faultOf = (push: Extract<Push, { type: "watch.end" }>): Fault | undefined =>
  push.fault === undefined ? undefined : new Fault(push.fault.code, push.fault.message);
