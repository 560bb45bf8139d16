import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { processesWith, startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { type Client, connectClient } from "../../src/api/client.ts";
import { isFault } from "../../src/domain/fault.ts";
import type { JobId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import type { JobSpecInput } from "../../src/protocol/client_messages.ts";
import { readBlob, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { has } from "../support/machine.ts";
import { ended, shellJob, there } from "./support.ts";

const mebibyte = 1024 * 1024;
const diskBytes = 128 * mebibyte;

describe.skipIf(!has("mount"))("a cluster on a small disk", () => {
  let dir: string;
  let cluster: TestCluster;
  let client: Client;
  /** What each job that was acknowledged came to. */
  const known = new Map<JobId, { readonly state: string; readonly outcome: Outcome | undefined }>();

  const start = async (): Promise<void> => {
    cluster = await startCluster(["--workers", "1", "--slots", "4"], { dir });
    client = connectClient({ url: cluster.ready.http, token: cluster.token });
  };
  const stop = async (): Promise<void> => {
    await client?.close();
    expect(await cluster?.stop()).toBe(0);
  };
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "scoot-full-disk-"));
    mkdirSync(join(dir, "data"));
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${diskBytes}`, "tmpfs", join(dir, "data")]);
    await start();
  });
  afterAll(async () => {
    try {
      await stop();
    } finally {
      execFileSync("umount", ["-l", join(dir, "data")]);
      rmSync(dir, { recursive: true, force: true });
    }
  });

  const filler = (): string => join(dir, "data", "filler");
  const freeBytes = (): number => {
    const { bavail, bsize } = statfsSync(join(dir, "data"));
    return bavail * bsize;
  };
  /** Leaves so many bytes free. */
  const fillUpTo = (bytes: number): void => {
    free();
    writeFileSync(filler(), new Uint8Array(Math.max(0, freeBytes() - bytes)));
  };
  const free = (): void => rmSync(filler(), { force: true });

  const end = async (jobId: JobId): Promise<Outcome | undefined> => {
    const { job, tasks } = await ended(client, jobId);
    const outcome = tasks[0]?.outcome;
    known.set(jobId, { state: job.state, outcome });
    return outcome;
  };
  /** Acknowledged, as soon as the cluster has noticed that there is room again. */
  const accepted = (job: JobSpecInput): Promise<JobId> =>
    until("a job to be accepted", async () => {
      try {
        return (await client.submit(job)).jobId;
      } catch (thrown) {
        if (!isFault(thrown, "NO_SPACE")) throw thrown;
        return undefined;
      }
    });

  test("refuses new jobs and blobs while less than 5 % are free; what it accepted before ends; then it goes on", async () => {
    const go = join(dir, "go");
    const { jobId } = await client.submit(shellJob(`until [ -e ${go} ]; do sleep 0.02; done; echo fine`));
    fillUpTo(0.045 * diskBytes);
    // The disk is looked at once a second: until then jobs are accepted, and those end too.
    const before: JobId[] = [];
    const refusal = await until("a job to be refused", () =>
      client.submit(shellJob("true")).then(
        (taken) => void before.push(taken.jobId),
        (thrown: unknown) => thrown as Error,
      ));
    expect(refusal).toMatchObject({
      code: "NO_SPACE",
      message: expect.stringMatching(/^Cannot (take|accept) a job as .*5 % of the disk .*free some, then/),
    });
    await expect(writeBlob(client.blobs, new Uint8Array([1, 2, 3]))).rejects.toMatchObject({ code: "NO_SPACE" });
    expect((await client.cluster()).state).toBe("open");
    writeFileSync(go, "");
    for (const each of [jobId, ...before]) expect(await end(each)).toMatchObject({ kind: "exited", exitCode: 0 });

    free();
    expect(await end(await accepted(shellJob("echo again")))).toMatchObject({ kind: "exited", exitCode: 0 });
  });

  test("outputs that do not fit are a fault of that task, told in one sentence", async () => {
    fillUpTo(20 * mebibyte);
    const size = 15 * mebibyte; // fits once, in the task's folder; its copy in the store does not
    const jobId = await accepted({
      key: "large-output",
      tasks: [{
        name: "t",
        argv: ["sh", "-c", `head -c ${size} /dev/urandom > large`],
        outputs: ["large"],
      }],
    });
    const outcome = await end(jobId);
    expect(outcome).toMatchObject({ kind: "failed", fault: { code: "NO_SPACE" } });
    expect((outcome as { fault: { message: string } }).fault.message).toMatch(/^Cannot [^\n]+$/);
    expect(await end(await accepted(shellJob("echo small")))).toMatchObject({ kind: "exited", exitCode: 0 });
  });

  test("a stream that does not fit into the store is a fault of that task, told in one sentence", async () => {
    fillUpTo(20 * mebibyte);
    const outcome = await end(await accepted(shellJob(`head -c ${15 * mebibyte} /dev/urandom`)));
    expect(outcome).toMatchObject({ kind: "failed", fault: { code: "NO_SPACE" } });
    expect((outcome as { fault: { message: string } }).fault.message).toMatch(/^Cannot [^\n]+$/);
    expect(await end(await accepted(shellJob("echo small")))).toMatchObject({ kind: "exited", exitCode: 0 });
  });

  const pausedWorker = async (): Promise<boolean> =>
    (await client.workers()).some(({ paused }) => paused !== undefined);

  test("inputs that find no room are laid out again when there is some: the task goes on as if nothing had been", async () => {
    const file = await writeBlob(client.blobs, crypto.getRandomValues(new Uint8Array(65_536)));
    // Of the same bytes, so that they lie in the store once and in the task's folder 200 times.
    const nodes = Array.from({ length: 200 }, (_, at) => ({ kind: "file", name: `f${at}`, digest: file } as const));
    const snapshot = await writeBlob(
      client.blobs,
      encodeDirectory(nodes.map((node) => ({ ...node, executable: false })).sort((a, b) => a.name < b.name ? -1 : 1)),
    );
    free();
    const go = join(dir, "go-input");
    const jobId = await accepted({
      key: "large-input",
      tasks: [
        { name: "first", argv: ["sh", "-c", `until [ -e ${go} ]; do sleep 0.02; done`], cache: "off" },
        {
          name: "second",
          argv: ["sh", "-c", "ls in | wc -l"],
          inputs: [{ path: "in", snapshot }, { path: "of", task: "first" }],
        },
      ],
    });
    fillUpTo(8 * mebibyte);
    writeFileSync(go, "");
    await until("its worker to take nothing", pausedWorker);
    free();
    expect(await end(jobId)).toMatchObject({ kind: "exited", exitCode: 0 });
    const { tasks } = await client.job(jobId);
    const [first, ...others] = tasks[1]!.attempts;
    expect(tasks[1]!.outcome).toMatchObject({ kind: "exited", exitCode: 0 });
    expect(first!.ended).toMatch(/could not be run: Cannot write .*(space|full)/);
    expect(new Set(others.map(({ reason }) => reason))).toEqual(new Set(["workerFailed"]));
  });

  test("while the disk is full to its last hundredth nothing is begun; then all of it is, once", async () => {
    free();
    const go = join(dir, "go-once");
    const jobId = await accepted({
      key: "paused",
      tasks: [
        { name: "first", argv: ["sh", "-c", `until [ -e ${go} ]; do sleep 0.02; done`], cache: "off" },
        { name: "second", argv: ["echo", "second"], input: { kind: "task", task: "first" }, cache: "off" },
      ],
    });
    await until("it to run", async () => (await client.job(jobId)).tasks[0]!.state === "running");
    fillUpTo(0.007 * diskBytes);
    await until("its worker to take nothing", pausedWorker);
    writeFileSync(go, "");
    const second = await until("the second to be queued", async () => {
      const { tasks } = await client.job(jobId);
      return tasks[1]!.state !== "waiting" && tasks[1];
    });
    expect(second).toMatchObject({ state: "queued", attempts: [] });
    free();
    expect(await end(jobId)).toMatchObject({ kind: "exited", exitCode: 0 });
    const { tasks } = await client.job(jobId);
    expect(tasks.map(({ attempts, outcome }) => [attempts.length, outcome?.kind])).toEqual([[1, "exited"], [
      1,
      "exited",
    ]]);
    expect(await pausedWorker()).toBe(false);
  });

  test("what fills the disk to its last byte is stopped by the system; the cluster and the tasks beside it outlive it", async () => {
    fillUpTo(10 * mebibyte);
    const go = join(dir, "go-on");
    const beside = await accepted(shellJob(`until [ -e ${go} ]; do sleep 0.02; done; echo kept`));
    const full = join(dir, "full");
    const jobId = await accepted(
      shellJob(`head -c ${20 * mebibyte} /dev/urandom > large; code=$?; touch ${full}; sleep 0.2; exit $code`),
    );
    await until("the disk to be full", there(full));
    expect(freeBytes()).toBeLessThan(mebibyte);
    writeFileSync(go, "");
    // Nothing can be saved of how the two end while they hold all of the disk: until somebody frees some.
    await until("the commands to be gone", () => processesWith(full).length === 0 && processesWith(go).length === 0);
    free();
    // Either the command was told by the system, or we could not do our part and say so.
    const outcome = await end(jobId);
    if (outcome?.kind === "failed") expect(outcome.fault.code).toBe("NO_SPACE");
    else expect(outcome).toMatchObject({ kind: "exited", exitCode: 1 });
    const other = await end(beside);
    if (other?.kind === "failed") expect(other.fault.code).toBe("NO_SPACE");
    else expect(other?.kind).toBe("exited");
    expect(await end(await accepted(shellJob("echo afterwards")))).toMatchObject({ kind: "exited", exitCode: 0 });
  });

  test("snapshots that do not fit are refused with the same code, and the store holds what it held", async () => {
    free();
    const kept = await writeBlob(client.blobs, new TextEncoder().encode("kept"));
    fillUpTo(8 * mebibyte);
    const large = new Uint8Array(12 * mebibyte);
    for (let at = 0; at < large.length; at += 65_536) crypto.getRandomValues(large.subarray(at, at + 65_536));
    const thrown = await until(
      "room to be seen",
      () => writeBlob(client.blobs, large).then(() => new Error("It was taken"), (thrown: Error) => thrown),
    );
    expect(thrown).toMatchObject({ code: "NO_SPACE", message: expect.stringMatching(/^Cannot [^\n]+$/) });
    expect(new TextDecoder().decode(await readBlob(client.blobs, kept, 100))).toBe("kept");
  });

  test("after a restart every job that was acknowledged is there with its result", async () => {
    free();
    await stop();
    await start();
    expect(known.size).toBeGreaterThan(6);
    for (const [jobId, { state, outcome }] of known) {
      const { job, tasks } = await client.job(jobId);
      expect({ state: job.state, outcome: tasks[0]?.outcome }, jobId).toEqual({ state, outcome });
      if (outcome?.kind !== "exited" || outcome.stdout === undefined) continue;
      await readBlob(client.blobs, outcome.stdout.digest, mebibyte);
    }
  });
});
