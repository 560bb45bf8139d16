import { describe, expect, test } from "vitest";
import { violations } from "../../src/simulation/check.ts";
import type { Planted } from "../../src/simulation/disk.ts";
import { simulate } from "../../src/simulation/world.ts";

const seeds = 50;

describe("a simulated cluster", () => {
  test(
    `loses nothing and runs nothing twice under ${seeds} seeds of crashes, cuts, drops, doubles and delays`,
    async () => {
      let starts = 0;
      for (let seed = 1; seed <= seeds; seed++) {
        const history = await simulate({ seed });
        expect(violations(history), `replay with seed ${seed}`).toEqual([]);
        expect(history.marks.length, `seed ${seed} ran something`).toBeGreaterThan(10);
        starts += history.schedulerStarts - 1 + history.workerStarts - 3;
      }
      expect(starts, "processes were killed").toBeGreaterThan(seeds);
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
