import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Digest, emptyDigest } from "../../src/domain/digest.ts";
import type { Node } from "../../src/domain/node.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { digestOf, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { keyOf } from "../../src/snapshots/blobs/index_rows.ts";
import { type LocalBlobs, localBlobs } from "../../src/snapshots/blobs/local.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { keySet } from "../../src/snapshots/collect_key_set.ts";
import { useTimes } from "../../src/snapshots/collect_plan.ts";
import { leasesOf, type Root, treeKeeper } from "../../src/snapshots/lease.ts";
import { temporaryFolder } from "./temporary_folder.ts";

const hash = (n: number): Buffer => createHash("sha256").update(String(n)).digest();

test("keySet() answers as a map does in which the first value stays", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(5000), fc.nat(254)), { maxLength: 6000 }),
      (pairs) => {
        const set = keySet();
        const map = new Map<number, number>();
        for (const [n, value] of pairs) {
          expect(set.add(hash(n), value)).toBe(!map.has(n));
          if (!map.has(n)) map.set(n, value);
        }
        expect(set.size).toBe(map.size);
        for (let n = 0; n < 5000; n += 7) expect(set.get(hash(n))).toBe(map.get(n));
      },
    ),
    { numRuns: 30 },
  );
  expect(keySet().get(hash(1))).toBeUndefined();
});

test("keySet() tells keys apart that meet in one slot", () => {
  const set = keySet();
  const near = (n: number): Buffer => Buffer.concat([Buffer.alloc(12), Buffer.of(0, 0, n >> 8, n & 255), hash(n)]);
  for (let n = 0; n < 2000; n++) set.add(near(n), n % 255);
  for (let n = 0; n < 2000; n++) expect(set.get(near(n))).toBe(n % 255);
  expect(set.get(near(2001))).toBeUndefined();
});

test("useTimes() cuts off what was used first: no less than what is needed, and of no younger use than that takes", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ usedAtMs: fc.nat(1_000_000), bytes: fc.integer({ min: 1, max: 1000 }) })),
      fc.integer({ min: -10, max: 100_000 }),
      (blobs, needBytes) => {
        const times = useTimes();
        for (const { usedAtMs, bytes } of blobs) times.add(usedAtMs, bytes);
        const cut = times.cut(needBytes);
        const sum = (all: typeof blobs): number => all.reduce((total, { bytes }) => total + bytes, 0);
        const before = sum(blobs.filter(({ usedAtMs }) => usedAtMs < cut.beforeMs));
        const until = sum(blobs.filter(({ usedAtMs }) => usedAtMs < cut.untilMs));
        if (needBytes <= 0) expect(until).toBe(0);
        else if (needBytes <= sum(blobs)) {
          expect(before + cut.untilBytes).toBe(needBytes);
          expect(before).toBeLessThan(needBytes);
          expect(until).toBeGreaterThanOrEqual(needBytes);
        } else expect(before).toBe(sum(blobs));
      },
    ),
  );
});

describe("leasesOf()", () => {
  const file = (name: string, digest: Digest): Node => ({ kind: "file", name, digest, executable: false });
  const folder = (name: string, digest: Digest): Node => ({ kind: "directory", name, digest });
  const roots = (...all: Root[]) =>
    async function* (): AsyncGenerator<Root> {
      for (const root of all) yield await Promise.resolve(root);
    };

  test("finds all below a tree, reads a shared folder once, and says why each stays", async () => {
    const store = memoryBlobs();
    const read: Digest[] = [];
    const blobs = { ...store, peek: (digest: Digest) => (read.push(digest), store.peek!(digest)) };
    const [a, b, lone, other] = await Promise.all(
      ["a", "b", "lone", "other"].map((name) => writeBlob(blobs, Buffer.from(name))),
    );
    const shared = await writeBlob(blobs, encodeDirectory([file("a", a!)]));
    const one = await writeBlob(blobs, encodeDirectory([folder("x", shared), folder("y", shared), file("b", b!)]));
    const two = await writeBlob(blobs, encodeDirectory([folder("z", shared)]));
    const leases = await leasesOf(
      blobs,
      roots(
        { digest: one, kind: "blob", why: "queued" }, // as a blob first: it must be walked all the same
        { digest: lone!, kind: "blob", why: "queued" },
        { digest: one, kind: "tree", why: "running" },
        { digest: two, kind: "tree", why: "named" },
      ),
    );
    const why = (digest: Digest): string | undefined => leases.whyOf(keyOf(digest));
    expect([one, lone, a, b, shared, two, other].map((digest) => why(digest!))).toEqual(
      ["queued", "queued", "running", "running", "running", "named", undefined],
    );
    expect(read).toEqual([one, shared, two]);
    expect(leases.unread).toBe(0);
  });

  test("goes on past trees that are not there or are none, and counts them", async () => {
    const blobs = memoryBlobs();
    const [a, none] = await Promise.all(["a", "\xffno directory"].map((each) => writeBlob(blobs, Buffer.from(each))));
    const absent = await writeBlob(memoryBlobs(), encodeDirectory([file("a", a!)]));
    const top = await writeBlob(blobs, encodeDirectory([folder("x", absent), folder("y", none!), file("a", a!)]));
    const leases = await leasesOf(
      blobs,
      roots(
        { digest: "what a name may hold" as Digest, kind: "tree", why: "named" },
        { digest: top, kind: "tree", why: "named" },
      ),
    );
    expect(leases.unread).toBe(3);
    for (const digest of [top, none!, absent, a!]) expect(leases.whyOf(keyOf(digest))).toBe("named");
  });

  test("throws what keeps the store from being read: nothing is known then", async () => {
    const blobs = memoryBlobs();
    const top = await writeBlob(blobs, encodeDirectory([{ kind: "symlink", name: "here", target: "there" }]));
    const broken = {
      ...blobs,
      peek: () => {
        throw new Error("EIO");
      },
    };
    await expect(leasesOf(broken, roots({ digest: top, kind: "tree", why: "named" }))).rejects.toThrow("EIO");
    const stop = new AbortController();
    stop.abort(new Error("stopped"));
    await expect(leasesOf(blobs, roots({ digest: top, kind: "tree", why: "named" }), stop.signal))
      .rejects.toThrow("stopped");
  });
});

describe("treeKeeper()", () => {
  const file = (name: string, digest: Digest): Node => ({ kind: "file", name, digest, executable: false });
  const folder = (name: string, digest: Digest): Node => ({ kind: "directory", name, digest });

  async function world() {
    const time = { nowMs: 1_700_000_000_000 };
    const clock = { now: () => time.nowMs, at: () => () => {} };
    const store = localBlobs({ dir: temporaryFolder(), clock });
    onTestFinished(() => store.close());
    const asked: Digest[] = [];
    const blobs = {
      ...store,
      missing: (digests: ReadonlySet<Digest>) => (asked.push(...digests), store.missing(digests)),
    };
    const [a, b, c] = await Promise.all(["a", "b", "c"].map((each) => writeBlob(blobs, Buffer.from(each))));
    const inner = await writeBlob(blobs, encodeDirectory([file("a", a!), file("b", b!)]));
    const top = await writeBlob(blobs, encodeDirectory([folder("in", inner), folder("again", inner)]));
    const other = await writeBlob(blobs, encodeDirectory([folder("in", inner), file("c", c!)]));
    return {
      time,
      blobs,
      asked,
      keeper: treeKeeper({ blobs, clock, rememberMs: store.held.noteEveryMs }),
      a: a!,
      b: b!,
      c: c!,
      inner,
      top,
      other,
    };
  }
  const remove = (blobs: LocalBlobs, digest: Digest) => blobs.held.remove([keyOf(digest)], Number.MAX_SAFE_INTEGER);

  test("keeps all of a tree, and then what is new in another", async () => {
    const { time, blobs, asked, keeper, a, b, c, inner, top, other } = await world();
    time.nowMs += 3600_000;
    expect(await keeper.keep(top)).toEqual([]);
    expect(new Set(asked)).toEqual(new Set([top, inner, a, b]));
    const used = new Map(blobs.held.page(undefined, 100).map(({ key, usedAtMs }) => [key.toString("hex"), usedAtMs]));
    for (const digest of [top, inner, a, b]) expect(used.get(digest.slice(0, 64))).toBe(time.nowMs);
    asked.length = 0;
    expect(await keeper.keep(other)).toEqual([]);
    expect(new Set(asked)).toEqual(new Set([other, c]));
    asked.length = 0;
    time.nowMs += 900_000;
    expect(await keeper.keep(top)).toEqual([]);
    expect(new Set(asked)).toEqual(new Set([top, inner, a, b]));
  });

  test("trees that are asked for at once are walked one after the other: what they share, once", async () => {
    const { blobs, asked, keeper, a, b, c, inner, top, other } = await world();
    const left = new AbortController();
    const all = [keeper.keep(top), keeper.keep(other, left.signal), keeper.keep(other), keeper.keep(top)];
    left.abort(new Error("its client has left"));
    await expect(all[1]).rejects.toThrow("its client has left");
    expect(await Promise.all([all[0], all[2], all[3]])).toEqual([[], [], []]);
    expect(asked.toSorted()).toEqual([top, inner, a, b, other, c].toSorted());
    await blobs.close();
    await expect(keeper.keep(digestOf(Buffer.from("one")))).rejects.toMatchObject({ code: "DRAINING" });
    await expect(keeper.keep(digestOf(Buffer.from("two")))).rejects.toMatchObject({ code: "DRAINING" });
  });

  test("others have their turn while a large tree is walked", async () => {
    const { blobs, keeper } = await world();
    const folders = await Promise.all(Array.from({ length: 1_000 }, async (_, n) => {
      const leaf = await writeBlob(blobs, Buffer.from(`leaf ${n}`));
      return folder(`f${n}`, await writeBlob(blobs, encodeDirectory([file("leaf", leaf)])));
    }));
    const large = await writeBlob(blobs, encodeDirectory(folders));
    let turns = 0;
    let isDone = false;
    const kept = keeper.keep(large).finally(() => isDone = true);
    while (!isDone) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    expect(await kept).toEqual([]);
    expect(turns).toBeGreaterThan(8);
  });

  test("a tree is remembered no longer than the folders in it that were not walked again", async () => {
    const { time, asked, keeper, a, b, c, inner, top, other } = await world();
    await keeper.keep(top);
    time.nowMs += 600_000;
    await keeper.keep(other);
    time.nowMs += 300_000;
    asked.length = 0;
    await keeper.keep(other);
    expect(new Set(asked)).toEqual(new Set([other, c, inner, a, b]));
  });

  test("names what is absent, and does not remember such a tree", async () => {
    const { blobs, keeper, a, inner, top, other } = await world();
    await remove(blobs, a);
    expect(await keeper.keep(top)).toEqual([a]);
    expect(await keeper.keep(top)).toEqual([a]);
    await remove(blobs, inner);
    expect(await keeper.keep(other)).toEqual([inner]);
    expect(await keeper.keep(digestOf(Buffer.from("never put")))).toHaveLength(1);
    expect(await keeper.keep(emptyDigest)).toEqual([]);
    const none = await writeBlob(blobs, Buffer.from("\xffno directory"));
    for (let again = 0; again < 2; again++) expect(await keeper.keep(none)).toEqual([none]);
  });
});
