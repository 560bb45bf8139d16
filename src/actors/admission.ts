import { Fault } from "../domain/fault.ts";
import {
  type Address,
  jobAddress,
  type JobId,
  memberAddress,
  newJobId,
  schedulerAddress,
  workerAddress,
} from "../domain/ids.ts";
import { invariant } from "../domain/invariant.ts";
import type { JobInput } from "../machines/job.ts";
import type { SchedulerContext, SchedulerSettings } from "../machines/scheduler.ts";
import { pathOf } from "../machines/step.ts";
import type { EncodedJob, SchedulerRequest } from "../protocol/client_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import { checkPolicy } from "../scheduling/policy.ts";
import type { Host } from "./host.ts";
import { planJob } from "./job_plan.ts";
import type { SchedulerIndex } from "./scheduler_index.ts";

export type OperatorRequest = Extract<
  SchedulerRequest,
  { type: "worker.offline" | "worker.reinstate" | "settings.set" }
>;

/** What comes in: jobs within their limits, and what operators set. All of it is called inside a turn. */
export interface Admission {
  /** Whether jobs are accepted and tasks placed. */
  readonly isOpen: boolean;
  readonly settings: SchedulerSettings;
  /**
   * Creates the job, unless there is one with its key; it replaces an older one of its requestor and basis.
   *
   * @throws {Fault} `DRAINING`, `NO_SPACE`; `LIMIT_EXCEEDED` that names the limit and the value; what `planJob` throws.
   */
  accept(job: EncodedJob): { readonly jobId: JobId; readonly existing: boolean };
  /** @throws {Fault} `WORKER_UNKNOWN`; `REQUEST_INVALID` for a policy that is none, and then all stays as it was. */
  change(request: OperatorRequest, from: Address): void;
}

export interface AdmissionOptions {
  readonly host: Host;
  readonly index: SchedulerIndex;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether there is room on the disk for new work. */
  readonly hasSpace: () => boolean;
}

export function createAdmission({ host, index, clock, random, hasSpace }: AdmissionOptions): Admission {
  const own = () => host.state(schedulerAddress)!;
  const settings = (): SchedulerSettings => (own().context as SchedulerContext).settings;
  const isOpen = (): boolean => pathOf(own().value) === "open";
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
  return {
    get isOpen() {
      return isOpen();
    },
    get settings() {
      return settings();
    },
    accept(job) {
      const existing = index.jobByKey.get(job.key);
      if (existing !== undefined) return { jobId: existing, existing: true };
      if (!isOpen()) {
        throw new Fault("DRAINING", "Cannot accept a job as this cluster is stopping: submit it again when it is back");
      }
      if (!hasSpace()) {
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
    },
    change(request, from) {
      const atMs = clock.now();
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
    },
  };
}
