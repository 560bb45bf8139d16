import type { Digest } from "../domain/digest.ts";
import type { JobId } from "../domain/ids.ts";
import type { AskedAction } from "../domain/job.ts";
import type { TaskView } from "../protocol/client_messages.ts";

/** An action as it is handed over to be run: a job of this one task. */
export interface AskedTask {
  /** Chosen anew for each: the same key twice is one job. */
  readonly key: string;
  readonly requestor: string;
  /** For people: what is built. */
  readonly tag: string;
  readonly name: string;
  /** 2 is the most urgent. */
  readonly priority: 0 | 1 | 2;
  readonly action: AskedAction;
  readonly command: Digest;
  readonly inputRoot: Digest;
  readonly timeoutMs: number;
  readonly platform: Readonly<Record<string, string>>;
  readonly cache: "use" | "refresh" | "off";
}

/** Where actions are run. All of it waits for a scheduler that is away, and then fails with `PEER_UNREACHABLE`. */
export interface Tasks {
  /**
   * Durable when it resolves: then its changes come, as with {@link Tasks.watch}, but for how it is at first, which is
   * queued. They must be read, or the signal aborted.
   *
   * @throws {Fault} `NO_SPACE`, `DRAINING`, `LIMIT_EXCEEDED`, `PEER_UNREACHABLE`.
   */
  accept(
    task: AskedTask,
    signal: AbortSignal,
  ): Promise<{ readonly jobId: JobId; readonly changes: AsyncIterable<TaskView> }>;
  /**
   * The job's one task as it is, then when it runs or could never run, and once it has settled, which is the last. What
   * does not last is left out.
   *
   * @throws {Fault} `JOB_UNKNOWN`, `PEER_UNREACHABLE`.
   */
  watch(jobId: JobId, signal: AbortSignal): AsyncIterable<TaskView>;
  /**
   * What the job's one task writes, as it writes it, from that byte on; ends when it has settled.
   *
   * @throws {Fault} `WORKER_LOST` when another attempt writes anew, `JOB_UNKNOWN`, `BLOB_MISSING`, `PEER_UNREACHABLE`.
   */
  output(
    jobId: JobId,
    stream: "stdout" | "stderr",
    offset: number,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
  kill(jobId: JobId, reason: string): Promise<void>;
  /** What the workers that are here have, each; none as long as those of before a start may be on their way back. */
  platforms(): Promise<readonly Readonly<Record<string, string>>[]>;
}
