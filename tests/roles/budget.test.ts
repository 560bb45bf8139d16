import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { Lease } from "../../src/api/gateway.ts";
import type { Digest } from "../../src/domain/digest.ts";
import { silentLog } from "../../src/observability/log.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { folderBytes, startBudget, startNearBudget } from "../../src/roles/budget.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { memoryActions } from "../../src/snapshots/actions/memory.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { localBlobs } from "../../src/snapshots/blobs/local.ts";
import { memoryRefs } from "../../src/snapshots/refs/memory.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";
import { manualClock } from "../transport/manual_clock.ts";

/** A store whose blobs were all put longer ago than they are guaranteed to stay. */
async function oldBlobs() {
  let shiftMs = -7_200_000;
  const clock = { ...realClock, now: () => realClock.now() + shiftMs };
  const blobs = localBlobs({ dir: temporaryFolder(), clock, guaranteedAgeMs: 60_000 });
  onTestFinished(() => blobs.close());
  const put = (text: string): Promise<Digest> => writeBlob(blobs, Buffer.from(text));
  const [file, command, action, unused] = await Promise.all(["file", "command", "action", "unused"].map(put));
  const tree = await writeBlob(
    blobs,
    encodeDirectory([{ kind: "file", name: "a", digest: file!, executable: false }]),
  );
  shiftMs = 0;
  const left = async (): Promise<Digest[]> => {
    const all = new Set([file!, command!, action!, unused!, tree]);
    const missing = await blobs.missing(all);
    return [...all].filter((digest) => !missing.has(digest));
  };
  return { blobs, left, tree, file: file!, command: command!, action: action!, unused: unused! };
}

test("what a task is made of that has not settled stays: its inputs, its command, the action that it was asked for by", async () => {
  const { blobs, left, tree, file, command, action } = await oldBlobs();
  const collector = startBudget({
    blobs,
    actions: memoryActions({ blobs, clock: realClock }),
    names: memoryRefs(),
    gateway: {
      async *leases(): AsyncGenerator<Lease> {
        yield await Promise.resolve({ state: "queued" as const, command, inputs: [tree], action });
      },
    },
    statesBytes: () => 0,
    log: silentLog,
  });
  onTestFinished(() => collector.stop());
  expect((await collector.collect({ maxBytes: 0 })).goes.count).toBe(1);
  expect(new Set(await left())).toEqual(new Set([tree, file, command, action]));
});

test("what is named stays", async () => {
  const { blobs, left, tree, file } = await oldBlobs();
  const names = memoryRefs();
  await names.compareAndSet("release", undefined, tree);
  const collector = startBudget({
    blobs,
    actions: memoryActions({ blobs, clock: realClock }),
    names,
    gateway: { async *leases() {} },
    statesBytes: () => 0,
    log: silentLog,
  });
  onTestFinished(() => collector.stop());
  await collector.collect({ maxBytes: 0 });
  expect(new Set(await left())).toEqual(new Set([tree, file]));
});

test("of what a worker keeps near, nothing stays but what is young", async () => {
  const { blobs, left } = await oldBlobs();
  const young = await writeBlob(blobs, Buffer.from("young"));
  const collector = startNearBudget({ blobs, log: silentLog });
  onTestFinished(() => collector.stop());
  await collector.collect({ maxBytes: 0 });
  expect(await left()).toEqual([]);
  expect((await blobs.missing(new Set([young]))).size).toBe(0);
});

test("how much a folder has is what could be read of it last, and nothing while it is not there", async () => {
  const dir = join(temporaryFolder(), "states");
  const clock = manualClock();
  const bytes = folderBytes(dir, clock);
  expect(bytes()).toBe(0);
  mkdirSync(join(dir, "index"), { recursive: true });
  writeFileSync(join(dir, "index", "data"), "x".repeat(100_000));
  expect(bytes(), "it was looked at just now").toBe(0);
  await clock.advance(5_000);
  const there = bytes();
  expect(there).toBeGreaterThanOrEqual(100_000);
  rmSync(dir, { recursive: true });
  writeFileSync(dir, "cannot be listed");
  await clock.advance(5_000);
  expect(bytes()).toBe(there);
  rmSync(dir);
  await clock.advance(5_000);
  expect(bytes()).toBe(0);
});
