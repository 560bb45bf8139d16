import { assign, enqueueActions, setup } from "xstate";
import type { Digest } from "../domain/digest.ts";
import { type Address, type JobId, taskAddress, type TaskId, taskId } from "../domain/ids.ts";
import type { AskedAction } from "../domain/job.ts";
import type { CacheUse, KeptPath, TaskInput, TaskNeeds } from "./task.ts";

/**
 * A list of tasks that belong together. It counts how they settle, and knows no more of them: what is large (the
 * tasks) is never saved with what changes often (the count). It guarantees that it ends exactly when all of them have.
 *
 *     running.open ──▶ running.ending ──▶ succeeded │ failed │ cancelled
 */
export const jobVersion = 1;

/** A task as the job hands it over: what a task starts with, less what all tasks of the job share. */
export interface JobTask {
  readonly name: string;
  readonly command: Digest;
  readonly source: TaskInput["source"];
  readonly dependents: readonly number[];
  readonly timeoutMs: number;
  readonly retries: number;
  readonly platform: Readonly<Record<string, string>>;
  readonly needs?: TaskNeeds;
  readonly cache: CacheUse;
  readonly caches?: readonly KeptPath[];
  readonly output?: "full";
  readonly action?: AskedAction;
}

export interface JobInput {
  readonly jobId: JobId;
  readonly key: string;
  readonly requestor: string;
  readonly basis?: string;
  readonly tag: string;
  readonly priority: 0 | 1 | 2;
  readonly failFast: boolean;
  readonly tasks: readonly JobTask[];
  readonly atMs: number;
}

export interface JobContext {
  readonly jobId: JobId;
  readonly key: string;
  readonly requestor: string;
  readonly basis?: string;
  readonly tag: string;
  readonly priority: 0 | 1 | 2;
  readonly failFast: boolean;
  readonly createdAtMs: number;
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly skipped: number;
  readonly killed: number;
  /** Why its tasks are being ended early. */
  readonly endReason?: string;
  readonly cancelled: boolean;
  readonly endedAtMs?: number;
}

export type JobEvent =
  | {
    readonly type: "job.taskSettled";
    readonly taskId: TaskId;
    readonly result: "succeeded" | "failed" | "skipped" | "killed";
    readonly atMs: number;
  }
  | { readonly type: "job.kill"; readonly reason: string; readonly atMs: number };

export type JobMessage =
  | { readonly type: "task.create"; readonly to: Address; readonly input: TaskInput }
  | { readonly type: "task.kill"; readonly to: Address; readonly reason: string; readonly atMs: number };

/** Of what each task is told, so that an entry that tells every task of a job is not too long to be saved. */
const reasonTextMax = 200;

const settled = (context: JobContext): number => context.succeeded + context.failed + context.skipped + context.killed;

export const jobMachine = setup({
  types: { input: {} as JobInput, context: {} as JobContext, events: {} as JobEvent, emitted: {} as JobMessage },
  guards: {
    allSucceeded: ({ context }) => context.succeeded === context.total,
    allSettledCancelled: ({ context }) => context.cancelled && settled(context) === context.total,
    allSettled: ({ context }) => settled(context) === context.total,
    endsEarly: ({ context, event }) =>
      event.type === "job.taskSettled" && event.result === "failed" && context.failFast &&
      settled(context) + 1 < context.total,
  },
  actions: {
    sayTasks: enqueueActions(({ context, event, enqueue }) => {
      const { input } = event as unknown as { readonly input: JobInput };
      for (const [index, task] of input.tasks.entries()) {
        const id = taskId(context.jobId, index);
        enqueue.emit({
          type: "task.create",
          to: taskAddress(id),
          input: {
            taskId: id,
            ...task,
            requestor: context.requestor,
            ...(context.basis === undefined ? {} : { basis: context.basis }),
            priority: context.priority,
            atMs: input.atMs,
          },
        });
      }
    }),
    count: assign(({ context, event }) =>
      event.type === "job.taskSettled"
        ? {
          [event.result]: context[event.result] + 1,
          ...(settled(context) + 1 === context.total ? { endedAtMs: event.atMs } : {}),
        }
        : {}
    ),
    noteKill: assign(({ event }) => event.type === "job.kill" ? { endReason: event.reason, cancelled: true } : {}),
    noteFailFast: assign(({ event }) =>
      event.type === "job.taskSettled"
        ? { endReason: `Its task ${event.taskId} failed, and it asked to fail fast` }
        : {}
    ),
    sayKill: enqueueActions(({ context, event, enqueue }) => {
      for (let index = 0; index < context.total; index++) {
        enqueue.emit({
          type: "task.kill",
          to: taskAddress(taskId(context.jobId, index)),
          reason: (context.endReason ?? "").slice(0, reasonTextMax),
          atMs: event.atMs,
        });
      }
    }),
  },
}).createMachine({
  id: "job",
  context: ({ input }) => ({
    jobId: input.jobId,
    key: input.key,
    requestor: input.requestor,
    ...(input.basis === undefined ? {} : { basis: input.basis }),
    tag: input.tag,
    priority: input.priority,
    failFast: input.failFast,
    createdAtMs: input.atMs,
    total: input.tasks.length,
    succeeded: 0,
    failed: 0,
    skipped: 0,
    killed: 0,
    cancelled: false,
  }),
  initial: "running",
  states: {
    running: {
      description: "Some of its tasks have not settled.",
      initial: "open",
      entry: "sayTasks",
      always: [
        { target: "succeeded", guard: "allSucceeded" },
        { target: "cancelled", guard: "allSettledCancelled" },
        { target: "failed", guard: "allSettled" },
      ],
      states: {
        open: {
          description: "Its tasks run as they can.",
          on: {
            "job.taskSettled": [
              { target: "ending", guard: "endsEarly", actions: ["count", "noteFailFast", "sayKill"] },
              { actions: "count" },
            ],
            "job.kill": { target: "ending", actions: ["noteKill", "sayKill"] },
          },
        },
        ending: {
          description: "It was killed or fails fast: all its tasks were told to end.",
          on: { "job.taskSettled": { actions: "count" }, "job.kill": {} },
        },
      },
    },
    succeeded: { description: "Every task exited with 0." },
    failed: { description: "Every task has settled, and one of them did not exit with 0." },
    cancelled: { description: "It was killed, and every task has settled." },
  },
});
