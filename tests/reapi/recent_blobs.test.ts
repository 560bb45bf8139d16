import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { digestOfHash } from "../../src/domain/digest.ts";
import { findMissingBlobsRequest } from "../../src/protocol/reapi/messages.ts";
import { readQuickly, recentBlobs, rememberedMsOf } from "../../src/reapi/recent_blobs.ts";

const wireDigest = fc.record({
  hash: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex")),
  sizeBytes: fc.nat({ max: 2 ** 28 - 1 }).filter((size) => size > 0),
});
const request = fc.record({
  instanceName: fc.constantFrom("", "a", "a/b"),
  blobDigests: fc.array(wireDigest),
  digestFunction: fc.constantFrom(0, 1, 9),
});

describe("readQuickly()", () => {
  test("reads what the decoder reads, less what is remembered", () => {
    fc.assert(fc.property(request, fc.nat(), (given, seed) => {
      const recent = recentBlobs(10_000, 16); // so few places that they are taken from each other
      const noted = given.blobDigests.filter((_, place) => (seed >> (place % 30)) % 2 === 1);
      for (const { hash, sizeBytes } of noted) recent.note(digestOfHash(hash, sizeBytes), 5);
      const { unknown, ...rest } = readQuickly(Buffer.from(findMissingBlobsRequest.encode(given)), recent, 5)!;
      expect(rest).toEqual({ instanceName: given.instanceName, digestFunction: given.digestFunction });
      const left = given.blobDigests.filter((one) => !unknown.some((it) => it.hash === one.hash));
      for (const one of unknown) expect(given.blobDigests).toContainEqual(one);
      for (const one of left) expect(noted).toContainEqual(one);
    }));
  });
  test("leaves any other bytes to the decoder, or reads the same from them", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), request, fc.nat(), fc.nat({ max: 255 }), (any, given, at, to) => {
        const harmed = Buffer.from(findMissingBlobsRequest.encode(given));
        if (harmed.length > 0) harmed[at % harmed.length] = to;
        for (const bytes of [Buffer.from(any), harmed]) {
          const quick = readQuickly(bytes, recentBlobs(10_000, 16), 0);
          if (quick === undefined) continue;
          let decoded;
          try {
            decoded = findMissingBlobsRequest.decode(bytes);
          } catch {
            // What is no text is refused by its form, as no hash and no instance.
            expect(JSON.stringify(quick)).toContain("\ufffd");
            continue;
          }
          expect(quick.unknown).toEqual(decoded.blobDigests);
          expect(quick.instanceName).toBe(decoded.instanceName);
          expect(quick.digestFunction).toBe(decoded.digestFunction);
        }
      }),
    );
  });
});

test("a blob is remembered for its time, with its size, and by no other hash of its place", () => {
  const rememberedMs = rememberedMsOf(8_000);
  const recent = recentBlobs(rememberedMs, 1);
  const [one, two] = ["a".repeat(64), "a".repeat(63) + "b"];
  const has = (hash: string, size: number, nowMs: number) => recent.has(Buffer.from(`..${hash}`), 2, size, nowMs);
  recent.note(digestOfHash(one, 7), 1_000);
  expect(has(one, 7, 1_000 + rememberedMs)).toBe(true);
  expect(has(one, 7, 1_001 + rememberedMs)).toBe(false);
  expect(has(one, 7, 999)).toBe(false);
  expect(has(one, 8, 1_000)).toBe(false);
  expect(has(two, 7, 1_000)).toBe(false);
  recent.note(digestOfHash(two, 7), 1_000);
  expect(has(two, 7, 1_000)).toBe(true);
  expect(has(one, 7, 1_000)).toBe(false);
});

test("nothing is remembered for longer than a quarter of what is guaranteed, nor for more than ten seconds", () => {
  expect([0, 3, 1_000, 8_000, 3_600_000, Infinity].map(rememberedMsOf)).toEqual([0, 0, 250, 2_000, 10_000, 10_000]);
});
