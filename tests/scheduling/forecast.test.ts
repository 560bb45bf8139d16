import { describe, expect, test } from "vitest";
import { seededRandom } from "../../src/runtime/random.ts";
import { forecast, type TraceTask } from "../../src/scheduling/forecast.ts";
import { defaultPolicy, type Policy } from "../../src/scheduling/policy.ts";
import { syntheticTrace } from "../../src/scheduling/synthetic.ts";

const task = (atMs: number, durationMs: number, requestor = "ada"): TraceTask => ({
  atMs,
  durationMs,
  requestor,
  rank: 2,
});
const classes: Policy = {
  ...defaultPolicy,
  classes: [{ name: "ci", percent: 75, floor: 0 }, { name: "others", percent: 25, floor: 0 }],
  requestors: [{ pattern: "ci", class: "ci" }],
};

describe("a forecast", () => {
  test("of one slot is what one works out by hand", () => {
    const found = forecast([task(0, 10), task(0, 10), task(5, 20)], { workers: 1, slots: 1 }, defaultPolicy);
    expect(found).toMatchObject({ tasks: 3, slots: 1, lastsMs: 40, utilisationPercent: 100, unplaceable: 0 });
    expect(found.classes).toEqual([
      {
        name: "default",
        percent: 100,
        tasks: 3,
        waitP50Ms: 10,
        waitP95Ms: 15,
        waitP99Ms: 15,
        waitMaxMs: 15,
        usedPercent: 100,
      },
    ]);
  });

  test("counts time between tasks as idle, and starts at the first", () => {
    const found = forecast([task(1_000, 10), task(1_030, 10)], { workers: 2, slots: 1 }, defaultPolicy);
    expect(found).toMatchObject({ lastsMs: 40, utilisationPercent: 25 });
    expect(found.classes[0]).toMatchObject({ waitMaxMs: 0 });
  });

  test("tells of what no worker can run, and of nothing at all", () => {
    const odd = { ...task(0, 10), platform: { os: "plan9" } };
    expect(forecast([odd, task(0, 5)], { workers: 1, slots: 1 }, defaultPolicy)).toMatchObject({ unplaceable: 1 });
    expect(forecast([], { workers: 1, slots: 1 }, defaultPolicy)).toMatchObject({ tasks: 0, utilisationPercent: 0 });
  });

  test("gives each class its percentage of the slots in every minute in which all have work", () => {
    const random = seededRandom(7);
    const trace = Array.from({ length: 40_000 }, (_, n) => task(0, 500 + random.integer(4_500), n % 2 ? "ci" : "bob"));
    const { unfairPoints, classes: [ci] } = forecast(trace, { workers: 100, slots: 1 }, classes);
    expect(unfairPoints!.minutes).toBeGreaterThan(5);
    // The first minute begins with all slots free, and each class has its part of them at once.
    expect(unfairPoints!.worst).toBeLessThanOrEqual(2);
    expect(ci!.tasks).toBe(20_000);
  });

  test("is the same for the same trace", () => {
    const work = { tasks: 2_000, hours: 1, durationMs: 10_000, requestors: [{ name: "ci", part: 3, rank: 2 }] };
    const run = () => {
      const random = seededRandom(3);
      const trace = [...syntheticTrace(work, () => random.integer(2 ** 30) / 2 ** 30)];
      expect(trace.every(({ atMs }, at) => at === 0 || atMs >= trace[at - 1]!.atMs)).toBe(true);
      expect(trace.at(-1)!.atMs).toBeLessThanOrEqual(3_600_000);
      return forecast(trace, { workers: 5, slots: 2 }, classes);
    };
    expect(run()).toEqual(run());
  });
});
