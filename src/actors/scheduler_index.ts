import { type Address, type JobId, jobOfTask, kindOf, nameOf, type TaskId, type WorkerId } from "../domain/ids.ts";
import { jobState, taskState } from "../machines/explain.ts";
import type { JobContext } from "../machines/job.ts";
import type { SchedulerContext } from "../machines/scheduler.ts";
import { pathOf, type State } from "../machines/step.ts";
import { inputRootOf, type TaskContext } from "../machines/task.ts";
import { type Estimate, isSuccess } from "../domain/job.ts";
import { isSetAside, whyAside, type WorkerContext } from "../machines/worker.ts";
import { ownCopy } from "../runtime/strings.ts";
import { createEstimates, createGuessedNeeds } from "../scheduling/estimates.ts";
import { type SchedulingView, schedulingView } from "../scheduling/plan.ts";

/** A job that has ended: what is needed to find it by its key and to forget it in time. */
export interface EndedJob {
  readonly jobId: JobId;
  readonly key: string;
  readonly endedAtMs: number;
  readonly tasks: number;
}

/**
 * What the scheduler finds its way by: derived from the rows of jobs, tasks and workers as they change, rebuilt at a
 * restart, never saved.
 */
export interface SchedulerIndex {
  readonly view: SchedulingView;
  /** Tasks that are with a worker, also with one that is away. */
  readonly onWorker: ReadonlyMap<WorkerId, ReadonlySet<TaskId>>;
  readonly workers: ReadonlySet<WorkerId>;
  /** Workers that were given up for lost and have not come back. */
  readonly givenUp: ReadonlySet<WorkerId>;
  readonly jobByKey: ReadonlyMap<string, JobId>;
  readonly liveJobs: ReadonlySet<JobId>;
  /** How many of {@link liveJobs} each requestor has. */
  readonly jobsOf: ReadonlyMap<string, number>;
  /** The live job of that requestor and basis. */
  jobOfBasis(requestor: string, basis: string): JobId | undefined;
  readonly ended: {
    readonly oldest: EndedJob | undefined;
    readonly count: number;
    /** Of all of them. */
    readonly tasks: number;
    ids(): readonly JobId[];
  };
  /** The one that ended longest ago is then known no more. */
  forgetOldest(): EndedJob;
  /** Tasks that became queued for the first time and may share a result, until the next call. They are not in the view. */
  arrived(): readonly TaskId[];
  /** Tasks that settled, until the next call. */
  settled(): readonly TaskContext[];
  /** Tasks that came to want a tree, until the next call. */
  wantTrees(): readonly TaskId[];
  /** The task may be placed. */
  queue(taskId: TaskId, task: TaskContext): void;
  /** It may not, for now. */
  dequeue(taskId: TaskId): void;
  /** Queued tasks that were guessed to need more memory than any worker has now, until the next call: queue them anew. */
  misfits(): readonly TaskId[];
  /** What it will take, by what tasks like it took that this scheduler still keeps. */
  estimateOf(task: TaskContext): Estimate | undefined;
  /** True once for a task that was queued by a restart: nobody has looked yet whether its result is known. */
  takeRestored(taskId: TaskId): boolean;
  /** For the host: an actor's state changed. */
  observe(address: Address, before: State | undefined, after: State | undefined): void;
  /** For the host, while it restores: whether the actor stays in memory. What has ended stays on disk alone. */
  keep(address: Address, state: State, adoptedAtMs: number | undefined): boolean;
  /** After {@link keep} was asked of all: what a crash left of jobs that were being imported. */
  restored(): readonly Address[];
  /** @param adoptedAtMs when it came from another cluster: it is kept from then on, and a key means our own job first. */
  noteJob(state: State, adoptedAtMs?: number): void;
}

const rankOf = ({ priority }: TaskContext): number => 2 - priority;

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

const wantsTree = (state: State): boolean => {
  const path = pathOf(state.value);
  return path === "mounting" || path === "overlaying";
};

export function schedulerIndex(): SchedulerIndex {
  const view = schedulingView();
  const onWorker = new Map<WorkerId, Set<TaskId>>();
  const workers = new Set<WorkerId>();
  const givenUp = new Set<WorkerId>();
  const jobByKey = new Map<string, JobId>();
  const liveJobs = new Set<JobId>();
  const jobsOf = new Map<string, number>();
  const byBasis = new Map<string, JobId>();
  const basisKey = (requestor: string, basis: string): string => JSON.stringify([requestor, basis]);
  let ended: EndedJob[] = [];
  let forgotten = 0;
  let endedTasks = 0;
  /** Jobs from elsewhere that are whole, and what a crash left of others; only while states are restored. */
  const adopted = new Set<JobId>();
  const torn: Address[] = [];

  let isRestored = false;
  const restoredTasks = new Set<TaskId>();
  let arrivals: TaskId[] = [];
  let settlements: TaskContext[] = [];
  let wanting: TaskId[] = [];

  /** Tasks of one job come together and have one input: one text serves them all. */
  let lastInput = "";
  const sharedInput = (task: TaskContext): string => {
    const input = inputRootOf(task)!;
    if (input !== lastInput) lastInput = ownCopy(input);
    return lastInput;
  };
  const estimates = createEstimates();
  const guesses = createGuessedNeeds();
  /** What it declared; a task that said nothing of memory is given room for what tasks like it took. */
  const needsOf = (task: TaskContext): TaskContext["needs"] => {
    if (task.needs?.memoryBytes !== undefined) return task.needs;
    const peak = estimates.of(task)?.peakMemoryBytes;
    const memoryBytes = peak === undefined ? undefined : guesses.needOf(task.platform, peak);
    return memoryBytes === undefined ? task.needs : { ...task.needs, memoryBytes };
  };
  const learn = ({ name, platform, outcome, cached }: TaskContext): void => {
    if (outcome?.kind !== "exited" || !isSuccess(outcome) || cached !== undefined) return;
    const { startedAtMs, endedAtMs, usage } = outcome;
    if (startedAtMs === undefined || endedAtMs === undefined) return;
    const durationMs = Math.max(0, endedAtMs - startedAtMs);
    estimates.observe(
      { name, platform },
      usage === undefined ? { durationMs } : { durationMs, peakMemoryBytes: usage.peakMemoryBytes },
    );
  };
  const dequeue = (taskId: TaskId): void => {
    view.dequeue(taskId);
    guesses.gone(taskId);
  };
  const queue = (taskId: TaskId, task: TaskContext): void => {
    const needs = needsOf(task);
    if (needs !== task.needs) guesses.queued(taskId, task.platform, needs!.memoryBytes!);
    view.enqueue({
      taskId,
      requestor: task.requestor,
      rank: rankOf(task),
      platform: task.platform,
      input: sharedInput(task),
      basis: task.basis,
      needs,
      again: task.attempt > 0,
      queuedAtMs: task.queuedAtMs,
      told: task.unmet !== undefined,
    });
  };
  const observeTask = (taskId: TaskId, before: State | undefined, after: State | undefined): void => {
    const from = placeOfTask(before);
    const to = placeOfTask(after);
    const task = (after ?? before)!.context as TaskContext;
    if (from?.at === "queued" && to?.at !== "queued") {
      dequeue(taskId);
      restoredTasks.delete(taskId);
    }
    if (from?.at === "worker" && to?.at !== "worker") {
      view.vacate(taskId);
      const tasks = onWorker.get(from.workerId);
      tasks?.delete(taskId);
      if (tasks?.size === 0) onWorker.delete(from.workerId);
    }
    if (after !== undefined && wantsTree(after) && (before === undefined || !wantsTree(before))) wanting.push(taskId);
    if (to?.at === "queued" && from?.at !== "queued") {
      const shares = task.cache === "use" && task.attempt === 0;
      if (shares && isRestored) arrivals.push(taskId);
      else queue(taskId, task);
      if (task.cache === "use" && !isRestored) restoredTasks.add(taskId);
    }
    if (
      before !== undefined && taskState(before) !== "settled" && (after === undefined || taskState(after) === "settled")
    ) {
      settlements.push(task);
      learn(task);
    }
    if (to?.at === "worker" && from?.at !== "worker") {
      const { requestor, basis } = task;
      const needs = needsOf(task);
      view.occupy(to.workerId, { taskId, requestor, rank: rankOf(task), input: sharedInput(task), basis, needs });
      let tasks = onWorker.get(to.workerId);
      if (tasks === undefined) onWorker.set(to.workerId, tasks = new Set());
      tasks.add(taskId);
    }
  };
  const observeWorker = (gone: WorkerId, after: State | undefined): void => {
    if (after === undefined) {
      workers.delete(gone);
      givenUp.delete(gone);
      guesses.removeWorker(gone);
      return view.removeWorker(gone);
    }
    const worker = after.context as WorkerContext;
    const { workerId, slots, platform, cpuMillis, memoryBytes } = worker;
    workers.add(workerId);
    const name = pathOf(after.value);
    if (name === "present" && !isSetAside(worker)) {
      const has = {
        ...(cpuMillis === undefined ? {} : { cpuMillis }),
        ...(memoryBytes === undefined ? {} : { memoryBytes }),
      };
      view.setWorker({ workerId, slots, platform, ...has });
      guesses.setWorker(workerId, { platform, ...has });
    } else {
      view.removeWorker(workerId, name === "present" ? whyAside(worker) : undefined);
      guesses.removeWorker(workerId);
    }
    if (name === "lost") givenUp.add(workerId);
    else givenUp.delete(workerId);
  };
  const noteJob = (state: State, adoptedAtMs?: number): void => {
    const job = state.context as JobContext;
    const jobId = ownCopy(job.jobId);
    const key = ownCopy(job.key);
    if (adoptedAtMs === undefined || !jobByKey.has(key)) jobByKey.set(key, jobId);
    const basis = job.basis === undefined ? undefined : basisKey(job.requestor, job.basis);
    if (jobState(state) === "running") {
      liveJobs.add(jobId);
      const requestor = ownCopy(job.requestor);
      jobsOf.set(requestor, (jobsOf.get(requestor) ?? 0) + 1);
      if (basis !== undefined) byBasis.set(basis, jobId);
    } else {
      if (liveJobs.delete(jobId)) {
        const left = jobsOf.get(job.requestor)! - 1;
        if (left === 0) jobsOf.delete(job.requestor);
        else jobsOf.set(job.requestor, left);
        if (basis !== undefined && byBasis.get(basis) === jobId) byBasis.delete(basis);
      }
      ended.push({ jobId, key, endedAtMs: adoptedAtMs ?? job.endedAtMs ?? job.createdAtMs, tasks: job.total });
      endedTasks += job.total;
    }
  };

  return {
    view,
    onWorker,
    workers,
    givenUp,
    jobByKey,
    liveJobs,
    jobsOf,
    jobOfBasis: (requestor, basis) => byBasis.get(basisKey(requestor, basis)),
    noteJob,
    ended: {
      get oldest() {
        return ended[forgotten];
      },
      get count() {
        return ended.length - forgotten;
      },
      get tasks() {
        return endedTasks;
      },
      ids: () => ended.slice(forgotten).map(({ jobId }) => jobId),
    },
    forgetOldest() {
      const job = ended[forgotten++]!;
      endedTasks -= job.tasks;
      if (jobByKey.get(job.key) === job.jobId) jobByKey.delete(job.key);
      if (forgotten > 1_024 && forgotten * 2 > ended.length) {
        ended = ended.slice(forgotten);
        forgotten = 0;
      }
      return job;
    },
    arrived() {
      const those = arrivals;
      if (those.length > 0) arrivals = [];
      return those;
    },
    settled() {
      const those = settlements;
      if (those.length > 0) settlements = [];
      return those;
    },
    wantTrees() {
      const those = wanting;
      if (those.length > 0) wanting = [];
      return those;
    },
    queue,
    dequeue,
    misfits: guesses.misfits,
    estimateOf: (task) => estimates.of(task),
    takeRestored: (taskId) => restoredTasks.delete(taskId),
    observe(address, before, after) {
      switch (kindOf(address)) {
        case "task":
          return observeTask(nameOf(address) as TaskId, before, after);
        case "scheduler": {
          const policyOf = (state: State | undefined) =>
            (state?.context as SchedulerContext | undefined)?.settings.policy;
          const policy = policyOf(after);
          if (policy !== undefined && policy !== policyOf(before)) view.setPolicy(policy);
          return;
        }
        case "worker":
          return observeWorker(nameOf(address) as WorkerId, after);
        case "job":
          if (
            after !== undefined &&
            (before === undefined || (jobState(before) === "running" && jobState(after) !== "running"))
          ) noteJob(after);
      }
    },
    /** Jobs come before tasks in the order of addresses. */
    keep(address, state, adoptedAtMs) {
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
          if (taskState(state) !== "settled") return true;
          learn(state.context as TaskContext);
          return false;
        default:
          return true;
      }
    },
    restored() {
      isRestored = true;
      ended.sort((a, b) => a.endedAtMs - b.endedAtMs);
      adopted.clear();
      return torn.splice(0);
    },
  };
}
