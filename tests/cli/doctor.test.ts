import { expect, test } from "vitest";
import { diagnose, type Facts } from "../../src/cli/diagnosis.ts";
import { machineFacts } from "../../src/cli/machine_facts.ts";
import { fakeCluster, fakeFacts, fakeWorld, type } from "./fakes.ts";

const cluster = { url: "http://127.0.0.1:9090", version: "1.2.3", isolations: ["sandbox"], clockAheadMs: 10 };

test("doctor says a line for each thing, and exits 0 when nothing keeps a cluster from working", async () => {
  const world = fakeWorld();
  expect(await type(world, "doctor")).toBe(0);
  expect(world.stdout.text()).toBe(
    "ok    runtime     Node 24.1.0\n" +
      "warn  isolation   none: tasks can read and write all that you can; the system has what isolation needs (user namespaces, cgroups v2)\n" +
      "ok    disk        50 GB (50 %) free for /data\n" +
      "ok    open files  1048576\nok    processes   unlimited\nok    watches     100000\n" +
      "ok    clock       2026-01-31T12:00:00.000Z\nok    port        9090 is free for a cluster\n" +
      "ok    shell       /bin/sh\nok    cluster     none runs here; scoot-actors cluster starts one\n",
  );
});

test.each<[string, Partial<Facts>, string, RegExp]>([
  ["runtime", { runtime: { name: "Node", version: "20.20.0" } }, "warn", /TypeScript cannot be read/],
  ["runtime", { runtime: { name: "Node", version: "20.14.0" } }, "bad", /must be at least 20\.15/],
  ["isolation", { cluster }, "ok", /^sandbox$/],
  [
    "isolation",
    { isRoot: true, userNamespacesMax: 0, hasCgroups: false },
    "warn",
    /root.*lacks user namespaces and cgroups v2/,
  ],
  ["disk", { disk: { freeBytes: 4, totalBytes: 100, isMemory: false } }, "bad", /nothing new is accepted/],
  ["disk", { disk: { freeBytes: 9, totalBytes: 100, isMemory: false } }, "warn", /will be accepted/],
  ["disk", { disk: { freeBytes: 90, totalBytes: 100, isMemory: true } }, "warn", /gone after a restart of the machine/],
  ["disk", { disk: undefined }, "warn", /cannot be told/],
  ["open files", { openFilesMax: 1_024 }, "warn", /ulimit -n/],
  ["processes", { processesMax: 100 }, "warn", /ulimit -u/],
  ["watches", { watchesMax: 100 }, "warn", /max_user_watches/],
  ["clock", { nowMs: 0 }, "bad", /in the past/],
  ["clock", { cluster: { ...cluster, clockAheadMs: -9_000 } }, "warn", /9 s behind/],
  ["port", { isPortTaken: true }, "warn", /--port/],
  ["port", { isPortTaken: true, cluster }, "ok", /your cluster's/],
  ["shell", { hasShell: false }, "bad", /no task can be started/],
  ["cluster", { cluster: { ...cluster, version: "1.0.0" } }, "warn", /start it again/],
  ["cluster", { cluster: { fault: "it is away" } }, "warn", /^it is away$/],
])("of %s with %j it says %s", async (what, change, level, says) => {
  const facts = { ...fakeFacts, ...change };
  expect(diagnose(facts).find((each) => each.what === what)).toEqual({
    level,
    what,
    says: expect.stringMatching(says),
  });
  expect(await type(fakeWorld({ facts }), "doctor", "--json")).toBe(level === "bad" ? 1 : 0);
});

test("the facts of this very machine are told, and its cluster is asked", async () => {
  const world = fakeWorld({ cluster: fakeCluster(), env: { SCOOT_CLUSTER: "http://127.0.0.1:1" } });
  const facts = await machineFacts(world, { cluster: undefined, tokenFile: undefined });
  expect(facts).toMatchObject({
    disk: { freeBytes: expect.any(Number), totalBytes: expect.any(Number) },
    hasShell: true,
    cluster: { url: "http://127.0.0.1:1", version: "1.2.3", clockAheadMs: undefined },
  });
});
