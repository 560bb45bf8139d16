import type { Digest } from "./digest.ts";
import type { FaultData } from "./fault.ts";
import type { TaskId, WorkerId } from "./ids.ts";

/** A kept stream of a task. */
export interface Output {
  readonly digest: Digest;
  /** Bytes that the command wrote beyond the limit and that were not kept. */
  readonly truncatedBytes: number;
}

/**
 * The REAPI `Action` that a client asked for by its digest. Its command is run as that API says: the environment exactly
 * as declared, outputs that are not made left out; and what comes of it is an `ActionResult`.
 */
export interface AskedAction {
  /** The instance in whose name it was asked for, and is known. */
  readonly instance: string;
  readonly digest: Digest;
}

/** What a run took of its machine, as far as it was measured. */
export interface Usage {
  /** Of all its processes together. */
  readonly peakMemoryBytes: number;
  /** User and system time of all of them. */
  readonly cpuMs: number;
}

/** What a run was expected to take, by what runs like it took. */
export interface Estimate {
  readonly durationMs: number;
  readonly peakMemoryBytes?: number;
}

/** What a run left behind, whatever its end. */
export interface Leavings {
  readonly stdout?: Output;
  readonly stderr?: Output;
  /** The output snapshot: a tree of the declared outputs at their paths. */
  readonly output?: Digest;
  /** What came of an {@link AskedAction}: its encoded `ActionResult`, a blob. */
  readonly result?: Digest;
  readonly startedAtMs?: number;
  readonly endedAtMs?: number;
  readonly usage?: Usage;
}

/** How a task ended. A non-zero exit code is an outcome, not a fault: we did our part. */
export type Outcome =
  | ({ readonly kind: "exited"; readonly exitCode: number; readonly signal?: string } & Leavings)
  | ({ readonly kind: "timedOut"; readonly timeoutMs: number } & Leavings)
  | ({ readonly kind: "killed"; readonly reason: string } & Leavings)
  | { readonly kind: "skipped"; readonly because: TaskId; readonly reason: string }
  | ({ readonly kind: "failed"; readonly fault: FaultData } & Leavings);

export const isSuccess = (outcome: Outcome): boolean => outcome.kind === "exited" && outcome.exitCode === 0;

/** Why an attempt was made. */
export type AttemptReason = "first" | "retry" | "workerLost" | "workerFailed" | "memory" | "preempted" | "drained";

/** One run of a task, counted from 1. */
export interface Attempt {
  readonly attempt: number;
  readonly reason: AttemptReason;
  readonly workerId: WorkerId;
  readonly placedAtMs: number;
  /** Why this worker, as a sentence. */
  readonly why: string;
  readonly startedAtMs?: number;
  /** Set when the attempt ended without being the task's result: how, as a sentence. */
  readonly ended?: string;
  /** It was put back or its worker given up for lost: should a result arrive after all, it still counts. */
  readonly givenUp?: boolean;
}

export type JobState = "running" | "succeeded" | "failed" | "cancelled";
export type TaskState = "waiting" | "queued" | "placed" | "running" | "stopping" | "settled";
