import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fakeCluster, fakeWorld, type } from "./fakes.ts";

let dir: string;
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), "scoot-actors-forecast-"))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));
const file = (name: string, text: string): string => {
  writeFileSync(join(dir, name), text);
  return join(dir, name);
};

describe("forecast", () => {
  test("of a trace says how long each class waits, and what more workers would bring", async () => {
    const line = (atMs: number, requestor: string) => JSON.stringify({ atMs, requestor, durationMs: 1_000 });
    const trace = file("day.jsonl", [0, 0, 0, 0].map((at, n) => line(at, n % 2 ? "ci" : "ada")).join("\n"));
    const policy = file(
      "policy.json",
      JSON.stringify({
        policy: {
          classes: [{ name: "ci", percent: 50 }, { name: "people", percent: 50 }],
          requestors: [{ pattern: "ci", class: "ci" }],
        },
      }),
    );
    const world = fakeWorld();
    const given = ["--trace", trace, "--workers", "2", "--policy", policy, "--against-workers", "4"];
    expect(await type(world, "forecast", ...given, "--json")).toBe(0);
    const [one, other] = world.stdout.text().trim().split("\n").map((each) => JSON.parse(each));
    expect(one).toMatchObject({
      what: "as given",
      tasks: 4,
      lastsMs: 2_000,
      utilisationPercent: 100,
      classes: [{ name: "ci", usedPercent: 50, waitMaxMs: 1_000 }, { name: "people", usedPercent: 50 }],
    });
    expect(other).toMatchObject({ what: "with 4 workers", lastsMs: 1_000, classes: [{ waitMaxMs: 0 }, {}] });
    const people = fakeWorld();
    expect(await type(people, "forecast", ...given)).toBe(0);
    expect(people.stdout.text()).toMatch(/as given: 4 tasks on 2 slots in 2\.\d* s, 100.0 % busy/);
  });

  test("of made-up work is the same each time", async () => {
    const run = async () => {
      const world = fakeWorld();
      const work = "tasks=500,hours=1,duration=20s,requestors=ci:3+dev:1,seed=4";
      expect(await type(world, "forecast", "--synthetic", work, "--workers", "3", "--json")).toBe(0);
      return world.stdout.text();
    };
    expect(await run()).toBe(await run());
    expect(JSON.parse(await run())).toMatchObject({ tasks: 500, slots: 3 });
  });

  test.each<[string, string[], string]>([
    ["neither work nor trace", [], "--trace FILE or --synthetic"],
    ["a field that there is not", ["--synthetic", "speed=1"], '"speed"'],
    ["a number that is none", ["--synthetic", "tasks=many"], '"many"'],
    ["a fleet of none", ["--synthetic", "tasks=1", "--workers", "0"], "1 to 100000"],
  ])("refuses %s in one sentence", async (_, given, says) => {
    const world = fakeWorld();
    expect(await type(world, "forecast", ...given)).toBe(2);
    expect(world.stderr.text()).toContain(says);
  });

  test.each<[string, string]>([
    ["{", "line 1 of"],
    ['{"atMs":5,"durationMs":1}\n{"atMs":4,"durationMs":1}', "line 2 of"],
    ['{"atMs":5}', "durationMs"],
  ])("refuses the trace %j, and says where", async (text, says) => {
    const world = fakeWorld();
    expect(await type(world, "forecast", "--trace", file("t", text))).not.toBe(0);
    expect(world.stderr.text()).toContain(says);
  });

  test("writes what the cluster ran as a trace, over nothing that is there", async () => {
    const cluster = fakeCluster();
    cluster.settle({ kind: "exited", exitCode: 0, startedAtMs: 100, endedAtMs: 350 });
    const path = join(dir, "day.jsonl");
    const world = fakeWorld({ cluster });
    expect(await type(world, "forecast", "--record", path)).toBe(0);
    expect(world.stdout.text()).toMatch(/^Wrote \d+ tasks? to/);
    for (const line of readFileSync(path, "utf8").split("\n").filter((each) => each !== "")) {
      expect(JSON.parse(line)).toMatchObject({ rank: 2, durationMs: expect.any(Number) });
    }
    expect(await type(fakeWorld({ cluster }), "forecast", "--record", path)).not.toBe(0);
  });
});
