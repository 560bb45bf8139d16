import { afterAll, beforeAll, expect, test } from "vitest";
import { type JobId, jobId, taskId } from "../../src/domain/ids.ts";
import type { EncodedJob } from "../../src/protocol/client_messages.ts";
import { encodeCommand } from "../../src/protocol/reapi/canonical.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { gathered, type Rig, startRig, until } from "./rig.ts";

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.close());

let keys = 0;
const submit = async (argv: string[]): Promise<JobId> =>
  (await rig.client.submit({ key: `watch-task-${++keys}`, tasks: [{ name: "t", argv }] })).jobId;

test("a task is told as it is, then at its changes; over a restart of the scheduler, without what is past", async () => {
  const task = taskId(await submit(["hold"]), 0);
  await until("it runs", () => rig.worker.running.has(task));
  const changes = rig.gateway.watchTask(task)[Symbol.asyncIterator]();
  let heard = await changes.next();
  while (heard.value?.state !== "running") heard = await changes.next();
  expect(heard.value.attempts).toHaveLength(1);
  await rig.stopScheduler();
  await rig.startScheduler();
  await until("it runs again, or still", () => rig.worker.running.has(task));
  await rig.worker.finish(task);
  const states = [];
  for (let next = await changes.next(); !next.done; next = await changes.next()) states.push(next.value.state);
  expect(states.at(-1)).toBe("settled");
  expect(states).not.toContain("queued"); // nor anything else of its past
});

test("of one that has settled only its end is told; one that never was is told of", async () => {
  const id = await submit(["exit", "0"]);
  await until("it ends", async () => (await gathered(rig.client.watch(id))).length > 0);
  const told = await gathered(rig.gateway.watchTask(taskId(id, 0)));
  expect(told.map(({ state, outcome }) => [state, outcome?.kind])).toEqual([["settled", "exited"]]);
  await expect(gathered(rig.gateway.watchTask(taskId(id, 7)))).rejects.toMatchObject({ code: "TASK_UNKNOWN" });
  const never = taskId(jobId("j0000000000-000001"), 0);
  await expect(gathered(rig.gateway.watchTask(never))).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
});

const encoded = async (argv: string[]): Promise<EncodedJob> => ({
  key: `accept-task-${++keys}`,
  requestor: "ada",
  basis: "",
  tag: "",
  priority: 0,
  failFast: false,
  tasks: [{
    name: "t",
    command: await writeBlob(
      rig.blobs,
      encodeCommand({ argv, env: {}, outputs: [], platform: [], workingDirectory: "" }),
    ),
    input: { kind: "empty" },
    timeoutMs: 60_000,
    retries: 0,
    platform: {},
    cache: "off",
  }],
});
const goesOn = new AbortController().signal;

test("a task that is handed over and waited for is one job, however often that is begun, and its end is told once", async () => {
  await rig.stopScheduler();
  const job = await encoded(["hold"]);
  const handed = rig.gateway.acceptTask(job, goesOn);
  await rig.startScheduler();
  const { jobId: id, existing, changes } = await handed;
  expect(existing).toBe(false);
  const task = taskId(id, 0);
  await until("it runs", () => rig.worker.running.has(task));
  await rig.stopScheduler();
  await rig.startScheduler();
  const again = await rig.gateway.acceptTask(job, goesOn);
  expect(again).toMatchObject({ jobId: id, existing: true });
  await until("it runs again, or still", () => rig.worker.running.has(task));
  await rig.worker.finish(task);
  for (const told of [changes, again.changes]) {
    const views = await gathered(told);
    expect(views.filter(({ state }) => state === "settled")).toHaveLength(1);
    expect(views.at(-1)?.state).toBe("settled");
  }
});

test("one that is refused is not waited for", async () => {
  const job = await encoded(["true"]);
  const [task] = job.tasks;
  await expect(rig.gateway.acceptTask({ ...job, tasks: [task!, task!] }, goesOn)).rejects.toMatchObject({
    code: "JOB_INVALID",
  });
});
