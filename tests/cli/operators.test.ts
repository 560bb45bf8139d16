import { describe, expect, test } from "vitest";
import { fakeCluster, fakeJobId, fakeSettings, fakeWorld, type } from "./fakes.ts";

describe("job why", () => {
  test("says of the job and each task why, and what led there", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "why", fakeJobId)).toBe(0);
    const text = world.stdout.text();
    expect(text).toContain(`${fakeJobId} running`);
    expect(text).toContain("task.placed from scheduler");
    expect(text).toContain("w1 is the only worker");
    expect(text).toContain("and 2 tasks more");
    expect(cluster.calls).toEqual(["why: undefined", "close"]);
  });

  test.each([
    ["1735689600000", "why: 1735689600000"],
    ["2025-01-01T00:00:00Z", "why: 1735689600000"],
  ])("of a moment of the past, as %s", async (at, call) => {
    const cluster = fakeCluster();
    expect(await type(fakeWorld({ cluster }), "job", "why", fakeJobId, "--at", at)).toBe(0);
    expect(cluster.calls[0]).toBe(call);
  });

  test("refuses what is no moment", async () => {
    const world = fakeWorld({ cluster: fakeCluster() });
    expect(await type(world, "job", "why", fakeJobId, "--at", "2025-99-99")).toBe(2);
    expect(world.stderr.text()).toContain("2025-99-99");
  });
});

test("worker offline and reinstate give the reason on", async () => {
  const cluster = fakeCluster();
  const world = fakeWorld({ cluster });
  expect(await type(world, "worker", "offline", "w1", "--reason", "its disk")).toBe(0);
  expect(await type(world, "worker", "reinstate", "w1")).toBe(0);
  expect(cluster.calls.filter((call) => call !== "close")).toEqual([
    "offline w1: its disk",
    "reinstate w1: its user asked for it",
  ]);
  expect(world.stdout.text()).toContain("Offline: w1 is given nothing more");
});

describe("settings", () => {
  test("scheduler get prints what scheduler set reads", async () => {
    const cluster = fakeCluster();
    const shown = fakeWorld({ cluster });
    expect(await type(shown, "scheduler", "get")).toBe(0);
    const text = shown.stdout.text();
    expect(JSON.parse(text)).toMatchObject({ policy: { classes: [{ floor: 0 }] } });
    const world = fakeWorld({ cluster, stdin: text });
    expect(await type(world, "scheduler", "set", "-", "--reason", "why not")).toBe(0);
    expect(cluster.calls).toContainEqual(expect.stringContaining("set: why not: "));
  });

  test.each([
    ["{", "JSON"],
    [JSON.stringify({ ...fakeSettings, limits: { jobs: 1 } }), "jobs"],
    [JSON.stringify({ policy: { classes: [], requestors: [] } }), "classes"],
  ])("scheduler set refuses %s before it asks", async (stdin, says) => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster, stdin });
    expect(await type(world, "scheduler", "set", "-")).not.toBe(0);
    expect(world.stderr.text()).toContain(says);
    expect(cluster.calls.filter((call) => call.startsWith("set"))).toEqual([]);
  });
});

describe("the store", () => {
  test("df says what is used of which budget, and what is sure to stay", async () => {
    const world = fakeWorld({ cluster: fakeCluster() });
    expect(await type(world, "df")).toBe(0);
    expect(world.stdout.text()).toMatch(
      /^5 GB of 20 GB: 10 blobs 4 GB, 2 kept results 1 kB, states and history 1 GB\n/,
    );
    expect(world.stdout.text()).toContain("stays at least 1 h");
  });

  test("gc --dry-run says what would go and why the rest stays, and removes nothing", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    expect(await type(world, "gc", "--dry-run")).toBe(0);
    expect(cluster.calls[0]).toBe("collect: true");
    expect(world.stdout.text()).toContain("Would go: 3 blobs, 4.1 kB, last used before 2025-01-01");
    expect(world.stdout.text()).toContain("Stays, named: 7 blobs, 1 kB");
    expect(await type(fakeWorld({ cluster }), "gc")).toBe(0);
    expect(cluster.calls).toContain("collect: false");
  });
});
