import { assign, setup } from "xstate";
import { defaultPolicy, type Policy } from "../scheduling/policy.ts";

/**
 * The scheduler itself: its epoch, its settings, and whether it hands out work. It guarantees that every start has a
 * higher epoch than all before. It holds no queue: that is an index, derived from the tasks.
 *
 *     open ◀──▶ draining
 */
export const schedulerVersion = 2;

export interface SchedulerInput {
  readonly atMs: number;
}

export interface SchedulerContext {
  /** Counts the starts of this store's scheduler, from 1. */
  readonly epoch: number;
  readonly startedAtMs: number;
  readonly drainReason?: string | undefined;
  readonly settings: SchedulerSettings;
}

/** What an operator sets: how slots are divided among classes of requestors, and how much is taken in. */
export interface SchedulerSettings {
  readonly policy: Policy;
  readonly limits: {
    /** Jobs of one requestor that have not ended, and requestors who have such. */
    readonly jobsPerRequestor: number;
    readonly requestors: number;
    readonly tasksPerJob: number;
  };
}

export const defaultSettings: SchedulerSettings = {
  policy: defaultPolicy,
  limits: { jobsPerRequestor: 10_000, requestors: 10_000, tasksPerJob: 20_000 },
};

export type SchedulerEvent =
  | { readonly type: "scheduler.started"; readonly epoch: number; readonly atMs: number }
  | { readonly type: "scheduler.set"; readonly settings: SchedulerSettings; readonly atMs: number }
  | { readonly type: "scheduler.drain"; readonly why: string; readonly atMs: number };

export const schedulerMachine = setup({
  types: { input: {} as SchedulerInput, context: {} as SchedulerContext, events: {} as SchedulerEvent },
  guards: {
    isNewer: ({ context, event }) => event.type === "scheduler.started" && event.epoch > context.epoch,
  },
  actions: {
    start: assign(({ event }) =>
      event.type === "scheduler.started" ? { epoch: event.epoch, startedAtMs: event.atMs, drainReason: undefined } : {}
    ),
    set: assign(({ event }) => event.type === "scheduler.set" ? { settings: event.settings } : {}),
    noteDrain: assign(({ event }) => event.type === "scheduler.drain" ? { drainReason: event.why } : {}),
  },
}).createMachine({
  id: "scheduler",
  context: ({ input }) => ({ epoch: 0, startedAtMs: input.atMs, settings: defaultSettings }),
  initial: "open",
  on: {
    "scheduler.started": { target: ".open", guard: "isNewer", actions: "start" },
    "scheduler.set": { actions: "set" },
  },
  states: {
    open: {
      description: "Places tasks on workers.",
      on: { "scheduler.drain": { target: "draining", actions: "noteDrain" } },
    },
    draining: { description: "About to stop: accepts no job and places no task. The next start opens it again." },
  },
});
