import { expect, test } from "vitest";
import { headName } from "../../../src/inspector/web/sequence.ts";
import { bytesText, clockTime, duration, momentMeant, shortName } from "../../../src/inspector/web/words.ts";

const at = (...parts: [number, number, number, number, number, number?, number?]): number =>
  new Date(...parts).getTime();
const nowMs = at(2026, 10, 24, 13, 42, 10, 500);

test("durations and sizes have the unit in which they are read", () => {
  expect([0, 999, 1_000, 59_990, 60_000, 3_599_999, 3_600_000, 3 * 86_400_000].map(duration)).toEqual([
    "0 ms",
    "999 ms",
    "1.0 s",
    "59.9 s",
    "1 min 00 s",
    "59 min 59 s",
    "1 h 00 min",
    "3 days",
  ]);
  expect([0, 999, 1_000, 12_345, 5_000_000, 123e6, 2e9].map(bytesText)).toEqual([
    "0 B",
    "999 B",
    "1.0 kB",
    "12 kB",
    "5.0 MB",
    "123 MB",
    "2.0 GB",
  ]);
});

test("a time leaves out the day that it shares with now, and its milliseconds where they are not wanted", () => {
  expect(clockTime(nowMs)).toBe("2026-11-24 13:42:10.500");
  expect(clockTime(nowMs, nowMs + 1_000, false)).toBe("13:42:10");
  expect(clockTime(nowMs, nowMs + 86_400_000, false)).toBe("2026-11-24 13:42:10");
});

test("an address is short, and still tells jobs of one day apart", () => {
  expect(shortName("job/j01m86tbcsw-26xzk9")).toBe("job …26xzk9");
  expect(shortName("task/j01m86tbcsw-26xzk9/3")).toBe("task …26xzk9/3");
  expect(headName("task/j01m86tbcsw-26xzk9/3", 14)).toBe("task …26xzk9/3");
  expect(headName("task/j01m86tbcsw-26xzk9/3", 12)).toBe("…26xzk9/3");
  expect(headName("member/gateway-1", 12)).toBe("gateway-1");
  expect(["scheduler", "worker/w1", "member/w1", "client"].map(shortName)).toEqual([
    "scheduler",
    "worker w1",
    "process w1",
    "client",
  ]);
});

test("a moment is meant by an entry, by a clock, by a day and by how long ago", () => {
  expect(momentMeant("#482", nowMs)).toEqual({ seq: 482 });
  expect(momentMeant(" entry 482 ", nowMs)).toEqual({ seq: 482 });
  expect(momentMeant("now", nowMs)).toBe("now");
  expect(momentMeant("13:40", nowMs)).toEqual({ atMs: at(2026, 10, 24, 13, 40) });
  expect(momentMeant("13:40:05.25", nowMs)).toEqual({ atMs: at(2026, 10, 24, 13, 40, 5, 250) });
  expect(momentMeant("2026-11-20 09:05", nowMs)).toEqual({ atMs: at(2026, 10, 20, 9, 5) });
  expect(momentMeant("5m", nowMs)).toEqual({ atMs: nowMs - 300_000 });
  expect(momentMeant("1.5 h ago", nowMs)).toEqual({ atMs: nowMs - 5_400_000 });
});

test("a clock that is still to come today was meant of yesterday", () => {
  expect(momentMeant("23:59", nowMs)).toEqual({ atMs: at(2026, 10, 23, 23, 59) });
});

test("what is no moment is not taken for one", () => {
  for (const text of ["", "soon", "25:00", "12:61", "12:30:99", "5 weeks", "-3m", "#", "12:3"]) {
    expect(momentMeant(text, nowMs), text).toBeUndefined();
  }
});
