import type { Digest } from "./digest.ts";
import type { FaultData } from "./fault.ts";
import type { TaskId, WorkerId } from "./ids.ts";

/** Where a task's files come from: a snapshot, the output of another task of the same job, or nothing. */
export type TaskInput =
  | { readonly kind: "empty" }
  | { readonly kind: "snapshot"; readonly snapshot: Digest }
  | { readonly kind: "task"; readonly task: string };

/** A task as its submitter describes it. */
export interface TaskSpec {
  /** Unique in the job; 1–200 characters without control characters. */
  readonly name: string;
  readonly argv: readonly string[];
  /** Exactly the environment of the command; the worker adds nothing but PATH and HOME when they are absent. */
  readonly env: Readonly<Record<string, string>>;
  readonly input: TaskInput;
  /** Paths, relative to the working folder, that are kept as the output snapshot. Empty: the task has no output. */
  readonly outputs: readonly string[];
  /** Time the command may run, in ms. */
  readonly timeoutMs: number;
  /** How often the command is run again when it does not exit 0; 0 by default. Lost workers do not count here. */
  readonly retries: number;
  /** What a worker must have, as REAPI's platform properties: all must match. */
  readonly platform: Readonly<Record<string, string>>;
}

/** A job as its submitter describes it. */
export interface JobSpec {
  /** The submitter's own key: the same key twice is one job. */
  readonly key: string;
  readonly requestor: string;
  readonly tag: string;
  /** Scoot's 0, 1, 2: higher runs sooner. */
  readonly priority: 0 | 1 | 2;
  /** Whether the first task that does not exit 0 ends the others. */
  readonly failFast: boolean;
  readonly tasks: readonly TaskSpec[];
}

/** A kept stream of a task. */
export interface Output {
  readonly digest: Digest;
  /** Bytes that the command wrote beyond the limit and that were not kept. */
  readonly truncatedBytes: number;
}

/** What a run left behind, whatever its end. */
export interface Leavings {
  readonly stdout?: Output;
  readonly stderr?: Output;
  /** The output snapshot: a tree of the declared outputs at their paths. */
  readonly output?: Digest;
  readonly startedAtMs?: number;
  readonly endedAtMs?: number;
}

/** How a task ended. A non-zero exit code is an outcome, not a fault: we did our part. */
export type Outcome =
  | ({ readonly kind: "exited"; readonly exitCode: number; readonly signal?: string } & Leavings)
  | ({ readonly kind: "timedOut"; readonly timeoutMs: number } & Leavings)
  | ({ readonly kind: "killed"; readonly reason: string } & Leavings)
  | { readonly kind: "skipped"; readonly because: TaskId; readonly reason: string }
  | ({ readonly kind: "failed"; readonly fault: FaultData } & Leavings);

export type OutcomeKind = Outcome["kind"];

export const isSuccess = (outcome: Outcome): boolean => outcome.kind === "exited" && outcome.exitCode === 0;

/** Why an attempt was made. */
export type AttemptReason = "first" | "retry" | "workerLost" | "drained";

/** One run of a task, counted from 1. */
export interface Attempt {
  readonly attempt: number;
  readonly reason: AttemptReason;
  readonly workerId: WorkerId;
  readonly placedAtMs: number;
  /** Why this worker, as a sentence. */
  readonly why: string;
  readonly startedAtMs?: number;
  /** Set when the attempt ended without being the task's result. */
  readonly ended?: string;
}

export type JobState = "running" | "succeeded" | "failed" | "cancelled";
export type TaskState = "waiting" | "queued" | "placed" | "running" | "stopping" | "settled";
