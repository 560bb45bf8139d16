import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { News } from "../../src/inspector/routes.ts";
import type { AddressInfo } from "node:net";
import { emptyDigest } from "../../src/domain/digest.ts";
import { httpServer } from "../../src/api/http.ts";
import { silentLog } from "../../src/observability/log.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { treeKeeper } from "../../src/snapshots/lease.ts";
import { memoryRefs } from "../../src/snapshots/refs/memory.ts";
import { viewTokenOf } from "../../src/transport/secret.ts";
import { type Rig, startRig, token, until } from "./rig.ts";

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.close());

const send = (path: string, init: RequestInit & { readonly as?: string } = {}): Promise<Response> =>
  fetch(`${rig.url}${path}`, { ...init, headers: { authorization: `Bearer ${init.as ?? token}` } });

describe("the feed over HTTP", () => {
  test("answers as soon as what is watched has changed", async () => {
    const { jobId } = await rig.client.submit({ key: "f1", tasks: [{ name: "a", argv: ["hold"] }] });
    await until("it to run", async () => (await rig.client.job(jobId)).tasks[0]!.state === "running");
    const { last } = await (await send("/v1/inspect/bounds")).json();
    let isAnswered = false;
    const asked = send(`/v1/inspect/feed?watch=job/${jobId}&watch=task/${jobId}/&watch=worker/&after=${last.seq}`)
      .then((response) => (isAnswered = true, response));
    // What it does not watch it does not hear of.
    const other = await rig.client.submit({ key: "f2", tasks: [{ name: "a", argv: ["exit", "0"] }] });
    await until("the other to end", async () => (await rig.client.job(other.jobId)).job.state === "succeeded");
    expect(isAnswered).toBe(false);
    await rig.worker.finish(`${jobId}/0` as never);
    const news: News = await (await asked).json();
    expect(news.changed).toContain(`task/${jobId}/`);
    expect(news.changed).not.toContain("worker/");
    const { job } = await rig.client.job(jobId);
    expect(job.state).toBe("succeeded");
  });

  test("who goes away is not waited for", async () => {
    const { last } = await (await send("/v1/inspect/bounds")).json();
    for (let turn = 0; turn < 205; turn++) {
      const stop = new AbortController();
      const asked = send(`/v1/inspect/feed?watch=worker/x&after=${last.seq}`, { signal: stop.signal });
      asked.catch(() => {});
      if (turn % 20 === 0) await rig.client.cluster(); // so that they come in
      stop.abort();
      await asked.catch(() => {});
    }
    await until("there to be room", async () => {
      const stop = new AbortController();
      const answer = send(`/v1/inspect/feed?watch=scheduler&after=0`, { signal: stop.signal });
      return (await answer).status === 200;
    });
  });

  test.each([
    ["", "watch"],
    ["watch=job/x", "after"],
    ["watch=job/x&after=a", "whole number"],
    [`${"watch=a&".repeat(33)}after=1`, "at most 32"],
  ])("%s is refused", async (query, said) => {
    const refused = await send(`/v1/inspect/feed?${query}`);
    expect(refused.status).toBe(400);
    expect((await refused.json()).message).toContain(said);
  });
});

describe("who may only look", () => {
  const viewer = viewTokenOf(token);

  test("sees all, and changes nothing", async () => {
    const { jobId } = await rig.client.submit({ key: "v1", tasks: [{ name: "a", argv: ["hold"] }] });
    expect(await (await send("/v1/inspect/session", { as: viewer })).json()).toMatchObject({ isReadOnly: true });
    expect(await (await send("/v1/inspect/session")).json()).toMatchObject({ isReadOnly: false });
    expect((await (await send(`/v1/jobs/${jobId}`, { as: viewer })).json()).job.jobId).toBe(jobId);
    for (
      const [method, path] of [
        ["DELETE", `/v1/jobs/${jobId}`],
        ["POST", `/v1/jobs/${jobId}/rerun`],
        ["POST", "/v1/jobs"],
        ["POST", "/v1/workers/w1/offline"],
        ["PUT", "/v1/settings"],
        ["PUT", "/v1/names/a"],
      ] as const
    ) {
      const refused = await send(path, { method, as: viewer });
      expect([path, refused.status, (await refused.json()).code]).toEqual([path, 403, "READ_ONLY"]);
    }
    expect((await rig.client.job(jobId)).job.state).toBe("running");
    await rig.client.kill(jobId, "over");
  });

  test("is nobody to the protocol of clients", async () => {
    const { connectClient } = await import("../../src/api/client.ts");
    const client = connectClient({ url: rig.url, token: viewer, waitMs: 5_000 });
    await expect(client.cluster()).rejects.toMatchObject({ code: "TOKEN_INVALID" });
    await client.close();
  });
});

test("a job, or one task of it, is run once more", async () => {
  const { jobId } = await rig.client.submit({
    key: "r1",
    requestor: "ada",
    tasks: [{ name: "a", argv: ["exit", "0"] }, { name: "b", argv: ["exit", "3"], input: { kind: "task", task: "a" } }],
  });
  await until("it to end", async () => (await rig.client.job(jobId)).job.state === "failed");
  const whole = await send(`/v1/jobs/${jobId}/rerun?key=again`, { method: "POST" });
  expect(whole.status).toBe(201);
  const again = await whole.json();
  expect(again.jobId).not.toBe(jobId);
  expect((await send(`/v1/jobs/${jobId}/rerun?key=again`, { method: "POST" })).status).toBe(200);
  await until("it to end again", async () => (await rig.client.job(again.jobId)).job.state === "failed");
  const { job, tasks } = await rig.client.job(again.jobId);
  expect(job.requestor).toBe("ada");
  expect(tasks.map(({ name, outcome }) => [name, outcome])).toMatchObject([["a", { exitCode: 0 }], ["b", {
    exitCode: 3,
  }]]);
  const one = await (await send(`/v1/jobs/${jobId}/rerun?task=0`, { method: "POST" })).json();
  await until("the one to end", async () => (await rig.client.job(one.jobId)).job.state === "succeeded");
  expect((await rig.client.job(one.jobId)).tasks).toHaveLength(1);
  expect((await send("/v1/jobs/j01k3x9q7fa-0004m2/rerun", { method: "POST" })).status).toBe(404);
  const long = await send(`/v1/jobs/${jobId}/rerun?key=${"k".repeat(5_000)}`, { method: "POST" });
  expect(long.status).toBe(400);
  expect(await long.json()).toMatchObject({ code: "REQUEST_INVALID" });
  expect((await rig.client.job(jobId)).job.state).toBe("failed"); // nobody was cut off for it
});

test("what was collected of a job's inputs or commands is not run once more, and is named", async () => {
  const snapshot = await writeBlob(rig.blobs, encodeDirectory([{ kind: "symlink", name: "a", target: "b" }]));
  const { jobId } = await rig.client.submit({
    key: "r2",
    tasks: [{ name: "a", argv: ["exit", "0"], input: { kind: "snapshot", snapshot } }],
  });
  await until("it to end", async () => (await rig.client.job(jobId)).job.state === "succeeded");
  rig.empty();
  for (const query of ["", "?task=0"]) {
    const refused = await send(`/v1/jobs/${jobId}/rerun${query}`, { method: "POST" });
    expect(refused.status).toBe(404);
    expect(await refused.json()).toMatchObject({
      code: "SNAPSHOT_UNKNOWN",
      message: expect.stringContaining(`Cannot run task "a" again as its input must be in the cluster's store`),
    });
  }
  await writeBlob(rig.blobs, encodeDirectory([{ kind: "symlink", name: "a", target: "b" }]));
  expect(await (await send(`/v1/jobs/${jobId}/rerun`, { method: "POST" })).json()).toMatchObject({
    code: "BLOB_MISSING",
  });
});

test("whatever is asked is answered or refused in a sentence, and quickly", async () => {
  const { jobId } = await rig.client.submit({ key: "q1", tasks: [{ name: "a", argv: ["exit", "0", "text"] }] });
  await until("it to end", async () => (await rig.client.job(jobId)).job.state === "succeeded");
  const odd = [
    "",
    "0",
    "-1",
    "1e300",
    "999999999999999",
    "9007199254740993",
    "__proto__",
    "constructor",
    "../../etc",
    "\u0000",
    "\ud800",
    "%ff",
    "job/",
    "task//0",
    `task/${jobId}/99999999999`,
    "(a+)+$",
    "x".repeat(15_000),
    `${"a".repeat(64)}/0`,
    `${"0".repeat(64)}/999999999999999`,
  ];
  const names = [
    "at",
    "atMs",
    "id",
    "task",
    "address",
    "with",
    "snapshot",
    "before",
    "after",
    "text",
    "limit",
    "from",
    "line",
  ];
  const good: Record<string, string> = {
    home: "",
    search: "text=a",
    overview: "",
    rates: "",
    jobs: "",
    job: `id=${jobId}`,
    graph: `id=${jobId}`,
    timeline: `id=${jobId}`,
    output: `task=${jobId}/0&stream=stdout`,
    find: `task=${jobId}/0&stream=stdout&text=t`,
    action: `task=${jobId}/0`,
    tree: `snapshot=${emptyDigest}`,
    diff: `before=${emptyDigest}&after=${emptyDigest}`,
    actors: "kind=task",
    actor: `address=task/${jobId}/0`,
    history: `address=task/${jobId}/0`,
    conversation: `with=job/${jobId}`,
  };
  const paths = Object.entries(good).flatMap(([route, query]) =>
    names.flatMap((name) =>
      odd.map((value) => {
        const asked = new URLSearchParams(query);
        asked.set(name, value);
        return `/v1/inspect/${route}?${asked}`;
      })
    )
  );
  for (const value of odd) {
    const part = encodeURIComponent(value.toWellFormed());
    for (
      const path of [
        "jobs/P",
        "jobs/P/why",
        "jobs/P/events",
        "jobs/P/export",
        `jobs/${jobId}/tasks/P/stdout`,
        "names/P",
        "snapshots/P/P",
        "held/P/P",
        "blobs/P/P",
        "actions/P/P",
        "actions/of/P/P",
        "inspect/P",
        "jobs?before=P&state=P",
        "jobs?limit=P",
        "actions?after=P",
        "names?after=P&limit=P",
      ]
    ) {
      paths.push(`/v1/${path.replaceAll("P", part)}`);
    }
  }
  const wrong: string[] = [];
  for (const path of paths) {
    const answer = await send(path);
    const { code, message } = answer.status === 200 ? { code: "", message: "" } : await answer.json();
    await answer.body?.cancel().catch(() => {});
    const isTold = answer.status === 200 || (answer.status < 500 && /^Cannot .+/.test(message) && code !== "INTERNAL");
    if (!isTold) wrong.push(`${answer.status} ${path.slice(0, 150)} ${code} ${message}`);
  }
  expect(wrong).toEqual([]);
}, 60_000);

test("HEAD leaves nothing behind, of what would go on and on neither", async () => {
  const { jobId } = await rig.client.submit({ key: "h1", tasks: [{ name: "a", argv: ["hold"] }] });
  let alarms = 0;
  const clock: Clock = {
    now: realClock.now,
    at(atMs, wake) {
      alarms++;
      let isOver = false;
      const over = (): void => {
        if (!isOver) alarms--;
        isOver = true;
      };
      const cancel = realClock.at(atMs, () => (over(), wake()));
      return () => (over(), cancel());
    },
  };
  const server = httpServer({
    gateway: rig.gateway,
    blobs: rig.blobs,
    trees: treeKeeper({ blobs: rig.blobs, clock: realClock, rememberMs: 0 }),
    names: memoryRefs(),
    actions: rig.actions,
    token,
    clock,
    log: silentLog,
    acceptUpgrade: (_, socket) => void socket.destroy(),
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  for (const path of [`/v1/jobs/${jobId}/events`, `/v1/jobs/${jobId}/tasks/0/stdout?follow=1`, "/v1/jobs"]) {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
      method: "HEAD",
      headers: { authorization: `Bearer ${token}` },
    });
    expect(answer.status).toBe(200);
  }
  server.close();
  server.closeAllConnections();
  await until("all alarms to be let go", () => alarms === 0);
  await rig.client.kill(jobId, "the test is over");
});
