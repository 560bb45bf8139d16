import { expect, test } from "vitest";
import { keptOf } from "../../src/roles/scheduler.ts";

test("history and ended jobs leave half of a store to blobs, however small it is, and are bounded in a large one", () => {
  expect(keptOf(100_000_000)).toEqual({ historyBytesMax: 25_000_000, keepTasksMax: 8_333 });
  expect(keptOf(20_000_000_000)).toEqual({ historyBytesMax: 2 * 1024 ** 3, keepTasksMax: 1_000_000 });
  expect(keptOf(Infinity)).toEqual({ historyBytesMax: 2 * 1024 ** 3, keepTasksMax: 1_000_000 });
});
