import type { JobId } from "../domain/ids.ts";
import type { JobState } from "../domain/job.ts";
import { jobState, jobView } from "../machines/explain.ts";
import type { JobContext } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import type { States } from "../snapshots/states/states.ts";
import { type JobFacts, jobFacts, sumOf } from "./facts.ts";
import { newestJobs, whyOf } from "./jobs.ts";
import type { Cost, Home, HomeBuild, HomeJob } from "./routes.ts";

/** Jobs looked at for one page, and tasks of them; the cost of jobs beyond those is left out. */
const scannedMax = 2_000;
const tasksMax = 5_000;

export interface HomeAsked {
  readonly state?: JobState | undefined;
  readonly before?: JobId | undefined;
  readonly limit: number;
  /** The moment is now: what runs has run up to this. */
  readonly nowMs: number;
}

interface Build {
  readonly requestor: string;
  readonly jobs: State[];
  readonly costs: Cost[];
  isWhole: boolean;
}

/** Jobs and builds at a moment, the newest first: what people came for. */
export async function home(
  states: States,
  facts: ReturnType<typeof jobFacts>,
  seq: number,
  { state, before, limit, nowMs }: HomeAsked,
): Promise<Home> {
  const lines: (HomeJob | Build)[] = [];
  const builds = new Map<string, Build>();
  let tasksLeft = tasksMax;
  let scanned = 0;
  let next: JobId | undefined;
  const factsOf = async (job: State): Promise<JobFacts | undefined> => {
    const cost = facts.costOf(job);
    if (cost > tasksLeft) return undefined;
    tasksLeft -= cost;
    return await facts.of(states, job, seq, nowMs);
  };
  let last: JobId | undefined;
  for await (const entry of newestJobs(states, seq, before)) {
    const job = entry.state as State;
    const { jobId, key, requestor } = job.context as JobContext;
    const isAction = key.startsWith("reapi/");
    const known = isAction ? builds.get(requestor) : undefined;
    const isWanted = state === undefined || jobState(job) === state;
    if ((lines.length >= limit && isWanted && known === undefined) || scanned++ >= scannedMax) {
      next = last;
      break;
    }
    last = jobId;
    if (isAction) {
      // A build is what its actions are together, so all of them are looked at.
      const build = known ?? { requestor, jobs: [], costs: [], isWhole: true };
      if (known === undefined) {
        builds.set(requestor, build);
        lines.push(build);
      }
      build.jobs.push(job);
      const cost = (await factsOf(job))?.cost;
      if (cost === undefined) build.isWhole = false;
      else build.costs.push(cost);
    } else if (isWanted) lines.push(jobLine(job, await factsOf(job), nowMs));
  }
  const shown = lines.map((line) => "jobs" in line ? buildLine(line, next !== undefined, nowMs) : line)
    .filter((line) => line.kind === "job" || state === undefined || line.state === state);
  return { lines: shown, ...(next === undefined ? {} : { next }) };
}

function jobLine(state: State, facts: JobFacts | undefined, nowMs: number): HomeJob {
  const job = jobView(state);
  return {
    kind: "job",
    job,
    ...whyOf(job, facts?.telling),
    wallMs: Math.max(0, (job.endedAtMs ?? nowMs) - job.createdAtMs),
    ...(facts === undefined ? {} : { cost: facts.cost }),
  };
}

function buildLine({ requestor, jobs, costs, isWhole }: Build, isPart: boolean, nowMs: number): HomeBuild {
  const views = jobs.map(jobView);
  const counts: Record<JobState, number> = { running: 0, succeeded: 0, failed: 0, cancelled: 0 };
  for (const view of views) counts[view.state]++;
  const state: JobState = counts.running > 0
    ? "running"
    : counts.failed > 0
    ? "failed"
    : counts.cancelled > 0
    ? "cancelled"
    : "succeeded";
  const telling = views.find((view) => view.state === "failed") ?? views.find((view) => view.state === "running") ??
    views[0]!;
  const createdAtMs = Math.min(...views.map((view) => view.createdAtMs));
  const endedAtMs = counts.running > 0 ? undefined : Math.max(...views.map((view) => view.endedAtMs ?? 0));
  const told = (["running", "succeeded", "failed", "cancelled"] as const).filter((one) => counts[one] > 0)
    .map((one) => `${counts[one]} ${one}`).join(", ");
  return {
    kind: "build",
    requestor,
    state,
    why: `${views.length === 1 ? "1 action" : `${views.length} actions`}: ${told}.${
      state === "failed" ? ` ${telling.tag || telling.jobId} failed.` : ""
    }`,
    createdAtMs,
    ...(endedAtMs === undefined ? {} : { endedAtMs }),
    wallMs: Math.max(0, (endedAtMs ?? nowMs) - createdAtMs),
    jobs: counts,
    jobId: telling.jobId,
    ...(isWhole ? { cost: sumOf(costs) } : {}),
    isPart,
  };
}
