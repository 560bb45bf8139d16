import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkPolicy, classifier, defaultPolicy, type Policy } from "../../src/scheduling/policy.ts";
import { compilePattern } from "../../src/scheduling/requestor_pattern.ts";

const policy = (changes: Partial<Policy>): Policy => ({
  ...defaultPolicy,
  classes: [{ name: "ci", percent: 60, floor: 0 }, { name: "people", percent: 40, floor: 2 }],
  ...changes,
});

describe("checkPolicy()", () => {
  test("takes what is right", () => {
    expect(checkPolicy(defaultPolicy)).toBe(defaultPolicy);
    checkPolicy(policy({ requestors: [{ pattern: "ci-.*", class: "ci" }], counters: { gpu: 4 } }));
    checkPolicy(policy({
      classes: [1, 2, 3].map((at) => ({ name: `c${at}`, percent: 100 / 3, floor: 0 })),
      rebalance: { minimumMs: 60_000, threshold: 50 },
    }));
  });
  test.each<readonly [string, Partial<Policy>, RegExp]>([
    ["no class", { classes: [] }, /number of classes must be 1 to 64: current value is 0/],
    ["a sum that is not 100", { classes: [{ name: "a", percent: 99, floor: 0 }] }, /must be 100: current value is 99/],
    [
      "a negative percentage",
      { classes: [{ name: "a", percent: -1, floor: 0 }, { name: "b", percent: 101, floor: 0 }] },
      /percentage of class a must be a number from 0 to 100: current value is -1/,
    ],
    ["a percentage that is none", { classes: [{ name: "a", percent: NaN, floor: 0 }] }, /current value is NaN/],
    ["a floor in halves", { classes: [{ name: "a", percent: 100, floor: 0.5 }] }, /floor of class a .* is 0.5/],
    [
      "a name twice",
      { classes: [{ name: "a", percent: 50, floor: 0 }, { name: "a", percent: 50, floor: 0 }] },
      /its own: current value is a/,
    ],
    ["an unknown class", { requestors: [{ pattern: "x", class: "nobody" }] }, /one of ci, people: .* nobody/],
    ["a bad pattern", { requestors: [{ pattern: "(x", class: "ci" }] }, /"\(x" as the group at 0 is not closed/],
    ["a bad counter", { counters: { gpu: -1 } }, /capacity of counter gpu .* is -1/],
    [
      "a bad throttle",
      { throttles: [{ pattern: "bots-.*", running: -1 }] },
      /requestors of pattern "bots-\.\*" may run at once must be a whole number, and not negative: current value is -1/,
    ],
    ["a throttle's bad pattern", { throttles: [{ pattern: "(x", running: 1 }] }, /"\(x" as the group at 0 is not/],
    [
      "too many throttles",
      { throttles: Array.from({ length: 201 }, () => ({ pattern: "x", running: 1 })) },
      /number of throttles must be at most 200: current value is 201/,
    ],
    ["a bad grace", { unmetAfterMs: -1 }, /unmetAfterMs must be a number from 0 to .* is -1/],
    ["a bad end of patience", { failUnmetAfterMs: NaN }, /failUnmetAfterMs .* is NaN/],
    ["a bad ageing", { ageingMs: Infinity }, /ageingMs .* is Infinity/],
    ["a bad threshold", { rebalance: { minimumMs: 0, threshold: 201 } }, /rebalance.threshold .* is 201/],
  ])("refuses %s", (_, changes, message) => {
    expect(() => checkPolicy(policy(changes))).toThrow(message);
  });
});

test("a requestor is of the class of the first pattern that matches its whole name, else of the last class", () => {
  const classOf = classifier(policy({
    requestors: [{ pattern: "ci-slow", class: "people" }, { pattern: "ci-.*", class: "ci" }],
  }));
  expect(["ci-slow", "ci-slower", "my-ci-x", "ada", "ci-"].map(classOf)).toEqual([1, 0, 1, 1, 0]);
});

describe("patterns of requestors", () => {
  test.each<readonly [string, readonly string[], readonly string[]]>([
    ["land.*", ["land", "land-1"], ["island", "lan"]],
    ["^land.*$", ["land", "land-1"], ["island"]],
    ["(CI|jenkins)[-_]?[0-9]+", ["CI1", "jenkins-20"], ["CI", "CI--1"]],
    ["[^a-c]+", ["xyz"], ["xaz", ""]],
    ["a\\.b\\$", ["a.b$"], ["axb$"]],
    ["", [""], ["a"]],
    ["a|", ["a", ""], ["b"]],
    ["(a*)*b", ["b", "aab"], ["a".repeat(200)]],
    ["(a|aa)+", ["aaa"], [`${"a".repeat(199)}b`]],
  ])("%j", (pattern, yes, no) => {
    const compiled = compilePattern(pattern);
    for (const name of yes) expect(compiled.matches(name), name).toBe(true);
    for (const name of no) expect(compiled.matches(name), name).toBe(false);
  });
  test.each(["(", ")", "*a", "[a", "[]", "[z-a]", "a\\", "\\d", "a{2}", "a^b", "(".repeat(30), "a".repeat(201)])(
    "%j is refused",
    (pattern) => expect(() => compilePattern(pattern)).toThrow(/Cannot take (the|a) requestor pattern/),
  );
  test("match what JavaScript's regular expressions match", () => {
    const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
      pattern: fc.oneof(
        { maxDepth: 3 },
        fc.constantFrom("a", "b", ".", "[ab]", "[^a]", "\\."),
        fc.tuple(tie("pattern"), tie("pattern")).map(([a, b]) => a + b),
        fc.tuple(tie("pattern"), tie("pattern")).map(([a, b]) => `(${a}|${b})`),
        fc.tuple(tie("pattern"), fc.constantFrom("*", "+", "?")).map(([a, how]) => `(${a})${how}`),
      ),
    }));
    const name = fc.string({ unit: fc.constantFrom("a", "b", "c", "."), maxLength: 8 });
    fc.assert(
      fc.property(pattern.filter((text) => text.length <= 200), name, (source, text) => {
        expect(compilePattern(source).matches(text)).toBe(new RegExp(`^(?:${source})$`).test(text));
      }),
      { numRuns: 2_000 },
    );
  });
});
