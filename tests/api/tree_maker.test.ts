import { expect, test } from "vitest";
import type { Link, Subscription } from "../../src/api/link.ts";
import { makeTrees } from "../../src/api/tree_maker.ts";
import { type Digest, digestOfHash } from "../../src/domain/digest.ts";
import { Fault, type FaultCode } from "../../src/domain/fault.ts";
import { jobId, taskId } from "../../src/domain/ids.ts";
import { silentLog } from "../../src/observability/log.ts";
import type { Push, SchedulerRequest } from "../../src/protocol/client_messages.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { type Blobs, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { treeKeeper } from "../../src/snapshots/lease.ts";
import { mountTrees, overlay } from "../../src/snapshots/trees/compose.ts";
import { manualClock } from "../transport/manual_clock.ts";

const job = jobId("j0123456789-000000");

async function rig(around: (blobs: Blobs) => Blobs = (blobs) => blobs) {
  const blobs = memoryBlobs();
  const clock = manualClock();
  const asked: SchedulerRequest[] = [];
  const refusing: { isOn: boolean; code: FaultCode } = { isOn: false, code: "PEER_UNREACHABLE" };
  const subscriptions: Subscription<SchedulerRequest>[] = [];
  const scheduler: Link<SchedulerRequest> = {
    attach() {},
    ask(request) {
      asked.push(request);
      return refusing.isOn
        ? Promise.reject(new Fault(refusing.code, "Cannot ask: so many requests wait"))
        : Promise.resolve({ type: "done" });
    },
    subscribe(subscription) {
      subscriptions.push(subscription);
      return { pause() {}, resume() {}, close() {} };
    },
    isConnected: true,
    fail() {},
    close() {},
  };
  const end = makeTrees({
    scheduler,
    blobs: around(blobs),
    trees: treeKeeper({ blobs, clock, rememberMs: 0 }),
    clock,
    log: silentLog,
  });
  const folder = (name: string): Promise<Digest> =>
    writeBlob(blobs, encodeDirectory([{ kind: "symlink", name, target: "x" }]));
  const [a, b] = [await folder("a"), await folder("b")];
  const settle = async (): Promise<readonly SchedulerRequest[]> => {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    return asked.splice(0);
  };
  const want = (index: number, tree: Extract<Push, { type: "tree.wanted" }>["tree"]): void =>
    void subscriptions.at(-1)!.hear({ type: "tree.wanted", watch: 1, taskId: taskId(job, index), tree });
  const both = {
    of: "inputs" as const,
    parts: [{ path: "", name: "a", snapshot: a }, { path: "m", name: "b", snapshot: b }],
  };
  return { blobs, clock, refusing, subscriptions, end, a, b, both, settle, want };
}

test("makes what is wanted, each once, and says what cannot be", async () => {
  const { blobs, a, b, both, settle, want, subscriptions } = await rig();
  expect(subscriptions[0]!.begin(3)).toEqual({ type: "tree.serve", watch: 3 });
  want(1, both);
  want(1, both);
  want(2, { of: "output", base: a, top: b });
  want(3, { of: "inputs", parts: [{ path: "a", name: "the output of x", snapshot: b, subtree: "none" }] });
  want(4, { of: "output", base: a, top: digestOfHash("0".repeat(64), 4) });
  // Its folders are there and can be laid over each other; a file of its inputs is gone.
  const lost = { kind: "file" as const, name: "f", digest: digestOfHash("1".repeat(64), 9), executable: false };
  want(5, { of: "output", base: await writeBlob(blobs, encodeDirectory([lost])), top: b });
  const said = await settle();
  expect([...said].sort((one, other) => JSON.stringify(one).localeCompare(JSON.stringify(other)))).toEqual([
    expect.objectContaining({ type: "tree.failed", taskId: taskId(job, 3), of: "inputs" }),
    expect.objectContaining({ type: "tree.failed", taskId: taskId(job, 4), of: "output" }),
    expect.objectContaining({
      type: "tree.failed",
      taskId: taskId(job, 5),
      fault: {
        code: "SNAPSHOT_UNKNOWN",
        message: expect.stringContaining(`must be in the cluster's store: it lacks 1`),
      },
    }),
    { type: "tree.made", taskId: taskId(job, 1), of: "inputs", tree: await mountTrees(blobs, both.parts) },
    { type: "tree.made", taskId: taskId(job, 2), of: "output", tree: await overlay(blobs, a, b) },
  ]);
  expect(said).toContainEqual(expect.objectContaining({
    fault: {
      code: "PATH_UNKNOWN",
      message: expect.stringContaining('Cannot mount the output of x (its "none") at "a"'),
    },
  }));
});

test("of many it makes a few at a time, and all of them", async () => {
  let now = 0;
  let most = 0;
  const { both, settle, want } = await rig((blobs) => ({
    ...blobs,
    async missing(digests) {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      now--;
      return await blobs.missing(digests);
    },
  }));
  for (let index = 0; index < 50; index++) want(index, both);
  const said = [...await settle(), ...await settle(), ...await settle()];
  expect(said.filter(({ type }) => type === "tree.made")).toHaveLength(50);
  expect(most).toBe(4);
});

test("what the scheduler could not be told is said again until it was, and then it may want it anew", async () => {
  const { clock, refusing, both, settle, want } = await rig();
  const made = [expect.objectContaining({ type: "tree.made" })];
  refusing.isOn = true;
  want(1, both);
  expect(await settle()).toEqual(made);
  await clock.advance(1_000);
  expect(await settle()).toEqual(made);
  refusing.isOn = false;
  await clock.advance(1_000);
  expect(await settle()).toEqual(made);
  await clock.advance(10_000);
  expect(await settle()).toEqual([]);
  want(1, both);
  expect(await settle()).toEqual(made);
});

test("what the scheduler refuses twice is told as failed, and then no more", async () => {
  const { clock, refusing, both, settle, want } = await rig();
  Object.assign(refusing, { isOn: true, code: "REQUEST_INVALID" });
  want(1, both);
  await settle();
  await clock.advance(1_000);
  expect(await settle()).toEqual([
    expect.objectContaining({ type: "tree.made" }),
    {
      type: "tree.failed",
      taskId: taskId(job, 1),
      of: "inputs",
      fault: expect.objectContaining({ code: "REQUEST_INVALID" }),
    },
  ]);
  await clock.advance(10_000);
  expect(await settle()).toEqual([]);
});

test("while the store has no room it tries again until it has: nothing fails for it", async () => {
  let isFull = true;
  const { clock, both, settle, want, end } = await rig((blobs) => ({
    ...blobs,
    put(digest, bytes, options) {
      return isFull ? Promise.reject(new Fault("NO_SPACE", "Cannot write: full")) : blobs.put(digest, bytes, options);
    },
  }));
  want(1, both);
  for (let round = 0; round < 5; round++) {
    expect(await settle()).toEqual([]);
    await clock.advance(1_000);
  }
  isFull = false;
  await clock.advance(1_000);
  expect(await settle()).toEqual([expect.objectContaining({ type: "tree.made" })]);
  isFull = true;
  want(2, { of: "inputs", parts: [...both.parts, { path: "n", name: "b", snapshot: both.parts[0]!.snapshot }] });
  await settle();
  end();
  isFull = false;
  await clock.advance(2_000);
  expect(await settle(), "after the end it says nothing").toEqual([]);
});

test("it serves again after a scheduler that was away for long, and not after its own end", async () => {
  const { clock, subscriptions, end } = await rig();
  subscriptions[0]!.failed(new Fault("PEER_UNREACHABLE", "Cannot reach the scheduler"));
  await clock.advance(1_000);
  expect(subscriptions).toHaveLength(2);
  end();
  subscriptions[1]!.failed(new Fault("CANCELLED", "Cannot ask the scheduler: this side has closed"));
  await clock.advance(10_000);
  expect(subscriptions).toHaveLength(2);
});
