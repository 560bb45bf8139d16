import { asFault, Fault, faultData } from "../domain/fault.ts";
import {
  type Address,
  attemptAddress,
  jobAddress,
  type JobId,
  jobOfTask,
  kindOf,
  memberAddress,
  nameOf,
  newJobId,
  schedulerAddress,
  taskAddress,
  type TaskId,
  taskId,
  workerAddress,
  type WorkerId,
} from "../domain/ids.ts";
import { invariant } from "../domain/invariant.ts";
import { jobState, jobView, taskState, taskView, workerView } from "../machines/explain.ts";
import { type JobInput, jobMachine, jobVersion } from "../machines/job.ts";
import {
  type SchedulerContext,
  schedulerMachine,
  type SchedulerSettings,
  schedulerVersion,
} from "../machines/scheduler.ts";
import { pathOf, type State } from "../machines/step.ts";
import {
  assignmentOf,
  hasExceededMemory,
  inputRootOf,
  type TaskContext,
  taskMachine,
  type TaskMessage,
  taskVersion,
} from "../machines/task.ts";
import { isSetAside, type WorkerContext, workerMachine, workerVersion } from "../machines/worker.ts";
import { isSuccess } from "../domain/job.ts";
import type { Log } from "../observability/log.ts";
import {
  type Answer,
  type ClusterView,
  type EncodedJob,
  parseFromGateway,
  type Push,
  type SchedulerRequest,
} from "../protocol/client_messages.ts";
import type { Settings } from "../protocol/settings.ts";
import { productVersion } from "../protocol/version.ts";
import { type FromWorker, type HeldAttempt, type ToWorker } from "../protocol/worker_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import { checkPolicy } from "../scheduling/policy.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import type { Connection } from "../transport/transport.ts";
import { createHost, type Host, type HostOptions } from "./host.ts";
import { jobImports } from "./job_import.ts";
import { planJob } from "./job_plan.ts";
import { schedulerIndex } from "./scheduler_index.ts";
import { createSharing } from "./sharing.ts";
import type { TaskResults } from "./task_results.ts";
import { createWatches } from "./watches.ts";
import { whyJob } from "./why.ts";
import { createWorkerLinks, type WorkerLink } from "./worker_links.ts";

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
/** Assignments, and forgotten jobs and tasks, of one turn. */
const placedPerTurn = 500;
const forgottenPerTurn = 250;
const retentionMs = 1_000;
/** A worker that was given up is listed for so long. */
const keepLostWorkersMs = 3_600_000;
/** Tasks in one answer to `job.get`: even with every attempt described they fit into a frame. */
const tasksPerPage = 500;
const leasesPerPage = 2_000;

/** Requests that change something: they are decided in a turn, with what else is decided in it. */
const decidedInATurn = ["job.accept", "job.kill", "worker.offline", "worker.reinstate", "settings.set"] as const;
type DecidedInATurn = typeof decidedInATurn[number];
const isDecidedInATurn = (
  request: SchedulerRequest,
): request is Extract<SchedulerRequest, { type: DecidedInATurn }> =>
  (decidedInATurn as readonly string[]).includes(request.type);

type ToMember =
  | Extract<TaskMessage, { type: `attempt.${string}` }>
  | {
    readonly type: "worker.full";
    readonly link: WorkerLink;
    readonly hold: ToWorker["hold"];
    readonly drop: ToWorker["drop"];
  }
  | { readonly type: "gateway"; readonly re?: number; readonly body: Answer | Push }
  /** Work that must wait until all that was decided before is durable. Never saved. */
  | { readonly type: "then"; readonly work: () => void };

export function createScheduler(options: SchedulerOptions): Scheduler {
  const { states, clock, random, log } = options;
  const index = schedulerIndex();
  const { view } = index;

  const gateways = new Map<string, Connection>();
  /** Syncs to answer. */
  const wantFull = new Map<WorkerId, WorkerLink>();
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

  /** Watchers hear what is durable; what settled needs no memory any more. */
  const committed = (entries: readonly Entry[]): void => {
    watches.committed(entries);
    const over: Address[] = [];
    for (const entry of entries) {
      const kind = kindOf(entry.address);
      if (entry.state === null || (kind !== "job" && kind !== "task")) continue;
      const state = entry.state as State;
      if (kind === "task" ? taskState(state) === "settled" : jobState(state) !== "running") over.push(entry.address);
    }
    if (over.length > 0) host.enqueue(() => over.forEach((address) => host.release(address)));
  };

  // ---- decisions that follow from the whole ------------------------------------------------------------------------

  const isOpen = (): boolean => pathOf(host.state(schedulerAddress)!.value) === "open";
  const decide = (): void => {
    if (!isStarted) return; // what is unsent is heard first, and nobody is here yet
    const atMs = clock.now();
    for (const workerId of index.givenUp) {
      for (const taskId of index.onWorker.get(workerId) ?? []) {
        loseAttempt(workerId, taskId, `its worker ${workerId} was lost`, atMs);
      }
    }
    for (const task of index.settled()) {
      sharing.settled(task);
      judgeWorkers(task, atMs);
    }
    for (const taskId of index.arrived()) sharing.arrived(taskId);
    for (const taskId of index.misfits()) {
      index.dequeue(taskId);
      index.queue(taskId, host.state(taskAddress(taskId))!.context as TaskContext);
    }
    if (view.queued > 0 && host.has(schedulerAddress) && isOpen()) {
      for (const { taskId, why } of view.preemptions(atMs)) {
        const { attempt } = host.state(taskAddress(taskId))!.context as TaskContext;
        host.tell(
          taskAddress(taskId),
          { type: "task.putBack", attempt, why, preempted: true, atMs },
          schedulerAddress,
          why,
        );
      }
      let placed = 0;
      for (let next = view.next(atMs); next !== undefined; next = view.next(atMs)) {
        if (index.takeRestored(next.taskId) && !sharing.mayPlace(next.taskId)) continue;
        const estimate = index.estimateOf(host.state(taskAddress(next.taskId))!.context as TaskContext);
        host.tell(
          taskAddress(next.taskId),
          {
            type: "task.placed",
            workerId: next.workerId,
            why: next.why,
            ...(estimate === undefined ? {} : { estimate }),
            atMs,
          },
          schedulerAddress,
          next.why,
        );
        if (++placed === placedPerTurn) {
          host.enqueue(() => {});
          break;
        }
      }
    }
    for (const [workerId, link] of wantFull) host.say(memberAddress(workerId), fullFor(workerId, link));
    wantFull.clear();
  };
  /** What a task's end says of the workers that it was with: a record that only those have who have failed. */
  const judgeWorkers = ({ attempts, outcome, taskId }: TaskContext, atMs: number): void => {
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
  const loseAttempt = (workerId: WorkerId, taskId: TaskId, why: string, atMs: number): void => {
    const { attempt } = host.state(taskAddress(taskId))!.context as TaskContext;
    host.tell(
      taskAddress(taskId),
      { type: "task.attemptLost", workerId, attempt, why, atMs },
      workerAddress(workerId),
      why,
    );
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
      else hold.push(assignmentOf(task));
    }
    return { type: "worker.full", link, hold, drop };
  };

  // ---- what workers say --------------------------------------------------------------------------------------------

  const hearAttempt = (workerId: WorkerId, held: HeldAttempt): void => {
    const address = taskAddress(held.taskId);
    const from = workerAddress(workerId);
    const { taskId, attempt } = held;
    const atMs = clock.now();
    if (!host.has(address)) {
      // Settled and at rest on disk, or never ours: the worker need not keep it.
      if (held.stage === "ended" || held.stage === "returned") {
        host.say(
          memberAddress(workerId),
          { type: "attempt.acknowledged", to: memberAddress(workerId), taskId, attempt } satisfies ToMember,
        );
      } else {host.say(
          memberAddress(workerId),
          {
            type: "attempt.drop",
            to: memberAddress(workerId),
            taskId,
            attempt,
            reason: "It is settled",
          } satisfies ToMember,
        );}
      return;
    }
    switch (held.stage) {
      case "held":
        if (taskState(host.state(address)!) === "queued") {
          host.tell(address, { type: "task.held", workerId, attempt }, from);
        }
        return;
      case "running": {
        const queued = taskState(host.state(address)!) === "queued";
        const type = queued ? "task.held" : "task.started";
        return host.tell(address, { type, workerId, attempt, startedAtMs: held.startedAtMs }, from);
      }
      case "ended":
        return host.tell(address, { type: "task.ended", workerId, attempt, outcome: held.outcome, atMs }, from);
      case "returned":
        host.tell(address, { type: "task.putBack", attempt, why: held.why, atMs }, from);
        host.say(
          memberAddress(workerId),
          { type: "attempt.acknowledged", to: memberAddress(workerId), taskId, attempt } satisfies ToMember,
        );
    }
  };
  const hearWorker = (workerId: WorkerId, link: WorkerLink, message: FromWorker): void => {
    if (!workerLinks.takes(workerId, link, message.number)) return;
    if (message.type === "worker.report") {
      for (const held of message.attempts) hearAttempt(workerId, held);
      // It is leaving: what it gives back is not to be placed there again.
      if (message.attempts.some(({ stage }) => stage === "returned")) {
        host.tell(
          workerAddress(workerId),
          { type: "worker.disconnected", atMs: clock.now() },
          memberAddress(workerId),
          "It is leaving",
        );
      }
      return;
    }
    const { worker } = message;
    const atMs = clock.now();
    const address = workerAddress(workerId);
    const known = host.state(address);
    const knownWorker = known?.context as WorkerContext | undefined;
    if (known === undefined) {
      host.tell(
        address,
        { type: "worker.create", input: { worker, lostAfterMs: options.lostAfterMs, atMs } },
        memberAddress(workerId),
      );
    } else if (
      pathOf(known.value) !== "present" || knownWorker!.incarnation !== worker.incarnation ||
      knownWorker!.slots !== worker.slots
    ) {
      host.tell(address, { type: "worker.joined", worker, atMs }, memberAddress(workerId));
    }
    const holds = new Set<Address>();
    for (const held of message.attempts) {
      holds.add(attemptAddress(held.taskId, held.attempt));
      hearAttempt(workerId, held);
    }
    const restarted = knownWorker !== undefined && knownWorker.incarnation !== worker.incarnation;
    for (const taskId of index.onWorker.get(workerId) ?? []) {
      const state = host.state(taskAddress(taskId))!;
      // The result of an earlier attempt may be all that it has of the task.
      if (holds.has(attemptAddress(taskId, (state.context as TaskContext).attempt))) continue;
      if (restarted) loseAttempt(workerId, taskId, `its worker ${workerId} restarted`, atMs);
      else if (taskState(state) === "running") {
        loseAttempt(workerId, taskId, `its worker ${workerId} no longer knows of it`, atMs);
      }
    }
    wantFull.set(workerId, link);
  };

  // ---- what gateways ask -------------------------------------------------------------------------------------------

  const accept = (job: EncodedJob): { jobId: JobId; existing: boolean } => {
    const existing = index.jobByKey.get(job.key);
    if (existing !== undefined) return { jobId: existing, existing: true };
    if (!isOpen()) {
      throw new Fault("DRAINING", "Cannot accept a job as this cluster is stopping: submit it again when it is back");
    }
    if (!options.hasSpace()) {
      throw new Fault(
        "NO_SPACE",
        "Cannot accept a job as less than 5 % of the disk is free: free some, then submit it again",
      );
    }
    checkLimits(job);
    const atMs = clock.now();
    const replaced = job.basis === "" ? undefined : index.jobOfBasis(job.requestor, job.basis);
    const jobId = newJobId(atMs, random.integer(2 ** 30));
    const input: JobInput = { jobId, ...planJob(job), atMs };
    host.tell(jobAddress(jobId), { type: "job.create", input }, memberAddress("gateway"));
    invariant(host.has(jobAddress(jobId)), "a job that is acknowledged is there");
    if (replaced !== undefined) {
      const reason = `Job ${jobId} of the same requestor and basis replaces it`;
      host.tell(jobAddress(replaced), { type: "job.kill", reason, atMs }, schedulerAddress, reason);
    }
    return { jobId, existing: false };
  };
  const settings = (): SchedulerSettings => (host.state(schedulerAddress)!.context as SchedulerContext).settings;
  /** @throws {Fault} `LIMIT_EXCEEDED` naming the limit and the value. */
  const checkLimits = ({ requestor, tasks }: EncodedJob): void => {
    const { limits } = settings();
    const refuse = (what: string, limit: string, value: number): never => {
      throw new Fault("LIMIT_EXCEEDED", `Cannot accept a job as ${what} (${limit}): current value is ${value}`);
    };
    if (tasks.length > limits.tasksPerJob) {
      refuse(`it may have ${limits.tasksPerJob} tasks`, "limits.tasksPerJob", tasks.length);
    }
    const jobs = index.jobsOf.get(requestor) ?? 0;
    if (jobs >= limits.jobsPerRequestor) {
      refuse(
        `requestor "${requestor}" may have ${limits.jobsPerRequestor} jobs that have not ended`,
        "limits.jobsPerRequestor",
        jobs,
      );
    }
    if (jobs === 0 && index.jobsOf.size >= limits.requestors) {
      refuse(`${limits.requestors} requestors may have jobs at once`, "limits.requestors", index.jobsOf.size);
    }
  };
  const needJob = async (jobId: JobId): Promise<Entry> => {
    const entry = await states.get(jobAddress(jobId));
    if (entry === undefined || imports.has(jobId)) {
      throw new Fault(
        "JOB_UNKNOWN",
        `Cannot find job ${jobId}: it was never accepted here, or is older than what is kept`,
      );
    }
    return entry;
  };
  const viewOfCluster = (): ClusterView => {
    const { epoch, startedAtMs } = host.state(schedulerAddress)!.context as SchedulerContext;
    return {
      version: productVersion,
      epoch,
      state: isOpen() ? "open" : "draining",
      startedAtMs,
      workers: view.workers,
      slots: view.slots,
      busy: view.busy,
      queued: view.queued,
      jobs: index.liveJobs.size,
    };
  };
  /** Settled tasks are passed over in bounded pieces, so that nobody waits for long. */
  const leasesAfter = async (after?: string): Promise<Answer> => {
    const leases: Extract<Answer, { type: "task.leases" }>["leases"] = [];
    let looked = 0;
    let last = "";
    const { lastSeq } = await states.bounds();
    for await (const { address, state } of states.cut(lastSeq, "task/", after)) {
      if (looked++ === leasesPerPage) return { type: "task.leases", leases, next: last };
      last = address;
      const name = taskState(state as State);
      if (name === "settled") continue;
      const task = (state as State).context as TaskContext;
      const input = inputRootOf(task);
      leases.push({
        state: name === "queued" || name === "waiting" ? "queued" : "running",
        command: task.command,
        ...(input === undefined ? {} : { input }),
      });
    }
    return { type: "task.leases", leases };
  };
  const listJobs = async (request: Extract<SchedulerRequest, { type: "job.list" }>): Promise<Answer> => {
    // Ids are in the order of time, so the newest come from the end: ended ones and live ones are few enough to sort.
    const ids = [...index.ended.ids(), ...index.liveJobs].sort().reverse();
    const jobs: ReturnType<typeof jobView>[] = [];
    for (const jobId of ids) {
      if (jobs.length === request.limit) break;
      if (request.before !== undefined && jobId >= request.before) continue;
      const entry = await states.get(jobAddress(jobId));
      if (entry === undefined) continue;
      const found = jobView(entry.state as State);
      if (request.state === undefined || found.state === request.state) jobs.push(found);
    }
    return { type: "job.views", jobs };
  };
  const handle = async (gateway: string, request: SchedulerRequest): Promise<Answer> => {
    switch (request.type) {
      case "job.get": {
        const { seq, state } = await needJob(request.jobId);
        const job = jobView(state as State);
        const tasks: ReturnType<typeof taskView>[] = [];
        const from = request.tasksFrom ?? 0;
        const end = Math.min(job.tasks, from + tasksPerPage);
        for (let index = from; index < end; index++) {
          const id = taskId(request.jobId, index);
          const entry = await states.get(taskAddress(id));
          if (entry !== undefined) {
            tasks.push(taskView(entry.state as State, view.outlook(id, clock.now()), sharing.followed(id)));
          }
        }
        return { type: "job.view", seq, job, tasks, ...(end < job.tasks ? { next: end } : {}) };
      }
      case "job.why":
        await host.settled(); // what is decided is what is told of
        await needJob(request.jobId);
        return await whyJob(
          states,
          request.jobId,
          { outlook: (id) => view.outlook(id, clock.now()), followed: sharing.followed },
          request.atMs,
        );
      case "job.list":
        return await listJobs(request);
      case "job.import":
        return await imports.take(gateway, request);
      case "job.watch":
        await watches.start(
          gateway,
          request.watch,
          request.jobId,
          request.afterSeq,
          request.tasks === false ? jobAddress(request.jobId) : undefined,
        );
        return { type: "done" };
      case "task.watch":
        await watches.start(
          gateway,
          request.watch,
          jobOfTask(request.taskId),
          request.afterSeq,
          taskAddress(request.taskId),
        );
        return { type: "done" };
      case "job.unwatch":
        watches.stop(gateway, request.watch);
        return { type: "done" };
      case "worker.list": {
        const list = [...index.workers].sort().map((workerId) =>
          workerView(host.state(workerAddress(workerId))!, view.busyOn(workerId))
        );
        return { type: "worker.views", workers: list };
      }
      case "cluster.get":
        return { type: "cluster.view", cluster: viewOfCluster() };
      case "cluster.drain":
        await scheduler.drain(request.why);
        return { type: "done" };
      case "task.leases":
        return await leasesAfter(request.after);
      case "settings.get":
        return { type: "settings.view", settings: settings() as Settings };
      case "job.accept":
      case "job.kill":
      case "worker.offline":
      case "worker.reinstate":
      case "settings.set":
        throw new Error("decided in a turn");
    }
  };
  const decideRequest = (
    gateway: string,
    id: number,
    request: Extract<SchedulerRequest, { type: DecidedInATurn }>,
  ): void => {
    try {
      if (request.type === "job.accept") {
        const { jobId, existing } = accept(request.job);
        return answer(gateway, id, { type: "job.accepted", jobId, existing });
      }
      if (request.type !== "job.kill") {
        change(gateway, request);
        return answer(gateway, id, { type: "done" });
      }
      const { jobId, reason } = request;
      if (index.liveJobs.has(jobId)) {
        host.tell(jobAddress(jobId), { type: "job.kill", reason, atMs: clock.now() }, memberAddress(gateway), reason);
        return answer(gateway, id, { type: "done" });
      }
      void needJob(jobId).then(
        () => host.enqueue(() => answer(gateway, id, { type: "done" })),
        (thrown) => host.enqueue(() => refuse(gateway, id, thrown)),
      );
    } catch (thrown) {
      refuse(gateway, id, thrown);
    }
  };
  /** What an operator changes. @throws {Fault} `WORKER_UNKNOWN`, `REQUEST_INVALID` */
  const change = (
    gateway: string,
    request: Extract<SchedulerRequest, { type: "worker.offline" | "worker.reinstate" | "settings.set" }>,
  ): void => {
    const atMs = clock.now();
    const from = memberAddress(gateway);
    if (request.type === "settings.set") {
      const { policy, limits } = request.settings;
      const settings = { policy: checkPolicy(policy), limits };
      host.tell(schedulerAddress, { type: "scheduler.set", settings, atMs }, from, request.reason);
      return;
    }
    const { workerId, type, reason } = request;
    if (!index.workers.has(workerId)) {
      throw new Fault("WORKER_UNKNOWN", `Cannot find worker ${workerId}: this scheduler knows none by that id`);
    }
    host.tell(workerAddress(workerId), { type, reason, atMs }, from, reason);
  };
  const refuse = (gateway: string, id: number, thrown: unknown): void => {
    const fault = asFault(thrown);
    if (fault.code === "INTERNAL") log.error("Cannot answer a request", { error: fault });
    answer(gateway, id, { type: "fault", fault: faultData(fault) });
  };

  // ---- forgetting --------------------------------------------------------------------------------------------------

  const retain = (): void => {
    if (stopped) return;
    const tooOld = clock.now() - options.keepJobsMs;
    let removed = 0;
    while (removed < forgottenPerTurn && index.ended.oldest !== undefined) {
      const isOld = index.ended.oldest.endedAtMs < tooOld;
      if (!isOld && index.ended.count <= options.keepJobsMax) break;
      const job = index.forgetOldest();
      const why = isOld ? "It ended longer ago than jobs are kept" : "More jobs ended since than are kept";
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
    ...(options.stepsPerTurn === undefined ? {} : { stepsPerTurn: options.stepsPerTurn }),
    ...(options.broken === undefined ? {} : { broken: options.broken }),
  });

  const imports = jobImports({
    host,
    states,
    hasSpace: options.hasSpace,
    afterSaving: (work) => host.say(schedulerAddress, { type: "then", work } satisfies ToMember),
    done: (state) => index.noteJob(state, clock.now()),
  });

  const sharing = createSharing({
    results: options.results,
    taskOf(taskId) {
      const state = host.state(taskAddress(taskId));
      return state === undefined || taskState(state) === "settled" ? undefined : state.context as TaskContext;
    },
    queue: (taskId) => index.queue(taskId, host.state(taskAddress(taskId))!.context as TaskContext),
    dequeue: index.dequeue,
    settle: (taskId, outcome, cached) =>
      host.tell(taskAddress(taskId), { type: "task.cached", outcome, cached, atMs: clock.now() }, schedulerAddress),
    enqueue: (work) => host.enqueue(work),
  });

  const watches = createWatches({
    states,
    send: (gateway, push) => sendGateway(gateway, push),
    connectionOf: (gateway) => gateways.get(gateway),
    isLive: (jobId) => index.liveJobs.has(jobId),
    needJob,
    afterSaving: (gateway, work) =>
      host.enqueue(() => host.say(memberAddress(gateway), { type: "then", work } satisfies ToMember)),
  });

  const workerLinks = createWorkerLinks({
    log,
    epoch: () => host.epoch,
    hear(workerId, link, message) {
      host.enqueue(() => hearWorker(workerId, link, message));
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
      retain();
    },
    attachWorker: workerLinks.attach,
    attachGateway(connection) {
      const gateway = `gateway-${++gatewayCount}`;
      gateways.set(gateway, connection);
      connection.onMessage((input) => {
        const { id, body } = parseFromGateway(input);
        if (id === undefined) {
          throw new Fault("REQUEST_INVALID", `Cannot take ${body.type} as a request must have an id`);
        }
        if (isDecidedInATurn(body)) {
          host.enqueue(() => decideRequest(gateway, id, body));
        } else {void handle(gateway, body).then((found) =>
            host.enqueue(() => answer(gateway, id, found)), (thrown) =>
            host.enqueue(() => refuse(gateway, id, thrown)));}
        return host.backlog > backlogMax ? host.settled() : undefined;
      });
      void connection.closed.then(() => {
        gateways.delete(gateway);
        imports.leave(gateway);
        watches.leave(gateway);
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
      return view.busy;
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
