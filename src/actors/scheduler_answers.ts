import { Fault } from "../domain/fault.ts";
import {
  jobAddress,
  type JobId,
  jobOfTask,
  schedulerAddress,
  taskAddress,
  taskId,
  workerAddress,
} from "../domain/ids.ts";
import { jobView, taskState, taskView, workerView } from "../machines/explain.ts";
import type { SchedulerContext } from "../machines/scheduler.ts";
import type { State } from "../machines/step.ts";
import { type TaskContext, treesOf } from "../machines/task.ts";
import type { Answer, ClusterView, JobView, SchedulerRequest, TaskView } from "../protocol/client_messages.ts";
import type { Settings } from "../protocol/settings.ts";
import { productVersion } from "../protocol/version.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import type { Admission, OperatorRequest } from "./admission.ts";
import type { Host } from "./host.ts";
import type { JobImports } from "./job_import.ts";
import type { SchedulerIndex } from "./scheduler_index.ts";
import type { Sharing } from "./sharing.ts";
import type { Watches } from "./watches.ts";
import { whyJob } from "./why.ts";

/** Tasks in one answer to `job.get`: even with every attempt described they fit into a frame. */
const tasksPerPage = 500;
const leasesPerPage = 2_000;
/** A page ends after so many trees: as many as its tasks have, unless they are made of many. */
const treesPerPage = 20_000;

/** Requests that are answered from what is, outside of any turn. */
export type Question = Exclude<
  SchedulerRequest,
  OperatorRequest | { type: "job.accept" | "job.kill" | "tree.serve" | "tree.made" | "tree.failed" }
>;

export interface SchedulerAnswers {
  /** @throws {Fault} `JOB_UNKNOWN`, `TASK_UNKNOWN`, `REQUEST_INVALID`, and what an import throws. */
  answer(gateway: string, question: Question): Promise<Answer>;
  /** @throws {Fault} `JOB_UNKNOWN`, also for a job that is still being imported. */
  needJob(jobId: JobId): Promise<Entry>;
}

export interface SchedulerAnswersOptions {
  readonly host: Host;
  readonly states: States;
  readonly index: SchedulerIndex;
  readonly clock: Clock;
  readonly sharing: Sharing;
  readonly admission: Admission;
  readonly imports: JobImports;
  readonly watches: Watches;
  readonly drain: (why: string) => Promise<void>;
}

export function createSchedulerAnswers(options: SchedulerAnswersOptions): SchedulerAnswers {
  const { host, states, index, clock, sharing, admission, imports, watches } = options;
  const { view } = index;

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
  const getJob = async ({ jobId, tasksFrom = 0 }: Extract<Question, { type: "job.get" }>): Promise<Answer> => {
    const { seq, state } = await needJob(jobId);
    const job = jobView(state as State);
    const tasks: TaskView[] = [];
    const end = Math.min(job.tasks, tasksFrom + tasksPerPage);
    for (let at = tasksFrom; at < end; at++) {
      const id = taskId(jobId, at);
      const entry = await states.get(taskAddress(id));
      if (entry === undefined) continue;
      tasks.push(taskView(entry.state as State, view.outlook(id, clock.now()), sharing.followed(id)));
    }
    return { type: "job.view", seq, job, tasks, ...(end < job.tasks ? { next: end } : {}) };
  };
  const listJobs = async ({ limit, before, state }: Extract<Question, { type: "job.list" }>): Promise<Answer> => {
    // Ids are in the order of time, so the newest come from the end: ended ones and live ones are few enough to sort.
    const ids = [...index.ended.ids(), ...index.liveJobs].sort().reverse();
    const jobs: JobView[] = [];
    for (const jobId of ids) {
      if (jobs.length === limit) break;
      if (before !== undefined && jobId >= before) continue;
      const entry = await states.get(jobAddress(jobId));
      if (entry === undefined) continue;
      const found = jobView(entry.state as State);
      if (state === undefined || found.state === state) jobs.push(found);
    }
    return { type: "job.views", jobs };
  };
  /** Settled tasks are passed over in bounded pieces, so that nobody waits for long. */
  const leasesAfter = async (after?: string): Promise<Answer> => {
    const leases: Extract<Answer, { type: "task.leases" }>["leases"] = [];
    let looked = 0;
    let trees = 0;
    let last = "";
    const { lastSeq } = await states.bounds();
    for await (const { address, state: saved } of states.cut(lastSeq, "task/", after)) {
      if (looked++ === leasesPerPage || trees >= treesPerPage) return { type: "task.leases", leases, next: last };
      last = address;
      const name = taskState(saved as State);
      if (name === "settled") continue;
      const task = (saved as State).context as TaskContext;
      const inputs = [...treesOf(task)];
      trees += inputs.length;
      const state = name === "queued" || name === "waiting" ? "queued" : "running";
      const action = task.action === undefined ? {} : { action: task.action.digest };
      leases.push({ state, command: task.command, inputs, ...action });
    }
    return { type: "task.leases", leases };
  };
  const viewOfCluster = (): ClusterView => {
    const { epoch, startedAtMs } = host.state(schedulerAddress)!.context as SchedulerContext;
    return {
      version: productVersion,
      epoch,
      state: admission.isOpen ? "open" : "draining",
      startedAtMs,
      workers: view.workers,
      slots: view.slots,
      busy: view.busy,
      queued: view.queued,
      jobs: index.liveJobs.size,
    };
  };

  return {
    needJob,
    async answer(gateway, question) {
      switch (question.type) {
        case "job.get":
          return await getJob(question);
        case "job.why": {
          await host.settled(); // what is decided is what is told of
          await needJob(question.jobId);
          const present = {
            outlook: (id: TaskView["taskId"]) => view.outlook(id, clock.now()),
            followed: sharing.followed,
          };
          return await whyJob(states, question.jobId, present, question.atMs);
        }
        case "job.list":
          return await listJobs(question);
        case "job.import":
          return await imports.take(gateway, question);
        case "job.watch": {
          const { watch, jobId, afterSeq, tasks } = question;
          await watches.start(gateway, watch, jobId, afterSeq, tasks === false ? jobAddress(jobId) : undefined);
          return { type: "done" };
        }
        case "task.watch": {
          const { watch, taskId, afterSeq, latest } = question;
          await watches.start(gateway, watch, jobOfTask(taskId), afterSeq, taskAddress(taskId), latest);
          return { type: "done" };
        }
        case "job.unwatch":
          watches.stop(gateway, question.watch);
          return { type: "done" };
        case "worker.list": {
          const workers = [...index.workers].sort()
            .map((workerId) => workerView(host.state(workerAddress(workerId))!, view.busyOn(workerId)));
          return { type: "worker.views", workers };
        }
        case "cluster.get":
          return { type: "cluster.view", cluster: viewOfCluster() };
        case "cluster.drain":
          await options.drain(question.why);
          return { type: "done" };
        case "task.leases":
          return await leasesAfter(question.after);
        case "settings.get":
          return { type: "settings.view", settings: admission.settings as Settings };
      }
    },
  };
}
