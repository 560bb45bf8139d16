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

  test.each<readonly [string, readonly number[], { readonly workers: number; readonly slots: number }]>([
    ["two classes, 100 slots", [75, 25], { workers: 100, slots: 1 }],
    ["two that are equal", [50, 50], { workers: 25, slots: 4 }],
    ["four of odd percentages", [47, 31.5, 15.5, 6], { workers: 50, slots: 2 }],
    ["one of one per cent", [90, 9, 1], { workers: 100, slots: 1 }],
    ["eight, 300 slots", [30, 20, 15, 12, 10, 7, 4, 2], { workers: 75, slots: 4 }],
  ])(
    "gives each class its percentage within 2 points in every minute in which all have work: %s",
    (_, percents, fleet) => {
      const policy: Policy = {
        ...defaultPolicy,
        classes: percents.map((percent, at) => ({ name: `c${at}`, percent, floor: 0 })),
        requestors: percents.map((_, at) => ({ pattern: `c${at}`, class: `c${at}` })),
      };
      const random = seededRandom(7);
      const slots = fleet.workers * fleet.slots;
      const minutes = 5;
      // Enough for each class for so many minutes. The first one is alone for a while: what it was lent comes back.
      const works = percents.map((percent, at) =>
        Array.from(
          { length: Math.ceil(slots * percent / 100 * minutes * 60 / 2.5) + 2 * slots },
          () => task(at === 0 ? 0 : 30_000, 1 + random.integer(5_000), `c${at}`),
        )
      );
      const first = works[0]!.concat(
        Array.from({ length: slots * 12 }, () => task(0, 1 + random.integer(5_000), "c0")),
      );
      const { unfairPoints } = forecast([...first, ...works.slice(1).flat()], fleet, policy);
      expect(unfairPoints!.minutes).toBeGreaterThanOrEqual(minutes - 1);
      expect(unfairPoints!.worst).toBeLessThanOrEqual(2);
    },
  );

  test("keeps to throttles, and to floors", () => {
    const throttled: Policy = { ...defaultPolicy, throttles: [{ pattern: "bot", running: 1 }] };
    const trace = [task(0, 10, "bot"), task(0, 10, "bot"), task(0, 10, "bot"), task(0, 10)];
    expect(forecast(trace, { workers: 4, slots: 1 }, throttled)).toMatchObject({ lastsMs: 30, unplaceable: 0 });
    const floored: Policy = {
      ...classes,
      classes: [{ name: "ci", percent: 100, floor: 0 }, { name: "others", percent: 0, floor: 1 }],
    };
    const [ci, others] = forecast(
      [...Array.from({ length: 8 }, () => task(0, 10, "ci")), task(1, 10)],
      { workers: 2, slots: 1 },
      floored,
    ).classes;
    expect([others!.waitMaxMs, ci!.waitMaxMs]).toEqual([9, 40]);
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
