import { describe, expect, test } from "vitest";
import { jobId, type TaskId, taskId, type WorkerId, workerId } from "../../src/domain/ids.ts";
import { checkPolicy, defaultPolicy, type Policy } from "../../src/scheduling/policy.ts";
import { type PlacingWorker, type QueuedTask, schedulingView } from "../../src/scheduling/plan.ts";

const job = jobId("j0123456789-000000");
const task = (index: number, changes: Partial<QueuedTask> = {}): QueuedTask => ({
  taskId: taskId(job, index),
  requestor: "ada",
  rank: 2,
  platform: {},
  input: `input ${index}`,
  again: false,
  queuedAtMs: 0,
  ...changes,
});
const worker = (
  name: string,
  slots: number,
  platform: Record<string, string> = {},
  more: Pick<PlacingWorker, "cpuMillis" | "memoryBytes"> = {},
): PlacingWorker => ({ workerId: workerId(name), slots, platform, ...more });

/** A view whose assignments are carried out, as the scheduler does. */
function scheduling(...workers: readonly PlacingWorker[]) {
  return schedulingWith({}, ...workers);
}
function schedulingWith(policy: Partial<Policy>, ...workers: readonly PlacingWorker[]) {
  const view = schedulingView(checkPolicy({ ...defaultPolicy, ...policy }));
  let nowMs = 0;
  const queued = new Map<TaskId, QueuedTask>();
  const placed = new Map<TaskId, { readonly workerId: WorkerId; readonly task: QueuedTask }>();
  for (const one of workers) view.setWorker(one);
  return {
    view,
    pass(ms: number): void {
      nowMs += ms;
    },
    enqueue(...tasks: readonly QueuedTask[]): void {
      for (const one of tasks) {
        view.enqueue(one);
        queued.set(one.taskId, one);
      }
    },
    /** Places one task: its place in the job and the worker. */
    place(): readonly [number, string] | undefined {
      const next = view.next(nowMs);
      if (next === undefined) return undefined;
      const found = queued.get(next.taskId)!;
      view.dequeue(next.taskId);
      view.occupy(next.workerId, found);
      queued.delete(next.taskId);
      placed.set(next.taskId, { workerId: next.workerId, task: found });
      return [Number(next.taskId.split("/")[1]), next.workerId];
    },
    placeAll(): readonly (readonly [number, string])[] {
      const all = [];
      for (let next = this.place(); next !== undefined; next = this.place()) all.push(next);
      return all;
    },
    finish(index: number): void {
      const id = taskId(job, index);
      placed.delete(id);
      view.vacate(id);
    },
  };
}
const order = (placements: readonly (readonly [number, string])[]): readonly number[] =>
  placements.map(([index]) => index);

test("a decision costs what it decides: 20,000 wishes that nobody meets are looked at once, and not by each", () => {
  const s = scheduling(worker("w1", 1_000, {}, { memoryBytes: 1_000 }));
  let looks = 0;
  const needs = () => ({
    get memoryBytes() {
      looks++;
      return 1;
    },
  });
  const count = 20_000;
  s.enqueue(
    ...Array.from({ length: count }, (_, index) => task(index, { requestor: `r${index}` })),
    ...Array.from(
      { length: count },
      (_, index) => task(count + index, { rank: 0, platform: { os: `os${index}` }, needs: needs() }),
    ),
  );
  looks = 0;
  expect(s.placeAll()).toHaveLength(1_000);
  expect(looks).toBeGreaterThanOrEqual(count);
  expect(looks).toBeLessThan(10 * count);
});

describe("whose turn it is", () => {
  test("tasks of one requestor go in the order in which they came", () => {
    const s = scheduling(worker("w1", 5));
    s.enqueue(task(3), task(1), task(2));
    expect(order(s.placeAll())).toEqual([3, 1, 2]);
  });

  test("a lower rank goes first, whoever asks", () => {
    const s = scheduling(worker("w1", 5));
    s.enqueue(task(0, { rank: 2 }), task(1, { rank: 0, requestor: "bob" }), task(2, { rank: 1 }));
    expect(order(s.placeAll())).toEqual([1, 2, 0]);
  });

  test("the requestor with the fewest running tasks goes first", () => {
    const s = scheduling(worker("w1", 4));
    s.enqueue(
      ...[0, 1, 2, 3].map((index) => task(index)),
      task(10, { requestor: "bob" }),
      task(11, { requestor: "bob" }),
    );
    expect(order(s.placeAll())).toEqual([0, 10, 1, 11]);
    s.finish(10);
    s.enqueue(task(12, { requestor: "bob" }));
    expect(order(s.placeAll())).toEqual([12]);
  });

  test("a task that was put back goes ahead of its requestor's others, also of those with other wishes", () => {
    const s = scheduling(worker("w1", 5, { os: "linux" }));
    s.enqueue(task(0), task(1, { platform: { os: "linux" } }), task(2, { again: true }), task(3, { again: true }));
    expect(order(s.placeAll())).toEqual([2, 3, 0, 1]);
  });

  test("a task that nobody can run holds up nobody", () => {
    const s = scheduling(worker("w1", 5));
    s.enqueue(task(0, { platform: { os: "windows" } }), task(1));
    expect(order(s.placeAll())).toEqual([1]);
    expect(s.view.queued).toBe(1);
  });

  test("a task that left the queue is not placed, and does not keep its place when it comes back", () => {
    const s = scheduling(worker("w1", 5));
    s.enqueue(task(0), task(1), task(2));
    s.view.dequeue(taskId(job, 0));
    s.view.dequeue(taskId(job, 0));
    s.enqueue(task(0));
    expect(order(s.placeAll())).toEqual([1, 2, 0]);
  });

  test("a task is queued once, however often it is said", () => {
    const s = scheduling(worker("w1", 5));
    s.enqueue(task(0), task(0));
    expect(order(s.placeAll())).toEqual([0]);
  });
});

describe("where a task goes", () => {
  test("to a worker that has every property it asks for, with that value", () => {
    const s = scheduling(
      worker("w1", 5, { os: "linux" }),
      worker("w2", 1, { os: "linux", gpu: "a100" }),
      worker("w3", 5, { os: "linux", gpu: "h100" }),
    );
    s.enqueue(task(0, { platform: { gpu: "a100", os: "linux" } }), task(1, { platform: { gpu: "a100" } }));
    expect(s.placeAll()).toEqual([[0, "w2"]]);
  });

  test("wishes whose texts run into each other are told apart", () => {
    const s = scheduling(worker("w1", 5, { a: "1\nb=2" }), worker("w2", 5, { a: "1", b: "2" }));
    s.enqueue(task(0, { platform: { a: "1\nb=2" } }), task(1, { platform: { a: "1", b: "2" } }));
    expect(s.placeAll()).toEqual([[0, "w1"], [1, "w2"]]);
  });

  test("to one that ran the same input last, else to the one with the most free slots, else to the first that came", () => {
    const s = scheduling(worker("w2", 2), worker("w3", 2), worker("w1", 1));
    s.enqueue(task(0, { input: "x" }), task(1, { input: "y" }), task(2, { input: "x" }), task(3, { input: "y" }));
    expect(s.placeAll()).toEqual([[0, "w2"], [1, "w3"], [2, "w2"], [3, "w3"]]);
    s.enqueue(task(4));
    expect(s.placeAll()).toEqual([[4, "w1"]]);
  });

  test("with the reason as a sentence", () => {
    const s = scheduling(worker("w1", 2));
    s.enqueue(task(0, { input: "x" }), task(1, { input: "x" }));
    expect(s.view.next(0)!.why).toBe("w1 is the only worker, with 2 of 2 slots free");
    s.place();
    expect(s.view.next(0)!.why).toBe("w1 ran the same input last and has 1 of 2 slots free");
  });

  test("to a worker with a free slot though another has more tasks than slots", () => {
    const s = scheduling(worker("w1", 3));
    s.enqueue(task(0), task(1), task(2));
    s.placeAll();
    s.view.setWorker(worker("w1", 1)); // it came back with fewer
    s.view.setWorker(worker("w2", 1));
    s.enqueue(task(3), task(4));
    expect(s.placeAll()).toEqual([[3, "w2"]]);
  });

  test("not to a worker that is away; its tasks count as its own when it is back", () => {
    const s = scheduling(worker("w1", 1));
    s.enqueue(task(0), task(1));
    s.placeAll();
    s.view.removeWorker(workerId("w1"));
    expect(s.view.slots).toBe(0);
    expect(s.placeAll()).toEqual([]);
    s.view.setWorker(worker("w1", 1));
    expect(s.placeAll()).toEqual([]);
    s.finish(0);
    expect(s.placeAll()).toEqual([[1, "w1"]]);
  });
});

describe("what is told of a queued task", () => {
  test("how many go ahead of it", () => {
    const s = scheduling();
    s.enqueue(task(0), task(1), task(2, { rank: 0 }), task(3, { again: true }), task(4));
    expect(s.view.outlook(taskId(job, 4), 0)!.ahead).toBe(4);
    expect(s.view.outlook(taskId(job, 3), 0)!.ahead).toBe(1);
    expect(s.view.outlook(taskId(job, 2), 0)!.ahead).toBe(0);
    expect(s.view.outlook(taskId(job, 9), 0)).toBeUndefined();
  });

  test("which of its wishes nobody meets", () => {
    const s = scheduling(worker("w1", 1, { os: "linux" }), worker("w2", 1, { gpu: "a100" }));
    s.enqueue(task(0, { platform: { os: "linux", cpu: "arm" } }), task(1, { platform: { os: "linux", gpu: "a100" } }));
    expect(s.view.outlook(taskId(job, 0), 0)).toMatchObject({
      unmet: { lacks: ["cpu=arm"], nearest: { workerId: "w1", has: ["no cpu"] } },
    });
    expect(s.view.outlook(taskId(job, 1), 0)).toMatchObject({
      unmet: { lacks: [], nearest: { workerId: "w1", has: ["no gpu"] } },
    });
  });
});

test("M-8: who waits for a worker of a kind holds up nobody who fits now, though it came first and is more urgent", () => {
  const s = scheduling(worker("w1", 2), worker("w2", 1, { gpu: "a" }));
  s.enqueue(...[0, 1, 2].map((index) => task(index, { rank: 0, platform: { gpu: "a" } })));
  s.enqueue(...[10, 11, 12].map((index) => task(index, { rank: 5 })), task(13, { requestor: "bob", rank: 5 }));
  expect(new Set(s.placeAll().map(([, at]) => at))).toEqual(new Set(["w1", "w2"]));
  expect(s.placeAll()).toEqual([]);
  s.finish(0);
  expect(s.placeAll()).toEqual([[1, "w2"]]);
});

test("who waits for what no worker has is told of those that are here and take nothing", () => {
  const s = scheduling(...["w1", "w2", "w3", "w4", "w5"].map((name) => worker(name, 1)));
  s.enqueue(task(0));
  for (const name of ["w1", "w2", "w3", "w4"]) s.view.removeWorker(workerId(name), "Its disk is full");
  expect(s.view.outlook(taskId(job, 0), 0), "one could run it").not.toHaveProperty("aside");
  s.view.removeWorker(workerId("w5"));
  s.view.removeWorker(workerId("w1"));
  const why = "Its disk is full";
  expect(s.view.outlook(taskId(job, 0), 0)?.aside).toEqual(
    ["w2", "w3", "w4"].map((name) => ({ workerId: name, why })),
  );
  s.view.setWorker(worker("w2", 1, { os: "x" }));
  s.enqueue(task(1, { platform: { gpu: "a" } }));
  expect(s.view.outlook(taskId(job, 1), 0)?.aside).toHaveLength(2);
});

describe("classes", () => {
  const classes = {
    classes: [{ name: "ci", percent: 75, floor: 0 }, { name: "rest", percent: 25, floor: 0 }],
    requestors: [{ pattern: "ci.*", class: "ci" }],
  };
  const tasksOf = (requestor: string, from: number, count: number): readonly QueuedTask[] =>
    Array.from({ length: count }, (_, at) => task(from + at, { requestor }));

  test("free slots are divided among them; what one does not want is lent to the other", () => {
    const s = schedulingWith(classes, worker("w1", 8));
    s.enqueue(...tasksOf("ci", 0, 20), ...tasksOf("ada", 100, 20));
    const placed = order(s.placeAll());
    expect(placed.filter((index) => index < 100)).toHaveLength(6);
    expect(s.view.outlook(taskId(job, 19), 0)).toMatchObject({ class: "ci", target: 6, used: 6, waitingInClass: 14 });

    const alone = schedulingWith(classes, worker("w1", 8));
    alone.enqueue(...tasksOf("ada", 100, 20));
    expect(alone.placeAll()).toHaveLength(8);
    alone.enqueue(...tasksOf("ci", 0, 20));
    alone.finish(100);
    alone.finish(101);
    expect(order(alone.placeAll())).toEqual([0, 1]);
  });

  test("a class whose tasks find no room leaves the slots to others", () => {
    const s = schedulingWith(classes, worker("w1", 4), worker("w2", 4, { gpu: "a" }));
    s.enqueue(
      ...Array.from({ length: 9 }, (_, at) => task(at, { requestor: "ci", platform: { gpu: "a" } })),
      ...tasksOf("ada", 100, 9),
    );
    const placed = s.placeAll();
    expect(placed).toHaveLength(8);
    expect(placed.filter(([index]) => index < 100)).toEqual([[0, "w2"], [1, "w2"], [2, "w2"], [3, "w2"]]);
  });

  test("one slot goes round in the proportion of the percentages", () => {
    const s = schedulingWith(classes, worker("w1", 1));
    s.enqueue(...tasksOf("ci", 0, 400), ...tasksOf("ada", 1_000, 400));
    let ci = 0;
    for (let count = 0; count < 400; count++) {
      const [index] = s.place()!;
      if (index < 1_000) ci++;
      s.pass(5_000);
      s.view.next(5_000 * (count + 1));
      s.finish(index);
    }
    expect(Math.abs(ci - 300)).toBeLessThanOrEqual(2);
  });

  test("new settings sort what waits and what runs anew", () => {
    const s = schedulingWith({}, worker("w1", 4));
    s.enqueue(...tasksOf("ada", 0, 4));
    s.placeAll();
    s.enqueue(...tasksOf("ada", 10, 4), ...tasksOf("ci", 20, 4));
    s.view.setPolicy({ ...defaultPolicy, ...classes });
    expect(s.view.outlook(taskId(job, 10), 0)).toMatchObject({ class: "rest", target: 1, used: 4, waitingInClass: 4 });
    for (const index of [0, 1, 2]) s.finish(index);
    expect(order(s.placeAll())).toEqual([20, 21, 22]);
  });

  test("are rebalanced only when they were apart for so long without a break", () => {
    const apart = schedulingWith({ ...classes, rebalance: { minimumMs: 1_000, threshold: 50 } }, worker("w1", 8));
    apart.enqueue(...tasksOf("ada", 100, 8));
    apart.placeAll();
    apart.enqueue(...tasksOf("ci", 0, 20));
    const stopped = (nowMs: number): readonly number[] =>
      order(
        apart.view.preemptions(nowMs).map(({ taskId, workerId }) => [Number(taskId.split("/")[1]), workerId] as const),
      );
    expect(stopped(0)).toEqual([]);
    expect(stopped(999)).toEqual([]);
    for (let index = 0; index < 20; index++) apart.view.dequeue(taskId(job, index));
    expect(stopped(1_000)).toEqual([]);
    apart.enqueue(...tasksOf("ci", 20, 20));
    expect(stopped(1_001)).toEqual([]);
    expect(stopped(2_001)).toEqual([107, 106, 105, 104, 103, 102]);
    expect(stopped(2_002)).toEqual([]);

    const never = schedulingWith(classes, worker("w1", 8));
    never.enqueue(...tasksOf("ada", 100, 8));
    never.placeAll();
    never.enqueue(...tasksOf("ci", 0, 20));
    never.view.preemptions(0);
    expect(never.view.preemptions(1e9)).toEqual([]);
  });
});

describe("a requestor that may run so many at once", () => {
  const throttles = [{ pattern: "bots-a", running: 1 }, { pattern: "bots-.*", running: 2 }];
  const tasksOf = (requestor: string, from: number, count: number): readonly QueuedTask[] =>
    Array.from({ length: count }, (_, at) => task(from + at, { requestor }));

  test("runs no more, holds up nobody, is told so, and goes on as its tasks end", () => {
    const s = schedulingWith({ throttles }, worker("w1", 9));
    s.enqueue(...tasksOf("bots-a", 0, 3), ...tasksOf("bots-b", 10, 3), ...tasksOf("ada", 20, 2));
    expect([...order(s.placeAll())].sort((a, b) => a - b)).toEqual([0, 10, 11, 20, 21]);
    expect(s.view.outlook(taskId(job, 1), 0)).toMatchObject({ waitsFor: "throttle", runningMax: 1 });
    s.enqueue(task(3, { requestor: "bots-a", again: true }), task(4, { requestor: "bots-a", platform: { os: "x" } }));
    expect(s.placeAll()).toEqual([]);
    s.finish(10);
    expect(order(s.placeAll())).toEqual([12]);
    s.finish(0);
    expect(order(s.placeAll())).toEqual([3]);
  });

  test("may run others when settings say so, at once, and fewer as its tasks end", () => {
    const s = schedulingWith({ throttles }, worker("w1", 9));
    s.enqueue(...tasksOf("bots-b", 0, 6));
    expect(order(s.placeAll())).toEqual([0, 1]);
    s.view.setPolicy({ ...defaultPolicy, throttles: [{ pattern: ".*", running: 3 }] });
    expect(order(s.placeAll())).toEqual([2]);
    s.view.setPolicy({ ...defaultPolicy, throttles: [{ pattern: ".*", running: 1 }] });
    s.finish(0);
    s.finish(1);
    expect(s.placeAll()).toEqual([]);
    s.view.setPolicy(defaultPolicy);
    expect(order(s.placeAll())).toEqual([3, 4, 5]);
  });

  test("lends its class's slots to others meanwhile, and takes none of theirs back", () => {
    const s = schedulingWith(
      {
        classes: [{ name: "bots", percent: 75, floor: 0 }, { name: "rest", percent: 25, floor: 0 }],
        requestors: [{ pattern: "bots.*", class: "bots" }],
        throttles,
        rebalance: { minimumMs: 0, threshold: 10 },
      },
      worker("w1", 8),
    );
    s.enqueue(...tasksOf("bots-a", 0, 8), ...tasksOf("ada", 20, 8));
    expect(s.placeAll()).toHaveLength(8);
    expect(s.view.outlook(taskId(job, 27), 0)).toMatchObject({ used: 7 });
    expect(s.view.preemptions(1_000)).toEqual([]);
  });

  test("has no room kept for it", () => {
    const s = schedulingWith(
      { throttles: [{ pattern: "ada", running: 1 }], reserveAfterMs: 100 },
      worker("w1", 4, {}, { memoryBytes: 2 }),
    );
    const big = { needs: { memoryBytes: 2 } };
    s.enqueue(task(0, { requestor: "bob", needs: { memoryBytes: 1 } }), task(1, big), task(2));
    expect(order(s.placeAll())).toEqual([0, 2]);
    s.pass(200);
    s.enqueue(task(3, { requestor: "bob", needs: { memoryBytes: 1 } }));
    expect(order(s.placeAll()), "ada runs one, so nothing is kept for her other").toEqual([3]);
    s.finish(2);
    s.pass(200);
    expect(s.placeAll()).toEqual([]);
    s.enqueue(task(4, { requestor: "bob", needs: { memoryBytes: 1 } }));
    s.finish(0);
    expect(s.placeAll(), "now it is kept").toEqual([]);
    s.finish(3);
    expect(order(s.placeAll())).toEqual([1]);
  });
});

test("nothing is put back for a task that no worker could run", () => {
  const s = schedulingWith(
    {
      classes: [{ name: "gpu", percent: 75, floor: 0 }, { name: "rest", percent: 25, floor: 0 }],
      requestors: [{ pattern: "gpu.*", class: "gpu" }],
      rebalance: { minimumMs: 100, threshold: 10 },
    },
    worker("w1", 4),
  );
  s.enqueue(...[0, 1, 2, 3].map((index) => task(index)), task(10, { requestor: "gpu1", platform: { gpu: "a" } }));
  s.placeAll();
  expect(s.view.preemptions(0)).toEqual([]);
  expect(s.view.preemptions(100)).toEqual([]);
  s.enqueue(task(11, { requestor: "gpu1" }));
  expect(s.view.preemptions(200)).toEqual([]);
  expect(s.view.preemptions(300).length).toBeGreaterThan(0);
});

test("no more is put back than the others may start: what is throttled, or wants a counter that is used up, waits all the same", () => {
  const policy: Partial<Policy> = {
    classes: [{ name: "lab", percent: 75, floor: 0 }, { name: "rest", percent: 25, floor: 0 }],
    requestors: [{ pattern: "lab.*", class: "lab" }],
    rebalance: { minimumMs: 100, threshold: 10 },
  };
  const rest = Array.from({ length: 8 }, (_, index) => task(index));
  const putBack = (s: ReturnType<typeof scheduling>): number => {
    expect(s.view.preemptions(0)).toEqual([]);
    return s.view.preemptions(100).length;
  };
  const throttled = schedulingWith({ ...policy, throttles: [{ pattern: "lab1", running: 2 }] }, worker("w1", 8));
  throttled.enqueue(...rest);
  throttled.placeAll();
  const lab = { requestor: "lab1" };
  throttled.enqueue(...[10, 11, 12, 13].map((index) => task(index, lab)), task(14, { ...lab, platform: { os: "x" } }));
  expect(putBack(throttled)).toBe(2);

  const licensed = [10, 11, 12, 13].map((index) => task(index, { ...lab, needs: { counters: { licence: 2 } } }));
  const counted = () => schedulingWith({ ...policy, counters: { licence: 3 } }, worker("w1", 8));
  const used = counted();
  used.enqueue(...licensed, ...rest);
  expect(used.placeAll()).toHaveLength(8);
  expect(putBack(used), "one runs, and another has no licence").toBe(0);

  const free = counted();
  free.enqueue(...rest);
  free.placeAll();
  free.enqueue(...licensed);
  expect(putBack(free)).toBe(1);
});

describe("nothing is put back in vain", () => {
  const policy: Partial<Policy> = {
    classes: [{ name: "lab", percent: 75, floor: 0 }, { name: "rest", percent: 25, floor: 0 }],
    requestors: [{ pattern: "lab.*", class: "lab" }],
    rebalance: { minimumMs: 100, threshold: 10 },
    reserveAfterMs: 0,
  };
  const of = (requestor: string, memoryBytes: number, from: number, count: number): readonly QueuedTask[] =>
    Array.from({ length: count }, (_, at) => task(from + at, { requestor, needs: { memoryBytes } }));
  const putBack = (s: ReturnType<typeof scheduling>): readonly string[] => {
    expect(s.view.preemptions(0)).toEqual([]);
    return s.view.preemptions(100).map(({ taskId, workerId }) => `${taskId.split("/")[1]} on ${workerId}`);
  };

  test("where those that wait have too little memory all the same", () => {
    const s = schedulingWith(policy, worker("w1", 8, {}, { memoryBytes: 8 }));
    s.enqueue(...of("ada", 1, 0, 8));
    expect(s.placeAll()).toHaveLength(8);
    s.enqueue(...of("lab", 3, 10, 8));
    expect(putBack(s), "each would make room for a third").toEqual([]);
  });

  test("and each that is makes room for one, where one may run", () => {
    const s = schedulingWith(
      policy,
      worker("w1", 4, {}, { memoryBytes: 8 }),
      worker("w2", 4, { os: "x" }, { memoryBytes: 4 }),
    );
    s.enqueue(...of("ada", 2, 0, 4), ...of("ada", 1, 4, 4));
    expect(s.placeAll()).toHaveLength(8);
    s.enqueue(...of("lab", 2, 10, 4));
    expect(putBack(s), "of the small ones none makes room").toEqual(["3 on w1", "2 on w1", "1 on w1", "0 on w1"]);
  });

  test("while a free slot is enough", () => {
    const s = schedulingWith(policy, worker("w1", 8, {}, { memoryBytes: 100 }));
    s.enqueue(...of("ada", 1, 0, 7));
    s.placeAll();
    s.enqueue(...of("lab", 1, 10, 1));
    expect(putBack(s)).toEqual([]);
  });
});

test("a task goes before another's whose requestor or class has its share, if its own has slots to claim", () => {
  const s = schedulingWith(
    {
      classes: [{ name: "lab", percent: 50, floor: 0 }, { name: "rest", percent: 50, floor: 3 }],
      requestors: [{ pattern: "lab.*", class: "lab" }],
      throttles: [{ pattern: "lab-bots", running: 0 }],
    },
    worker("w1", 4),
  );
  const of = (requestor: string, from: number, count: number): readonly QueuedTask[] =>
    Array.from({ length: count }, (_, at) => task(from + at, { requestor }));
  expect([s.view.mayPass, s.view.goesBefore("ada", "lab1")], "nothing waits").toEqual([false, false]);
  s.enqueue(...of("lab1", 0, 5));
  s.placeAll();
  expect(s.view.mayPass).toBe(true);
  expect([s.view.goesBefore("ada", "lab1"), s.view.goesBefore("lab1", "ada")]).toEqual([true, false]);
  expect(s.view.goesBefore("lab2", "lab1"), "they are of one class").toBe(false);
  s.enqueue(...of("ada", 10, 2));
  expect(s.view.goesBefore("bob", "lab1"), "the floor is three").toBe(true);
  s.enqueue(...of("ada", 12, 1));
  expect(s.view.goesBefore("bob", "lab1"), "its own tasks take what its class has to claim").toBe(false);
  expect(s.view.goesBefore("lab1", "lab-bots")).toBe(true);
  expect(s.view.goesBefore("lab-bots", "lab1")).toBe(false);
});

describe("ageing", () => {
  test("a task of a higher rank goes ahead of those that became heads long after it", () => {
    const s = schedulingWith({ ageingMs: 100 }, worker("w1", 1));
    s.enqueue(task(0, { rank: 2 }), task(1, { rank: 0, requestor: "bob", queuedAtMs: 199 }));
    s.enqueue(task(2, { rank: 0, requestor: "eve", queuedAtMs: 300 }));
    const placed: number[] = [];
    for (let next = s.place(); next !== undefined; next = s.place()) {
      placed.push(next[0]);
      s.finish(next[0]);
    }
    expect(placed).toEqual([1, 0, 2]);
  });

  test("a task that was put back does not make those behind it younger", () => {
    const s = schedulingWith({ ageingMs: 100, counters: { licence: 1 } }, worker("w1", 1));
    s.enqueue(task(0), task(1), task(2, { needs: { counters: { licence: 1 } } }));
    s.enqueue(task(3, { again: true, queuedAtMs: 100 }));
    const placed: number[] = [];
    for (let next = s.place(); next !== undefined; next = s.place()) {
      placed.push(next[0]);
      s.finish(next[0]);
    }
    expect(placed).toEqual([3, 0, 1, 2]);
  });

  test("0 means never", () => {
    const s = schedulingWith({ ageingMs: 0 }, worker("w1", 1));
    s.enqueue(task(0, { rank: 2 }), task(1, { rank: 0, queuedAtMs: 1e12 }));
    expect(order(s.placeAll())).toEqual([1]);
  });
});

describe("what a task needs", () => {
  test("memory and processor are counted, and what does not fit holds up nobody", () => {
    const s = scheduling(worker("w1", 9, {}, { cpuMillis: 2_000, memoryBytes: 10 }));
    s.enqueue(
      task(0, { needs: { memoryBytes: 6 } }),
      task(1, { needs: { memoryBytes: 6 } }),
      task(2, { needs: { memoryBytes: 4, cpuMillis: 1_500 } }),
      task(3, { needs: { cpuMillis: 600 } }),
      task(4),
    );
    expect(order(s.placeAll())).toEqual([0, 2, 4]);
    expect(s.view.outlook(taskId(job, 1), 0)).toMatchObject({ waitsFor: "memory" });
    expect(s.view.outlook(taskId(job, 3), 0)).toMatchObject({ waitsFor: "cpu" });
    s.finish(2);
    expect(order(s.placeAll())).toEqual([3]);
    s.finish(0);
    expect(order(s.placeAll())).toEqual([1]);
  });

  test("what tasks take of a worker that is away is missing when it is back", () => {
    const s = scheduling(worker("w1", 2, {}, { memoryBytes: 10 }));
    s.enqueue(task(0, { needs: { memoryBytes: 6 } }), task(1, { needs: { memoryBytes: 6 } }));
    s.placeAll();
    s.view.removeWorker(workerId("w1"));
    s.view.setWorker(worker("w1", 2, {}, { memoryBytes: 10 }));
    expect(s.placeAll()).toEqual([]);
    s.finish(0);
    expect(order(s.placeAll())).toEqual([1]);
  });

  test("a worker that came back with less than is taken has nothing to give, but to tasks that ask for nothing", () => {
    const s = scheduling(worker("w1", 3, {}, { memoryBytes: 10 }));
    s.enqueue(task(0, { needs: { memoryBytes: 6 } }));
    s.placeAll();
    s.view.setWorker(worker("w1", 3, {}, { memoryBytes: 4 }));
    s.enqueue(task(1, { needs: { memoryBytes: 1 } }), task(2), task(3));
    expect(order(s.placeAll())).toEqual([2, 3]);
  });

  test("counters are given back by tasks that end, and what no worker, no size and no counter meets is named", () => {
    const s = schedulingWith({ counters: { licence: 3 } }, worker("w1", 9, { os: "linux" }, { memoryBytes: 10 }));
    s.enqueue(
      task(0, { needs: { counters: { licence: 2 } } }),
      task(1, { needs: { counters: { licence: 2 } } }),
      task(2, { needs: { counters: { licence: 1 } } }),
      task(3, { needs: { counters: { licence: 4, scanner: 1 } } }),
      task(4, { needs: { memoryBytes: 11 }, platform: { os: "plan9" } }),
    );
    expect(order(s.placeAll())).toEqual([0, 2]);
    expect(s.view.outlook(taskId(job, 1), 0)).toMatchObject({ waitsFor: "counter" });
    expect(s.view.outlook(taskId(job, 3), 0)).toMatchObject({
      unmet: { lacks: ["licence=4", "scanner=1"] },
    });
    expect(s.view.outlook(taskId(job, 4), 0)).toMatchObject({
      unmet: {
        lacks: ["os=plan9", "memoryBytes=11"],
        nearest: { workerId: "w1", has: ["os=linux", "memoryBytes=10"] },
      },
    });
    s.finish(2);
    expect(s.placeAll()).toEqual([]);
    s.finish(0);
    expect(order(s.placeAll())).toEqual([1]);
    s.view.setPolicy({ ...defaultPolicy, counters: { licence: 9, scanner: 1 } });
    expect(order(s.placeAll())).toEqual([3]);
  });

  test("a counter of which small takers always have some is kept for the one who wants all", () => {
    const s = schedulingWith({ counters: { licence: 2 }, reserveAfterMs: 80 }, worker("w1", 9));
    const small = (index: number): QueuedTask => task(index, { needs: { counters: { licence: 1 } } });
    s.enqueue(small(0), small(1));
    s.placeAll();
    s.enqueue(task(2, { needs: { counters: { licence: 2 } } }), small(3), small(4));
    expect(s.placeAll()).toEqual([]);
    s.pass(80);
    expect(s.placeAll()).toEqual([]);
    s.finish(0);
    expect(s.placeAll()).toEqual([]);
    s.finish(1);
    expect(s.view.next(80)!.why).toContain("was kept for it");
    expect(order(s.placeAll())).toEqual([2]);
    s.finish(2);
    expect(order(s.placeAll())).toEqual([3, 4]);
  });

  test("a worker is kept until the task for which it is goes away, or the worker does", () => {
    const s = schedulingWith({ reserveAfterMs: 80 }, worker("w1", 9, {}, { memoryBytes: 2 }));
    s.enqueue(task(0, { needs: { memoryBytes: 1 } }));
    s.placeAll();
    s.enqueue(task(1, { needs: { memoryBytes: 2 } }));
    s.placeAll();
    s.pass(80);
    expect(s.placeAll()).toEqual([]);
    s.enqueue(task(2, { needs: { memoryBytes: 1 } }), task(3));
    expect(s.placeAll()).toEqual([]);
    s.view.dequeue(taskId(job, 1));
    expect(order(s.placeAll())).toEqual([2, 3]);
    s.enqueue(task(4, { needs: { memoryBytes: 2 } }));
    s.placeAll();
    s.pass(100);
    expect(s.placeAll()).toEqual([]);
    s.view.removeWorker(workerId("w1"));
    s.view.setWorker(worker("w2", 1, {}, { memoryBytes: 2 }));
    expect(s.placeAll()).toEqual([[4, "w2"]]);
  });
});

test("a counter is kept no longer for a task that no worker could run any more", () => {
  const s = schedulingWith({ counters: { licence: 1 }, reserveAfterMs: 80 }, worker("w1", 2, { os: "plan9" }));
  s.enqueue(task(0, { needs: { counters: { licence: 1 } } }));
  s.placeAll();
  s.enqueue(task(1, { platform: { os: "plan9" }, needs: { counters: { licence: 1 } } }));
  s.placeAll();
  s.pass(80);
  expect(s.placeAll()).toEqual([]);
  s.view.setWorker(worker("w1", 2, { os: "linux" }));
  s.finish(0);
  s.enqueue(task(2, { needs: { counters: { licence: 1 } } }));
  expect(order(s.placeAll())).toEqual([2]);
});

describe("which worker is liked", () => {
  test("one with as few other properties as there are: special ones stay free", () => {
    const s = scheduling(worker("w1", 9, { gpu: "a", os: "linux" }), worker("w2", 2, { os: "linux" }), worker("w3", 1));
    s.enqueue(...[0, 1, 2, 3].map((index) => task(index, { platform: index === 0 ? { os: "linux" } : {} })));
    expect(s.placeAll()).toEqual([[0, "w2"], [1, "w3"], [2, "w2"], [3, "w1"]]);
  });

  test("a special one that ran the same input is not taken while a plain one is free", () => {
    const s = scheduling(worker("w1", 2, { gpu: "a" }), worker("w2", 1));
    s.enqueue(task(0, { input: "x", platform: { gpu: "a" } }));
    s.placeAll();
    s.enqueue(task(1, { input: "x" }), task(2, { input: "x" }));
    expect(s.placeAll()).toEqual([[1, "w2"], [2, "w1"]]);
  });

  test("one that ran the same requestor's same basis last, when none ran the same input; nothing waits for it", () => {
    const s = scheduling(worker("w1", 1), worker("w2", 2), worker("w3", 2));
    s.enqueue(task(0, { basis: "main" }), task(1, { basis: "main", requestor: "bob" }));
    expect(s.placeAll()).toEqual([[0, "w2"], [1, "w3"]]);
    s.finish(0);
    s.finish(1);
    s.enqueue(task(2, { basis: "main", requestor: "bob" }));
    expect(s.view.next(0)!.why).toBe("w3 ran the same requestor's same basis last and has 2 of 2 slots free");
    s.enqueue(...[3, 4, 5, 6].map((index) => task(index, { basis: "main", requestor: "bob" })));
    expect(s.placeAll()).toEqual([[2, "w3"], [3, "w3"], [4, "w2"], [5, "w2"], [6, "w1"]]);
  });

  test("workers that differ in their names alone are used evenly", () => {
    const s = scheduling(...["w1", "w2", "w3"].map((name) => worker(name, 3, { host: name })));
    s.enqueue(...[0, 1, 2].map((index) => task(index)));
    expect(s.placeAll().map(([, name]) => name).sort()).toEqual(["w1", "w2", "w3"]);
  });
});

test("of a task that waits it is told who goes ahead, and for what it waits", () => {
  const s = scheduling(worker("w1", 2));
  s.enqueue(task(0), task(1));
  s.placeAll();
  s.enqueue(task(2), task(3, { requestor: "bob" }), task(4, { requestor: "bob", rank: 0 }));
  expect(s.view.outlook(taskId(job, 2), 0)).toEqual({
    class: "default",
    target: 2,
    used: 2,
    waitingInClass: 3,
    ahead: 1,
    aheadOf: [{ requestor: "bob", tasks: 2, running: 0 }],
    waitsFor: "slot",
  });
});
