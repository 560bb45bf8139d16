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
import { type JobContext, type JobInput, jobMachine, jobVersion } from "../machines/job.ts";
import { type SchedulerContext, schedulerMachine, schedulerVersion } from "../machines/scheduler.ts";
import { pathOf, type State } from "../machines/step.ts";
import { inputRootOf, type TaskContext, taskMachine, type TaskMessage, taskVersion } from "../machines/task.ts";
import { type WorkerContext, workerMachine, workerVersion } from "../machines/worker.ts";
import type { Log } from "../observability/log.ts";
import {
  type Answer,
  type ClusterView,
  type EncodedJob,
  parseFromGateway,
  type Push,
  type SchedulerRequest,
} from "../protocol/client_messages.ts";
import { productVersion } from "../protocol/version.ts";
import { type FromWorker, type HeldAttempt, parseFromWorker, type ToWorker } from "../protocol/worker_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import { ownCopy } from "../runtime/strings.ts";
import { schedulingView } from "../scheduling/plan.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import type { Connection } from "../transport/transport.ts";
import { createHost, type Host, type HostOptions } from "./host.ts";
import { jobImports } from "./job_import.ts";
import { planJob } from "./job_plan.ts";

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
/** Past changes are read no further while so much waits for a gateway. */
const watchBytesMax = 1024 * 1024;

interface Watch {
  readonly gateway: string;
  readonly id: number;
  readonly jobId: JobId;
  /** Only this actor's changes: the job, or one of its tasks. */
  readonly only?: Address;
  /** While past entries are being read: what came meanwhile. */
  waiting: Entry[] | undefined;
  lastSeq: number;
}

interface WorkerLink {
  readonly connection: Connection;
  /**
   * Whether its sync was answered. Until then nothing is to be held or dropped by it: what leaves late, as the disk was
   * slow, may have been said to an earlier process of the worker.
   */
  isSynced: boolean;
  lastNumber: number;
}

interface Deltas {
  hold: ToWorker["hold"];
  drop: ToWorker["drop"];
  acknowledged: ToWorker["acknowledged"];
}

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
  const view = schedulingView();
  const onWorker = new Map<WorkerId, Set<TaskId>>();
  const workers = new Set<WorkerId>();
  const givenUp = new Set<WorkerId>();
  const jobByKey = new Map<string, JobId>();
  const liveJobs = new Set<JobId>();
  /** Oldest end first. */
  let ended: { readonly jobId: JobId; readonly key: string; readonly endedAtMs: number; readonly tasks: number }[] = [];
  let forgotten = 0;
  /** Jobs from elsewhere that are whole, and what a crash left of others; only while states are restored. */
  const adopted = new Set<JobId>();
  const torn: Address[] = [];

  const links = new Map<WorkerId, WorkerLink>();
  const gateways = new Map<string, Connection>();
  const watches = new Map<JobId, Set<Watch>>();
  /** Of what workers are told: one counter for all of them, so that none is kept for those that are gone. */
  let lastNumber = 0;
  const deltas = new Map<WorkerId, Deltas>();
  /** Syncs to answer. */
  const wantFull = new Map<WorkerId, WorkerLink>();
  let gatewayCount = 0;
  let isStarted = false;
  let stopped = false;
  let cancelRetention = (): void => {};

  // ---- what is derived from the rows -------------------------------------------------------------------------------

  const placeOfTask = (
    state: State | undefined,
  ): { at: "queued" } | { at: "worker"; workerId: WorkerId } | undefined => {
    if (state === undefined) return undefined;
    const name = taskState(state);
    if (name === "queued") return { at: "queued" };
    if (name === "placed" || name === "running" || name === "stopping") {
      return { at: "worker", workerId: (state.context as TaskContext).attempts.at(-1)!.workerId };
    }
    return undefined;
  };
  /** Tasks of one job come together and have one input: one text serves them all. */
  let lastInput = "";
  const sharedInput = (task: TaskContext): string => {
    const input = inputRootOf(task)!;
    if (input !== lastInput) lastInput = ownCopy(input);
    return lastInput;
  };
  const observeTask = (taskId: TaskId, before: State | undefined, after: State | undefined): void => {
    const from = placeOfTask(before);
    const to = placeOfTask(after);
    const task = (after ?? before)!.context as TaskContext;
    if (from?.at === "queued" && to?.at !== "queued") view.dequeue(taskId);
    if (from?.at === "worker" && to?.at !== "worker") {
      view.vacate(from.workerId, task.requestor);
      const tasks = onWorker.get(from.workerId);
      tasks?.delete(taskId);
      if (tasks?.size === 0) onWorker.delete(from.workerId);
    }
    if (to?.at === "queued" && from?.at !== "queued") {
      view.enqueue({
        taskId,
        requestor: task.requestor,
        rank: 2 - task.priority,
        platform: task.platform,
        input: sharedInput(task),
        again: task.attempt > 0,
      });
    }
    if (to?.at === "worker" && from?.at !== "worker") {
      view.occupy(to.workerId, task.requestor, sharedInput(task));
      let tasks = onWorker.get(to.workerId);
      if (tasks === undefined) onWorker.set(to.workerId, tasks = new Set());
      tasks.add(taskId);
    }
  };
  const observeWorker = (gone: WorkerId, after: State | undefined): void => {
    if (after === undefined) {
      workers.delete(gone);
      givenUp.delete(gone);
      return view.removeWorker(gone);
    }
    const { workerId, slots, platform } = after.context as WorkerContext;
    workers.add(workerId);
    const name = pathOf(after.value);
    if (name === "present") view.setWorker({ workerId, slots, platform });
    else view.removeWorker(workerId);
    if (name === "lost") givenUp.add(workerId);
    else givenUp.delete(workerId);
  };
  /** @param adoptedAtMs when it came from another cluster: it is kept from then on, and a key means our own job first. */
  const noteJob = (state: State, adoptedAtMs?: number): void => {
    const job = state.context as JobContext;
    const jobId = ownCopy(job.jobId);
    const key = ownCopy(job.key);
    if (adoptedAtMs === undefined || !jobByKey.has(key)) jobByKey.set(key, jobId);
    if (jobState(state) === "running") liveJobs.add(jobId);
    else {
      liveJobs.delete(jobId);
      ended.push({ jobId, key, endedAtMs: adoptedAtMs ?? job.endedAtMs ?? job.createdAtMs, tasks: job.total });
    }
  };
  const observe = (address: Address, before: State | undefined, after: State | undefined): void => {
    switch (kindOf(address)) {
      case "task":
        return observeTask(nameOf(address) as TaskId, before, after);
      case "worker":
        return observeWorker(nameOf(address) as WorkerId, after);
      case "job":
        if (
          after !== undefined &&
          (before === undefined || (jobState(before) === "running" && jobState(after) !== "running"))
        ) noteJob(after);
    }
  };
  /** What has ended stays on disk alone. Jobs come before tasks in the order of addresses. */
  const keep = (address: Address, state: State, adoptedAtMs: number | undefined): boolean => {
    switch (kindOf(address)) {
      case "job":
        if (jobState(state) === "running") {
          if (adoptedAtMs !== undefined) torn.push(address);
          return adoptedAtMs === undefined;
        }
        noteJob(state, adoptedAtMs);
        if (adoptedAtMs !== undefined) adopted.add((state.context as JobContext).jobId);
        return false;
      case "task":
        if (adoptedAtMs !== undefined) {
          if (!adopted.has(jobOfTask(nameOf(address) as TaskId))) torn.push(address);
          return false;
        }
        return taskState(state) !== "settled";
      default:
        return true;
    }
  };

  // ---- what leaves the process -------------------------------------------------------------------------------------

  const deltasOf = (workerId: WorkerId): Deltas => {
    let found = deltas.get(workerId);
    if (found === undefined) {
      if (deltas.size === 0) queueMicrotask(sendDeltas);
      deltas.set(workerId, found = { hold: [], drop: [], acknowledged: [] });
    }
    return found;
  };
  const sendShould = (workerId: WorkerId, full: boolean, what: Deltas): void => {
    const connection = links.get(workerId)?.connection;
    try {
      connection?.send(
        { type: "worker.should", epoch: host.epoch, number: ++lastNumber, full, ...what } satisfies ToWorker,
      );
    } catch (thrown) {
      log.error("Cannot send to a worker", { worker: workerId, error: asFault(thrown) });
      connection?.close(asFault(thrown));
    }
  };
  const sendDeltas = (): void => {
    for (const [workerId, what] of deltas) sendShould(workerId, false, what);
    deltas.clear();
  };
  const deliver = (to: Address, said: unknown): void => {
    const body = said as ToMember;
    const member = nameOf(to);
    if (body.type === "gateway") return sendGateway(member, body.body, body.re);
    if (body.type === "then") return body.work();
    const workerId = member as WorkerId;
    const link = links.get(workerId);
    if (link === undefined) return; // it will sync when it comes back
    switch (body.type) {
      case "attempt.hold": {
        if (!link.isSynced) return;
        const { taskId, attempt, command, inputRoot, timeoutMs } = body;
        deltasOf(workerId).hold.push({ taskId, attempt, command, inputRoot, timeoutMs });
        return;
      }
      case "attempt.drop":
        if (!link.isSynced) return;
        deltasOf(workerId).drop.push({ taskId: body.taskId, attempt: body.attempt, reason: body.reason });
        return;
      case "attempt.acknowledged":
        deltasOf(workerId).acknowledged.push({ taskId: body.taskId, attempt: body.attempt });
        return;
      case "worker.full": {
        if (body.link !== link) return;
        link.isSynced = true;
        const pending = deltas.get(workerId);
        deltas.delete(workerId);
        sendShould(workerId, true, { hold: body.hold, drop: body.drop, acknowledged: pending?.acknowledged ?? [] });
      }
    }
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
  const push = (watch: Watch, entry: Entry): void => {
    if (entry.seq <= watch.lastSeq || entry.state === null) return;
    watch.lastSeq = entry.seq;
    const { id, gateway } = watch;
    const state = entry.state as State;
    const body: Push = kindOf(entry.address) === "job"
      ? { type: "job.changed", watch: id, seq: entry.seq, atMs: entry.atMs, job: jobView(state) }
      : { type: "task.changed", watch: id, seq: entry.seq, atMs: entry.atMs, task: taskView(state) };
    sendGateway(gateway, body);
  };

  /** Watchers hear what is durable; what settled needs no memory any more. */
  const committed = (entries: readonly Entry[]): void => {
    const over: Address[] = [];
    for (const entry of entries) {
      const kind = kindOf(entry.address);
      if (kind !== "job" && kind !== "task") continue;
      const state = entry.state as State | null;
      if (watches.size > 0) {
        const job = kind === "job" ? nameOf(entry.address) as JobId : jobOfTask(nameOf(entry.address) as TaskId);
        for (const watch of watches.get(job) ?? []) {
          if (watch.only !== undefined && entry.address !== watch.only) continue;
          if (watch.waiting === undefined) push(watch, entry);
          else watch.waiting.push(entry);
        }
      }
      if (state === null) continue;
      if (kind === "task" ? taskState(state) === "settled" : jobState(state) !== "running") {
        over.push(entry.address);
        if (kind === "job") endWatches(nameOf(entry.address) as JobId);
      }
    }
    if (over.length > 0) host.enqueue(() => over.forEach((address) => host.release(address)));
  };
  const endWatches = (jobId: JobId): void => {
    for (const watch of [...watches.get(jobId) ?? []]) if (watch.waiting === undefined) endWatch(watch);
  };
  const endWatch = (watch: Watch): void => {
    if (!watches.get(watch.jobId)?.has(watch)) return;
    unwatch(watch);
    sendGateway(watch.gateway, { type: "watch.end", watch: watch.id });
  };
  const unwatch = (watch: Watch): void => {
    const those = watches.get(watch.jobId);
    those?.delete(watch);
    if (those?.size === 0) watches.delete(watch.jobId);
  };

  // ---- decisions that follow from the whole ------------------------------------------------------------------------

  const isOpen = (): boolean => pathOf(host.state(schedulerAddress)!.value) === "open";
  const decide = (): void => {
    if (!isStarted) return; // what is unsent is heard first, and nobody is here yet
    const atMs = clock.now();
    for (const workerId of givenUp) {
      for (const taskId of onWorker.get(workerId) ?? []) {
        loseAttempt(workerId, taskId, `its worker ${workerId} was lost`, atMs);
      }
    }
    if (view.queued > 0 && host.has(schedulerAddress) && isOpen()) {
      let placed = 0;
      for (let next = view.next(); next !== undefined; next = view.next()) {
        host.tell(
          taskAddress(next.taskId),
          { type: "task.placed", workerId: next.workerId, why: next.why, atMs },
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
    for (const taskId of onWorker.get(workerId) ?? []) {
      const state = host.state(taskAddress(taskId))!;
      const task = state.context as TaskContext;
      const { attempt, command, timeoutMs, stopReason } = task;
      const inputRoot = inputRootOf(task);
      invariant(inputRoot !== undefined, "a task with a worker has its input");
      if (taskState(state) === "stopping") drop.push({ taskId, attempt, reason: stopReason ?? "" });
      else hold.push({ taskId, attempt, command, inputRoot, timeoutMs });
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
    if (links.get(workerId) !== link || message.number <= link.lastNumber) return;
    link.lastNumber = message.number;
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
    for (const taskId of onWorker.get(workerId) ?? []) {
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
    const existing = jobByKey.get(job.key);
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
    const atMs = clock.now();
    const jobId = newJobId(atMs, random.integer(2 ** 30));
    const input: JobInput = { jobId, ...planJob(job), atMs };
    host.tell(jobAddress(jobId), { type: "job.create", input }, memberAddress("gateway"));
    invariant(host.has(jobAddress(jobId)), "a job that is acknowledged is there");
    return { jobId, existing: false };
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
  /** Past entries first, as they are read; what comes meanwhile waits. The answer comes when all past ones were sent. */
  const startWatch = async (
    gateway: string,
    id: number,
    jobId: JobId,
    afterSeq: number,
    only?: Address,
  ): Promise<void> => {
    const watch: Watch = {
      gateway,
      id,
      jobId,
      ...(only === undefined ? {} : { only }),
      waiting: [],
      lastSeq: afterSeq,
    };
    addWatch(watch);
    try {
      if (!liveJobs.has(jobId)) await needJob(jobId);
      if (only !== undefined && only !== jobAddress(jobId) && await states.get(only) === undefined) {
        throw new Fault("TASK_UNKNOWN", `Cannot find task ${nameOf(only)}: its job has no such task`);
      }
      const all = [jobAddress(jobId), `${taskAddress(jobId as unknown as TaskId)}/`];
      for await (const entry of pastOf(only === undefined ? all : [only], afterSeq)) {
        if (!watches.get(jobId)?.has(watch)) return; // unwatched, or its gateway has gone
        push(watch, entry);
        const connection = gateways.get(gateway);
        if (connection !== undefined && connection.bufferedBytes > watchBytesMax) await connection.drained();
      }
      const { waiting } = watch;
      watch.waiting = undefined;
      for (const entry of waiting!) push(watch, entry);
      if (!liveJobs.has(jobId)) {
        host.enqueue(() =>
          host.say(memberAddress(gateway), { type: "then", work: () => endWatch(watch) } satisfies ToMember)
        );
      }
    } catch (thrown) {
      unwatch(watch);
      throw thrown;
    }
  };
  /** The entries of these actors after one, in order; of what the history no longer has, the last state of each. */
  async function* pastOf(addresses: readonly string[], afterSeq: number): AsyncGenerator<Entry> {
    const { firstSeq } = await states.bounds();
    if (firstSeq > afterSeq + 1) {
      const old: Entry[] = [];
      for (const address of addresses) {
        if (address.endsWith("/")) { for await (const entry of states.current(address)) old.push(entry); }
        else old.push(...[await states.get(address as Address)].filter((entry) => entry !== undefined));
      }
      yield* old.filter(({ seq }) => seq > afterSeq && seq < firstSeq).sort((a, b) => a.seq - b.seq);
    }
    const streams = addresses.map((address) => states.history(address, { afterSeq })[Symbol.asyncIterator]());
    try {
      const heads = await Promise.all(streams.map((stream) => stream.next()));
      for (;;) {
        let first = -1;
        for (const [at, head] of heads.entries()) {
          if (!head.done && (first < 0 || head.value.seq < heads[first]!.value.seq)) first = at;
        }
        if (first < 0) return;
        yield heads[first]!.value;
        heads[first] = await streams[first]!.next();
      }
    } finally {
      for (const stream of streams) await stream.return?.();
    }
  }
  const addWatch = (watch: Watch): void => {
    let those = watches.get(watch.jobId);
    if (those === undefined) watches.set(watch.jobId, those = new Set());
    those.add(watch);
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
      jobs: liveJobs.size,
    };
  };
  const listJobs = async (request: Extract<SchedulerRequest, { type: "job.list" }>): Promise<Answer> => {
    // Ids are in the order of time, so the newest come from the end: ended ones and live ones are few enough to sort.
    const ids = [...ended.slice(forgotten).map((job) => job.jobId), ...liveJobs].sort().reverse();
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
          if (entry !== undefined) tasks.push(taskView(entry.state as State, view.outlook(id)));
        }
        return { type: "job.view", seq, job, tasks, ...(end < job.tasks ? { next: end } : {}) };
      }
      case "job.list":
        return await listJobs(request);
      case "job.import":
        return await imports.take(gateway, request);
      case "job.watch":
        await startWatch(
          gateway,
          request.watch,
          request.jobId,
          request.afterSeq,
          request.tasks === false ? jobAddress(request.jobId) : undefined,
        );
        return { type: "done" };
      case "task.watch":
        await startWatch(
          gateway,
          request.watch,
          jobOfTask(request.taskId),
          request.afterSeq,
          taskAddress(request.taskId),
        );
        return { type: "done" };
      case "job.unwatch":
        for (const those of watches.values()) {
          for (const watch of those) if (watch.gateway === gateway && watch.id === request.watch) unwatch(watch);
        }
        return { type: "done" };
      case "worker.list": {
        const list = [...workers].sort().map((workerId) =>
          workerView(host.state(workerAddress(workerId))!, view.busyOn(workerId))
        );
        return { type: "worker.views", workers: list };
      }
      case "cluster.get":
        return { type: "cluster.view", cluster: viewOfCluster() };
      case "cluster.drain":
        await scheduler.drain(request.why);
        return { type: "done" };
      case "job.accept":
      case "job.kill":
        throw new Error("decided in a turn");
    }
  };
  const decideRequest = (
    gateway: string,
    id: number,
    request: Extract<SchedulerRequest, { type: "job.accept" | "job.kill" }>,
  ): void => {
    try {
      if (request.type === "job.accept") {
        const { jobId, existing } = accept(request.job);
        return answer(gateway, id, { type: "job.accepted", jobId, existing });
      }
      const { jobId, reason } = request;
      if (liveJobs.has(jobId)) {
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
    while (removed < forgottenPerTurn && forgotten < ended.length) {
      const job = ended[forgotten]!;
      if (job.endedAtMs >= tooOld && ended.length - forgotten <= options.keepJobsMax) break;
      forgotten++;
      const why = job.endedAtMs < tooOld
        ? "It ended longer ago than jobs are kept"
        : "More jobs ended since than are kept";
      if (jobByKey.get(job.key) === job.jobId) jobByKey.delete(job.key);
      host.remove(jobAddress(job.jobId), schedulerAddress, why);
      for (let index = 0; index < job.tasks; index++) {
        host.remove(taskAddress(`${job.jobId}/${index}` as TaskId), schedulerAddress, why);
      }
      removed += 1 + job.tasks;
    }
    for (const workerId of [...givenUp]) {
      const { sinceMs } = host.state(workerAddress(workerId))!.context as WorkerContext;
      if (onWorker.has(workerId) || links.has(workerId) || sinceMs > clock.now() - keepLostWorkersMs) continue;
      host.remove(workerAddress(workerId), schedulerAddress, "It was given up, and has not come back since");
    }
    if (forgotten > 1_024 && forgotten * 2 > ended.length) {
      ended = ended.slice(forgotten);
      forgotten = 0;
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
    observe,
    keep,
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
    done: (state) => noteJob(state, clock.now()),
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
      ended.sort((a, b) => a.endedAtMs - b.endedAtMs);
      await inTurn(() => {
        const atMs = clock.now();
        host.setEpoch(host.lastEpoch + 1);
        if (!host.has(schedulerAddress)) {
          host.tell(schedulerAddress, { type: "scheduler.create", input: { atMs } }, schedulerAddress);
        }
        host.tell(schedulerAddress, { type: "scheduler.started", epoch: host.epoch, atMs }, schedulerAddress);
        // No worker is connected yet: each has its time to come back.
        for (const workerId of workers) {
          host.tell(workerAddress(workerId), { type: "worker.awaited", atMs }, schedulerAddress);
        }
        for (const tasks of onWorker.values()) {
          for (const taskId of tasks) {
            host.tell(taskAddress(taskId), { type: "task.awaited", atMs }, schedulerAddress);
          }
        }
        isStarted = true;
        for (const address of torn) host.remove(address, schedulerAddress, "Its import ended in a crash");
      });
      adopted.clear();
      torn.length = 0;
      retain();
    },
    attachWorker(connection) {
      const workerId = connection.peer.memberId as WorkerId;
      const link: WorkerLink = { connection, isSynced: false, lastNumber: 0 };
      const other = links.get(workerId)?.connection;
      if (other !== undefined && other.peer.incarnation !== connection.peer.incarnation) {
        return connection.close(
          new Fault(
            "WORKER_ID_TAKEN",
            `Cannot serve worker ${workerId} as its id must be its own: another process, at ${other.remote}, is here by it`,
          ),
        );
      }
      other?.close();
      links.set(workerId, link);
      connection.onMessage((input) => {
        const message = parseFromWorker(input);
        if (message.type === "worker.sync" && message.worker.workerId !== workerId) {
          throw new Fault(
            "REQUEST_INVALID",
            `Cannot take a sync of ${message.worker.workerId} as the connection is that of ${workerId}`,
          );
        }
        host.enqueue(() => hearWorker(workerId, link, message));
        return host.backlog > backlogMax ? host.settled() : undefined;
      });
      void connection.closed.then((why) => {
        if (links.get(workerId) !== link) return;
        links.delete(workerId);
        if (why !== undefined) log.warn("A worker is away", { worker: workerId, why });
        host.enqueue(() =>
          host.tell(
            workerAddress(workerId),
            { type: "worker.disconnected", atMs: clock.now() },
            memberAddress(workerId),
          )
        );
      });
    },
    attachGateway(connection) {
      const gateway = `gateway-${++gatewayCount}`;
      gateways.set(gateway, connection);
      connection.onMessage((input) => {
        const { id, body } = parseFromGateway(input);
        if (id === undefined) {
          throw new Fault("REQUEST_INVALID", `Cannot take ${body.type} as a request must have an id`);
        }
        if (body.type === "job.accept" || body.type === "job.kill") {
          host.enqueue(() => decideRequest(gateway, id, body));
        } else {void handle(gateway, body).then((found) =>
            host.enqueue(() => answer(gateway, id, found)), (thrown) =>
            host.enqueue(() => refuse(gateway, id, thrown)));}
        return host.backlog > backlogMax ? host.settled() : undefined;
      });
      void connection.closed.then(() => {
        gateways.delete(gateway);
        imports.leave(gateway);
        for (const those of [...watches.values()]) {
          for (const watch of those) if (watch.gateway === gateway) unwatch(watch);
        }
      });
    },
    drain: (why) =>
      inTurn(() =>
        host.tell(schedulerAddress, { type: "scheduler.drain", why, atMs: clock.now() }, schedulerAddress, why)
      ),
    putBack: (why) =>
      inTurn(() => {
        const atMs = clock.now();
        for (const tasks of onWorker.values()) {
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
