import { asFault, Fault } from "../domain/fault.ts";
import { type Address, attemptAddress, type TaskId } from "../domain/ids.ts";
import type { WorkerDescription } from "../domain/worker.ts";
import {
  type AttemptContext,
  type AttemptEvent,
  type AttemptInput,
  attemptMachine,
  type AttemptMessage,
  attemptVersion,
  effectsAddress,
  schedulerMember,
} from "../machines/attempt.ts";
import { pathOf, type State } from "../machines/step.ts";
import type { Log } from "../observability/log.ts";
import { type FromWorker, type HeldAttempt, parseToWorker, type ToWorker } from "../protocol/worker_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { States } from "../snapshots/states/states.ts";
import type { Connection } from "../transport/transport.ts";
import { createHost, type Host, type HostOptions } from "./host.ts";

/** The deeds of an attempt, keyed by task and attempt; each reports by `report`. */
export interface Effects {
  /** Checkout, then run. Reports `attempt.started`, then `attempt.finished`; or `attempt.failed`. */
  run(attempt: AttemptInput): void;
  /** Ends the checkout or the run early; what it reports then is as above. */
  stop(taskId: TaskId, attempt: number, reason: string): void;
  /** Stores outputs and streams. Reports `attempt.captured` or `attempt.failed`. */
  capture(request: Extract<AttemptMessage, { type: "effect.capture" }>): void;
  /** Removes what the attempt left on this machine. */
  clean(taskId: TaskId, attempt: number): void;
}

export type ReportEffect = (taskId: TaskId, attempt: number, event: AttemptEvent) => void;

export interface WorkerOptions {
  readonly description: WorkerDescription;
  readonly states: States;
  readonly clock: Clock;
  readonly log: Log;
  readonly defer: (work: () => void) => void;
  readonly effects: (report: ReportEffect) => Effects;
  /** See {@link HostOptions.broken}. */
  readonly broken?: HostOptions["broken"];
  /** All that is held is said again after so long; 5,000 ms by default. */
  readonly syncEveryMs?: number;
}

/**
 * The worker's process, less its sockets: hosts attempts, says what it holds, does what it should hold. A result stays
 * on disk, and is said again with every sync, until its acknowledgement is durable here.
 */
export interface Worker {
  /** Restores results that were not acknowledged; what was running when the process died is gone. */
  start(): Promise<void>;
  /** Call in the turn in which the connection was handed over. The newest one is spoken on. */
  attachScheduler(connection: Connection): void;
  /**
   * Takes nothing more, and gives back with that reason what is not ended, once its commands are gone, so that they and
   * the next attempts do not overlap. What is over but for its capture is waited for. Takes 8 s at most.
   */
  leave(why: string): Promise<void>;
  /** Says that it is to be given nothing, and why; undefined: that it may be given tasks again. What it holds goes on. */
  pause(why: string | undefined): void;
  /** Attempts that are not ended. */
  readonly running: number;
  /** For who follows a stream: whether it still grows. */
  stageOf(taskId: TaskId, attempt: number): "growing" | "complete" | "unknown";
  stop(): Promise<void>;
}

/** For commands to end and outputs to be stored, of a worker that leaves: longer than the grace of a command. */
const leaveMsMax = 8_000;
/** Stages that nobody is told of are saved together. */
const saveQuietAfterMs = 100;

export function createWorker(options: WorkerOptions): Worker {
  const { description, clock, log } = options;
  const syncEveryMs = options.syncEveryMs ?? 5_000;
  /** As decided. */
  const held = new Map<Address, State>();
  /** As on disk: what may be said. */
  const durable = new Map<Address, State>();
  const changed = new Set<Address>();
  let connection: Connection | undefined;
  let number = 0;
  let epochSeen = 0;
  let numberSeen = 0;
  let cancelSync = (): void => {};
  let stopped = false;
  /** It gives everything back, and takes nothing more. */
  let isLeaving = false;
  let paused: string | undefined;
  /** Of what it waits for meanwhile. */
  const endings = new Map<Address, () => void>();

  const host: Host = createHost({
    states: options.states,
    kinds: { attempt: { machine: attemptMachine, version: attemptVersion } },
    clock,
    log,
    defer: options.defer,
    // A run that nothing on disk knows of is killed with this process: only results must be durable before they are told.
    isWithin: (to) => to === effectsAddress,
    ...(options.broken === undefined ? {} : { broken: options.broken }),
    mayWaitMs: { entry: () => saveQuietAfterMs },
    deliver: (to, said) => {
      const body = said as AttemptMessage;
      if (to === schedulerMember) {
        if (changed.size === 0) queueMicrotask(sendReport);
        changed.add(
          attemptAddress(
            (body as Extract<AttemptMessage, { type: "attempt.changed" }>).taskId,
            (body as { attempt: number }).attempt,
          ),
        );
        return;
      }
      doEffect(body);
    },
    committed: (entries) => {
      for (const { address, state } of entries) {
        if (state === null) durable.delete(address);
        else durable.set(address, state as State);
      }
    },
    observe: (address, _before, after) => {
      if (after === undefined) held.delete(address);
      else held.set(address, after);
    },
  });
  const effects = options.effects((taskId, attempt, event) => {
    const address = attemptAddress(taskId, attempt);
    host.enqueue(() => host.tell(address, { ...event }, effectsAddress));
    if (event.type !== "attempt.started") endings.get(address)?.();
  });
  const doEffect = (effect: AttemptMessage): void => {
    switch (effect.type) {
      case "effect.run":
        return effects.run(effect.attempt);
      case "effect.stop":
        return effects.stop(effect.taskId, effect.attempt, effect.reason);
      case "effect.capture":
        return effects.capture(effect);
      case "effect.clean":
        effects.clean(effect.taskId, effect.attempt);
        return host.enqueue(() =>
          host.remove(attemptAddress(effect.taskId, effect.attempt), effectsAddress, "Its result was acknowledged")
        );
    }
  };

  const describe = (state: State): HeldAttempt | undefined => {
    const { taskId, attempt, startedAtMs, outcome } = state.context as AttemptContext;
    const stage = pathOf(state.value);
    if (stage === "over") return undefined;
    if (stage === "ended") return { stage: "ended", taskId, attempt, outcome: outcome! };
    return startedAtMs === undefined
      ? { stage: "held", taskId, attempt }
      : { stage: "running", taskId, attempt, startedAtMs };
  };
  const describeAll = (states: Iterable<State | undefined>): HeldAttempt[] => {
    const all: HeldAttempt[] = [];
    for (const state of states) {
      const one = state === undefined ? undefined : describe(state);
      if (one !== undefined) all.push(one);
    }
    return all;
  };
  const send = (message: FromWorker): void => {
    try {
      connection?.send(message);
    } catch (thrown) {
      log.error("Cannot send to the scheduler", { type: message.type, error: asFault(thrown) });
    }
  };
  const sendReport = (): void => {
    const attempts = describeAll([...changed].map((address) => durable.get(address)));
    changed.clear();
    if (attempts.length > 0) send({ type: "worker.report", number: ++number, attempts });
  };
  const sync = (): void => {
    cancelSync();
    if (stopped || isLeaving) return;
    cancelSync = clock.at(clock.now() + syncEveryMs, sync);
    const worker = paused === undefined ? description : { ...description, paused };
    send({ type: "worker.sync", number: ++number, worker, attempts: describeAll(durable.values()) });
  };

  const isLive = (state: State): boolean => {
    const stage = pathOf(state.value);
    return stage !== "ended" && stage !== "over";
  };
  const should = (message: ToWorker, by: Connection): void => {
    if (message.epoch < epochSeen && by === connection) {
      return by.close(
        new Fault(
          "REQUEST_INVALID",
          `Cannot serve this scheduler as its epoch must be at least ${epochSeen}: current value is ${message.epoch}. ` +
            "If it began with other data, start this worker anew",
        ),
      );
    }
    if (message.epoch < epochSeen || (message.epoch === epochSeen && message.number <= numberSeen)) return; // from the past
    epochSeen = message.epoch;
    numberSeen = message.number;
    const from = schedulerMember;
    const wanted = new Set<Address>();
    for (const assignment of message.hold) {
      const address = attemptAddress(assignment.taskId, assignment.attempt);
      wanted.add(address);
      if (!host.has(address) && !isLeaving) {
        host.tell(address, {
          type: "attempt.create",
          input: { ...assignment, atMs: clock.now() } satisfies AttemptInput,
        }, from);
      }
    }
    for (const { taskId, attempt, reason } of message.drop) {
      const address = attemptAddress(taskId, attempt);
      wanted.add(address);
      if (host.has(address)) host.tell(address, { type: "attempt.drop", reason }, from);
      else {send({
          type: "worker.report",
          number: ++number,
          attempts: [{ stage: "ended", taskId, attempt, outcome: { kind: "killed", reason } }],
        });}
    }
    for (const { taskId, attempt } of message.acknowledged) {
      const address = attemptAddress(taskId, attempt);
      wanted.add(address);
      if (host.has(address)) host.tell(address, { type: "attempt.acknowledged" }, from);
    }
    if (!message.full) return;
    for (const [address, state] of held) {
      if (!wanted.has(address) && isLive(state)) {
        host.tell(address, { type: "attempt.drop", reason: "Its scheduler wants it no more" }, from);
      }
    }
  };

  const inTurn = (work: () => void): Promise<void> =>
    new Promise((resolve) =>
      host.enqueue(() => {
        work();
        resolve();
      })
    );

  return {
    async start() {
      await host.restore();
      for (const [address, state] of held) durable.set(address, state);
      await inTurn(() => {
        host.setEpoch(host.lastEpoch + 1);
        for (const [address, state] of [...held]) {
          if (pathOf(state.value) === "ended") continue;
          const { taskId, attempt } = state.context as AttemptContext;
          effects.clean(taskId, attempt);
          host.remove(address, effectsAddress, "Its worker stopped while it was not ended");
        }
      });
      await host.settled();
    },
    attachScheduler(next) {
      connection = next;
      number = 0;
      next.onMessage((input) => {
        const message = parseToWorker(input);
        host.enqueue(() => should(message, next));
      });
      void next.closed.then((why: Fault | undefined) => {
        if (connection !== next) return;
        connection = undefined;
        if (why !== undefined) log.warn("The scheduler is away", { why });
      });
      sync();
    },
    async leave(why) {
      const returned: HeldAttempt[] = [];
      const giveBack = (address: Address, state: State): void => {
        const { taskId, attempt } = state.context as AttemptContext;
        host.remove(address, effectsAddress, why);
        returned.push({ stage: "returned", taskId, attempt, why });
      };
      const ends: Promise<void>[] = [];
      await inTurn(() => {
        isLeaving = true;
        for (const [address, state] of [...held]) {
          if (!isLive(state)) continue;
          const { taskId, attempt } = state.context as AttemptContext;
          ends.push(new Promise((resolve) => endings.set(address, resolve)));
          if (pathOf(state.value) === "capturing") continue;
          giveBack(address, state);
          effects.stop(taskId, attempt, why);
        }
      });
      let cancelWait = (): void => {};
      const waited = new Promise<void>((resolve) => cancelWait = clock.at(clock.now() + leaveMsMax, resolve));
      await Promise.race([Promise.all(ends), waited]);
      cancelWait();
      await inTurn(() => {
        for (const [address, state] of [...held]) if (isLive(state)) giveBack(address, state);
        if (returned.length > 0) send({ type: "worker.report", number: ++number, attempts: returned });
      });
      await host.settled();
      await connection?.drained();
    },
    pause(why) {
      if (why === paused) return;
      paused = why;
      if (connection !== undefined) sync();
    },
    stageOf(taskId, attempt) {
      const state = held.get(attemptAddress(taskId, attempt));
      if (state === undefined) return "unknown";
      const stage = pathOf(state.value);
      return stage === "checkingOut" || stage === "running" ? "growing" : "complete";
    },
    get running() {
      let count = 0;
      for (const state of held.values()) if (isLive(state)) count++;
      return count;
    },
    async stop() {
      stopped = true;
      cancelSync();
      await host.stop();
    },
  };
}
