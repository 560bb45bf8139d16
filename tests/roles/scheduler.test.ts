import { expect, test } from "vitest";
import { historyBytesOf } from "../../src/roles/scheduler.ts";

test("the history leaves most of a store to blobs, however small the store is, and is bounded in a large one", () => {
  expect(historyBytesOf(100_000_000)).toBe(25_000_000);
  expect(historyBytesOf(20_000_000_000)).toBe(2 * 1024 ** 3);
});
