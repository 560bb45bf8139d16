import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { allot, type ClassLoad, rebalanceOf, spreadOf, targetsOf } from "../../src/scheduling/fairness.ts";
import { casesOf } from "./cases.ts";

type Row = readonly [percent: number, running: number, waiting: number, starts: number];
const load = (percent: number, running: number, waiting: number, floor = 0, owed = 0): ClassLoad => ({
  percent,
  running,
  waiting,
  floor,
  owed,
});
const loads = (rows: readonly Row[]): readonly ClassLoad[] =>
  rows.map(([percent, running, waiting]) => load(percent, running, waiting));
const none: readonly Row[] = [[48, 0, 0, 0], [25, 0, 0, 0], [10, 0, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0]];

/** Section 12.2 of the inventory of Scoot's behaviour; 6 as normalised there. */
const tables: readonly (readonly [name: string, slots: number, rows: readonly Row[]])[] = [
  ["1", 1000, [[30, 200, 290, 94], [25, 300, 230, 0], [20, 0, 150, 150], [15, 100, 150, 46], [10, 110, 90, 0], [
    0,
    0,
    328,
    0,
  ]]],
  ["2", 1000, [[30, 200, 290, 194], [25, 300, 230, 26], [20, 0, 0, 0], [15, 100, 50, 50], [10, 110, 90, 20]]],
  ["3", 1000, [[30, 200, 10, 10], [25, 300, 230, 157], [20, 0, 0, 0], [15, 100, 50, 50], [10, 110, 90, 73]]],
  ["4", 1000, [[30, 0, 300, 105], [25, 0, 230, 81], [20, 0, 400, 66], [15, 0, 650, 48], [10, 700, 800, 0]]],
  ["5", 1000, [[35, 200, 100, 100], [30, 300, 50, 0], [20, 0, 200, 159], [0, 100, 300, 0], [15, 110, 500, 31]]],
  ["6", 1000, [[39, 200, 100, 100], [31, 300, 50, 10], [18, 0, 200, 172], [0, 100, 300, 0], [12, 110, 500, 8]]],
  ["7", 10000, [
    [30, 1660, 14220, 830],
    [25, 101, 9401, 1282],
    [16, 420, 16542, 641],
    [14, 14, 4194, 754],
    [6, 404, 15944, 76],
    [4, 42, 11136, 187],
    [3, 977, 9145, 0],
    [2, 2612, 16781, 0],
  ]],
  ["8", 10000, [
    [30, 1660, 14220, 830],
    [25, 101, 29401, 1282],
    [16, 420, 16542, 641],
    [14, 14, 104194, 754],
    [6, 404, 15944, 76],
    [4, 42, 11136, 187],
    [3, 977, 209145, 0],
    [2, 2612, 416781, 0],
  ]],
  ["9", 3270, [...none, [9, 3111, 22121, 0], [2, 146, 24099, 13]]],
  ["10", 4000, [...none, [9, 3111, 22121, 157], [2, 146, 24099, 586]]],
  ["11", 4000, [...none, [9, 3111, 22121, 319], [2, 70, 500, 500]]],
  ["R2, not triggered", 10000, [
    [30, 1660, 14220, 830],
    [25, 101, 9401, 1282],
    [16, 420, 16542, 641],
    [14, 14, 104194, 754],
    [6, 404, 5944, 76],
    [4, 42, 11136, 187],
    [3, 977, 9145, 0],
    [2, 2612, 16781, 0],
  ]],
];

describe("Scoot's tables of section 12.2", () => {
  test.each(tables)("table %s", (_, slots, rows) => {
    const free = slots - rows.reduce((sum, [, running]) => sum + running, 0);
    expect(allot(slots, free, loads(rows))).toEqual(rows.map(([, , , starts]) => starts));
  });

  /** Started less stopped. */
  const rebalanced: readonly (readonly [name: string, slots: number, spread: number, rows: readonly Row[]])[] = [
    ["R1", 10, 80, [[70, 2, 20, 5], [20, 4, 10, -2], [10, 4, 30, -3]]],
    ["R3", 10_000, 53, [
      [30, 166, 14220, 2834],
      [25, 101, 9401, 2399],
      [16, 420, 16542, 1180],
      [14, 14, 104194, 1386],
      [6, 404, 15944, 196],
      [4, 42, 11136, 358],
      [3, 977, 209145, -677],
      [2, 2612, 416781, -2412],
    ]],
    ["R4", 10_000, 53, [
      [30, 166, 14220, 3017],
      [25, 101, 9401, 2549],
      [16, 420, 16542, 1275],
      [14, 14, 104194, 1470],
      [6, 404, 0, 0],
      [4, 42, 0, 0],
      [3, 977, 209145, -660],
      [2, 2612, 416781, -2400],
    ]],
  ];
  test.each(rebalanced)("table %s: its spread, and what starts and stops", (_, slots, spread, rows) => {
    expect(spreadOf(slots, loads(rows))).toBe(spread);
    expect(rebalanceOf(slots, loads(rows))).toEqual(rows.map(([, , , starts]) => starts));
  });

  test("the spread of R2, which is too small", () => {
    expect(spreadOf(10_000, loads(tables.at(-1)![2]))).toBe(48);
  });

  test("no slots: nothing starts, and the spread is 0", () => {
    expect(allot(0, 0, [load(100, 0, 215)])).toEqual([0]);
    expect(spreadOf(0, [load(60, 3, 215), load(40, 0, 1)])).toBe(0);
    expect(rebalanceOf(0, [load(60, 3, 215), load(40, 0, 1)])).toEqual([-3, 0]);
  });
});

describe("what Scoot leaves undefined", () => {
  test("one free slot and two equal classes: one of them has it", () => {
    expect(allot(3, 1, [load(50, 1, 5), load(50, 1, 5)])).toEqual([1, 0]);
    expect(allot(2, 1, [load(30, 0, 0), load(30, 1, 5), load(40, 0, 0)])).toEqual([0, 1, 0]);
  });
  test("a slot that percentages leave over goes to the class that lacked it longest", () => {
    expect(targetsOf(1, [load(75, 0, 9), load(25, 0, 9)])).toEqual([1, 0]);
    expect(targetsOf(1, [load(75, 0, 9, 0, -1), load(25, 0, 9, 0, 1)])).toEqual([0, 1]);
  });
  test("a class of 0 % has what nobody else wants", () => {
    expect(allot(10, 10, [load(100, 0, 4), load(0, 0, 9)])).toEqual([4, 6]);
    expect(allot(10, 10, [load(100, 0, 40), load(0, 0, 9)])).toEqual([10, 0]);
    expect(allot(1e9, 1e9, [load(100, 0, 4), load(0, 0, 9), load(0, 0, 1e12)])).toEqual([4, 9, 1e9 - 13]);
  });
  test("a floor comes before others' shares, and no more of it than is asked for", () => {
    expect(targetsOf(100, [load(90, 0, 500), load(10, 0, 500, 40)])).toEqual([60, 40]);
    expect(targetsOf(100, [load(90, 0, 500), load(10, 0, 20, 40)])).toEqual([80, 20]);
    expect(allot(100, 5, [load(90, 95, 500), load(10, 0, 500, 40)])).toEqual([0, 5]);
  });
});

/** 1,000 cases of each, or as many as the environment says. */
const cases = casesOf("FAIRNESS", 1_000);

const anyLoads = fc.array(
  fc.record({
    weight: fc.nat(30),
    running: fc.nat(200),
    waiting: fc.nat(400),
    floor: fc.nat(30),
    owed: fc.double({ min: -2, max: 2, noNaN: true }),
  }),
  { minLength: 1, maxLength: 10 },
).map((drawn) => {
  const sum = drawn.reduce((total, { weight }) => total + weight, 0);
  return drawn.map(({ weight, running, waiting, floor, owed }, at): ClassLoad => ({
    percent: sum === 0 ? at === 0 ? 100 : 0 : weight * 100 / sum,
    running,
    waiting,
    floor,
    owed,
  }));
});
const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

test("free slots are given out, all of them or all that wait, and to no class more than waits", () => {
  fc.assert(
    fc.property(anyLoads, fc.nat(500), (classes, free) => {
      const slots = total(classes.map(({ running }) => running)) + free;
      const starts = allot(slots, free, classes);
      expect(total(starts)).toBe(Math.min(free, total(classes.map(({ waiting }) => waiting))));
      for (const [at, start] of starts.entries()) {
        expect(Number.isInteger(start) && start >= 0 && start <= classes[at]!.waiting).toBe(true);
      }
    }),
    cases,
  );
});

test("targets add up to the slots, and without floors each is its percentage, rounded down or up", () => {
  fc.assert(
    fc.property(anyLoads, fc.nat(2_000), (classes, slots) => {
      expect(total(targetsOf(slots, classes))).toBe(slots);
      const plain = classes.map((one) => ({ ...one, floor: 0 }));
      for (const [at, target] of targetsOf(slots, plain).entries()) {
        expect(Math.abs(target - slots * plain[at]!.percent / 100)).toBeLessThan(1);
      }
    }),
    cases,
  );
});

test("nobody is lent a slot while somebody under its target still waits", () => {
  fc.assert(
    fc.property(anyLoads, fc.nat(500), (classes, free) => {
      const slots = total(classes.map(({ running }) => running)) + free;
      const targets = targetsOf(slots, classes);
      const starts = allot(slots, free, classes);
      const lacks = classes.some(({ running, waiting }, at) =>
        waiting > starts[at]! && running + starts[at]! < targets[at]!
      );
      if (!lacks) return;
      for (const [at, { running }] of classes.entries()) {
        if (starts[at]! > 0) expect(running + starts[at]!).toBeLessThanOrEqual(targets[at]!);
      }
    }),
    cases,
  );
});
