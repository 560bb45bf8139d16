import { rmSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type ProbeClient, probeClient } from "../../src/conformance/client.ts";
import { allChecks, checksOf, runChecks, type RunOptions, type Verdict } from "../../src/conformance/run.ts";
import { startCluster } from "../../scripts/support/cluster.ts";
import { startRig } from "../reapi/rig.ts";

/** Deno says this to the commands of a process with an IPC channel, as the tests' runner has one. */
const ofDenoAlone = "it has DENO_EXTRA_STDIO_FDS";

async function verdictsOf(client: ProbeClient, options?: RunOptions): Promise<readonly Verdict[]> {
  const verdicts = [];
  for await (const verdict of runChecks(client, options)) verdicts.push(verdict);
  return verdicts;
}

describe("the conformance suite", () => {
  test("our gateway passes it as a cache, with an instance and without", async () => {
    const rig = await startRig();
    try {
      for (const instance of ["", "a/b"]) {
        const client = probeClient({ address: rig.address, instance });
        const verdicts = await verdictsOf(client);
        client.close();
        expect(verdicts.filter(({ result }) => result === "fails")).toEqual([]);
        const odd = verdicts.filter(({ id, result, why }) =>
          result === "not offered" && why !== "it does not execute" && id !== "X-M6"
        );
        expect(odd).toEqual([]);
        expect(verdicts).toHaveLength(allChecks.length);
      }
    } finally {
      await rig.close();
    }
  }, 120_000);
  test("a cluster passes it all", async () => {
    const cluster = await startCluster(["--workers", "2"]);
    const client = probeClient({
      address: cluster.ready.grpc.replace("grpc://", ""),
      instance: "a/b",
      headers: { authorization: `Bearer ${cluster.token}` },
    });
    try {
      const verdicts = await verdictsOf(client);
      const failed = verdicts.filter(({ result, why }) => result === "fails" && why !== ofDenoAlone);
      expect(failed).toEqual([]);
      expect(verdicts.filter(({ result }) => result === "not offered")).toEqual([]);
    } finally {
      client.close();
      await cluster.stop();
      rmSync(cluster.dir, { recursive: true, force: true });
    }
  }, 400_000);
  test("a server that forgets what it is given fails, by the ids of what it breaks", async () => {
    const forgetful = await startRig({
      blobs: {
        async *get() {},
        put: () => Promise.resolve(),
        missing: (digests) => Promise.resolve(digests),
        close: () => Promise.resolve(),
      },
    });
    const client = probeClient({ address: forgetful.address, instance: "" });
    try {
      const failed = (await verdictsOf(client, { only: ["C", "D", "F-1", "BU-3", "R"] }))
        .flatMap(({ id, result }) => result === "fails" ? [id] : []);
      expect(failed).toEqual(expect.arrayContaining(["D-4", "F-1", "BU-3", "R-2"]));
      expect(failed).not.toContain("C-1");
    } finally {
      client.close();
      await forgetful.close();
    }
  });
  test("checks are chosen by their ids, or by their part", () => {
    const ids = (...only: string[]): readonly string[] => checksOf({ only }).map(({ id }) => id);
    expect(new Set(ids("W-1"))).toEqual(new Set(["W-1"]));
    expect(ids("W", "R-4")).toEqual(expect.arrayContaining(["W-1", "W-16", "R-4"]));
    expect(ids("no such")).toEqual([]);
    expect(ids()).toHaveLength(allChecks.length);
  });
});
