import { randomBytes } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { type Digest, sizeOf } from "../../src/domain/digest.ts";
import { encodeActionResult } from "../../src/protocol/reapi/action_result.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { silentLog } from "../../src/observability/log.ts";
import { localActions } from "../../src/snapshots/actions/local.ts";
import { digestOf, readBlob, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { type LocalBlobs, localBlobs } from "../../src/snapshots/blobs/local.ts";
import {
  type Collector,
  type CollectorOptions,
  createCollector,
  usedLately,
  withinBudget,
} from "../../src/snapshots/collect.ts";
import type { Root } from "../../src/snapshots/lease.ts";
import { smallDisk } from "./small_disk.ts";
import { temporaryFolder } from "./temporary_folder.ts";

const hourMs = 3600_000;

/** A clock that moves when told to, and then calls who is due. */
function steppedClock() {
  let nowMs = 1_700_000_000_000;
  const alarms = new Set<{ readonly atMs: number; readonly wake: () => void }>();
  return {
    now: () => nowMs,
    at(atMs: number, wake: () => void) {
      const alarm = { atMs, wake };
      alarms.add(alarm);
      return () => void alarms.delete(alarm);
    },
    waiting: () => alarms.size,
    step(ms: number) {
      nowMs += ms;
      for (const alarm of [...alarms]) if (alarm.atMs <= nowMs && alarms.delete(alarm)) alarm.wake();
    },
  };
}

function world(options: Partial<CollectorOptions> & { readonly dir?: string; readonly guaranteedAgeMs?: number } = {}) {
  const clock = steppedClock();
  const { dir = temporaryFolder(), guaranteedAgeMs = hourMs, ...rest } = options;
  const blobs = localBlobs({ dir, clock, guaranteedAgeMs });
  const leased: Root[] = [];
  const collector = createCollector({
    blobs,
    async *roots() {
      for (const root of leased) yield await Promise.resolve(root);
    },
    statesBytes: () => 0,
    clock,
    log: silentLog,
    ...rest,
  });
  onTestFinished(async () => {
    await collector.stop();
    await blobs.close();
  });
  const put = (bytes: number): Promise<Digest> => writeBlob(blobs, randomBytes(bytes));
  const absent = async (digests: readonly Digest[]): Promise<number> => {
    let count = 0;
    for (const digest of digests) {
      await readBlob(blobs, digest, sizeOf(digest)).catch(() => count++); // looking is no use, unlike missing()
    }
    return count;
  };
  return { clock, blobs, leased, collector, put, absent };
}

const many = async <Value>(count: number, make: () => Promise<Value>): Promise<Value[]> =>
  await Promise.all(Array.from({ length: count }, make));

const countOf = (report: Awaited<ReturnType<Collector["collect"]>>, why: string): number =>
  report.stays.find((each) => each.why === why)?.count ?? 0;

describe("collect()", () => {
  test("removes what was used least recently until nine tenths of the budget are left", async () => {
    const { clock, collector, put, absent } = world({ maxBytes: 4_000_000 });
    const groups: Digest[][] = [];
    for (let hour = 0; hour < 5; hour++) {
      groups.push(await many(50, () => put(20_000)));
      clock.step(2 * hourMs);
    }
    const report = await collector.collect();
    expect(report.after.bytes).toBeLessThanOrEqual(3_600_000);
    expect(report.after.bytes).toBeGreaterThan(3_400_000);
    expect(report.goes.count).toBe(report.before.blobs.count - report.after.blobs.count);
    expect(report.goes.oldestUseAtMs).toBe(1_700_000_000_000);
    expect(report.stays).toEqual([{ why: withinBudget, count: 250 - report.goes.count, bytes: expect.any(Number) }]);
    const gone = await Promise.all(groups.map(absent));
    expect(gone[0]).toBe(50);
    expect(gone[1]).toBeGreaterThan(0);
    expect(gone.slice(2)).toEqual([0, 0, 0]);
  });

  test("leaves what is leased, with all below it, and what was used within the guaranteed age, and says so", async () => {
    const { clock, blobs, collector, leased, put, absent } = world({ maxBytes: 1 });
    const inTree = await many(20, () => put(1000));
    const inner = await writeBlob(
      blobs,
      encodeDirectory(inTree.map((digest, n) => ({ kind: "file", name: String(n), digest, executable: false }))),
    );
    const tree = await writeBlob(blobs, encodeDirectory([{ kind: "directory", name: "in", digest: inner }]));
    const alone = await put(300_000);
    const other = [...await many(20, () => put(5000)), await put(300_000)];
    const asked = [await put(5000), await put(300_000)];
    leased.push({ digest: tree, kind: "tree", why: "running" }, { digest: alone, kind: "blob", why: "queued" });
    clock.step(3 * hourMs);
    await blobs.missing(new Set(asked));
    const late = await put(5000);
    const report = await collector.collect();
    expect(report.goes.count).toBe(21);
    expect(report.stays.map(({ why, count }) => [why, count]).sort()).toEqual([
      ["queued", 1],
      ["running", 22],
      [usedLately, 3],
    ]);
    expect(report.before.guaranteedAgeMs).toBe(hourMs);
    expect(await absent([...inTree, inner, tree, alone, ...asked, late])).toBe(0);
    expect(await absent(other)).toBe(21);
  });

  test("does nothing within the budget, and nothing at all in a dry run, which says what would go", async () => {
    const { clock, blobs, collector, put } = world({ maxBytes: 100_000_000 });
    await many(100, () => put(10_000));
    await put(400_000);
    clock.step(2 * hourMs);
    expect((await collector.collect()).goes).toEqual({ count: 0, bytes: 0 });
    const dry = await collector.collect({ dryRun: true, maxBytes: 1_000_000 });
    expect(dry.isDryRun).toBe(true);
    expect(dry.goes.count).toBeGreaterThan(10);
    expect(blobs.held.size().count).toBe(101);
    const real = await collector.collect({ maxBytes: 1_000_000 });
    expect(real.goes.count).toBeGreaterThanOrEqual(dry.goes.count); // estimates are refined where it is done
    expect(real.after.bytes).toBeLessThanOrEqual(900_000);
    expect(real.after.maxBytes).toBe(1_000_000);
    expect(collector.df().maxBytes).toBe(100_000_000);
  });

  test("a result goes with blobs that were last used when it was; states count and stay", async () => {
    const clock = steppedClock();
    const blobs = localBlobs({ dir: temporaryFolder(), clock });
    const actions = localActions({ dir: temporaryFolder(), blobs, clock });
    onTestFinished(async () => {
      await actions.close();
      await blobs.close();
    });
    const keep = async (n: number): Promise<Digest> => {
      const digest = await writeBlob(blobs, randomBytes(50_000));
      const result = encodeActionResult({
        outputFiles: [{ path: "out", digest, executable: false }],
        outputDirectories: [],
        outputSymlinks: [],
        outputFileSymlinks: [],
        outputDirectorySymlinks: [],
        exitCode: 0,
      });
      const key = { instance: "", action: digestOf(Buffer.from(String(n))) };
      await actions.put(key, result, { by: "job", atMs: clock.now(), durationMs: 1 });
      return digest;
    };
    const old = await Promise.all([1, 2, 3].map(keep));
    clock.step(3 * hourMs);
    await Promise.all([4, 5, 6].map(keep));
    const collector = createCollector({
      blobs,
      actions,
      async *roots() {},
      statesBytes: () => 500_000,
      clock,
      log: silentLog,
      maxBytes: 600_000,
    });
    const dry = await collector.collect({ dryRun: true });
    expect(dry).toMatchObject({ results: 3, goes: { count: 3 } });
    expect(await collector.collect()).toMatchObject({ results: 3, goes: { count: 3 } });
    expect(actions.size().entries).toBe(3);
    expect(await blobs.missing(new Set(old))).toEqual(new Set(old));
    expect(collector.df().statesBytes).toBe(500_000);
  });

  test("roots that cannot be read remove nothing", async () => {
    const { clock, blobs, collector, put } = world({
      maxBytes: 1,
      // deno-lint-ignore require-yield
      async *roots() {
        throw new Error("the states are away");
      },
    });
    await many(10, () => put(1000));
    clock.step(2 * hourMs);
    await expect(collector.collect()).rejects.toThrow("the states are away");
    expect(blobs.held.size().count).toBe(10);
  });

  test("an aborted one stops", async () => {
    const { clock, collector, put } = world({ maxBytes: 1 });
    await many(10, () => put(1000));
    clock.step(2 * hourMs);
    const stop = new AbortController();
    stop.abort(new Error("stopping"));
    await expect(collector.collect({ signal: stop.signal })).rejects.toThrow("stopping");
    expect(countOf(await collector.collect({ dryRun: true }), usedLately)).toBe(0);
  });

  test(
    "never takes what is leased or was used within the age, and takes all else that is over the budget",
    async () => {
      type Step =
        | { readonly kind: "put" | "ask" | "lease" | "release"; readonly blob: number }
        | { readonly kind: "wait"; readonly ms: number }
        | { readonly kind: "collect"; readonly maxBytes: number };
      const blob = fc.nat(30);
      const steps: fc.Arbitrary<Step> = fc.oneof(
        { weight: 8, arbitrary: fc.record({ kind: fc.constant("put" as const), blob }) },
        { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("ask" as const, "lease" as const), blob }) },
        { weight: 1, arbitrary: fc.record({ kind: fc.constant("release" as const), blob }) },
        { weight: 3, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(40_000) }) },
        {
          weight: 2,
          arbitrary: fc.record({
            kind: fc.constant("collect" as const),
            maxBytes: fc.integer({ min: 1, max: 600_000 }),
          }),
        },
      );
      const guaranteedAgeMs = 60_000;
      const bytesOf = (n: number): Uint8Array => Buffer.alloc(n % 10 === 0 ? 140_000 : 200 * n, `${n} `);
      await fc.assert(
        fc.asyncProperty(fc.array(steps, { minLength: 5, maxLength: 60 }), async (all) => {
          const clock = steppedClock();
          const blobs: LocalBlobs = localBlobs({ dir: temporaryFolder(), clock, guaranteedAgeMs });
          const leased = new Set<number>();
          const safeUntilMs = new Map<number, number>();
          const there = new Set<number>();
          const digests = Array.from({ length: 31 }, (_, n) => digestOf(bytesOf(n)));
          const collector = createCollector({
            blobs,
            async *roots() {
              for (const n of leased) yield await Promise.resolve({ digest: digests[n]!, kind: "blob", why: "leased" });
            },
            statesBytes: () => 0,
            clock,
            log: silentLog,
          });
          for (const step of all) {
            switch (step.kind) {
              case "put":
                await blobs.put(digests[step.blob]!, bytesOf(step.blob));
                there.add(step.blob);
                safeUntilMs.set(step.blob, clock.now() + guaranteedAgeMs);
                break;
              case "ask": {
                const isAbsent = (await blobs.missing(new Set([digests[step.blob]!]))).size > 0;
                expect(isAbsent).toBe(!there.has(step.blob));
                if (!isAbsent) safeUntilMs.set(step.blob, clock.now() + guaranteedAgeMs);
                break;
              }
              case "lease":
                leased.add(step.blob);
                break;
              case "release":
                leased.delete(step.blob);
                break;
              case "wait":
                clock.step(step.ms);
                break;
              case "collect": {
                const before = collector.df().bytes;
                const report = await collector.collect({ maxBytes: step.maxBytes });
                for (const n of there) {
                  const isThere = await readBlob(blobs, digests[n]!, 1_000_000).then(() => true, () => false);
                  if (isThere) continue;
                  expect(leased.has(n)).toBe(false);
                  expect(safeUntilMs.get(n)).toBeLessThan(clock.now());
                  there.delete(n);
                }
                expect(report.after.blobs.count).toBe(there.size);
                expect(report.stays.reduce((sum, { count }) => sum + count, 0)).toBe(there.size);
                if (before <= step.maxBytes * 0.9) expect(report.goes.count).toBe(0);
                if (report.after.bytes > step.maxBytes * 0.9) expect(countOf(report, withinBudget)).toBe(0);
              }
            }
          }
          await blobs.close();
        }),
        { numRuns: 40 },
      );
    },
    60_000,
  );
});

test("a full disk pauses and does not break: what is old goes, and then there is room", async (context) => {
  const disk = smallDisk(48 * 1024 * 1024);
  if (disk === undefined) return context.skip("this machine lets nobody mount a small disk");
  const { clock, blobs, collector, put } = world({ dir: join(disk, "store") });
  const fill = async (bytes: number): Promise<number> => {
    for (let count = 0;; count++) {
      const isFull = await put(bytes).then(() => false, (error) => {
        expect(error).toMatchObject({ code: "NO_SPACE" });
        return true;
      });
      if (isFull) return count;
    }
  };
  expect(await fill(1_000_000) + await fill(4000)).toBeGreaterThan(10);
  collector.start();
  clock.step(2 * hourMs);
  await vi.waitFor(() => {
    clock.step(60_000);
    expect(collector.df().bytes).toBeLessThan(collector.df().limitBytes);
  });
  await many(20, () => put(100_000));
  await put(1_000_000);
  expect(collector.df().bytes).toBeLessThan(collector.df().limitBytes);
  await collector.stop();
  await blobs.close();
});

describe("start()", () => {
  test("holds the budget under three times its size of traffic", async () => {
    const maxBytes = 6_000_000;
    const { clock, collector, put, absent } = world({ maxBytes, guaranteedAgeMs: 8000 });
    collector.start();
    onTestFinished(() => collector.stop());
    const recent: { readonly digest: Digest; readonly atMs: number }[] = [];
    let most = 0;
    let traffic = 0;
    for (let second = 0; traffic < 3 * maxBytes; second++) {
      const digests = await many(20, () => put(5000));
      if (second % 10 === 0) digests.push(await put(150_000));
      traffic += digests.reduce((sum, digest) => sum + sizeOf(digest), 0);
      for (const digest of digests) recent.push({ digest, atMs: clock.now() });
      clock.step(1000);
      await vi.waitFor(() => expect(clock.waiting()).toBe(1), { interval: 1 }); // it has looked, and done what it had to
      expect(collector.df().bytes).toBeLessThanOrEqual(maxBytes);
      most = Math.max(most, collector.df().bytes);
      while (recent.length > 0 && recent[0]!.atMs < clock.now() - 8000) recent.shift();
      if (second % 20 === 19) expect(await absent(recent.map(({ digest }) => digest))).toBe(0);
    }
    expect(most).toBeGreaterThan(maxBytes / 2);
    expect(collector.isFull).toBe(false);
  }, 120_000);

  test("is full while it is over the budget with nothing that may go, and no longer", async () => {
    const { clock, collector, leased, put } = world({ maxBytes: 1_000_000 });
    const digests = await many(6, () => put(200_000));
    for (const digest of digests) leased.push({ digest, kind: "blob", why: "running" });
    collector.start();
    await vi.waitFor(() => expect(collector.isFull).toBe(true));
    clock.step(2 * hourMs);
    await new Promise((resolve) => setImmediate(resolve));
    expect(collector.isFull).toBe(true);
    expect(collector.df().isFull).toBe(true);
    leased.splice(0, 3);
    await vi.waitFor(() => {
      clock.step(60_000);
      expect(collector.isFull).toBe(false);
    });
    expect(collector.df().blobs.count).toBeLessThan(6);
  });

  test("stops while it collects, and goes on when it is started again", async () => {
    const { clock, collector, put } = world({ maxBytes: 500_000 });
    await many(1500, () => put(1000));
    clock.step(2 * hourMs);
    collector.start();
    await collector.stop();
    collector.start();
    await vi.waitFor(() => expect(collector.df().bytes).toBeLessThanOrEqual(450_000));
    await collector.stop();
  });
});
