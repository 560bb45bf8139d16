import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { cliArgs, processesWith, runProgram, scoot, startCluster, until } from "./support/cluster.ts";

/** `deno task integration [WORD]`: the CLI as a user types it, on real source trees, with everything killed that can be. */

const home = mkdtempSync(join(tmpdir(), "scoot-integration-"));
const write = (path: string, text: string, mode = 0o644): void => {
  mkdirSync(join(home, path, ".."), { recursive: true });
  writeFileSync(join(home, path), text);
  chmodSync(join(home, path), mode);
};
const git = (dir: string, ...args: string[]): string =>
  execFileSync("git", ["-C", join(home, dir), "-c", "user.name=t", "-c", "user.email=t@example.invalid", ...args], {
    encoding: "utf8",
  });

write("c/main.c", '#include <stdio.h>\n#include "sum.h"\nint main(void) { printf("%d\\n", sum(2, 3)); return 0; }\n');
write("c/sum.h", "int sum(int a, int b);\n");
write("c/sum.c", '#include "sum.h"\nint sum(int a, int b) { return a + b; }\n');
write(
  "c/Makefile",
  "app: main.o sum.o\n\tcc -o app main.o sum.o\n%.o: %.c sum.h\n\tcc -c $<\ntest: app\n\t./check.sh\nclean:\n\trm -f app *.o\n",
);
write("c/check.sh", '#!/bin/sh\n[ "$(./app)" = 5 ] && echo passed || { echo failed; exit 1; }\n', 0o755);
write("c/.gitignore", "*.o\n/app\nlogs/*\n!logs/keep\n");
write("c/logs/keep", "");
write("c/logs/drop", "");
write("c/.env", "SECRET=1\n");
write("c/.env.local", "SECRET=2\n");
write("c/deep/.gitignore", "*.tmp\n!important.tmp\n");
write("c/deep/a.tmp", "");
write("c/deep/important.tmp", "");
write("c/with space/ü.txt", "x");
symlinkSync("../sum.h", join(home, "c/deep/link"));
git("c", "init", "-q");
git("c", "add", "-A");
git("c", "rm", "-q", "--cached", ".env", ".env.local");
git("c", "commit", "-qm", "one");
write("c/untracked.c", "");

write("node/package.json", '{"type":"module","scripts":{"test":"node --test"}}\n');
write("node/sum.js", "export const sum = (a, b) => a + b;\n");
write(
  "node/sum.test.js",
  'import test from "node:test";\nimport assert from "node:assert";\nimport { sum } from "./sum.js";\ntest("sums", () => assert.equal(sum(2, 3), 5));\n',
);
git("node", "init", "-q");
git("node", "add", "-A");
git("node", "commit", "-qm", "one");

const cluster = await startCluster(["--workers", "2", "--slots", "2"]);
const run = (args: string[], cwd = "c", onStart?: (child: import("node:child_process").ChildProcess) => void) =>
  scoot(cluster, args, { cwd: join(home, cwd), ...(onStart === undefined ? {} : { onStart }) });
const json = (text: string): Record<string, unknown>[] =>
  text.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);

const checks: Record<string, () => Promise<void>> = {
  async "run sees exactly the files that git would keep, less .env*"() {
    const seen = await run(["run", "--dir", ".", "--", "sh", "-c", "find . -type f -o -type l | sort"]);
    assert.equal(seen.code, 0, seen.stderr);
    const kept = git("c", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0").filter((path) =>
      path !== "" && !/(^|\/)\.env/.test(path)
    );
    assert.deepEqual(
      seen.stdout.split("\n").filter((line) => line !== "").sort(),
      kept.map((path) => `./${path}`).sort(),
    );
    assert.match(seen.stderr, /left out/);
    assert.match(seen.stderr, /\.env/);
  },
  async "a C build and its test give what they give locally, and the program comes back"() {
    const local = await runProgram("make", ["test"], { cwd: join(home, "c") });
    await runProgram("make", ["clean"], { cwd: join(home, "c") });
    const remote = await run(["run", "--out", "app", "--", "make", "test"]);
    assert.equal(remote.code, local.code, remote.stderr);
    assert.equal(remote.stdout, local.stdout);
    assert.equal((await runProgram(join(home, "c/app"), [])).stdout, "5\n");
    assert.ok(!existsSync(join(home, "c/main.o")), "only what was asked for comes back");
    const broken = await run([
      "run",
      "--",
      "sh",
      "-c",
      "echo 'int sum(int a, int b) { return 0; }' > sum.c; make test",
    ]);
    assert.equal(broken.code, 2, "make's own code");
    assert.match(broken.stdout, /failed/);
  },
  async "a Node test gives what it gives locally"() {
    const local = await runProgram("node", ["--test"], { cwd: join(home, "node") });
    const remote = await run(["run", "--", "node", "--test"], "node");
    assert.equal(remote.code, local.code, remote.stderr);
    const stable = (text: string): string =>
      text.replaceAll(/duration_ms:? [\d.]+/g, "").replaceAll(/\([\d.]+ms\)/g, "").replaceAll(/\/\S+\//g, "");
    assert.equal(stable(remote.stdout), stable(local.stdout));
  },
  async "exit codes: the command's, a signal, a time limit, a command that is not there"() {
    assert.equal((await run(["run", "--", "sh", "-c", "exit 42"])).code, 42);
    assert.equal((await run(["run", "--", "sh", "-c", "kill -SEGV $$"])).code, 139);
    const late = await run(["run", "--timeout", "300ms", "--", "sleep", "60"]);
    assert.equal(late.code, 124, late.stderr);
    const none = await run(["run", "--", "no-such-command-here"]);
    assert.equal(none.code, 125);
    assert.match(none.stderr, /no-such-command-here/);
    const missing = await run(["run", "--out", "never-made", "--", "true"]);
    assert.equal(missing.code, 125);
    assert.match(missing.stderr, /never-made/);
  },
  async "the environment is what was given, and streams are apart"() {
    const ran = await run([
      "run",
      "--env",
      "A=b c",
      "--",
      "sh",
      "-c",
      "env | sort | cut -d= -f1; echo $A; echo err >&2",
    ]);
    assert.equal(ran.stdout, "A\nHOME\nPATH\nPWD\nSOURCE_DATE_EPOCH\nb c\n");
    assert.match(ran.stderr, /err\n/);
  },
  async "Ctrl-C kills the task, and the CLI exits with 130"() {
    const mark = join(home, "interrupted");
    const ran = await run(["run", "--", "sh", "-c", `echo started; sleep 30; touch ${mark}`], "c", (child) => {
      child.stdout!.once("data", () => process.kill(child.pid!, "SIGINT"));
    });
    assert.equal(ran.code, 130, ran.stderr);
    assert.ok(!existsSync(mark));
    assert.deepEqual(processesWith(`touch ${mark}`), []);
  },
  async "a job from a file: submit, watch, status, logs, list, kill"() {
    write(
      "job.json",
      JSON.stringify({
        key: "k1",
        tasks: [
          { name: "make", argv: ["sh", "-c", "echo made > f; echo one"], outputs: ["f"] },
          { name: "use", argv: ["cat", "f"], input: { kind: "task", task: "make" } },
        ],
      }),
    );
    const submitted = await run(["job", "submit", join(home, "job.json"), "--json"]);
    assert.equal(submitted.code, 0, submitted.stderr);
    const jobId = String(json(submitted.stdout)[0]!["jobId"]);
    assert.equal(
      String(json((await run(["job", "submit", join(home, "job.json"), "--json"])).stdout)[0]!["jobId"]),
      jobId,
      "the same key is the same job",
    );
    assert.equal((await run(["job", "watch", jobId])).code, 0);
    assert.match((await run(["job", "status", jobId])).stdout, /succeeded/);
    assert.equal((await run(["job", "logs", `${jobId}/1`])).stdout, "made\n");
    assert.match((await run(["job", "list"])).stdout, new RegExp(jobId));
    const sleeping = json((await run(["job", "submit", "--json", "--", "sleep", "60"])).stdout)[0]!["jobId"] as string;
    assert.equal((await run(["job", "kill", sleeping])).code, 0);
    await until(
      "the job to be cancelled",
      async () => /cancelled/.test((await run(["job", "status", sleeping])).stdout),
    );
    assert.match((await run(["workers"])).stdout, /w1/);
  },
  async "a job goes out as a file and comes back in another cluster"() {
    const submitted = await run(["job", "submit", "--json", "--", "sh", "-c", "echo kept"]);
    const jobId = String(json(submitted.stdout)[0]!["jobId"]);
    assert.equal((await run(["job", "watch", jobId])).code, 0);
    const file = join(home, "job.sealed");
    const exported = await run(["job", "export", jobId, file]);
    assert.equal(exported.code, 0, exported.stderr);
    const other = await startCluster(["--workers", "0"]);
    try {
      const imported = await scoot(other, ["job", "import", file]);
      assert.equal(imported.code, 0, imported.stderr);
      assert.match((await scoot(other, ["job", "status", jobId])).stdout, /succeeded/);
      assert.equal((await scoot(other, ["job", "logs", jobId])).stdout, "kept\n");
      writeFileSync(file, readFileSync(file).subarray(0, 100));
      assert.equal((await scoot(other, ["job", "import", file])).code, 1, "a torn file is refused");
    } finally {
      await other.stop();
    }
  },
  async "snapshots: capture, ls, cat, name, checkout, run"() {
    const captured = json((await run(["snapshot", "capture", "--json"])).stdout)[0]!;
    const id = String(captured["snapshot"]);
    assert.match((await run(["snapshot", "ls", id])).stdout, /sum\.c/);
    assert.equal((await run(["snapshot", "cat", id, "sum.h"])).stdout, "int sum(int a, int b);\n");
    assert.equal((await run(["snapshot", "name", "release", id])).code, 0);
    const out = join(home, "out");
    const checkedOut = await run(["snapshot", "checkout", "release", out]);
    assert.equal(checkedOut.code, 0, checkedOut.stderr);
    assert.equal(readFileSync(join(out, "sum.h"), "utf8"), "int sum(int a, int b);\n");
    assert.equal(
      (await run(["run", "--snapshot", "release", "--", "cat", "sum.h"])).stdout,
      "int sum(int a, int b);\n",
    );
    const unknown = await run(["run", "--snapshot", `${"0".repeat(64)}/5`, "--", "true"]);
    assert.notEqual(unknown.code, 0);
    assert.match(unknown.stderr, /0000/);
  },
  async "wrong words are told in a sentence, with exit code 2"() {
    for (
      const args of [["rnu"], ["run"], ["run", "--timout", "3s", "--", "true"], ["job", "status"], [
        "run",
        "--timeout",
        "soon",
        "--",
        "true",
      ]]
    ) {
      const ran = await run(args);
      assert.equal(ran.code, 2, `${args.join(" ")}: ${ran.stderr}`);
      assert.equal(ran.stdout, "");
      assert.ok(ran.stderr.split("\n").length <= 4, ran.stderr);
    }
  },
  async "bad jobs are refused with a code and a sentence, and the cluster goes on"() {
    const post = async (body: string, headers: Record<string, string> = {}) => {
      const answer = await fetch(`${cluster.ready.http}/v1/jobs`, {
        method: "POST",
        body,
        headers: { "content-type": "application/json", authorization: `Bearer ${cluster.token}`, ...headers },
      });
      return { status: answer.status, ...(await answer.json() as { code?: string; message?: string }) };
    };
    const task = { name: "t", argv: ["true"] };
    const cases: [unknown, string][] = [
      [{ key: "k", tasks: [task], extra: 1 }, "REQUEST_INVALID"],
      [{ key: "k", tasks: [{ ...task, argv: [] }] }, "REQUEST_INVALID"],
      [{ key: "k", tasks: [{ ...task, argv: ["a\0b"] }] }, "REQUEST_INVALID"],
      [{ key: "k", tasks: "none" }, "REQUEST_INVALID"],
      [{ key: "k", tasks: [task, task] }, "JOB_INVALID"],
      [{
        key: "k",
        tasks: [{ ...task, input: { kind: "task", task: "u" } }, {
          ...task,
          name: "u",
          input: { kind: "task", task: "t" },
        }],
      }, "JOB_INVALID"],
      [
        { key: "k", tasks: [{ ...task, input: { kind: "snapshot", snapshot: `${"1".repeat(64)}/9` } }] },
        "SNAPSHOT_UNKNOWN",
      ],
      [{ key: "k", tasks: [{ ...task, outputs: ["../out"] }] }, "PATH_INVALID"],
    ];
    for (const [body, code] of cases) {
      const refused = await post(JSON.stringify(body));
      assert.equal(refused.code, code, JSON.stringify(refused));
      assert.ok(refused.message !== undefined && refused.message.length > 20);
    }
    assert.equal((await post("{", {})).code, "REQUEST_INVALID");
    assert.equal((await post("{}", { "content-type": "text/plain" })).status, 415);
    assert.equal((await post("{}", { authorization: "Bearer wrong" })).status, 401);
    assert.equal((await post("{}", { origin: "http://evil.example" })).status, 403);
    assert.equal((await run(["run", "--", "true"])).code, 0);
  },
  async "kill -9 of the gateway in the middle of a run: its output is whole, its exit code is 0"() {
    const before = cluster.pids("gateway");
    const ran = await run(
      ["run", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.1; done"],
      "c",
      (child) => {
        child.stdout!.once("data", () => before.forEach((pid) => process.kill(pid, "SIGKILL")));
      },
    );
    assert.equal(ran.code, 0, ran.stderr);
    assert.equal(ran.stdout, [1, 2, 3, 4, 5, 6, 7, 8].map((i) => `line ${i}\n`).join(""));
    assert.notDeepEqual(cluster.pids("gateway"), before);
  },
  async "kill -9 of the workers: their tasks die with them, and run again elsewhere with that reason"() {
    const marks = join(home, "marks");
    writeFileSync(marks, "");
    const ran = run([
      "run",
      "--",
      "sh",
      "-c",
      `echo begin >> ${marks}; (sleep 1; echo stray >> ${marks}) & sleep 1; echo end >> ${marks}; wait`,
    ]);
    await until("the task to begin", () => readFileSync(marks, "utf8").includes("begin"));
    for (const pid of cluster.pids("worker")) process.kill(pid, "SIGKILL");
    await until(
      "its processes to be gone",
      () => processesWith(`stray >> ${marks}`).length === 0 || readFileSync(marks, "utf8").split("begin").length > 2,
    );
    assert.equal((await ran).code, 0, (await ran).stderr);
    assert.deepEqual(
      readFileSync(marks, "utf8").trim().split("\n").sort(),
      ["begin", "begin", "end", "stray"],
      "the first attempt left nothing behind",
    );
    const jobId = json((await run(["job", "list", "--json"])).stdout)[0]!["jobId"] as string;
    assert.match((await run(["job", "status", jobId])).stdout, /restarted|lost/);
  },
  async "a second cluster on the same data names the first, and a busy port is one sentence"() {
    const second = await runProgram(
      process.execPath,
      cliArgs("cluster", "--data", join(cluster.dir, "data"), "--port", "0"),
    );
    assert.notEqual(second.code, 0);
    assert.match(second.stderr, new RegExp(String(cluster.process.pid)));
    const port = new URL(cluster.ready.http).port;
    const busy = await runProgram(process.execPath, cliArgs("cluster", "--data", join(home, "data2"), "--port", port));
    assert.equal(busy.code, 2, busy.stderr);
    assert.match(busy.stderr, new RegExp(port));
    const open = await runProgram(
      process.execPath,
      cliArgs("cluster", "--data", join(home, "data3"), "--port", "0", "--host", "0.0.0.0"),
    );
    assert.notEqual(open.code, 0);
    assert.match(open.stderr, /--allow-network/);
  },
  async "kill -9 of the door leaves no process, and what was accepted goes on at the next start"() {
    const dir = mkdtempSync(join(tmpdir(), "scoot-door-"));
    const mark = join(dir, "ran");
    const first = await startCluster(["--workers", "1", "--slots", "1"], { dir });
    const blocked = await scoot(first, ["job", "submit", "--json", "--", "sh", "-c", "sleep 60"]);
    assert.equal(blocked.code, 0, blocked.stderr);
    const waiting = await scoot(first, ["job", "submit", "--json", "--", "sh", "-c", `touch ${mark}`]);
    assert.equal(waiting.code, 0, waiting.stderr);
    process.kill(first.process.pid!, "SIGKILL");
    await until("all of its processes to be gone", () => processesWith(join(dir, "data")).length === 0, 20_000);
    rmSync(join(dir, "ready.json"), { force: true });
    const second = await startCluster(["--workers", "1", "--slots", "2"], { dir });
    try {
      await until("the queued task to run", () => existsSync(mark));
      assert.equal((await scoot(second, ["job", "kill", String(json(blocked.stdout)[0]!["jobId"])])).code, 0);
    } finally {
      await second.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  },
  async "stop stops it, and says so"() {
    const other = await startCluster(["--workers", "1"]);
    const stopped = await scoot(other, ["stop"]);
    assert.equal(stopped.code, 0, stopped.stderr);
    assert.equal(await other.stop(), 0);
    const none = await scoot(other, ["workers"]);
    assert.notEqual(none.code, 0);
  },
};

const word = process.argv[2] ?? "";
let passed = 0;
let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  if (!name.includes(word)) continue;
  const startedMs = performance.now();
  try {
    await check();
    passed++;
    console.log(`ok   ${name} (${((performance.now() - startedMs) / 1_000).toFixed(1)} s)`);
  } catch (thrown) {
    failed++;
    console.log(`FAIL ${name}\n     ${String((thrown as Error).message).replaceAll("\n", "\n     ")}`);
  }
}
const code = await cluster.stop().catch((thrown) => void console.log(String(thrown)));
if (code !== 0) {
  failed++;
  console.log(`FAIL the cluster exited with ${code}:\n${cluster.log()}`);
}
rmSync(home, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
