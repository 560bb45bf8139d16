import { describe, expect, test } from "vitest";
import type { Attempt } from "../../src/domain/job.ts";
import type { State } from "../../src/machines/step.ts";
import { violations } from "../../src/simulation/check.ts";
import type { Planted } from "../../src/simulation/disk.ts";
import { isPossible } from "../../src/simulation/workload.ts";
import { simulate } from "../../src/simulation/world.ts";
import type { Entry } from "../../src/snapshots/states/states.ts";

const seeds = 50;

describe("a simulated cluster", () => {
  test(
    `loses nothing, runs nothing twice and is fair under ${seeds} seeds of crashes, stops, full disks and bad networks`,
    async () => {
      let starts = 0;
      const reasons = new Set<string>();
      let told = 0;
      let unplaceable = 0;
      let gaveWay = 0;
      let stops = 0;
      let fullDisks = 0;
      const trees = { mounting: 0, overlaying: 0 };
      for (let seed = 1; seed <= seeds; seed++) {
        const history = await simulate({ seed });
        expect(violations(history), `replay with seed ${seed}`).toEqual([]);
        expect(history.marks.length, `seed ${seed} ran something`).toBeGreaterThan(10);
        for (const { cause } of history.entries) {
          if ((cause.event as { readonly type: string }).type === "task.unplaceable") told++;
        }
        for (const { planned, tasks } of history.jobs) {
          gaveWay += tasks.filter(({ cached, attempts }, at) =>
            cached !== undefined && attempts.length === 0 && !isPossible(planned.job.tasks[at]!)
          ).length;
          unplaceable += tasks.filter(({ outcome }) =>
            outcome?.kind === "failed" && outcome.fault.code === "TASK_UNPLACEABLE"
          ).length;
          for (const { attempts } of tasks) {
            for (const { reason } of attempts) {
              reasons.add(reason);
            }
          }
        }
        starts += history.schedulerStarts - 1 + history.workerStarts - 3;
        stops += history.stops;
        fullDisks += history.fullDisks;
        for (const { machine, state } of history.entries) {
          const value = machine === "task" ? (state as State | null)?.value : undefined;
          if (value === "mounting" || value === "overlaying") trees[value]++;
        }
      }
      expect([...reasons].sort(), "a policy put tasks back, too").toEqual([
        "drained",
        "first",
        "preempted",
        "retry",
        "workerLost",
      ]);
      expect(unplaceable, "tasks asked for what nobody has").toBeGreaterThan(seeds / 2);
      expect(gaveWay, "and had the result of one that asked for less").toBeGreaterThan(0);
      expect(told, "and were told so before").toBeGreaterThan(unplaceable * 3 / 2);
      expect(starts, "processes were killed").toBeGreaterThan(seeds);
      expect(stops, "processes were stopped").toBeGreaterThan(seeds);
      expect(fullDisks, "disks were full").toBeGreaterThan(seeds / 4);
      expect(trees.mounting, "inputs were mounted").toBeGreaterThan(seeds);
      expect(trees.overlaying, "outputs were laid over inputs").toBeGreaterThan(seeds);
    },
    120_000,
  );

  test("has the same history when it has the same seed", async () => {
    const [first, second, other] = [
      await simulate({ seed: 7 }),
      await simulate({ seed: 7 }),
      await simulate({ seed: 8 }),
    ];
    expect(second).toEqual(first);
    expect(other.entries).not.toEqual(first.entries);
  }, 30_000);

  test("is checked by its log: a false reason, a turn out of turn and an entry that grows are found", async () => {
    // One has a single class, the other three, of a requestor each.
    const [one, three] = [await simulate({ seed: 3 }), await simulate({ seed: 1 })];
    const changed = (
      change: (task: Record<string, unknown>, entry: Entry) => Record<string, unknown>,
      history = one,
    ): string[] =>
      violations({
        ...history,
        entries: history.entries.map((entry) => {
          if (entry.machine !== "task" || entry.state === null) return entry;
          const state = entry.state as State;
          return { ...entry, state: { ...state, context: { ...state.context, ...change(state.context, entry) } } };
        }),
      });
    const attempts = (task: Record<string, unknown>): readonly Attempt[] => task["attempts"] as readonly Attempt[];
    expect([...changed(() => ({})), ...changed(() => ({}), three)]).toEqual([]);
    expect(changed((task) => ({ attempts: attempts(task).map((one) => ({ ...one, reason: "drained" })) }))[0])
      .toMatch(/was made for "drained"/);
    expect(changed((_, { seq }) => ({ priority: seq % 3 }))[0]).toMatch(/which is more urgent/);
    const mixed = (_: unknown, { seq }: Entry) => ({ requestor: `r${seq % 3}`, priority: 0 });
    expect(changed(mixed)[0]).toMatch(/running\) went ahead of/);
    expect(changed(mixed, three).join()).toMatch(/of class ., which has its share, went ahead of class/);
    expect(changed((task) => ({ name: `${task["name"]}`.repeat(3_000) }))[0]).toMatch(/has \d+ bytes/);
  }, 30_000);

  test.each<Planted>(["speakBeforeSave", "forgetUnsent", "ignoreEpoch"])(
    "finds the planted mistake %s",
    async (planted) => {
      for (let seed = 1; seed <= seeds; seed++) {
        if (violations(await simulate({ seed, planted })).length > 0) return;
      }
      expect.fail(`${seeds} seeds did not find it`);
    },
    120_000,
  );
});
