import { assign, emit, enqueueActions, setup } from "xstate";
import { type Digest, emptyDigest } from "../domain/digest.ts";
import { type FaultData, faults } from "../domain/fault.ts";
import {
  type Address,
  indexOfTask,
  jobAddress,
  type JobId,
  jobOfTask,
  memberAddress,
  taskAddress,
  type TaskId,
  type WorkerId,
} from "../domain/ids.ts";
import {
  type AskedAction,
  type Attempt,
  type AttemptReason,
  type Estimate,
  isSuccess,
  type Outcome,
} from "../domain/job.ts";
import type { KeptFolderSpec } from "./attempt.ts";

/**
 * One command of a job. It guarantees: one result, once (G2); every attempt has a number and a reason; a result that
 * comes back after its worker was given up for lost still counts, so that no work is done twice.
 *
 *     waiting ─▶ mounting ─▶ queued ──▶ placed ──▶ running ──▶ overlaying ──▶ settled
 *        │                    ▲ ▲         │          │                          ▲
 *        │                    │ └─ lost, retried, ───┤                          │
 *        │                    │    put back          ▼                          │
 *        └────────────────────┴────────────────▶ stopping ──────────────────────┘
 *
 * Mounting and overlaying are for those that ask for it, and a gateway does it: trees do not come to the scheduler.
 */
export const taskVersion = 1;

/** Where the files of a task come from. */
export type TaskSource =
  | { readonly kind: "empty" }
  | { readonly kind: "snapshot"; readonly snapshot: Digest }
  | { readonly kind: "task"; readonly index: number }
  | { readonly kind: "mounted"; readonly parts: readonly SourcePart[] };

/** A snapshot or the output of a task of the job, or what is at a path of it, and where it is mounted. */
export type SourcePart =
  & {
    readonly path: string;
    readonly subtree?: string;
    /** For faults: "the output of task "deps"". */
    readonly name: string;
  }
  & ({ readonly snapshot: Digest } | { readonly index: number });

/** A tree that is made of others, which are there. A gateway makes it: it has the store in which all of them are. */
export type TreeWanted =
  | {
    readonly of: "inputs";
    readonly parts: readonly {
      readonly path: string;
      readonly subtree?: string;
      readonly name: string;
      readonly snapshot: Digest;
    }[];
  }
  /** What a task made, laid over what it was made of. */
  | { readonly of: "output"; readonly base: Digest; readonly top: Digest };

/** Whether a known result is its result, and whether what comes of it is kept as one. */
export type CacheUse = "use" | "refresh" | "off";

/** What a task takes of its worker and of the cluster's counters while it is with a worker, beside its slot. */
export interface TaskNeeds {
  /** Thousandths of a processor. */
  readonly cpuMillis?: number;
  readonly memoryBytes?: number;
  readonly counters?: Readonly<Record<string, number>>;
}

/** Why no worker that was there could ever run a task, when it was told so. */
export interface UnmetNeed {
  /** What none of them has, as `name=value`; empty: it is there, but not together. */
  readonly lacks: readonly string[];
  /** The one that comes nearest, and what it has instead. */
  readonly nearest?: { readonly workerId: WorkerId; readonly has: readonly string[] };
  readonly toldAtMs: number;
}

/** A folder that a task leaves to the next one of its requestor that names it. */
export interface KeptPath {
  /** In the task's folder. */
  readonly path: string;
  readonly name: string;
}

/** Whose run an outcome is that this task was not run for. */
export interface Cached {
  /** Absent when a client ran the action by itself and said what came of it. */
  readonly taskId?: TaskId;
  readonly workerId?: WorkerId;
  readonly madeAtMs: number;
  readonly savedMs: number;
}

export interface TaskInput {
  readonly taskId: TaskId;
  readonly name: string;
  readonly requestor: string;
  readonly basis?: string;
  readonly priority: 0 | 1 | 2;
  readonly command: Digest;
  readonly source: TaskSource;
  /** Places in the job of the tasks whose source is this one. */
  readonly dependents: readonly number[];
  readonly timeoutMs: number;
  readonly retries: number;
  readonly platform: Readonly<Record<string, string>>;
  readonly needs?: TaskNeeds;
  readonly cache: CacheUse;
  readonly caches?: readonly KeptPath[];
  /** Its output is its inputs with what it made laid over them; absent: what it made alone. */
  readonly output?: "full";
  readonly action?: AskedAction;
  readonly atMs: number;
}

/** How often a task is placed anew because its worker was lost, before it fails with WORKER_LOST. */
export const lossesMax = 5;
/** How often it is placed anew because a worker failed at its part (checkout, capture), before that is its outcome. */
export const faultsMax = 2;
/** How often it is placed anew with more memory because it held more than it was given, before that is its outcome. */
export const memoryRaisesMax = 3;
/**
 * What a worker may take beyond a task's own time limit (checkout, grace, capture), or after it was told to kill the task,
 * before the attempt is given up.
 */
export const overtimeMs = 10 * 60_000;

export interface TaskContext extends Omit<TaskInput, "atMs"> {
  /** What its source came to, when that was made by or of outputs of tasks. */
  readonly sourceOutput?: Digest;
  /** Of the tasks whose outputs are mounted: what has come so far, by their places in the job. */
  readonly made?: readonly { readonly index: number; readonly output: Digest }[];
  readonly queuedAtMs: number;
  /** Of the present or last attempt; 0 before the first. */
  readonly attempt: number;
  /** Why the next attempt will be made. */
  readonly nextReason: AttemptReason;
  readonly attempts: readonly Attempt[];
  readonly failures: number;
  readonly losses: number;
  /** Attempts at which a worker failed at its part; absent: none. */
  readonly faults?: number;
  /** How often it was given more memory than before; absent: never. */
  readonly memoryRaises?: number;
  /** What the newest attempt was expected to take, as far as that was known when it was placed. */
  readonly estimate?: Estimate;
  /** With what it made alone as its output: that is what its action is known by. */
  readonly outcome?: Outcome;
  /** What others are given as its output, when that is more. */
  readonly fullOutput?: Digest;
  readonly cached?: Cached;
  /** While stopping: why. */
  readonly stopReason?: string;
  /** While queued: it was told that no worker that takes tasks could run it, and what they lack. */
  readonly unmet?: UnmetNeed | undefined;
  readonly settledAtMs?: number;
  /** The host wakes the actor then. */
  readonly wakeAtMs?: number | undefined;
}

/** What a task may hear. Whatever a clock decided arrives with its own time. */
export type TaskEvent =
  | {
    readonly type: "task.inputSettled";
    readonly from: TaskId;
    readonly output?: Digest;
    readonly failed?: string;
    readonly atMs: number;
  }
  /** The tree that it wanted. */
  | { readonly type: "task.treeMade"; readonly of: TreeWanted["of"]; readonly tree: Digest; readonly atMs: number }
  | {
    readonly type: "task.treeFailed";
    readonly of: TreeWanted["of"];
    readonly fault: FaultData;
    readonly atMs: number;
  }
  /** Its action was run before, or by a task that was in flight: this came of it. */
  | { readonly type: "task.cached"; readonly outcome: Outcome; readonly cached: Cached; readonly atMs: number }
  | {
    readonly type: "task.placed";
    readonly workerId: WorkerId;
    readonly why: string;
    readonly estimate?: Estimate;
    readonly atMs: number;
  }
  | {
    readonly type: "task.started";
    readonly workerId: WorkerId;
    readonly attempt: number;
    readonly startedAtMs: number;
  }
  | {
    readonly type: "task.ended";
    readonly workerId: WorkerId;
    readonly attempt: number;
    readonly outcome: Outcome;
    /** What the largest worker has that could run it, when it held too much. Absent: nobody knows. */
    readonly memoryBytesMost?: number;
    readonly atMs: number;
  }
  /** The worker holds that attempt, though we had given it up: it goes on there. */
  | { readonly type: "task.held"; readonly workerId: WorkerId; readonly attempt: number; readonly startedAtMs?: number }
  | {
    readonly type: "task.attemptLost";
    readonly workerId: WorkerId;
    readonly attempt: number;
    readonly why: string;
    readonly atMs: number;
  }
  /** The attempt is given back unfinished, by a worker or a scheduler that stops. */
  | {
    readonly type: "task.putBack";
    readonly attempt: number;
    readonly why: string;
    /** A policy took its slot for another class. */
    readonly preempted?: true;
    readonly atMs: number;
  }
  | { readonly type: "task.kill"; readonly reason: string; readonly atMs: number }
  /** No worker that takes tasks could ever run it. `fails`: and it is not to wait for one that can. */
  | { readonly type: "task.unplaceable"; readonly unmet: UnmetNeed; readonly why: string; readonly fails: boolean }
  /** It was told so, and now there is a worker that could. */
  | { readonly type: "task.placeable" }
  /** Its scheduler has started anew, and heard nothing while it was away: the worker has its whole time again. */
  | { readonly type: "task.awaited"; readonly atMs: number }
  | { readonly type: "clock.reached"; readonly atMs: number };

/** What a task says. `to` is where the host delivers it. */
export type TaskMessage =
  | {
    readonly type: "attempt.hold";
    readonly to: Address;
    readonly taskId: TaskId;
    readonly attempt: number;
    readonly command: Digest;
    readonly inputRoot: Digest;
    readonly timeoutMs: number;
    readonly memoryBytesMax?: number;
    readonly caches?: readonly KeptFolderSpec[];
    readonly action?: AskedAction;
  }
  | {
    readonly type: "attempt.drop";
    readonly to: Address;
    readonly taskId: TaskId;
    readonly attempt: number;
    readonly reason: string;
  }
  | { readonly type: "attempt.acknowledged"; readonly to: Address; readonly taskId: TaskId; readonly attempt: number }
  | {
    readonly type: "task.inputSettled";
    readonly to: Address;
    readonly from: TaskId;
    readonly output?: Digest;
    readonly failed?: string;
    readonly atMs: number;
  }
  | {
    readonly type: "job.taskSettled";
    readonly to: Address;
    readonly taskId: TaskId;
    readonly result: "succeeded" | "failed" | "skipped" | "killed";
    readonly atMs: number;
  };

/** The tree that its command runs on; undefined while it waits for what that is made of. */
export function inputRootOf({ source, sourceOutput }: TaskContext): Digest | undefined {
  return source.kind === "snapshot" ? source.snapshot : source.kind === "empty" ? emptyDigest : sourceOutput;
}

const madeBy = ({ made = [] }: TaskContext, part: SourcePart): Digest | undefined =>
  "index" in part ? made.find(({ index }) => index === part.index)?.output : part.snapshot;

/** The tree that it waits for. Undefined: for none, or for outputs of which that is made. */
export function treeWantedBy(task: TaskContext): TreeWanted | undefined {
  const { source, outcome } = task;
  const inputRoot = inputRootOf(task);
  if (inputRoot === undefined) {
    if (source.kind !== "mounted") return undefined;
    const parts: Extract<TreeWanted, { of: "inputs" }>["parts"][number][] = [];
    for (const part of source.parts) {
      const snapshot = madeBy(task, part);
      if (snapshot === undefined) return undefined;
      const { path, subtree, name } = part;
      parts.push({ path, ...(subtree === undefined ? {} : { subtree }), name, snapshot });
    }
    return { of: "inputs", parts };
  }
  if (task.output !== "full" || task.fullOutput !== undefined || outcome === undefined) return undefined;
  if (outcome.kind !== "exited" || !isSuccess(outcome) || outcome.output === undefined) return undefined;
  return inputRoot === emptyDigest ? undefined : { of: "output", base: inputRoot, top: outcome.output };
}

/** The trees that it is, or will be, made of, as far as they are there, and those that its output is made of. */
export function treesOf(task: TaskContext): readonly Digest[] {
  const { source } = task;
  const inputRoot = inputRootOf(task);
  const wanted = treeWantedBy(task);
  if (wanted?.of === "output") return [wanted.base, wanted.top];
  if (inputRoot !== undefined) return [inputRoot];
  const parts = source.kind === "mounted" ? source.parts.map((part) => madeBy(task, part)) : [];
  return parts.filter((part) => part !== undefined);
}

/** What others are given as its output; undefined when it did not succeed. */
export function outputOf(task: TaskContext): Digest | undefined {
  const { outcome, fullOutput, output } = task;
  if (outcome?.kind !== "exited" || !isSuccess(outcome)) return undefined;
  return fullOutput ?? outcome.output ?? (output === "full" ? inputRootOf(task) : undefined) ?? emptyDigest;
}

/** What its worker is told of the present attempt. Its input is there. */
export function assignmentOf(
  context: TaskContext,
): Omit<Extract<TaskMessage, { type: "attempt.hold" }>, "type" | "to"> {
  const { taskId, attempt, command, timeoutMs, needs, caches, requestor, action } = context;
  const memoryBytesMax = needs?.memoryBytes ?? 0; // a need that was declared is a limit
  return {
    taskId,
    attempt,
    command,
    inputRoot: inputRootOf(context)!,
    timeoutMs,
    ...(memoryBytesMax === 0 ? {} : { memoryBytesMax }),
    ...(caches === undefined ? {} : { caches: caches.map((cache) => ({ ...cache, requestor })) }),
    ...(action === undefined ? {} : { action }),
  };
}

/** Twice as much as before, and half as much again as it held; no more than the largest worker has that could run it. */
function raised({ needs }: TaskContext, { outcome, memoryBytesMost = Infinity }: Of<"task.ended">): number {
  const heldBytes = outcome.kind === "failed" ? outcome.usage?.peakMemoryBytes ?? 0 : 0;
  const wanted = Math.max(2 * (needs?.memoryBytes ?? 0), Math.ceil(1.5 * heldBytes));
  return Math.min(Number.MAX_SAFE_INTEGER, memoryBytesMost, wanted);
}

const mayHaveMoreMemory = (context: TaskContext, ended: Of<"task.ended">): boolean =>
  (context.memoryRaises ?? 0) < memoryRaisesMax && raised(context, ended) > (context.needs?.memoryBytes ?? 0);

/** Of a task that held too much and can be given no more: with what it was given, and what there is. */
function outcomeOf(context: TaskContext, ended: Of<"task.ended">): Outcome {
  const { outcome, memoryBytesMost } = ended;
  if (outcome.kind !== "failed" || !hasExceededMemory(outcome)) return outcome;
  const given = context.needs?.memoryBytes ?? 0;
  const why = memoryBytesMost !== undefined && raised(context, ended) <= given
    ? `it had ${given} bytes, and the largest worker that could run it has ${memoryBytesMost}`
    : `it was given more ${context.memoryRaises ?? 0} times, and had ${given} bytes at last`;
  return { ...outcome, fault: { ...outcome.fault, message: `${outcome.fault.message}; ${why}` } };
}

const now = (attempts: readonly Attempt[], change: Partial<Attempt>): readonly Attempt[] => {
  const last = attempts.at(-1);
  return last === undefined ? attempts : [...attempts.slice(0, -1), { ...last, ...change }];
};
const workerOf = (context: TaskContext): WorkerId | undefined => context.attempts.at(-1)?.workerId;

const resultOf = (outcome: Outcome) =>
  outcome.kind === "skipped"
    ? "skipped"
    : outcome.kind === "killed"
    ? "killed"
    : isSuccess(outcome)
    ? "succeeded"
    : "failed";

/**
 * Of what dependents are told, so that a long chain of skipped tasks does not repeat itself ever longer, and so that an
 * entry that tells every other task of a job is not too long to be saved.
 */
const failureTextMax = 200;

/** An outcome as the end of the sentence "it …". */
export function describeOutcome(outcome: Outcome): string {
  switch (outcome.kind) {
    case "exited":
      return outcome.signal === undefined ? `exited with ${outcome.exitCode}` : `was ended by ${outcome.signal}`;
    case "timedOut":
      return `ran longer than its ${outcome.timeoutMs / 1_000} s`;
    case "killed":
      return `was killed: ${outcome.reason}`;
    case "skipped":
      return `was skipped: ${outcome.reason}`;
    case "failed":
      return `could not be run: ${outcome.fault.message}`;
  }
}

const hasFailed = (outcome: Outcome): boolean =>
  outcome.kind === "timedOut" || (outcome.kind === "exited" && outcome.exitCode !== 0);

export const hasExceededMemory = (outcome: Outcome): boolean =>
  outcome.kind === "failed" && outcome.fault.code === "MEMORY_EXCEEDED";

type Of<Type extends TaskEvent["type"]> = Extract<TaskEvent, { type: Type }>;
const as = <Type extends TaskEvent["type"]>(event: TaskEvent, _type: Type): Of<Type> => event as Of<Type>;

const isLateResult = (context: TaskContext, { outcome, attempt, workerId }: Of<"task.ended">): boolean =>
  (outcome.kind === "exited" || outcome.kind === "timedOut") &&
  context.attempts.some((one) => one.attempt === attempt && one.givenUp === true && one.workerId === workerId);

const isLostOnItsWorker = (context: TaskContext, held: Of<"task.held">): boolean =>
  held.attempt === context.attempt && held.workerId === workerOf(context) && context.nextReason === "workerLost";

const acknowledged = ({ workerId, attempt }: Of<"task.ended">, taskId: TaskId): TaskMessage => ({
  type: "attempt.acknowledged",
  to: memberAddress(workerId),
  taskId,
  attempt,
});

export const taskMachine = setup({
  types: { input: {} as TaskInput, context: {} as TaskContext, events: {} as TaskEvent, emitted: {} as TaskMessage },
  guards: {
    hasInput: ({ context }) => inputRootOf(context) !== undefined,
    wantsTree: ({ context }) => treeWantedBy(context) !== undefined,
    isTreeOf: ({ event }, params: { readonly of: TreeWanted["of"] }) => "of" in event && event.of === params.of,
    isCurrentAttempt: ({ context, event }) => "attempt" in event && event.attempt === context.attempt,
    isCurrentOnItsWorker: ({ context, event }) =>
      "attempt" in event && "workerId" in event && event.attempt === context.attempt &&
      event.workerId === workerOf(context),
    inputFailed: ({ event }) => as(event, "task.inputSettled").failed !== undefined,
    mayRetry: ({ context, event }) => {
      const ended = as(event, "task.ended");
      return ended.attempt === context.attempt && hasFailed(ended.outcome) && context.failures < context.retries;
    },
    /** It was given up because its worker was away. One that was put back is not taken back: it was told to stop. */
    wasLostOnItsWorker: ({ context, event }) => isLostOnItsWorker(context, as(event, "task.held")),
    wasLostBeforeItStarted: ({ context, event }) => {
      const held = as(event, "task.held");
      return held.startedAtMs === undefined && isLostOnItsWorker(context, held);
    },
    /** It held more memory than it was given, and may have more. */
    needsMoreMemory: ({ context, event }) => {
      const ended = as(event, "task.ended");
      return ended.attempt === context.attempt && hasExceededMemory(ended.outcome) && mayHaveMoreMemory(context, ended);
    },
    /** Its worker failed at its part, which another worker, or the same one later, may do. */
    wasFailedByItsWorker: ({ context, event }) => {
      const { attempt, outcome } = as(event, "task.ended");
      return attempt === context.attempt && outcome.kind === "failed" && !hasExceededMemory(outcome) &&
        faults[outcome.fault.code].retry === "later" && (context.faults ?? 0) < faultsMax;
    },
    /** Its worker killed it without having been told to. That is no result. */
    wasKilledUnasked: ({ context, event }) => {
      const { attempt, outcome } = as(event, "task.ended");
      return attempt === context.attempt && outcome.kind === "killed" && context.losses < lossesMax;
    },
    hasLossesLeft: ({ context, event }) =>
      "attempt" in event && event.attempt === context.attempt && context.losses < lossesMax,
    /** An attempt that we gave up for lost, while nothing newer has settled the task. */
    wasGivenUp: ({ context, event }) => isLateResult(context, as(event, "task.ended")),
    /** The same, and it failed while retries are left: the attempt that is to come, or runs, is the retry. */
    wasGivenUpAndMayRetry: ({ context, event }) => {
      const ended = as(event, "task.ended");
      return isLateResult(context, ended) && hasFailed(ended.outcome) && context.failures < context.retries;
    },
    isNotToWait: ({ event }) => as(event, "task.unplaceable").fails,
    isDue: ({ context, event }) =>
      context.wakeAtMs !== undefined && as(event, "clock.reached").atMs >= context.wakeAtMs,
  },
  actions: {
    place: assign(({ context, event }) => {
      const placed = as(event, "task.placed");
      return {
        attempt: context.attempt + 1,
        attempts: [...context.attempts, {
          attempt: context.attempt + 1,
          reason: context.nextReason,
          workerId: placed.workerId,
          placedAtMs: placed.atMs,
          why: placed.why,
        }],
        wakeAtMs: placed.atMs + context.timeoutMs + overtimeMs,
        ...(context.unmet === undefined ? {} : { unmet: undefined }),
        ...(placed.estimate === undefined ? {} : { estimate: placed.estimate }),
      };
    }),
    sayHold: emit(({ context }) => ({
      type: "attempt.hold" as const,
      to: memberAddress(workerOf(context)!),
      ...assignmentOf(context),
    })),
    sayDrop: enqueueActions(({ context, enqueue }, params: { readonly reason: string }) => {
      const worker = workerOf(context);
      if (worker === undefined) return;
      enqueue.emit({
        type: "attempt.drop",
        to: memberAddress(worker),
        taskId: context.taskId,
        attempt: context.attempt,
        reason: params.reason,
      });
    }),
    sayAcknowledged: emit(({ context, event }) => acknowledged(as(event, "task.ended"), context.taskId)),
    sayAcknowledgedIfEnded: enqueueActions(({ context, event, enqueue }) => {
      if (event.type === "task.ended") enqueue.emit(acknowledged(event, context.taskId));
    }),
    start: assign(({ context, event }) => {
      const startedAtMs = (event as Of<"task.started">).startedAtMs;
      return {
        attempts: now(context.attempts, { startedAtMs }),
        wakeAtMs: startedAtMs + context.timeoutMs + overtimeMs,
      };
    }),
    takeOutcome: assign(({ context, event }) => {
      const ended = as(event, "task.ended");
      const { attempt, atMs } = ended;
      const outcome = outcomeOf(context, ended);
      const startedAtMs = outcome.kind === "skipped" ? undefined : outcome.startedAtMs;
      // The attempt without `ended` is the one whose result this is, even when it had been given up.
      const attempts = context.attempts.map((one): Attempt => {
        if (one.attempt !== attempt) {
          return one.ended === undefined ? { ...one, ended: `Attempt ${attempt} delivered its result after all` } : one;
        }
        const { ended: _ended, givenUp: _givenUp, ...rest } = one;
        return startedAtMs === undefined ? rest : { ...rest, startedAtMs };
      });
      return { outcome, settledAtMs: atMs, attempts, wakeAtMs: undefined };
    }),
    /** Tells the job and whoever waits for this output; then the task is over. */
    saySettled: enqueueActions(({ context, enqueue }) => {
      const outcome = context.outcome!;
      const atMs = context.settledAtMs!;
      const job = jobOfTask(context.taskId);
      const failed = isSuccess(outcome) ? undefined : describeOutcome(outcome).slice(0, failureTextMax);
      const output = outputOf(context) ?? emptyDigest;
      for (const index of context.dependents) {
        enqueue.emit({
          type: "task.inputSettled",
          to: taskAddress(`${job}/${index}` as TaskId),
          from: context.taskId,
          atMs,
          ...(failed === undefined ? { output } : { failed }),
        });
      }
      enqueue.emit({
        type: "job.taskSettled",
        to: jobAddress(job as JobId),
        taskId: context.taskId,
        result: resultOf(outcome),
        atMs,
      });
    }),
    noteRetry: assign(({ context, event }) => ({
      attempts: now(context.attempts, { ended: `It ${describeOutcome(as(event, "task.ended").outcome)}` }),
      failures: context.failures + 1,
      nextReason: "retry" as const,
      queuedAtMs: as(event, "task.ended").atMs,
      wakeAtMs: undefined,
    })),
    /** Once: the attempt is then no longer one that was given up, so that its result said again counts for nothing. */
    noteLateFailure: assign(({ context, event }) => {
      const { attempt, outcome } = as(event, "task.ended");
      return {
        attempts: context.attempts.map((one): Attempt => {
          if (one.attempt !== attempt) return one;
          const { givenUp: _givenUp, ...rest } = one;
          return { ...rest, ended: `It ${describeOutcome(outcome)}` };
        }),
        failures: context.failures + 1,
      };
    }),
    noteLoss: assign(({ context, event }) => ({
      attempts: now(context.attempts, { ended: as(event, "task.attemptLost").why, givenUp: true }),
      losses: context.losses + 1,
      nextReason: "workerLost" as const,
      queuedAtMs: as(event, "task.attemptLost").atMs,
      wakeAtMs: undefined,
    })),
    noteFault: assign(({ context, event }) => {
      const { outcome, atMs } = as(event, "task.ended");
      return {
        attempts: now(context.attempts, { ended: `It ${describeOutcome(outcome)}` }),
        faults: (context.faults ?? 0) + 1,
        nextReason: "workerFailed" as const,
        queuedAtMs: atMs,
        wakeAtMs: undefined,
      };
    }),
    noteMemory: assign(({ context, event }) => {
      const ended = as(event, "task.ended");
      const { outcome, atMs } = ended;
      return {
        attempts: now(context.attempts, { ended: `It ${describeOutcome(outcome)}` }),
        needs: { ...context.needs, memoryBytes: raised(context, ended) },
        memoryRaises: (context.memoryRaises ?? 0) + 1,
        nextReason: "memory" as const,
        queuedAtMs: atMs,
        wakeAtMs: undefined,
      };
    }),
    noteUnaskedKill: assign(({ context, event }) => {
      const { outcome, atMs } = as(event, "task.ended");
      return {
        attempts: now(context.attempts, { ended: `It ${describeOutcome(outcome)}` }),
        losses: context.losses + 1,
        nextReason: "workerLost" as const,
        queuedAtMs: atMs,
        wakeAtMs: undefined,
      };
    }),
    notePutBack: assign(({ context, event }) => ({
      attempts: now(context.attempts, { ended: as(event, "task.putBack").why, givenUp: true }),
      nextReason: as(event, "task.putBack").preempted === true ? "preempted" as const : "drained" as const,
      queuedAtMs: as(event, "task.putBack").atMs,
      wakeAtMs: undefined,
    })),
    failAsLost: assign(({ context, event }) => ({
      attempts: now(context.attempts, { ended: as(event, "task.attemptLost").why, givenUp: true }),
      outcome: {
        kind: "failed" as const,
        fault: {
          code: "WORKER_LOST" as const,
          message: `Cannot finish ${context.name} as its worker was lost ${context.losses + 1} times; the last: ${
            as(event, "task.attemptLost").why
          }`,
        },
      },
      settledAtMs: as(event, "task.attemptLost").atMs,
      wakeAtMs: undefined,
    })),
    failAsOverdue: assign(({ context, event }) => ({
      outcome: {
        kind: "failed" as const,
        fault: {
          code: "WORKER_LOST" as const,
          message: `Cannot finish ${context.name} as its worker ${
            workerOf(context)
          } said nothing of it for its time limit and ${overtimeMs / 60_000} minutes more`,
        },
      },
      settledAtMs: as(event, "clock.reached").atMs,
      wakeAtMs: undefined,
    })),
    noteUnmet: assign(({ event }) => ({ unmet: as(event, "task.unplaceable").unmet })),
    noteMet: assign({ unmet: undefined }),
    failAsUnplaceable: assign(({ context, event }) => {
      const { unmet, why } = as(event, "task.unplaceable");
      return {
        unmet,
        outcome: {
          kind: "failed" as const,
          fault: {
            code: "TASK_UNPLACEABLE" as const,
            message:
              `Cannot run ${context.name} as ${why}: ask for less, start such a worker, or let tasks wait for one ` +
              "(policy.failUnmetAfterMs)",
          },
        },
        settledAtMs: unmet.toldAtMs,
      };
    }),
    takeCached: assign(({ event }) => {
      const { outcome, cached, atMs } = as(event, "task.cached");
      return { outcome, cached, settledAtMs: atMs };
    }),
    killNow: assign(({ event }) => ({
      outcome: { kind: "killed" as const, reason: as(event, "task.kill").reason },
      settledAtMs: as(event, "task.kill").atMs,
      wakeAtMs: undefined,
    })),
    noteStop: assign(({ context, event }) => {
      const { reason, atMs } = as(event, "task.kill");
      return { stopReason: reason, wakeAtMs: Math.min(context.wakeAtMs ?? Infinity, atMs + overtimeMs) };
    }),
    awaitWorker: assign(({ context, event }) => ({
      wakeAtMs: as(event, "task.awaited").atMs + (context.stopReason === undefined ? context.timeoutMs : 0) +
        overtimeMs,
    })),
    settleStopped: assign(({ context, event }) => ({
      attempts: now(context.attempts, {
        ended: "why" in event ? event.why : "Its worker was to kill it, and said nothing of it for too long",
      }),
      outcome: { kind: "killed" as const, reason: context.stopReason ?? "" },
      settledAtMs: (event as Of<"task.attemptLost">).atMs,
      wakeAtMs: undefined,
    })),
    skip: assign(({ event }) => {
      const { from, failed, atMs } = as(event, "task.inputSettled");
      return {
        outcome: { kind: "skipped" as const, because: from, reason: `its input ${from} ${failed}` },
        settledAtMs: atMs,
      };
    }),
    takeInput: assign(({ context, event }) => {
      const { from, output = emptyDigest, atMs } = as(event, "task.inputSettled");
      return context.source.kind === "task"
        ? { sourceOutput: output, queuedAtMs: atMs }
        : { made: [...context.made ?? [], { index: indexOfTask(from), output }], queuedAtMs: atMs };
    }),
    takeTree: assign(({ event }) => {
      const { of, tree, atMs } = as(event, "task.treeMade");
      return of === "inputs" ? { sourceOutput: tree, queuedAtMs: atMs } : { fullOutput: tree, settledAtMs: atMs };
    }),
    failWithoutTree: assign(({ context, event }) => {
      const { fault, atMs } = as(event, "task.treeFailed");
      const { outcome } = context;
      if (outcome?.kind !== "exited") return { outcome: { kind: "failed" as const, fault }, settledAtMs: atMs };
      const { kind: _kind, exitCode: _exitCode, signal: _signal, ...leavings } = outcome;
      const isRun = context.attempts.at(-1)?.ended === undefined; // its worker has done its part
      return {
        ...(isRun ? { attempts: now(context.attempts, { ended: `It ${describeOutcome(outcome)}` }) } : {}),
        outcome: { kind: "failed" as const, fault, ...leavings },
        settledAtMs: atMs,
      };
    }),
    takeBack: assign(({ context, event }) => {
      const held = as(event, "task.held");
      const { ended: _ended, givenUp: _givenUp, ...last } = context.attempts.at(-1)!;
      return {
        attempts: [
          ...context.attempts.slice(0, -1),
          held.startedAtMs === undefined ? last : { ...last, startedAtMs: held.startedAtMs },
        ],
        wakeAtMs: (held.startedAtMs ?? last.placedAtMs) + context.timeoutMs + overtimeMs,
      };
    }),
  },
}).createMachine({
  id: "task",
  context: ({ input }) => {
    const { atMs, ...rest } = input;
    return {
      ...rest,
      queuedAtMs: atMs,
      attempt: 0,
      nextReason: "first",
      attempts: [],
      failures: 0,
      losses: 0,
    };
  },
  initial: "waiting",
  states: {
    waiting: {
      description: "Waiting for the outputs of the tasks that its inputs are made of.",
      always: [{ target: "queued", guard: "hasInput" }, { target: "mounting", guard: "wantsTree" }],
      on: {
        "task.inputSettled": [
          { target: "settled", guard: "inputFailed", actions: ["skip", "saySettled"] },
          { actions: "takeInput" },
        ],
        "task.kill": { target: "settled", actions: ["killNow", "saySettled"] },
      },
    },
    mounting: {
      description: "All that its inputs are made of is there; a gateway puts it together.",
      on: {
        "task.treeMade": {
          target: "queued",
          guard: { type: "isTreeOf", params: { of: "inputs" } },
          actions: "takeTree",
        },
        "task.treeFailed": {
          target: "settled",
          guard: { type: "isTreeOf", params: { of: "inputs" } },
          actions: ["failWithoutTree", "saySettled"],
        },
        "task.kill": { target: "settled", actions: ["killNow", "saySettled"] },
      },
    },
    queued: {
      description: "Waiting for the scheduler to choose a worker.",
      on: {
        "task.cached": { target: "concluding", actions: "takeCached" },
        "task.placed": { target: "active", actions: ["place", "sayHold"] },
        "task.kill": { target: "settled", actions: ["killNow", "saySettled"] },
        "task.unplaceable": [
          { target: "settled", guard: "isNotToWait", actions: ["failAsUnplaceable", "saySettled"] },
          { actions: "noteUnmet" },
        ],
        "task.placeable": { actions: "noteMet" },
        "task.held": [
          { target: "active.placed", guard: "wasLostBeforeItStarted", actions: "takeBack" },
          { target: "active.running", guard: "wasLostOnItsWorker", actions: "takeBack" },
        ],
        "task.ended": [
          { guard: "wasGivenUpAndMayRetry", actions: ["noteLateFailure", "sayAcknowledged"] },
          { target: "concluding", guard: "wasGivenUp", actions: "takeOutcome" },
          { actions: "sayAcknowledged" },
        ],
      },
    },
    active: {
      description: "With a worker. The host wakes it at wakeAtMs, when its worker should long have said something.",
      initial: "placed",
      states: {
        placed: {
          description: "The worker should hold this attempt; it has not said that it started.",
          on: { "task.started": { target: "running", guard: "isCurrentOnItsWorker", actions: "start" } },
        },
        running: { description: "The command runs." },
      },
      on: {
        "task.ended": [
          { target: "queued", guard: "mayRetry", actions: ["noteRetry", "sayAcknowledged"] },
          { target: "queued", guard: "needsMoreMemory", actions: ["noteMemory", "sayAcknowledged"] },
          { target: "queued", guard: "wasFailedByItsWorker", actions: ["noteFault", "sayAcknowledged"] },
          { target: "queued", guard: "wasKilledUnasked", actions: ["noteUnaskedKill", "sayAcknowledged"] },
          { target: "concluding", guard: "isCurrentAttempt", actions: "takeOutcome" },
          { guard: "wasGivenUpAndMayRetry", actions: ["noteLateFailure", "sayAcknowledged"] },
          {
            target: "concluding",
            guard: "wasGivenUp",
            actions: [
              { type: "sayDrop", params: { reason: "An earlier attempt delivered its result after all" } },
              "takeOutcome",
            ],
          },
          { actions: "sayAcknowledged" },
        ],
        "task.attemptLost": [
          { target: "queued", guard: "hasLossesLeft", actions: "noteLoss" },
          { target: "settled", guard: "isCurrentAttempt", actions: ["failAsLost", "saySettled"] },
        ],
        "task.putBack": {
          target: "queued",
          guard: "isCurrentAttempt",
          actions: [{ type: "sayDrop", params: { reason: "It was put back into the queue" } }, "notePutBack"],
        },
        "task.kill": {
          target: "stopping",
          actions: ["noteStop", { type: "sayDrop", params: { reason: "It was killed" } }],
        },
        "task.awaited": { actions: "awaitWorker" },
        "clock.reached": {
          target: "settled",
          guard: "isDue",
          actions: [
            { type: "sayDrop", params: { reason: "It was given up: nothing was heard of it for too long" } },
            "failAsOverdue",
            "saySettled",
          ],
        },
      },
    },
    stopping: {
      description: "It is to be killed; its worker has not yet said that it ended. The host wakes it at wakeAtMs.",
      on: {
        "task.ended": [
          { target: "concluding", guard: "isCurrentAttempt", actions: "takeOutcome" },
          { actions: "sayAcknowledged" },
        ],
        "task.awaited": { actions: "awaitWorker" },
        "task.attemptLost": { target: "settled", guard: "isCurrentAttempt", actions: ["settleStopped", "saySettled"] },
        "task.putBack": { target: "settled", guard: "isCurrentAttempt", actions: ["settleStopped", "saySettled"] },
        "clock.reached": { target: "settled", guard: "isDue", actions: ["settleStopped", "saySettled"] },
        "task.kill": {},
      },
    },
    concluding: {
      description: "Its command is over, or need not run. Nobody sees it so: it goes on at once.",
      always: [
        { target: "overlaying", guard: "wantsTree", actions: "sayAcknowledgedIfEnded" },
        { target: "settled", actions: ["saySettled", "sayAcknowledgedIfEnded"] },
      ],
    },
    overlaying: {
      description: "It succeeded; a gateway lays what it made over its inputs.",
      on: {
        "task.treeMade": {
          target: "settled",
          guard: { type: "isTreeOf", params: { of: "output" } },
          actions: ["takeTree", "saySettled"],
        },
        "task.treeFailed": {
          target: "settled",
          guard: { type: "isTreeOf", params: { of: "output" } },
          actions: ["failWithoutTree", "saySettled"],
        },
        "task.kill": { target: "settled", actions: ["killNow", "saySettled"] },
        "task.ended": { actions: "sayAcknowledged" },
      },
    },
    settled: {
      description: "Over, with an outcome. Late news is acknowledged and changes nothing.",
      on: {
        "task.kill": {},
        "clock.reached": {},
        "task.attemptLost": {},
        "task.putBack": {},
        "task.ended": { actions: "sayAcknowledged" },
      },
    },
  },
});
