import { cp, mkdtemp, readdir, readFile, readlink, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Address } from "../../../src/domain/ids.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { localStates } from "../../../src/snapshots/states/local.ts";
import { openLog } from "../../../src/snapshots/states/log.ts";
import type { Entry, States } from "../../../src/snapshots/states/states.ts";
import { manualClock } from "../../transport/manual_clock.ts";
import { startChild } from "../child.ts";
import { smallDisk } from "../small_disk.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { collect, entry, said, statesContract } from "./contract.ts";

for (const flush of ["first", "later"] as const) {
  statesContract(`localStates(), flushed ${flush}`, async () => {
    const dir = await mkdtemp(join(tmpdir(), "scoot-actors-states-"));
    const options = { dir, clock: realClock, segmentBytes: 2000, flush };
    let states = await localStates(options);
    return {
      get states() {
        return states;
      },
      async reopen() {
        await states.close();
        states = await localStates(options);
        return states;
      },
      remove: () => rm(dir, { recursive: true }),
    };
  });
}

/** Opens a store until the test ends. */
async function open(dir: string, segmentBytes = 16 * 1024 * 1024): Promise<States> {
  const states = await localStates({ dir, clock: realClock, segmentBytes });
  onTestFinished(() => states.close());
  return states;
}

async function readOnly(dir: string): Promise<States> {
  const states = await localStates({ dir, clock: realClock, readOnly: true });
  onTestFinished(() => states.close());
  return states;
}

const segmentsOf = async (dir: string): Promise<string[]> =>
  (await readdir(join(dir, "log"))).sort().map((name) => join(dir, "log", name));

/** A closed store with these commits. */
async function storeWith(commits: readonly (readonly Entry[])[], segmentBytes?: number): Promise<string> {
  const dir = temporaryFolder();
  const states = await localStates({ dir, clock: realClock, ...(segmentBytes === undefined ? {} : { segmentBytes }) });
  for (const entries of commits) await states.commit(entries);
  await states.close();
  return dir;
}

async function copyOf(dir: string, without: readonly string[] = []): Promise<string> {
  const copy = join(temporaryFolder(), "copy");
  await cp(dir, copy, { recursive: true });
  for (const name of without) await rm(join(copy, name), { recursive: true });
  return copy;
}

const seqsOf = async (states: States): Promise<number[]> =>
  (await collect(states.history("task/"))).map(({ seq }) => seq);
const upTo = (seq: number): number[] => Array.from({ length: seq }, (_, index) => index + 1);

describe("a log that ends anywhere", () => {
  const commits = [
    [entry(1, "task/a/0")],
    [entry(2, "task/a/1"), entry(3, "task/a/0")],
    [entry(4, "task/a/2"), entry(5, "task/a/1"), entry(6, "task/a/0")],
  ];

  /** Opens the log alone, as the store does. @returns the seqs in it, once its end is cut. */
  const recovered = async (dir: string): Promise<number[]> => {
    const log = await openLog(dir, 1024 * 1024);
    const seqs: number[] = [];
    for await (const { batch } of log.replay({ seq: 1, position: undefined })) {
      seqs.push(...batch.records.map(({ seq }) => seq));
    }
    const ready = await log.ready({ knownSeq: 0, lastAtMs: 0, written: () => {} });
    const next = seqs.length + 1;
    // What was cut off is written anew.
    await ready.commit([entry(next, "task/b/0")]);
    await ready.close();
    return seqs;
  };

  test("is cut at the last whole commit, whatever byte it ends at", async () => {
    const dir = await storeWith(commits);
    const [segment] = await segmentsOf(dir);
    const whole = await readFile(segment!);
    const ends: number[] = [];
    for (let at = whole.indexOf("btch"); at >= 0; at = whole.indexOf("btch", at + 1)) ends.push(at);
    ends.push(whole.length);
    for (let length = 0; length <= whole.length; length++) {
      await writeFile(segment!, whole.subarray(0, length));
      const kept = [0, 1, 3, 6][ends.findLastIndex((end) => end <= length)] ?? 0;
      expect(await recovered(dir), `${length} bytes`).toEqual(upTo(kept));
      if (length % 10 === 0) expect(await recovered(dir)).toEqual(upTo(kept + 1));
    }
  }, 60_000);

  test("is cut before the last commit, whatever bit of it is flipped", async () => {
    const dir = await storeWith(commits);
    const [segment] = await segmentsOf(dir);
    const whole = await readFile(segment!);
    for (let at = whole.lastIndexOf("btch"); at < whole.length; at++) {
      const flipped = Uint8Array.from(whole);
      flipped[at]! ^= 1 << (at % 8);
      await writeFile(segment!, flipped);
      expect(await recovered(dir), `byte ${at}`).toEqual([1, 2, 3]);
    }
  }, 60_000);

  test("is cut with the rest of the store following", async () => {
    const dir = await storeWith(commits);
    const [segment] = await segmentsOf(dir);
    await truncate(segment!, (await stat(segment!)).size - 1);
    await rm(join(dir, "index"), { recursive: true });
    const states = await open(dir);
    expect(await states.bounds()).toMatchObject({ firstSeq: 1, lastSeq: 3 });
    await states.commit([entry(4, "task/b/0")]);
    expect(await seqsOf(states)).toEqual(upTo(4));
  });

  test("is STORE_CORRUPT when what is missing had been durable", async () => {
    const dir = await storeWith(commits);
    const [segment] = await segmentsOf(dir);
    await truncate(segment!, (await stat(segment!)).size - 1);
    await expect(open(dir)).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      message: expect.stringContaining("0000000001.seg"),
    });
    await rm(segment!);
    await expect(open(dir)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  });

  test("leaves nothing of a segment that was being made", async () => {
    const dir = await storeWith(commits, 200);
    const segments = await segmentsOf(dir);
    expect(segments).toHaveLength(3);
    await writeFile(join(dir, "log", "0000000004.seg"), "scoot");
    const states = await open(dir, 200);
    await states.commit([entry(7, "task/a/0")]);
    expect(await seqsOf(states)).toEqual(upTo(7));
  });
});

describe("damage", () => {
  const commits = upTo(40).map((seq) => [entry(seq, `task/a/${seq % 3}`)]);

  test("to what was durable is STORE_CORRUPT with segment and offset, when the log is replayed", async () => {
    const dir = await copyOf(await storeWith(commits), ["index"]);
    const [segment] = await segmentsOf(dir);
    const whole = await readFile(segment!);
    const third = whole.indexOf("btch", whole.indexOf("btch", whole.indexOf("btch") + 1) + 1);
    for (const at of [third, third + 5, third + 30, third + 60]) {
      const flipped = Uint8Array.from(whole);
      flipped[at]! ^= 4;
      await writeFile(segment!, flipped);
      await expect(open(dir)).rejects.toMatchObject({
        code: "STORE_CORRUPT",
        message: expect.stringMatching(new RegExp(`0000000001\\.seg at offset ${third} `)),
      });
    }
    await writeFile(segment!, whole);
    expect(await seqsOf(await open(dir))).toEqual(upTo(40));
  });

  test("to any bit of an old segment is STORE_CORRUPT or STORE_NEWER, never a wrong answer", async () => {
    const dir = await storeWith(commits.slice(0, 8), 1000);
    const [segment] = await segmentsOf(dir);
    const whole = await readFile(segment!);
    const replay = async (): Promise<unknown> =>
      await collect((await openLog(dir, 1000)).replay({ seq: 1, position: undefined }));
    for (let at = 0; at < whole.length; at++) {
      const flipped = Uint8Array.from(whole);
      flipped[at]! ^= 1 << (at % 8);
      await writeFile(segment!, flipped);
      await expect(replay(), `byte ${at}`).rejects.toMatchObject({
        code: expect.stringMatching(/^STORE_(CORRUPT|NEWER)$/),
      });
    }
  });

  test("to an indexed entry is STORE_CORRUPT when it is read, and other entries can be", async () => {
    const dir = await storeWith(commits, 1000);
    const segment = (await segmentsOf(dir))[1]!;
    const bytes = await readFile(segment);
    bytes[100]! ^= 1;
    await writeFile(segment, bytes);
    const states = await open(dir);
    expect(await collect(states.current())).toHaveLength(3);
    await expect(seqsOf(states)).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      message: expect.stringMatching(/0000000002\.seg at offset \d+/),
    });
  });

  test("a segment that is missing is STORE_CORRUPT", async () => {
    const dir = await storeWith(commits, 1000);
    const segments = await segmentsOf(dir);
    const middle = await readFile(segments[2]!);
    await rm(segments[2]!);
    await expect(open(dir)).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      message: expect.stringContaining("0000000003.seg"),
    });
    await writeFile(segments[2]!, middle);
    await rm(segments[0]!);
    await expect(open(dir)).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      message: expect.stringContaining("begins with"),
    });
  });
});

test("a store of a newer format is STORE_NEWER, by its marker and by its segments", async () => {
  const dir = await storeWith([[entry(1, "task/a/0")]]);
  const [segment] = await segmentsOf(dir);
  const bytes = await readFile(segment!);
  bytes.writeUInt32LE(7, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
  await writeFile(segment!, bytes);
  await expect(open(dir)).rejects.toMatchObject({
    code: "STORE_NEWER",
    message: expect.stringContaining("made by a newer version: format 7, this one knows up to 1"),
  });
  await writeFile(join(dir, "format"), "scoot-actors states 7\n");
  await expect(open(dir)).rejects.toMatchObject({ code: "STORE_NEWER" });
  // A refusal keeps no lock.
  await writeFile(join(dir, "format"), "scoot-actors states 1\n");
  await expect(open(dir)).rejects.toMatchObject({ code: "STORE_NEWER" });
});

test("an index that was deleted is made again from the log and the base", async () => {
  const dir = temporaryFolder();
  const states = await localStates({ dir, clock: realClock, segmentBytes: 1000 });
  await states.commit([entry(1, "worker/idle"), entry(2, "worker/left"), entry(3, "worker/left", { state: null })]);
  for (let seq = 4; seq <= 60; seq++) {
    await states.commit([
      entry(seq, `task/a/${seq % 7}`, { said: [said(seq, 0, "member/w1"), said(seq, 1, "job/a")] }),
    ]);
    if (seq === 30) {
      await states.commit([entry(++seq, "job/a", { cause: { id: "28.1", from: "task/a/0" as Address, event: {} } })]);
    }
  }
  await states.tail((to) => !to.startsWith("member/"));
  // Nothing that may be unsent is pruned: all up to entry 28 was heard.
  const { firstSeq } = await states.prune({ beforeMs: Infinity, bytesMax: 0 });
  expect(firstSeq).toBeGreaterThan(20);
  const answers = async (store: States): Promise<unknown[]> => [
    await store.bounds(),
    await store.tail((to) => !to.startsWith("member/")),
    await collect(store.current()),
    await Promise.all(["worker/idle", "worker/left", "task/a/3"].map((address) => store.get(address as Address))),
    await collect(store.cut(firstSeq)),
    await collect(store.cut(50)),
    await collect(store.history("task/a/")),
  ];
  const before = await answers(states);
  await states.close();
  await rm(join(dir, "index"), { recursive: true });
  expect(await answers(await open(dir, 1000))).toEqual(before);
});

test("whoever stands only in what was dropped is current until it goes, and never comes back", async () => {
  const dir = temporaryFolder();
  const states = await open(dir, 1000);
  await states.tail(() => true);
  await states.commit([entry(1, "worker/idle"), entry(2, "worker/left"), entry(3, "worker/moved")]);
  let seq = 3;
  const fill = async (): Promise<void> => {
    for (let count = 0; count < 20; count++) await states.commit([entry(++seq, "task/a/0")]);
  };
  const workers = async (): Promise<unknown> => ({
    current: (await collect(states.current("worker/"))).map((one) => [one.address, one.seq]),
    got: (await Promise.all(["idle", "left", "moved"].map((name) => states.get(`worker/${name}` as Address))))
      .flatMap((one) => one === undefined ? [] : [[one.address, one.seq]]),
  });
  const both = (list: unknown): unknown => ({ current: list, got: list });
  await fill();
  expect((await states.prune({ beforeMs: 0, bytesMax: 2000 })).firstSeq).toBeGreaterThan(3);
  expect(await workers()).toEqual(both([["worker/idle", 1], ["worker/left", 2], ["worker/moved", 3]]));
  await states.commit([entry(++seq, "worker/left", { state: null }), entry(++seq, "worker/moved")]);
  const moved = both([["worker/idle", 1], ["worker/moved", seq]]);
  expect(await workers()).toEqual(moved);
  await fill();
  expect(await workers()).toEqual(moved);
  await states.prune({ beforeMs: 0, bytesMax: 2000 });
  expect((await states.bounds()).firstSeq).toBeGreaterThan(25);
  expect(await workers()).toEqual(moved);
});

test("a drop that was interrupted is finished by the next prune, and nothing is lost meanwhile", async () => {
  const dir = temporaryFolder();
  const states = await localStates({ dir, clock: realClock, segmentBytes: 1000 });
  await states.tail(() => true);
  for (let seq = 1; seq <= 60; seq++) await states.commit([entry(seq, `task/a/${seq % 7}`)]);
  const [oldest] = await segmentsOf(dir);
  const kept = await readFile(oldest!);
  const { bytes } = await states.bounds();
  const { firstSeq } = await states.prune({ beforeMs: 0, bytesMax: bytes - 1 });
  expect(firstSeq).toBeGreaterThan(1);
  const cut = await collect(states.cut(firstSeq));
  await states.close();
  // As if the process had ended just before the file was removed.
  await writeFile(oldest!, kept);
  for (const without of [[], ["index"]]) {
    const again = await localStates({ dir: await copyOf(dir, without), clock: realClock, segmentBytes: 1000 });
    expect(await again.bounds()).toMatchObject({ firstSeq, lastSeq: 60 });
    expect(await collect(again.cut(firstSeq))).toEqual(cut);
    expect(await again.prune({ beforeMs: 0, bytesMax: bytes })).toMatchObject({ firstSeq });
    expect((await again.bounds()).bytes).toBeLessThan(bytes);
    expect(await collect(again.cut(firstSeq))).toEqual(cut);
    await again.close();
  }
});

test("reads that run while segments are dropped stay right or say that they cannot", async () => {
  const dir = temporaryFolder();
  const states = await open(dir, 4000);
  await states.tail(() => true);
  const entries = upTo(3000).map((seq) => entry(seq, `task/a/${seq % 900}`));
  await states.commit(entries);
  for (let seq = 3001; seq <= 3300; seq++) await states.commit([entry(seq, `task/a/${seq % 900}`)]);
  const cut = states.cut(3300)[Symbol.asyncIterator]();
  const first = await cut.next();
  const tooOld = states.cut(2999)[Symbol.asyncIterator]();
  await tooOld.next();
  const history = states.history("task/a/")[Symbol.asyncIterator]();
  await history.next();
  const { firstSeq } = await states.prune({ beforeMs: 0, bytesMax: 10_000 });
  expect(firstSeq).toBeGreaterThan(3000);
  const rest = await collect({ [Symbol.asyncIterator]: () => cut });
  expect([first.value, ...rest].map(({ seq }: Entry) => seq).sort((a, b) => a - b)).toEqual(upTo(3300).slice(2400));
  await expect(collect({ [Symbol.asyncIterator]: () => tooOld })).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  const seqs = (await collect({ [Symbol.asyncIterator]: () => history })).map(({ seq }) => seq);
  expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
  expect(seqs.at(-1)).toBe(3300);
});

describe("one process writes", () => {
  test("a second one is STORE_LOCKED and told which process it is", async () => {
    const dir = temporaryFolder();
    const states = await localStates({ dir, clock: realClock });
    await expect(open(dir)).rejects.toMatchObject({
      code: "STORE_LOCKED",
      message: expect.stringContaining(`${process.pid}`),
    });
    await states.close();
    await (await open(dir)).commit([entry(1, "task/a/0")]);
  });

  test("a lock that a dead process left, or another one with its id, is taken over", async () => {
    const dir = await storeWith([[entry(1, "task/a/0")]]);
    let number = 1;
    const locks = ["99999999 boot 1\n", `${process.pid} earlier-boot 77\n`, "", "x"];
    for (const lock of locks) {
      await writeFile(join(dir, `lock.${++number}`), lock);
      const states = await localStates({ dir, clock: realClock });
      expect(await seqsOf(states)).toEqual([1]);
      await states.close();
      expect((await readdir(dir)).filter((name) => name.startsWith("lock"))).toEqual([`lock.${++number}`]);
    }
  });

  test("of many that open at once exactly one succeeds", async () => {
    const dir = await storeWith([[entry(1, "task/a/0")]]);
    await writeFile(join(dir, "lock.2"), "99999999 boot 1\n");
    const opened = await Promise.allSettled(upTo(8).map(() => localStates({ dir, clock: realClock })));
    const winners = opened.filter((result) => result.status === "fulfilled");
    for (const { value } of winners) await value.close();
    expect(winners).toHaveLength(1);
    for (const result of opened) {
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "STORE_LOCKED" });
    }
  });

  test("others read while it writes, and may not write", async () => {
    const dir = temporaryFolder();
    const states = await open(dir, 1000);
    await states.commit(upTo(30).map((seq) => entry(seq, `task/a/${seq % 4}`)));
    await collect(states.current()); // brings the index up to date
    const reader = await readOnly(dir);
    expect(await reader.bounds()).toEqual(await states.bounds());
    expect(await collect(reader.cut(17))).toEqual(await collect(states.cut(17)));
    expect(await seqsOf(reader)).toEqual(upTo(30));
    for (let seq = 31; seq <= 60; seq++) await states.commit([entry(seq, `task/a/${seq % 4}`)]);
    expect((await reader.bounds()).lastSeq).toBe(60);
    expect(await seqsOf(reader)).toEqual(upTo(60));
    // What a host would need is told of what is indexed.
    await expect.poll(async () => (await reader.tail(() => true)).lastSeq, { timeout: 10_000 }).toBe(60);
    await expect(reader.commit([entry(61, "task/a/0")])).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    await expect(reader.prune({ beforeMs: 0, bytesMax: 0 })).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  });

  test("others see what was written as soon as it is, indexed or not, whatever was written", async () => {
    const step = fc.record({
      entries: fc.array(fc.record({ actor: fc.nat(5), isGone: fc.boolean() }), { minLength: 1, maxLength: 6 }),
      then: fc.constantFrom("look", "look", "index", "prune", "nothing"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.nat(), async (steps, chance) => {
        const dir = temporaryFolder();
        const states = await open(dir, 600);
        await states.commit([entry(1, "scheduler")]);
        await collect(states.current());
        const reader = await readOnly(dir);
        let seq = 1;
        let seen = 1;
        for (const { entries, then } of steps) {
          await states.commit(
            entries.map(({ actor, isGone }) =>
              entry(++seq, `task/${actor % 2}/${actor}`, isGone ? { state: null } : {})
            ),
          );
          if (then === "nothing") continue;
          if (then === "index") await collect(states.current());
          if (then === "prune") await states.prune({ beforeMs: 0, bytesMax: 2_000 });
          const { firstSeq, lastSeq } = await reader.bounds();
          expect(lastSeq).toBe(seq);
          expect(firstSeq).toBe((await states.bounds()).firstSeq);
          const news = await reader.news(seen);
          expect(news.lastSeq).toBe(seq);
          const written = await collect(states.history("", { afterSeq: seen }));
          if (news.addresses !== undefined) {
            expect(news.addresses.slice(-written.length || undefined)).toEqual(written.map(({ address }) => address));
          }
          seen = seq;
          for (const prefix of ["", "task/", "task/1/"]) {
            const at = firstSeq + chance % (lastSeq - firstSeq + 1);
            for (const moment of [at, lastSeq]) {
              expect(await collect(reader.cut(moment, prefix))).toEqual(await collect(states.cut(moment, prefix)));
            }
            expect(await collect(reader.cut(at, prefix, "task/0/2"))).toEqual(
              await collect(states.cut(at, prefix, "task/0/2")),
            );
            expect(await collect(reader.history(prefix, { afterSeq: at - 1 }))).toEqual(
              await collect(states.history(prefix, { afterSeq: at - 1 })),
            );
            expect(await collect(reader.current(prefix))).toEqual(await collect(states.current(prefix)));
          }
          for (let actor = 0; actor < 6; actor++) {
            const address = `task/${actor % 2}/${actor}` as Address;
            expect(await reader.get(address)).toEqual(await states.get(address));
            expect(await collect(reader.history(address))).toEqual(await collect(states.history(address)));
          }
        }
        await reader.close();
        await states.close();
      }),
      { numRuns: 30 },
    );
  }, 120_000);

  test("others miss nobody whose entries were indexed and dropped while they read, and keep no file of what was dropped", async () => {
    const dir = temporaryFolder();
    const states = await open(dir, 4_000);
    await states.commit([entry(1, "scheduler")]);
    await collect(states.current()); // brings the index up to date
    const reader = await readOnly(dir);
    const address = (seq: number): string => `task/${String(seq).padStart(4, "0")}/0`;
    for (let seq = 2; seq <= 700; seq++) await states.commit([entry(seq, address(seq))]);
    await reader.bounds();
    const cut = reader.cut(700, "task/")[Symbol.asyncIterator]();
    const seen = [(await cut.next()).value!.seq];
    await states.prune({ beforeMs: 0, bytesMax: 1_000 });
    for (let next = await cut.next(); !next.done; next = await cut.next()) seen.push(next.value.seq);
    expect(seen).toEqual(upTo(700).slice(1));
    expect((await states.bounds()).firstSeq).toBeGreaterThan(600);
    await reader.bounds();
    if (process.platform !== "linux") return;
    const files = await readdir("/proc/self/fd");
    const paths = await Promise.all(files.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")));
    expect(paths.filter((path) => path.startsWith(dir) && path.endsWith("(deleted)"))).toEqual([]);
  });

  test("others do not see a batch before all of it is there, and take it for no damage", async () => {
    const dir = temporaryFolder();
    const copy = temporaryFolder();
    const states = await open(dir);
    await states.commit(upTo(5).map((seq) => entry(seq, `task/a/${seq % 2}`)));
    await collect(states.current()); // brings the index up to date
    await cp(dir, copy, { recursive: true });
    await states.commit([entry(6, "task/a/0"), entry(7, "task/a/9", { reason: "x".repeat(50) })]);
    const [name] = await readdir(join(dir, "log"));
    const whole = await readFile(join(dir, "log", name!));
    const path = join(copy, "log", name!);
    const reader = await readOnly(copy);
    for (let bytes = (await stat(path)).size + 1; bytes <= whole.length; bytes++) {
      await writeFile(path, whole.subarray(0, bytes));
      const isThere = bytes === whole.length;
      expect((await reader.bounds()).lastSeq).toBe(isThere ? 7 : 5);
      expect((await reader.news(5)).addresses).toEqual(isThere ? ["task/a/0", "task/a/9"] : []);
      expect(await seqsOf(reader)).toEqual(upTo(isThere ? 7 : 5));
      expect(await reader.seqAt(Number.MAX_SAFE_INTEGER)).toBe(isThere ? 7 : 5);
    }
    expect((await reader.get("task/a/9" as Address))?.seq).toBe(7);
  });

  test("others see nothing of a batch whose records are damaged, and what is before it as it is", async () => {
    const dir = temporaryFolder();
    const copy = temporaryFolder();
    const states = await open(dir);
    await states.commit(upTo(5).map((seq) => entry(seq, `task/a/${seq % 2}`)));
    await collect(states.current()); // brings the index up to date
    await cp(dir, copy, { recursive: true });
    await states.commit([entry(6, "task/a/0"), entry(7, "task/a/9")]);
    const [name] = await readdir(join(dir, "log"));
    const whole = await readFile(join(dir, "log", name!));
    const reader = await readOnly(copy);
    const body = whole.lastIndexOf("btch") + 28;
    for (const length of [0xff_ff_ff_ff, 0x7f_ff_ff_ff, 1, 0]) {
      const harmed = Buffer.from(whole);
      harmed.writeUInt32LE(length, body); // of the first record
      await writeFile(join(copy, "log", name!), harmed);
      expect((await reader.bounds()).lastSeq).toBe(5);
      expect(await reader.news(5)).toEqual({ lastSeq: 5, addresses: [] });
      expect((await reader.get("task/a/0" as Address))?.seq).toBe(4);
    }
    await writeFile(join(copy, "log", name!), whole);
    expect((await reader.bounds()).lastSeq).toBe(7);
  });

  test("others read consistent cuts while another process writes and prunes", async () => {
    const dir = temporaryFolder();
    const child = startChild(new URL("./writer_child.ts", import.meta.url), dir);
    await child.lines.next();
    const reader = await readOnly(dir);
    for (let cuts = 0; cuts < 20;) {
      const { firstSeq, lastSeq } = await reader.bounds();
      if (lastSeq - firstSeq < 200) {
        // The writer has not indexed so much yet.
        await child.lines.next();
        continue;
      }
      const cut = await collect(reader.cut(lastSeq)).catch((error) => error);
      // Pruned past it meanwhile: that is said.
      if (cut instanceof Error) expect(cut).toMatchObject({ code: "REQUEST_INVALID" });
      else {expect(cut.map(({ seq }: Entry) => seq).sort((a: number, b: number) => a - b)).toEqual(
          upTo(lastSeq).slice(-97),
        );}
      cuts++;
      await child.lines.next();
    }
    child.process.kill("SIGKILL");
    for await (const _ of child.lines);
  }, 60_000);

  test("a folder that is no store cannot be read", async () => {
    const dir = temporaryFolder();
    await expect(readOnly(dir)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    expect(await readdir(dir)).toEqual([]);
  });
});

describe("a store that is flushed later", () => {
  /** Commits of which the first is flushed, as it was indexed; as they lie in the log of a process that is still there. */
  const lying = async (): Promise<{ readonly dir: string; readonly ends: readonly number[] }> => {
    const dir = temporaryFolder();
    const states = await localStates({ dir, clock: manualClock(), flush: "later" });
    onTestFinished(() => states.close());
    const ends: number[] = [];
    for (const seq of [1, 2, 3]) {
      await states.commit([entry(seq, `task/a/${seq}`)]);
      if (seq === 1) await states.prune({ beforeMs: 0, bytesMax: Infinity });
      const [segment] = await segmentsOf(dir);
      ends.push((await stat(segment!)).size);
    }
    const copy = await copyOf(dir);
    for (const name of await readdir(copy)) if (name.startsWith("lock.")) await rm(join(copy, name));
    return { dir: copy, ends };
  };

  test("loses nothing with its process", async () => {
    expect(await seqsOf(await open((await lying()).dir))).toEqual([1, 2, 3]);
  });

  test("loses with the power what was not flushed, from the first that is torn on, and goes on", async () => {
    const { dir, ends } = await lying();
    const [segment] = await segmentsOf(dir);
    const bytes = await readFile(segment!);
    bytes.fill(0, ends[0]!, ends[0]! + 40); // what came last was written first
    await writeFile(segment!, bytes);
    const states = await open(dir);
    expect(await seqsOf(states)).toEqual([1]);
    await states.commit([entry(2, "task/b/1")]);
    expect(await seqsOf(states)).toEqual([1, 2]);
  });

  test("knows that what was indexed had been durable", async () => {
    const { dir, ends } = await lying();
    const [segment] = await segmentsOf(dir);
    await truncate(segment!, ends[0]! - 1);
    await expect(localStates({ dir, clock: realClock })).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  });
});

test.each(["first", "later"])(
  "kill -9 in mid-commit loses nothing acknowledged, ten times, flushed %s",
  async (flush) => {
    const dir = temporaryFolder();
    let acknowledged = 0;
    for (let round = 0; round < 10; round++) {
      const child = startChild(new URL("./writer_child.ts", import.meta.url), dir, flush);
      const killAfter = acknowledged + 200 + round * 150;
      for await (const line of child.lines) {
        acknowledged = Math.max(acknowledged, Number(line));
        // What it still wrote to the pipe is read to its end.
        if (acknowledged >= killAfter) child.process.kill("SIGKILL");
      }
      expect(await child.ended).toBe("SIGKILL");
      const states = await localStates({ dir, clock: realClock, segmentBytes: 256 * 1024 });
      const { firstSeq, lastSeq } = await states.bounds();
      expect(lastSeq).toBeGreaterThanOrEqual(acknowledged);
      expect(await seqsOf(states)).toEqual(upTo(lastSeq).slice(firstSeq - 1));
      const current = await collect(states.current());
      expect(current).toEqual(await collect(states.cut(lastSeq)));
      expect(current).toHaveLength(97);
      await states.close();
      acknowledged = lastSeq;
    }
  },
  120_000,
);

describe("a full disk", () => {
  test("is NO_SPACE; what was acknowledged stays, and commits work again once there is space", async (context) => {
    const disk = smallDisk(12 * 1024 * 1024);
    if (disk === undefined) return context.skip("this machine lets nobody mount a small disk");
    const dir = join(disk, "store");
    const states = await localStates({ dir, clock: realClock, segmentBytes: 1024 * 1024 });
    const padding = "p".repeat(20_000);
    let seq = 0;
    const next = (): Entry => entry(seq + 1, `task/a/${seq % 5}`, { state: { padding } });
    await states.commit([next()]);
    seq++;
    await writeFile(join(disk, "filler"), new Uint8Array(5 * 1024 * 1024));
    let refused: unknown;
    while (refused === undefined && seq < 1000) {
      try {
        await states.commit([next()]);
        seq++;
      } catch (error) {
        refused = error;
      }
    }
    expect(refused).toMatchObject({ code: "NO_SPACE" });
    // Those that come behind are refused as well, and so is this one again.
    const late = await Promise.allSettled([
      states.commit([next()]),
      states.commit([entry(seq + 2, "task/a/0", { state: { padding } })]),
    ]);
    expect(late.map((result) => result.status === "rejected" && result.reason.code)).toEqual(["NO_SPACE", "NO_SPACE"]);
    await rm(join(disk, "filler"));
    await states.commit([next()]);
    seq++;
    expect(await seqsOf(states)).toEqual(upTo(seq));
    await states.close();
    const again = await localStates({ dir, clock: realClock });
    expect(await seqsOf(again)).toEqual(upTo(seq));
    await again.close();
  }, 60_000);
});
