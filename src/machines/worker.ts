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

export interface WorkerContext extends WorkerDescription {
  readonly workerId: WorkerId;
  readonly lostAfterMs: number;
  /** When it came into its present state. */
  readonly sinceMs: number;
  readonly wakeAtMs?: number | undefined;
  /** Set aside by an operator, wherever it is: it is given nothing until it is reinstated. */
  readonly offline?: { readonly reason: string; readonly atMs: number } | undefined;
}

export type WorkerEvent =
  | { readonly type: "worker.joined"; readonly worker: WorkerDescription; readonly atMs: number }
  | { readonly type: "worker.disconnected"; readonly atMs: number }
  /** Its scheduler has started anew, and nobody is connected yet: from now on it has its time to come back. */
  | { readonly type: "worker.awaited"; readonly atMs: number }
  | { readonly type: "worker.offline"; readonly reason: string; readonly atMs: number }
  | { readonly type: "worker.reinstate"; readonly atMs: number }
  | { readonly type: "clock.reached"; readonly atMs: number };

export const workerMachine = setup({
  types: { input: {} as WorkerInput, context: {} as WorkerContext, events: {} as WorkerEvent },
  guards: {
    isDue: ({ context, event }) =>
      event.type === "clock.reached" && context.wakeAtMs !== undefined && event.atMs >= context.wakeAtMs,
  },
  actions: {
    join: assign(({ event }) =>
      event.type === "worker.joined" ? { ...event.worker, sinceMs: event.atMs, wakeAtMs: undefined } : {}
    ),
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
    "worker.offline": { actions: "setAside" },
    "worker.reinstate": { actions: "reinstate" },
  },
  states: {
    present: {
      description: "It is connected, and is given tasks.",
      on: {
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
