/**
 * The package's public door: a client of a cluster.
 *
 * @example
 * ```ts
 * import { connectClient } from "scoot-actors";
 *
 * const client = connectClient({ url: "http://127.0.0.1:9090", token });
 * const { jobId } = await client.submit({ key: "once", tasks: [{ name: "hello", argv: ["echo", "hello"] }] });
 * for await (const bytes of client.follow(`${jobId}/0` as TaskId, "stdout")) process.stdout.write(bytes);
 * await client.close();
 * ```
 */
export {
  type Change,
  type Client,
  type ClientOptions,
  connectClient,
  type FollowOptions,
  type WatchOptions,
} from "./api/client.ts";
export { task, type TaskDefinition, type TaskMount } from "./api/task_definition.ts";
export { type Digest, digestOfHash, emptyDigest, hashOf, parseDigest, sizeOf } from "./domain/digest.ts";
export { Fault, type FaultCode, type FaultMeaning, faults, isFault } from "./domain/fault.ts";
export {
  indexOfTask,
  type JobId,
  jobId,
  jobOfTask,
  type TaskId,
  taskId,
  type WorkerId,
  workerId,
} from "./domain/ids.ts";
export type { Attempt, AttemptReason, JobState, Leavings, Outcome, Output, TaskState } from "./domain/job.ts";
export type {
  ClusterView,
  JobSpecInput,
  JobView,
  TaskSpecInput,
  TaskView,
  WorkerView,
} from "./protocol/client_messages.ts";
export { type Blobs, digestOf, readBlob, type ReadOptions, writeBlob } from "./snapshots/blobs/blobs.ts";
export type { Refs } from "./snapshots/refs/refs.ts";
