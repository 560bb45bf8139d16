import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Fault } from "../../../src/domain/fault.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { type Blobs, digestOf, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { readThrough } from "../../../src/snapshots/blobs/read_through.ts";
import { captureOutputs } from "../../../src/snapshots/trees/outputs.ts";
import { walk } from "../../../src/snapshots/trees/read_tree.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { blobsContract, collected, streamed, text } from "./contract.ts";

blobsContract("readThrough()", () => readThrough({ near: memoryBlobs(), far: memoryBlobs() }));

/** A store that counts how often it is read. */
function counted(blobs: Blobs): Blobs & { reads: number } {
  const counting = {
    ...blobs,
    reads: 0,
    get(...args: Parameters<Blobs["get"]>) {
      counting.reads++;
      return blobs.get(...args);
    },
  };
  return counting;
}

test("readThrough() brings a blob near once, also for many who ask at once", async () => {
  const near = memoryBlobs();
  const far = counted(memoryBlobs());
  const bytes = text(200_000);
  const digest = await writeBlob(far, bytes);
  const blobs = readThrough({ near, far });
  const all = await Promise.all(Array.from({ length: 5 }, () => collected(blobs, digest)));
  for (const read of all) expect(read.equals(bytes)).toBe(true);
  expect(far.reads).toBe(1);
  expect(await near.missing(new Set([digest]))).toEqual(new Set());
  await collected(blobs, digest);
  expect(far.reads).toBe(1);
});

test("readThrough() gives a part from afar without keeping it", async () => {
  const near = memoryBlobs();
  const far = memoryBlobs();
  const bytes = text(200_000);
  const digest = await writeBlob(far, bytes);
  const part = await collected(readThrough({ near, far }), digest, { offset: 1000, length: 10 });
  expect(part.equals(bytes.subarray(1000, 1010))).toBe(true);
  expect(await near.missing(new Set([digest]))).toEqual(new Set([digest]));
});

test("readThrough() does not go on when one of those who wait is gone, but when others wait", async () => {
  const far = memoryBlobs();
  const bytes = text(200_000);
  const digest = await writeBlob(far, bytes);
  let stopped = 0;
  const slow: Blobs = {
    ...far,
    async *get(_digest, options) {
      try {
        for await (const chunk of streamed(bytes)) {
          await new Promise((resolve) => setImmediate(resolve));
          options?.signal?.throwIfAborted();
          yield chunk;
        }
      } catch (error) {
        stopped++;
        throw error;
      }
    },
  };
  const blobs = readThrough({ near: memoryBlobs(), far: slow });
  const stop = new AbortController();
  const gone = collected(blobs, digest, { signal: stop.signal });
  const waiting = collected(blobs, digest);
  stop.abort(new Error("gone"));
  await expect(gone).rejects.toThrow("gone");
  expect((await waiting).equals(bytes)).toBe(true);
  expect(stopped).toBe(0);

  const alone = readThrough({ near: memoryBlobs(), far: slow });
  const stopAlone = new AbortController();
  const only = collected(alone, digest, { signal: stopAlone.signal });
  setImmediate(() => stopAlone.abort(new Error("gone too")));
  await expect(only).rejects.toThrow("gone too");
  await expect.poll(() => stopped).toBe(1);
});

test("readThrough() asks the far store only when the near one is sure not to hold a blob", async () => {
  const far = counted(memoryBlobs());
  const digest = await writeBlob(far, text(100));
  const broken: Blobs = {
    ...memoryBlobs(),
    get() {
      throw new Fault("STORE_CORRUPT", "the disk is damaged");
    },
  };
  await expect(collected(readThrough({ near: broken, far }), digest)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  const late: Blobs = {
    ...memoryBlobs(),
    async *get() {
      yield await Promise.resolve(Buffer.of(1));
      throw new Fault("BLOB_MISSING", "it was there just now");
    },
  };
  await expect(collected(readThrough({ near: late, far }), digest)).rejects.toMatchObject({ code: "BLOB_MISSING" });
  expect(far.reads).toBe(0);
});

test("readThrough() gives a blob that there is no room for near", async () => {
  const far = memoryBlobs();
  const digest = await writeBlob(far, text(100));
  const near: Blobs = {
    ...memoryBlobs(),
    put: () => Promise.reject(new Fault("NO_SPACE", "the disk is full")),
  };
  expect(digestOf(await collected(readThrough({ near, far }), digest))).toBe(digest);
});

test("readThrough() puts into both, and counts as missing what the far one lacks, which a put brings there", async () => {
  const [near, far] = [memoryBlobs(), memoryBlobs()];
  const blobs = readThrough({ near, far });
  const bytes = text(200_000);
  await blobs.put(digestOf(bytes), streamed(bytes));
  for (const store of [near, far]) expect(digestOf(await collected(store, digestOf(bytes)))).toBe(digestOf(bytes));
  const onlyNear = await writeBlob(near, text(10));
  const onlyFar = await writeBlob(far, text(20));
  const nowhere = digestOf(text(30));
  expect(await blobs.missing(new Set([onlyNear, onlyFar, nowhere]))).toEqual(new Set([onlyNear, nowhere]));
  await blobs.put(onlyNear, text(10));
  expect(await far.missing(new Set([onlyNear]))).toEqual(new Set());
});

test("what is captured through it is whole in the far store, though that has lost what the near one still has", async () => {
  const [near, far] = [memoryBlobs(), memoryBlobs()];
  const dir = temporaryFolder();
  mkdirSync(join(dir, "out/deep"), { recursive: true });
  writeFileSync(join(dir, "out/deep/file"), "made before, too");
  const options = { dir, paths: ["out"], clock: realClock };
  await captureOutputs({ ...options, blobs: near });
  const snapshot = await captureOutputs({ ...options, blobs: readThrough({ near, far }) });
  const paths: string[] = [];
  for await (const { path } of walk(far, snapshot)) paths.push(path);
  expect(paths).toEqual(["out", "out/deep", "out/deep/file"]);
  expect(await far.missing(new Set([digestOf(Buffer.from("made before, too"))]))).toEqual(new Set());
});
