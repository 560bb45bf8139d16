import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { watchDisk } from "../../src/roles/disk_watch.ts";
import { has } from "../support/machine.ts";
import { manualClock } from "../transport/manual_clock.ts";

test("after a task found no room nothing is taken for two seconds, from the last one on", async () => {
  const clock = manualClock();
  const told: (string | undefined)[] = [];
  const disk = watchDisk(tmpdir(), clock, (why) => told.push(why));
  await clock.advance(5_000);
  expect(told).toEqual([]);
  disk.lacks();
  expect(told).toEqual([expect.stringContaining("disk is full")]);
  await clock.advance(1_500);
  disk.lacks();
  await clock.advance(1_500);
  expect(told).toHaveLength(1);
  await clock.advance(1_500);
  expect(told.slice(1)).toEqual([undefined]);
  disk.end();
  expect(clock.waiting()).toBe(0);
});

test.skipIf(!has("mount"))("a disk with less than a hundredth free is full until somebody frees some", async () => {
  const dir = mkdtempSync(join(tmpdir(), "scoot-disk-watch-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=16M", "tmpfs", dir]);
  try {
    const clock = manualClock();
    const told: (string | undefined)[] = [];
    const disk = watchDisk(dir, clock, (why) => told.push(why));
    const { bavail, blocks, bsize } = statfsSync(dir);
    writeFileSync(join(dir, "filler"), new Uint8Array(bavail * bsize - 2 * bsize));
    await clock.advance(1_000);
    await clock.advance(10_000);
    expect(told).toEqual([expect.stringContaining("disk is full")]);
    // A little more than a hundredth: not yet enough.
    truncateSync(join(dir, "filler"), (bavail - Math.ceil(blocks * 0.012)) * bsize);
    await clock.advance(1_000);
    expect(told).toHaveLength(1);
    rmSync(join(dir, "filler"));
    await clock.advance(1_000);
    expect(told.slice(1)).toEqual([undefined]);
    disk.end();
  } finally {
    execFileSync("umount", ["-l", dir]);
    rmSync(dir, { recursive: true, force: true });
  }
});

test("a disk that cannot be looked at is taken to be as it was", async () => {
  const dir = mkdtempSync(join(tmpdir(), "scoot-disk-watch-"));
  const clock = manualClock();
  const told: (string | undefined)[] = [];
  const disk = watchDisk(dir, clock, (why) => told.push(why));
  rmSync(dir, { recursive: true });
  await clock.advance(3_000);
  disk.lacks();
  await clock.advance(3_000);
  expect(told).toEqual([expect.stringContaining("disk is full"), undefined]);
  disk.end();
  expect(clock.waiting()).toBe(0);
});
