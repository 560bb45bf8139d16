import { Fault } from "../domain/fault.ts";
import type { JobId, TaskId } from "../domain/ids.ts";
import type { Push, TaskView } from "../protocol/client_messages.ts";
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
    readonly fromNow?: true;
  }
  | { readonly type: "job.unwatch"; readonly watch: number };

/**
 * The changes of one task.
 *
 * @param hear.begun called when what was past has been heard, at each beginning.
 * @param fromNow of the past only how it is now is heard.
 */
export function watchTask(
  link: Link<TaskWatchRequest>,
  taskId: TaskId,
  hear: {
    readonly changed: (task: Extract<Change, { kind: "task" }>["task"]) => void;
    readonly begun: () => void;
    readonly ended: (why?: Fault) => void;
  },
  fromNow = false,
): { close(): void } {
  let lastSeq = 0;
  return link.subscribe({
    begin: (watch) => ({
      type: "task.watch",
      taskId,
      watch,
      afterSeq: lastSeq,
      ...(fromNow ? { fromNow } : {}),
    }),
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

/** A task as it is, and then at every change, for one reader; ends with the task's job. */
export function readTask(
  link: Link<TaskWatchRequest>,
  taskId: TaskId,
  signal: AbortSignal | undefined,
): AsyncIterable<TaskView> {
  const changes = feed<TaskView>({ weightMax: changesMax, onClose: () => subscribed.close(), signal });
  const subscribed = watchTask(link, taskId, {
    changed: (task) => changes.put(task, 1),
    begun: () => {},
    ended: changes.end,
  }, true);
  return changes;
}

const faultOf = (push: Extract<Push, { type: "watch.end" }>): Fault | undefined =>
  push.fault === undefined ? undefined : new Fault(push.fault.code, push.fault.message);
