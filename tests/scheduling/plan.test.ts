import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { jobId, type TaskId, taskId, type WorkerId, workerId } from "../../src/domain/ids.ts";
import { type PlacingWorker, type QueuedTask, schedulingView } from "../../src/scheduling/plan.ts";

const job = jobId("j0123456789-000000");
const task = (index: number, changes: Partial<QueuedTask> = {}): QueuedTask => ({
  taskId: taskId(job, index),
  requestor: "ada",
  rank: 2,
  platform: {},
  input: `input ${index}`,
  again: false,
  ...changes,
});
const worker = (name: string, slots: number, platform: Record<string, string> = {}): PlacingWorker => ({
  workerId: workerId(name),
  slots,
  platform,
});

/** A view whose assignments are carried out, as the scheduler does. */
function scheduling(...workers: readonly PlacingWorker[]) {
  const view = schedulingView();
  const queued = new Map<TaskId, QueuedTask>();
  const placed = new Map<TaskId, { readonly workerId: WorkerId; readonly task: QueuedTask }>();
  for (const one of workers) view.setWorker(one);
  return {
    view,
    enqueue(...tasks: readonly QueuedTask[]): void {
      for (const one of tasks) {
        view.enqueue(one);
        queued.set(one.taskId, one);
      }
    },
    /** Places one task: its place in the job and the worker. */
    place(): readonly [number, string] | undefined {
      const next = view.next();
      if (next === undefined) return undefined;
      const found = queued.get(next.taskId)!;
      view.dequeue(next.taskId);
      view.occupy(next.workerId, found.requestor, found.input);
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
      const { workerId, task: { requestor } } = placed.get(id)!;
      placed.delete(id);
      view.vacate(workerId, requestor);
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

  test("to one that ran the same input last, else to the one with the most free slots, else to the first by name", () => {
    const s = scheduling(worker("w3", 2), worker("w2", 2), worker("w1", 1));
    s.enqueue(task(0, { input: "x" }), task(1, { input: "y" }), task(2, { input: "x" }), task(3, { input: "y" }));
    expect(s.placeAll()).toEqual([[0, "w2"], [1, "w3"], [2, "w2"], [3, "w3"]]);
    s.enqueue(task(4));
    expect(s.placeAll()).toEqual([[4, "w1"]]);
  });

  test("with the reason as a sentence", () => {
    const s = scheduling(worker("w1", 2));
    s.enqueue(task(0, { input: "x" }), task(1, { input: "x" }));
    expect(s.view.next()!.why).toBe("w1 is the only worker, with 2 of 2 slots free");
    s.place();
    expect(s.view.next()!.why).toBe("w1 ran the same input last and has 1 of 2 slots free");
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
    expect(s.view.outlook(taskId(job, 4))!.ahead).toBe(4);
    expect(s.view.outlook(taskId(job, 3))!.ahead).toBe(1);
    expect(s.view.outlook(taskId(job, 2))!.ahead).toBe(0);
    expect(s.view.outlook(taskId(job, 9))).toBeUndefined();
  });

  test("which of its wishes nobody meets", () => {
    const s = scheduling(worker("w1", 1, { os: "linux" }), worker("w2", 1, { gpu: "a100" }));
    s.enqueue(task(0, { platform: { os: "linux", cpu: "arm" } }), task(1, { platform: { os: "linux", gpu: "a100" } }));
    expect(s.view.outlook(taskId(job, 0))).toMatchObject({ fits: false, unmet: ["cpu=arm"] });
    expect(s.view.outlook(taskId(job, 1))).toMatchObject({ fits: false, unmet: [] });
  });
});

// ---- against a model that looks at everything anew each time -----------------------------------------------------------

interface Model {
  readonly workers: Map<string, PlacingWorker>;
  readonly lastInput: Map<string, string>;
  queue: QueuedTask[];
  readonly placed: Map<TaskId, { readonly workerId: WorkerId; readonly task: QueuedTask }>;
}
const busyIn = (model: Model, id: string): number =>
  [...model.placed.values()].filter((one) => one.workerId === id).length;
const runningOf = (model: Model, requestor: string): number =>
  [...model.placed.values()].filter((one) => one.task.requestor === requestor).length;

/** By the words of the interface: rank, fewest running, put back, longest waiting; same input, most free, name. */
function modelNext(model: Model): { taskId: TaskId; workerId: WorkerId } | undefined {
  const turns = model.queue.map((one, at) => ({ one, at })).sort((a, b) =>
    a.one.rank - b.one.rank ||
    runningOf(model, a.one.requestor) - runningOf(model, b.one.requestor) ||
    Number(b.one.again) - Number(a.one.again) ||
    a.at - b.at
  );
  for (const { one } of turns) {
    const able = [...model.workers.values()].map((each) => ({ each, free: each.slots - busyIn(model, each.workerId) }))
      .filter(({ each, free }) =>
        free > 0 && Object.entries(one.platform).every(([name, value]) => each.platform[name] === value)
      )
      .sort((a, b) => {
        const same = (id: string): number => Number(model.lastInput.get(id) === one.input);
        return same(b.each.workerId) - same(a.each.workerId) || b.free - a.free ||
          (a.each.workerId < b.each.workerId ? -1 : 1);
      });
    if (able.length > 0) return { taskId: one.taskId, workerId: able[0]!.each.workerId };
  }
  return undefined;
}

type Move =
  | {
    readonly type: "enqueue";
    readonly requestor: string;
    readonly rank: number;
    readonly os: string;
    readonly input: string;
  }
  | { readonly type: "place" }
  | { readonly type: "finish" | "putBack" | "leave"; readonly which: number }
  | { readonly type: "worker"; readonly name: string; readonly slots: number; readonly os: string }
  | { readonly type: "away"; readonly name: string };

test("decides as a model does that looks at everything anew, and never gives a worker more than its slots", () => {
  const name = fc.constantFrom("w1", "w2", "w3");
  const os = fc.constantFrom("", "linux", "plan9");
  const move: fc.Arbitrary<Move> = fc.oneof(
    {
      arbitrary: fc.record({
        type: fc.constant("enqueue" as const),
        requestor: fc.constantFrom("ada", "bob", "eve"),
        rank: fc.nat(2),
        os,
        input: fc.constantFrom("x", "y"),
      }),
      weight: 5,
    },
    { arbitrary: fc.constant<Move>({ type: "place" }), weight: 6 },
    fc.record({ type: fc.constantFrom("finish" as const, "putBack" as const, "leave" as const), which: fc.nat() }),
    fc.record({ type: fc.constant("worker" as const), name, slots: fc.integer({ min: 1, max: 3 }), os }),
    fc.record({ type: fc.constant("away" as const), name }),
  );
  const platformOf = (value: string): Record<string, string> => value === "" ? {} : { os: value };

  fc.assert(
    fc.property(fc.array(move, { maxLength: 80 }), (moves) => {
      const view = schedulingView();
      const model: Model = { workers: new Map(), lastInput: new Map(), queue: [], placed: new Map() };
      let count = 0;
      for (const one of moves) {
        switch (one.type) {
          case "enqueue": {
            const { requestor, rank, input } = one;
            const fresh = task(count++, { requestor, rank, input, platform: platformOf(one.os) });
            view.enqueue(fresh);
            model.queue.push(fresh);
            break;
          }
          case "place": {
            const expected = modelNext(model);
            const next = view.next();
            expect(next && { taskId: next.taskId, workerId: next.workerId }).toEqual(expected);
            if (next === undefined) break;
            const placed = model.queue.find((each) => each.taskId === next.taskId)!;
            model.queue = model.queue.filter((each) => each !== placed);
            model.placed.set(next.taskId, { workerId: next.workerId, task: placed });
            model.lastInput.set(next.workerId, placed.input);
            view.dequeue(next.taskId);
            view.occupy(next.workerId, placed.requestor, placed.input);
            expect(view.busyOn(next.workerId)).toBeLessThanOrEqual(model.workers.get(next.workerId)!.slots);
            break;
          }
          case "finish":
          case "putBack": {
            const found = [...model.placed.entries()][one.which % Math.max(1, model.placed.size)];
            if (found === undefined) break;
            const [id, { workerId: on, task: was }] = found;
            model.placed.delete(id);
            view.vacate(on, was.requestor);
            if (one.type === "finish") break;
            const again = { ...was, again: true };
            view.enqueue(again);
            model.queue.push(again);
            break;
          }
          case "leave": {
            const found = model.queue[one.which % Math.max(1, model.queue.length)];
            if (found === undefined) break;
            view.dequeue(found.taskId);
            model.queue = model.queue.filter((each) => each !== found);
            break;
          }
          case "worker": {
            const fresh = worker(one.name, one.slots, platformOf(one.os));
            view.setWorker(fresh);
            model.workers.set(one.name, fresh);
            break;
          }
          case "away":
            view.removeWorker(workerId(one.name));
            model.workers.delete(one.name);
            model.lastInput.delete(one.name);
        }
        expect(view.queued).toBe(model.queue.length);
        expect(view.busy).toBe(model.placed.size);
        expect(view.workers).toBe(model.workers.size);
        expect(view.slots).toBe([...model.workers.values()].reduce((sum, each) => sum + each.slots, 0));
        for (const each of model.workers.keys()) expect(view.busyOn(workerId(each))).toBe(busyIn(model, each));
        for (const each of model.queue) {
          const { ahead, fits } = view.outlook(each.taskId)!;
          const sameKind = model.queue.filter((other) =>
            other.rank < each.rank ||
            (other.rank === each.rank && other.requestor === each.requestor &&
              JSON.stringify(other.platform) === JSON.stringify(each.platform) &&
              (other.again === each.again ? model.queue.indexOf(other) < model.queue.indexOf(each) : other.again))
          );
          expect(ahead).toBeGreaterThanOrEqual(sameKind.length);
          expect(fits).toBe(
            [...model.workers.values()].some((w) =>
              Object.entries(each.platform).every(([key, value]) => w.platform[key] === value)
            ),
          );
        }
      }
    }),
    { numRuns: 300 },
  );
});
