import type { TaskId } from "../domain/ids.ts";
import type { Estimate, JobState, Outcome, TaskState } from "../domain/job.ts";
import type { JobView, TaskView, WorkerView } from "../protocol/client_messages.ts";
import type { JobContext } from "./job.ts";
import type { Outlook, Unmet, WaitsFor } from "../scheduling/plan.ts";
import { pathOf, type State } from "./step.ts";
import { type Cached, describeOutcome, inputRootOf, outputOf, type TaskContext, treeWantedBy } from "./task.ts";
import type { WorkerContext } from "./worker.ts";

/** A saved state as people read it: what it is, and why, in a sentence. Pure, so it works for any moment that is kept. */

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 0)} s`;

export function jobState(state: State): JobState {
  const path = pathOf(state.value);
  return path === "succeeded" || path === "failed" || path === "cancelled" ? path : "running";
}

export function explainJob(state: State): string {
  const job = state.context as JobContext;
  const settled = job.succeeded + job.failed + job.skipped + job.killed;
  const counts = [
    job.succeeded > 0 ? `${job.succeeded} exited with 0` : "",
    job.failed > 0 ? `${job.failed} failed` : "",
    job.skipped > 0 ? `${job.skipped} skipped` : "",
    job.killed > 0 ? `${job.killed} killed` : "",
  ].filter((text) => text !== "").join(", ");
  const of = `${settled} of ${job.total} tasks settled${counts === "" ? "" : ` (${counts})`}`;
  switch (jobState(state)) {
    case "running":
      return job.endReason === undefined ? `${of}.` : `Ending: ${job.endReason}. ${of}.`;
    case "succeeded":
      return `All ${job.total} tasks exited with 0.`;
    case "failed":
      return `${job.endReason === undefined ? "" : `${job.endReason}. `}${of}.`;
    case "cancelled":
      return `Killed: ${job.endReason}. ${of}.`;
  }
}

export function taskState(state: State): TaskState {
  const path = pathOf(state.value);
  if (path === "mounting" || path === "overlaying") return "waiting"; // for a tree
  return path === "active.placed" ? "placed" : path === "active.running" ? "running" : path as TaskState;
}

/**
 * @param outlook what the queue knows of it, for a task that is queued now.
 * @param follows the task that runs the same action now, whose result will be its own.
 */
export function explainTask(
  state: State,
  outlook?: Outlook,
  follows?: TaskId,
): string {
  const task = state.context as TaskContext;
  const last = task.attempts.at(-1);
  switch (taskState(state)) {
    case "waiting":
      return explainWaiting(task);
    case "queued": {
      const again = last?.ended === undefined
        ? ""
        : ` Attempt ${last.attempt} on ${last.workerId} ended: ${last.ended}.`;
      if (follows !== undefined) {
        return `Queued: task ${follows} runs the same action, and its result is for both.${again}`;
      }
      if (outlook !== undefined) return `Queued: ${explainOutlook(outlook, task.requestor)}.${again}`;
      return task.unmet === undefined ? `Queued.${again}` : `Queued: ${explainUnmet(task.unmet)}.${again}`;
    }
    case "placed":
      return `Given to ${last?.workerId} as attempt ${last?.attempt}: ${last?.why}. It has not started.`;
    case "running":
      return `Runs on ${last?.workerId} as attempt ${last?.attempt}: ${last?.why}.${
        task.estimate === undefined ? "" : ` Tasks like it took ${explainEstimate(task.estimate)}.`
      }`;
    case "stopping":
      return `Is being killed on ${last?.workerId}: ${task.stopReason}.`;
    case "settled": {
      const outcome = task.outcome!;
      if (task.cached !== undefined) return explainCached(task.cached, outcome);
      const took = "startedAtMs" in outcome && outcome.startedAtMs !== undefined && outcome.endedAtMs !== undefined
        ? ` after ${seconds(outcome.endedAtMs - outcome.startedAtMs)}`
        : "";
      const earlier = task.attempts.filter((attempt) => attempt.ended !== undefined).slice(-3)
        .map(({ attempt, workerId, ended }) => ` Attempt ${attempt} on ${workerId} had ended: ${ended}.`).join("");
      return `It ${describeOutcome(outcome)}${took}.${explainUsage(task)}${earlier}`;
    }
  }
}

function explainWaiting(task: TaskContext): string {
  const { source, made = [], outcome } = task;
  if (outcome !== undefined) return `It ${describeOutcome(outcome)}; what it made is being laid over its inputs.`;
  if (source.kind === "task") return `Waits for task ${source.index} of its job, whose output is its input.`;
  if (treeWantedBy(task) !== undefined) return "What its inputs are made of is there; they are being put together.";
  const parts = source.kind === "mounted" ? source.parts : [];
  const missing = new Set(
    parts.flatMap((part) => "index" in part && !made.some(({ index }) => index === part.index) ? [part.index] : []),
  );
  const [first, ...more] = missing;
  return more.length === 0
    ? `Waits for task ${first} of its job, whose output is among its inputs.`
    : `Waits for ${missing.size} tasks of its job, whose outputs are among its inputs: ${
      [first, ...more].slice(0, 10).join(", ")
    }${missing.size > 10 ? ", …" : ""}.`;
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0)} MB`;

const explainEstimate = ({ durationMs, peakMemoryBytes }: Estimate): string =>
  peakMemoryBytes === undefined ? seconds(durationMs) : `${seconds(durationMs)} and ${megabytes(peakMemoryBytes)}`;

/** What it used, beside what was expected; nothing when that was not measured. */
function explainUsage({ outcome, estimate }: TaskContext): string {
  if (outcome === undefined || outcome.kind === "skipped" || outcome.usage === undefined) return "";
  const { peakMemoryBytes, cpuMs } = outcome.usage;
  const used = `It held ${megabytes(peakMemoryBytes)} and took ${seconds(cpuMs)} of processor time`;
  return estimate === undefined ? ` ${used}.` : ` ${used}; tasks like it had taken ${explainEstimate(estimate)}.`;
}

const obstacles: Readonly<Record<Exclude<WaitsFor, "throttle">, string>> = {
  slot: "every slot that it could use is busy",
  memory: "no worker that it could use has enough memory free",
  cpu: "no worker that it could use has enough processors free",
  counter: "what it takes of the cluster's counters is taken",
  share: "the slots that are free are coming to other classes",
};

const named = (requestor: string): string => requestor === "" ? "nobody by name" : requestor;

/** What keeps a task from every worker, as the end of the sentence "Queued: …". */
export function explainUnmet({ lacks, nearest }: Unmet): string {
  const what = lacks.length > 0
    ? `no worker that takes tasks has ${lacks.join(", ")}`
    : "no worker that takes tasks could run it";
  return nearest === undefined ? what : `${what}; ${nearest.workerId} comes nearest, with ${nearest.has.join(", ")}`;
}

const explainAside = (aside: NonNullable<Outlook["aside"]>): string =>
  aside.map(({ workerId, why }) => `; ${workerId} takes none: ${why.charAt(0).toLowerCase()}${why.slice(1)}`).join("");

function explainOutlook(outlook: Outlook, requestor: string): string {
  if (outlook.unmet !== undefined) return explainUnmet(outlook.unmet) + explainAside(outlook.aside ?? []);
  const { used, target, ahead, aheadOf, waitsFor, runningMax } = outlook;
  const who = aheadOf.map(({ requestor, tasks }) => `${named(requestor)}: ${tasks}`);
  const first = ahead > 0 && who.length > 0 ? ` (${who.join(", ")})` : "";
  const obstacle = waitsFor === "throttle"
    ? `waits as ${named(requestor)} may run ${runningMax} at once`
    : obstacles[waitsFor];
  return `${obstacle}; ${ahead} go ahead of it${first}. Its class ${outlook.class} has ${used} of the ${target} slots that are its share`;
}

function explainCached({ taskId, workerId, madeAtMs, savedMs }: Cached, outcome: Outcome): string {
  const by = taskId === undefined
    ? "a client's own run"
    : `task ${taskId}${workerId === undefined ? "" : ` on ${workerId}`}`;
  return `It was not run: the same action ${describeOutcome(outcome)} for ${by} at ${
    new Date(madeAtMs).toISOString()
  }, after ${seconds(savedMs)}.`;
}

export function jobView(state: State): JobView {
  const job = state.context as JobContext;
  return {
    jobId: job.jobId,
    state: jobState(state),
    requestor: job.requestor,
    ...(job.basis === undefined ? {} : { basis: job.basis }),
    tag: job.tag,
    priority: job.priority,
    createdAtMs: job.createdAtMs,
    ...(job.endedAtMs === undefined ? {} : { endedAtMs: job.endedAtMs }),
    tasks: job.total,
    settled: { succeeded: job.succeeded, failed: job.failed, skipped: job.skipped, killed: job.killed },
    why: explainJob(state),
  };
}

/** What it was told, or would be now, of what it lacks; nothing once a worker is there that could run it. */
const unmetNow = ({ unmet }: TaskContext, outlook: Outlook | undefined): TaskView["unmet"] =>
  unmet === undefined || (outlook !== undefined && outlook.unmet === undefined)
    ? undefined
    : { ...outlook?.unmet ?? unmet, toldAtMs: unmet.toldAtMs } as TaskView["unmet"];

/** How it ended, with what others are given as its output. */
function endOf(task: TaskContext): Outcome | undefined {
  const { outcome } = task;
  if (outcome?.kind !== "exited" || task.output !== "full") return outcome;
  const output = outputOf(task);
  return output === undefined ? outcome : { ...outcome, output };
}

export function taskView(state: State, outlook?: Parameters<typeof explainTask>[1], follows?: TaskId): TaskView {
  const task = state.context as TaskContext;
  const inputRoot = inputRootOf(task);
  const name = taskState(state);
  const unmet = name === "queued" ? unmetNow(task, outlook) : undefined;
  const outcome = name === "settled" ? endOf(task) : undefined;
  return {
    taskId: task.taskId,
    name: task.name,
    state: name,
    command: task.command,
    ...(inputRoot === undefined ? {} : { inputRoot }),
    ...(task.action === undefined ? {} : { action: task.action }),
    timeoutMs: task.timeoutMs,
    ...(task.needs === undefined ? {} : { needs: task.needs as NonNullable<TaskView["needs"]> }),
    ...(task.caches === undefined ? {} : { caches: [...task.caches] }),
    ...(task.output === undefined ? {} : { output: task.output }),
    attempts: [...task.attempts],
    queuedAtMs: task.queuedAtMs,
    ...(outcome === undefined ? {} : { outcome }),
    ...(task.cached === undefined ? {} : { cached: task.cached }),
    ...(task.estimate === undefined ? {} : { estimate: task.estimate }),
    ...(unmet === undefined ? {} : { unmet }),
    why: explainTask(state, outlook, follows),
  };
}

export function workerView(state: State, busy: number): WorkerView {
  const worker = state.context as WorkerContext;
  return {
    workerId: worker.workerId,
    state: pathOf(state.value) as WorkerView["state"],
    slots: worker.slots,
    busy,
    platform: worker.platform,
    ...(worker.cpuMillis === undefined ? {} : { cpuMillis: worker.cpuMillis }),
    ...(worker.memoryBytes === undefined ? {} : { memoryBytes: worker.memoryBytes }),
    isolation: worker.isolation,
    sinceMs: worker.sinceMs,
    ...(worker.offline === undefined ? {} : { offline: worker.offline }),
    ...(worker.paused === undefined ? {} : { paused: worker.paused }),
    ...(worker.flaky === undefined || worker.flaky.untilMs === 0
      ? {}
      : { flaky: { why: worker.flaky.why, untilMs: worker.flaky.untilMs } }),
  };
}
