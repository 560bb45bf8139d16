import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootId, inheritedDescriptors, processesSince, processInfo } from "../../src/runner/proc.ts";
import { processRunner } from "../../src/runner/process.ts";
import type { Exit, Runner, RunRequest } from "../../src/runner/runner.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import { requestIn, runnerContract, temporaryFolder } from "./runner_contract.ts";

runnerContract("processRunner()", (dir) => processRunner({ dir, clock: realClock }), {
  says: (stdout, stderr, exitCode) => ["/bin/sh", "-c", `echo ${stdout}; echo ${stderr} >&2; exit ${exitCode}`],
  sleeps: (ms) => ["sleep", `${ms / 1000}`],
  cannotStart: ["no-such-command"],
});

const isDeno = "deno" in process.versions;
const isAlive = (pid: number): boolean => processInfo(pid)?.isDead === false;

/** Waits until the check gives something true, at most ten seconds. */
async function eventually<T>(what: string, check: () => T | undefined | false): Promise<T> {
  for (const endsAtMs = realClock.now() + 10_000; realClock.now() < endsAtMs;) {
    const found = check();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`waited ten seconds in vain until ${what}`);
}

/** The number that a command wrote to a file, once it is there whole. */
const numberIn = (path: string): Promise<number> =>
  eventually(
    `${path} holds a number`,
    () => existsSync(path) && Number(/^(\d+)\n/.exec(readFileSync(path, "utf8"))?.[1] || NaN) || undefined,
  );

describe("processRunner()", () => {
  let dir = "";
  let runner: Runner;
  const spawned: ChildProcess[] = [];
  beforeEach(() => {
    dir = temporaryFolder();
    runner = processRunner({ dir: join(dir, "records"), clock: realClock });
  });
  afterEach(async () => {
    await runner.close();
    for (const child of spawned.splice(0)) child.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  });

  const start = (argv: readonly string[], override: Partial<RunRequest> = {}) =>
    runner.start(requestIn(dir, argv, override));
  const run = async (argv: readonly string[], override: Partial<RunRequest> = {}): Promise<Exit> =>
    await (await start(argv, override)).exit;
  const sh = (script: string): readonly string[] => ["/bin/sh", "-c", script];
  /** What a command printed of its environment, without what Deno adds when this process has descriptors to hide. */
  const variables = (): string[] =>
    stdout().trimEnd().split("\n").sort().filter((line) =>
      !(inheritedDescriptors().length > 0 && line.startsWith("DENO_EXTRA_STDIO_FDS="))
    );
  const stdout = (): string => readFileSync(join(dir, "stdout"), "utf8");
  const refusal = async (argv: readonly string[], override: Partial<RunRequest> = {}): Promise<string> => {
    const thrown = await start(argv, override).catch((thrown: unknown) => thrown) as { code: string; message: string };
    return `${thrown.code} ${thrown.message}`;
  };

  describe("starts exactly what was asked:", () => {
    test("the environment is the given one and nothing else", async () => {
      await run(["/usr/bin/env"], { env: { B: "two words", A: "" } });
      expect(variables()).toEqual(["A=", "B=two words"]);
    });

    test("the arguments arrive unchanged, the first one included", async () => {
      const argv = ["sh", "-c", 'tr "\\0" "\\n" < /proc/$$/cmdline', "a b", "", "ü\n'\"$X"];
      await run(argv);
      expect(stdout()).toBe(argv.join("\n") + "\n");
    });

    test("arguments that name the runtime itself arrive unchanged", async () => {
      const argv = ["printf", "%s\n", process.execPath, "x.js", `cd /; ${process.execPath} it's && $RUNTIME run`];
      await run(argv, { env: { RUNTIME: process.execPath, PATH: "/usr/bin:/bin" } });
      expect(stdout()).toBe(argv.slice(2).join("\n") + "\n");
      const print = "cat /proc/$$/environ | tr '\\0' '\\n'";
      await run(sh(print), { env: { RUNTIME: process.execPath } });
      expect(variables()).toEqual([`RUNTIME=${process.execPath}`]);
      const args = isDeno
        ? ["eval", "console.log(Deno.args.join())", "--", "a"]
        : ["-p", "process.argv.slice(1).join()", "a"];
      await run([process.execPath, ...args], { env: { HOME: dir } });
      expect(stdout()).toBe("a\n");
    });

    test("N-2 N-9: the command leads a session and a group of its own, in the given folder, with nothing to read", async () => {
      const running = await start(sh("pwd; cat; cut -d' ' -f5,6 /proc/$$/stat"));
      await running.exit;
      expect(stdout()).toBe(`${dir}\n${running.pid} ${running.pid}\n`);
    });

    test("the command gets no descriptor of this process, such as its channel to a supervisor", async () => {
      await run(["ls", "-l", "/proc/self/fd"]);
      expect(stdout()).not.toMatch(/ [0-9] -> (socket|anon_inode):/);
      expect(stdout()).toMatch(/ 0 -> \/dev\/null\n/);
    });

    test("a bare name is sought in the PATH of the command's environment, or in a default one", async () => {
      mkdirSync(join(dir, "bin"));
      writeFileSync(join(dir, "bin", "greet"), "#!/bin/sh\necho hello\n", { mode: 0o755 });
      await run(["greet"], { env: { PATH: `/nowhere:${join(dir, "bin")}` } });
      expect(stdout()).toBe("hello\n");
      expect(await run(["true"], { env: {} })).toMatchObject({ exitCode: 0 });
      expect(await run(["bin/greet"], { env: {} })).toMatchObject({ exitCode: 0 });
    });

    test("N-7: a command that is still being written by someone is tried again", async () => {
      const busy = join(dir, "busy");
      copyFileSync("/bin/true", busy);
      const fd = openSync(busy, "r+");
      const exit = run([busy]);
      setTimeout(() => closeSync(fd), 15);
      expect(await exit).toMatchObject({ kind: "exited", exitCode: 0 });
    });
  });

  describe("says why a command could not be started:", () => {
    test.each<[string, readonly string[], Partial<RunRequest>, string]>([
      [
        "a name that PATH does not have",
        ["no-such"],
        { env: { PATH: "/bin" } },
        'it must be found in PATH, which is "/bin"',
      ],
      ["a path that does not exist", ["./no-such"], {}, "it does not exist"],
      ["a folder", ["/tmp"], {}, "it is not a file"],
      ["a file that is not executable", ["/etc/passwd"], {}, "it is not executable"],
      ["a working folder that does not exist", ["true"], { cwd: "/no/such" }, "its working folder must exist"],
      ["a working folder that is a file", ["true"], { cwd: "/etc/passwd" }, "its working folder must exist"],
      ["no command at all", [], {}, "its name must not be empty"],
      ["a NUL in an argument", ["true", "a\0b"], {}, "arguments must hold no NUL"],
      ["a NUL in a variable", ["true"], { env: { A: "a\0b" } }, "variables must have a name"],
      ["a variable without a name", ["true"], { env: { "": "x" } }, "variables must have a name"],
      ["arguments too long for the system", ["true", "x".repeat(200_000)], {}, "must fit into what the system takes"],
    ])("%s", async (_, argv, override, why) => {
      const message = await refusal(argv, override);
      expect(message).toMatch(/^COMMAND_NOT_STARTED Cannot start /);
      expect(message).toContain(why);
      expect(readdirSync(join(dir, "records"))).toEqual([]);
    });

    test("a script whose interpreter does not exist", async () => {
      writeFileSync(join(dir, "script"), "#!/no/such\n", { mode: 0o755 });
      expect(await refusal(["./script"])).toBe(
        'COMMAND_NOT_STARTED Cannot start "./script" as its interpreter must exist',
      );
    });
  });

  describe("tells how a command ended:", () => {
    test.each([["TERM", 143], ["KILL", 137], ["SEGV", 139]])("by SIG%s", async (signal, exitCode) => {
      expect(await run(sh(`kill -${signal} $$`))).toMatchObject({ kind: "exited", exitCode, signal: `SIG${signal}` });
    });

    // Node reports such an end as exit code 0 and leaves no trace of the signal.
    test.runIf(isDeno)("by a signal without a name", async () => {
      expect(await run(sh("kill -40 $$"))).toMatchObject({ kind: "exited", exitCode: 168, signal: "SIG40" });
    });
  });

  describe("leaves no process behind:", () => {
    test("what the command left in the background is killed when it exits", async () => {
      const exit = await run(sh(`sleep 600 & echo $! > one
        (sleep 600 > /dev/null 2>&1 & echo $! > two)
        setsid sleep 600 & echo $! > three
        exit 4`));
      expect(exit).toMatchObject({ kind: "exited", exitCode: 4 });
      for (const name of ["one", "two", "three"]) expect(isAlive(await numberIn(join(dir, name)))).toBe(false);
    });

    test("a descendant that left the session and closed the output is killed with a command that is stopped", async () => {
      const running = await start(sh("setsid sleep 600 > /dev/null 2>&1 & echo $! > stray; wait"));
      const stray = await numberIn(join(dir, "stray"));
      await eventually("the stray has its session", () => processInfo(stray)?.session === stray);
      running.stop("enough");
      await running.exit;
      expect(isAlive(stray)).toBe(false);
    });

    test("a process that only reads the output of a command is spared", async () => {
      const running = await start(["sleep", "600"]);
      const fd = openSync(join(dir, "stdout"), "r");
      const reader = spawn("/bin/sleep", ["600"], { stdio: ["ignore", fd, "ignore"] });
      closeSync(fd);
      spawned.push(reader);
      running.stop("enough");
      await running.exit;
      expect(isAlive(reader.pid ?? 0)).toBe(true);
    });
  });

  describe("ends a command gently, then not:", () => {
    test("a command has its grace to clean up, and so has its group", async () => {
      const running = await start(
        sh("(trap 'sleep 0.1; echo cleaned; exit' TERM; echo x > ready; while :; do sleep 0.01; done) & wait"),
      );
      await eventually("the trap is set", () => existsSync(join(dir, "ready")));
      running.stop("enough");
      expect(await running.exit).toMatchObject({ kind: "stopped" });
      expect(stdout()).toBe("cleaned\n");
    });

    test("one that ignores SIGTERM is killed when the grace is over, with its children", async () => {
      const running = await start(sh("trap '' TERM; sleep 600 & echo $! > child; wait; sleep 600"), { graceMs: 50 });
      const child = await numberIn(join(dir, "child"));
      const stoppedAtMs = realClock.now();
      running.stop("enough");
      const exit = await running.exit;
      expect(exit.kind).toBe("stopped");
      expect(exit.endedAtMs - stoppedAtMs).toBeGreaterThanOrEqual(50);
      expect(isAlive(child)).toBe(false);
    });

    test("a command that exits 0 on SIGTERM after its time limit is timed out all the same", async () => {
      const exit = await run(sh("trap 'exit 0' TERM; while :; do sleep 0.01; done"), { timeoutMs: 100 });
      expect(exit.kind).toBe("timedOut");
    });
  });

  test("a command that writes a gigabyte keeps little on disk, and is told what was cut", async () => {
    const running = await start(sh("head -c 1000000000 /dev/zero; echo end"), { outputBytesMax: 1_000_000 });
    let largest = 0;
    const timer = setInterval(() => largest = Math.max(largest, statSync(join(dir, "stdout")).size), 2);
    const exit = await running.exit;
    clearInterval(timer);
    expect(exit).toMatchObject({ kind: "exited", exitCode: 0 });
    expect(largest).toBeLessThan(500_000_000);
    expect(statSync(join(dir, "stdout")).size).toBe(1_000_000);
    // What is written between measuring and cutting is cut uncounted.
    expect(exit.stdoutTruncatedBytes / 999_000_004).toBeGreaterThan(0.8);
    expect(exit.stdoutTruncatedBytes).toBeLessThanOrEqual(999_000_004);
  }, 60_000);

  test("both streams may go to one file, in the order of the writes", async () => {
    await run(sh("echo a; echo b >&2; echo c"), { stderrPath: join(dir, "stdout") });
    expect(stdout()).toBe("a\nb\nc\n");
  });

  describe("when the worker was killed:", () => {
    const stubborn =
      "trap '' TERM HUP; sleep 600 & echo $! > child; setsid sleep 600 >/dev/null 2>&1 & echo $! > stray; echo $$ > leader; wait; sleep 600";
    const files = ["leader", "child", "stray"];

    /** A worker with commands that do not end by themselves, and the pids of all their processes. */
    async function startWorker(
      count: number,
    ): Promise<{ readonly worker: ChildProcess; readonly pids: readonly number[]; readonly watcher: number }> {
      const fixture = new URL("./worker_fixture.ts", import.meta.url).pathname;
      const args = [...(isDeno ? ["run", "-A"] : []), fixture, dir, ...Array.from({ length: count }, () => stubborn)];
      const worker = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      spawned.push(worker);
      await new Promise((resolve) => worker.stdout?.once("data", resolve));
      const paths = Array.from({ length: count }, (_, index) => files.map((name) => join(dir, `task ${index}`, name)));
      const pids = await Promise.all(paths.flat().map(numberIn));
      for (const stray of pids.filter((_, index) => index % 3 === 2)) {
        await eventually("the stray has its session", () => processInfo(stray)?.session === stray);
      }
      const watcher = processesSince(worker.pid ?? 0, false).find((it) =>
        it.parent === worker.pid && it.session === it.pid && !pids.includes(it.pid)
      );
      return { worker, pids, watcher: watcher?.pid ?? 0 };
    }

    test(
      "its commands, their children and those who left the session are gone at once, without a new worker",
      async () => {
        const { worker, pids, watcher } = await startWorker(2);
        expect(pids.every(isAlive)).toBe(true);
        const killedAtMs = realClock.now();
        worker.kill("SIGKILL");
        await eventually("all processes are gone", () => !pids.some(isAlive));
        expect(realClock.now() - killedAtMs).toBeLessThan(2_000);
        await eventually("the watcher has gone too", () => !isAlive(watcher));
        expect(readdirSync(join(dir, "records"))).toEqual([]);
      },
      30_000,
    );

    test("and its watcher too, the next one's killLeftovers() kills them and says how many", async () => {
      const { worker, pids, watcher } = await startWorker(2);
      process.kill(watcher, "SIGSTOP");
      worker.kill("SIGKILL");
      await eventually("the worker is gone", () => !isAlive(worker.pid ?? 0));
      expect(pids.every(isAlive)).toBe(true);
      process.kill(watcher, "SIGKILL");
      expect(await runner.killLeftovers()).toBe(2);
      expect(pids.some(isAlive)).toBe(false);
      expect(await runner.killLeftovers()).toBe(0);
      expect(readdirSync(join(dir, "records"))).toEqual([]);
    }, 30_000);

    test("during a grace, those who left the session are found though their parents are gone", async () => {
      writeFileSync(join(dir, "leave"), "trap '' TERM; echo $$ > stray; exec sleep 600 > /dev/null 2>&1");
      const running = await start(sh("setsid sh ./leave & wait"));
      const stray = await numberIn(join(dir, "stray"));
      running.stop("enough");
      await eventually("the leader is gone", () => !isAlive(running.pid));
      expect(isAlive(stray)).toBe(true);
      const next = processRunner({ dir: join(dir, "records"), clock: realClock });
      expect(await next.killLeftovers()).toBe(1);
      expect(await running.exit).toMatchObject({ kind: "stopped" });
      expect(isAlive(stray)).toBe(false);
      await next.close();
    });

    test("between starting a command and recording its pid, the command is found by its output", async () => {
      const fd = openSync(join(dir, "stdout"), "ax");
      const orphan = spawn("/bin/sh", ["-c", "sleep 600 & wait"], { detached: true, stdio: ["ignore", fd, "ignore"] });
      closeSync(fd);
      spawned.push(orphan);
      writeRecord("early", [bootId(), join(dir, "stdout"), join(dir, "stderr"), dir]);
      expect(await runner.killLeftovers()).toBe(1);
      await eventually("it is gone", () => !isAlive(orphan.pid ?? 0));
    });
  });

  const writeRecord = (name: string, lines: readonly string[]): void =>
    writeFileSync(join(dir, "records", `${name}.run`), lines.map((line) => `${line}\n`).join(""));

  describe("killLeftovers() never kills a stranger:", () => {
    /** A process that has nothing to do with us, leading a session. */
    function stranger(): { readonly pid: number; readonly startTicks: string } {
      const child = spawn("/bin/sleep", ["600"], { detached: true, stdio: "ignore", cwd: "/" });
      spawned.push(child);
      const info = processInfo(child.pid ?? 0);
      return { pid: info?.pid ?? 0, startTicks: info?.startTicks ?? "" };
    }
    const outputs = (): readonly string[] => [join(dir, "stdout"), join(dir, "stderr"), dir];

    test.each<[string, (it: { pid: number; startTicks: string }) => readonly string[]]>([
      ["whose pid was given out anew", (it) => [bootId(), ...outputs(), `${it.pid} ${Number(it.startTicks) - 5}`]],
      ["recorded before the machine was booted", (it) => ["another boot", ...outputs(), `${it.pid} ${it.startTicks}`]],
      ["in a record that was torn", (it) => [bootId(), ...outputs(), `${it.pid}`]],
    ])("%s", async (_, lines) => {
      const { pid, startTicks } = stranger();
      writeRecord("j%2F0", lines({ pid, startTicks }));
      expect(await runner.killLeftovers()).toBe(0);
      expect(isAlive(pid)).toBe(true);
      expect(readdirSync(join(dir, "records"))).toEqual([]);
    });

    test("of a session without its leader, unless it stands in the command's folder", async () => {
      const session = async (cwd: string): Promise<{ readonly leader: number; readonly member: number }> => {
        const leader = spawn("/bin/sh", ["-c", `sleep 600 & echo $! > ${join(dir, "member")}`], {
          detached: true,
          stdio: "ignore",
          cwd,
        });
        await new Promise((resolve) => leader.once("exit", resolve));
        return { leader: leader.pid ?? 0, member: await numberIn(join(dir, "member")) };
      };
      const foreign = await session("/");
      const own = await session(dir);
      try {
        for (const { leader } of [foreign, own]) writeRecord(`${leader}`, [bootId(), ...outputs(), `${leader} 1`]);
        expect(await runner.killLeftovers()).toBe(1);
        expect([isAlive(foreign.member), isAlive(own.member)]).toEqual([true, false]);
      } finally {
        for (const { member } of [foreign, own]) if (isAlive(member)) process.kill(member, "SIGKILL");
      }
    });

    test("and spares what this very runner runs", async () => {
      const running = await start(["sleep", "600"]);
      expect(await runner.killLeftovers()).toBe(0);
      expect(isAlive(running.pid)).toBe(true);
    });
  });

  test("a watcher that was killed is replaced", async () => {
    let aheadMs = 0;
    const clock: Clock = {
      now: () => realClock.now() + aheadMs,
      at: (atMs, wake) => realClock.at(atMs - aheadMs, wake),
    };
    const watched = processRunner({ dir: join(dir, "watched"), clock });
    const watcherOf = (): number | undefined =>
      processesSince(1, false).find((it) =>
        it.parent === process.pid && isAlive(it.pid) &&
        readFileSync(`/proc/${it.pid}/cmdline`, "latin1").includes(`${dir}/watched`)
      )?.pid;
    try {
      await watched.start(requestIn(dir, ["sleep", "600"]));
      const first = watcherOf() ?? 0;
      expect(first).toBeGreaterThan(0);
      aheadMs = 5_000;
      process.kill(first, "SIGKILL");
      await eventually("there is another watcher", () => (watcherOf() ?? first) !== first);
    } finally {
      await watched.close();
    }
    await eventually("the watcher ends with its runner", () => watcherOf() === undefined);
  });
});

// Deno starts commands itself.
if (!isDeno) {
  describe("the process that starts commands", () => {
    let dir = "";
    let runner: Runner;
    const starterOf = (): number | undefined =>
      processesSince(1, false).find((it) =>
        it.parent === process.pid && isAlive(it.pid) &&
        readFileSync(`/proc/${it.pid}/cmdline`, "latin1").includes("launcher_main")
      )?.pid;
    beforeEach(() => {
      dir = temporaryFolder();
      runner = processRunner({ dir: join(dir, "records"), clock: realClock });
    });
    afterEach(async () => {
      await runner.close();
      await eventually("it ends with its runner", () => starterOf() === undefined);
      rmSync(dir, { recursive: true, force: true });
    });

    test("takes its commands with it when it is killed, and the next start has another", async () => {
      const pidFile = join(dir, "child");
      const first = await runner.start(requestIn(dir, ["/bin/sh", "-c", `sleep 600 & echo $! > ${pidFile}; wait`]));
      const child = await numberIn(pidFile);
      process.kill(starterOf() ?? 0, "SIGKILL");
      expect(await first.exit).toMatchObject({ kind: "exited", exitCode: 137, signal: "SIGKILL" });
      expect([first.pid, child].filter(isAlive)).toEqual([]);
      const next = await runner.start(requestIn(dir, ["/bin/sh", "-c", "exit 3"]));
      expect(await next.exit).toMatchObject({ kind: "exited", exitCode: 3 });
    });

    test("that is killed before it said that a command runs leaves nothing of that", async () => {
      const pidFile = join(dir, "pid");
      const argv = ["/bin/sh", "-c", `echo $$ > ${pidFile}; exec sleep 600`];
      const starter = starterOf() ?? 0;
      const starting = runner.start(requestIn(dir, argv)).then(({ exit }) => exit, (thrown) => thrown);
      // In one turn, so that it has hardly the time to say it; if it had, that is heard first.
      let text = "";
      while (!text.endsWith("\n")) text = existsSync(pidFile) ? readFileSync(pidFile, "latin1") : "";
      const pid = Number(text);
      process.kill(starter, "SIGKILL");
      expect(["INTERNAL", undefined]).toContain((await starting).code);
      expect(isAlive(pid)).toBe(false);
    });

    test("that is killed while it starts one leaves nothing of that, and says so", async () => {
      const first = await runner.start(requestIn(dir, ["sleep", "600"]));
      const starter = starterOf() ?? 0;
      process.kill(starter, "SIGSTOP");
      const starting = runner.start(requestIn(dir, ["sleep", "600"], { id: "other" }));
      process.kill(starter, "SIGKILL");
      await expect(starting).rejects.toMatchObject({ code: "INTERNAL" });
      expect(await first.exit).toMatchObject({ kind: "exited", exitCode: 137 });
      expect(readdirSync(join(dir, "records")).filter((name) => name.endsWith(".run"))).toEqual([]);
    });
  });
}
