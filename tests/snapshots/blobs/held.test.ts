import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { hashOf } from "../../../src/domain/digest.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { blobIndex } from "../../../src/snapshots/blobs/blob_index.ts";
import { digestOf, readBlob, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { keyOf } from "../../../src/snapshots/blobs/index_rows.ts";
import { type LocalBlobs, localBlobs } from "../../../src/snapshots/blobs/local.ts";
import { smallDisk } from "../small_disk.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { collected, text } from "./contract.ts";

const hourMs = 3600_000;

function opened(dir = temporaryFolder()) {
  const time = { nowMs: Math.floor(Date.now() / 1000) * 1000 };
  const blobs = localBlobs({ dir, clock: { now: () => time.nowMs, at: realClock.at } });
  onTestFinished(() => blobs.close());
  return { dir, blobs, time };
}

const filesOf = (dir: string): string[] =>
  readdirSync(join(dir, "objects"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

const allHeld = ({ held }: LocalBlobs) => held.page(undefined, 1_000_000);

describe("page()", () => {
  test("gives all blobs by key, page by page, with when they were used last", async () => {
    const { blobs, time } = opened();
    const first = await Promise.all(Array.from({ length: 30 }, (_, n) => writeBlob(blobs, Buffer.from(`first ${n}`))));
    time.nowMs += hourMs;
    const large = await writeBlob(blobs, text(500_000));
    await blobs.missing(new Set([first[7]!]));
    const pages = [];
    let after: Uint8Array | undefined;
    for (;;) {
      const page = blobs.held.page(after, 7);
      if (page.length === 0) break;
      pages.push(...page);
      after = page.at(-1)!.key;
    }
    expect(pages.map(({ key }) => key.toString("hex"))).toEqual([...first, large].map(hashOf).sort());
    for (const { key, usedAtMs } of pages) {
      const isLate = [first[7]!, large].some((digest) => keyOf(digest).equals(key));
      expect(usedAtMs).toBe(isLate ? time.nowMs : time.nowMs - hourMs);
    }
  });
});

describe("size()", () => {
  test("is what the rows say for files, through repairs and removals, and ends at nothing", async () => {
    const { dir, blobs, time } = opened();
    const sizes = [200_000, 131_073, 300_001, 700_000];
    const digests = await Promise.all(sizes.map((size) => writeBlob(blobs, randomBytes(size))));
    const files = () => filesOf(dir).reduce((sum, file) => sum + Math.ceil(statSync(file).size / 4096) * 4096, 0);
    const index = blobs.held.size().bytes - files();
    expect(index).toBeLessThan(10 * 4096);
    const bytes = text(900_000);
    const lost = await writeBlob(blobs, bytes);
    rmSync(filesOf(dir).find((file) => file.includes(hashOf(lost).slice(2)))!);
    await blobs.put(lost, bytes);
    expect(blobs.held.size().bytes - files()).toBe(index);
    expect(blobs.held.size().count).toBe(5);
    time.nowMs += 2 * hourMs;
    const taken = await blobs.held.remove([...digests, lost].map(keyOf), time.nowMs);
    expect(taken.count).toBe(5);
    expect(filesOf(dir)).toEqual([]);
    expect(blobs.held.size()).toMatchObject({ count: 0 });
    expect(blobs.held.size().bytes).toBeLessThan(5 * 4096);
  });

  for (
    const [kind, length] of [["tiny", 40], ["half a page", 1800], ["a page", 4000], ["many pages", 100_000]] as const
  ) {
    test(`what blobs of ${kind} are said to take is near to what they take`, async () => {
      const { blobs } = opened();
      await Promise.all(Array.from({ length: 2000 / (length > 50_000 ? 20 : 1) }, () => {
        const bytes = randomBytes(length);
        return blobs.put(digestOf(bytes), bytes);
      }));
      const said = allHeld(blobs).reduce((sum, { bytes }) => sum + bytes, 0);
      expect(said / blobs.held.size().bytes).toBeGreaterThan(0.75);
      expect(said / blobs.held.size().bytes).toBeLessThan(1.33);
    });
  }

  test("what was removed makes room: the index counts as free what it will use again", async (context) => {
    const disk = smallDisk(64 * 1024 * 1024);
    if (disk === undefined) return context.skip("this machine lets nobody mount a small disk");
    const { blobs, time } = opened(join(disk, "store"));
    await Promise.all(Array.from({ length: 500 }, () => writeBlob(blobs, randomBytes(20_000))));
    time.nowMs += 2 * hourMs;
    const before = blobs.held.size();
    await blobs.held.remove(allHeld(blobs).map(({ key }) => key), time.nowMs);
    const after = blobs.held.size();
    expect(before.bytes - after.bytes).toBeGreaterThan(9_000_000);
    expect(after.freeBytes - before.freeBytes).toBeGreaterThan(9_000_000);
    await blobs.close();
  });
});

describe("remove()", () => {
  test("spares what was used since, small and large", async () => {
    const { blobs, time } = opened();
    const digests = await Promise.all([10, 5000, 200_000, 10_000].map((size) => writeBlob(blobs, text(size))));
    time.nowMs += hourMs;
    await blobs.missing(new Set(digests.slice(1, 3)));
    expect(await blobs.held.remove(digests.map(keyOf), time.nowMs)).toMatchObject({ count: 2 });
    expect(await blobs.missing(new Set(digests))).toEqual(new Set([digests[0], digests[3]]));
    for (const digest of digests.slice(1, 3)) expect(digestOf(await collected(blobs, digest))).toBe(digest);
    expect(await blobs.held.remove(digests.map(keyOf), time.nowMs)).toEqual({ count: 0, bytes: 0 });
  });

  test("a large blob that another store puts at the same time is there when that put has resolved", async () => {
    const dir = temporaryFolder();
    const one = opened(dir);
    const two = opened(dir);
    const bytes = text(400_000);
    const digest = digestOf(bytes);
    for (let round = 0; round < 30; round++) {
      await one.blobs.put(digest, bytes);
      one.time.nowMs += 2 * hourMs;
      two.time.nowMs = one.time.nowMs;
      await Promise.all([
        one.blobs.held.remove([keyOf(digest)], one.time.nowMs),
        one.blobs.held.remove([keyOf(digest)], one.time.nowMs),
        two.blobs.put(digest, bytes),
      ]);
      expect(digestOf(await collected(two.blobs, digest)), `round ${round}`).toBe(digest);
      expect(filesOf(dir).length).toBe(1);
    }
  });

  test("a reader that has begun reads to the end", async () => {
    const { blobs, time } = opened();
    const bytes = randomBytes(5_000_000);
    const digest = await writeBlob(blobs, bytes);
    const chunks: Uint8Array[] = [];
    time.nowMs += 2 * hourMs;
    for await (const chunk of blobs.get(digest)) {
      if (chunks.push(chunk) === 1) await blobs.held.remove([keyOf(digest)], time.nowMs);
    }
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    await expect(readBlob(blobs, digest, bytes.length)).rejects.toMatchObject({ code: "BLOB_MISSING" });
  });

  test("two puts of one large blob at once leave one file", async () => {
    const dir = temporaryFolder();
    const [one, two] = [opened(dir).blobs, opened(dir).blobs];
    const bytes = text(400_000);
    const digest = digestOf(bytes);
    await Promise.all([one, two, one, two].map((blobs) => blobs.put(digest, bytes)));
    expect(filesOf(dir).length).toBe(1);
    expect(digestOf(await collected(one, digest))).toBe(digest);
    expect(one.held.size().count).toBe(1);
  });
});

describe("removeOrphans()", () => {
  test("removes old files that no blob has, and neither young ones, nor those of blobs, nor what is not the store's", async () => {
    const { dir, blobs, time } = opened();
    const digest = await writeBlob(blobs, text(400_000));
    const [own] = filesOf(dir);
    const folder = join(dir, "objects", "ab");
    mkdirSync(folder, { recursive: true });
    const old = (path: string): string => {
      writeFileSync(path, "left by a process that died");
      utimesSync(path, time.nowMs / 1000 - 7200, time.nowMs / 1000 - 7200);
      return path;
    };
    utimesSync(own!, time.nowMs / 1000 - 7200, time.nowMs / 1000 - 7200);
    const twin = old(own!.replace(/\.[0-9a-f]{16}/, ".0123456789abcdef"));
    const other = old(join(folder, `${"1".repeat(62)}.0123456789abcdef.z`));
    const foreign = old(join(folder, "README"));
    const young = join(folder, `${"2".repeat(62)}.0123456789abcdef`);
    writeFileSync(young, "on its way to its row");
    expect(await blobs.held.removeOrphans()).toEqual({ count: 2, bytes: 8192 });
    expect([twin, other, foreign, young, own!].map((path) => existsSync(path))).toEqual([
      false,
      false,
      true,
      true,
      true,
    ]);
    expect(digestOf(await collected(blobs, digest))).toBe(digest);
    time.nowMs += 2 * hourMs;
    expect(await blobs.held.removeOrphans()).toMatchObject({ count: 1 });
  });

  test("a row whose file was taken away before it is refused", async () => {
    const dir = temporaryFolder();
    const objects = { dir, pathOf: () => join(dir, "nothing"), hashOf: () => undefined };
    const index = blobIndex({ dir, clock: realClock, guaranteedAgeMs: hourMs }, objects);
    onTestFinished(() => index.close());
    const digest = digestOf(text(400_000));
    await expect(index.putFile(digest, 0, "0123456789abcdef", 5)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    expect(index.facts(digest, true)).toBeUndefined();
  });
});

test("alone() lets one at a time", async () => {
  const { blobs } = opened();
  const answer = await blobs.held.alone(async () => {
    await expect(blobs.held.alone(() => Promise.resolve())).rejects.toMatchObject({ code: "STORE_LOCKED" });
    return 7;
  });
  expect(answer).toBe(7);
  await expect(blobs.held.alone(() => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
  expect(await blobs.held.alone(() => Promise.resolve(8))).toBe(8);
});
