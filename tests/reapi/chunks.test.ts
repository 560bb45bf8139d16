import { Buffer } from "node:buffer";
import { status } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { digestOfHash } from "../../src/domain/digest.ts";
import { Fault } from "../../src/domain/fault.ts";
import type { WireDigest } from "../../src/protocol/reapi/codec.ts";
import { methods } from "../../src/protocol/reapi/services.ts";
import { seededRandom } from "../../src/runtime/random.ts";
import { type Blobs, readBlob, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { codeOf, digestOfText, type Rig, startRig } from "./rig.ts";

let rig: Rig;
afterEach(() => rig.close());

function noise(seed: number, length: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Uint32Array.from({ length: length / 4 }, () => random.integer(2 ** 32)).buffer);
}
const asDigest = ({ hash, sizeBytes }: WireDigest) => digestOfHash(hash, sizeBytes);
async function joined(chunks: readonly WireDigest[]): Promise<Buffer> {
  const parts = [];
  for (const chunk of chunks) parts.push(await readBlob(rig.blobs, asDigest(chunk), chunk.sizeBytes));
  return Buffer.concat(parts);
}
/** Whose reads are counted, by blob. */
function counting(reads: Map<string, number>): Blobs {
  const blobs = memoryBlobs();
  return {
    ...blobs,
    get(digest, options) {
      reads.set(digest, (reads.get(digest) ?? 0) + 1);
      return blobs.get(digest, options);
    },
  };
}

test("C-14: that blobs are split and spliced is told, and how they are cut", async () => {
  rig = await startRig();
  expect((await rig.unary(methods.getCapabilities, {})).cacheCapabilities).toMatchObject({
    splitBlobSupport: true,
    spliceBlobSupport: true,
    fastCdc2020Params: { avgChunkSizeBytes: 512 * 1024, seed: 0 },
  });
});

describe("SplitBlob", () => {
  test("G-4: a large blob is chunks that are there and give it again; one that is small is a chunk by itself", async () => {
    rig = await startRig();
    const bytes = noise(1, 6_000_000);
    await writeBlob(rig.blobs, bytes);
    const { chunkDigests, chunkingFunction } = await rig.unary(methods.splitBlob, { blobDigest: digestOfText(bytes) });
    expect(chunkingFunction).toBe(1);
    expect(chunkDigests.length).toBeGreaterThan(3);
    expect((await joined(chunkDigests)).equals(bytes)).toBe(true);
    await writeBlob(rig.blobs, Buffer.from("hello"));
    for (const blobDigest of [digestOfText("hello"), digestOfText("")]) {
      expect((await rig.unary(methods.splitBlob, { blobDigest })).chunkDigests).toEqual([blobDigest]);
    }
  });
  test("G-4: one that is not there is NOT_FOUND, one without room RESOURCE_EXHAUSTED", async () => {
    rig = await startRig({
      needSpace: (what) => {
        throw new Fault("NO_SPACE", `Cannot take ${what}`);
      },
    });
    const bytes = noise(2, 3_000_000);
    expect(await codeOf(rig.unary(methods.splitBlob, { blobDigest: digestOfText(bytes) }))).toBe(status.NOT_FOUND);
    await writeBlob(rig.blobs, bytes);
    expect(await codeOf(rig.unary(methods.splitBlob, { blobDigest: digestOfText(bytes) })))
      .toBe(status.RESOURCE_EXHAUSTED);
    expect(await codeOf(rig.unary(methods.splitBlob, {}))).toBe(status.INVALID_ARGUMENT);
    expect(await codeOf(rig.unary(methods.splitBlob, { blobDigest: digestOfText(bytes), digestFunction: 9 })))
      .toBe(status.INVALID_ARGUMENT);
  });
  test("who asks at once, and who asks again, costs one reading, while the chunks are there", async () => {
    const reads = new Map<string, number>();
    rig = await startRig({ blobs: counting(reads) });
    const bytes = noise(3, 5_000_000);
    const blob = await writeBlob(rig.blobs, bytes);
    const ask = () => rig.unary(methods.splitBlob, { blobDigest: digestOfText(bytes) });
    const [first, ...others] = await Promise.all([ask(), ask(), ask()]);
    for (const other of [...others, await ask()]) expect(other).toEqual(first);
    expect(reads.get(blob)).toBe(1);
  });
});

describe("SpliceBlob", () => {
  const parts = [noise(4, 400_000), noise(5, 1_000)];
  const whole = Buffer.concat([...parts, parts[0]!]);
  const chunkDigests = [...parts, parts[0]!].map(digestOfText);
  const blobDigest = digestOfText(whole);
  test("G-5: chunks that are there become the blob; the second time it is there already", async () => {
    rig = await startRig();
    for (const part of parts) await writeBlob(rig.blobs, part);
    for (const chunkingFunction of [0, 1, 2]) {
      const answer = await rig.unary(methods.spliceBlob, { blobDigest, chunkDigests, chunkingFunction });
      expect(answer.blobDigest).toEqual(blobDigest);
    }
    expect(Buffer.from(await readBlob(rig.blobs, asDigest(blobDigest), whole.length)).equals(whole)).toBe(true);
  });
  test("G-5: a chunk that is missing is NOT_FOUND; no chunks, empty ones, and what does not match are INVALID_ARGUMENT", async () => {
    rig = await startRig();
    await writeBlob(rig.blobs, parts[0]!);
    const code = (asked: object) => codeOf(rig.unary(methods.spliceBlob, { blobDigest, chunkDigests, ...asked }));
    expect(await code({})).toBe(status.NOT_FOUND);
    await writeBlob(rig.blobs, parts[1]!);
    const bad = [
      { chunkDigests: [] },
      { chunkDigests: [...chunkDigests, digestOfText("")] },
      { chunkDigests: [...chunkDigests, { hash: "", sizeBytes: 0 }] },
      { chunkDigests: chunkDigests.slice(1) },
      { chunkDigests: chunkDigests.toReversed().with(0, chunkDigests[1]!).with(1, chunkDigests[0]!) },
      { blobDigest: { ...digestOfText("another"), sizeBytes: whole.length } },
      { blobDigest: undefined },
    ];
    for (const each of bad) expect(await code(each), JSON.stringify(each).slice(0, 200)).toBe(status.INVALID_ARGUMENT);
    expect((await rig.blobs.missing(new Set([asDigest(blobDigest)]))).size).toBe(1);
    expect(await code({})).toBe(status.OK);
  });
});
