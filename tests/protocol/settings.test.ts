import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseSettings } from "../../src/protocol/settings.ts";
import { checkPolicy, type Policy } from "../../src/scheduling/policy.ts";

const classes = [{ name: "a", percent: 100 }];

test("settings have their defaults from the wire, and what is written is kept", () => {
  expect(parseSettings({ policy: { classes, requestors: [] } })).toEqual({
    policy: {
      classes: [{ name: "a", percent: 100, floor: 0 }],
      requestors: [],
      ageingMs: 900_000,
      reserveAfterMs: 60_000,
      counters: {},
      throttles: [],
      unmetAfterMs: 60_000,
    },
    limits: { jobsPerRequestor: 10_000, requestors: 10_000, tasksPerJob: 20_000 },
  });
});

test("the settings that docs/scheduling.md shows are settings", () => {
  const text = readFileSync(new URL("../../docs/scheduling.md", import.meta.url), "utf8");
  const shown = parseSettings(JSON.parse(/```json\n([^]*?)```/.exec(text)![1]!));
  expect(checkPolicy(shown.policy as Policy)).toBe(shown.policy);
  expect(Object.keys(shown.policy)).toContain("throttles");
});

test.each<readonly [string, unknown, RegExp]>([
  ["nothing", undefined, /settings as it is wrong: .* received undefined/],
  ["no classes", { policy: { classes: [], requestors: [] } }, /policy\.classes is wrong: .*>=1 but received 0/],
  [
    "a percentage that is text",
    { policy: { classes: [{ name: "a", percent: "100" }], requestors: [] } },
    /policy\.classes\.0\.percent is wrong: .*number but received "100"/,
  ],
  [
    "a negative floor",
    { policy: { classes: [{ name: "a", percent: 100, floor: -1 }], requestors: [] } },
    /policy\.classes\.0\.floor is wrong: .*>=0 but received -1/,
  ],
  [
    "a pattern that is too long",
    { policy: { classes, requestors: [{ pattern: "a".repeat(201), class: "a" }] } },
    /policy\.requestors\.0\.pattern is wrong: .*<=200 but received 201/,
  ],
  [
    "too many patterns",
    { policy: { classes, requestors: Array.from({ length: 201 }, () => ({ pattern: "a", class: "a" })) } },
    /policy\.requestors is wrong: .*<=200 but received 201/,
  ],
  [
    "a throttle in halves",
    { policy: { classes, requestors: [], throttles: [{ pattern: "a", running: 0.5 }] } },
    /policy\.throttles\.0\.running is wrong: .*Received 0\.5/,
  ],
  [
    "a grace below nothing",
    { policy: { classes, requestors: [], unmetAfterMs: -1 } },
    /policy\.unmetAfterMs is wrong: .*>=0 but received -1/,
  ],
  [
    "a setting that is none",
    { policy: { classes, requestors: [], ageing: 1 } },
    /policy\.ageing is wrong: .*never but received "ageing"/,
  ],
  [
    "no jobs at all",
    { policy: { classes, requestors: [] }, limits: { jobsPerRequestor: 0 } },
    /limits\.jobsPerRequestor is wrong: .*>=1 but received 0/,
  ],
  [
    "jobs that a store could not take",
    { policy: { classes, requestors: [] }, limits: { tasksPerJob: 20_001 } },
    /limits\.tasksPerJob is wrong: .*<=20000 but received 20001/,
  ],
])("settings with %s are refused, with the place, the limit and the value", (_, input, message) => {
  expect(() => parseSettings(input)).toThrow(message);
});
