import { describe, expect, test } from "vitest";
import { digestOfHash } from "../../src/domain/digest.ts";
import { type FakeCluster, fakeCluster, fakeJobId, fakeWorld, type } from "./fakes.ts";

describe("job why of an action", () => {
  const action = digestOfHash("6f".repeat(32), 142);
  const typed = async (cluster: FakeCluster, digest: string): Promise<string> => {
    const world = fakeWorld({ cluster });
    const code = await type(world, "job", "why", digest);
    return `${code} ${world.stdout.text()}${world.stderr.text()}`;
  };
  test("is that of the job that ran it last, and says where to look for what differs", async () => {
    const cluster = fakeCluster();
    cluster.jobs.push((await cluster.client.job(fakeJobId)).job);
    cluster.task({ action: { instance: "main", digest: action } });
    const text = await typed(cluster, action);
    expect(text).toContain(`0 ${fakeJobId} running: its task runs`);
    expect(text).toContain("fake queued: no worker has a free slot");
    expect(text).toContain(`why-miss ${action} says why it was no hit`);
    cluster.task({ cached: { madeAtMs: 1, savedMs: 1 } });
    expect(await typed(cluster, action)).not.toContain("why-miss");
  });
  test("that nobody ran is not found", async () => {
    const cluster = fakeCluster();
    cluster.jobs.push((await cluster.client.job(fakeJobId)).job);
    expect(await typed(cluster, action)).toContain(`Cannot say why of action ${action}`);
  });
});
