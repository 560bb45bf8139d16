import { createReadStream, createWriteStream, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { lmdbRefs } from "../../../src/snapshots/refs/lmdb.ts";
import { startChild } from "../child.ts";
import { smallDisk } from "../small_disk.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { refsContract } from "./contract.ts";

refsContract("lmdbRefs()", () => lmdbRefs({ dir: temporaryFolder() }));

test("lmdbRefs() keeps names over a restart", async () => {
  const dir = temporaryFolder();
  const first = lmdbRefs({ dir });
  await first.compareAndSet("a", undefined, "1");
  await first.close();
  await expect(first.get("a")).rejects.toMatchObject({ code: "DRAINING" });
  const second = lmdbRefs({ dir });
  expect(await second.get("a")).toBe("1");
  await second.close();
});

test("lmdbRefs() refuses a store of a newer format", () => {
  const dir = temporaryFolder();
  writeFileSync(join(dir, "format"), "scoot-actors refs 2\n");
  expect(() => lmdbRefs({ dir })).toThrow(expect.objectContaining({ code: "STORE_NEWER" }));
});

test(
  "compareAndSet() of several processes loses no step, also when one of them is killed",
  { timeout: 60_000 },
  async () => {
    const dir = temporaryFolder();
    const script = new URL("./counting_child.ts", import.meta.url);
    const counting = [1, 2].map(() => startChild(script, dir, "100"));
    const doomed = startChild(script, dir, "1000000");
    const refs = lmdbRefs({ dir });
    await doomed.lines.next();
    await expect.poll(async () => Number(await refs.get("count") ?? 0), { timeout: 30_000 }).toBeGreaterThan(20);
    doomed.process.kill("SIGKILL");
    await doomed.ended;
    const atLeast = Number(await refs.get("count"));
    expect(await Promise.all(counting.map((child) => child.ended))).toEqual([0, 0]);
    const count = Number(await refs.get("count"));
    expect(count).toBeGreaterThanOrEqual(Math.max(200, atLeast));
    await refs.compareAndSet("count", String(count), "done");
    await refs.close();
  },
);

test("compareAndSet() on a full disk answers NO_SPACE, moves nothing, and goes on when there is room", async (context) => {
  const dir = smallDisk(1024 * 1024);
  if (dir === undefined) return context.skip("this machine lets nobody mount a small disk");
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  onTestFinished(() => printed.mockRestore());
  const refs = lmdbRefs({ dir: join(dir, "store") });
  await refs.compareAndSet("kept", undefined, "1");
  const filler = join(dir, "filler");
  await expect(pipeline(createReadStream("/dev/zero"), createWriteStream(filler))).rejects.toMatchObject({
    code: "ENOSPC",
  });
  const value = "v".repeat(60_000);
  const moves = await Promise.allSettled(
    Array.from({ length: 9 }, (_, n) => refs.compareAndSet(`n${n}`, undefined, value)),
  );
  for (const move of moves) expect(move).toMatchObject({ status: "rejected", reason: { code: "NO_SPACE" } });
  expect(await refs.get("n0")).toBeUndefined();
  expect(await refs.get("kept")).toBe("1");
  rmSync(filler);
  await refs.compareAndSet("n0", undefined, value);
  await refs.compareAndSet("kept", "1", "2");
  await refs.close();
  const again = lmdbRefs({ dir: join(dir, "store") });
  expect(await again.get("n0")).toBe(value);
  expect(await again.get("kept")).toBe("2");
  await again.close();
});
