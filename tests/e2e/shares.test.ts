import process from "node:process";
import { describe, expect, test } from "vitest";
import { processesWith, until } from "../../scripts/support/cluster.ts";
import { workerId } from "../../src/domain/ids.ts";
import type { TaskView } from "../../src/protocol/client_messages.ts";
import { clientOf, clusterOfTest } from "./support.ts";

describe("a cluster of four workers and three requestors", () => {
  test("gives each class its share, goes on without a worker that is killed, and says why at every step", async () => {
    const cluster = await clusterOfTest(["--workers", "4", "--slots", "1"]);
    const client = clientOf(cluster);
    await client.setSettings({
      policy: {
        classes: [{ name: "ci", percent: 50 }, { name: "release", percent: 25 }, { name: "others", percent: 25 }],
        requestors: [{ pattern: "ci", class: "ci" }, { pattern: "release", class: "release" }],
      },
    }, "a test");
    const task = (index: number) => ({ name: `t${index}`, argv: ["sleep", "1"], cache: "off" as const });
    const jobs = new Map<string, Awaited<ReturnType<typeof client.submit>>["jobId"]>();
    for (const requestor of ["ada", "ci", "release"]) {
      const tasks = Array.from({ length: 12 }, (_, index) => task(index));
      jobs.set(requestor, (await client.submit({ key: requestor, requestor, tasks })).jobId);
    }
    const tasksOf = async (requestor: string): Promise<readonly TaskView[]> =>
      (await client.job(jobs.get(requestor)!)).tasks;
    const busy = async (): Promise<Record<string, number>> =>
      Object.fromEntries(
        await Promise.all([...jobs.keys()].map(async (requestor) => [
          requestor,
          (await tasksOf(requestor)).filter(({ state }) => state === "placed" || state === "running").length,
        ])),
      );
    // The first four slots went to who came first; as they end, each class has its part.
    await until("the shares", async () => JSON.stringify(await busy()) === '{"ada":1,"ci":2,"release":1}');

    const whyOf = async (requestor: string, atMs?: number) =>
      await client.why(jobs.get(requestor)!, atMs === undefined ? {} : { atMs });
    const waits = (await whyOf("ci")).tasks.find(({ task }) => task.state === "queued");
    expect(waits?.task.why).toMatch(/^Queued: /);
    expect(waits?.cause.event).toBe("task.create");

    // A worker dies with what it runs.
    const victim = (await tasksOf("ci")).find(({ state }) => state === "running")!;
    const workerId = victim.attempts.at(-1)!.workerId;
    process.kill(processesWith('"role":"worker"', `"${workerId}"`, cluster.dir)[0]!, "SIGKILL");
    const again = await until("it runs again", async () => {
      const found = (await tasksOf("ci")).find(({ taskId }) => taskId === victim.taskId)!;
      return found.attempts.length === 2 ? found : undefined;
    });
    expect(again.attempts[0]!.ended).toMatch(new RegExp(`its worker ${workerId} (restarted|was lost)`));
    expect(again.attempts[1]).toMatchObject({ reason: "workerLost" });

    // The scheduler dies; what it said is said still, of now and of then.
    const thenMs = Date.now();
    const before = await whyOf("release", thenMs);
    process.kill(processesWith('"role":"scheduler"', "", cluster.dir)[0]!, "SIGKILL");
    expect(await whyOf("release", thenMs)).toEqual(before);
    expect((await client.settings()).policy.classes).toHaveLength(3);

    for (const [requestor, jobId] of jobs) {
      for await (const _ of client.watch(jobId)) { /* to its end */ }
      expect((await client.job(jobId)).job, requestor).toMatchObject({ state: "succeeded" });
      expect((await whyOf(requestor)).job.why).toBe("All 12 tasks exited with 0.");
    }
  });
});

test("who asks for more than any worker has is told so while it waits; what an operator set aside stays so over kill -9", async () => {
  const cluster = await clusterOfTest(["--workers", "2", "--slots", "1"]);
  const client = clientOf(cluster);
  const { policy } = await client.settings();
  await client.setSettings({ policy: { ...policy, unmetAfterMs: 100 } }, "a test");
  const workers = await client.workers();
  const memoryBytes = workers[0]!.memoryBytes! + workers[1]!.memoryBytes!;
  expect(workers.map((one) => one.memoryBytes), "two workers share the machine").toEqual([
    memoryBytes / 2,
    memoryBytes / 2,
  ]);
  const { jobId } = await client.submit({
    key: "large",
    tasks: [{ name: "large", argv: ["true", "large"], needs: { memoryBytes } }, { name: "small", argv: ["true"] }],
  });
  for await (const change of client.watch(jobId)) {
    if (change.kind !== "task" || change.task.unmet === undefined) continue;
    expect(change.task).toMatchObject({
      name: "large",
      state: "queued",
      unmet: {
        lacks: [`memoryBytes=${memoryBytes}`],
        nearest: { workerId: "w1", has: [`memoryBytes=${memoryBytes / 2}`] },
      },
      why: `Queued: no worker that takes tasks has memoryBytes=${memoryBytes}; w1 comes nearest, with memoryBytes=${
        memoryBytes / 2
      }.`,
    });
    break;
  }

  await client.offline(workerId("w1"), "its disk");
  process.kill(processesWith('"role":"scheduler"', "", cluster.dir)[0]!, "SIGKILL");
  const after = await until("both workers to be back", async () => {
    const found = await client.workers();
    return found.every(({ state }) => state === "present") && found;
  });
  expect(after[0]).toMatchObject({ workerId: "w1", offline: { reason: "its disk" } });
  const still = await client.job(jobId);
  expect(still.tasks[0]!.unmet, "what it was told is kept").toMatchObject({ lacks: [`memoryBytes=${memoryBytes}`] });
  const tasks = [0, 1].map((index) => ({ name: `t${index}`, argv: ["sleep", "0.1"], cache: "off" as const }));
  const next = await client.submit({ key: "next", tasks });
  for await (const _ of client.watch(next.jobId)) { /* to its end */ }
  const ran = await client.job(next.jobId);
  expect(ran.tasks.flatMap(({ attempts }) => attempts.map((one) => one.workerId))).toEqual(["w2", "w2"]);
});
