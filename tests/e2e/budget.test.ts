import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { until } from "../../scripts/support/cluster.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { digestOf } from "../../src/snapshots/blobs/blobs.ts";
import { clientOf, clusterOfTest, ended } from "./support.ts";

const megabyte = 1024 * 1024;

test(
  "the store stays within its budget under three times as much traffic; what is queued, named or running stays",
  async () => {
    const cluster = await clusterOfTest([
      "--workers",
      "1",
      "--slots",
      "1",
      "--max-size",
      "100M",
      "--guaranteed-age",
      "2s",
    ]);
    const client = clientOf(cluster);
    const put = async (bytes: Uint8Array) => {
      const digest = digestOf(bytes);
      await client.blobs.put(digest, bytes);
      return digest;
    };
    const treeOf = async (bytes: Uint8Array) =>
      await put(encodeDirectory([{ kind: "file", name: "data", digest: await put(bytes), executable: false }]));
    const named = await treeOf(randomBytes(megabyte));
    await client.names.compareAndSet("kept", undefined, named);
    // One task runs for as long as it takes, another one waits behind it, with an input of its own.
    const running = await client.submit({
      key: "running",
      tasks: [{
        name: "t",
        argv: ["sh", "-c", "while [ ! -e stop ]; do sleep 0.1; done"],
        timeoutMs: 300_000,
        cache: "off",
      }],
    });
    const waitingInput = await treeOf(randomBytes(megabyte));
    const waiting = await client.submit({
      key: "waiting",
      tasks: [{
        name: "t",
        argv: ["wc", "-c", "data"],
        input: { kind: "snapshot", snapshot: waitingInput },
        cache: "off",
      }],
    });
    let most = 0;
    for (let megabytes = 0; megabytes < 300; megabytes += 5) {
      // A store that is full waits with what is new until something is old enough to go.
      const bytes = randomBytes(5 * megabyte);
      await until("there is room", () =>
        put(bytes).then(() => true, (thrown) => {
          if ((thrown as { code?: string }).code !== "NO_SPACE") throw thrown;
          return false;
        }), 60_000);
      most = Math.max(most, (await client.store.usage()).bytes);
    }
    await until("it is within its budget", async () => (await client.store.usage()).bytes <= 100e6, 60_000);
    // Collecting begins before the budget is reached; what came in one guaranteed age may be more than it, until it is older.
    expect(most).toBeLessThan(200e6);
    const dry = await client.store.collect({ dryRun: true });
    expect(dry.stays.map(({ why }) => why)).toEqual(expect.arrayContaining(["named", "queued"]));
    expect(await client.blobs.missing(new Set([named, waitingInput]))).toEqual(new Set());
    await client.kill(running.jobId, "enough");
    const { job, tasks } = await ended(client, waiting.jobId);
    expect(job.state, tasks[0]?.why).toBe("succeeded");
  },
  180_000,
);
