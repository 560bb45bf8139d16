import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { timers } from "../../src/actors/timers.ts";
import { virtualTime } from "../../src/simulation/time.ts";

/** Timers over a virtual clock, with what woke when. */
function clockwork() {
  const time = virtualTime();
  const began = time.now();
  const woken: (readonly [string, number])[] = [];
  const heap = timers<string>(time, (due, atMs) => due.forEach((key) => woken.push([key, atMs - began])));
  return {
    heap,
    woken,
    set: (key: string, inMs: number | undefined): void => heap.set(key, inMs === undefined ? undefined : began + inMs),
    /** Until so many ms after the beginning. */
    until: async (ms: number): Promise<void> => void await time.run(began + ms, () => false),
    happenings: () => time.happenings,
  };
}

describe("timers", () => {
  test("wake once, at their time or at most 250 ms later, the earlier first", async () => {
    const { woken, set, until } = clockwork();
    set("late", 5_010);
    set("early", 1_010);
    await until(1_009);
    expect(woken).toEqual([]);
    await until(60_000);
    expect(woken).toEqual([["early", 1_250], ["late", 5_250]]);
  });

  test("that are moved or taken back do not wake at their old time", async () => {
    const { woken, set, until } = clockwork();
    set("moved", 1_000);
    set("moved", 3_000);
    set("back", 1_000);
    set("back", undefined);
    set("again", 1_000);
    set("again", undefined);
    set("again", 1_000);
    await until(60_000);
    expect(woken).toEqual([["again", 1_000], ["moved", 3_000]]);
  });

  test("may be set again by whom they woke", async () => {
    const time = virtualTime();
    const began = time.now();
    const rung: number[] = [];
    const heap = timers<string>(time, (_, atMs) => {
      rung.push(atMs - began);
      if (rung.length < 3) heap.set("a", atMs + 1_000);
    });
    heap.set("a", began);
    await time.run(began + 60_000, () => false);
    expect(rung).toEqual([0, 1_000, 2_000]);
  });

  test("of a time that has passed wake soon", async () => {
    const { woken, set, until } = clockwork();
    await until(10_000);
    set("past", 1_000);
    await until(10_000);
    expect(woken).toEqual([["past", 10_000]]);
  });

  test("of one moment cost one wake of the clock", async () => {
    const { woken, set, until, happenings } = clockwork();
    for (let index = 0; index < 10_000; index++) set(`key ${index}`, 1_000 + index / 1_000);
    await until(60_000);
    expect(woken).toHaveLength(10_000);
    expect(happenings()).toBeLessThan(5);
  });

  test("wake nobody once they are closed", async () => {
    const { heap, woken, set, until } = clockwork();
    set("a", 1_000);
    heap.close();
    set("b", 500);
    await until(60_000);
    expect(woken).toEqual([]);
  });

  test("wake exactly those that a list of deadlines would", async () => {
    const change = fc.record({
      key: fc.constantFrom("a", "b", "c", "d"),
      inMs: fc.option(fc.nat(3_000), { nil: undefined, freq: 4 }),
      waitMs: fc.nat(400),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 40 }), async (changes) => {
        const { woken, set, until } = clockwork();
        const deadlines = new Map<string, number>();
        const expected: (readonly [string, number])[] = [];
        let now = 0;
        const bucketOf = (ms: number): number => Math.ceil(ms / 250) * 250;
        const wait = async (ms: number): Promise<void> => {
          now += ms;
          await until(now);
          for (const [key, deadline] of deadlines) {
            if (bucketOf(deadline) > now) continue;
            expected.push([key, deadline]);
            deadlines.delete(key);
          }
          expect(woken.map(([key]) => key).sort()).toEqual(expected.map(([key]) => key).sort());
        };
        for (const { key, inMs, waitMs } of changes) {
          if (inMs === undefined) deadlines.delete(key);
          else deadlines.set(key, now + inMs);
          set(key, inMs === undefined ? undefined : now + inMs);
          await wait(waitMs);
        }
        await wait(4_000);
        expect(deadlines.size).toBe(0);
      }),
      { numRuns: 50 },
    );
  });
});
