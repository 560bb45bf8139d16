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

test("a decision costs what it decides: 20,000 requestors and as many wishes that nobody meets do not make it dearer", () => {
  const s = scheduling(worker("w1", 1_000));
  s.enqueue(
    ...Array.from({ length: 20_000 }, (_, index) => task(index, { requestor: `r${index}` })),
    ...Array.from({ length: 20_000 }, (_, index) => task(20_000 + index, { rank: 0, platform: { os: `os${index}` } })),
  );
  const startedAtMs = performance.now();
  expect(s.placeAll()).toHaveLength(1_000);
  // Looking at all of them for each took several seconds; this takes some hundredths of one.
  expect(performance.now() - startedAtMs).toBeLessThan(1_000);
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
    expect(s.view.outlook(taskId(job, 0), 0)).toMatchObject({ fits: false, unmet: ["cpu=arm"] });
    expect(s.view.outlook(taskId(job, 1), 0)).toMatchObject({ fits: false, unmet: [] });
  });
});
