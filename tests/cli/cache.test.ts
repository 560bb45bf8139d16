import { expect, test } from "vitest";
import type { ActionView } from "../../src/api/http_actions.ts";
import { emptyDigest } from "../../src/domain/digest.ts";
import { taskId, workerId } from "../../src/domain/ids.ts";
import { fakeCluster, fakeJobId, fakeWorld, type } from "./fakes.ts";

const noonMs = Date.parse("2026-01-31T12:00:00Z");
const kept = (change: Partial<ActionView> = {}): ActionView => ({
  instance: "",
  action: emptyDigest,
  made: {
    by: "job",
    taskId: taskId(fakeJobId, 0),
    attempt: 2,
    workerId: workerId("w1"),
    requestor: "me",
    atMs: noonMs,
    durationMs: 31_000,
  },
  useCount: 3,
  usedAtMs: noonMs + 60_000,
  differedCount: 0,
  result: { exitCode: 0, stdout: emptyDigest, outputs: [{ kind: "directory", path: "", digest: emptyDigest }] },
  usedBy: [taskId(fakeJobId, 5), taskId(fakeJobId, 6)],
  ...change,
});

test("cache show tells who made a result, by its action and by a task", async () => {
  const cluster = fakeCluster();
  cluster.kept.push(kept());
  for (const key of [emptyDigest, `${fakeJobId}/5`, fakeJobId]) {
    const world = fakeWorld({ cluster });
    expect(await type(world, "cache", "show", key)).toBe(0);
    expect(world.stdout.text()).toBe(
      `action    ${emptyDigest}\n` +
        `made by   ${fakeJobId}/0 (attempt 2) on w1 for me at 2026-01-31 12:00:00 UTC\n` +
        "took      31.0 s\nexit      0\n" +
        `stdout    ${emptyDigest}\noutput    ${emptyDigest}  ./\n` +
        "used      3 times, last at 2026-01-31 12:01:00 UTC\n" +
        `used by   ${fakeJobId}/5 ${fakeJobId}/6\n`,
    );
  }
});

test("cache show says that an action is flaky, with the other outcome", async () => {
  const cluster = fakeCluster();
  const { made } = kept();
  cluster.kept.push(kept({ differed: { count: 2, made, result: { exitCode: 7, outputs: [] } } }));
  const world = fakeWorld({ cluster });
  await type(world, "cache", "show", emptyDigest);
  expect(world.stdout.text()).toContain(`FLAKY     the same action ended otherwise 2 times, last by ${fakeJobId}/0`);
  expect(world.stdout.text()).toContain("          exit      7\n");
});

test("cache show refuses what is no key, and tells of one that is not kept", async () => {
  const world = fakeWorld();
  expect(await type(world, "cache", "show", "abc")).toBe(2);
  expect(world.stderr.text()).toContain(`must be an action's digest (HASH/SIZE) or a task`);
  expect(await type(world, "cache", "show", emptyDigest)).toBe(1);
  expect(world.stderr.text()).toContain("Cannot find a kept result");
});

test("cache list shows one a line, for people and for programs", async () => {
  const cluster = fakeCluster();
  const world = fakeWorld({ cluster });
  expect(await type(world, "cache", "list")).toBe(0);
  expect(world.stdout.text()).toBe("No result is kept.\n");
  cluster.kept.push(kept(), kept({ differedCount: 2 }));
  await type(world, "cache", "list");
  expect(world.stdout.text()).toMatch(/ACTION .*\n.*w1 .*31\.0 s.*\n.*flaky: ended otherwise 2×\n$/);
  const json = fakeWorld({ cluster });
  await type(json, "cache", "list", "--json", "--limit", "1");
  expect(JSON.parse(json.stdout.text())).toMatchObject({ action: emptyDigest, useCount: 3 });
});

test("cache revoke takes back what a worker made since then, and lists the jobs that used it", async () => {
  const cluster = fakeCluster();
  const { made } = kept();
  cluster.kept.push(
    kept(),
    kept({ made: { ...made, workerId: workerId("w2") } }),
    kept({ made: { ...made, atMs: noonMs - 1 } }),
  );
  const world = fakeWorld({ cluster });
  expect(await type(world, "cache", "revoke", "--worker", "w1", "--since", "2026-01-31T12:00:00Z")).toBe(0);
  expect(cluster.kept).toHaveLength(2);
  expect(world.stdout.text()).toBe(
    `revoked ${emptyDigest}, made by ${fakeJobId}/0 (attempt 2) on w1 for me at 2026-01-31 12:00:00 UTC, given to 2 tasks\n` +
      "1 result of w1 since 2026-01-31 12:00:00 UTC revoked.\n1 job used them:\n" +
      `  ${fakeJobId}  2 tasks\n`,
  );
  const ago = fakeWorld({ cluster });
  await type(ago, "cache", "revoke", "--worker", "w2", "--since", "2h", "--json");
  expect(ago.stdout.text().trim().split("\n").map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { type: "revoked", action: emptyDigest },
    { type: "end", revoked: 1, jobs: [{ jobId: fakeJobId, tasks: 2 }] },
  ]);
});

test.each([
  [["--worker", "w1"], "--since is absent"],
  [["--since", "2h"], "--worker is absent"],
  [["--worker", "w1", "--since", "2026-99-99"], "must be a moment such as"],
  [["--worker", "w1", "--since", "soon"], "must be a time such as 30s"],
])("cache revoke refuses %s", async (flags, why) => {
  const world = fakeWorld();
  expect(await type(world, "cache", "revoke", ...flags)).toBe(2);
  expect(world.stderr.text()).toContain(why);
});
