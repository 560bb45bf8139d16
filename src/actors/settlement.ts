import {
  type Address,
  attemptAddress,
  memberAddress,
  taskAddress,
  type TaskId,
  workerAddress,
  type WorkerId,
} from "../domain/ids.ts";
import { invariant } from "../domain/invariant.ts";
import { isSuccess, type Outcome } from "../domain/job.ts";
import { taskState } from "../machines/explain.ts";
import { pathOf } from "../machines/step.ts";
import { assignmentOf, hasExceededMemory, inputRootOf, type TaskContext } from "../machines/task.ts";
import { isSetAside, type WorkerContext } from "../machines/worker.ts";
import type { FromWorker, HeldAttempt, ToWorker } from "../protocol/worker_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import { mostMemory } from "../scheduling/fitting.ts";
import type { Host } from "./host.ts";
import type { SchedulerIndex } from "./scheduler_index.ts";
import type { ToMember } from "./to_member.ts";
import type { WorkerLink } from "./worker_links.ts";

/** What workers say of their attempts, and what follows for tasks and workers. All of it is called inside a turn. */
export interface Settlement {
  /** A message that counts: the newest of the worker's present link. */
  hear(workerId: WorkerId, link: WorkerLink, message: FromWorker): void;
  /** At the end of a turn: attempts of workers that were given up are lost. */
  giveUp(atMs: number): void;
  /** What a task's end says of the workers that it was with: a record that only those have who have failed. */
  judge(task: TaskContext, atMs: number): void;
  /** At the end of a turn, after all was decided: answers syncs with all that their workers should do. */
  answerSyncs(): void;
}

export interface SettlementOptions {
  readonly host: Host;
  readonly index: SchedulerIndex;
  readonly clock: Clock;
  /** How long a worker may be away before what it runs is run elsewhere. */
  readonly lostAfterMs: number;
}

export function createSettlement({ host, index, clock, lostAfterMs }: SettlementOptions): Settlement {
  /** Syncs to answer. */
  const wantFull = new Map<WorkerId, WorkerLink>();
  const say = (workerId: WorkerId, said: ToMember): void => host.say(memberAddress(workerId), said);
  const taskOf = (taskId: TaskId): TaskContext => host.state(taskAddress(taskId))!.context as TaskContext;

  const lose = (workerId: WorkerId, taskId: TaskId, why: string, atMs: number): void => {
    const { attempt } = taskOf(taskId);
    host.tell(
      taskAddress(taskId),
      { type: "task.attemptLost", workerId, attempt, why, atMs },
      workerAddress(workerId),
      why,
    );
  };
  /** Also of workers that are away or set aside: they may be back. */
  const memoryMost = (taskId: TaskId, outcome: Outcome): { readonly memoryBytesMost?: number } => {
    if (!hasExceededMemory(outcome)) return {};
    const workers = [...index.workers].filter((workerId) => !index.givenUp.has(workerId))
      .map((workerId) => host.state(workerAddress(workerId))!.context as WorkerContext);
    const memoryBytesMost = mostMemory(workers, taskOf(taskId).platform);
    return memoryBytesMost === undefined ? {} : { memoryBytesMost };
  };
  const hearAttempt = (workerId: WorkerId, held: HeldAttempt): void => {
    const address = taskAddress(held.taskId);
    const from = workerAddress(workerId);
    const to = memberAddress(workerId);
    const { taskId, attempt } = held;
    const atMs = clock.now();
    const state = host.state(address);
    if (state === undefined) {
      // Settled and at rest on disk, or never ours: the worker need not keep it.
      return held.stage === "ended" || held.stage === "returned"
        ? say(workerId, { type: "attempt.acknowledged", to, taskId, attempt })
        : say(workerId, { type: "attempt.drop", to, taskId, attempt, reason: "It is settled" });
    }
    switch (held.stage) {
      case "held":
        if (taskState(state) === "queued") host.tell(address, { type: "task.held", workerId, attempt }, from);
        return;
      case "running": {
        const type = taskState(state) === "queued" ? "task.held" : "task.started";
        return host.tell(address, { type, workerId, attempt, startedAtMs: held.startedAtMs }, from);
      }
      case "ended": {
        const { outcome } = held;
        const most = memoryMost(taskId, outcome);
        return host.tell(address, { type: "task.ended", workerId, attempt, outcome, ...most, atMs }, from);
      }
      case "returned":
        host.tell(address, { type: "task.putBack", attempt, why: held.why, atMs }, from);
        say(workerId, { type: "attempt.acknowledged", to, taskId, attempt });
    }
  };
  const hearReport = (workerId: WorkerId, attempts: readonly HeldAttempt[]): void => {
    for (const held of attempts) hearAttempt(workerId, held);
    // It is leaving: what it gives back is not to be placed there again.
    if (attempts.some(({ stage }) => stage === "returned")) {
      host.tell(
        workerAddress(workerId),
        { type: "worker.disconnected", atMs: clock.now() },
        memberAddress(workerId),
        "It is leaving",
      );
    }
  };
  const hearSync = (
    workerId: WorkerId,
    { worker, attempts }: Extract<FromWorker, { type: "worker.sync" }>,
  ): void => {
    const atMs = clock.now();
    const address = workerAddress(workerId);
    const known = host.state(address);
    const knownWorker = known?.context as WorkerContext | undefined;
    if (known === undefined) {
      host.tell(
        address,
        { type: "worker.create", input: { worker, lostAfterMs, atMs } },
        memberAddress(workerId),
      );
    } else if (
      pathOf(known.value) !== "present" || knownWorker!.incarnation !== worker.incarnation ||
      knownWorker!.slots !== worker.slots || knownWorker!.paused !== worker.paused
    ) {
      host.tell(address, { type: "worker.joined", worker, atMs }, memberAddress(workerId));
    }
    const holds = new Set<Address>();
    for (const held of attempts) {
      holds.add(attemptAddress(held.taskId, held.attempt));
      hearAttempt(workerId, held);
    }
    const restarted = knownWorker !== undefined && knownWorker.incarnation !== worker.incarnation;
    for (const taskId of index.onWorker.get(workerId) ?? []) {
      const state = host.state(taskAddress(taskId))!;
      // The result of an earlier attempt may be all that it has of the task.
      if (holds.has(attemptAddress(taskId, (state.context as TaskContext).attempt))) continue;
      if (restarted) lose(workerId, taskId, `its worker ${workerId} restarted`, atMs);
      else if (taskState(state) === "running") {
        lose(workerId, taskId, `its worker ${workerId} no longer knows of it`, atMs);
      }
    }
  };
  const fullFor = (workerId: WorkerId, link: WorkerLink): ToMember => {
    const hold: ToWorker["hold"] = [];
    const drop: ToWorker["drop"] = [];
    for (const taskId of index.onWorker.get(workerId) ?? []) {
      const state = host.state(taskAddress(taskId))!;
      const task = state.context as TaskContext;
      const { attempt, stopReason } = task;
      invariant(inputRootOf(task) !== undefined, "a task with a worker has its input");
      if (taskState(state) === "stopping") drop.push({ taskId, attempt, reason: stopReason ?? "" });
      else hold.push(assignmentOf(task) as ToWorker["hold"][number]);
    }
    return { type: "worker.full", link, hold, drop };
  };
  const isOneOfSeveral = (workerId: WorkerId): boolean => {
    for (const other of index.workers) {
      if (other === workerId) continue;
      const state = host.state(workerAddress(other));
      if (state !== undefined && pathOf(state.value) === "present" && !isSetAside(state.context as WorkerContext)) {
        return true;
      }
    }
    return false;
  };

  return {
    hear(workerId, link, message) {
      if (message.type === "worker.report") return hearReport(workerId, message.attempts);
      hearSync(workerId, message);
      wantFull.set(workerId, link);
    },
    giveUp(atMs) {
      for (const workerId of index.givenUp) {
        for (const taskId of index.onWorker.get(workerId) ?? []) {
          lose(workerId, taskId, `its worker ${workerId} was lost`, atMs);
        }
      }
    },
    judge({ attempts, outcome, taskId }, atMs) {
      const last = attempts.at(-1);
      if (last === undefined || outcome === undefined) return;
      const tell = (workerId: WorkerId, event: { readonly type: string; readonly why?: string }): void => {
        const state = host.state(workerAddress(workerId));
        if (state === undefined || pathOf(state.value) !== "present") return;
        if (event.type === "worker.succeeded" && (state.context as WorkerContext).faults === undefined) return;
        host.tell(workerAddress(workerId), { ...event, atMs }, taskAddress(taskId), event.why);
      };
      const isGood = isSuccess(outcome);
      for (const [at, { workerId, ended }] of attempts.entries()) {
        const next = attempts[at + 1]?.reason;
        const wasFault = next === "workerFailed" ||
          (next === undefined && outcome.kind === "failed" && !hasExceededMemory(outcome) && ended === undefined);
        // What fails here and succeeds there is this worker's failure.
        const wasAlone = next === "retry" && isGood && workerId !== last.workerId;
        // What fails on the only one that there is says nothing of it: the disk of all may be full.
        if (!wasAlone && (!wasFault || !isOneOfSeveral(workerId))) continue;
        const why = wasAlone
          ? `Task ${taskId} failed on it and succeeded on ${last.workerId}`
          : `It could not do its part of task ${taskId}`;
        tell(workerId, { type: "worker.failed", why });
      }
      if (isGood) tell(last.workerId, { type: "worker.succeeded" });
    },
    answerSyncs() {
      for (const [workerId, link] of wantFull) say(workerId, fullFor(workerId, link));
      wantFull.clear();
    },
  };
}
