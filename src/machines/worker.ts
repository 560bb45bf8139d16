import { assign, setup } from "xstate";
import type { WorkerId } from "../domain/ids.ts";
import type { WorkerDescription } from "../domain/worker.ts";

/**
 * A worker as its scheduler sees it. It guarantees that a worker is given up for lost only after it was away for
 * `lostAfterMs`, and that one that comes back is a worker again. What it runs is known from the tasks, not from here.
 *
 *     present ──▶ absent ──▶ lost
 *        ▲           │         │
 *        └───────────┴─────────┘
 */
export const workerVersion = 1;

export interface WorkerInput {
  readonly worker: WorkerDescription;
  /** How long it may be away before what it runs is run elsewhere, in ms. */
  readonly lostAfterMs: number;
  readonly atMs: number;
}

export interface WorkerContext extends Omit<WorkerDescription, "paused"> {
  readonly paused?: string | undefined;
  readonly workerId: WorkerId;
  readonly lostAfterMs: number;
  /** When it came into its present state. */
  readonly sinceMs: number;
  readonly wakeAtMs?: number | undefined;
  /**
   * Attempts in a row at which it failed and others did not, or at its part; absent: none. At {@link flakyAfter} it is
   * set aside for a while.
   */
  readonly faults?: number | undefined;
  /** Set aside for a while as it failed too often; it is tried again then. */
  readonly flaky?: { readonly why: string; readonly untilMs: number; readonly times: number } | undefined;
  /** Set aside by an operator, wherever it is: it is given nothing until it is reinstated. */
  readonly offline?: { readonly reason: string; readonly atMs: number } | undefined;
}

/** So many failures in a row set a worker aside: for a minute, and each time for twice as long, up to a quarter of an hour. */
export const flakyAfter = 3;
const flakyMs = 60_000;
const flakyMsMax = 15 * 60_000;

export type WorkerEvent =
  | { readonly type: "worker.joined"; readonly worker: WorkerDescription; readonly atMs: number }
  | { readonly type: "worker.disconnected"; readonly atMs: number }
  /** Its scheduler has started anew, and nobody is connected yet: from now on it has its time to come back. */
  | { readonly type: "worker.awaited"; readonly atMs: number }
  | { readonly type: "worker.failed"; readonly why: string; readonly atMs: number }
  /** Said only of one that had failed. */
  | { readonly type: "worker.succeeded"; readonly atMs: number }
  | { readonly type: "worker.offline"; readonly reason: string; readonly atMs: number }
  | { readonly type: "worker.reinstate"; readonly atMs: number }
  | { readonly type: "clock.reached"; readonly atMs: number };

/** Why it is given nothing, as its operator, it itself or its record has it; undefined: it may be given tasks. */
export const whyAside = ({ offline, paused, flaky }: WorkerContext): string | undefined =>
  offline !== undefined
    ? `an operator has set it aside: ${offline.reason}`
    : paused ?? (flaky !== undefined && flaky.untilMs > 0 ? flaky.why : undefined);
export const isSetAside = (worker: WorkerContext): boolean => whyAside(worker) !== undefined;

export const workerMachine = setup({
  types: { input: {} as WorkerInput, context: {} as WorkerContext, events: {} as WorkerEvent },
  guards: {
    isDue: ({ context, event }) =>
      event.type === "clock.reached" && context.wakeAtMs !== undefined && event.atMs >= context.wakeAtMs,
  },
  actions: {
    /** Another process of it has a clean record; the same one is still set aside. */
    join: assign(({ context, event }) => {
      if (event.type !== "worker.joined") return {};
      const isSame = event.worker.incarnation === context.incarnation;
      const isAside = isSame && context.flaky !== undefined && context.flaky.untilMs > 0;
      return {
        ...event.worker,
        paused: event.worker.paused,
        sinceMs: event.atMs,
        wakeAtMs: isAside ? context.flaky!.untilMs : undefined,
        ...(isSame ? {} : { faults: undefined, flaky: undefined }),
      };
    }),
    noteFailure: assign(({ context, event }) => {
      if (event.type !== "worker.failed") return {};
      const faults = (context.faults ?? 0) + 1;
      if (faults < flakyAfter || isSetAside(context)) return { faults };
      const times = (context.flaky?.times ?? 0) + 1;
      const untilMs = event.atMs + Math.min(flakyMsMax, flakyMs * 2 ** (times - 1));
      return { faults, flaky: { why: event.why, untilMs, times }, wakeAtMs: untilMs };
    }),
    forgive: assign({ faults: undefined, flaky: undefined, wakeAtMs: undefined }),
    tryAgain: assign(({ context }) => ({
      // One more failure sets it aside again, for longer.
      faults: flakyAfter - 1,
      ...(context.flaky === undefined ? {} : { flaky: { ...context.flaky, untilMs: 0 } }),
      wakeAtMs: undefined,
    })),
    awaitReturn: assign(({ context, event }) => ({ sinceMs: event.atMs, wakeAtMs: event.atMs + context.lostAfterMs })),
    setAside: assign(({ event }) =>
      event.type === "worker.offline" ? { offline: { reason: event.reason, atMs: event.atMs } } : {}
    ),
    reinstate: assign({ offline: undefined }),
    giveUp: assign(({ event }) => ({ sinceMs: event.atMs, wakeAtMs: undefined })),
  },
}).createMachine({
  id: "worker",
  context: ({ input }) => ({ ...input.worker, lostAfterMs: input.lostAfterMs, sinceMs: input.atMs }),
  initial: "present",
  on: {
    "worker.joined": { target: ".present", actions: "join" },
    // Of one that is away it says nothing about now.
    "worker.failed": {},
    "worker.succeeded": {},
    "worker.offline": { actions: "setAside" },
    "worker.reinstate": { actions: "reinstate" },
  },
  states: {
    present: {
      description: "It is connected, and is given tasks.",
      on: {
        "worker.failed": { actions: "noteFailure" },
        "worker.succeeded": { actions: "forgive" },
        "clock.reached": { guard: "isDue", actions: "tryAgain" },
        "worker.disconnected": { target: "absent", actions: "awaitReturn" },
        "worker.awaited": { target: "absent", actions: "awaitReturn" },
      },
    },
    absent: {
      description: "Its connection is away; what it runs goes on. At wakeAtMs it is given up.",
      on: {
        "clock.reached": { target: "lost", guard: "isDue", actions: "giveUp" },
        "worker.awaited": { actions: "awaitReturn" },
      },
    },
    lost: {
      description: "Given up: its attempts are made again elsewhere. If it comes back with results, they count.",
    },
  },
});
