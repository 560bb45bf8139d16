import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { typeTo } from "./command_line.ts";

let cluster: TestCluster;
let home: string;
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "scoot-do-"));
  cluster = await startCluster([], { dir: home });
});
afterAll(async () => {
  await cluster.stop();
  rmSync(home, { recursive: true, force: true });
});

function folder(files: Readonly<Record<string, string>> = {}): string {
  const dir = mkdtempSync(join(tmpdir(), "scoot-tasks-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(dir, path, ".."), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  return dir;
}
function example(name: string): string {
  const dir = folder();
  cpSync(fileURLToPath(new URL(`../../docs/examples/${name}`, import.meta.url)), dir, { recursive: true });
  return dir;
}

describe("the examples of docs/tasks.md", () => {
  test("a Node project builds and tests, and from another folder of another user nothing of it is run", async () => {
    const first = await typeTo(cluster, example("node"), ["do", "test"]);
    expect(first).toMatchObject({ code: 0 });
    expect(first.stdout).toMatch(/^done {5,}build {2}in .*\ndone {5,}test {2}in .*\n2 tasks: 2 ran, in .*\n$/);
    const second = await typeTo(cluster, example("node"), ["do", "test", "--requestor", "another"]);
    expect(second.code).toBe(0);
    expect(second.stdout).toMatch(
      /build {2}cached .*, saved .*\n.*test {2}cached .*\n2 tasks: 2 cached, in .*\(saved .*\)\n$/,
    );
  });

  test("a Node project that fails shows the last lines, the exit code, and what differs from the last good run", async () => {
    const dir = example("node");
    await typeTo(cluster, dir, ["do", "test"]);
    writeFileSync(join(dir, "src", "sum.js"), "export const sum = () => 5;\n");
    const bad = await typeTo(cluster, dir, ["do", "test"]);
    expect(bad.code).toBe(1);
    expect(bad.stdout).toMatch(/failed {4,}test {2}exited 1, after/);
    expect(bad.stdout).toMatch(/\n {2}\| .*5/);
    expect(bad.stdout).toMatch(/last good: j\S+ at .*; since then:\n {2}inputs:\n {4}~ dist\/sum\.js \(/);
    const task = /scoot-actors shell (\S+),/.exec(bad.stdout)![1]!;
    const shell = await typeTo(cluster, dir, ["shell", task, "--keep"]);
    expect(readFileSync(join(shell.world.ran[0]!.dir, "dist", "sum.js"), "utf8")).toContain("=> 5");
  });

  test("a Python project tests in shards, and runs what it packed", async () => {
    const dir = example("python");
    const { code, stdout } = await typeTo(cluster, dir, ["do", "test", "check"]);
    expect(stdout).toContain("3 tasks: 3 ran");
    expect(code).toBe(0);
    expect((await typeTo(cluster, dir, ["do", "test", "check"])).stdout).toContain("3 tasks: 3 cached");
  });

  test("a C project compiles only what changed, and brings its program back when asked", async () => {
    const dir = example("c");
    expect((await typeTo(cluster, dir, ["do", "test"])).stdout).toContain("4 tasks: 4 ran");
    expect(existsSync(join(dir, "greet"))).toBe(false);
    writeFileSync(join(dir, "src", "main.c"), '#include "greet.h"\n\nint main(void) {\n  greet("world");\n}\n');
    const again = await typeTo(cluster, dir, ["do", "test", "link", "--download"]);
    expect(again.stdout).toMatch(/compile greet {2}cached/);
    expect(again.code).toBe(0);
    expect(existsSync(join(dir, "greet"))).toBe(true);
    expect(existsSync(join(dir, "main.o"))).toBe(false);
  });
});

/** What breaks an example, and what its failure tells: the task, its last lines, what differs from when it was good. */
const broken = [
  {
    name: "node",
    ran: 2,
    path: "src/sum.js",
    text: "export const sum = () => 5;\n",
    tells: /\ntest: exited 1\n(?: {2}\|.*\n)* {2}\| .*5/,
    differs: "~ dist/sum.js",
    shell: ["cat", "dist/sum.js"],
    shows: "=> 5",
  },
  {
    name: "python",
    ran: 1,
    path: "src/words.py",
    text: "def counts(words):\n    return {'broken': 1}\n\n\ndef main():\n    pass\n",
    tells: /\ntest: exited 1\n(?: {2}\|.*\n)* {2}\| AssertionError: \{'broken': 1\} != /,
    differs: "~ src/words.py",
    shell: ["python3", "-c", "import words; print(words.counts([]))"],
    shows: "{'broken': 1}",
  },
  {
    name: "c",
    ran: 4,
    path: "src/greet.c",
    text: '#include "greet.h"\n#include <stdio.h>\n\nvoid greet(const char *name) { printf("bye, %s\\n", name); }\n',
    tells: /\ntest: exited 1\n/,
    differs: "~ greet (",
    shell: ["./greet"],
    shows: "bye, world",
  },
] as const;

describe.each(broken)("the $name example", ({ name, ran, path, text, tells, differs, shell, shows }) => {
  test("is run once for all, fails with a message that helps, and opens a shell in the failed tree", async () => {
    const requestor = ["--requestor", `of ${name}`];
    const first = await typeTo(cluster, example(name), ["do", "test", "--refresh", ...requestor]);
    expect(first.stdout).toMatch(new RegExp(`\n${ran} tasks?: ${ran} ran, in `));
    const second = await typeTo(cluster, example(name), ["do", "test", "--json", "--requestor", "another user"]);
    const told = second.stdout.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(told.find(({ type }) => type === "captured")).toMatchObject({ sentFiles: 0, sentBytes: 0 });
    expect(told.at(-1)).toMatchObject({ type: "summary", cached: ran, ran: 0, failed: 0 });

    const dir = example(name);
    writeFileSync(join(dir, path), text);
    const bad = await typeTo(cluster, dir, ["do", "test", ...requestor]);
    expect(bad.code).toBe(1);
    expect(bad.stdout).toMatch(tells);
    expect(bad.stdout).toMatch(/last good: j\S+ at .*; since then:\n {2}inputs:\n/);
    expect(bad.stdout).toContain(differs);
    expect(bad.stdout).toMatch(/in a browser: http:\/\/127\.0\.0\.1:\d+\/#\/job\/j/);
    const task = /scoot-actors shell (\S+),/.exec(bad.stdout)![1]!;
    let output = "";
    const opened = await typeTo(cluster, dir, ["shell", task, "--", ...shell], {
      runHere({ argv: [program, ...args], env, dir }) {
        const { stdout, status } = spawnSync(program!, args, { env, cwd: dir, encoding: "utf8" });
        output = stdout;
        return Promise.resolve(status ?? 1);
      },
    });
    expect(output).toContain(shows);
    expect(opened.code).toBe(0);
  });
});

test("tasks that need one that failed are skipped, the others are run", async () => {
  const dir = folder({
    "scoot.json": JSON.stringify({
      bad: { inputs: [], run: "echo reason >&2; exit 9", out: ["x"] },
      needs: { inputs: [], mount: { x: "bad" }, run: "true" },
      other: { inputs: [], run: "echo other-of-skipped" },
    }),
  });
  const { code, stdout } = await typeTo(cluster, dir, ["do", "needs", "other"]);
  expect(code).toBe(1);
  expect(stdout).toMatch(/skipped {3,}needs {2}it needs bad\n/);
  expect(stdout).toContain("bad: exited 9\n  | reason\n");
  expect(stdout).toMatch(/3 tasks: 1 (ran|cached), 1 failed, 1 skipped/);
});

test.each([
  ["an output that is not made", { t: { inputs: [], run: "true", out: ["made.txt"] } }, /t: failed by us: .*made\.txt/],
  ["a mount over a file", {
    a: { inputs: [], run: "echo 1 > f", out: ["f"] },
    t: { inputs: ["f"], mount: { f: "a" }, run: "true" },
  }, /t: Cannot put the .* and the .*"f"/],
  ["a mount of what a task did not make", {
    a: { inputs: [], run: "echo 1 > f", out: ["f"] },
    t: { inputs: [], mount: { x: { task: "a", from: "g" } }, run: "true" },
  }, /t: Cannot .*read "g"/],
  ["a mount of a task without outputs", {
    a: { inputs: [], run: "true" },
    t: { inputs: [], mount: { x: "a" }, run: "true" },
  }, /t: Cannot mount the output of "a" at "x" as it must declare what it makes/],
  [
    "an input that matches nothing",
    { t: { inputs: ["src/**", "f"], run: "true" } },
    /t: Cannot take "src\/\*\*" as each input must match/,
  ],
  ["shards that make different things at one path", {
    t: { inputs: [], run: "echo $SCOOT_SHARD > f", out: ["f"], shards: 2 },
  }, /t: Cannot put together what the shards of "t" made: .*"t 1\/2".*"t 2\/2"/],
])("%s is told in one sentence, and the task fails", async (_, tasks, sentence) => {
  const dir = folder({ "scoot.json": JSON.stringify(tasks), f: "a file" });
  const { code, stdout } = await typeTo(cluster, dir, ["do", "t"]);
  expect(stdout).toMatch(sentence);
  expect(code).toBe(1);
});

test("--watch does it again after a change, and ends with Ctrl-C", async () => {
  const dir = folder({ "scoot.json": JSON.stringify({ t: { inputs: ["f"], run: "cat f" } }), f: "first" });
  let change = (): void => {};
  const done = typeTo(cluster, dir, ["do", "t", "--watch"], {
    watchFolder(_, onChange) {
      change = onChange;
      return () => {};
    },
    onWorld(world) {
      void (async () => {
        await world.stderr.holds("waiting for a file to change");
        writeFileSync(join(dir, "f"), "second");
        change();
        await until("the second time", () => world.stderr.text().split("waiting for a file").length === 3);
        world.signal("SIGINT");
      })();
    },
  });
  const { code, stdout } = await done;
  expect(stdout.match(/1 task: 1 ran/g)).toHaveLength(2);
  expect(code).toBe(130);
});
