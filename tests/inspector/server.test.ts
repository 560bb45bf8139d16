import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Address, jobAddress, type JobId, kindOf, taskAddress, taskId } from "../../src/domain/ids.ts";
import { newestJobs } from "../../src/inspector/jobs.ts";
import { createInspector } from "../../src/inspector/server.ts";
import { ratesOf } from "../../src/inspector/rates.ts";
import { knownStates, tally } from "../../src/inspector/tally.ts";
import { timeline } from "../../src/inspector/timeline.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import type { States } from "../../src/snapshots/states/states.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { recording } from "./recorded.ts";

type Record = ReturnType<typeof recording>;

async function storeOf(history: Record): Promise<States> {
  const states = memoryStates();
  await states.commit(history.entries);
  return states;
}
// deno-lint-ignore no-explicit-any -- what a route answers, as a browser has it
type Answer = any;
const inspectorOf = (states: States | undefined) => {
  const inspector = createInspector({
    states: () => Promise.resolve(states),
    clock: manualClock(),
    blobs: memoryBlobs(),
  });
  return {
    ask: async (path: string, query = ""): Promise<Answer> =>
      JSON.parse(JSON.stringify(await inspector.answer(path, new URLSearchParams(query)))),
  };
};

/** Two workers; a job of two tasks of which one has ended and one runs; one that waits. */
function small() {
  const history = recording();
  history.scheduler();
  history.worker("w1", 2);
  history.wait(1_000);
  const job = history.job(1, 2);
  history.wait(10);
  history.place(job, 0, "w1");
  history.start(job, 0, "w1");
  const runningSeq = history.entries.length;
  history.wait(50);
  history.end(job, 0, "w1", 3);
  history.place(job, 1, "w1");
  history.start(job, 1, "w1");
  const stuck = history.job(2, 1, "eve");
  return { history, job, stuck, runningSeq };
}

describe("what is asked under /v1/inspect", () => {
  test("bounds and jobs, the newest first, by state and text", async () => {
    const { history, job, stuck } = small();
    const { ask } = inspectorOf(await storeOf(history));
    expect(await ask("bounds")).toEqual({
      first: { seq: 1, atMs: history.entries[0]!.atMs },
      last: { seq: history.entries.length, atMs: history.nowMs },
    });
    const ids = async (query: string) => (await ask("jobs", query)).jobs.map(({ jobId }: { jobId: string }) => jobId);
    expect(await ids("")).toEqual([stuck, job]);
    expect(await ids("text=EVE")).toEqual([stuck]);
    expect(await ids("state=failed")).toEqual([]);
    expect(await ids(`before=${stuck}`)).toEqual([job]);
    expect(await ids("at=1")).toEqual([]);
    expect((await ask("jobs", "limit=1")).next).toBe(stuck);
  });

  test("a job as it was and as it is, each task with its reason", async () => {
    const { history, job, runningSeq } = small();
    const { ask } = inspectorOf(await storeOf(history));
    const past = await ask("job", `id=${job}&at=${runningSeq}`);
    expect(past.tasks.map((task: Answer) => task.state)).toEqual(["running", "queued"]);
    expect(past.tasks[0].why).toBe("Runs on w1 as attempt 1: it is free.");
    const now = await ask("job", `id=${job}`);
    expect(now.tasks.map((task: Answer) => task.state)).toEqual(["settled", "running"]);
    expect(now.job.settled).toMatchObject({ failed: 1 });
    expect(now.tasks[0].settledAtMs).toBe(history.entries.find(({ seq }) => seq === now.tasks[0].cause.seq)!.atMs);
    await expect(ask("job", `id=${job}&at=1`)).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
  });

  test("an actor: what it heard with its whole body, what changed, what it said, the arrow that it took", async () => {
    const { history, job } = small();
    const { ask } = inspectorOf(await storeOf(history));
    const task = await ask("actor", `address=task/${job}/0`);
    expect(task).toMatchObject({ state: "settled", why: "It exited with 3 after 0.01 s." });
    expect(task.step).toMatchObject({ before: "active.running", after: "settled" });
    expect(task.step.event).toMatchObject({ from: "worker/w1", type: "task.ended" });
    expect(task.step.event.body).toContain(`"exitCode":3`);
    expect(task.step.taken).toMatchObject([
      { from: "active", to: "concluding", event: "task.ended" },
      { from: "concluding", to: "settled", event: "" },
    ]);
    expect(task.step.changes.map(({ key }: Answer) => key)).toContain("outcome");
    expect(task.step.said.map(({ type }: Answer) => type)).toContain("job.taskSettled");
    // Its job heard that: the body stands with who said it.
    const heard = await ask("actor", `address=job/${job}`);
    expect(heard.step.event).toMatchObject({ from: `task/${job}/0`, type: "job.taskSettled" });
    expect(heard.step.event.body).toContain(`"result":"failed"`);
    const past = await ask("history", `address=task/${job}/0`);
    expect(past.steps.map((step: Answer) => step.after)).toEqual([
      "settled",
      "active.running",
      "active.placed",
      "queued",
    ]);
    expect(past.steps.at(-1).before).toBeUndefined();
    const page = await ask("history", `address=task/${job}/0&limit=2`);
    const rest = await ask("history", `address=task/${job}/0&limit=2&at=${page.next}`);
    expect([...page.steps, ...rest.steps]).toEqual(past.steps);
    expect(rest.next).toBeUndefined();
  });

  test("a conversation: who said what to whom, and when it was heard", async () => {
    const { history, job } = small();
    const { ask } = inspectorOf(await storeOf(history));
    const found = await ask("conversation", `with=job/${job}&with=task/${job}/0&with=worker/w1`);
    const lines = found.messages.map(({ from, to, type }: Answer) => `${kindOf(from)} → ${kindOf(to)} ${type}`);
    expect(lines).toEqual([
      "job → task task.create",
      "worker → task task.started",
      "worker → task task.ended",
      "task → job job.taskSettled",
    ]);
    for (const { heardSeq, seq } of found.messages) expect(heardSeq).toBeGreaterThanOrEqual(seq);
    const short = await ask("conversation", `with=job/${job}&with=task/${job}/0&limit=1`);
    expect(short.messages).toHaveLength(1);
    const older = await ask("conversation", `with=job/${job}&with=task/${job}/0&limit=1&at=${short.next}`);
    expect(older.messages.map(({ type }: Answer) => type)).toEqual(["task.create"]);
  });

  test("the cluster: slots with what is in them, the queue by class and requestor, at any moment", async () => {
    const { history, job, runningSeq } = small();
    const { ask } = inspectorOf(await storeOf(history));
    const now = await ask("overview");
    expect(now.slots).toEqual({ all: 2, busy: 1 });
    expect(now.workers[0]).toMatchObject({ workerId: "w1", busy: 1, tasks: [`${job}/1`] });
    expect(now.classes).toEqual([{ name: "default", percent: 100, queued: 1, running: 1, owed: 2 }]);
    expect(now.requestors).toContainEqual({ name: "eve", queued: 1, running: 0 });
    expect(now.states).toMatchObject({ "job/running.open": 2, "task/queued": 1, "task/active.running": 1 });
    expect((await ask("overview", `at=${runningSeq}`)).workers[0].tasks).toEqual([`${job}/0`]);
    expect((await ask("overview", "at=1")).workers).toEqual([]);
  });

  test("an overview whose counts are long in coming says so, and has them when it is asked again", async () => {
    const states = await storeOf(small().history);
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => open = resolve);
    const slow: States = {
      ...states,
      async *cut(...range) {
        if (range[1] === "job/") await gate;
        yield* states.cut(...range);
      },
    };
    const clock = manualClock();
    const inspector = createInspector({ states: () => Promise.resolve(slow), clock, blobs: memoryBlobs() });
    const ask = () => inspector.answer("overview", new URLSearchParams()) as Promise<Answer>;
    const first = ask();
    while (clock.waiting() < 2) await new Promise((resolve) => setImmediate(resolve)); // its own wait, and the idle one
    await clock.advance(1_000);
    expect(await first).toMatchObject({ isCounted: false, workers: [{ workerId: "w1" }] });
    open();
    expect(await ask()).toMatchObject({ isCounted: true, slots: { busy: 1 } });
    inspector.close();
    expect(clock.waiting()).toBe(0);
  });

  test.each([
    ["jobs", "limit=501", "at most 500"],
    ["jobs", "limit=0", "at least 1"],
    ["jobs", "at=-1", "whole number"],
    ["jobs", "at=100000", "entries 1 to"],
    ["jobs", "colour=red", "colour"],
    ["actor", "address=../etc", "address"],
    ["actors", "kind=secret", "kind"],
    ["conversation", "", "with"],
  ])("%s?%s is refused in a sentence", async (path, query, said) => {
    const { ask } = inspectorOf(await storeOf(small().history));
    await expect(ask(path, query)).rejects.toMatchObject({
      code: "REQUEST_INVALID",
      message: expect.stringContaining(said),
    });
  });

  test("without states it says what to do; unknown routes and actors are told", async () => {
    await expect(inspectorOf(undefined).ask("bounds")).rejects.toThrow("share its data folder");
    const { ask } = inspectorOf(await storeOf(small().history));
    await expect(ask("secrets")).rejects.toMatchObject({ code: "ROUTE_UNKNOWN" });
    await expect(ask("actor", "address=worker/w9")).rejects.toMatchObject({ code: "ACTOR_UNKNOWN" });
  });
});

describe("counts at a moment", () => {
  test("are those of the cut, whatever happened, also while the history goes on", async () => {
    const deed = fc.record({ what: fc.constantFrom("job", "place", "start", "end", "remove"), which: fc.nat(7) });
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { maxLength: 40 }), fc.nat(100), async (deeds, share) => {
        const history = recording();
        history.scheduler();
        history.worker("w1", 4);
        const jobs: JobId[] = [history.job(0, 2)];
        for (const { what, which } of deeds) {
          history.wait(1);
          const job = jobs[which % jobs.length]!;
          if (what === "job") jobs.push(history.job(jobs.length, 1 + which % 3, `r${which % 2}`));
          else if (what === "place") history.place(job, which % 2, "w1");
          else if (what === "start") history.start(job, which % 2, "w1");
          else if (what === "end") history.end(job, which % 2, "w1", which % 2);
          else if (
            history.entries.some(({ address, state }) =>
              address === taskAddress(taskId(job, 0)) && state !== null &&
              (state as { value: unknown }).value === "settled"
            )
          ) {
            history.remove(taskAddress(taskId(job, 0)));
          }
        }
        const states = memoryStates();
        const leapMin = share % 3 === 0 ? 0 : undefined;
        const counts = timeline({ states, clock: manualClock(), ...(leapMin === undefined ? {} : { leapMin }) });
        const half = Math.floor(history.entries.length * share / 100);
        await states.commit(history.entries.slice(0, half));
        if (half > 0) await counts.at(half);
        await states.commit(history.entries.slice(half));
        if (leapMin === 0 && history.entries.length > half) await counts.at(history.entries.length);
        for (let seq = 1; seq <= history.entries.length; seq++) {
          const truth = tally();
          const known = knownStates(share % 2 === 0 ? 1 : undefined); // what is forgotten is as good
          for await (const { address, atMs, state } of states.cut(seq)) {
            truth.apply({ atMs, address, before: undefined, after: known.of(address, state) });
          }
          const found = await counts.at(seq);
          const plain = ({ states, requestors, onWorker }: typeof found) =>
            [states, requestors, onWorker].map((map) => [...(map as ReadonlyMap<string, unknown>)].sort());
          expect(plain(found), `entry ${seq}`).toEqual(plain(truth));
        }
        counts.close();
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});

test("where very much has happened since the last question, little of it is read, and counts and rates are right all the same", async () => {
  const history = recording();
  history.scheduler();
  history.worker("w1", 4);
  const begun = history.entries.length;
  let open: JobId | undefined;
  for (let number = 0; number < 300; number++) {
    const job = history.job(number, 4);
    for (let place = 0; place < 4; place++) {
      history.wait(10);
      history.place(job, place, "w1");
      history.start(job, place, "w1");
      if (number === 299 && place > 1) continue;
      history.wait(10);
      history.end(job, place, "w1");
    }
    open = job;
  }
  const plain = memoryStates();
  let read = 0;
  const states: States = {
    ...plain,
    async *history(...asked) {
      for await (const entry of plain.history(...asked)) {
        read++;
        yield entry;
      }
    },
  };
  await states.commit(history.entries.slice(0, begun));
  const counts = timeline({ states, clock: manualClock() });
  await counts.at(begun);
  await states.commit(history.entries.slice(begun));
  const end = history.entries.length;
  const found = await counts.at(end);
  expect(read).toBeLessThan(end / 5);
  expect([...found.onWorker]).toEqual([2, 3].map((place) => [taskAddress(taskId(open!, place)), "w1"]));
  expect(found.states.get("task/active.running")).toBe(2);
  expect(found.states.get("job/succeeded")).toBe(299);
  const held = await counts.steps(end);
  const toMs = history.entries.at(-1)!.atMs;
  const { points, wait, run } = ratesOf(held.start, held.steps, {
    toMs,
    spanMs: toMs - history.entries[0]!.atMs,
    points: 20,
  });
  const sum = (of: (point: typeof points[number]) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0);
  expect(sum(({ placed }) => placed) / 1_200).toBeCloseTo(1, 0);
  expect(sum(({ settled }) => settled) / 1_198).toBeCloseTo(1, 0);
  expect(points.at(-1)).toMatchObject({ queued: 0, running: 2 });
  expect(run.p50Ms).toBe(10);
  expect(wait.count).toBeGreaterThan(50);
  // A moment that was leapt over is counted from its cut.
  const middle = Math.floor((begun + end) / 2);
  expect((await counts.at(middle)).states.get("job/running.open")).toBe(1);
  counts.close();
});

test("a moment that is long ago is counted once, however often it is asked for, and one after the other", async () => {
  const history = recording();
  history.worker("w1", 2);
  const first = history.entries[0]!;
  const states = memoryStates();
  for (let from = 1; from <= 101_000; from += 1_000) {
    await states.commit(Array.from({ length: 1_000 }, (_, at) => ({ ...first, seq: from + at })));
  }
  let counted = 0;
  let atOnce = 0;
  const watched: States = {
    ...states,
    async *cut(...asked) {
      if (asked[1] !== "job/") return yield* states.cut(...asked);
      counted++;
      expect(++atOnce).toBe(1);
      yield* states.cut(...asked);
      atOnce--;
    },
  };
  const counts = timeline({ states: watched, clock: manualClock() });
  expect(await counts.heldAt(5)).toBeUndefined();
  counted = 0;
  const found = await Promise.all([counts.at(5), counts.at(5), counts.at(6)]);
  expect(found.map(({ states }) => states.get("worker/present"))).toEqual([1, 1, 1]);
  await counts.at(5);
  expect(counted).toBe(2);
  const many = await Promise.allSettled(Array.from({ length: 30 }, (_, at) => counts.at(10 + at)));
  expect(counted).toBeLessThan(10);
  expect(many.at(-1)!.status).toBe("fulfilled");
  expect(many.find(({ status }) => status === "rejected")).toMatchObject({ reason: { code: "LIMIT_EXCEEDED" } });
  counts.close();
}, 60_000);

test("jobs come the newest first, however they lie in time", async () => {
  const gap = fc.oneof(fc.constant(0), fc.nat(3), fc.nat(10_000), fc.nat(40_000_000), fc.nat(30_000_000_000));
  const burst = fc.record({ gap, jobs: fc.integer({ min: 1, max: 300 }), apart: fc.constantFrom(0, 1, 7) });
  await fc.assert(
    fc.asyncProperty(fc.array(burst, { maxLength: 6 }), fc.nat(), async (bursts, chance) => {
      const history = recording();
      const made: JobId[] = [];
      for (const { gap, jobs, apart } of bursts) {
        history.wait(gap);
        for (let n = 0; n < jobs; n++) {
          history.wait(apart);
          made.push(history.job(chance % 1_000_000 + made.length, 1));
        }
      }
      history.worker("w1", 1);
      const states = await storeOf(history);
      const newest = made.toSorted().reverse().map(jobAddress);
      const found: Address[] = [];
      for await (const { address } of newestJobs(states, history.entries.length)) found.push(address);
      expect(found).toEqual(newest);
      const before = made[chance % Math.max(1, made.length)];
      if (before === undefined) return;
      const older: Address[] = [];
      for await (const { address } of newestJobs(states, history.entries.length, before)) older.push(address);
      expect(older).toEqual(newest.filter((address) => address < jobAddress(before)));
    }),
    { numRuns: 40 },
  );
}, 120_000);

test("jobs come the newest first where the newest entry is older than they are, and but some are read for a page", async () => {
  const history = recording();
  const made: JobId[] = [];
  for (let chance = 0; chance < 3_000; chance++) {
    history.wait(10);
    made.push(history.job(chance, 1));
  }
  history.wait(-10_000_000); // as one that was taken in from another cluster
  const old = history.job(3_000, 1);
  const states = await storeOf(history);
  let read = 0;
  const counted: States = {
    ...states,
    async *cut(...asked) {
      for await (const entry of states.cut(...asked)) {
        read++;
        yield entry;
      }
    },
  };
  const found: Address[] = [];
  for await (const { address } of newestJobs(counted, history.entries.length)) {
    if (found.push(address) === 50) break;
  }
  expect(read).toBeLessThan(1_500);
  const rest: Address[] = [];
  for await (const { address } of newestJobs(states, history.entries.length)) rest.push(address);
  expect(rest).toEqual([...made.toReversed(), old].map(jobAddress));
  expect(found).toEqual(rest.slice(0, 50));
});

test("jobs come the newest first, however many there are of one time", async () => {
  const history = recording();
  const made: JobId[] = [];
  for (let chance = 0; chance < 700; chance++) {
    if (chance % 300 === 0) history.wait(100_000);
    made.push(history.job(chance, 1));
  }
  const states = await storeOf(history);
  const found: Address[] = [];
  for await (const { address } of newestJobs(states, history.entries.length)) found.push(address);
  expect(found).toEqual(made.toSorted().reverse().map(jobAddress));
  const before = made[650]!;
  const older: Address[] = [];
  for await (const { address } of newestJobs(states, history.entries.length, before)) older.push(address);
  expect(older).toEqual(found.filter((address) => address < jobAddress(before)));
});
