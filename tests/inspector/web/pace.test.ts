import fc from "fast-check";
import { expect, test } from "vitest";
import { restMs } from "../../../src/inspector/web/pace.ts";

test("where little happens a look follows soon; where much does, looks take a fifteenth of the time", () => {
  expect(restMs(50, 10)).toBe(100);
  expect(restMs(50, 24_000)).toBe(750);
  expect(restMs(1_000, 24_000)).toBe(4_000);
});

test("the more happens and the longer a look takes, the longer the rest, within its bounds", () => {
  const positive = fc.double({ min: 0, max: 1e6, noNaN: true });
  fc.assert(fc.property(positive, positive, positive, positive, (took, rate, longer, more) => {
    const rest = restMs(took, rate);
    expect(rest).toBeGreaterThanOrEqual(100);
    expect(rest).toBeLessThanOrEqual(4_000);
    expect(restMs(took + longer, rate + more)).toBeGreaterThanOrEqual(rest);
  }));
});
