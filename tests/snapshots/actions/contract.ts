import { describe, expect, onTestFinished, test } from "vitest";
import type { ActionResultData } from "../../../src/domain/action_result.ts";
import { type Digest, digestOfHash } from "../../../src/domain/digest.ts";
import { type TaskId, workerId } from "../../../src/domain/ids.ts";
import { encodeDirectory, encodeTree } from "../../../src/protocol/reapi/canonical.ts";
import { type ActionCache, usersMax } from "../../../src/snapshots/actions/actions.ts";
import { type Blobs, digestOf, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { actionOf, keyOf, made, resultOf } from "./results.ts";

const lost = digestOfHash("ab".repeat(32), 7);
const file = (digest: Digest) => ({ path: "out", digest, executable: false });

async function gathered<Each>(from: AsyncIterable<Each>): Promise<Each[]> {
  const all: Each[] = [];
  for await (const each of from) all.push(each);
  return all;
}

/** What every implementation of ActionCache promises. @param make a new, empty cache; the contract closes it. */
export function actionsContract(name: string, make: (blobs: Blobs) => ActionCache): void {
  describe(name, () => {
    const opened = (blobs: Blobs = memoryBlobs()): ActionCache => {
      const cache = make(blobs);
      onTestFinished(() => cache.close());
      return cache;
    };

    test("gives back what was put, to its instance alone", async () => {
      const cache = opened();
      expect(await cache.get(keyOf(1))).toBeUndefined();
      expect(cache.knows(keyOf(1))).toBe(false);
      const result = resultOf({ stdoutRaw: Buffer.from("hi") });
      expect(await cache.put(keyOf(1), result, made())).toEqual({ kind: "stored" });
      expect(cache.knows(keyOf(1))).toBe(true);
      expect(await cache.get(keyOf(1))).toEqual({ key: keyOf(1), result, made: made() });
      for (const instance of ["a", "a/b", "ü"]) {
        expect(await cache.get(keyOf(1, instance))).toBeUndefined();
        await cache.put(keyOf(1, instance), resultOf({ stderrRaw: Buffer.from(instance) }), made());
      }
      expect((await cache.get(keyOf(1, "a/b")))?.result).toEqual(resultOf({ stderrRaw: Buffer.from("a/b") }));
      expect(await cache.getMany([keyOf(2), keyOf(1), keyOf(3)])).toEqual([
        undefined,
        { key: keyOf(1), result, made: made() },
        undefined,
      ]);
    });

    test("a result that lacks something, also within a tree, is no hit and is dropped", async () => {
      const blobs = memoryBlobs();
      const cache = opened(blobs);
      const there = await writeBlob(blobs, Buffer.from("there"));
      const folder = (digest: Digest) => encodeDirectory([{ kind: "file", name: "f", digest, executable: false }]);
      const parent = (child: Uint8Array) =>
        encodeDirectory([{ kind: "directory", name: "d", digest: digestOf(child) }]);
      const tree = (child: Uint8Array) => writeBlob(blobs, encodeTree(parent(child), [child]));
      const noTree = await writeBlob(blobs, Buffer.from("no tree"));
      for (const each of [folder(there), folder(lost)]) {
        await writeBlob(blobs, each);
        await writeBlob(blobs, parent(each));
      }
      const folders = (one: { tree?: Digest; rootDirectory?: Digest }) => ({
        outputDirectories: [{ path: "d", isTopologicallySorted: false, ...one }],
      });
      const cases: [Partial<ActionResultData>, boolean][] = [
        [{ outputFiles: [file(there)], stdout: there, stderr: there }, true],
        [{ outputFiles: [file(lost)] }, false],
        [{ stdout: lost }, false],
        [{ stderr: lost }, false],
        [folders({ tree: await tree(folder(there)) }), true],
        [folders({ tree: await tree(folder(lost)) }), false],
        [folders({ tree: lost }), false],
        [folders({ tree: noTree }), false],
        [folders({ rootDirectory: digestOf(parent(folder(there))) }), true],
        [folders({ rootDirectory: digestOf(parent(folder(lost))) }), false],
        [folders({ rootDirectory: lost }), false],
      ];
      for (const [n, [data, isHit]] of cases.entries()) {
        await cache.put(keyOf(n), resultOf(data), made());
        expect([n, await cache.get(keyOf(n)) !== undefined, cache.knows(keyOf(n))]).toEqual([n, isHit, isHit]);
        const checked = cache.put(keyOf(n, "checked"), resultOf(data), made(), { checked: true });
        if (isHit) await checked;
        else {
          await expect(checked).rejects.toMatchObject({ code: "OUTPUT_MISSING" });
          expect(cache.knows(keyOf(n, "checked"))).toBe(false);
        }
      }
    });

    test("put() refuses bytes that are no result, and instances that are no names", async () => {
      const cache = opened();
      const refused = { code: "REQUEST_INVALID" };
      await expect(cache.put(keyOf(1), Buffer.of(1, 2, 3), made())).rejects.toMatchObject(refused);
      await expect(cache.put(keyOf(1), new Uint8Array(5_000_000), made())).rejects.toMatchObject(refused);
      for (const instance of ["x".repeat(257), "a\0b"]) {
        await expect(cache.put(keyOf(1, instance), resultOf(), made())).rejects.toMatchObject(refused);
        await expect(cache.get(keyOf(1, instance))).rejects.toMatchObject(refused);
      }
      expect(cache.knows(keyOf(1))).toBe(false);
    });

    test("one key with two outcomes is told, kept as proof, and replaced only by wish", async () => {
      const cache = opened();
      const [first, other] = [resultOf(), resultOf({ outputSymlinks: [{ path: "l", target: "t" }] })];
      await cache.put(keyOf(1), first, made(1));
      const streams = resultOf({ stdoutRaw: Buffer.from("took 3 ms") });
      expect(await cache.put(keyOf(1), streams, made(2))).toMatchObject({ kind: "same", existing: { result: first } });
      const answer = await cache.put(keyOf(1), other, made(3));
      expect(answer).toMatchObject({ kind: "differs", existing: { result: first }, given: other, kept: "existing" });
      expect((await cache.get(keyOf(1)))?.result).toEqual(first);
      expect((await cache.show(keyOf(1)))?.differed).toEqual({ count: 1, result: other, made: made(3) });
      expect(await cache.put(keyOf(1), other, made(4), { replace: true })).toMatchObject({ kept: "given" });
      expect(await cache.get(keyOf(1))).toMatchObject({ result: other, made: made(4) });
      expect((await cache.show(keyOf(1)))?.differed).toEqual({ count: 2, result: first, made: made(1) });
    });

    test("an entry whose outputs are gone makes way for what is put", async () => {
      const cache = opened();
      await cache.put(keyOf(1), resultOf({ outputFiles: [file(lost)] }), made(1));
      expect(await cache.put(keyOf(1), resultOf(), made(2))).toEqual({ kind: "stored" });
      expect((await cache.get(keyOf(1)))?.made).toEqual(made(2));
    });

    test("revoke() takes back what a worker made since then, and says who used it", async () => {
      const cache = opened();
      await cache.put(keyOf(1), resultOf(), made(100));
      await cache.put(keyOf(2), resultOf(), made(50));
      await cache.put(keyOf(3), resultOf(), made(100, "w2"));
      for (let n = 0; n < usersMax + 5; n++) await cache.get(keyOf(1), { usedBy: `j2/${n}` as TaskId });
      const [revoked, ...more] = await gathered(cache.revoke({ workerId: workerId("w1"), sinceMs: 100 }));
      expect(more).toEqual([]);
      expect(revoked).toMatchObject({ key: keyOf(1), made: made(100) });
      expect(new Set(revoked?.usedBy).size).toBe(usersMax);
      expect([1, 2, 3].map((n) => cache.knows(keyOf(n)))).toEqual([false, true, true]);
      expect(await cache.show(keyOf(1))).toBeUndefined();
    });

    test("list() gives entries by instance and by the beginning of the hash, page by page", async () => {
      const cache = opened();
      for (let n = 0; n < 450; n++) await cache.put(keyOf(n, n % 3 === 0 ? "a" : ""), resultOf(), made());
      const all = await gathered(cache.list());
      expect(all).toHaveLength(450);
      expect(await gathered(cache.list({ instance: "a" }))).toHaveLength(150);
      expect(await gathered(cache.list({ after: all[199]!.key, limit: 3 }))).toEqual(all.slice(200, 203));
      const prefix = actionOf(7).slice(0, 3);
      const found = await gathered(cache.list({ prefix }));
      expect(found).toEqual(all.filter(({ key }) => key.action.startsWith(prefix)));
      expect(cache.size().entries).toBe(450);
    });

    test("forget() removes what was neither made nor used since then; remove() removes one", async () => {
      const cache = opened();
      for (const n of [1, 2, 3]) await cache.put(keyOf(n), resultOf(), made(n));
      await cache.get(keyOf(1));
      expect(await cache.forget(3)).toBe(1);
      expect([1, 2, 3].map((n) => cache.knows(keyOf(n)))).toEqual([true, false, true]);
      expect(await cache.remove(keyOf(1))).toBe(true);
      expect(await cache.remove(keyOf(1))).toBe(false);
    });
  });
}
