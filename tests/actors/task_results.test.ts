import { beforeEach, describe, expect, test } from "vitest";
import { taskResults } from "../../src/actors/task_results.ts";
import type { ActionResultData } from "../../src/domain/action_result.ts";
import { type Digest, emptyDigest } from "../../src/domain/digest.ts";
import { jobId, taskId, workerId } from "../../src/domain/ids.ts";
import type { TaskContext } from "../../src/machines/task.ts";
import { silentLog } from "../../src/observability/log.ts";
import { encodeActionResult } from "../../src/protocol/reapi/action_result.ts";
import { encodeCommand, encodeDirectory, encodeTree } from "../../src/protocol/reapi/canonical.ts";
import { realClock } from "../../src/runtime/clock.ts";
import type { ActionCache, Made } from "../../src/snapshots/actions/actions.ts";
import { memoryActions } from "../../src/snapshots/actions/memory.ts";
import { type Blobs, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { lookup } from "../../src/snapshots/trees/read_tree.ts";

let blobs: Blobs;
let actions: ActionCache;
beforeEach(() => {
  blobs = memoryBlobs();
  actions = memoryActions({ blobs, clock: realClock });
});

const madeByWorker: Made = {
  by: "job",
  taskId: taskId(jobId("j1"), 0),
  workerId: workerId("w1"),
  atMs: 5_000,
  durationMs: 700,
};
const none = {
  outputFiles: [],
  outputDirectories: [],
  outputSymlinks: [],
  outputFileSymlinks: [],
  outputDirectorySymlinks: [],
  exitCode: 0,
} satisfies ActionResultData;
const put = (text: string): Promise<Digest> => writeBlob(blobs, new TextEncoder().encode(text));

/** What a task of a job finds whose action has that result. */
async function found(
  result: Partial<ActionResultData>,
  { outputs = ["bin/run", "out"], made = madeByWorker }: { readonly outputs?: string[]; readonly made?: Made } = {},
) {
  const command = await writeBlob(
    blobs,
    encodeCommand({ argv: ["make"], env: {}, outputs, platform: [], workingDirectory: "" }),
  );
  const task = {
    taskId: taskId(jobId("j2"), 0),
    command,
    source: { kind: "empty" },
    timeoutMs: 60_000,
    platform: {},
  } as unknown as TaskContext;
  const results = taskResults({ actions, blobs, log: silentLog });
  const action = results.actionOf(task);
  expect(results.find(action, task)).toBeUndefined();
  await actions.put({ instance: "", action }, encodeActionResult({ ...none, ...result }), made);
  return await results.find(action, task);
}
async function listed(): Promise<Partial<ActionResultData>> {
  const folder = encodeDirectory([{ kind: "file", name: "a", digest: await put("2"), executable: false }]);
  return {
    outputFiles: [{ path: "bin/run", digest: await put("#!"), executable: true }],
    outputDirectories: [{
      path: "out",
      tree: await writeBlob(blobs, encodeTree(folder, [])),
      isTopologicallySorted: true,
    }],
  };
}

test("a result that is on its way into the cache is waited for: what has ended is not run again", async () => {
  const given: Digest[] = [];
  let goOn = (): void => {};
  const held = new Promise<void>((resolve) => goOn = resolve);
  const slow: ActionCache = {
    ...actions,
    async put(key, result, made, options) {
      await held;
      given.push(key.action);
      return await actions.put(key, result, made, options);
    },
  };
  const command = await writeBlob(
    blobs,
    encodeCommand({ argv: ["make"], env: {}, outputs: [], platform: [], workingDirectory: "" }),
  );
  const context = (id: string, more: object = {}) =>
    ({
      taskId: taskId(jobId(id), 0),
      command,
      source: { kind: "empty" },
      timeoutMs: 60_000,
      platform: {},
      requestor: "r",
      attempts: [{ attempt: 1, workerId: workerId("w1") }],
      ...more,
    }) as unknown as TaskContext;
  const results = taskResults({ actions: slow, blobs, log: silentLog });
  const first = context("j1", { outcome: { kind: "exited", exitCode: 0 }, settledAtMs: 5_000 });
  const action = results.actionOf(first);
  const kept = results.keep(first);
  const again = results.keep(context("j3", { outcome: { kind: "exited", exitCode: 0 }, settledAtMs: 6_000 }));
  const found = results.find(action, context("j2"));
  expect(found).toBeInstanceOf(Promise);
  goOn();
  expect((await found)?.cached).toMatchObject({ taskId: "j1/0", workerId: "w1" });
  await Promise.all([kept, again]);
  expect(given).toEqual([action, action]);
  expect(await results.find(action, context("j4"))).toBeDefined();
});

describe("what a task of a job is given of what a worker made for Remote Execution", () => {
  test("its outputs, which are listed one by one, as one tree; its streams, and who made it", async () => {
    const stdout = await put("said");
    const hit = await found({ ...await listed(), stdout, stdoutRaw: new TextEncoder().encode("said") });
    expect(hit).toMatchObject({
      outcome: { kind: "exited", exitCode: 0, stdout: { digest: stdout } },
      cached: { taskId: madeByWorker.taskId, workerId: "w1", madeAtMs: 5_000, savedMs: 700 },
    });
    if (hit?.outcome.kind !== "exited") throw new Error("it has exited");
    expect(await lookup(blobs, hit.outcome.output!, "bin/run")).toMatchObject({ kind: "file", executable: true });
    expect(await lookup(blobs, hit.outcome.output!, "out/a")).toMatchObject({ digest: await put("2") });
  });
  test("nothing when an output that it declares was not made, or is a pattern", async () => {
    expect(await found(await listed(), { outputs: ["bin/run", "out", "more"] })).toBeUndefined();
    expect(await found(await listed(), { outputs: ["bin/*", "out"] })).toBeUndefined();
  });
  test("nothing of what failed, of a stream that is there as bytes alone, and of what cannot be one tree", async () => {
    expect(await found({ ...await listed(), exitCode: 1 })).toBeUndefined();
    expect(await found({ ...await listed(), stderrRaw: Uint8Array.of(1) }, { outputs: ["out"] })).toBeUndefined();
    const outputFiles = ["x", "x/y"].map((path) => ({ path, digest: emptyDigest, executable: false }));
    expect(await found({ outputFiles }, { outputs: ["x", "x/y"] })).toBeUndefined();
  });
  test("without outputs: no tree", async () => {
    const hit = await found({}, { outputs: [] });
    expect(hit!.outcome).toEqual({ kind: "exited", exitCode: 0 });
  });
  test("nothing that a client sent, whatever form it has", async () => {
    const made: Made = { by: "upload", atMs: 5_000, durationMs: 0 };
    expect(await found(await listed(), { made })).toBeUndefined();
    const root = await writeBlob(blobs, encodeDirectory([]));
    const outputDirectories = [{ path: "", rootDirectory: root, isTopologicallySorted: false }];
    expect(await found({ outputDirectories }, { made, outputs: ["x"] })).toBeUndefined();
    expect((await found({ outputDirectories }, { outputs: ["y"] }))!.outcome).toMatchObject({ output: root });
  });
});
