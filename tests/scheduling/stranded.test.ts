import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { jobId, type TaskId, taskId, workerId } from "../../src/domain/ids.ts";
import { type PlacingWorker, type QueuedTask, schedulingView } from "../../src/scheduling/plan.ts";
import { checkPolicy, defaultPolicy, type Policy } from "../../src/scheduling/policy.ts";
import type { Fleet } from "../../src/scheduling/fleet.ts";
import type { Queue } from "../../src/scheduling/queue.ts";
import { createStranded, newsMax } from "../../src/scheduling/stranded.ts";
import { casesOf } from "./cases.ts";

const job = jobId("j0123456789-000000");
const id = (index: number): TaskId => taskId(job, index);
const task = (index: number, changes: Partial<QueuedTask> = {}): QueuedTask => ({
  taskId: id(index),
  requestor: "ada",
  rank: 2,
  platform: { gpu: "a" },
  input: "i",
  again: false,
  queuedAtMs: 0,
  ...changes,
});
const worker = (name: string, platform: Record<string, string> = {}, memoryBytes?: number): PlacingWorker => ({
  workerId: workerId(name),
  slots: 1,
  platform,
  ...(memoryBytes === undefined ? {} : { memoryBytes }),
});
const viewOf = (changes: Partial<Policy>, ...workers: readonly PlacingWorker[]) => {
  const view = schedulingView(checkPolicy({ ...defaultPolicy, unmetAfterMs: 1_000, ...changes }));
  for (const one of workers) view.setWorker(one);
  return view;
};

describe("a task that no worker could ever run", () => {
  test("is told once, after it was so for the grace, with what is lacking and who comes nearest", () => {
    const view = viewOf({}, worker("w1", { os: "linux" }), worker("w2", { os: "linux", gpu: "b" }));
    view.enqueue(task(0, { platform: { os: "linux", gpu: "a" } }));
    expect(view.news(0)).toEqual([]);
    expect(view.news(999)).toEqual([]);
    expect(view.news(1_000)).toEqual([
      {
        taskId: id(0),
        unmet: { lacks: ["gpu=a"], nearest: { workerId: "w1", has: ["no gpu"] } },
        fails: false,
      },
    ]);
    expect(view.news(9_000)).toEqual([]);
    view.enqueue(task(1, { platform: { os: "linux", gpu: "a" }, queuedAtMs: 9_000 }));
    expect(view.news(9_500), "each has the grace").toEqual([]);
    expect(view.news(10_000).map(({ taskId }) => taskId)).toEqual([id(1)]);
  });

  test("of two that lack as much, the one with more of the memory comes nearest; one with a busy slot lacks nothing", () => {
    const view = viewOf({}, worker("w1", {}, 10), worker("w2", {}, 30), worker("w3", {}, 40));
    view.enqueue(task(0, { platform: {}, needs: { memoryBytes: 40 } }));
    const { workerId: on } = view.next(0)!;
    view.dequeue(id(0));
    view.occupy(on, task(0, { platform: {}, needs: { memoryBytes: 40 } }));
    view.enqueue(task(1, { platform: {}, needs: { memoryBytes: 50 } }));
    view.enqueue(task(2, { platform: {}, needs: { memoryBytes: 40 } }));
    view.news(0);
    expect(view.news(1_000)).toEqual([
      {
        taskId: id(1),
        unmet: { lacks: ["memoryBytes=50"], nearest: { workerId: "w3", has: ["memoryBytes=40"] } },
        fails: false,
      },
    ]);
  });

  test("is told when a worker is there that could, though it is busy; and anew of what is lacking then", () => {
    const view = viewOf({}, worker("w1"));
    view.enqueue(task(0, { needs: { memoryBytes: 5 } }));
    view.news(0);
    expect(view.news(1_000)[0]!.unmet!.lacks).toEqual(["gpu=a"]);
    view.setWorker(worker("w2", { gpu: "a" }, 4));
    view.setWorker(worker("w3", {}, 4));
    view.removeWorker(workerId("w1"));
    expect(view.news(2_000)[0]!.unmet).toEqual({
      lacks: ["memoryBytes=5"],
      nearest: { workerId: "w2", has: ["memoryBytes=4"] },
    });
    view.setWorker(worker("w4", { gpu: "a" }, 5));
    expect(view.news(3_000)).toEqual([{ taskId: id(0), unmet: undefined, fails: false }]);
    expect(view.news(4_000)).toEqual([]);
    view.removeWorker(workerId("w4"));
    expect(view.news(5_000)).toEqual([]);
    expect(view.news(6_000)[0]!.unmet!.lacks, "and again, after the grace").toEqual(["memoryBytes=5"]);
  });

  test("is told that it could, when it was told the contrary before a restart", () => {
    const view = viewOf({}, worker("w1", { gpu: "a" }));
    view.enqueue(task(0, { told: true }));
    view.enqueue(task(1));
    expect(view.news(0)).toEqual([{ taskId: id(0), unmet: undefined, fails: false }]);
  });

  test("is told nothing while no worker at all is there, nor in what new settings cure", () => {
    const view = viewOf({});
    view.enqueue(task(0, { platform: {}, needs: { counters: { licence: 2 } } }));
    view.news(0);
    expect(view.news(9_000)).toEqual([]);
    view.setWorker(worker("w1"));
    view.news(9_000);
    expect(view.news(10_000)).toEqual([{ taskId: id(0), unmet: { lacks: ["licence=2"] }, fails: false }]);
    view.setPolicy({ ...defaultPolicy, unmetAfterMs: 1_000, counters: { licence: 2 } });
    expect(view.news(11_000)).toEqual([{ taskId: id(0), unmet: undefined, fails: false }]);
  });

  test("fails when settings say so, once it has waited for that long", () => {
    const view = viewOf({ failUnmetAfterMs: 5_000 }, worker("w1"));
    view.enqueue(task(0));
    view.enqueue(task(1, { queuedAtMs: 2_000 }));
    view.news(0);
    expect(view.news(4_999).map(({ taskId, fails }) => [taskId, fails])).toEqual([[id(0), false], [id(1), false]]);
    expect(view.news(5_000).map(({ taskId, fails }) => [taskId, fails])).toEqual([[id(0), true]]);
    view.dequeue(id(0));
    expect(view.news(7_000).map(({ taskId, fails }) => [taskId, fails])).toEqual([[id(1), true]]);
  });

  test("is told in bounded pieces, whatever their number", () => {
    const view = viewOf({}, worker("w1"));
    for (let at = 0; at < 3 * newsMax; at++) view.enqueue(task(at, { rank: at % 3, requestor: `r${at % 7}` }));
    view.news(0);
    const told = [0, 1, 2, 3].map((more) => view.news(1_000 + more));
    expect(told.map((those) => those.length)).toEqual([newsMax, newsMax, newsMax, 0]);
    expect(new Set(told.flat().map(({ taskId }) => taskId)).size).toBe(3 * newsMax);
  });
});

test("new settings between two pieces leave nobody out", () => {
  const view = viewOf({}, worker("w1"));
  const count = newsMax + 50;
  for (let at = 0; at < count; at++) view.enqueue(task(at));
  view.news(0);
  const first = view.news(1_000);
  view.setPolicy({ ...defaultPolicy, unmetAfterMs: 1_000, throttles: [{ pattern: ".*", running: 9 }] });
  view.news(1_000);
  const told = [...first, ...view.news(2_000), ...view.news(2_001)].map(({ taskId }) => taskId);
  expect(new Set(told).size).toBe(count);
  view.setWorker(worker("w2", { gpu: "a" }));
  const cleared = [0, 1, 2].flatMap((more) => view.news(3_000 + more));
  expect(cleared.map(({ unmet }) => unmet)).toEqual(Array.from({ length: count }, () => undefined));
});

test("what tasks were told last is what is true of them, whatever comes and goes, once the grace is over", () => {
  const platforms = [{}, { gpu: "a" }, { gpu: "b" }, { os: "linux" }, { os: "linux", gpu: "a" }];
  const platform = fc.constantFrom(...platforms);
  const move = fc.oneof(
    fc.record({ type: fc.constant("enqueue" as const), platform, memoryBytes: fc.nat(4), told: fc.boolean() }),
    fc.record({ type: fc.constant("leave" as const), which: fc.nat() }),
    fc.record({ type: fc.constant("worker" as const), name: fc.nat(2), platform, memoryBytes: fc.nat(4) }),
    fc.record({ type: fc.constant("away" as const), name: fc.nat(2) }),
    fc.record({ type: fc.constant("policy" as const), running: fc.nat(2) }),
    fc.record({ type: fc.constant("news" as const), ms: fc.nat(700) }),
  );
  fc.assert(
    fc.property(fc.array(move, { maxLength: 60 }), (moves) => {
      const view = viewOf({});
      const queued = new Map<TaskId, QueuedTask>();
      const told = new Map<TaskId, boolean>();
      const workers = new Map<string, PlacingWorker>();
      let nowMs = 0;
      let count = 0;
      const hear = (): void => {
        for (const { taskId: to, unmet } of view.news(nowMs)) {
          expect(queued.has(to)).toBe(true);
          expect(told.get(to) === true || unmet !== undefined, "good news is for those who had bad news").toBe(true);
          told.set(to, unmet !== undefined);
        }
      };
      for (const one of moves) {
        if (one.type === "news") {
          nowMs += one.ms;
          hear();
        } else if (one.type === "enqueue") {
          const { platform, memoryBytes, told: before } = one;
          const fresh = task(count++, { platform, needs: { memoryBytes }, told: before, queuedAtMs: nowMs });
          queued.set(fresh.taskId, fresh);
          told.set(fresh.taskId, before);
          view.enqueue(fresh);
        } else if (one.type === "leave") {
          const found = [...queued.keys()][one.which % Math.max(1, queued.size)];
          if (found === undefined) continue;
          queued.delete(found);
          view.dequeue(found);
        } else if (one.type === "worker") {
          const fresh = worker(`w${one.name}`, one.platform, one.memoryBytes);
          workers.set(fresh.workerId, fresh);
          view.setWorker(fresh);
        } else if (one.type === "away") {
          workers.delete(`w${one.name}`);
          view.removeWorker(workerId(`w${one.name}`));
        } else {
          const throttles = [{ pattern: ".*", running: one.running }];
          view.setPolicy({ ...defaultPolicy, unmetAfterMs: 1_000, throttles });
        }
      }
      if (workers.size === 0) {
        view.setWorker(worker("w9", {}, 0));
        workers.set("w9", worker("w9", {}, 0));
      }
      for (let round = 0; round < 3; round++) {
        hear();
        nowMs += 1_000;
      }
      hear();
      for (const [to, { platform, needs }] of queued) {
        const isPossible = [...workers.values()].some((one) =>
          Object.entries(platform).every(([name, value]) => one.platform[name] === value) &&
          needs!.memoryBytes! <= one.memoryBytes!
        );
        expect(told.get(to)).toBe(!isPossible);
      }
    }),
    casesOf("SCHEDULING", 500),
  );
});

test("telling many costs what is told: no task is looked at anew for each piece", () => {
  const count = 40 * newsMax;
  let looks = 0;
  const first = Array.from({ length: count }, (_, index) => ({
    taskId: id(index),
    queuedAtMs: 0,
    told: 0,
    get gone() {
      looks++;
      return false;
    },
  }));
  const wish = {
    key: "k",
    fitsVersion: 1,
    strandedSinceMs: 0,
    statement: "",
    statementNumber: 0,
    size: count,
    told: 0,
    toldThis: 0,
    byKey: new Map([["g", { again: [], againHead: 0, first, firstHead: 0 }]]),
  };
  const stranded = createStranded(
    { workers: new Map([["w1", {}]]), version: 1 } as unknown as Fleet,
    { wishes: new Map([["k", wish]]) } as unknown as Queue,
    { couldRun: () => false, unmetBy: () => ({ lacks: ["gpu=a"] }) },
    () => ({ ...defaultPolicy, unmetAfterMs: 1 }),
  );
  let told = 0;
  for (let news = stranded.news(9); news.length > 0; news = stranded.news(9)) told += news.length;
  expect(told).toBe(count);
  expect(looks).toBeLessThan(4 * count);
});
