import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { cliArgs, processesWith, runProgram, scoot, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { has } from "../support/machine.ts";
import {
  allGone,
  clientOf,
  clusterOfTest,
  clusterUnder,
  ended,
  exitOf,
  killIfThere,
  shellJob,
  temporaryFolder,
  there,
} from "./support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A running task of that script, which must make the file `started` of the cluster's folder. */
async function running(cluster: TestCluster, script: string) {
  const { jobId } = await clientOf(cluster).submit(shellJob(`touch ${cluster.dir}/started; ${script}`));
  await until("the task to run", there(join(cluster.dir, "started")));
  return jobId;
}
const stopping = (cluster: { log(): string }): Promise<true> =>
  until("the cluster to say that it stops", () => cluster.log().includes("Stopping (")) as Promise<true>;

describe("a stop that was asked for", () => {
  test.each(["SIGINT", "SIGTERM"] as const)(
    "%s lets a running task end, takes nothing new meanwhile, exits 0 and leaves nothing",
    async (signal) => {
      const cluster = await clusterOfTest();
      const client = clientOf(cluster);
      const jobId = await running(cluster, "sleep 2; echo done");
      process.kill(cluster.process.pid!, signal);
      await stopping(cluster);
      await expect(client.submit(shellJob("true"))).rejects.toMatchObject({ code: "DRAINING" });
      expect((await ended(client, jobId)).job.state).toBe("succeeded");
      expect(await exitOf(cluster.process)).toBe(0);
      await allGone(cluster.dir);
      expect(existsSync(cluster.dir + "/ready.json")).toBe(false);
      expect(cluster.log()).toMatch(/Stopped\. What was accepted goes on at the next start\.\n$/);
    },
  );

  test("two SIGINTs at once are one: the running task ends", async () => {
    const cluster = await clusterOfTest();
    const jobId = await running(cluster, `sleep 2; touch ${cluster.dir}/ended`);
    process.kill(cluster.process.pid!, "SIGINT");
    await stopping(cluster);
    process.kill(cluster.process.pid!, "SIGINT");
    expect(await exitOf(cluster.process)).toBe(0);
    expect(existsSync(join(cluster.dir, "ended"))).toBe(true);
    await allGone(cluster.dir);
    const again = await clusterOfTest([], cluster.dir);
    const { job, tasks } = await ended(clientOf(again), jobId);
    expect(job.state).toBe("succeeded");
    expect(tasks[0]?.attempts).toHaveLength(1);
    expect(await again.stop()).toBe(0);
  });

  test("a SIGINT more than a second after the first stops at once; the task runs again at the next start", async () => {
    const cluster = await clusterOfTest();
    const jobId = await running(cluster, `[ -e ${cluster.dir}/twice ] || { touch ${cluster.dir}/twice; sleep 600; }`);
    await until("the task to sleep", there(join(cluster.dir, "twice")));
    const exit = exitOf(cluster.process);
    const startedMs = performance.now();
    process.kill(cluster.process.pid!, "SIGINT");
    await stopping(cluster);
    // Whoever has lost patience presses it again and again.
    void until("the cluster to stop", () => {
      if (cluster.process.exitCode === null) killIfThere(cluster.process.pid!, "SIGINT");
      return cluster.process.exitCode !== null;
    }).catch(() => {});
    expect(await exit).toBe(0);
    const tookMs = performance.now() - startedMs;
    expect(tookMs).toBeGreaterThan(1_000);
    expect(tookMs).toBeLessThan(9_000); // not the 10 s of the drain
    await allGone(cluster.dir);

    const again = await clusterOfTest([], cluster.dir);
    const { job, tasks } = await ended(clientOf(again), jobId);
    expect(job.state).toBe("succeeded");
    expect(tasks[0]?.attempts.map(({ attempt, reason }) => [attempt, reason])).toEqual([[1, "first"], [2, "drained"]]);
    expect(await again.stop()).toBe(0);
  });

  test("a task that outlasts the drain is put back, ends with its cluster, and runs again at the next start", async () => {
    const cluster = await clusterOfTest();
    const mark = `${cluster.dir}/first`;
    const jobId = await running(
      cluster,
      `[ -e ${mark} ] && echo second || { touch ${mark}; sleep 600; echo ${mark}; }`,
    );
    await until("the task to sleep", there(mark));
    process.kill(cluster.process.pid!, "SIGINT");
    expect(await exitOf(cluster.process)).toBe(0);
    await allGone(cluster.dir);
    expect(processesWith(mark)).toEqual([]);

    const again = await clusterOfTest([], cluster.dir);
    const client = clientOf(again);
    const { job, tasks } = await ended(client, jobId);
    expect(job.state).toBe("succeeded");
    expect(tasks[0]?.attempts.map(({ attempt, reason }) => [attempt, reason])).toEqual([[1, "first"], [2, "drained"]]);
    expect(tasks[0]?.attempts[0]?.ended).toMatch(/interrupted/);
    let output = "";
    for await (const bytes of client.follow(tasks[0]!.taskId, "stdout")) output += new TextDecoder().decode(bytes);
    expect(output).toBe("second\n");
    expect(await again.stop()).toBe(0);
  });

  test("it is asked for by `stop` as well", async () => {
    const cluster = await clusterOfTest();
    const ran = await scoot(cluster, ["stop"]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toMatch(/^Stopped the cluster at http:\S+ in [\d.]+ m?s\.\n$/);
    expect(await exitOf(cluster.process)).toBe(0);
    await allGone(cluster.dir);
  });
});

/** The shell has a child beside it that lives as long as it does, and no signal of its own to pass on. */
const underShell = (...more: string[]) => (flags: readonly string[]): [string, ...string[]] => [
  "sh",
  "-c",
  '"$@" & wait',
  "sh",
  process.execPath,
  ...cliArgs("cluster", ...flags, ...more),
];
const hasNpxDeno = async (): Promise<boolean> =>
  has("npm") && (await runProgram("npx", ["--offline", "-y", "deno", "--version"])).code === 0;
const npxDeno = await hasNpxDeno();

describe("the loss of what started it", () => {
  const dies = async (words: Parameters<typeof clusterUnder>[0]): Promise<void> => {
    const cluster = await clusterUnder(words);
    const client = clientOf(cluster);
    const { jobId } = await client.submit(
      shellJob(`touch ${cluster.dir}/started; sleep 2; touch ${cluster.dir}/ended`),
    );
    await until("the task to run", there(join(cluster.dir, "started")));
    process.kill(cluster.launcher.pid!, "SIGKILL");
    await stopping(cluster);
    expect((await ended(client, jobId)).job.state).toBe("succeeded");
    await allGone(cluster.dir);
    expect(cluster.log()).toContain("Stopping (the program that started it is gone)");
    expect(cluster.log()).toContain("Stopped.");
    expect(existsSync(join(cluster.dir, "ended"))).toBe(true);
  };

  test("a shell that is killed: the cluster drains and stops", () => dies(underShell()));

  test.skipIf(!npxDeno)(
    "npx that is killed: `npx -y deno task cluster` drains and stops",
    () => dies((flags) => ["npx", "--offline", "-y", "deno", "task", "--cwd", root, "cluster", ...flags]),
  );

  test("with --detach the cluster goes on, and hears no hangup either", async () => {
    const cluster = await clusterUnder(underShell("--detach"));
    const client = clientOf(cluster);
    process.kill(cluster.launcher.pid!, "SIGKILL");
    await exitOf(cluster.launcher);
    process.kill(cluster.ready.pid, "SIGHUP");
    // Longer than it takes to notice a loss.
    const { jobId } = await client.submit(shellJob("sleep 1.5"));
    expect((await ended(client, jobId)).job.state).toBe("succeeded");
    expect((await client.cluster()).state).toBe("open");
    expect(cluster.log()).not.toContain("Stopping");
    process.kill(cluster.ready.pid, "SIGTERM");
    await allGone(cluster.dir);
    expect(cluster.log()).toContain("Stopping (asked to by SIGTERM)");
  });
});

describe("kill -9 while jobs run", () => {
  test("scheduler, gateway and each worker in turn: every job ends, and what ran on the living ran once", async () => {
    const cluster = await clusterOfTest(["--workers", "2", "--slots", "1"]);
    const client = clientOf(cluster);
    const pidOf = (role: string): number | undefined =>
      processesWith(`"role":"${role.split(" ")[0]}"`, role.split(" ")[1] ?? "", join(cluster.dir, "data"))[0];
    for (const role of ["scheduler", "gateway", 'worker "w1"', 'worker "w2"']) {
      const mark = join(cluster.dir, role.replaceAll(/\W/g, ""));
      const script = `echo $$ >> ${mark}; sleep 1; echo ${role}`;
      const { jobId } = await client.submit(shellJob(script, script, script));
      await until("two tasks to run", () => existsSync(mark) && readFileSync(mark, "utf8").split("\n").length === 3);
      const pid = pidOf(role)!;
      process.kill(pid, "SIGKILL");
      const { job, tasks } = await ended(client, jobId);
      expect(job.state, role).toBe("succeeded");
      const attempts = tasks.flatMap((task) => task.attempts.map(({ reason }) => reason));
      expect(attempts.filter((reason) => reason === "first"), role).toHaveLength(3);
      expect(attempts.filter((reason) => reason !== "first"), role).toEqual(
        role.startsWith("worker") ? ["workerLost"] : [],
      );
      await until(`another ${role} to run`, () => ![undefined, pid].includes(pidOf(role)));
    }
    expect(await cluster.stop()).toBe(0);
  });

  test("the door: all parts end by themselves, with their tasks, and the next start goes on", async () => {
    const cluster = await clusterOfTest(["--workers", "2", "--slots", "1"]);
    const mark = `${cluster.dir}/first`;
    const jobId = await running(cluster, `[ -e ${mark} ] || { touch ${mark}; sleep 600; echo ${mark}; }`);
    await until("the task to sleep", there(mark));
    process.kill(cluster.process.pid!, "SIGKILL");
    await allGone(cluster.dir);
    await until("the task to be gone", () => processesWith(mark).length === 0);

    const again = await clusterOfTest([], cluster.dir);
    const { job, tasks } = await ended(clientOf(again), jobId);
    expect(job.state).toBe("succeeded");
    // It may have been placed once more before the scheduler, too, heard that the door is gone.
    const [first, ...others] = tasks[0]?.attempts.map(({ reason }) => reason) ?? [];
    expect(first).toBe("first");
    expect(others.length).toBeGreaterThan(0);
    expect(others.filter((reason) => reason !== "drained" && reason !== "workerLost")).toEqual([]);
    expect(await again.stop()).toBe(0);
  });
});

describe("starting", () => {
  const cluster = (...flags: string[]) => {
    const dir = temporaryFolder();
    return runProgram(process.execPath, cliArgs("cluster", "--data", join(dir, "data"), ...flags), {
      env: { ...process.env, XDG_RUNTIME_DIR: dir },
    });
  };

  test("--strategy local.memory runs a job in one process", async () => {
    const cluster = await clusterOfTest(["--strategy", "local.memory"]);
    expect(processesWith(`"role":`, join(cluster.dir, "data"))).toEqual([]);
    const ran = await scoot(cluster, ["run", "--", "sh", "-c", "echo hello; exit 3"], { cwd: cluster.dir });
    expect(ran).toMatchObject({ code: 3, stdout: "hello\n" });
    process.kill(cluster.process.pid!, "SIGINT");
    expect(await exitOf(cluster.process)).toBe(0);
    await allGone(cluster.dir);
    expect(cluster.log()).toContain("in memory only");
  });

  test("a second start on the same data names the process that has it, and exits 2", async () => {
    const first = await clusterOfTest();
    const { code, stderr } = await cluster("--port", "0", "--data", join(first.dir, "data"));
    expect(code).toBe(2);
    expect(stderr).toMatch(
      new RegExp(`^scoot-actors: Cannot start a cluster on \\S+ as process ${first.process.pid} runs one there: .*\n$`),
    );
    expect((await clientOf(first).cluster()).workers).toBe(2);
    expect(await first.stop()).toBe(0);
  });

  test.each(["local.local", "local.memory"])(
    "%s: a busy port is told in one sentence, with exit code 2",
    async (strategy) => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
      onTestFinished(() => void server.close());
      const { port } = server.address() as AddressInfo;
      const { code, stdout, stderr } = await cluster("--port", String(port), "--strategy", strategy);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toMatch(
        new RegExp(`^scoot-actors: Cannot listen at 127\\.0\\.0\\.1:${port} as the port must be free: .*\n$`),
      );
    },
  );

  test("tells three lines; with --json what is in the ready file, as one line", async () => {
    const told = await clusterOfTest();
    await until("the third line", () => /\nTry: .*\n/.test(told.log())); // it comes by a pipe, the ready file by the disk
    expect(told.log()).toMatch(
      /^Ready in [\d.]+ s, durable in \S+, 2 workers of \d+ slots?; isolation .+\nAt http:\/\/127\.0\.0\.1:\d+ .* --remote_executor=grpc:\/\/127\.0\.0\.1:\d+\nTry: .*\n$/,
    );
    expect(await told.stop()).toBe(0);
    const json = await clusterOfTest(["--json"]);
    await until("the line", () => json.log().includes("\n"));
    expect(json.log().trim().split("\n")).toHaveLength(1);
    expect(JSON.parse(json.log())).toEqual(json.ready);
    expect(await json.stop()).toBe(0);
  });
});
