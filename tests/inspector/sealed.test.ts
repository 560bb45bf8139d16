import { Buffer } from "node:buffer";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { jobAddress, type JobId } from "../../src/domain/ids.ts";
import { viewSealed } from "../../src/roles/sealed_view.ts";
import { viewTokenOf } from "../../src/transport/secret.ts";
import { type Blobs, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import { sealJob } from "../../src/snapshots/states/seal.ts";
import type { Entry } from "../../src/snapshots/states/states.ts";
import type { State } from "../../src/machines/step.ts";
import { fakeWorld, type } from "../cli/fakes.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";
import { recording } from "./recorded.ts";

// deno-lint-ignore no-explicit-any -- what a route answers, as a browser has it
type Answer = any;

/** The file of a job of another cluster, in which much else happened. */
async function sealed(
  dir: string,
  harm: (entries: Entry[]) => Entry[] = (entries) => entries,
): Promise<{ readonly file: string; readonly job: JobId }> {
  const blobs: Blobs = memoryBlobs();
  const history = recording();
  history.scheduler();
  history.worker("w1", 2);
  history.job(9, 3);
  history.wait(1_000);
  const job = history.job(1, 2);
  history.place(job, 0, "w1");
  history.start(job, 0, "w1");
  history.job(10, 1);
  history.wait(70);
  const stdout = { digest: await writeBlob(blobs, Buffer.from("one\ntwo\n")), truncatedBytes: 0 };
  history.end(job, 0, "w1", 3, 1, { stdout });
  history.place(job, 1, "w1");
  history.start(job, 1, "w1");
  history.end(job, 1, "w1");
  const states = memoryStates();
  await states.commit(history.entries);
  const kept = states.history;
  states.history = async function* (...asked) {
    const entries: Entry[] = [];
    for await (const entry of kept(...asked)) entries.push(entry);
    yield* harm(entries);
  };
  const chunks: Uint8Array[] = [];
  const addresses = [jobAddress(job), `task/${job}/`];
  for await (const chunk of sealJob({ states, addresses, blobs, digests: new Set([stdout.digest]) })) {
    chunks.push(chunk);
  }
  const file = join(dir, "broken.scootjob");
  writeFileSync(file, Buffer.concat(chunks));
  return { file, job };
}

async function opened() {
  const dir = temporaryFolder();
  const { file, job } = await sealed(dir);
  const view = await viewSealed({ file, dir, port: 0 });
  onTestFinished(() => view.close());
  const { origin, hash } = new URL(view.address);
  const headers = { authorization: `Bearer ${hash.slice("#token=".length)}` };
  const send = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`${origin}${path}`, { ...init, headers: { ...headers, ...init.headers as Record<string, string> } });
  return {
    file,
    job,
    view,
    origin,
    send,
    ask: async (path: string): Promise<Answer> => {
      const response = await send(path);
      expect(response.status, path).toBe(200);
      return await response.json();
    },
  };
}

describe("a job's file without a cluster", () => {
  test("is shown as it was, each step a moment", async () => {
    const { job, view, ask } = await opened();
    expect(view.jobId).toBe(job);
    expect(await ask("/v1/inspect/session")).toMatchObject({ isReadOnly: true, isSealed: true });
    const { first, last } = await ask("/v1/inspect/bounds");
    expect(first.seq).toBe(1);
    expect((await ask("/v1/inspect/home")).lines).toMatchObject([{ job: { jobId: job, state: "failed" } }]);
    for (let seq = first.seq; seq <= last.seq; seq++) {
      const page = await ask(`/v1/inspect/job?id=${job}&at=${seq}`);
      expect(page.moment).toMatchObject({ seq });
      expect(page.moment.atMs).toBeGreaterThan(0);
    }
    const steps = (await ask(`/v1/inspect/history?address=task/${job}/0`)).steps;
    expect(steps.map(({ after }: Answer) => after)).toEqual(["settled", "active.running", "active.placed", "queued"]);
    // Who said it is in the file, so that what was said is too.
    expect((await ask(`/v1/inspect/actor?address=job/${job}`)).step.event).toMatchObject({
      from: `task/${job}/1`,
      body: expect.stringContaining("succeeded"),
    });
    const said = await ask(`/v1/inspect/conversation?with=job/${job}&with=task/${job}/0`);
    expect(said.messages.map(({ type }: Answer) => type)).toEqual(["task.create", "job.taskSettled"]);
    expect((await ask(`/v1/inspect/output?task=${job}/0&stream=stdout`)).text).toEqual(["one", "two"]);
    expect((await ask("/v1/inspect/overview")).workers).toEqual([]);
  });

  test("gives what it holds, and does nothing", async () => {
    const { job, send, file, origin, ask } = await opened();
    expect(await (await send(`/v1/jobs/${job}/tasks/0/stdout`)).text()).toBe("one\ntwo\n");
    expect((await ask(`/v1/jobs/${job}`)).tasks).toHaveLength(2);
    const exported = new Uint8Array(await (await send(`/v1/jobs/${job}/export`)).arrayBuffer());
    expect(exported.length).toBeGreaterThan(100);
    expect(existsSync(file)).toBe(true);
    for (const [method, path] of [["DELETE", `/v1/jobs/${job}`], ["POST", `/v1/jobs/${job}/rerun`]] as const) {
      const refused = await send(path, { method });
      expect([refused.status, (await refused.json()).code]).toEqual([403, "READ_ONLY"]);
    }
    expect((await send("/v1/workers")).status).toBe(403);
    const stranger = await fetch(`${origin}/v1/inspect/bounds`);
    expect(stranger.status).toBe(401);
    await stranger.body?.cancel();
  });

  test("its page comes compressed, and is not sent again while it is the same", async () => {
    const { origin } = await opened();
    const plain = await fetch(`${origin}/inspector/style.css`, { headers: { "accept-encoding": "identity" } });
    const text = await plain.text();
    expect(plain.headers.get("content-encoding")).toBeNull();
    const tag = plain.headers.get("etag")!;
    const again = await fetch(`${origin}/inspector/style.css`, { headers: { "if-none-match": tag } });
    expect([again.status, await again.text(), again.headers.get("etag")]).toEqual([304, "", tag]);
    const { request } = await import("node:http");
    const bytes = await new Promise<Buffer>((resolve, reject) => {
      request(`${origin}/inspector/style.css`, { headers: { "accept-encoding": "gzip" } }, (response) => {
        expect(response.headers["content-encoding"]).toBe("gzip");
        const chunks: Buffer[] = [];
        response.on("data", (chunk) => chunks.push(chunk)).on("end", () => resolve(Buffer.concat(chunks)));
      }).on("error", reject).end();
    });
    expect(bytes.length).toBeLessThan(text.length / 2);
    expect(gunzipSync(bytes).toString()).toBe(text);
  });
});

describe("inspect", () => {
  test("opens a file until Ctrl-C, and leaves nothing behind", async () => {
    const world = fakeWorld();
    const { file, job } = await sealed(world.userDir);
    const made: string[] = [];
    const run = type(
      { ...world, temporaryFolder: () => made[made.push(temporaryFolder()) - 1]! },
      "inspect",
      "broken.scootjob",
      "--json",
    );
    await expect.poll(() => world.stdout.text(), { timeout: 10_000 }).toContain("\n");
    const { address, jobId } = JSON.parse(world.stdout.text());
    expect(jobId).toBe(job);
    expect((await fetch(address)).status).toBe(200);
    world.signal("SIGINT");
    expect(await run).toBe(0);
    expect(existsSync(made[0]!)).toBe(false);
    await expect(fetch(address)).rejects.toThrow();
    expect(existsSync(file)).toBe(true);
  });

  test.each([
    ["nothing", undefined, /no such file/i],
    ["text", Buffer.from("hello, this is no job"), /must begin with scootjob/],
    ["cut", "cut", /must/],
  ])("refuses %s in a sentence", async (_, content, said) => {
    const world = fakeWorld();
    if (content !== undefined) {
      const { file } = await sealed(world.userDir);
      const { readFileSync } = await import("node:fs");
      writeFileSync(file, content === "cut" ? readFileSync(file).subarray(0, 300) : content);
    }
    const made: string[] = [];
    const code = await type(
      { ...world, temporaryFolder: () => made[made.push(temporaryFolder()) - 1]! },
      "inspect",
      "broken.scootjob",
    );
    expect(code).toBe(1);
    expect(world.stderr.text()).toMatch(said);
    expect(world.stderr.text()).toContain("Cannot open");
    expect(made.filter((dir) => existsSync(dir) && readdirSync(dir).length > 0)).toEqual([]);
  });

  test.each<[string, (entries: Entry[]) => Entry[], RegExp]>([
    ["with two steps of one number", (entries) => entries.map((one) => ({ ...one, seq: 7 })), /number of its own/],
    [
      "with states of another shape",
      (entries) => entries.map((one) => ({ ...one, state: { ...one.state as State, context: {} } })),
      /states must be those of a job/,
    ],
  ])("refuses a file %s in a sentence", async (_, harm, said) => {
    const world = fakeWorld();
    await sealed(world.userDir, harm);
    expect(await type({ ...world, temporaryFolder }, "inspect", "broken.scootjob")).toBe(1);
    expect(world.stderr.text()).toContain("Cannot open");
    expect(world.stderr.text()).toMatch(said);
  });

  test("without a file it says where the cluster's page is, with a token that may do all, or look", async () => {
    const world = fakeWorld({ env: { SCOOT_TOKEN: "secret" } });
    expect(await type(world, "inspect")).toBe(0);
    expect(world.stdout.text()).toBe("http://127.0.0.1:9090/#token=secret\n");
    const reader = fakeWorld({ env: { SCOOT_TOKEN: "secret" } });
    expect(await type(reader, "inspect", "--read-only", "--json")).toBe(0);
    expect(JSON.parse(reader.stdout.text()).address).toBe(`http://127.0.0.1:9090/#token=${viewTokenOf("secret")}`);
    const wrong = fakeWorld();
    expect(await type(wrong, "inspect", "--port", "1")).toBe(2);
  });
});
