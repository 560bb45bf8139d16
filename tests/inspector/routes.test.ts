import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { jobAddress, type JobId, taskAddress, taskId } from "../../src/domain/ids.ts";
import { createInspector } from "../../src/inspector/server.ts";
import { encodeActionResult } from "../../src/protocol/reapi/action_result.ts";
import { encodeCommand, encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { memoryActions } from "../../src/snapshots/actions/memory.ts";
import { type Blobs, digestOf, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { recording } from "./recorded.ts";

// deno-lint-ignore no-explicit-any -- what a route answers, as a browser has it
type Answer = any;
type History = ReturnType<typeof recording>;

async function inspectorOf(history: History, blobs: Blobs = memoryBlobs()) {
  const states = memoryStates();
  await states.commit(history.entries);
  const clock = manualClock();
  const actions = memoryActions({ blobs, clock });
  const inspector = createInspector({ states: () => Promise.resolve(states), clock, blobs, actions });
  return {
    inspector,
    actions,
    clock,
    ask: async (path: string, query = ""): Promise<Answer> =>
      JSON.parse(JSON.stringify(await inspector.answer(path, new URLSearchParams(query)))),
  };
}
const commandOf = (blobs: Blobs, ...argv: string[]) =>
  writeBlob(blobs, encodeCommand({ argv, env: { A: "b" }, outputs: ["out"], platform: [], workingDirectory: "" }));

describe("home", () => {
  test("has jobs and builds, the newest first, each with why and what it took", async () => {
    const history = recording();
    history.scheduler();
    history.worker("w1", 4);
    const failed = history.job(1, 2);
    history.place(failed, 0, "w1");
    history.start(failed, 0, "w1");
    history.wait(500);
    history.end(failed, 0, "w1", 3);
    history.wait(1);
    const actions = [0, 1, 2].map((n) => {
      history.wait(1);
      return history.job(10 + n, 1, "bazel/b1", { key: `reapi/${n}`, tag: `CppCompile //a:${n}` });
    });
    history.place(actions[0]!, 0, "w1");
    history.start(actions[0]!, 0, "w1");
    history.end(actions[0]!, 0, "w1", 1);
    history.wait(1);
    const newest = history.job(20, 1, "eve");
    const { ask } = await inspectorOf(history);
    const { lines, next } = await ask("home");
    expect(next).toBeUndefined();
    expect(lines.map(({ kind, requestor, job }: Answer) => kind === "build" ? requestor : job.jobId)).toEqual([
      newest,
      "bazel/b1",
      failed,
    ]);
    expect(lines[0]).toMatchObject({
      why: "Queued: 0 of 4 slots are taken, and 4 tasks wait.",
      task: { name: "t0", state: "queued" },
    });
    expect(lines[1]).toMatchObject({
      state: "running",
      jobs: { running: 2, failed: 1, succeeded: 0, cancelled: 0 },
      why: "3 actions: 2 running, 1 failed.",
      jobId: actions[0],
      isPart: false,
      cost: { attempts: 1 },
    });
    expect(lines[2]).toMatchObject({
      why: "Task t0: It exited with 3 after 0.01 s.",
      cost: { ranMs: 10, attempts: 1, cached: 0 },
    });
    expect((await ask("home", "state=running")).lines).toHaveLength(3);
    expect((await ask("home", "state=failed")).lines).toEqual([]);
    const page = await ask("home", "limit=1");
    expect(page.lines).toHaveLength(1);
    expect((await ask("home", `limit=1&before=${page.next}`)).lines[0].requestor).toBe("bazel/b1");
    expect((await ask("home", "at=1")).lines).toEqual([]);
    expect((await ask("jobs", "requestor=bazel/b1")).jobs).toHaveLength(3);
  });

  test("costs and reasons of a job that has ended are those of its end, at every moment before too", async () => {
    const history = recording();
    history.worker("w1", 1);
    const job = history.job(1, 1);
    history.place(job, 0, "w1");
    history.start(job, 0, "w1");
    const running = history.entries.length;
    history.wait(10);
    history.end(job, 0, "w1");
    const { ask } = await inspectorOf(history);
    expect((await ask("home")).lines[0]).toMatchObject({ cost: { ranMs: 10, attempts: 1 } });
    expect((await ask("home", `at=${running}`)).lines[0]).toMatchObject({
      why: expect.stringMatching(/^Runs on w1/),
      cost: { ranMs: 0 },
    });
    expect((await ask("job", `id=${job}`)).why).toMatch(/^It exited with 0/);
  });
});

test("what goes on goes on up to now, and not up to a time that is to come", async () => {
  const history = recording();
  history.worker("w1", 1);
  const job = history.job(1, 1);
  history.place(job, 0, "w1");
  history.start(job, 0, "w1");
  history.wait(500);
  history.worker("w2", 1);
  const { ask } = await inspectorOf(history);
  expect((await ask("home", "atMs=999999999999999")).lines[0]).toMatchObject({ wallMs: 500, cost: { ranMs: 500 } });
});

test("a task that is but queued is told of with what it waits with, at its moment", async () => {
  const history = recording();
  const job = history.job(1, 1);
  const alone = history.entries.length;
  history.worker("w1", 1);
  history.wait(1);
  const first = history.job(2, 1);
  history.place(first, 0, "w1");
  const taken = history.entries.length;
  history.worker("w2", 3);
  const { ask } = await inspectorOf(history);
  const why = async (query: string) =>
    (await ask("home", query)).lines.find((line: Answer) => line.job.jobId === job).why;
  expect(await why(`at=${alone}`)).toBe("Queued: no worker is connected.");
  expect(await why(`at=${taken}`)).toBe("Queued: the one slot is taken, and 1 task waits.");
  expect(await why("")).toBe("Queued: 1 of 4 slots are taken, and 1 task waits.");
});

test("an actor knows what was said to it and it had not heard, and when it did", async () => {
  const history = recording();
  const job = history.job(1, 2);
  const { ask } = await inspectorOf(history);
  history.worker("w1", 1);
  const born = history.entries.find(({ address }) => address === taskAddress(taskId(job, 0)))!.seq;
  expect(born).toBe(2);
  const { unheard } = await ask("actor", `address=job/${job}`);
  expect(unheard).toEqual([]);
  const killed = recording();
  const other = killed.job(1, 2);
  killed.tell(jobAddress(other), { type: "job.kill", reason: "no", atMs: killed.nowMs } as never, "member/gateway");
  const said = killed.entries.findLast(({ said }) => said.some(({ body }) => (body as Answer).type === "task.kill"))!;
  const { ask: later } = await inspectorOf(killed);
  const told = await later("actor", `address=task/${other}/1&at=${said.seq}`);
  const heard = killed.entries.find(({ address, seq }) => address === taskAddress(taskId(other, 1)) && seq > said.seq)!;
  expect(told.state).toBe("queued");
  expect(told.unheard).toMatchObject([{ from: `job/${other}`, type: "task.kill", heardSeq: heard.seq }]);
  expect(told.unheard[0].body).toContain(`"reason":"no"`);
  expect((await later("actor", `address=task/${other}/1&at=${heard.seq}`)).unheard).toEqual([]);
});

test("actors are found by a job's tag and a task's name", async () => {
  const history = recording();
  const job = history.job(1, 2, "ada", { tag: "Nightly build", tasks: [{ name: "compile" }, { name: "link" }] });
  history.job(2, 1, "ada", { tag: "other" });
  const { ask } = await inspectorOf(history);
  const listed = async (query: string) =>
    (await ask("actors", query)).actors.map(({ address, label }: Answer) => [address, label]);
  expect(await listed("kind=job&label=NIGHT")).toEqual([[`job/${job}`, "Nightly build"]]);
  expect(await listed("kind=task&label=lin")).toEqual([[`task/${job}/1`, "link"]]);
  expect(await listed("kind=task&label=nightly")).toEqual([]);
});

test("a page of actors begins behind an actor of its kind, and has no others", async () => {
  const history = recording();
  history.scheduler();
  history.worker("w1", 1);
  const job = history.job(1, 2);
  const { ask } = await inspectorOf(history);
  const listed = async (query: string) => (await ask("actors", query)).actors.map(({ address }: Answer) => address);
  expect(await listed(`kind=task&after=task/${job}/0`)).toEqual([`task/${job}/1`]);
  expect(await listed(`kind=worker&after=job/${job}`)).toEqual(["worker/w1"]);
  expect(await listed(`kind=task&after=worker/w1`)).toEqual([`task/${job}/0`, `task/${job}/1`]);
});

test("pages of a conversation leave out nothing of what one entry said", async () => {
  const history = recording();
  const job = history.job(1, 3);
  const { ask } = await inspectorOf(history);
  const members = [jobAddress(job), ...[0, 1, 2].map((place) => taskAddress(taskId(job, place)))];
  const query = members.map((one) => `with=${one}`).join("&");
  const whole = (await ask("conversation", query)).messages;
  expect(whole.map(({ to }: Answer) => to)).toEqual(members.slice(1));
  const seen: Answer[] = [];
  for (let next: number | undefined = history.entries.length; next !== undefined;) {
    const page: Answer = await ask("conversation", `${query}&limit=2&at=${next}`);
    seen.unshift(...page.messages);
    next = page.next;
  }
  expect(seen.map(({ id }: Answer) => id)).toEqual(whole.map(({ id }: Answer) => id));
});

test("search finds ids, requestors, tags, targets, commands and reasons, at that moment", async () => {
  const blobs = memoryBlobs();
  const history = recording();
  history.worker("w1", 1);
  const command = await commandOf(blobs, "pytest", "-k", "Slow Test");
  const job = history.job(1, 3, "Ada", { tag: "nightly", tasks: [{ command }, { name: "//lib:target" }, {}] });
  const before = history.entries.length;
  history.wait(1);
  const other = history.job(2, 1, "eve");
  const { ask } = await inspectorOf(history, blobs);
  const hits = async (text: string, rest = ""): Promise<string[]> =>
    (await ask("search", `text=${encodeURIComponent(text)}${rest}`)).hits.map((hit: Answer) =>
      `${hit.taskId ?? hit.jobId} ${hit.in}`
    );
  expect(await hits("ada")).toEqual([`${job} requestor`]);
  expect(await hits("NIGHT")).toEqual([`${job} tag`]);
  expect(await hits("//lib")).toEqual([`${job}/1 target`]);
  expect(await hits("slow test")).toEqual([`${job}/0 command`]);
  expect(await hits(job.slice(0, 12))).toEqual([`${job} id`]);
  expect(await hits(`${job}/2`)).toEqual([`${job}/2 id`]);
  expect(await hits("eve")).toEqual([`${other} requestor`]);
  expect(await hits("eve", `&at=${before}`)).toEqual([]);
  expect(await hits("0 of 3 tasks")).toEqual([`${job} why`]);
  expect(await hits("nothing of the kind")).toEqual([]);
  const page = await ask("search", "text=tasks%20settled&limit=1");
  expect(page.hits).toHaveLength(1);
  expect((await ask("search", `text=tasks%20settled&limit=1&before=${page.next}`)).hits[0].jobId).toBe(job);
});

describe("a job", () => {
  test("has a graph of who takes whose output", async () => {
    const history = recording();
    history.worker("w1", 1);
    const job = history.job(1, 3, "ada", {
      tasks: [{ dependents: [1, 2] }, { source: { kind: "task", index: 0 } }, { source: { kind: "task", index: 0 } }],
    });
    history.place(job, 0, "w1");
    history.start(job, 0, "w1");
    history.end(job, 0, "w1", 1);
    const { ask } = await inspectorOf(history);
    const graph = await ask("graph", `id=${job}`);
    expect(graph.edges).toEqual([[0, 1], [0, 2]]);
    expect(graph.nodes.map(({ state, result }: Answer) => [state, result])).toEqual([
      ["settled", "failed"],
      ["settled", "skipped"],
      ["settled", "skipped"],
    ]);
    await expect(ask("graph", "id=j01k3x9q7fa-0004m2")).rejects.toMatchObject({ code: "JOB_UNKNOWN" });
  });

  test("of very many tasks sends a part", async () => {
    const history = recording();
    const job = history.job(1, 2_100);
    const { ask } = await inspectorOf(history);
    const graph = await ask("graph", `id=${job}`);
    expect(graph.nodes).toHaveLength(2_000);
    expect(graph.more).toBe(100);
    const page = await ask("timeline", `id=${job}`);
    expect(page.rows).toHaveLength(500);
    const last = await ask("timeline", `id=${job}&from=2000`);
    expect([page.next, last.rows.length, last.next]).toEqual([500, 100, undefined]);
  });

  test("says where the time of each attempt went, up to the moment", async () => {
    const history = recording();
    history.worker("w1", 1);
    const job = history.job(1, 2);
    const bornMs = history.nowMs;
    history.wait(100);
    history.place(job, 0, "w1");
    history.wait(20);
    history.start(job, 0, "w1");
    const runningSeq = history.entries.length;
    history.wait(300);
    history.end(job, 0, "w1");
    const { ask } = await inspectorOf(history);
    const spans = (await ask("timeline", `id=${job}`)).rows[0].spans.map(({ name, fromMs, toMs, workerId }: Answer) => [
      name,
      fromMs - bornMs,
      toMs - bornMs,
      workerId,
    ]);
    expect(spans).toEqual([
      ["queued", 0, 100, undefined],
      ["checkout", 100, 410, "w1"], // as its worker told when it ended
      ["run", 410, 420, "w1"],
      ["capture", 420, 420, "w1"],
    ]);
    const then = await ask("timeline", `id=${job}&at=${runningSeq}`);
    expect(then.rows[0].spans.at(-1)).toMatchObject({ name: "run", toMs: bornMs + 120 });
    expect(then.rows[1].spans).toMatchObject([{ name: "queued", fromMs: bornMs, toMs: bornMs + 120 }]);
  });
});

describe("output by line", () => {
  /** A task that wrote that. */
  async function written(text: string | Uint8Array) {
    const blobs = memoryBlobs();
    const history = recording();
    history.worker("w1", 1);
    const job = history.job(1, 2);
    history.place(job, 0, "w1");
    history.start(job, 0, "w1");
    const stdout = { digest: await writeBlob(blobs, Buffer.from(text as string)), truncatedBytes: 7 };
    history.end(job, 0, "w1", 0, 1, { stdout });
    const { ask } = await inspectorOf(history, blobs);
    const of = `task=${job}/0&stream=stdout`;
    return {
      ask,
      job,
      page: (query: string) => ask("output", `${of}&${query}`),
      find: (text: string, query = "") => ask("find", `${of}&text=${encodeURIComponent(text)}${query}`),
    };
  }

  test("gives any stretch of lines of a long stream", async () => {
    const lines = Array.from({ length: 100_000 }, (_, line) => `line ${line}${"é".repeat(line % 7)}`);
    const { page } = await written(lines.join("\n"));
    for (const line of [0, 1, 255, 256, 257, 99_998, 99_999]) {
      const found = await page(`line=${line}&lines=3`);
      expect(found).toMatchObject({ lines: 100_000, line, truncatedBytes: 7 });
      expect(found.text).toEqual(lines.slice(line, line + 3));
    }
    expect((await page("line=100000")).text).toEqual([]);
    expect((await page("line=5000000")).line).toBe(100_000);
  });

  test.each([
    ["", []],
    ["\n", [""]],
    ["a", ["a"]],
    ["a\n", ["a"]],
    ["a\r\n\r\nb", ["a", "", "b"]],
  ])("%j has the lines %j", async (text, lines) => {
    const found = await (await written(text)).page("");
    expect(found.text).toEqual(lines);
    expect(found.lines).toBe(lines.length);
  });

  test("a line without end is cut, and a page is not longer than it may be", async () => {
    const endless = await (await written("x".repeat(5_000_000))).page("");
    expect(endless.lines).toBe(1);
    expect(endless.text[0]).toMatch(/^x{4095}…$/);
    const wide = await (await written(`${"y".repeat(4_000)}\n`.repeat(2_000))).page("lines=2000");
    expect(wide.text.length).toBeLessThan(300);
    expect(wide.lines).toBe(2_000);
  });

  test("finds what is searched, by line, wherever chunks end, and goes on where it stopped", async () => {
    const lines = Array.from(
      { length: 60_000 },
      (_, line) => line % 1_000 === 999 ? `  an Error: ${line} ” ` : `ok ${line} `.repeat(5),
    );
    const { find } = await written(lines.join("\n"));
    const wanted = lines.flatMap((text, line) => text.includes("Error") ? [line] : []);
    const all = await find("error:", "&limit=500");
    expect(all.hits.map(({ line }: Answer) => line)).toEqual(wanted);
    expect(all.next).toBeUndefined();
    for (const { text, column } of all.hits) expect(text.slice(column, column + 6)).toBe("Error:");
    expect((await find("ERROR:")).hits).toEqual([]);
    const some: number[] = [];
    for (let next: number | undefined = 0; next !== undefined;) {
      const page: Answer = await find("Error", `&limit=7&line=${next}`);
      some.push(...page.hits.map(({ line }: Answer) => line));
      next = page.next;
    }
    expect(some).toEqual(wanted);
    expect((await find("ok 1 ok 1")).hits[0]).toMatchObject({ line: 1, column: 0 });
  });

  test("letters beyond ASCII are found as they are, and others are not taken for them", async () => {
    const { find } = await written("caf\u00e9\n\u3a40\u5a69 \u30e9\nCAF\u00c9 Caf\u00e9\n");
    const lines = async (text: string) => (await find(text)).hits.map(({ line }: Answer) => line);
    expect(await lines("\u00e9")).toEqual([0, 2]);
    expect(await lines("caf\u00e9")).toEqual([0, 2]);
    expect(await lines("\u30e9")).toEqual([1]);
    expect(await lines("caf")).toEqual([0, 2]);
    const { hits: [, last] } = await find("caf\u00e9");
    expect(last.text.slice(last.column)).toBe("Caf\u00e9");
  });

  test("a text that is cut by the end of a chunk, in a line without end, is found once", async () => {
    const text = `${"z".repeat(1024 * 1024 - 3)}needle${"z".repeat(2 * 1024 * 1024)}needle\nneedle`;
    const { hits } = await (await written(text)).find("needle");
    expect(hits.map(({ line }: Answer) => line)).toEqual([0, 1]);
  });

  test("of a task that goes on it says to follow", async () => {
    const { ask, job } = await written("");
    await expect(ask("output", `task=${job}/1&stream=stdout`)).rejects.toMatchObject({ code: "OUTPUT_MISSING" });
    await expect(ask("find", `task=${job}/0&stream=stdout&text=a%0Ab`)).rejects.toMatchObject({
      code: "REQUEST_INVALID",
    });
    expect((await ask("output", `task=${job}/0&stream=stderr`)).lines).toBe(0);
  });
});

test("an action: what is run on what, and what the cache knows of it", async () => {
  const blobs = memoryBlobs();
  const command = await commandOf(blobs, "make", "all");
  const gone = digestOf(Buffer.from("gone"));
  const history = recording();
  history.worker("w1", 1);
  const job = history.job(1, 2, "ada", { tasks: [{ command }, { command: gone }] });
  const { ask, actions, clock } = await inspectorOf(history, blobs);
  const story = await ask("action", `task=${job}/0`);
  expect(story).toMatchObject({
    command,
    program: { argv: ["make", "all"], env: { A: "b" }, outputs: ["out"], workingDirectory: "" },
    inputRoot: expect.stringMatching(/\/0$/),
    action: expect.stringMatching(/^[0-9a-f]{64}\/\d+$/),
    instance: "",
    use: "off",
    why: "Queued.",
  });
  expect(story.kept).toBeUndefined();
  const result = encodeActionResult({
    outputFiles: [],
    outputDirectories: [],
    outputSymlinks: [],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode: 0,
  });
  const made = { by: "job", taskId: taskId(job, 0), attempt: 1, atMs: 5, durationMs: 700 } as const;
  await actions.put({ instance: "", action: story.action }, result, made);
  await actions.get({ instance: "", action: story.action }, { usedBy: taskId(job, 1) });
  await clock.advance(60_000); // uses are noted in bulk
  expect((await ask("action", `task=${job}/0`)).kept).toMatchObject({
    made,
    exitCode: 0,
    useCount: 1,
    usedBy: [`${job}/1`],
  });
  // Its command is not in the store: then neither is the action's digest known.
  const bare = await ask("action", `task=${job}/1`);
  expect([bare.program, bare.action]).toEqual([undefined, undefined]);
  await expect(ask("action", `task=${job}/9`)).rejects.toMatchObject({ code: "TASK_UNKNOWN" });
});

test("snapshots: folders in pages, files as text, and what differs between two", async () => {
  const blobs = memoryBlobs();
  const file = async (name: string, text: string | Uint8Array) => ({
    kind: "file" as const,
    name,
    digest: await writeBlob(blobs, Buffer.from(text as string)),
    executable: false,
  });
  const folder = async (name: string, ...nodes: Parameters<typeof encodeDirectory>[0]) => ({
    kind: "directory" as const,
    name,
    digest: await writeBlob(blobs, encodeDirectory(nodes)),
  });
  const link = { kind: "symlink" as const, name: "a link", target: "src" };
  const one = await folder("", await file("b.txt", "b"), link, await folder("src", await file("x.c", "int x;")));
  const two = await folder(
    "",
    await file("b.txt", "bb"),
    await folder("src", await file("x.c", "int x;"), await file("y.bin", new Uint8Array([0, 1]))),
  );
  const { ask } = await inspectorOf(recording(), blobs);
  const root = await ask("tree", `snapshot=${one.digest}`);
  expect(root.entries.map(({ name, bytes }: Answer) => [name, bytes])).toEqual([
    ["src", undefined],
    ["a link", undefined],
    ["b.txt", 1],
  ]);
  const page = await ask("tree", `snapshot=${one.digest}&limit=2`);
  expect((await ask("tree", `snapshot=${one.digest}&limit=2&from=${page.next}`)).entries).toEqual(
    root.entries.slice(2),
  );
  expect(await ask("tree", `snapshot=${one.digest}&path=src/x.c`)).toMatchObject({
    kind: "file",
    text: "int x;",
    bytes: 6,
  });
  expect(await ask("tree", `snapshot=${one.digest}&path=${encodeURIComponent("a link")}`)).toEqual({
    kind: "symlink",
    target: "src",
  });
  expect((await ask("tree", `snapshot=${two.digest}&path=src/y.bin`)).text).toBeUndefined();
  await expect(ask("tree", `snapshot=${one.digest}&path=no`)).rejects.toMatchObject({ code: "PATH_UNKNOWN" });
  await expect(ask("tree", `snapshot=${one.digest}&path=..`)).rejects.toMatchObject({ code: "PATH_INVALID" });
  const { changes } = await ask("diff", `before=${one.digest}&after=${two.digest}`);
  expect(changes.map(({ path, before, after }: Answer) => [path, before?.bytes, after?.bytes])).toEqual([
    ["a link", undefined, undefined],
    ["b.txt", 1, 2],
    ["src/y.bin", undefined, 2],
  ]);
  const part = await ask("diff", `before=${one.digest}&after=${two.digest}&limit=2`);
  expect((await ask("diff", `before=${one.digest}&after=${two.digest}&limit=2&from=${part.next}`)).changes)
    .toHaveLength(1);
});

test("trees that take very long to compare are given up with what to do, and so they are when nobody waits any more", async () => {
  const blobs = memoryBlobs();
  const treeOf = async (text: string) => {
    const file = { kind: "file" as const, digest: await writeBlob(blobs, Buffer.from(text)), executable: false };
    return await writeBlob(blobs, encodeDirectory(["a", "b", "c"].map((name) => ({ ...file, name }))));
  };
  const [before, after] = [await treeOf("1"), await treeOf("2")];
  let nowMs = 0;
  const clock = { ...manualClock(), now: () => nowMs += 15_000 };
  const states = () => Promise.resolve(memoryStates());
  const inspector = createInspector({ states, clock, blobs });
  const query = new URLSearchParams({ before, after });
  await expect(inspector.answer("diff", query)).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
  const signal = AbortSignal.abort(new Error("gone"));
  await expect(inspector.answer("diff", query, { isReadOnly: true, signal })).rejects.toThrow("gone");
});

test("rates: what was placed and settled, how much waited, and how long that took", async () => {
  const history = recording();
  history.worker("w1", 4);
  const job = history.job(1, 4);
  for (let place = 0; place < 4; place++) {
    history.wait(1_000);
    history.place(job, place, "w1");
    history.start(job, place, "w1");
    history.wait(500);
    history.end(job, place, "w1");
  }
  const { ask } = await inspectorOf(history);
  const { atMs } = await ask("moment");
  const rates = await ask("rates", `at=${history.entries.length}&spanMs=6000&points=6`);
  expect(rates).toMatchObject({ isCounted: true, stepMs: 1_000, wait: { count: 4 }, run: { count: 4, p50Ms: 500 } });
  expect(rates.points.at(-1).toMs).toBe(atMs);
  const sum = (name: string): number => rates.points.reduce((all: number, point: Answer) => all + point[name], 0);
  expect([sum("placed"), sum("settled")]).toEqual([4, 4]);
  expect(rates.points.at(-1)).toMatchObject({ queued: 0, running: 0 });
  expect(rates.wait.p95Ms).toBe(5_500);
  // As it was: before the last one was placed.
  const then = await ask("rates", `atMs=${atMs - 1_000}&spanMs=5000&points=5`);
  expect(then.points.at(-1)).toMatchObject({ queued: 1, running: 0 });
});

test("a moment by the clock, by entry, and the nearest of one that is not kept", async () => {
  const history = recording();
  history.scheduler();
  history.wait(1_000);
  history.worker("w1", 1);
  const { ask } = await inspectorOf(history);
  expect(await ask("moment", `atMs=${history.nowMs - 1}`)).toEqual({ seq: 1, atMs: history.nowMs - 1_000 });
  expect((await ask("moment", "at=99")).seq).toBe(2);
  expect((await ask("moment", "atMs=5")).seq).toBe(1);
});

describe("once more", () => {
  const commands = async (blobs: Blobs) => [await commandOf(blobs, "one"), await commandOf(blobs, "two")] as const;

  test("a whole job keeps who takes whose output; one task has the files that it had, and is run", async () => {
    const blobs = memoryBlobs();
    const [one, two] = await commands(blobs);
    const history = recording();
    history.worker("w1", 1);
    const job = history.job(1, 2, "ada", {
      tag: "t",
      tasks: [{ command: one, dependents: [1], cache: "use" }, {
        command: two,
        source: { kind: "task", index: 0 },
        retries: 3,
        platform: { os: "linux" },
      }],
    });
    const { inspector } = await inspectorOf(history, blobs);
    expect(await inspector.again({ jobId: job, key: "k" })).toMatchObject({
      key: "k",
      requestor: "ada",
      tag: "t",
      tasks: [
        { name: "t0", command: one, input: { kind: "empty" }, cache: "use" },
        { name: "t1", command: two, input: { kind: "task", task: "t0" }, retries: 3, platform: { os: "linux" } },
      ],
    });
    expect(await inspector.again({ jobId: job, place: 0, key: "k" })).toMatchObject({
      tasks: [{ command: one, input: { kind: "snapshot" }, cache: "refresh" }],
    });
    await expect(inspector.again({ jobId: job, place: 1, key: "k" })).rejects.toMatchObject({ code: "OUTPUT_MISSING" });
    await expect(inspector.again({ jobId: job, place: 2, key: "k" })).rejects.toMatchObject({ code: "TASK_UNKNOWN" });
  });

  test("what is mounted of several is mounted of the same again", async () => {
    const blobs = memoryBlobs();
    const [one, two] = await commands(blobs);
    const history = recording();
    const snapshot = digestOf(Buffer.from("a tree"));
    const parts = [{ path: "a", name: "the output of task t0", index: 0 }, {
      path: "b",
      subtree: "lib",
      name: "libs",
      snapshot,
    }];
    const job = history.job(1, 2, "ada", {
      tasks: [{ command: one, dependents: [1] }, { command: two, source: { kind: "mounted", parts }, output: "full" }],
    });
    const { inspector, ask } = await inspectorOf(history, blobs);
    expect((await inspector.again({ jobId: job, key: "k" })).tasks[1]).toMatchObject({
      input: {
        kind: "mounted",
        parts: [{ path: "a", name: "the output of task t0", task: "t0" }, {
          path: "b",
          subtree: "lib",
          name: "libs",
          snapshot,
        }],
      },
      output: "full",
    });
    expect((await ask("graph", `id=${job}`)).edges).toEqual([[0, 1]]);
  });

  test("a job of which tasks are forgotten cannot be", async () => {
    const history = recording();
    history.worker("w1", 1);
    const job: JobId = history.job(1, 2);
    history.remove(taskAddress(taskId(job, 0)));
    const { inspector } = await inspectorOf(history);
    await expect(inspector.again({ jobId: job, key: "k" })).rejects.toMatchObject({ code: "OUTPUT_MISSING" });
    expect(jobAddress(job)).toBe(`job/${job}`);
  });
});

test("who may only look is told so", async () => {
  const { inspector } = await inspectorOf(recording());
  const ask = (isReadOnly: boolean) => inspector.answer("session", new URLSearchParams(), { isReadOnly });
  expect(await ask(true)).toMatchObject({ isReadOnly: true, isSealed: false });
  expect(await ask(false)).toMatchObject({ isReadOnly: false });
});
