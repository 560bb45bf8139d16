import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type Change, connectClient } from "../../src/api/client.ts";
import { digestOfHash } from "../../src/domain/digest.ts";
import type { JobId, TaskId } from "../../src/domain/ids.ts";
import { taskId } from "../../src/domain/ids.ts";
import type { JobSpecInput } from "../../src/protocol/client_messages.ts";
import { decodeAction, decodeCommand, encodeAction } from "../../src/protocol/reapi/canonical.ts";
import { digestOf, readBlob } from "../../src/snapshots/blobs/blobs.ts";
import { gathered, type Rig, startRig, token, until } from "./rig.ts";

let rig: Rig;
let keys = 0;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.close());

const jobOf = (...argvs: string[][]): JobSpecInput => ({
  key: `key-${++keys}`,
  tasks: argvs.map((argv, index) => ({ name: `t${index}`, argv })),
});
const all = (changes: AsyncIterable<Change>): Promise<Change[]> => gathered(changes);
const read = async (chunks: AsyncIterable<Uint8Array>): Promise<string> =>
  Buffer.concat(await gathered(chunks)).toString();
const absent = digestOfHash("ab".repeat(32), 7);
const isRunning = (task: TaskId) => () => rig.worker.running.has(task);
const endOf = async (jobId: JobId) => (await rig.client.job(jobId)).job.state;

test("a job is submitted, watched to its end, and its output followed", async () => {
  const { jobId, existing } = await rig.client.submit(jobOf(["exit", "0", "hello\n"], ["exit", "3"]));
  expect(existing).toBe(false);
  const changes = await all(rig.client.watch(jobId));
  const seqs = changes.map(({ seq }) => seq);
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
  expect(changes.at(-1)).toMatchObject({ kind: "job", job: { state: "failed", settled: { succeeded: 1, failed: 1 } } });
  expect(await read(rig.client.follow(taskId(jobId, 0), "stdout"))).toBe("hello\n");
  expect(await read(rig.client.follow(taskId(jobId, 0), "stdout", { offset: 4 }))).toBe("o\n");
  const { job, tasks } = await rig.client.job(jobId);
  expect(job.state).toBe("failed");
  expect(tasks.map(({ outcome }) => outcome)).toMatchObject([{ kind: "exited", exitCode: 0 }, {
    kind: "exited",
    exitCode: 3,
  }]);
});

test("a watch from the last change on ends at once", async () => {
  const { jobId } = await rig.client.submit(jobOf(["exit", "0"]));
  const last = (await all(rig.client.watch(jobId))).at(-1)!;
  expect(await all(rig.client.watch(jobId, { afterSeq: last.seq }))).toEqual([]);
  expect(await all(rig.client.watch(jobId, { afterSeq: last.seq - 1 }))).toEqual([last]);
});

test("a watch of the job alone has its changes and none of its tasks", async () => {
  const { jobId } = await rig.client.submit(jobOf(["exit", "0"], ["exit", "0"]));
  const changes = await all(rig.client.watch(jobId, { tasks: false }));
  expect(changes).toEqual((await all(rig.client.watch(jobId))).filter(({ kind }) => kind === "job"));
  expect(changes.at(-1)).toMatchObject({ job: { state: "succeeded" } });
});

test("the same key twice is one job", async () => {
  const job = jobOf(["exit", "0"]);
  const answers = await Promise.all([rig.client.submit(job), rig.client.submit(job), rig.client.submit(job)]);
  expect(new Set(answers.map(({ jobId }) => jobId)).size).toBe(1);
  expect(answers.filter(({ existing }) => !existing)).toHaveLength(1);
});

test("a task's command and action are stored as REAPI has them, once for identical ones", async () => {
  const twice = ["exit", "0"];
  const { jobId } = await rig.client.submit({
    key: `key-${++keys}`,
    tasks: [
      {
        name: "a",
        argv: twice,
        env: { B: "2", A: "1" },
        outputs: ["out/b", "out/a"],
        platform: { os: "pretend" },
        timeoutMs: 1_500,
      },
      {
        name: "b",
        argv: twice,
        env: { A: "1", B: "2" },
        outputs: ["out/a", "out/b"],
        platform: { os: "pretend" },
        timeoutMs: 1_500,
      },
    ],
  });
  const { tasks } = await rig.client.job(jobId);
  expect(tasks[0]!.command).toBe(tasks[1]!.command);
  const command = decodeCommand(await readBlob(rig.blobs, tasks[0]!.command, 1e6));
  const platform = [{ name: "os", value: "pretend" }];
  expect(command).toMatchObject({ argv: twice, env: { A: "1", B: "2" }, outputs: ["out/a", "out/b"], platform });
  const { command: of, inputRoot } = { command: tasks[0]!.command, inputRoot: tasks[0]!.inputRoot! };
  const action = encodeAction({ command: of, inputRoot, timeoutMs: 1_500, doNotCache: false, platform });
  const stored = await readBlob(rig.blobs, digestOf(action), 1e6);
  expect(decodeAction(stored)).toMatchObject({ command: of, inputRoot, timeoutMs: 1_500 });
});

const bad: readonly [what: string, job: unknown, code: string, says: string][] = [
  ["an unknown field", { key: "k", tasks: [{ name: "a", argv: ["x"], colour: "red" }] }, "REQUEST_INVALID", "colour"],
  ["a wrong type", { key: "k", tasks: [{ name: "a", argv: "x" }] }, "REQUEST_INVALID", "argv"],
  ["no task", { key: "k", tasks: [] }, "REQUEST_INVALID", "tasks"],
  ["an empty argv", { key: "k", tasks: [{ name: "a", argv: [] }] }, "REQUEST_INVALID", "argv"],
  ["a NUL in an argument", { key: "k", tasks: [{ name: "a", argv: ["x\0y"] }] }, "REQUEST_INVALID", "NUL"],
  [
    "two tasks of one name",
    { key: "k", tasks: [{ name: "a", argv: ["x"] }, { name: "a", argv: ["x"] }] },
    "JOB_INVALID",
    "names must differ",
  ],
  [
    "a cycle",
    {
      key: "k",
      tasks: ["a", "b"].map((name) => ({ name, argv: ["x"], input: { kind: "task", task: name === "a" ? "b" : "a" } })),
    },
    "JOB_INVALID",
    "a → b → a",
  ],
  [
    "an input that is no task",
    { key: "k", tasks: [{ name: "a", argv: ["x"], input: { kind: "task", task: "z" } }] },
    "JOB_INVALID",
    '"z"',
  ],
  [
    "an unknown snapshot",
    { key: "k", tasks: [{ name: "a", argv: ["x"], input: { kind: "snapshot", snapshot: absent } }] },
    "SNAPSHOT_UNKNOWN",
    absent,
  ],
  [
    "an output above",
    { key: "k", tasks: [{ name: "a", argv: ["x"], outputs: ["a/../../b"] }] },
    "PATH_INVALID",
    "a/../../b",
  ],
  ["an absolute output", { key: "k", tasks: [{ name: "a", argv: ["x"], outputs: ["/etc"] }] }, "PATH_INVALID", "/etc"],
];
for (const [what, job, code, says] of bad) {
  test(`a job with ${what} is refused as ${code}, and the connection lives on`, async () => {
    await expect(rig.client.submit(job as JobSpecInput)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(says),
    });
    expect((await rig.client.cluster()).state).toBe("open");
  });
}

test("a job of which nothing is known is JOB_UNKNOWN, for every request", async () => {
  const unknown = "j0000000000-000000" as JobId;
  await expect(rig.client.job(unknown)).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
  await expect(rig.client.kill(unknown, "why not")).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
  await expect(all(rig.client.watch(unknown))).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
  await expect(read(rig.client.follow(taskId(unknown, 0), "stdout"))).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
  const { jobId } = await rig.client.submit(jobOf(["exit", "0"]));
  await expect(read(rig.client.follow(taskId(jobId, 1), "stdout"))).rejects.toMatchObject({ code: "TASK_UNKNOWN" });
});

test("a wrong token is told at once, without waiting for the cluster", async () => {
  const stranger = connectClient({ url: rig.url, token: "guessed" });
  await expect(stranger.cluster()).rejects.toMatchObject({ code: "TOKEN_INVALID" });
  await expect(stranger.names.get("a")).rejects.toMatchObject({ code: "TOKEN_INVALID" });
  await stranger.close();
});

test("a job that is too long for a frame is refused before it is sent", async () => {
  const argv = ["exit", "0", "x".repeat(900_000)];
  await expect(rig.client.submit(jobOf(...Array.from({ length: 12 }, () => argv)))).rejects.toMatchObject({
    code: "FRAME_TOO_LONG",
  });
});

test("a job of more tasks than fit into one answer is given whole", async () => {
  const { jobId } = await rig.client.submit({
    key: `key-${++keys}`,
    tasks: Array.from({ length: 1_203 }, (_, index) => ({ name: `task ${index}`, argv: ["exit", "0"] })),
  });
  const { tasks } = await rig.client.job(jobId);
  expect(tasks.map(({ name }) => name)).toEqual(Array.from({ length: 1_203 }, (_, index) => `task ${index}`));
  expect((await all(rig.client.watch(jobId))).at(-1)).toMatchObject({ job: { state: "succeeded" } });
});

test("a watcher that reads slowly misses nothing of many changes", async () => {
  const { jobId } = await rig.client.submit({
    key: `key-${++keys}`,
    tasks: Array.from(
      { length: 1_000 },
      (_, index) => ({ name: `task ${index}`, argv: ["exit", "0"], cache: "off" as const }),
    ),
  });
  const slow = rig.client.watch(jobId)[Symbol.asyncIterator]();
  const seqs = [(await slow.next()).value.seq];
  await until("the job ends", async () => (await endOf(jobId)) === "succeeded");
  for (let next = await slow.next(); !next.done; next = await slow.next()) seqs.push(next.value.seq);
  expect(seqs.length).toBeGreaterThan(4_000);
  expect(seqs).toEqual((await all(rig.client.watch(jobId))).map(({ seq }) => seq));
});

test("what the history no longer has is told by the last state of each actor", async () => {
  const { jobId } = await rig.client.submit(jobOf(["exit", "0"], ["exit", "1"]));
  const before = await all(rig.client.watch(jobId));
  await all(rig.client.watch((await rig.client.submit(jobOf(["exit", "0"]))).jobId));
  await rig.states.prune({ beforeMs: Number.MAX_SAFE_INTEGER, bytesMax: 0 });
  const after = await all(rig.client.watch(jobId));
  expect(after.map(({ kind }) => kind).sort()).toEqual(["job", "task", "task"]);
  expect(before).toEqual(expect.arrayContaining(after));
  expect(after.at(-1)).toMatchObject({ kind: "job", job: { state: "failed" } });
  expect(await read(rig.client.follow(taskId(jobId, 1), "stdout"))).toBe("");
});

test("a full disk refuses new jobs and blobs as NO_SPACE and goes on with what it has", async () => {
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  rig.setSpace(false);
  await expect(rig.client.submit(jobOf(["exit", "0"]))).rejects.toMatchObject({ code: "NO_SPACE" });
  const bytes = new Uint8Array(300_000).fill(7);
  await expect(rig.client.blobs.put(digestOf(bytes), bytes)).rejects.toMatchObject({ code: "NO_SPACE" });
  await expect(rig.client.blobs.put(digestOf(bytes.subarray(1)), bytes.subarray(1, 9))).rejects.toBeDefined();
  rig.setSpace(true);
  await until("the task runs", isRunning(taskId(jobId, 0)));
  await rig.worker.finish(taskId(jobId, 0));
  await all(rig.client.watch(jobId));
  expect(await endOf(jobId)).toBe("succeeded");
});

test("a store that is over its budget refuses new work for that reason, and not for the disk's", async () => {
  rig.setFull(true);
  const refused = {
    code: "NO_SPACE",
    message: expect.stringMatching(/^Cannot take (a job|blobs) as the store must be within its budget, .*--max-size/),
  };
  await expect(rig.client.submit(jobOf(["exit", "0"]))).rejects.toMatchObject(refused);
  const bytes = new Uint8Array(300_000).fill(8);
  await expect(rig.client.blobs.put(digestOf(bytes), bytes)).rejects.toMatchObject({ code: "NO_SPACE" });
  rig.setFull(false);
  const { jobId } = await rig.client.submit(jobOf(["exit", "0"]));
  expect(jobId).toMatch(/^j/);
});

test("a killed job is cancelled; killing it again does nothing", async () => {
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  await until("the task runs", isRunning(taskId(jobId, 0)));
  await rig.client.kill(jobId, "no longer wanted");
  expect((await all(rig.client.watch(jobId))).at(-1)).toMatchObject({ job: { state: "cancelled" } });
  await rig.client.kill(jobId, "again");
});

test("jobs and workers are listed", async () => {
  const { jobId } = await rig.client.submit(jobOf(["exit", "0"]));
  await all(rig.client.watch(jobId));
  const jobs = await rig.client.jobs({ limit: 2, state: "succeeded" });
  expect(jobs[0]!.jobId).toBe(jobId);
  const [before] = await rig.client.jobs({ limit: 1, before: jobId });
  expect(before!.jobId < jobId).toBe(true);
  expect(await rig.client.workers()).toMatchObject([{ workerId: "w1", state: "present", slots: 8 }]);
});

test("output is followed while it is written, and then from what is kept, without a gap", async () => {
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  const task = taskId(jobId, 0);
  await until("the task runs", isRunning(task));
  const heard: string[] = [];
  const following = (async () => {
    for await (const bytes of rig.client.follow(task, "stdout")) heard.push(Buffer.from(bytes).toString());
  })();
  rig.worker.write(task, "one ");
  await until("the first word is heard", () => heard.join("") === "one ");
  rig.worker.write(task, "two ");
  await until("the second word is heard", () => heard.join("") === "one two ");
  rig.worker.write(task, "three");
  await rig.worker.finish(task);
  await following;
  expect(heard.join("")).toBe("one two three");
});

test("a follower that reads slowly holds up nothing else and misses nothing", async () => {
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  const task = taskId(jobId, 0);
  await until("the task runs", isRunning(task));
  const whole = Buffer.alloc(24 * 1024 * 1024, "0123456789abcdef\n");
  rig.worker.write(task, whole);
  const chunks = rig.client.follow(task, "stdout")[Symbol.asyncIterator]();
  const parts: Uint8Array[] = [(await chunks.next()).value as Uint8Array];
  await until("others are answered meanwhile", async () => (await rig.client.cluster()).state === "open");
  await rig.worker.finish(task);
  for (let next = await chunks.next(); !next.done; next = await chunks.next()) parts.push(next.value);
  expect(Buffer.compare(Buffer.concat(parts), whole)).toBe(0);
});

test("a new attempt's output begins anew, and the follower is told", async () => {
  const { jobId } = await rig.client.submit({
    key: `key-${++keys}`,
    tasks: [{ name: "t", argv: ["hold"], retries: 1 }],
  });
  const task = taskId(jobId, 0);
  await until("the task runs", isRunning(task));
  const heard: string[] = [];
  const following = (async () => {
    const onAttempt = (attempt: number): void => void heard.push(`[attempt ${attempt}]`);
    for await (const bytes of rig.client.follow(task, "stdout", { onAttempt })) {
      heard.push(Buffer.from(bytes).toString());
    }
  })();
  rig.worker.write(task, "first try");
  await until("it is heard", () => heard.length === 1);
  await rig.worker.finish(task, { kind: "exited", exitCode: 1 });
  await until("it runs again", () => rig.worker.running.get(task)?.attempt === 2);
  rig.worker.write(task, "2nd");
  await until("it is heard", () => heard.join("").endsWith("2nd"));
  await rig.worker.finish(task);
  await following;
  expect(heard.join("|")).toBe("first try|[attempt 2]|2nd");
});

test("a watch and a follow that are cancelled end with CANCELLED", async () => {
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  const stop = new AbortController();
  const cancelled = { code: "CANCELLED" };
  const watching = expect(all(rig.client.watch(jobId, { signal: stop.signal }))).rejects.toMatchObject(cancelled);
  const following = expect(read(rig.client.follow(taskId(jobId, 0), "stdout", { signal: stop.signal }))).rejects
    .toMatchObject(cancelled);
  await until("the task runs", isRunning(taskId(jobId, 0)));
  stop.abort();
  await watching;
  await following;
  await rig.worker.finish(taskId(jobId, 0));
});

test("a closed client fails what waits", async () => {
  const { jobId } = await rig.client.submit(jobOf(["hold"]));
  const other = connectClient({ url: rig.url, token: "secret-of-the-tests" });
  const watching = expect(all(other.watch(jobId))).rejects.toMatchObject({ code: "CANCELLED" });
  await other.cluster();
  await other.close();
  await watching;
  await expect(other.cluster()).rejects.toMatchObject({ code: "CANCELLED" });
  await rig.client.kill(jobId, "the test is over");
});

test("a direct client of a door that speaks HTTP alone goes on over a WebSocket", async () => {
  const client = connectClient({ url: rig.url, token, isDirect: true });
  onTestFinished(() => client.close());
  expect(await client.cluster()).toMatchObject({ state: "open" });
});
