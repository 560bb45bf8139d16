import { asFault, Fault, faultData } from "../domain/fault.ts";
import {
  type Address,
  jobAddress,
  kindOf,
  memberAddress,
  nameOf,
  schedulerAddress,
  taskAddress,
  type TaskId,
  taskId,
  workerAddress,
  type WorkerId,
} from "../domain/ids.ts";
import { jobState, taskState } from "../machines/explain.ts";
import { jobMachine, jobVersion } from "../machines/job.ts";
import { schedulerMachine, schedulerVersion } from "../machines/scheduler.ts";
import { type State } from "../machines/step.ts";
import { type TaskContext, taskMachine, taskVersion } from "../machines/task.ts";
import { type WorkerContext, workerMachine, workerVersion } from "../machines/worker.ts";
import type { Log } from "../observability/log.ts";
import {
  type Answer,
  parseFromGateway,
  type Push,
  requestIdOf,
  type SchedulerRequest,
} from "../protocol/client_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import type { Connection } from "../transport/transport.ts";
import { createAdmission } from "./admission.ts";
import { createHost, type Host, type HostOptions } from "./host.ts";
import { jobImports } from "./job_import.ts";
import { createPlacement } from "./placement.ts";
import { createSchedulerAnswers } from "./scheduler_answers.ts";
import { schedulerIndex } from "./scheduler_index.ts";
import { createSettlement } from "./settlement.ts";
import { createSharing } from "./sharing.ts";
import type { TaskResults } from "./task_results.ts";
import type { ToMember } from "./to_member.ts";
import { createTreeOrders } from "./tree_orders.ts";
import { createWatches } from "./watches.ts";
import { createWorkerLinks } from "./worker_links.ts";

export interface SchedulerOptions {
  readonly states: States;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly defer: (work: () => void) => void;
  /** How long a worker may be away before what it runs is run elsewhere. */
  readonly lostAfterMs: number;
  /** Ended jobs are kept for so long, and at most so many. */
  readonly keepJobsMs: number;
  readonly keepJobsMax: number;
  /** And so many tasks of theirs, but for those of the last minute. */
  readonly keepTasksMax: number;
  /** What tasks came to before. */
  readonly results: TaskResults;
  /** Whether there is room on the disk for new work. */
  readonly hasSpace: () => boolean;
  readonly stepsPerTurn?: number;
  /** See {@link HostOptions.broken}. */
  readonly broken?: HostOptions["broken"];
}

/**
 * The scheduler's process, less its sockets: hosts the scheduler, jobs, tasks and workers; keeps the queue as an index
 * derived from them; speaks with workers in states and with gateways in requests.
 */
export interface Scheduler {
  /** Restores what is saved and takes a new epoch. Resolves when that is durable. */
  start(): Promise<void>;
  /** A worker's connection; its first message is a sync. Call in the turn in which the connection was handed over. */
  attachWorker(connection: Connection): void;
  attachGateway(connection: Connection): void;
  /** Accepts and places nothing more. */
  drain(why: string): Promise<void>;
  /** What is still with workers goes back into the queue, with that reason. */
  putBack(why: string): Promise<void>;
  readonly running: number;
  readonly epoch: number;
  stop(): Promise<void>;
}

/** Messages waiting to be handled at which connections are no longer read. */
const backlogMax = 5_000;
/** That an attempt has started is saved with what is decided next, or by itself after this time: it binds nobody. */
const startedMayWaitMs = 100;
/**
 * While all slots are taken, what comes in is saved with the next result, or by itself after this time: it waits for a
 * slot anyway.
 */
const acceptedMayWaitMsMax = 5;
/** Forgotten jobs and tasks of one turn. */
const forgottenPerTurn = 250;
const retentionMs = 1_000;
/** Whoever waits for a job reads what came of it, however many others have ended. */
const keepMsMin = 60_000;
/** Whoever looks at the clock each second, and finds it so much later, was asleep. */
const asleepMsMin = 30_000;
/** A worker that was given up is listed for so long. */
const keepLostWorkersMs = 3_600_000;

/** Requests that change something: they are decided in a turn, with what else is decided in it. */
const decidedInATurn = [
  "job.accept",
  "job.kill",
  "tree.serve",
  "tree.made",
  "tree.failed",
  "worker.offline",
  "worker.reinstate",
  "settings.set",
] as const;
type DecidedInATurn = typeof decidedInATurn[number];
const isDecidedInATurn = (
  request: SchedulerRequest,
): request is Extract<SchedulerRequest, { type: DecidedInATurn }> =>
  (decidedInATurn as readonly string[]).includes(request.type);

export function createScheduler(options: SchedulerOptions): Scheduler {
  const { states, clock, random, log } = options;
  const index = schedulerIndex();

  const gateways = new Map<string, Connection>();
  let gatewayCount = 0;
  let isStarted = false;
  let stopped = false;
  let cancelRetention = (): void => {};

  // ---- what leaves the process -------------------------------------------------------------------------------------

  const deliver = (to: Address, said: unknown): void => {
    const body = said as ToMember;
    const member = nameOf(to);
    if (body.type === "gateway") return sendGateway(member, body.body, body.re);
    if (body.type === "then") return body.work();
    const workerId = member as WorkerId;
    if (body.type === "worker.full") return workerLinks.answer(workerId, body.link, body.hold, body.drop);
    workerLinks.tell(workerId, body);
  };
  const sendGateway = (gateway: string, body: Answer | Push, re?: number): void => {
    const envelope = (content: Answer | Push) => ({
      ...(re === undefined ? {} : { re }),
      sentAtMs: clock.now(),
      body: content,
    });
    try {
      gateways.get(gateway)?.send(envelope(body));
    } catch (thrown) {
      log.error("Cannot send to a gateway", { gateway, type: body.type, error: asFault(thrown) });
      if (re !== undefined) gateways.get(gateway)?.send(envelope({ type: "fault", fault: faultData(asFault(thrown)) }));
    }
  };
  const answer = (gateway: string, re: number, body: Answer): void =>
    host.say(memberAddress(gateway), { type: "gateway", re, body } satisfies ToMember);

  /** What settled, and needs no memory any more: released at the end of a turn, of which there is one each second. */
  let over: Address[] = [];
  const releaseOver = (): void => {
    if (over.length === 0) return;
    for (const address of over) host.release(address);
    over = [];
  };
  /** Watchers hear what is durable. */
  const committed = (entries: readonly Entry[]): void => {
    watches.committed(entries);
    for (const entry of entries) {
      const kind = kindOf(entry.address);
      if (entry.state === null || (kind !== "job" && kind !== "task")) continue;
      const state = entry.state as State;
      if (kind === "task" ? taskState(state) === "settled" : jobState(state) !== "running") over.push(entry.address);
    }
  };

  // ---- decisions that follow from the whole ------------------------------------------------------------------------

  const decide = (): void => {
    if (!isStarted) return; // what is unsent is heard first, and nobody is here yet
    const atMs = clock.now();
    settlement.giveUp(atMs);
    for (const task of index.settled()) {
      sharing.settled(task);
      settlement.judge(task, atMs);
    }
    for (const taskId of index.wantTrees()) {
      orders.want(taskId);
      const task = taskOf(taskId);
      if (task?.outcome !== undefined) sharing.settled(task); // its run is over: others need not wait for its tree
    }
    for (const taskId of index.arrived()) sharing.arrived(taskId);
    for (const taskId of index.misfits()) {
      index.dequeue(taskId);
      index.queue(taskId, host.state(taskAddress(taskId))!.context as TaskContext);
    }
    if (host.has(schedulerAddress) && admission.isOpen) placement.place(atMs);
    settlement.answerSyncs();
    releaseOver();
  };

  // ---- what gateways ask -------------------------------------------------------------------------------------------

  const decideRequest = (
    gateway: string,
    id: number,
    request: Extract<SchedulerRequest, { type: DecidedInATurn }>,
  ): void => {
    try {
      if (request.type === "job.accept") return accept(gateway, id, request);
      if (request.type === "tree.serve" || request.type === "tree.made" || request.type === "tree.failed") {
        answer(gateway, id, { type: "done" });
        return orders.hear(gateway, request);
      }
      if (request.type !== "job.kill") {
        admission.change(request, memberAddress(gateway));
        return answer(gateway, id, { type: "done" });
      }
      const { jobId, reason } = request;
      if (index.liveJobs.has(jobId)) {
        host.tell(jobAddress(jobId), { type: "job.kill", reason, atMs: clock.now() }, memberAddress(gateway), reason);
        return answer(gateway, id, { type: "done" });
      }
      void answers.needJob(jobId).then(
        () => host.enqueue(() => answer(gateway, id, { type: "done" })),
        (thrown) => host.enqueue(() => refuse(gateway, id, thrown)),
      );
    } catch (thrown) {
      refuse(gateway, id, thrown);
    }
  };
  const accept = (
    gateway: string,
    id: number,
    { job, watch }: Extract<SchedulerRequest, { type: "job.accept" }>,
  ): void => {
    const { jobId, existing } = admission.accept(job);
    const accepted = (): void => answer(gateway, id, { type: "job.accepted", jobId, existing });
    if (watch === undefined) return accepted();
    const task = taskAddress(taskId(jobId, 0));
    if (!existing) {
      watches.await(gateway, watch, jobId, task);
      return accepted();
    }
    // It may be that it was accepted just now, and is not on disk yet.
    const work = (): void =>
      void watches.start(gateway, watch, jobId, 0, task, true).then(
        () => host.enqueue(accepted),
        (thrown) => host.enqueue(() => refuse(gateway, id, thrown)),
      );
    host.say(memberAddress(gateway), { type: "then", work } satisfies ToMember);
  };
  const refuse = (gateway: string, id: number, thrown: unknown): void => {
    const fault = asFault(thrown);
    if (fault.code === "INTERNAL") log.error("Cannot answer a request", { error: fault });
    answer(gateway, id, { type: "fault", fault: faultData(fault) });
  };

  // ---- time --------------------------------------------------------------------------------------------------------

  let awakeAtMs = clock.now();
  /** After the machine slept: what is with workers has the whole time again, for they slept too, or could say nothing. */
  const noteTime = (): void => {
    const atMs = clock.now();
    const sleptMs = atMs - awakeAtMs;
    awakeAtMs = atMs;
    if (sleptMs < asleepMsMin || !isStarted) return;
    for (const tasks of index.onWorker.values()) {
      for (const taskId of tasks) host.tell(taskAddress(taskId), { type: "task.awaited", atMs }, schedulerAddress);
    }
  };

  // ---- forgetting --------------------------------------------------------------------------------------------------

  const retain = (): void => {
    if (stopped) return;
    noteTime();
    const tooOld = clock.now() - options.keepJobsMs;
    let removed = 0;
    while (removed < forgottenPerTurn && index.ended.oldest !== undefined) {
      const { endedAtMs } = index.ended.oldest;
      const why = endedAtMs < tooOld
        ? "It ended longer ago than jobs are kept"
        : index.ended.count > options.keepJobsMax
        ? "More jobs ended since than are kept"
        : index.ended.tasks > options.keepTasksMax && endedAtMs < clock.now() - keepMsMin
        ? "More tasks ended since than are kept"
        : undefined;
      if (why === undefined) break;
      const job = index.forgetOldest();
      host.remove(jobAddress(job.jobId), schedulerAddress, why);
      for (let at = 0; at < job.tasks; at++) host.remove(taskAddress(taskId(job.jobId, at)), schedulerAddress, why);
      removed += 1 + job.tasks;
    }
    for (const workerId of [...index.givenUp]) {
      const { sinceMs } = host.state(workerAddress(workerId))!.context as WorkerContext;
      if (
        index.onWorker.has(workerId) || workerLinks.has(workerId) || sinceMs > clock.now() - keepLostWorkersMs
      ) continue;
      host.remove(workerAddress(workerId), schedulerAddress, "It was given up, and has not come back since");
    }
    if (removed >= forgottenPerTurn) host.enqueue(retain);
    else cancelRetention = clock.at(clock.now() + retentionMs, () => host.enqueue(retain));
  };

  const acceptedMayWaitMs = (): number => {
    const { busy, slots } = index.view;
    return slots > 0 && busy >= slots ? acceptedMayWaitMsMax : 0;
  };

  const host: Host = createHost({
    states,
    kinds: {
      scheduler: { machine: schedulerMachine, version: schedulerVersion },
      job: { machine: jobMachine, version: jobVersion },
      task: { machine: taskMachine, version: taskVersion },
      worker: { machine: workerMachine, version: workerVersion },
    },
    clock,
    log,
    defer: options.defer,
    deliver,
    observe: index.observe,
    keep: index.keep,
    committed,
    decide,
    beforeWaking: () => noteTime(),
    mayWaitMs: {
      entry: ({ cause }) => {
        const { type } = cause.event as { readonly type?: unknown };
        return type === "task.started"
          ? startedMayWaitMs
          : type === "job.create" || type === "task.create"
          ? acceptedMayWaitMs()
          : 0;
      },
      said(said) {
        const message = said as ToMember;
        return message.type === "gateway" && message.body.type === "job.accepted" ? acceptedMayWaitMs() : 0;
      },
    },
    ...(options.stepsPerTurn === undefined ? {} : { stepsPerTurn: options.stepsPerTurn }),
    ...(options.broken === undefined ? {} : { broken: options.broken }),
  });

  const admission = createAdmission({ host, index, clock, random, hasSpace: options.hasSpace });
  const settlement = createSettlement({ host, index, clock, lostAfterMs: options.lostAfterMs });

  const imports = jobImports({
    host,
    states,
    hasSpace: options.hasSpace,
    afterSaving: (work) => host.say(schedulerAddress, { type: "then", work } satisfies ToMember),
    done: (state) => index.noteJob(state, clock.now()),
  });

  /** Of a task that has not settled. */
  const taskOf = (taskId: TaskId): TaskContext | undefined => {
    const state = host.state(taskAddress(taskId));
    return state === undefined || taskState(state) === "settled" ? undefined : state.context as TaskContext;
  };
  const sharing = createSharing({
    results: options.results,
    taskOf,
    isQueued: (taskId) => taskState(host.state(taskAddress(taskId))!) === "queued",
    isThrottled: index.view.isThrottled,
    goesBefore: index.view.goesBefore,
    queue: (taskId) => index.queue(taskId, host.state(taskAddress(taskId))!.context as TaskContext),
    dequeue: index.dequeue,
    follows: (taskId, leader) => placement.follows(taskId, leader),
    settle: (taskId, outcome, cached) =>
      host.tell(taskAddress(taskId), { type: "task.cached", outcome, cached, atMs: clock.now() }, schedulerAddress),
    enqueue: (work) => host.enqueue(work),
  });

  const orders = createTreeOrders({
    taskOf,
    send: (gateway, body) => host.say(memberAddress(gateway), { type: "gateway", body } satisfies ToMember),
    tell: (address, event, gateway) => host.tell(address, event, memberAddress(gateway)),
    now: () => clock.now(),
  });

  const placement = createPlacement(host, index, sharing);

  const watches = createWatches({
    states,
    clock,
    send: (gateway, push) => sendGateway(gateway, push),
    connectionOf: (gateway) => gateways.get(gateway),
    isLive: (jobId) => index.liveJobs.has(jobId),
    needJob: (jobId) => answers.needJob(jobId),
    afterSaving: (gateway, work) =>
      host.enqueue(() => host.say(memberAddress(gateway), { type: "then", work } satisfies ToMember)),
  });

  const workerLinks = createWorkerLinks({
    log,
    epoch: () => host.epoch,
    hear(workerId, link, message) {
      host.enqueue(() => {
        if (workerLinks.takes(workerId, link, message.number)) settlement.hear(workerId, link, message);
      });
      return host.backlog > backlogMax ? host.settled() : undefined;
    },
    left: (workerId) =>
      host.enqueue(() =>
        host.tell(
          workerAddress(workerId),
          { type: "worker.disconnected", atMs: clock.now() },
          memberAddress(workerId),
        )
      ),
  });

  const answers = createSchedulerAnswers({
    host,
    states,
    index,
    clock,
    sharing,
    admission,
    imports,
    watches,
    drain: (why) => scheduler.drain(why),
  });

  /** Does it in a turn; resolves when what it decided is durable. */
  const inTurn = async (work: () => void): Promise<void> => {
    await new Promise<void>((resolve, reject) =>
      host.enqueue(() => {
        try {
          work();
          resolve();
        } catch (thrown) {
          reject(thrown);
        }
      })
    );
    await host.settled();
  };

  const scheduler: Scheduler = {
    async start() {
      await host.restore();
      const torn = index.restored();
      await inTurn(() => {
        const atMs = clock.now();
        host.setEpoch(host.lastEpoch + 1);
        if (!host.has(schedulerAddress)) {
          host.tell(schedulerAddress, { type: "scheduler.create", input: { atMs } }, schedulerAddress);
        }
        host.tell(schedulerAddress, { type: "scheduler.started", epoch: host.epoch, atMs }, schedulerAddress);
        // No worker is connected yet: each has its time to come back.
        for (const workerId of index.workers) {
          host.tell(workerAddress(workerId), { type: "worker.awaited", atMs }, schedulerAddress);
        }
        for (const tasks of index.onWorker.values()) {
          for (const taskId of tasks) {
            host.tell(taskAddress(taskId), { type: "task.awaited", atMs }, schedulerAddress);
          }
        }
        for (const tasks of index.onWorker.values()) for (const taskId of tasks) sharing.runs(taskId);
        isStarted = true;
        for (const address of torn) host.remove(address, schedulerAddress, "Its import ended in a crash");
      });
      awakeAtMs = clock.now();
      retain();
    },
    attachWorker: workerLinks.attach,
    attachGateway(connection) {
      const gateway = `gateway-${++gatewayCount}`;
      gateways.set(gateway, connection);
      connection.onMessage((input) => {
        const id = requestIdOf(input);
        if (id === undefined) throw new Fault("REQUEST_INVALID", "Cannot take a message as a request must have an id");
        let body: SchedulerRequest;
        try {
          ({ body } = parseFromGateway(input));
        } catch (thrown) {
          // The others' connection lives on: on the next one the same would come again.
          log.error("Cannot read a gateway's request", { gateway, error: asFault(thrown) });
          return host.enqueue(() => refuse(gateway, id, thrown));
        }
        if (isDecidedInATurn(body)) {
          host.enqueue(() => decideRequest(gateway, id, body));
        } else {void answers.answer(gateway, body).then((found) =>
            host.enqueue(() => answer(gateway, id, found)), (thrown) =>
            host.enqueue(() => refuse(gateway, id, thrown)));}
        return host.backlog > backlogMax ? host.settled() : undefined;
      });
      void connection.closed.then(() => {
        gateways.delete(gateway);
        imports.leave(gateway);
        watches.leave(gateway);
        host.enqueue(() => orders.leave(gateway));
      });
    },
    drain: (why) =>
      inTurn(() =>
        host.tell(schedulerAddress, { type: "scheduler.drain", why, atMs: clock.now() }, schedulerAddress, why)
      ),
    putBack: (why) =>
      inTurn(() => {
        const atMs = clock.now();
        for (const tasks of index.onWorker.values()) {
          for (const taskId of [...tasks]) {
            const { attempt } = host.state(taskAddress(taskId))!.context as TaskContext;
            host.tell(taskAddress(taskId), { type: "task.putBack", attempt, why, atMs }, schedulerAddress, why);
          }
        }
      }),
    get running() {
      return index.view.busy;
    },
    get epoch() {
      return host.epoch;
    },
    async stop() {
      stopped = true;
      cancelRetention();
      await host.stop();
    },
  };
  return scheduler;
}
