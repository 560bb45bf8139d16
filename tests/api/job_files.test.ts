import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Digest } from "../../src/domain/digest.ts";
import { Fault } from "../../src/domain/fault.ts";
import { type Address, type JobId, taskId } from "../../src/domain/ids.ts";
import { encodeActionResult } from "../../src/protocol/reapi/action_result.ts";
import { encodeDirectory, encodeTree } from "../../src/protocol/reapi/canonical.ts";
import { type Blobs, digestOf, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import { openSealed, sealJob } from "../../src/snapshots/states/seal.ts";
import type { Entry, States } from "../../src/snapshots/states/states.ts";
import { gathered, type Rig, startRig, token, until } from "./rig.ts";

let rig: Rig;
let keys = 0;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.close());

async function freshRig(options: Parameters<typeof startRig>[0] = {}): Promise<Rig> {
  const fresh = await startRig(options);
  onTestFinished(() => fresh.close());
  return fresh;
}
const concat = async (chunks: AsyncIterable<Uint8Array>): Promise<Buffer> => Buffer.concat(await gathered(chunks));
async function* chunked(bytes: Uint8Array, length = 1_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield await Promise.resolve(bytes.subarray(at, at + length));
}
const ended = async (on: Rig, jobId: JobId): Promise<void> => void await gathered(on.client.watch(jobId));

/** A job of two tasks, the second of which has the first one's output as its input; and of one that fails. */
async function storyOf(on: Rig, key = `key-${++keys}`) {
  const file = await writeBlob(on.blobs, Buffer.from(`made by ${key}`));
  const folder = await writeBlob(
    on.blobs,
    encodeDirectory([{ kind: "file", name: "made", digest: file, executable: false }]),
  );
  const output = await writeBlob(on.blobs, encodeDirectory([{ kind: "directory", name: "out", digest: folder }]));
  const { jobId } = await on.client.submit({
    key,
    tag: "kept",
    tasks: [
      { name: "make", argv: ["hold"], outputs: ["out"] },
      { name: "use", argv: ["exit", "0", `used by ${key}`], input: { kind: "task", task: "make" } },
      { name: "fail", argv: ["exit", "3", `failed by ${key}`] },
    ],
  });
  await until("the first task runs", () => on.worker.running.has(taskId(jobId, 0)));
  on.worker.write(taskId(jobId, 0), "first words");
  await on.worker.finish(taskId(jobId, 0), { kind: "exited", exitCode: 0, output });
  await ended(on, jobId);
  return { jobId, key, blobs: [file, folder, output] };
}
const visible = async (on: Rig): Promise<string[]> => {
  const addresses = (await gathered(on.states.current())).map(({ address }) => address);
  return addresses.filter((address) => /^(job|task)\//.test(address));
};

describe("a job that is exported from one cluster and imported into another", () => {
  test("is there as it was: its states, its history, its output, its snapshots", async () => {
    const other = await freshRig();
    const { jobId, blobs } = await storyOf(rig);
    const file = await concat(rig.client.exportJob(jobId));
    expect(await other.client.importJob(chunked(file))).toEqual({ jobId, existing: false });
    expect(await other.client.job(jobId)).toEqual(await rig.client.job(jobId));
    expect(await other.client.jobs()).toMatchObject([{ jobId, state: "failed", tag: "kept" }]);
    expect((await other.blobs.missing(new Set(blobs))).size).toBe(0);
    const output = await concat(other.client.follow(taskId(jobId, 1), "stdout"));
    expect(output.toString()).toMatch(/^used by /);
    const stepsOf = async (on: Rig) => {
      const steps = (await gathered(on.client.watch(jobId))).map(({ seq: _, ...step }) => step);
      const order = (step: (typeof steps)[number]) => step.kind === "job" ? "" : step.task.taskId;
      return steps.toSorted((a, b) => order(a) < order(b) ? -1 : order(a) > order(b) ? 1 : 0);
    };
    expect(await stepsOf(other)).toEqual(await stepsOf(rig));
  });

  test("may come twice, and may go on from there", async () => {
    const other = await freshRig();
    const third = await freshRig();
    const { jobId } = await storyOf(rig);
    const file = await concat(rig.client.exportJob(jobId));
    await other.client.importJob(chunked(file));
    expect(await other.client.importJob(chunked(file))).toEqual({ jobId, existing: true });
    expect(await rig.client.importJob(chunked(file))).toEqual({ jobId, existing: true });
    expect(await other.client.jobs()).toHaveLength(1);
    await third.client.importJob(other.client.exportJob(jobId));
    expect(await third.client.job(jobId)).toEqual(await rig.client.job(jobId));
  });

  test("stays over a restart of the scheduler, is what its key means, and wakes nobody", async () => {
    const other = await freshRig();
    const { jobId, key } = await storyOf(rig);
    await other.client.importJob(rig.client.exportJob(jobId));
    const again = { key, tasks: [{ name: "x", argv: ["exit", "0"] }] };
    expect(await other.client.submit(again)).toEqual({ jobId, existing: true });
    await other.stopScheduler();
    await other.startScheduler();
    expect(await other.client.submit(again)).toEqual({ jobId, existing: true });
    expect(await other.client.job(jobId)).toEqual(await rig.client.job(jobId));
    expect(await other.client.cluster()).toMatchObject({ jobs: 0, queued: 0, busy: 0 });
    expect(other.worker.started).toEqual([]);
  });

  test("does not take a key from a job that was there before, nor after a restart", async () => {
    const other = await freshRig();
    const { jobId, key } = await storyOf(rig);
    const own = await other.client.submit({ key, tasks: [{ name: "x", argv: ["exit", "0"] }] });
    await ended(other, own.jobId);
    await other.client.importJob(rig.client.exportJob(jobId));
    const meant = async () => (await other.client.submit({ key, tasks: [{ name: "x", argv: ["exit"] }] })).jobId;
    expect(await meant()).toBe(own.jobId);
    await other.stopScheduler();
    await other.startScheduler();
    expect(await meant()).toBe(own.jobId);
    expect((await other.client.jobs()).map((job) => job.jobId).sort()).toEqual([jobId, own.jobId].sort());
  });
});

describe("export", () => {
  test("is over HTTP a file with the job's name", async () => {
    const { jobId } = await storyOf(rig);
    const response = await fetch(`${rig.url}/v1/jobs/${jobId}/export`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    expect(response.headers.get("content-disposition")).toBe(`attachment; filename="${jobId}.scootjob"`);
    const bytes = Buffer.from(await response.arrayBuffer());
    expect(bytes.subarray(0, 8).toString()).toBe("scootjob");
    const imported = await fetch(`${rig.url}/v1/jobs/import`, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/octet-stream" },
      body: bytes,
    });
    expect([imported.status, await imported.json()]).toEqual([200, { jobId, existing: true }]);
  });

  test("holds commands, actions, inputs, streams and outputs; what has gone is named as absent", async () => {
    const other = await freshRig();
    const { jobId } = await storyOf(other);
    const { tasks } = await other.client.job(jobId);
    const sealed = async () => {
      const { manifest, blobs } = await openSealed(other.client.exportJob(jobId));
      for await (const _ of blobs);
      return manifest;
    };
    const whole = await sealed();
    expect(whole.absent).toEqual([]);
    const named = tasks.flatMap(({ command, outcome }) => [
      command,
      ...(outcome !== undefined && "stdout" in outcome ? [outcome.stdout!.digest] : []),
    ]);
    expect(whole.blobs).toEqual(expect.arrayContaining(named));
    expect(whole.blobs).toHaveLength(3 /* streams */ + 3 /* commands */ + 2 /* actions */ + 3 /* of the output */);
    other.empty();
    const hollow = await sealed();
    expect(hollow.blobs).toEqual([]);
    expect(hollow.absent).toEqual(expect.arrayContaining(named));
  });

  test("holds the result of an action that a client asked for, with files, trees and streams", async () => {
    const other = await freshRig();
    const put = (content: string | Uint8Array) => writeBlob(rig.blobs, Buffer.from(content));
    const [file, inTree, said] = [await put("a file"), await put("a file in a tree"), await put("what it said")];
    const folder = encodeDirectory([{ kind: "file", name: "f", digest: inTree, executable: false }]);
    const tree = await put(encodeTree(encodeDirectory([{ kind: "directory", name: "d", digest: digestOf(folder) }]), [
      folder,
    ]));
    const result = await put(encodeActionResult({
      outputFiles: [{ path: "out.txt", digest: file, executable: false }],
      outputDirectories: [{ path: "out", tree, isTopologicallySorted: false }],
      outputSymlinks: [],
      outputFileSymlinks: [],
      outputDirectorySymlinks: [],
      exitCode: 0,
      stdout: said,
    }));
    const { jobId } = await rig.client.submit({ key: "with a result", tasks: [{ name: "t", argv: ["hold"] }] });
    await until("it runs", () => rig.worker.running.has(taskId(jobId, 0)));
    await rig.worker.finish(taskId(jobId, 0), { kind: "exited", exitCode: 0, result });
    await ended(rig, jobId);
    await other.client.importJob(rig.client.exportJob(jobId));
    expect([...await other.blobs.missing(new Set([file, inTree, said, tree, result]))]).toEqual([]);
  });

  test("refuses a job that still runs, and one that nobody knows", async () => {
    const { jobId } = await rig.client.submit({ key: `key-${++keys}`, tasks: [{ name: "x", argv: ["hold"] }] });
    await expect(concat(rig.client.exportJob(jobId))).rejects.toMatchObject({
      code: "REQUEST_INVALID",
      message: `Cannot export job ${jobId} as it must have ended: it still runs`,
    });
    await until("it runs", () => rig.worker.running.has(taskId(jobId, 0)));
    await rig.worker.finish(taskId(jobId, 0));
    await ended(rig, jobId);
    await expect(concat(rig.client.exportJob(jobId))).resolves.toBeInstanceOf(Buffer);
    const unknown = "j0000000000-000000" as JobId;
    await expect(concat(rig.client.exportJob(unknown))).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
  });

  test("says what to do where the states are not at hand", async () => {
    const far = await freshRig({ isFarFromScheduler: true });
    const { jobId } = await storyOf(far);
    await expect(concat(far.client.exportJob(jobId))).rejects.toMatchObject({
      code: "REQUEST_INVALID",
      message: expect.stringMatching(/Export it from a gateway on the scheduler's machine/),
    });
  });

  test("fails when a blob breaks off in the middle, as a file that is cut is none", async () => {
    let isBroken = false;
    const other = await freshRig({
      waitMs: 1_000,
      aroundBlobs: (blobs) => ({
        ...blobs,
        async *get(digest, options) {
          let given = 0;
          for await (const chunk of blobs.get(digest, options)) {
            if (isBroken && given > 2e6) throw new Fault("STORE_CORRUPT", "Cannot read a blob: its disk is broken");
            yield chunk;
            given += chunk.length;
          }
        },
      }),
    });
    const { jobId } = await other.client.submit({ key: "big", tasks: [{ name: "x", argv: ["hold"] }] });
    await until("it runs", () => other.worker.running.has(taskId(jobId, 0)));
    other.worker.write(taskId(jobId, 0), randomBytes(4e6));
    await other.worker.finish(taskId(jobId, 0));
    await ended(other, jobId);
    isBroken = true;
    await expect(concat(other.client.exportJob(jobId))).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
  });
});

describe("import", () => {
  test("refuses what is torn, flipped, foreign or newer in one sentence, and shows nothing of it", async () => {
    const other = await freshRig();
    const { jobId } = await storyOf(rig);
    const file = await concat(rig.client.exportJob(jobId));
    const flipped = (at: number): Buffer => {
      const copy = Buffer.from(file);
      copy[at]! ^= 0x10;
      return copy;
    };
    const newer = Buffer.from(file);
    newer.writeUInt32LE(2, 8);
    const step = Math.ceil(file.length / 24);
    const places = Array.from({ length: 24 }, (_, index) => Math.min(index * step + 3, file.length - 1));
    const harmed = [
      ...places.map((at) => file.subarray(0, at)),
      ...places.map(flipped),
      Buffer.concat([file, Buffer.of(0)]),
      randomBytes(5_000),
      newer,
    ];
    for (const bytes of harmed) {
      const why = await other.client.importJob(chunked(bytes)).catch((thrown: unknown) => thrown);
      expect(why).toMatchObject({ code: "REQUEST_INVALID", message: expect.stringMatching(/^Cannot [^\n]+$/) });
    }
    await expect(other.client.importJob(chunked(newer))).rejects.toThrow(/made by a newer version: format 2/);
    expect(await other.client.jobs()).toEqual([]);
    expect(await visible(other)).toEqual([]);
    expect(await other.client.importJob(chunked(file))).toEqual({ jobId, existing: false });
  });

  /** The file of a job whose entries were changed. */
  async function changed(change: (entries: Entry[], jobId: JobId) => Entry[]): Promise<Buffer> {
    const { jobId } = await storyOf(rig);
    const entries: Entry[] = [];
    for (const address of [`job/${jobId}`, `task/${jobId}/`]) {
      entries.push(...await gathered(rig.states.history(address)));
    }
    const states: States = memoryStates();
    const kept = change(entries.sort((a, b) => a.seq - b.seq), jobId);
    await states.commit(kept.map((entry, index) => ({ ...entry, seq: index + 1 })));
    return await concat(
      sealJob({ states, blobs: memoryBlobs(), digests: new Set(), addresses: ["job/", "task/", "worker/"] }),
    );
  }
  // deno-lint-ignore no-explicit-any -- to break what the types promise
  type Loose = any;
  const last = (entries: Entry[], prefix: string): Loose =>
    entries.findLast(({ address }) => address.startsWith(prefix));

  test.each<[string, RegExp, (entries: Entry[], jobId: JobId) => Entry[]]>([
    ["of no job", /must hold a job/, (entries) => entries.filter(({ address }) => !address.startsWith("job/"))],
    [
      "of two jobs",
      /must hold one job/,
      (entries) => [
        ...entries,
        { ...last(entries, "job/"), address: "job/j0000000000-000000" as Address },
      ],
    ],
    ["that still ran", /must have ended/, (entries) => entries.slice(0, -1)],
    [
      "whose task did not settle",
      /all of its 3 tasks must have settled: 2 of them/,
      (entries) => entries.filter((entry) => entry !== last(entries, "task/")),
    ],
    [
      "without one of its tasks",
      /all of its 3 tasks must have settled: 2 of them/,
      (entries) => entries.filter(({ address }) => !address.endsWith("/1")),
    ],
    [
      "with a task of another job",
      /of itself and its 3 tasks alone/,
      (entries) => [...entries, { ...last(entries, "task/"), address: "task/j0000000000-000000/0" as Address }],
    ],
    [
      "with a task too many",
      /of itself and its 3 tasks alone/,
      (entries, jobId) => [...entries, { ...last(entries, "task/"), address: `task/${jobId}/3` as Address }],
    ],
    [
      "with another actor",
      /of itself and its 3 tasks alone/,
      (entries) => [...entries, { ...last(entries, "task/"), address: "worker/w1" as Address }],
    ],
    [
      "of a newer machine",
      /has 99, and was made by a newer one/,
      (entries) => entries.map((entry) => ({ ...entry, version: 99 })),
    ],
    [
      "of a machine of another name",
      /must be a task: current value is "worker"/,
      (entries) => entries.map((entry) => entry.machine === "task" ? { ...entry, machine: "worker" } : entry),
    ],
    ["without contexts", /Cannot /, (entries) => entries.map((entry) => ({ ...entry, state: { value: "settled" } }))],
    [
      "with an attempt that is none",
      /attempts/,
      (entries) => {
        const { state } = last(entries, "task/");
        state.context = { ...state.context, attempts: [{}] };
        return entries;
      },
    ],
    [
      "whose tasks have other ids",
      /states must be those of a job and its tasks/,
      (entries) => {
        const { state } = last(entries, "task/");
        state.context = { ...state.context, taskId: "j0000000000-000000/0" };
        return entries;
      },
    ],
    [
      "with more tasks than a job may have",
      /at most 100000 tasks/,
      (entries) => {
        const { state } = last(entries, "job/");
        state.context = { ...state.context, total: 2 ** 40 };
        return entries;
      },
    ],
  ])("refuses a job %s, and nothing is left of it", async (_, why, change) => {
    const other = await freshRig();
    const refused = other.client.importJob(chunked(await changed(change)));
    await expect(refused).rejects.toMatchObject({ code: "REQUEST_INVALID", message: expect.stringMatching(why) });
    expect(await other.client.jobs()).toEqual([]);
    expect(await visible(other)).toEqual([]);
  });

  test("refuses a job whose id is here and means another", async () => {
    const file = await changed((entries) => {
      const { state } = last(entries, "job/");
      state.context = { ...state.context, key: "another" };
      return entries;
    });
    await expect(rig.client.importJob(chunked(file))).rejects.toThrow(/no other job may have its id/);
  });

  test("is refused while the disk is nearly full", async () => {
    const other = await freshRig();
    const { jobId } = await storyOf(rig);
    other.setSpace(false);
    await expect(other.client.importJob(rig.client.exportJob(jobId))).rejects.toMatchObject({ code: "NO_SPACE" });
  });

  /** Many tasks, so that it comes in many pages. */
  async function large(on: Rig): Promise<{ readonly jobId: JobId; readonly file: Buffer }> {
    const tasks = Array.from({ length: 1_500 }, (_, index) => ({ name: `t${index}`, argv: ["exit", "0"] }));
    const { jobId } = await on.client.submit({ key: `key-${++keys}`, tasks });
    await ended(on, jobId);
    return { jobId, file: await concat(on.client.exportJob(jobId)) };
  }

  /** A rig whose gateway reads no further in an import once its first page is durable, until it is let. */
  async function heldRig() {
    let isHeld = true;
    let hasPage = false;
    let waiting = (): void => {};
    const held = new Promise<void>((resolve) => waiting = resolve);
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => release = resolve);
    const on = await freshRig({
      waitMs: 5_000,
      aroundStates: (states) => ({
        ...states,
        async commit(entries) {
          await states.commit(entries);
          hasPage ||= entries.some(({ cause }) => cause.id.startsWith("i:"));
        },
      }),
      aroundBlobs: (blobs) => ({
        ...blobs,
        async *get(digest, options) {
          if (isHeld && hasPage) {
            waiting();
            await gate;
          }
          yield* blobs.get(digest, options);
        },
      }),
    });
    return {
      on,
      held,
      release(): void {
        isHeld = false;
        release();
      },
    };
  }

  test("is seen when it is whole, and not before", async () => {
    const { on, held, release } = await heldRig();
    const { jobId, file } = await large(rig);
    const coming = on.client.importJob(chunked(file, 65_536));
    await held;
    expect((await visible(on)).length).toBeGreaterThan(0);
    await expect(on.client.job(jobId)).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
    await expect(gathered(on.client.watch(jobId))).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
    expect(await on.client.jobs()).toEqual([]);
    release();
    expect(await coming).toEqual({ jobId, existing: false });
    expect(await visible(on)).toHaveLength(1_501);
    expect((await on.client.job(jobId)).job.settled.succeeded).toBe(1_500);
  }, 60_000);

  test("begins again when the scheduler died half-way", async () => {
    const { on, held, release } = await heldRig();
    const { jobId, file } = await large(rig);
    const coming = on.client.importJob(chunked(file, 65_536));
    await held;
    await on.stopScheduler();
    await on.startScheduler();
    release();
    expect(await coming).toEqual({ jobId, existing: false });
    expect(await visible(on)).toHaveLength(1_501);
  }, 60_000);

  test("leaves nothing when its gateway goes, and can be made anew", async () => {
    const { on, held, release } = await heldRig();
    const { jobId, file } = await large(rig);
    const cut = on.client.importJob(chunked(file, 65_536)).catch((thrown: unknown) => thrown);
    await held;
    await on.stopGateway();
    await until("nothing of it is here", async () => (await visible(on)).length === 0);
    release();
    await on.startGateway();
    expect(await cut).toMatchObject({ code: "PEER_UNREACHABLE" });
    expect(await on.client.importJob(chunked(file, 65_536))).toEqual({ jobId, existing: false });
  }, 60_000);

  test.each([
    ["its first step", 1],
    ["all of its tasks but the last step", -1],
    ["all of its tasks", 0],
    ["all but the last of its own steps", 3],
  ])("leaves nothing when all died after %s", async (_, kept) => {
    const whole = await freshRig();
    const { jobId } = await storyOf(rig);
    await whole.client.importJob(rig.client.exportJob(jobId));
    const tasks = await gathered(whole.states.history(`task/${jobId}/`));
    const own = await gathered(whole.states.history(`job/${jobId}`));
    const on = await freshRig();
    await on.stopScheduler();
    const { lastSeq } = await on.states.bounds();
    const written = [...tasks, ...own].slice(0, kept === 1 ? 1 : tasks.length + kept);
    expect(written.at(-1)!.cause.id).toMatch(/^i:/);
    await on.states.commit(written.map((entry, index) => ({ ...entry, seq: lastSeq + 1 + index })));
    expect((await visible(on)).length).toBeGreaterThan(0);
    await on.startScheduler();
    expect(await visible(on)).toEqual([]);
    await expect(on.client.job(jobId)).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
    expect(await on.client.cluster()).toMatchObject({ jobs: 0, queued: 0, busy: 0 });
    expect(await on.client.importJob(rig.client.exportJob(jobId))).toEqual({ jobId, existing: false });
    expect(await on.client.job(jobId)).toEqual(await rig.client.job(jobId));
  });
});

test("50 MB of output go out and in without being held", async () => {
  const bytes = randomBytes(50e6);
  const digest = digestOf(bytes);
  let read = 0;
  let stored = 0;
  /** The large blob is made as it is read, and thrown away as it is stored: whoever is ahead of the other holds it. */
  const around = (blobs: Blobs): Blobs => ({
    ...blobs,
    async *get(wanted, options) {
      if (wanted !== digest) return yield* blobs.get(wanted, options);
      for (let at = 0; at < bytes.length; at += 65_536) {
        yield bytes.subarray(at, at + 65_536);
        read = Math.min(at + 65_536, bytes.length);
      }
    },
    async put(given, content, options) {
      if (given !== digest || content instanceof Uint8Array) return await blobs.put(given, content, options);
      for await (const chunk of content) {
        stored += chunk.length;
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    missing: async (digests: ReadonlySet<Digest>) => {
      const missing = new Set(await blobs.missing(digests));
      missing.delete(digest);
      return missing;
    },
  });
  const from = await freshRig({ aroundBlobs: around });
  const to = await freshRig({ aroundBlobs: around });
  const { jobId } = await from.client.submit({ key: "big", tasks: [{ name: "x", argv: ["hold"] }] });
  await until("it runs", () => from.worker.running.has(taskId(jobId, 0)));
  const root = await writeBlob(
    from.blobs,
    encodeDirectory([{ kind: "file", name: "big", digest, executable: false }]),
  );
  await from.worker.finish(taskId(jobId, 0), { kind: "exited", exitCode: 0, output: root });
  await ended(from, jobId);
  let ahead = 0;
  async function* measured(): AsyncGenerator<Uint8Array> {
    for await (const chunk of from.client.exportJob(jobId)) {
      ahead = Math.max(ahead, read - stored);
      yield chunk;
    }
  }
  expect(await to.client.importJob(measured())).toEqual({ jobId, existing: false });
  expect([read, stored]).toEqual([50e6, 50e6]);
  expect(ahead).toBeLessThan(25e6); // of which the kernel has most, in the buffers of two connections
}, 60_000);
