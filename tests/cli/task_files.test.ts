import { mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Client } from "../../src/api/client.ts";
import { task, type TaskDefinition } from "../../src/api/task_definition.ts";
import { type Digest, emptyDigest } from "../../src/domain/digest.ts";
import type { JobSpecInput } from "../../src/protocol/client_messages.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { digestOf } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { capture } from "../../src/snapshots/trees/capture.ts";
import { walk } from "../../src/snapshots/trees/read_tree.ts";
import { planOf } from "../../src/cli/task_files/plan.ts";
import { runPlan } from "../../src/cli/task_files/run_plan.ts";
import { selectionOf } from "../../src/cli/task_files/select_tree.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { fakeWorld, type } from "./fakes.ts";

function folder(files: Readonly<Record<string, string>>): string {
  const dir = realpathSync(temporaryFolder());
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(dir, path, ".."), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  return dir;
}
async function told(files: Readonly<Record<string, string>>, ...line: string[]): Promise<string> {
  const world = fakeWorld({ userDir: folder(files) });
  expect(await type(world, "do", ...line)).toBe(2);
  expect(world.stdout.text()).toBe("");
  expect(world.stderr.text().trimEnd().split("\n")).toHaveLength(1);
  return world.stderr.text();
}
const json = (tasks: unknown): Record<string, string> => ({ "scoot.json": JSON.stringify(tasks) });

describe("a task file that is wrong is told in one sentence", () => {
  test.each<[string, Record<string, string>, string[], string | RegExp]>([
    ["none", {}, ["t"], "Cannot find a task file: neither "],
    ["two", { "scoot.js": "", "scoot.json": "{}" }, ["t"], "there are scoot.js and scoot.json"],
    ["empty", { "scoot.js": "" }, ["t"], "must say at least one task"],
    ["throws", { "scoot.js": "throw new Error('no\\nway')" }, ["t"], /Cannot read scoot\.js in \S+: no\n/],
    ["no code", { "scoot.js": "task('t', {" }, ["t"], /Cannot read scoot\.js in /],
    ["no JSON", { "scoot.json": "{" }, ["t"], /Cannot read scoot\.json in /],
    ["a list", { "scoot.json": "[]" }, ["t"], "must be an object of tasks by name"],
    [
      "two of one name",
      { "scoot.js": "task('t', {run: 'x'}); task('t', {run: 'y'})" },
      ["t"],
      "there are two of that name",
    ],
    [
      "an unknown field",
      json({ t: { run: "x", input: [] } }),
      ["t"],
      /Cannot read scoot\.json in .*task "t" as input is wrong/,
    ],
    ["nothing to run", json({ t: { inputs: [] } }), ["t"], /task "t" as run is wrong/],
    [
      "a cycle",
      json({ a: { run: "x", mount: { x: "b" } }, b: { run: "x", mount: { x: "a" } } }),
      ["a"],
      "in a ring: a needs b needs a",
    ],
    ["needs itself", json({ a: { run: "x", mount: { x: "a" } } }), ["a"], "in a ring: a needs a"],
    [
      "an unknown mount",
      json({ a: { run: "x", mount: { m: "deps" } }, dep: { run: "x" } }),
      ["a"],
      'Cannot mount "m" of task "a": there is no task "deps". Did you mean "dep"?',
    ],
    [
      "an unknown name",
      json({ a: { run: "x" } }),
      ["zebra"],
      'Cannot do "zebra": there is no task "zebra"; there are a',
    ],
    ["no name", json({ a: { run: "x" }, b: { run: "x" } }), [], "there are a, b"],
    [
      "a glob that climbs out",
      json({ a: { run: "x", inputs: ["../**"] } }),
      ["a"],
      /Cannot use task "a": .*stay inside/,
    ],
    [
      "an output that climbs out",
      json({ a: { run: "x", out: ["/tmp"] } }),
      ["a"],
      /Cannot use task "a": .*must be relative/,
    ],
    [
      "a mount that climbs out",
      json({ a: { run: "x", mount: { "../b": "c" } } }),
      ["a"],
      /Cannot use task "a": .*stay inside/,
    ],
    [
      "a time that is none",
      json({ a: { run: "x", timeout: "soon" } }),
      ["a"],
      'Cannot use task "a": Cannot read its timeout',
    ],
    [
      "flags that contradict",
      json({ a: { run: "x" } }),
      ["a", "--refresh", "--no-cache"],
      "Cannot use --no-cache together with --refresh",
    ],
  ])("%s", async (_, files, line, sentence) => {
    const text = await told(files, ...line);
    if (typeof sentence === "string") expect(text).toContain(sentence);
    else expect(text).toMatch(sentence);
  });

  test("task() outside of a task file", () => {
    expect(() => task("t", { run: "x" })).toThrow("it is for files that scoot-actors do reads");
    expect("task" in globalThis).toBe(false);
  });
});

test("--list shows the tasks of the nearest file above, whatever it is written in", async () => {
  const dir = folder({
    "scoot.ts":
      'const shards: number = 3;\ntask("test", { run: "npm test", mount: { node_modules: "deps" }, shards });\n' +
      'task("deps", { run: ["npm", "ci", "it\'s"], out: ["node_modules"] });',
    "deep/er/x": "",
  });
  const world = fakeWorld({ userDir: join(dir, "deep", "er") });
  expect(await type(world, "do", "--list")).toBe(0);
  expect(world.stdout.text()).toBe(
    "TASK     NEEDS  MAKES         RUNS\ntest ×3  deps                 npm test\n" +
      "deps            node_modules  npm ci 'it'\\''s'\n",
  );
  const again = fakeWorld({ userDir: dir });
  expect(await type(again, "do", "--list", "--json")).toBe(0);
  expect(again.stdout.text().trim().split("\n").map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { name: "test", shards: 3, mounts: [{ path: "node_modules", task: "deps", from: "node_modules" }] },
    { name: "deps", argv: ["npm", "ci", "it's"] },
  ]);
});

describe("globs of inputs", () => {
  const files = { "a.c": "", "src/b.c": "", "src/deep/c.c": "", "src/deep/d.h": "", "test/e.c": "" };
  const selected = async (...globs: string[]): Promise<string[]> => {
    const blobs = memoryBlobs();
    const { snapshot } = await capture({ dir: folder(files), blobs, clock: realClock });
    const found: string[] = [];
    const root: Digest = await selectionOf(blobs, snapshot).select(globs);
    for await (const { path, node } of walk(blobs, root)) if (node.kind !== "directory") found.push(path);
    return found.sort();
  };
  test.each([
    [["src/**"], ["src/b.c", "src/deep/c.c", "src/deep/d.h"]],
    [["src"], ["src/b.c", "src/deep/c.c", "src/deep/d.h"]],
    [["**/*.c"], ["a.c", "src/b.c", "src/deep/c.c", "test/e.c"]],
    [["*.c", "**/*.h"], ["a.c", "src/deep/d.h"]],
    [["src", "src/deep/*.h"], ["src/b.c", "src/deep/c.c", "src/deep/d.h"]],
    [["**"], ["a.c", "src/b.c", "src/deep/c.c", "src/deep/d.h", "test/e.c"]],
  ])("%j", async (globs, expected) => {
    expect(await selected(...globs)).toEqual(expected);
  });

  test("none takes nothing; one that matches nothing is told", async () => {
    expect(await selectionOf(memoryBlobs(), emptyDigest).select([])).toBe(emptyDigest);
    await expect(selected("src/**", "nothing/*")).rejects.toMatchObject({
      code: "PATH_UNKNOWN",
      message: expect.stringContaining('Cannot take "nothing/*"'),
    });
  });
});

test("what is captured and what was made stays in the store while tasks wait for others", async () => {
  const clock = manualClock();
  const guaranteedAgeMs = 3_600_000;
  const holds: (readonly [snapshot: Digest, atMs: number])[] = [];
  let end: () => void = () => {};
  const isOver = new Promise<void>((resolve) => end = resolve);
  const made = digestOf(Buffer.from("made"));
  const captured = digestOf(Buffer.from("captured"));
  const client = {
    holds: (snapshot: Digest) => {
      holds.push([snapshot, clock.now()]);
      return Promise.resolve(true);
    },
    store: { usage: () => Promise.resolve({ guaranteedAgeMs }) },
    submit: ({ tasks }: JobSpecInput) => Promise.resolve({ jobId: tasks[0]!.name }),
    async *watch(name: string) {
      if (name === "slow") await isOver;
      const outcome = { kind: "exited", exitCode: 0, ...(name === "first" ? { output: made } : {}) };
      yield { kind: "task", task: { taskId: name, name, state: "settled", outcome } };
    },
  } as unknown as Client;
  const tasks = new Map<string, TaskDefinition>([
    ["first", { run: "x", out: ["o"] }],
    ["slow", { run: "x" }],
    ["last", { run: "x", mount: { m: "first" } }],
  ]);
  const startedAtMs = clock.now();
  const done = runPlan({
    world: fakeWorld({ clock }),
    client,
    plan: planOf(tasks, ["first", "slow", "last"]),
    dir: "/nowhere",
    snapshot: captured,
    selection: { select: () => Promise.resolve(captured) },
    cache: "use",
    onState: () => {},
    signal: new AbortController().signal,
  });
  for (let minute = 0; minute < 180; minute++) await clock.advance(60_000);
  end();
  expect([...(await done).values()].map(({ kind }) => kind)).toEqual(["succeeded", "succeeded", "succeeded"]);
  expect(clock.waiting()).toBe(0);
  for (const snapshot of [captured, made]) {
    const times = [startedAtMs, ...holds.filter(([held]) => held === snapshot).map(([, atMs]) => atMs), clock.now()];
    times.slice(1).forEach((atMs, before) => expect(atMs - times[before]!).toBeLessThan(guaranteedAgeMs));
  }
});
