import { randomBytes } from "node:crypto";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Digest, hashOf } from "../../../src/domain/digest.ts";
import { isFault } from "../../../src/domain/fault.ts";
import { type Clock, realClock } from "../../../src/runtime/clock.ts";
import { digestOf, readBlob, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { type LocalBlobs, localBlobs, type LocalBlobsOptions } from "../../../src/snapshots/blobs/local.ts";
import { type Pool, threadPool } from "../../../src/snapshots/pool/pool.ts";
import { startChild } from "../child.ts";
import { smallDisk } from "../small_disk.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { blobsContract, collected, streamed, text } from "./contract.ts";
import { numbered } from "./numbered.ts";

blobsContract("localBlobs()", () => localBlobs({ dir: temporaryFolder(), clock: realClock }));

function opened(dir: string, options: Partial<LocalBlobsOptions> = {}): LocalBlobs {
  const blobs = localBlobs({ dir, clock: realClock, ...options });
  onTestFinished(() => blobs.close());
  return blobs;
}

/** Every file below a folder, by path from it. */
const filesOf = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1));

/** What all files of a store occupy in bytes of content. */
const bytesOf = (dir: string): number => filesOf(dir).reduce((sum, file) => sum + statSync(join(dir, file)).size, 0);

describe("localBlobs() on disk", () => {
  test("keeps blobs over a restart, and says so of a store that was closed", async () => {
    const dir = temporaryFolder();
    const first = opened(dir);
    const digests = await Promise.all([10, 5000, 500_000].map((size) => writeBlob(first, text(size))));
    await first.close();
    await expect(collected(first, digests[0]!)).rejects.toMatchObject({ code: "DRAINING" });
    await expect(first.put(digestOf(text(11)), text(11))).rejects.toMatchObject({ code: "DRAINING" });
    await expect(first.missing(new Set(digests))).rejects.toMatchObject({ code: "DRAINING" });
    const second = opened(dir);
    for (const digest of digests) expect(digestOf(await collected(second, digest))).toBe(digest);
  });

  test("two stores opened on one folder in one process share what they hold, and one may close", async () => {
    const dir = temporaryFolder();
    const [one, two] = [opened(dir), opened(dir)];
    const digest = await writeBlob(one, text(5000));
    expect(digestOf(await readBlob(two, digest, 5000))).toBe(digest);
    await one.close();
    const later = await writeBlob(two, text(6000));
    expect(digestOf(await readBlob(two, later, 6000))).toBe(later);
  });

  test("takes far fewer bytes than what it holds when that deflates, and few more when not", async () => {
    const small = temporaryFolder();
    const blobs = opened(small);
    for (let i = 0; i < 200; i++) await writeBlob(blobs, Buffer.concat([Buffer.from([i]), text(20_000)]));
    await writeBlob(blobs, text(4_000_000));
    expect(bytesOf(small)).toBeLessThan(2_000_000);
    const noise = temporaryFolder();
    await writeBlob(opened(noise), randomBytes(4_000_000));
    expect(bytesOf(noise)).toBeLessThan(4_300_000);
  });

  test("refuses a store of a newer format and a store of another kind", () => {
    const dir = temporaryFolder();
    writeFileSync(join(dir, "format"), "scoot-actors blobs 2\n");
    expect(() => localBlobs({ dir, clock: realClock })).toThrow(expect.objectContaining({ code: "STORE_NEWER" }));
    writeFileSync(join(dir, "format"), "scoot-actors refs 1\n");
    expect(() => localBlobs({ dir, clock: realClock })).toThrow(expect.objectContaining({ code: "STORE_CORRUPT" }));
  });

  test("opening removes what dead processes were writing, and nothing of those that live", () => {
    const dir = temporaryFolder();
    opened(dir);
    const writing = join(dir, "writing");
    const start = readFileSync(`/proc/${process.pid}/stat`, "utf8").split(") ")[1]!.split(" ")[19];
    writeFileSync(join(writing, "4194305.77.0"), "of a process that cannot be");
    writeFileSync(join(writing, `${process.pid}.1.0`), "of one that had this one's number");
    writeFileSync(join(writing, `${process.pid}.${start}.999999`), "of this one");
    opened(dir);
    expect(readdirSync(writing)).toEqual([`${process.pid}.${start}.999999`]);
  });

  test("a blob whose file was taken away is absent, and can be put again", async () => {
    const dir = temporaryFolder();
    const blobs = opened(dir);
    const bytes = text(300_000);
    const digest = await writeBlob(blobs, bytes);
    rmSync(join(dir, "objects"), { recursive: true });
    await expect(collected(blobs, digest)).rejects.toMatchObject({ code: "BLOB_MISSING" });
    expect(await blobs.missing(new Set([digest]))).toEqual(new Set([digest]));
    await blobs.put(digest, bytes);
    expect((await collected(blobs, digest)).equals(bytes)).toBe(true);
  });

  test("a blob whose file was cut short is reported as damage, not as an end", async () => {
    const dir = temporaryFolder();
    const blobs = opened(dir);
    for (const bytes of [text(900_000), randomBytes(900_000)]) {
      const digest = await writeBlob(blobs, bytes);
      const file = filesOf(join(dir, "objects")).find((path) => path.includes(hashOf(digest).slice(2)))!;
      truncateSync(join(dir, "objects", file), 1000);
      await expect(collected(blobs, digest)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    }
  });

  test("missing() and put() note a use at most once in a quarter of the guaranteed age", async () => {
    const dir = temporaryFolder();
    let nowMs = 1_700_000_000_000;
    const clock: Clock = { now: () => nowMs, at: realClock.at };
    const blobs = opened(dir, { clock });
    const digest = await writeBlob(blobs, text(5000));
    const changed = async (ask: () => Promise<unknown>): Promise<boolean> => {
      const read = (): Buffer => readFileSync(join(dir, "index", "data.mdb"));
      const before = read();
      await ask();
      return !read().equals(before);
    };
    expect(await changed(() => blobs.missing(new Set([digest])))).toBe(false);
    nowMs += 900_000;
    expect(await changed(() => blobs.missing(new Set([digest])))).toBe(true);
    expect(await changed(() => blobs.put(digest, text(5000)))).toBe(false);
    nowMs += 900_000;
    expect(await changed(() => blobs.put(digest, text(5000)))).toBe(true);
    expect(await changed(() => blobs.missing(new Set([digest])))).toBe(false);
  });

  test("put() of a blob that is there does not read the stream", async () => {
    const blobs = opened(temporaryFolder());
    for (const size of [5000, 500_000]) {
      const digest = await writeBlob(blobs, text(size));
      await blobs.put(digest, {
        [Symbol.asyncIterator]() {
          throw new Error("was read");
        },
      });
    }
  });

  test("20,000 small blobs put at once are there, and asked for at once", { timeout: 60_000 }, async () => {
    const blobs = opened(temporaryFolder());
    const all = Array.from({ length: 20_000 }, (_, n) => {
      const bytes = Buffer.from(`${n} `.repeat(30));
      return { digest: digestOf(bytes), bytes };
    });
    await Promise.all(all.map(({ digest, bytes }) => blobs.put(digest, bytes)));
    expect(await blobs.missing(new Set(all.map(({ digest }) => digest)))).toEqual(new Set());
    for (const { digest, bytes } of all) expect(bytes.equals(blobs.peek(digest)!)).toBe(true);
  });
});

describe("putFile()", () => {
  for (const withPool of [false, true]) {
    const pooled = (): { pool?: Pool } => {
      if (!withPool) return {};
      const pool = threadPool({ threads: 1 });
      onTestFinished(() => pool.close());
      return { pool };
    };
    const how = withPool ? "in a thread" : "in place";

    test(`stores files of every size ${how}`, async () => {
      const dir = temporaryFolder();
      const blobs = opened(join(dir, "store"), pooled());
      for (const size of [0, 1, 5000, 131_072, 131_073, 3_000_000]) {
        for (const bytes of [text(size), randomBytes(size)]) {
          writeFileSync(join(dir, "file"), bytes);
          const digest = await blobs.putFile(join(dir, "file"));
          expect(digest).toBe(digestOf(bytes));
          expect((await collected(blobs, digest)).equals(bytes)).toBe(true);
          expect(await blobs.putFile(join(dir, "file"), { expected: digest })).toBe(digest);
        }
      }
      expect(readdirSync(join(dir, "store", "writing"))).toEqual([]);
    });

    test(`refuses a file that holds something else than expected, ${how}, and keeps nothing`, async () => {
      const dir = temporaryFolder();
      const blobs = opened(join(dir, "store"), pooled());
      for (const size of [5000, 500_000]) {
        writeFileSync(join(dir, "file"), text(size));
        const other = digestOf(text(size + 1));
        await expect(blobs.putFile(join(dir, "file"), { expected: other })).rejects.toMatchObject({
          code: "BLOB_CORRUPT",
        });
        expect(await blobs.missing(new Set([other, digestOf(text(size))]))).toHaveProperty("size", 2);
      }
      await expect(blobs.putFile(join(dir, "nothing"))).rejects.toThrow("ENOENT");
      expect(filesOf(join(dir, "store", "objects"))).toEqual([]);
      expect(readdirSync(join(dir, "store", "writing"))).toEqual([]);
    });
  }
});

describe("several processes on one store", () => {
  const script = new URL("./putting_child.ts", import.meta.url);

  test(
    "what any of them acknowledged is there for all, also when one is killed in mid-load",
    { timeout: 90_000 },
    async () => {
      const dir = temporaryFolder();
      const blobs = opened(dir);
      const acknowledged = new Set<Digest>();
      const lost: Digest[] = [];
      const follow = async (lines: AsyncIterable<string>, until: (count: number) => void): Promise<void> => {
        let count = 0;
        for await (const line of lines) {
          if (!/^[0-9a-f]{64}\/\d+$/.test(line)) continue; // the last line of a killed process may be cut
          acknowledged.add(line as Digest);
          // At once: a store that shows an older moment than the acknowledgement would report it absent.
          if ((await blobs.missing(new Set([line as Digest]))).size > 0) lost.push(line as Digest);
          until(++count);
        }
      };
      const steady = [startChild(script, dir, "0", "600"), startChild(script, dir, "300", "600")];
      const doomed = startChild(script, dir, "100000", "1000000");
      const own = (async () => {
        for (let n = 200_000; n < 200_300; n++) acknowledged.add(await writeBlob(blobs, numbered(n)));
      })();
      await Promise.all([
        ...steady.map((child) => follow(child.lines, () => {})),
        follow(doomed.lines, (count) => {
          if (count === 100) doomed.process.kill("SIGKILL");
        }),
        own,
      ]);
      expect(await Promise.all(steady.map((child) => child.ended))).toEqual([0, 0]);
      expect(await doomed.ended).toBe("SIGKILL");
      expect(lost).toEqual([]);
      expect(acknowledged.size).toBeGreaterThanOrEqual(1300);
      const later = opened(dir);
      for (const digest of acknowledged) expect(digestOf(await collected(later, digest))).toBe(digest);
      expect(readdirSync(join(dir, "writing"))).toEqual([]);
      await writeBlob(later, numbered(300_000)); // the killed one left no lock behind
    },
  );
});

describe("a full disk", () => {
  test("put() answers NO_SPACE, keeps what it held, leaves nothing half, and goes on when there is room", async (context) => {
    const dir = smallDisk(8 * 1024 * 1024);
    if (dir === undefined) return context.skip("this machine lets nobody mount a small disk");
    const blobs = localBlobs({ dir: join(dir, "store"), clock: realClock });
    const kept = await writeBlob(blobs, randomBytes(100_000));

    const large = randomBytes(20_000_000);
    await expect(blobs.put(digestOf(large), streamed(large, 65536))).rejects.toMatchObject({ code: "NO_SPACE" });
    expect(readdirSync(join(dir, "store", "writing"))).toEqual([]);
    expect(filesOf(join(dir, "store", "objects"))).toEqual([]);
    await writeBlob(blobs, randomBytes(500_000));

    const filler = join(dir, "filler");
    await expect(pipeline(createReadStream("/dev/zero"), createWriteStream(filler))).rejects.toMatchObject({
      code: "ENOSPC",
    });
    expect(statfsSync(dir).bavail).toBe(0);
    const refused: Digest[] = [];
    for (let i = 0; i < 20; i++) {
      const batch = Array.from({ length: 50 }, () => randomBytes(4000));
      const results = await Promise.allSettled(batch.map((bytes) => blobs.put(digestOf(bytes), bytes)));
      results.forEach((result, n) => {
        if (result.status === "fulfilled") return;
        expect(isFault(result.reason, "NO_SPACE"), String(result.reason)).toBe(true);
        refused.push(digestOf(batch[n]!));
      });
    }
    expect(refused.length).toBeGreaterThan(0);
    expect(await blobs.missing(new Set(refused))).toEqual(new Set(refused));
    expect(digestOf(await collected(blobs, kept))).toBe(kept);

    rmSync(filler);
    const later = await writeBlob(blobs, randomBytes(4000));
    expect(digestOf(await collected(blobs, later))).toBe(later);
    await blobs.close();
    const again = localBlobs({ dir: join(dir, "store"), clock: realClock });
    for (const digest of [kept, later]) expect(digestOf(await collected(again, digest))).toBe(digest);
    await again.close();
    expect(existsSync(filler)).toBe(false);
  });
});

test("a blob taken away between the look and the note of its use is missing, and put() stores it again", async () => {
  const dir = temporaryFolder();
  let aheadMs = 0;
  const blobs = opened(dir, { clock: { ...realClock, now: () => realClock.now() + aheadMs } });
  const collector = opened(dir);
  const digest = await writeBlob(blobs, text(5000));
  const takeAway = () => collector.held.remove([Buffer.from(hashOf(digest), "hex")], Number.MAX_SAFE_INTEGER);
  aheadMs = 2 * 3600_000; // its use is worth a note
  const [, absent] = await Promise.all([takeAway(), blobs.missing(new Set([digest]))]);
  expect(absent).toEqual(new Set([digest]));
  await blobs.put(digest, text(5000));
  aheadMs *= 2;
  await Promise.all([takeAway(), blobs.put(digest, text(5000))]);
  expect(digestOf(await readBlob(blobs, digest, 5000))).toBe(digest);
});
