import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { type Client, connectClient } from "../../src/api/client.ts";
import { type Digest, emptyDigest } from "../../src/domain/digest.ts";
import { jobId } from "../../src/domain/ids.ts";
import type { JobSpecInput, TaskSpecInput, TaskView } from "../../src/protocol/client_messages.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { mountTrees, overlay } from "../../src/snapshots/trees/compose.ts";
import { walk } from "../../src/snapshots/trees/read_tree.ts";
import { typeTo } from "./command_line.ts";
import { ended, killIfThere } from "./support.ts";

let cluster: TestCluster;
let home: string;
let client: Client;
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "scoot-inputs-"));
  cluster = await startCluster([], { dir: home });
  client = connectClient({ url: cluster.ready.http, token: cluster.token });
});
afterAll(async () => {
  await client.close();
  await cluster.stop();
  rmSync(home, { recursive: true, force: true });
});

let keys = 0;
const sh = (name: string, script: string, more: Partial<TaskSpecInput> = {}): TaskSpecInput => ({
  name,
  argv: ["sh", "-c", script],
  ...more,
});
const submit = async (...tasks: TaskSpecInput[]) => {
  const job: JobSpecInput = { key: `inputs-${++keys}`, tasks };
  return (await client.submit(job)).jobId;
};
const run = async (...tasks: TaskSpecInput[]): Promise<readonly TaskView[]> =>
  (await ended(client, await submit(...tasks))).tasks;
const refused = (...tasks: TaskSpecInput[]): Promise<Error & { code: string }> =>
  submit(...tasks).then(() => Promise.reject(new Error("accepted")), (thrown) => thrown);

async function tree(files: Readonly<Record<string, string>>): Promise<Digest> {
  const parts = [];
  for (const [path, text] of Object.entries(files)) {
    const at = path.split("/");
    const file = {
      kind: "file" as const,
      name: at.pop()!,
      digest: await writeBlob(client.blobs, new TextEncoder().encode(text)),
      executable: false,
    };
    parts.push({ path: at.join("/"), snapshot: await writeBlob(client.blobs, encodeDirectory([file])) });
  }
  return await mountTrees(client.blobs, parts);
}
const paths = async (snapshot: Digest | undefined): Promise<readonly string[]> => {
  const found: string[] = [];
  for await (const { path } of walk(client.blobs, snapshot!)) found.push(path);
  return found.sort();
};
const outputOf = ({ outcome, why }: TaskView): Digest | undefined => {
  if (outcome?.kind !== "exited" || outcome.exitCode !== 0) throw new Error(why);
  return outcome.output;
};

test("snapshots, names and outputs of tasks are mounted into one tree, which is that of a client that mounts them itself", async () => {
  const source = await tree({ "src/a": "1", "README": "r" });
  const library = await tree({ "lib/x": "x", "lib/y": "y" });
  const name = `library-${keys}`;
  await client.names.compareAndSet(name, undefined, library);
  const deps = sh("deps", "mkdir -p node_modules/p other && echo p > node_modules/p/index && echo o > other/o", {
    outputs: ["node_modules", "other"],
  });
  const list = "find . -type f | sort > list; cat list";
  const [made, test] = await run(
    deps,
    sh("test", list, {
      outputs: ["list"],
      inputs: [
        { path: ".", snapshot: source },
        { path: "vendor", snapshot: name, subtree: "lib" },
        { path: "node_modules", task: "deps", subtree: "node_modules" },
      ],
    }),
  );
  const mounted = await mountTrees(client.blobs, [
    { path: "", snapshot: source },
    { path: "vendor", snapshot: library, subtree: "lib" },
    { path: "node_modules", snapshot: outputOf(made!)!, subtree: "node_modules" },
  ]);
  expect(test!.inputRoot).toBe(mounted);
  expect(await paths(mounted)).toEqual([
    "README",
    "node_modules",
    "node_modules/p",
    "node_modules/p/index",
    "src",
    "src/a",
    "vendor",
    "vendor/x",
    "vendor/y",
  ]);
  // So the result is found by whoever has put the same together, and is known before it is queued.
  const [same] = await run(sh("test", list, { outputs: ["list"], input: { kind: "snapshot", snapshot: mounted } }));
  expect(same!.cached?.taskId).toBe(test!.taskId);
  const [, again] = await run(
    deps,
    sh("test", list, {
      outputs: ["list"],
      inputs: [
        { path: "node_modules", task: "deps", subtree: "node_modules" },
        { path: "./vendor/", snapshot: library, subtree: "lib" },
        { snapshot: source },
      ],
    }),
  );
  expect(again).toMatchObject({ inputRoot: mounted, cached: { taskId: test!.taskId } });
  const [snapshots] = await run(sh("one", "cat a/src/a", {
    inputs: [{ path: "a", snapshot: source }, { path: "b", snapshot: name }],
  }));
  expect(outputOf(snapshots!)).toBeUndefined();
});

test("a task that needs several waits for all, and is skipped when one of them fails", async () => {
  const parts = (...names: string[]) => names.map((task) => ({ path: task, task }));
  const tasks = await run(
    sh("a", "echo a > f", { outputs: ["f"] }),
    sh("b", "echo b > f", { outputs: ["f"] }),
    sh("both", "cat a/f b/f > g", { outputs: ["g"], inputs: parts("a", "b") }),
    sh("bad", "exit 3"),
    sh("neither", "true", { inputs: parts("a", "bad") }),
    sh("after", "true", { inputs: parts("neither", "both") }),
    sh("twice", "cmp one/f two/f", { inputs: [{ path: "one", task: "a" }, { path: "two", task: "a" }] }),
  );
  expect(tasks.map(({ outcome }) => outcome?.kind)).toEqual([
    "exited",
    "exited",
    "exited",
    "exited",
    "skipped",
    "skipped",
    "exited",
  ]);
  expect(tasks[4]!.why).toMatch(/was skipped: its input .* exited with 3/);
  outputOf(tasks[6]!);
});

test("what does not fit is refused with both names: at once, or when it is there", async () => {
  const file = await tree({ "node_modules": "a file" });
  const other = await tree({ "node_modules/x": "x", "y": "y" });
  const name = `other-${keys}`;
  await client.names.compareAndSet(name, undefined, other);
  const both = await refused(sh("t", "true", { inputs: [{ snapshot: file }, { snapshot: name }] }));
  expect(both.code).toBe("PATH_INVALID");
  expect(both.message).toContain(
    `Cannot accept the job as the inputs of task "t" must fit: Cannot put snapshot ${file.slice(0, 12)} at "."`,
  );
  expect(both.message).toContain(`snapshot "${name}"`);
  const deps = sh("deps", "mkdir node_modules && echo > node_modules/x", { outputs: ["node_modules"] });
  // Early even when a task's output is to come.
  const early = await refused(
    deps,
    sh("t", "true", {
      inputs: [{ snapshot: file }, { snapshot: name }, { path: "a", task: "deps" }],
    }),
  );
  expect(early.code).toBe("PATH_INVALID");
  const [, over] = await run(
    deps,
    sh("t", "true", {
      inputs: [{ snapshot: file }, { path: "node_modules", task: "deps", subtree: "node_modules" }],
    }),
  );
  expect(over!.outcome).toMatchObject({ kind: "failed", fault: { code: "PATH_INVALID" } });
  expect(over!.why).toMatch(
    /Cannot put .*the output of task "deps" \(its "node_modules"\) at "node_modules".* into one tree/,
  );
  expect(over!.why).toContain(`snapshot ${file.slice(0, 12)} at "."`);
  const [, lacks, after] = await run(
    deps,
    sh("t", "true", { inputs: [{ path: "x", task: "deps", subtree: "nothing/here" }] }),
    sh("after", "true", { input: { kind: "task", task: "t" } }),
  );
  expect(lacks!.outcome).toMatchObject({ kind: "failed", fault: { code: "PATH_UNKNOWN" } });
  expect(lacks!.why).toContain('Cannot mount the output of task "deps" (its "nothing/here") at "x"');
  expect(after!.outcome?.kind).toBe("skipped");
});

test("inputs that cannot be are refused in one sentence, and nothing is begun", async () => {
  const cases: readonly [string, TaskSpecInput[], RegExp][] = [
    ["REF_UNKNOWN", [sh("t", "true", { inputs: [{ snapshot: "nobody" }] })], /no snapshot is called "nobody"/],
    ["PATH_INVALID", [sh("t", "true", { inputs: [{ path: "../x", snapshot: emptyDigest }] })], /task "t".*stay inside/],
    ["PATH_INVALID", [sh("t", "true", { inputs: [{ path: "/x", snapshot: emptyDigest }] })], /task "t".*relative/],
    ["JOB_INVALID", [sh("t", "true", { inputs: [{ path: "x", task: "none" }] })], /"none", which is no task/],
    ["JOB_INVALID", [
      sh("a", "true", { inputs: [{ path: "x", task: "b" }] }),
      sh("b", "true", { inputs: [{ path: "y", task: "c" }, { path: "x", task: "a" }] }),
      sh("c", "true"),
    ], /a → b → a/],
    [
      "SNAPSHOT_UNKNOWN",
      [sh("t", "true", { inputs: [{ path: "x", snapshot: `${"0".repeat(64)}/9` }] })],
      /input of task "t" must be in the cluster's store/,
    ],
    ["REQUEST_INVALID", [sh("t", "true", { inputs: [{ path: "x" }] })], /must have a snapshot or a task/],
    [
      "REQUEST_INVALID",
      [sh("t", "true", { input: { kind: "snapshot", snapshot: emptyDigest }, inputs: [] })],
      /must have input or inputs, not both/,
    ],
    [
      "REQUEST_INVALID",
      [sh("t", "true", { inputs: Array.from({ length: 101 }, () => ({ snapshot: emptyDigest })) })],
      /inputs/,
    ],
  ];
  for (const [code, tasks, message] of cases) {
    const thrown = await refused(...tasks);
    expect({ code: thrown.code, message: thrown.message }).toEqual({ code, message: expect.stringMatching(message) });
    expect(thrown.message).not.toContain("\n");
  }
});

test("output: full is the inputs with what was made laid over them, by a run and by a hit; the result is one", async () => {
  const source = await tree({ "src/a": "1", "src/b": "2", "old": "o" });
  const script = "echo new > src/a && mkdir out && echo x > out/x";
  const task = (more: Partial<TaskSpecInput>) =>
    sh("t", script, { outputs: ["src/a", "out"], input: { kind: "snapshot", snapshot: source }, ...more });
  const [ran] = await run(task({ output: "full" }));
  const [hit] = await run(task({ output: "full" }));
  const [only] = await run(task({ output: "only" }));
  const [plain] = await run(task({}));
  expect([ran, hit, only, plain].map((one) => one!.cached?.taskId)).toEqual([
    undefined,
    ran!.taskId,
    ran!.taskId,
    ran!.taskId,
  ]);
  expect(await paths(outputOf(ran!))).toEqual(["old", "out", "out/x", "src", "src/a", "src/b"]);
  expect(await paths(outputOf(plain!))).toEqual(["out", "out/x", "src", "src/a"]);
  expect(outputOf(hit!)).toBe(outputOf(ran!));
  expect(outputOf(only!)).toBe(outputOf(plain!));
  expect(outputOf(ran!)).toBe(await overlay(client.blobs, source, outputOf(only!)!));

  // The other way round: what a run with outputs alone left serves one that wants all.
  const different = (more: Partial<TaskSpecInput>) => ({ ...task(more), env: { N: "1" } });
  const [first] = await run(different({}));
  const [second] = await run(different({ output: "full" }));
  expect(second!.cached?.taskId).toBe(first!.taskId);
  expect(outputOf(second!)).toBe(outputOf(ran!));

  // A chain of tasks that each go on where the one before ended; and those that make nothing, of something and of nothing.
  const chain = await run(
    task({ name: "a", output: "full" }),
    sh("b", "cat src/b out/x > out/y", { input: { kind: "task", task: "a" }, outputs: ["out/y"], output: "full" }),
    sh("c", "test -e old", { input: { kind: "task", task: "b" }, output: "full" }),
    sh("d", "true", { output: "full" }),
    sh("e", "echo > f", { outputs: ["f"], output: "full" }),
    sh("f", "exit 1", { outputs: ["f"], output: "full", input: { kind: "snapshot", snapshot: source } }),
  );
  expect(await paths(outputOf(chain[1]!))).toEqual(["old", "out", "out/x", "out/y", "src", "src/a", "src/b"]);
  expect(outputOf(chain[2]!)).toBe(outputOf(chain[1]!));
  expect(outputOf(chain[3]!)).toBe(emptyDigest);
  expect(await paths(outputOf(chain[4]!))).toEqual(["f"]);
  expect(chain[5]!.outcome).toMatchObject({ kind: "exited", exitCode: 1 });
});

test("tasks that wait for trees get them after the gateway and the scheduler were killed", async () => {
  const source = await tree({ "src/a": "kill" });
  const job = await submit(
    ...Array.from({ length: 20 }, (_, at) => [
      sh(`make-${at}`, `echo ${at} > f`, { outputs: ["f"] }),
      sh(`use-${at}`, "cat src/a made/f > g", {
        inputs: [{ snapshot: source }, { path: "made", task: `make-${at}` }],
        outputs: ["g"],
        output: "full",
      }),
    ]).flat(),
  );
  for (const role of ["gateway", "scheduler", "gateway"] as const) {
    killIfThere(await until(`the ${role}`, () => cluster.pids(role)[0]), "SIGKILL");
  }
  const { tasks } = await ended(client, job);
  for (const [at, one] of tasks.entries()) {
    if (at % 2 === 1) expect(await paths(outputOf(one))).toEqual(["g", "made", "made/f", "src", "src/a"]);
  }
});

test("the job of docs/tasks.md, as a file: with a commit of the repository around the folder", async () => {
  const document = readFileSync(fileURLToPath(new URL("../../docs/tasks.md", import.meta.url)), "utf8");
  const dir = mkdtempSync(join(tmpdir(), "scoot-job-file-"));
  try {
    const git = (...args: string[]) =>
      execFileSync("git", ["-c", "user.name=a", "-c", "user.email=a@b", ...args], { cwd: dir, stdio: "pipe" });
    git("init", "-q");
    writeFileSync(join(dir, "committed"), "");
    git("add", "committed");
    git("commit", "-qm", "one");
    writeFileSync(join(dir, "later"), "");
    writeFileSync(join(dir, "job.json"), /```json\n([^`]*)```/.exec(document)![1]!);
    const submitted = await typeTo(cluster, dir, ["job", "submit", "job.json"]);
    expect(submitted).toMatchObject({ code: 0, stderr: "" });
    const { tasks } = await ended(client, jobId(submitted.stdout.trim()));
    expect(tasks.map(({ why }) => why)).toEqual(tasks.map(() => expect.stringMatching(/^It exited with 0/)));
    expect(await paths(outputOf(tasks[1]!))).toEqual([
      "build",
      "build/answer",
      "old",
      "old/committed",
      "vendor",
      "vendor/values.sh",
    ]);
    const unknown = { tasks: [sh("t", "true", { inputs: [{ revision: "nowhere" } as never] })] };
    writeFileSync(join(dir, "job.json"), JSON.stringify(unknown));
    const bad = await typeTo(cluster, dir, ["job", "submit", "job.json"]);
    expect(bad.code).not.toBe(0);
    expect(bad.stderr).toMatch(/Cannot capture revision "nowhere"/);

    writeFileSync(join(dir, "committed"), "changed");
    const scoot = { list: { inputs: ["committed"], mount: { was: { revision: "HEAD" } }, run: "ls . was" } };
    writeFileSync(join(dir, "scoot.json"), JSON.stringify(scoot));
    const done = await typeTo(cluster, dir, ["do", "list", "--json"]);
    expect({ code: done.code, stderr: done.stderr }).toMatchObject({ code: 0 });
    writeFileSync(
      join(dir, "scoot.json"),
      JSON.stringify({ list: { mount: { was: { revision: "none" } }, run: "ls" } }),
    );
    const none = await typeTo(cluster, dir, ["do", "list"]);
    expect(none.code).toBe(1);
    expect(none.stdout).toContain('Cannot capture revision "none"');
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
