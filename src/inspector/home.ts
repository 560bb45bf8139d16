import type { JobId } from "../domain/ids.ts";
import type { JobState } from "../domain/job.ts";
import { jobState, jobView } from "../machines/explain.ts";
import type { JobContext } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import type { States } from "../snapshots/states/states.ts";
import { type JobFacts, jobFacts, sumOf } from "./facts.ts";
import { newestJobs, whyOf } from "./jobs.ts";
import type { Home, HomeBuild, HomeJob } from "./routes.ts";

/** Jobs looked at for one page, and tasks of them; the cost of jobs beyond those is left out. */
const scannedMax = 2_000;
const tasksMax = 5_000;
/** Jobs whose tasks are asked for at once. */
const atOnceMax = 64;

export interface HomeAsked {
  readonly state?: JobState | undefined;
  readonly before?: JobId | undefined;
  readonly limit: number;
  /** The moment is now: what runs has run up to this. */
  readonly nowMs: number;
  /** What a task waits with that is but queued, as the end of "Queued: …"; undefined: it would take too long. */
  readonly standing: () => Promise<string | undefined>;
}

/** A job, with what its tasks say as soon as that is known; undefined: it was too much. */
interface Met {
  readonly job: State;
  facts: JobFacts | undefined;
}
interface Build {
  readonly requestor: string;
  readonly actions: Met[];
}

/** Jobs and builds at a moment, the newest first: what people came for. */
export async function home(
  states: States,
  facts: ReturnType<typeof jobFacts>,
  seq: number,
  { state, before, limit, nowMs, standing }: HomeAsked,
): Promise<Home> {
  const lines: (Met | Build)[] = [];
  const builds = new Map<string, Build>();
  let tasksLeft = tasksMax;
  let scanned = 0;
  let last: JobId | undefined;
  let next: JobId | undefined;
  const looking: Promise<void>[] = [];
  const meet = async (job: State): Promise<Met> => {
    const met: Met = { job, facts: undefined };
    const tasks = facts.costOf(job);
    if (tasks > tasksLeft) return met;
    tasksLeft -= tasks;
    const look = facts.of(states, job, seq, nowMs).then((found) => void (met.facts = found));
    look.catch(() => {}); // told by whoever waits for all of them
    looking.push(look);
    if (looking.length >= atOnceMax) await Promise.all(looking.splice(0));
    return met;
  };
  for await (const entry of newestJobs(states, seq, before)) {
    const job = entry.state as State;
    const { jobId, key, requestor } = job.context as JobContext;
    const isAction = key.startsWith("reapi/");
    const build = isAction ? builds.get(requestor) : undefined;
    const isWanted = state === undefined || jobState(job) === state;
    if ((lines.length >= limit && isWanted && build === undefined) || scanned++ >= scannedMax) {
      next = last;
      break;
    }
    last = jobId;
    // A build is what its actions are together, so all of them are looked at.
    if (build !== undefined) build.actions.push(await meet(job));
    else if (isAction) {
      const begun: Build = { requestor, actions: [await meet(job)] };
      builds.set(requestor, begun);
      lines.push(begun);
    } else if (isWanted) lines.push(await meet(job));
  }
  await Promise.all(looking);
  const isUntold = lines.some((line) => "job" in line && isButQueued(line.facts?.telling));
  const waitsWith = isUntold ? await standing() : undefined;
  const shown = lines.map((line) =>
    "actions" in line ? buildLine(line, next !== undefined, nowMs) : jobLine(line, nowMs, waitsWith)
  ).filter((line) => line.kind === "job" || state === undefined || line.state === state);
  return { lines: shown, ...(next === undefined ? {} : { next }) };
}

const queued = "Queued";
/** Of why it waits its state has nothing. */
const isButQueued = (telling: JobFacts["telling"]): boolean => telling?.why.startsWith(`${queued}.`) === true;

function jobLine({ job: state, facts }: Met, nowMs: number, standing: string | undefined): HomeJob {
  const job = jobView(state);
  const telling = facts?.telling;
  const why = telling === undefined || standing === undefined || !isButQueued(telling)
    ? telling
    : { ...telling, why: `${queued}: ${standing}${telling.why.slice(queued.length)}` };
  return {
    kind: "job",
    job,
    ...whyOf(job, why),
    wallMs: Math.max(0, (job.endedAtMs ?? nowMs) - job.createdAtMs),
    ...(facts === undefined ? {} : { cost: facts.cost }),
  };
}

function buildLine({ requestor, actions }: Build, isPart: boolean, nowMs: number): HomeBuild {
  const views = actions.map(({ job }) => jobView(job));
  const costs = actions.flatMap(({ facts }) => facts?.cost ?? []);
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
    ...(costs.length === actions.length ? { cost: sumOf(costs) } : {}),
    isPart,
  };
}
