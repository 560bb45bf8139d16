/** How long a page of the inspector takes with 100,000 live actors, at moments all over the last 100,000. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { emptyDigest } from "../src/domain/digest.ts";
import { type Address, jobAddress, type JobId, newJobId, taskAddress, taskId, workerId } from "../src/domain/ids.ts";
import type { Overview } from "../src/inspector/overview.ts";
import { createInspector } from "../src/inspector/server.ts";
import { defaultSettings } from "../src/machines/scheduler.ts";
import { realClock } from "../src/runtime/clock.ts";
import { seededRandom } from "../src/runtime/random.ts";
import { memoryBlobs } from "../src/snapshots/blobs/memory.ts";
import { localStates } from "../src/snapshots/states/local.ts";
import type { Entry } from "../src/snapshots/states/states.ts";
import { report } from "./report.ts";

const jobsTotal = 1_000;
const tasksPerJob = 98;
const workersTotal = 1_000;
const stepsTotal = 150_000;
const startMs = 1_760_000_000_000;
const measured = 60;

const jobs: JobId[] = Array.from({ length: jobsTotal }, (_, n) => newJobId(startMs + n * 3_000, n));
let seq = 0;
const entry = (address: string, machine: string, value: unknown, context: object, type: string): Entry => {
  seq++;
  return {
    seq,
    atMs: startMs + jobsTotal * 3_000 + seq,
    epoch: 1,
    address: address as Address,
    machine,
    version: 1,
    state: { value, context },
    cause: { id: `x:${seq}`, from: "member/gateway" as Address, event: { type } },
    said: [],
    reason: "it is free, and has the most of its files",
  };
};
const requestorOf = (job: number): string => `team-${job % 50}`;
const taskEntry = (job: number, place: number, value: unknown, attempts: readonly object[]): Entry => {
  const id = taskId(jobs[job]!, place);
  return entry(taskAddress(id), "task", value, {
    taskId: id,
    name: `test-${place}`,
    requestor: requestorOf(job),
    priority: 1,
    command: emptyDigest,
    source: { kind: "empty" },
    dependents: [],
    timeoutMs: 60_000,
    retries: 1,
    platform: {},
    cache: "use",
    queuedAtMs: startMs,
    attempt: attempts.length,
    nextReason: "first",
    attempts,
    failures: 0,
    losses: 0,
  }, "task.placed");
};

function* history(): Generator<Entry> {
  yield entry("scheduler", "scheduler", "open", { epoch: 1, startedAtMs: startMs, settings: defaultSettings }, "born");
  for (let n = 0; n < workersTotal; n++) {
    const worker = { workerId: workerId(`w${n}`), incarnation: "1", slots: 4, platform: {}, isolation: "none" };
    yield entry(
      `worker/w${n}`,
      "worker",
      "present",
      { ...worker, lostAfterMs: 30_000, sinceMs: startMs },
      "worker.joined",
    );
  }
  for (const [n, jobId] of jobs.entries()) {
    const counts = { total: tasksPerJob, succeeded: 0, failed: 0, skipped: 0, killed: 0, cancelled: false };
    const asked = { jobId, key: jobId, requestor: requestorOf(n), tag: "", priority: 1, failFast: false };
    yield entry(jobAddress(jobId), "job", { running: "open" }, { ...asked, createdAtMs: startMs, ...counts }, "born");
    for (let place = 0; place < tasksPerJob; place++) yield taskEntry(n, place, "queued", []);
  }
  // Tasks are placed, start, and are put back, all over the cluster.
  for (let step = 0; step < stepsTotal; step++) {
    const slot = Math.floor(step / 3) * 7 % (jobsTotal * tasksPerJob);
    const [job, place] = [Math.floor(slot / tasksPerJob), slot % tasksPerJob];
    const attempt = {
      attempt: 1,
      reason: "first",
      workerId: `w${slot % workersTotal}`,
      placedAtMs: startMs,
      why: "it is free",
    };
    const began = { ...attempt, startedAtMs: startMs };
    if (step % 3 === 0) yield taskEntry(job, place, { active: "placed" }, [attempt]);
    else if (step % 3 === 1) yield taskEntry(job, place, { active: "running" }, [began]);
    else yield taskEntry(job, place, "queued", [{ ...began, ended: "it was put back", givenUp: true }]);
  }
}

const dir = await mkdtemp(join(tmpdir(), "scoot-actors-bench-"));
try {
  const writer = await localStates({ dir: join(dir, "states"), clock: realClock });
  const batch: Entry[] = [];
  for (const one of history()) {
    batch.push(one);
    if (batch.length === 1_000) await writer.commit(batch.splice(0));
  }
  await writer.commit(batch);
  await writer.close();

  const states = await localStates({ dir: join(dir, "states"), clock: realClock, readOnly: true });
  const inspector = createInspector({ states: () => Promise.resolve(states), clock: realClock, blobs: memoryBlobs() });
  const timed = async (path: string, query: Record<string, string>): Promise<number> => {
    const began = performance.now();
    JSON.stringify(await inspector.answer(path, new URLSearchParams(query)));
    return performance.now() - began;
  };
  const random = seededRandom(1);
  const moments = Array.from({ length: measured }, () => String(seq - random.integer(100_000)));
  const slowest = async (path: string, query: (at: string) => Record<string, string>): Promise<number> => {
    const took: number[] = [];
    for (const at of moments) took.push(await timed(path, query(at)));
    return Math.max(...took);
  };
  const job = (): JobId => jobs[random.integer(jobsTotal)]!;
  const countBeganMs = performance.now();
  const firstMs = await timed("overview", {});
  while ((await inspector.answer("overview", new URLSearchParams()) as Overview).isCounted === false);
  const countedMs = performance.now() - countBeganMs;
  const overviewMs = await slowest("overview", (at) => ({ at }));
  const jobMs = await slowest("job", (at) => ({ at, id: job() }));
  const homeMs = await slowest("home", (at) => ({ at }));
  const jobsMs = await slowest("jobs", (at) => ({ at }));
  const searchMs = await slowest("search", (at) => ({ at, text: "team-7" }));
  const ratesMs = await slowest("rates", (at) => ({ at }));
  const graphMs = await slowest("graph", (at) => ({ at, id: job() }));
  const timelineMs = await slowest("timeline", (at) => ({ at, id: job() }));
  const actorMs = await slowest("actor", (at) => ({ at, address: `task/${job()}/3` }));
  const boundsMs = await slowest("bounds", () => ({}));
  const heapBytes = process.memoryUsage().rss;
  inspector.close();
  await states.close();
  report([
    { name: "a job's page at a moment, slowest of 60", value: jobMs, unit: "ms", target: { atMost: 300 } },
    { name: "the overview at a moment, slowest of 60", value: overviewMs, unit: "ms", target: { atMost: 1_000 } },
    { name: "the very first overview", value: firstMs, unit: "ms", target: { atMost: 1_000 } },
    { name: "until its counts are there", value: countedMs, unit: "ms", target: { atMost: 5_000 } },
    { name: "home at a moment, slowest of 60", value: homeMs, unit: "ms", target: { atMost: 1_000 } },
    { name: "a list of jobs at a moment, slowest of 60", value: jobsMs, unit: "ms", target: { atMost: 1_000 } },
    { name: "a page of a search at a moment, slowest of 60", value: searchMs, unit: "ms", target: { atMost: 1_000 } },
    { name: "rates and latencies at a moment, slowest of 60", value: ratesMs, unit: "ms", target: { atMost: 1_000 } },
    { name: "a job's task graph at a moment, slowest of 60", value: graphMs, unit: "ms", target: { atMost: 300 } },
    { name: "a job's timeline at a moment, slowest of 60", value: timelineMs, unit: "ms", target: { atMost: 300 } },
    { name: "an actor's page at a moment, slowest of 60", value: actorMs, unit: "ms", target: { atMost: 300 } },
    { name: "a look whether there is news, slowest of 60", value: boundsMs, unit: "ms", target: { atMost: 300 } },
    { name: "memory of the process", value: heapBytes / 1e6, unit: "MB", target: { atMost: 1_000 } },
  ], process.argv.slice(2));
} finally {
  await rm(dir, { recursive: true, force: true });
}
