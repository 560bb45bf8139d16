import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { workerId } from "../../src/domain/ids.ts";
import type { WorkerDescription } from "../../src/domain/worker.ts";
import { isSetAside, type WorkerContext, type WorkerEvent, workerMachine } from "../../src/machines/worker.ts";
import { type Running, running } from "./running.ts";

const description: WorkerDescription = {
  workerId: workerId("w1"),
  incarnation: "1",
  slots: 2,
  platform: { os: "linux" },
  isolation: "none",
};
const lostAfterMs = 1_000;
const newWorker = (): Running<WorkerContext, WorkerEvent> =>
  running(workerMachine, { worker: description, lostAfterMs, atMs: 10 });
const joined = (atMs: number, changes: Partial<WorkerDescription> = {}): WorkerEvent => ({
  type: "worker.joined",
  worker: { ...description, ...changes },
  atMs,
});
const disconnected = (atMs: number): WorkerEvent => ({ type: "worker.disconnected", atMs });
const awaited = (atMs: number): WorkerEvent => ({ type: "worker.awaited", atMs });
const reached = (atMs: number): WorkerEvent => ({ type: "clock.reached", atMs });

describe("a worker, as its scheduler sees it,", () => {
  test("is lost only after it was away for as long as it may", () => {
    const worker = newWorker().hear(disconnected(100));
    expect(worker.path).toBe("absent");
    expect(worker.context).toMatchObject({ sinceMs: 100, wakeAtMs: 1_100 });
    expect(worker.hear(reached(1_099)).path).toBe("absent");
    expect(worker.hear(reached(1_100)).path).toBe("lost");
    expect(worker.context.wakeAtMs).toBeUndefined();
  });

  test("comes back in time and is not lost at the time that was set", () => {
    const worker = newWorker().hear(disconnected(100), joined(500, { slots: 4, incarnation: "2" }));
    expect(worker.path).toBe("present");
    expect(worker.context).toMatchObject({ slots: 4, incarnation: "2", sinceMs: 500 });
    expect(worker.hear(reached(1_100)).path).toBe("present");
  });

  test("is a worker again after it was lost", () => {
    expect(newWorker().hear(disconnected(100), reached(1_100), joined(2_000)).path).toBe("present");
  });

  test("that is away has its whole time again when its scheduler starts anew, which it may have waited for", () => {
    const worker = newWorker().hear(disconnected(100), awaited(5_000), reached(5_000));
    expect(worker.path).toBe("absent");
    expect(worker.context.wakeAtMs).toBe(6_000);
    expect(newWorker().hear(awaited(5_000)).path).toBe("absent");
  });

  test("gains no time by connecting and going without a word", () => {
    const worker = newWorker().hear(disconnected(100), disconnected(1_000));
    expect(worker.context.wakeAtMs).toBe(1_100);
  });

  test("is given nothing while it says that it is paused, and may be again when it says so no more", () => {
    const worker = newWorker();
    expect(isSetAside(worker.context)).toBe(false);
    worker.hear(joined(20, { paused: "Its disk is full" }));
    expect(worker.path).toBe("present");
    expect(isSetAside(worker.context)).toBe(true);
    worker.hear(disconnected(30), joined(40, { paused: "Its disk is full" }));
    expect(isSetAside(worker.context)).toBe(true);
    worker.hear(joined(50));
    expect(isSetAside(worker.context)).toBe(false);
    expect(worker.context.paused).toBeUndefined();
  });

  test("has a time to be woken at exactly while it is away", () => {
    const atMs = fc.nat(10_000);
    const event = fc.oneof(
      atMs.map((at) => joined(at)),
      atMs.map(disconnected),
      atMs.map(awaited),
      atMs.map(reached),
    );
    fc.assert(fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      const worker = newWorker();
      for (const one of events) {
        const wasAway = worker.path === "absent";
        worker.hear(one);
        expect(worker.context.wakeAtMs !== undefined).toBe(worker.path === "absent");
        if (worker.path === "lost" && one.type === "clock.reached" && !worker.isUnchanged) expect(wasAway).toBe(true);
      }
    }));
  });
});
