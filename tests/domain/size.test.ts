import { expect, test } from "vitest";
import { readSize } from "../../src/domain/size.ts";

test.each([
  ["7", 7],
  ["7B", 7],
  ["500M", 500_000_000],
  ["20GB", 20_000_000_000],
  ["1.5K", 1_500],
  ["0.0001K", 0],
  ["4Gi", 4 * 2 ** 30],
  ["1.5MiB", 1.5 * 2 ** 20],
  ["2T", 2e12],
])("%s is a size", (text, bytes) => expect(readSize(text)).toBe(bytes));

test.each(["", "M", "-1M", "1 M", "1m", "1iB", "1.M", "1e3", "1Mb", "1234567890123"])("%j is none", (text) => {
  expect(readSize(text)).toBeUndefined();
});
