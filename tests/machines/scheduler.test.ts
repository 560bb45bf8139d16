import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type SchedulerContext, type SchedulerEvent, schedulerMachine } from "../../src/machines/scheduler.ts";
import { type Running, running } from "./running.ts";

const newScheduler = (): Running<SchedulerContext, SchedulerEvent> => running(schedulerMachine, { atMs: 10 });
const started = (epoch: number): SchedulerEvent => ({ type: "scheduler.started", epoch, atMs: epoch * 100 });
const drain: SchedulerEvent = { type: "scheduler.drain", why: "Ctrl-C", atMs: 50 };

describe("the scheduler's own machine", () => {
  test("is open at birth and at each start", () => {
    const scheduler = newScheduler();
    expect(scheduler.path).toBe("open");
    scheduler.hear(started(1), drain);
    expect(scheduler.path).toBe("draining");
    expect(scheduler.context.drainReason).toBe("Ctrl-C");
    scheduler.hear(started(2));
    expect(scheduler.path).toBe("open");
    expect(scheduler.context).toMatchObject({ epoch: 2, startedAtMs: 200 });
    expect(scheduler.context.drainReason).toBeUndefined();
  });

  test("ignores a start of an epoch that is not newer, which would open what drains", () => {
    const scheduler = newScheduler().hear(started(2), drain, started(2), started(1));
    expect(scheduler.path).toBe("draining");
    expect(scheduler.context.epoch).toBe(2);
  });

  test("never falls back to an earlier epoch", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }).map(started), fc.constant(drain))), (events) => {
        const scheduler = newScheduler();
        let highest = 0;
        for (const event of events) {
          scheduler.hear(event);
          expect(scheduler.context.epoch).toBeGreaterThanOrEqual(highest);
          highest = scheduler.context.epoch;
        }
      }),
    );
  });
});
