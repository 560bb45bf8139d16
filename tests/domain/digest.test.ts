import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { emptyDigest, hashOf, isDigest, parseDigest, sizeOf } from "../../src/domain/digest.ts";
import { isFault } from "../../src/domain/fault.ts";

const hash = "0123456789abcdef".repeat(4);

describe("a digest", () => {
  test("is a hash and a size", () => {
    const digest = parseDigest(`${hash}/42`);
    expect([hashOf(digest), sizeOf(digest)]).toEqual([hash, 42]);
  });

  test("of nothing is that of the empty bytes", () => {
    expect(emptyDigest).toBe(`${createHash("sha256").digest("hex")}/0`);
  });

  test.each([
    "",
    hash,
    `${hash}/`,
    `${hash}/-1`,
    `${hash}/1.5`,
    `${hash}/01`,
    `${hash}/9007199254740992`,
    `${hash}/1\n`,
    `${hash.toUpperCase()}/1`,
    `${hash}0/1`,
    `${hash.slice(1)}/1`,
    `../${hash}/1`,
  ])("is not %j", (text) => {
    expect(isDigest(text)).toBe(false);
    try {
      parseDigest(text);
      expect.fail("it was read");
    } catch (thrown) {
      expect(isFault(thrown, "DIGEST_INVALID")).toBe(true);
    }
  });

  test("that is long is quoted in part", () => {
    expect(() => parseDigest("x".repeat(1_000_000))).toThrow(/^.{0,300}$/);
  });
});
