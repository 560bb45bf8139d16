import type { JobId, TaskId } from "../domain/ids.ts";
import type { ClusterView, JobSpecInput, JobView, TaskView, WorkerView } from "../protocol/client_messages.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { Refs } from "../snapshots/refs/refs.ts";

/** A change of a job or of one of its tasks, in the order of `seq`. */
export type Change =
  | { readonly kind: "job"; readonly seq: number; readonly atMs: number; readonly job: JobView }
  | { readonly kind: "task"; readonly seq: number; readonly atMs: number; readonly task: TaskView };

/**
 * A cluster, as programs use it; the CLI is one. Connects when first used, and again whenever the connection ends: a
 * request that was cut is asked again (a submit by its key, so that it stays one job), a watch and a followed stream go on
 * where they were.
 */
export interface Client {
  /** @throws {Fault} `JOB_INVALID` or `REQUEST_INVALID` with what is wrong, `NO_SPACE`, `DRAINING`. */
  submit(job: JobSpecInput): Promise<{ readonly jobId: JobId; readonly existing: boolean }>;
  /** @throws {Fault} `JOB_UNKNOWN`. */
  job(jobId: JobId): Promise<{ readonly job: JobView; readonly tasks: readonly TaskView[] }>;
  /** The newest first; `before` pages on. */
  jobs(options?: { readonly limit?: number; readonly before?: JobId; readonly state?: JobView["state"] }): Promise<readonly JobView[]>;
  /** Resolves when the kill is decided; the job ends when its running tasks have. Killing an ended job does nothing. */
  kill(jobId: JobId, reason: string): Promise<void>;
  /** Every change, past ones first; ends after the job's last. */
  watch(jobId: JobId, options?: { readonly afterSeq?: number; readonly signal?: AbortSignal }): AsyncIterable<Change>;
  /** The bytes of a task's stream from `offset` on, live; ends when the task has settled and all was given. */
  follow(
    taskId: TaskId,
    stream: "stdout" | "stderr",
    options?: { readonly offset?: number; readonly signal?: AbortSignal },
  ): AsyncIterable<Uint8Array>;
  workers(): Promise<readonly WorkerView[]>;
  cluster(): Promise<ClusterView>;
  /** The cluster's blob store, over HTTP; small blobs travel in batches. */
  readonly blobs: Blobs;
  /** Named snapshots. */
  readonly names: Refs;
  close(): Promise<void>;
}
