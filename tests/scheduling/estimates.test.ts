import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { jobId, type TaskId, taskId, workerId } from "../../src/domain/ids.ts";
import {
  createEstimates,
  createGuessedNeeds,
  kindsMax,
  roundedNeed,
  type Run,
} from "../../src/scheduling/estimates.ts";

const megabyte = 1024 * 1024;
const runs = fc.array(
  fc.record(
    { durationMs: fc.nat(1e7), peakMemoryBytes: fc.nat(1e12) },
    { requiredKeys: ["durationMs"] },
  ),
  { minLength: 1, maxLength: 30 },
) as fc.Arbitrary<Run[]>;

describe("what tasks will take", () => {
  test("is within what the last 8 runs took, and no less memory than the last measured one", () => {
    fc.assert(fc.property(runs, (all) => {
      const estimates = createEstimates();
      const kind = { name: "build", platform: { os: "linux" } };
      for (const run of all) estimates.observe(kind, run);
      const { durationMs, peakMemoryBytes } = estimates.of(kind)!;
      const durations = all.slice(-8).map((run) => run.durationMs);
      expect(durationMs).toBeGreaterThanOrEqual(Math.min(...durations));
      expect(durationMs).toBeLessThanOrEqual(Math.max(...durations));
      expect(durations.filter((one) => one <= durationMs).length * 2).toBeGreaterThanOrEqual(durations.length);
      expect(durations.filter((one) => one >= durationMs - 1).length * 2).toBeGreaterThanOrEqual(durations.length);
      const peaks = all.flatMap((run) => run.peakMemoryBytes ?? []).slice(-8);
      if (peaks.length === 0) return void expect(peakMemoryBytes).toBeUndefined();
      expect(peakMemoryBytes).toBeGreaterThanOrEqual(peaks.at(-1)!);
      expect(peakMemoryBytes).toBeLessThanOrEqual(Math.max(...peaks));
      expect(peakMemoryBytes).toBeGreaterThanOrEqual(Math.max(...peaks) * 0.95 ** 7);
    }));
  });

  test("differs by name and by platform, in whatever order its properties come, and by nothing else", () => {
    const estimates = createEstimates();
    estimates.observe({ name: "a", platform: { x: "1", y: "2" } }, { durationMs: 5 });
    expect(estimates.of({ name: "a", platform: { y: "2", x: "1" } })).toEqual({ durationMs: 5 });
    expect(estimates.of({ name: "a", platform: {} })).toBeUndefined();
    expect(estimates.of({ name: "b", platform: { x: "1", y: "2" } })).toBeUndefined();
  });

  test("is forgotten of those that ran longest ago, and is never known of more than 10,000 kinds", () => {
    const estimates = createEstimates();
    const run = (name: string) => estimates.observe({ name, platform: {} }, { durationMs: 1 });
    for (let at = 0; at < kindsMax; at++) run(`t${at}`);
    run("t0");
    run("new");
    expect(estimates.kinds).toBe(kindsMax);
    expect(estimates.of({ name: "t0", platform: {} })).toBeDefined();
    expect(estimates.of({ name: "t1", platform: {} })).toBeUndefined();
    run("x".repeat(3_000));
    expect(estimates.of({ name: "x".repeat(3_000), platform: {} })).toBeUndefined();
  });
});

test("a need is rounded up by a quarter at most, to one of four steps from each power of two to the next", () => {
  fc.assert(fc.property(fc.integer({ min: 64 * megabyte, max: 2 ** 50 }), (bytes) => {
    const rounded = roundedNeed(bytes);
    expect(rounded).toBeGreaterThanOrEqual(bytes);
    expect(rounded).toBeLessThanOrEqual(bytes * 1.25);
    expect(roundedNeed(rounded)).toBe(rounded);
    expect([4, 5, 6, 7]).toContain(rounded / 2 ** (Math.floor(Math.log2(rounded)) - 2));
  }));
  expect(roundedNeed(64 * megabyte - 1)).toBe(0);
});

describe("a guessed need", () => {
  const platforms = [{}, { gpu: "a" }, { os: "linux" }, { gpu: "a", os: "linux" }];
  const platform = fc.constantFrom<Readonly<Record<string, string>>>(...platforms);
  const memory = fc.option(fc.integer({ min: 1, max: 40 }).map((each) => each * 64 * megabyte), { nil: undefined });
  const step = fc.oneof(
    fc.record({ kind: fc.constant("set" as const), worker: fc.nat(3), platform, memory }),
    fc.record({ kind: fc.constant("remove" as const), worker: fc.nat(3) }),
    fc.record({ kind: fc.constant("queue" as const), task: fc.nat(9), platform, peak: fc.nat(4_000 * megabyte) }),
    fc.record({ kind: fc.constant("gone" as const), task: fc.nat(9) }),
    fc.record({ kind: fc.constant("look" as const) }),
  );
  const id = (at: number): TaskId => taskId(jobId("j0123456789-000000"), at);

  test("is never more than some worker has that the task could use, whatever comes and goes", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const guesses = createGuessedNeeds();
        const workers = new Map<number, { platform: Readonly<Record<string, string>>; memory: number | undefined }>();
        const queued = new Map<TaskId, { platform: Readonly<Record<string, string>>; needBytes: number }>();
        const roomFor = (wanted: Readonly<Record<string, string>>): number => {
          const able = [...workers.values()].filter((one) =>
            Object.entries(wanted).every(([name, value]) => one.platform[name] === value)
          );
          if (able.every((one) => one.memory === undefined)) return 0;
          return Math.max(...able.map((one) => one.memory ?? Infinity));
        };
        const look = (): void => {
          const wrong = [...queued].filter(([, one]) => one.needBytes > roomFor(one.platform)).map(([task]) => task);
          expect([...guesses.misfits()].sort()).toEqual(wrong.sort());
          for (const task of wrong) queued.delete(task);
        };
        for (const one of steps) {
          switch (one.kind) {
            case "set":
              workers.set(one.worker, one);
              guesses.setWorker(workerId(`w${one.worker}`), {
                platform: one.platform,
                ...(one.memory === undefined ? {} : { memoryBytes: one.memory }),
              });
              break;
            case "remove":
              workers.delete(one.worker);
              guesses.removeWorker(workerId(`w${one.worker}`));
              break;
            case "queue": {
              look(); // as a scheduler does, before it queues more
              const needBytes = guesses.needOf(one.platform, one.peak);
              expect(needBytes ?? 0).toBe(Math.min(roundedNeed(one.peak), roomFor(one.platform)));
              if (needBytes === undefined) break;
              guesses.queued(id(one.task), one.platform, needBytes);
              queued.set(id(one.task), { platform: one.platform, needBytes });
              break;
            }
            case "gone":
              guesses.gone(id(one.task));
              queued.delete(id(one.task));
              break;
            case "look":
              look();
          }
        }
        look();
      }),
      { numRuns: 1_000 },
    );
  });
});
