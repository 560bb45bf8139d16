import { assign, emit, setup } from "xstate";
import type { Digest } from "../domain/digest.ts";
import type { FaultData } from "../domain/fault.ts";
import { type Address, memberAddress, type TaskId } from "../domain/ids.ts";
import type { AskedAction, Leavings, Outcome } from "../domain/job.ts";

/**
 * One run of a task, as the worker lives it: checkout, run, capture. It guarantees that each of the three is begun at
 * most once in a life of the worker's process, and that a result is repeated until the scheduler acknowledged it.
 *
 *     checkingOut ──▶ running ──▶ capturing ──▶ ended ──▶ over
 *          │             └──(drop: stop)──┘        ▲
 *          └──────────(fault, drop)────────────────┘
 */
export const attemptVersion = 1;

/** A folder that a run leaves to the next one: its path in the task's folder, whose it is, and what it is called. */
export interface KeptFolderSpec {
  readonly path: string;
  readonly requestor: string;
  readonly name: string;
}

export interface AttemptInput {
  readonly taskId: TaskId;
  readonly attempt: number;
  readonly command: Digest;
  readonly inputRoot: Digest;
  readonly timeoutMs: number;
  readonly memoryBytesMax?: number;
  readonly caches?: readonly KeptFolderSpec[];
  readonly action?: AskedAction;
  readonly atMs: number;
}

export interface AttemptContext extends AttemptInput {
  readonly startedAtMs?: number;
  /** What ended the run, while its output is captured. */
  readonly ending?: Outcome;
  readonly dropReason?: string;
  readonly outcome?: Outcome;
}

export type AttemptEvent =
  | { readonly type: "attempt.started"; readonly atMs: number }
  | { readonly type: "attempt.finished"; readonly ending: Outcome }
  | { readonly type: "attempt.captured"; readonly leavings: Leavings; readonly fault?: FaultData }
  | { readonly type: "attempt.failed"; readonly fault: FaultData }
  | { readonly type: "attempt.drop"; readonly reason: string }
  | { readonly type: "attempt.acknowledged" };

/** Named work that the host has done; keyed by task and attempt. */
export type AttemptEffect =
  | { readonly type: "effect.run"; readonly to: Address; readonly attempt: AttemptInput }
  | {
    readonly type: "effect.stop";
    readonly to: Address;
    readonly taskId: TaskId;
    readonly attempt: number;
    readonly reason: string;
  }
  | {
    readonly type: "effect.capture";
    readonly to: Address;
    readonly taskId: TaskId;
    readonly attempt: number;
    readonly command: Digest;
    readonly ending: Outcome;
  }
  | { readonly type: "effect.clean"; readonly to: Address; readonly taskId: TaskId; readonly attempt: number };

export type AttemptMessage =
  | AttemptEffect
  /** Its stage has changed: the scheduler is told by the next report. */
  | { readonly type: "attempt.changed"; readonly to: Address; readonly taskId: TaskId; readonly attempt: number };

export const effectsAddress = "effects" as Address;
export const schedulerMember = memberAddress("scheduler");

const withLeavings = (ending: Outcome, leavings: Leavings, fault: FaultData | undefined): Outcome =>
  ending.kind === "skipped"
    ? ending
    : fault === undefined
    ? { ...ending, ...leavings }
    : { kind: "failed", fault, ...leavings };

export const attemptMachine = setup({
  types: {
    input: {} as AttemptInput,
    context: {} as AttemptContext,
    events: {} as AttemptEvent,
    emitted: {} as AttemptMessage,
  },
  guards: { isFirstDrop: ({ context }) => context.dropReason === undefined },
  actions: {
    doRun: emit((
      { context: { taskId, attempt, command, inputRoot, timeoutMs, memoryBytesMax, caches, action, atMs } },
    ) => ({
      type: "effect.run" as const,
      to: effectsAddress,
      attempt: {
        taskId,
        attempt,
        command,
        inputRoot,
        timeoutMs,
        ...(memoryBytesMax === undefined ? {} : { memoryBytesMax }),
        ...(caches === undefined ? {} : { caches }),
        ...(action === undefined ? {} : { action }),
        atMs,
      },
    })),
    doStop: emit(({ context }) => ({
      type: "effect.stop" as const,
      to: effectsAddress,
      taskId: context.taskId,
      attempt: context.attempt,
      reason: context.dropReason ?? "",
    })),
    doCapture: emit(({ context }) => ({
      type: "effect.capture" as const,
      to: effectsAddress,
      taskId: context.taskId,
      attempt: context.attempt,
      command: context.command,
      ending: context.ending!,
    })),
    doClean: emit(({ context }) => ({
      type: "effect.clean" as const,
      to: effectsAddress,
      taskId: context.taskId,
      attempt: context.attempt,
    })),
    sayChanged: emit(({ context }) => ({
      type: "attempt.changed" as const,
      to: schedulerMember,
      taskId: context.taskId,
      attempt: context.attempt,
    })),
    noteStart: assign(({ event }) => event.type === "attempt.started" ? { startedAtMs: event.atMs } : {}),
    noteEnding: assign(({ event }) => event.type === "attempt.finished" ? { ending: event.ending } : {}),
    noteDrop: assign(({ event }) => event.type === "attempt.drop" ? { dropReason: event.reason } : {}),
    takeOutcome: assign(({ context, event }) =>
      event.type === "attempt.captured" ? { outcome: withLeavings(context.ending!, event.leavings, event.fault) } : {}
    ),
    takeFault: assign(({ context, event }) =>
      event.type !== "attempt.failed"
        ? {}
        : context.dropReason === undefined
        ? { outcome: { kind: "failed" as const, fault: event.fault } }
        : { outcome: { kind: "killed" as const, reason: context.dropReason } }
    ),
  },
}).createMachine({
  id: "attempt",
  context: ({ input }) => input,
  initial: "checkingOut",
  states: {
    checkingOut: {
      description: "Its files are laid out; the command has not started.",
      entry: "doRun",
      on: {
        "attempt.started": { target: "running", actions: ["noteStart", "sayChanged"] },
        "attempt.drop": { guard: "isFirstDrop", actions: ["noteDrop", "doStop"] },
        "attempt.failed": { target: "ended", actions: "takeFault" },
        "attempt.finished": { target: "capturing", actions: "noteEnding" },
      },
    },
    running: {
      description: "The command runs.",
      on: {
        "attempt.finished": { target: "capturing", actions: "noteEnding" },
        "attempt.drop": { guard: "isFirstDrop", actions: ["noteDrop", "doStop"] },
        "attempt.failed": { target: "ended", actions: "takeFault" },
      },
    },
    capturing: {
      description: "The command is over; its outputs and streams are stored.",
      entry: "doCapture",
      on: {
        "attempt.captured": { target: "ended", actions: "takeOutcome" },
        "attempt.failed": { target: "ended", actions: "takeFault" },
      },
    },
    ended: {
      description: "The result is on disk, and is repeated until the scheduler has acknowledged it.",
      entry: "sayChanged",
      on: { "attempt.acknowledged": "over" },
    },
    over: { description: "Acknowledged: the worker may forget it.", entry: "doClean" },
  },
});
