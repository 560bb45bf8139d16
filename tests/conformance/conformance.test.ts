import { rmSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { probeClient } from "../../src/conformance/client.ts";
import { cacheChecks, runChecks } from "../../src/conformance/run.ts";
import { startCluster } from "../../scripts/support/cluster.ts";
import { startRig } from "../reapi/rig.ts";

describe("the conformance suite", () => {
  test("our gateway passes it, with an instance and without", async () => {
    const rig = await startRig();
    try {
      for (const instance of ["", "a/b"]) {
        const client = probeClient(rig.address, instance);
        const verdicts = [];
        for await (const verdict of runChecks(client)) verdicts.push(verdict);
        client.close();
        expect(verdicts.filter(({ why }) => why !== undefined)).toEqual([]);
        expect(verdicts).toHaveLength(cacheChecks.length);
      }
    } finally {
      await rig.close();
    }
  });
  test("a cluster passes it, and runs what it is asked to", async () => {
    const cluster = await startCluster(["--workers", "1"]);
    const client = probeClient(cluster.ready.grpc.replace("grpc://", ""), "a/b");
    try {
      const verdicts = [];
      for await (const verdict of runChecks(client)) verdicts.push(verdict);
      expect(verdicts.filter(({ why }) => why !== undefined)).toEqual([]);
      expect(verdicts.length).toBeGreaterThan(cacheChecks.length + 10);
    } finally {
      client.close();
      await cluster.stop();
      rmSync(cluster.dir, { recursive: true, force: true });
    }
  }, 120_000);
  test("a server that forgets what it is given fails, by the ids of what it breaks", async () => {
    const forgetful = await startRig({
      blobs: {
        async *get() {},
        put: () => Promise.resolve(),
        missing: (digests) => Promise.resolve(digests),
        close: () => Promise.resolve(),
      },
    });
    const client = probeClient(forgetful.address, "");
    try {
      const failed = [];
      for await (const { id, why } of runChecks(client)) if (why !== undefined) failed.push(id);
      expect(failed).toEqual(expect.arrayContaining(["D-4", "F-1", "BU-3", "R-4"]));
      expect(failed).not.toContain("C-1");
    } finally {
      client.close();
      await forgetful.close();
    }
  });
});
