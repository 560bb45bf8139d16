import { expect, onTestFinished, test } from "vitest";
import { type Digest, emptyDigest } from "../../src/domain/digest.ts";
import { type JobId, taskId, workerId } from "../../src/domain/ids.ts";
import { encodeActionResult } from "../../src/protocol/reapi/action_result.ts";
import { encodeAction } from "../../src/protocol/reapi/canonical.ts";
import { digestOf } from "../../src/snapshots/blobs/blobs.ts";
import type { Made } from "../../src/snapshots/actions/actions.ts";
import { type Rig, startRig } from "./rig.ts";

const rigOfTest = async (): Promise<Rig> => {
  const rig = await startRig();
  onTestFinished(() => rig.close());
  return rig;
};
const actionOf = (n: number): Digest => digestOf(new TextEncoder().encode(`action ${n}`));
const result = (exitCode = 0): Uint8Array =>
  encodeActionResult({
    outputFiles: [],
    outputDirectories: [],
    outputSymlinks: [{ path: "latest", target: "v1" }],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode,
  });
const job = "j01k3x9q7fa-0004m2" as JobId;
const madeAt = (atMs: number, worker = "w1"): Made => ({
  by: "job",
  taskId: taskId(job, 0),
  attempt: 1,
  workerId: workerId(worker),
  atMs,
  durationMs: 5,
});

test("a kept result is shown with who made it and what came of it", async () => {
  const { actions, client } = await rigOfTest();
  await actions.put({ instance: "", action: actionOf(1) }, result(), madeAt(1_000));
  const shown = await client.actions.show({ action: actionOf(1) });
  expect(shown).toMatchObject({
    instance: "",
    action: actionOf(1),
    made: madeAt(1_000),
    result: { exitCode: 0, outputs: [{ kind: "symlink", path: "latest", target: "v1" }] },
    usedBy: [],
  });
  await expect(client.actions.show({ action: actionOf(2) })).rejects.toMatchObject({ code: "ACTION_UNKNOWN" });
  await expect(client.actions.show({ action: actionOf(1), instance: "other" })).rejects.toMatchObject({
    code: "ACTION_UNKNOWN",
  });
});

test("a task leads to the result that is kept of its action", async () => {
  const { actions, client } = await rigOfTest();
  const { jobId } = await client.submit({
    key: "k",
    tasks: [{ name: "t", argv: ["true"], timeoutMs: 5_000, platform: { os: "any" } }],
  });
  const task = taskId(jobId, 0);
  await expect(client.actions.show({ task })).rejects.toMatchObject({ code: "ACTION_UNKNOWN" });
  const { command } = (await client.job(jobId)).tasks[0]!;
  const platform = [{ name: "os", value: "any" }];
  const action = digestOf(
    encodeAction({ command, inputRoot: emptyDigest, timeoutMs: 5_000, doNotCache: false, platform }),
  );
  await actions.put({ instance: "", action }, result(), { ...madeAt(1), taskId: task });
  expect((await client.actions.show({ task })).action).toBe(action);
  await expect(client.actions.show({ task: taskId(jobId, 7) })).rejects.toMatchObject({ code: "TASK_UNKNOWN" });
  await expect(client.actions.show({ task: taskId(job, 0) })).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
});

test("the list pages over instances, each entry once", async () => {
  const { actions, client } = await rigOfTest();
  const keys = ["", "main"].flatMap((instance) =>
    Array.from({ length: 600 }, (_, n) => ({ instance, action: actionOf(n) }))
  );
  await Promise.all(keys.map((key) => actions.put(key, result(), madeAt(1))));
  const listed: string[] = [];
  for await (const { instance, action } of client.actions.list()) listed.push(`${instance} ${action}`);
  expect(listed).toHaveLength(1_200);
  expect(new Set(listed).size).toBe(1_200);
  let some = 0;
  for await (const _ of client.actions.list({ limit: 501 })) some++;
  expect(some).toBe(501);
});

test("revoking takes back what that worker made since then, and names who used it", async () => {
  const { actions, client } = await rigOfTest();
  const user = taskId(job, 9);
  await actions.put({ instance: "", action: actionOf(1) }, result(), madeAt(1_000));
  await actions.put({ instance: "", action: actionOf(2) }, result(), madeAt(999));
  await actions.put({ instance: "", action: actionOf(3) }, result(), madeAt(1_000, "w2"));
  await actions.get({ instance: "", action: actionOf(1) }, { usedBy: user });
  const revoked = [];
  for await (const each of client.actions.revoke({ workerId: workerId("w1"), sinceMs: 1_000 })) revoked.push(each);
  expect(revoked).toMatchObject([{ action: actionOf(1), usedBy: [user] }]);
  const left = [];
  for await (const { action } of client.actions.list()) left.push(action);
  expect(new Set(left)).toEqual(new Set([actionOf(2), actionOf(3)]));
});

test("what is no revocation is refused, and nothing is taken back", async () => {
  const { actions, client } = await rigOfTest();
  await actions.put({ instance: "", action: emptyDigest }, result(), madeAt(1));
  await expect(async () => {
    for await (const _ of client.actions.revoke({ workerId: workerId("w1"), sinceMs: -1 })) { /* none */ }
  }).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  expect(actions.size().entries).toBe(1);
});
