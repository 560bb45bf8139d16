import { expect, onTestFinished, test } from "vitest";
import type { Change } from "../../src/api/client.ts";
import { taskId } from "../../src/domain/ids.ts";
import type { JobSpecInput } from "../../src/protocol/client_messages.ts";
import { digestOf, readBlob } from "../../src/snapshots/blobs/blobs.ts";
import { gathered, type Rig, startRig, until } from "./rig.ts";

async function opened(options: Parameters<typeof startRig>[0] = {}): Promise<Rig> {
  const rig = await startRig(options);
  onTestFinished(() => rig.close());
  return rig;
}
let keys = 0;
const jobOf = (...argvs: string[][]): JobSpecInput => ({
  key: `key-${++keys}`,
  tasks: argvs.map((argv, index) => ({ name: `t${index}`, argv, cache: "off" as const })),
});

/** The changes as they came, and what is there when nothing has been missed. */
const watched = (rig: Rig, changes: AsyncIterable<Change>) => {
  const heard: Change[] = [];
  const done = (async () => {
    for await (const change of changes) heard.push(change);
  })();
  return {
    heard,
    async whole(jobId: Parameters<Rig["client"]["watch"]>[0]): Promise<void> {
      await done;
      const again = await gathered(rig.client.watch(jobId));
      expect(heard.map(({ seq }) => seq)).toEqual(again.map(({ seq }) => seq));
      expect(heard.at(-1)).toMatchObject({ kind: "job", job: { state: "succeeded" } });
    },
  };
};

test("a watch goes on over a restart of the scheduler without gaps or doubles", async () => {
  const rig = await opened();
  const { jobId } = await rig.client.submit(jobOf(["hold"], ["hold"]));
  const watch = watched(rig, rig.client.watch(jobId));
  await until("both run", () => rig.worker.running.size === 2);
  await rig.worker.finish(taskId(jobId, 0));
  await until(
    "it is heard",
    () => watch.heard.some((change) => change.kind === "task" && change.task.state === "settled"),
  );
  await rig.stopScheduler();
  await rig.worker.finish(taskId(jobId, 1)); // while nobody listens
  await rig.startScheduler();
  await watch.whole(jobId);
  expect(rig.worker.started).toHaveLength(2);
});

test("a watch goes on over a restart of the gateway without gaps or doubles", async () => {
  const rig = await opened();
  const { jobId } = await rig.client.submit(jobOf(["hold"], ["hold"]));
  const watch = watched(rig, rig.client.watch(jobId));
  await until("both run", () => rig.worker.running.size === 2);
  await rig.stopGateway();
  await rig.worker.finish(taskId(jobId, 0));
  await rig.startGateway();
  await until(
    "it is heard",
    () => watch.heard.some((change) => change.kind === "task" && change.task.state === "settled"),
  );
  await rig.stopGateway();
  await rig.startGateway();
  await rig.worker.finish(taskId(jobId, 1));
  await watch.whole(jobId);
});

test("requests wait while the scheduler is away, and a submit that was cut is one job", async () => {
  const rig = await opened();
  await rig.client.cluster();
  await rig.stopScheduler();
  const job = jobOf(["exit", "0"]);
  const submits = Promise.all([rig.client.submit(job), rig.client.submit(job)]);
  const listing = rig.client.workers();
  await until("the gateway has noticed", () => !rig.gateway.hasScheduler);
  await rig.startScheduler();
  const [one, other] = await submits;
  expect(one.jobId).toBe(other.jobId);
  expect(await listing).toHaveLength(1);
});

test("a request that is asked while the gateway is away is answered by the next one", async () => {
  const rig = await opened();
  await rig.client.cluster();
  await rig.stopGateway();
  const bytes = new Uint8Array(400_000).fill(3);
  const work = Promise.all([
    rig.client.submit(jobOf(["exit", "0"])),
    rig.client.blobs.put(digestOf(bytes), bytes),
    rig.client.blobs.put(digestOf(bytes.subarray(0, 99)), bytes.subarray(0, 99)),
    rig.client.names.compareAndSet("a", undefined, "b"),
  ]);
  await rig.startGateway();
  const [{ jobId }] = await work;
  expect((await gathered(rig.client.watch(jobId))).at(-1)).toMatchObject({ job: { state: "succeeded" } });
  expect(await readBlob(rig.client.blobs, digestOf(bytes), 1e6)).toHaveLength(400_000);
  expect(await rig.client.names.get("a")).toBe("b");
});

test("a follow goes on over restarts of gateway and scheduler at the byte where it stood", async () => {
  const rig = await opened();
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  const task = taskId(jobId, 0);
  await until("it runs", () => rig.worker.running.has(task));
  let heard = "";
  const attempts: number[] = [];
  const following = (async () => {
    const onAttempt = (attempt: number): void => void attempts.push(attempt);
    for await (const bytes of rig.client.follow(task, "stdout", { onAttempt })) heard += Buffer.from(bytes).toString();
  })();
  let written = "";
  const write = (text: string): void => {
    written += text;
    rig.worker.write(task, text);
  };
  const isHeard = () => until("all is heard", () => heard === written);
  write("one ");
  await isHeard();
  await rig.stopGateway();
  write("two ");
  await rig.startGateway();
  await isHeard();
  await rig.stopScheduler();
  write("three "); // comes all the same: bytes do not pass the scheduler
  await isHeard();
  await rig.startScheduler();
  write("four ");
  await isHeard();
  await rig.stopGateway();
  write("five");
  await rig.worker.finish(task);
  await rig.startGateway();
  await following;
  expect(heard).toBe("one two three four five");
  expect(attempts).toEqual([]);
});

test("when a worker is lost, its follower hears the next attempt from the first byte", async () => {
  const rig = await opened({ lostAfterMs: 50 });
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  const task = taskId(jobId, 0);
  await until("it runs", () => rig.worker.running.has(task));
  const heard: string[] = [];
  const following = (async () => {
    const onAttempt = (attempt: number): void => void heard.push(`[${attempt}]`);
    for await (const bytes of rig.client.follow(task, "stdout", { onAttempt })) {
      heard.push(Buffer.from(bytes).toString());
    }
  })();
  rig.worker.write(task, "lost work");
  await until("it is heard", () => heard.join("") === "lost work");
  rig.worker.forget();
  await rig.stopScheduler(); // its connection ends, and it comes back without the task
  await rig.startScheduler();
  await until("it runs again", () => rig.worker.running.get(task)?.attempt === 2);
  rig.worker.write(task, "again");
  await rig.worker.finish(task);
  await following;
  expect(heard.join("")).toBe("lost work[2]again");
});

test("without a scheduler a request fails as PEER_UNREACHABLE after its time, and without a gateway too", async () => {
  const rig = await opened({ waitMs: 150 });
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  await rig.stopScheduler();
  await expect(rig.client.cluster()).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
  await expect(gathered(rig.client.watch(jobId))).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
  await rig.stopGateway();
  await expect(rig.client.cluster()).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
    message: expect.stringContaining(rig.url),
  });
  await expect(rig.client.blobs.missing(new Set([digestOf(new Uint8Array(3))]))).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
  });
  await rig.startScheduler();
  await rig.startGateway();
  await until("all is well again", () => rig.client.cluster().then(({ state }) => state === "open", () => false));
});

test("the same key is one job over restarts of everything", async () => {
  const rig = await opened();
  const job = jobOf(["exit", "0"]);
  const { jobId } = await rig.client.submit(job);
  await gathered(rig.client.watch(jobId));
  await rig.stopScheduler();
  await rig.stopGateway();
  await rig.startScheduler();
  await rig.startGateway();
  expect(await rig.client.submit(job)).toEqual({ jobId, existing: true });
});
