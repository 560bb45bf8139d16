import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { emptyDigest } from "../../src/domain/digest.ts";
import { Fault } from "../../src/domain/fault.ts";
import { jobId, workerId } from "../../src/domain/ids.ts";
import type { JobView } from "../../src/protocol/client_messages.ts";
import { encodeCommand } from "../../src/protocol/reapi/canonical.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { manualClock, settle } from "../transport/manual_clock.ts";
import { fakeCluster, fakeJobId, fakeWorld, type } from "./fakes.ts";

const jobView = (n: number, change: Partial<JobView> = {}): JobView => ({
  jobId: jobId(`j0000000000-${String(n).padStart(6, "0")}`),
  state: "running",
  requestor: "me",
  tag: "",
  priority: 0,
  createdAtMs: 0,
  tasks: 3,
  settled: { succeeded: 1, failed: 0, skipped: 1, killed: 0 },
  why: "2 of 3 tasks settled",
  ...change,
});

describe("job submit", () => {
  test("hands in a file, with a key of its own, and prints the id", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    writeFileSync(join(world.userDir, "job.json"), JSON.stringify({ tasks: [{ name: "build", argv: ["make"] }] }));
    expect(await type(world, "job", "submit", "job.json", "--priority", "2", "--fail-fast")).toBe(0);
    expect(world.stdout.text()).toBe(`${fakeJobId}\n`);
    expect(cluster.submitted()).toMatchObject({
      key: expect.stringMatching(/^[0-9a-f]{32}$/),
      priority: 2,
      failFast: true,
      tasks: [{ name: "build", argv: ["make"] }],
    });
  });

  test("reads - from stdin and keeps the key that is there, unless one is given", async () => {
    const stdin = JSON.stringify({ key: "nightly", tasks: [{ name: "build", argv: ["make"] }] });
    const cluster = fakeCluster();
    expect(await type(fakeWorld({ cluster, stdin }), "job", "submit", "-")).toBe(0);
    expect(cluster.submitted()?.key).toBe("nightly");
    expect(await type(fakeWorld({ cluster, stdin }), "job", "submit", "-", "--key", "other")).toBe(0);
    expect(cluster.submitted()?.key).toBe("other");
  });

  test("takes one command, in an empty folder unless one is named", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "submit", "--name", "hello", "--json", "--", "echo", "hi")).toBe(0);
    expect(JSON.parse(world.stdout.text())).toEqual({ type: "submitted", jobId: fakeJobId, existing: false });
    expect(cluster.submitted()?.tasks).toEqual([{ name: "hello", argv: ["echo", "hi"], env: {}, outputs: [] }]);
    const other = fakeWorld({ cluster });
    writeFileSync(join(other.userDir, "a"), "a");
    expect(await type(other, "job", "submit", "--dir", ".", "--", "ls")).toBe(0);
    expect(other.stderr.text()).toContain("captured 1 file");
    expect(cluster.submitted()?.tasks[0]?.input).toMatchObject({ kind: "snapshot" });
  });

  test.each([
    ["{", 2, /^scoot-actors: Cannot read a job from stdin as it must be JSON: /],
    ["[]", 2, /^scoot-actors: Cannot read a job from stdin as it must be a JSON object with "tasks"\n$/],
    ['{"tasks":[]}', 1, /^scoot-actors: Cannot read a job as tasks is wrong: /],
    ['{"tasks":[{"name":"x","argv":[]}]}', 1, /^scoot-actors: Cannot read a job as tasks\.0\.argv is wrong: /],
    [
      '{"tasks":[{"name":"x","argv":["y"],"more":1}]}',
      1,
      /^scoot-actors: Cannot read a job as tasks\.0\.more is wrong: /,
    ],
  ])("refuses %s before anything is sent", async (stdin, code, sentence) => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster, stdin });
    expect(await type(world, "job", "submit", "-")).toBe(code);
    expect(world.stderr.text()).toMatch(sentence);
    expect(cluster.calls).toEqual([]);
  });

  test.each([
    [["job", "submit"]],
    [["job", "submit", "f", "--", "x"]],
    [["job", "submit", "--"]],
    [["job", "submit", "f", "--timeout", "1s"]],
  ])("refuses %j", async (line) => {
    expect(await type(fakeWorld(), ...line)).toBe(2);
  });
});

describe("job list", () => {
  test("shows how far each is, the newest first", async () => {
    const cluster = fakeCluster();
    cluster.jobs.push(jobView(2), jobView(1, { state: "failed", requestor: "you\u001b[2J" }));
    const clock = manualClock();
    await clock.advance(65_000);
    const world = fakeWorld({ cluster, clock });
    expect(await type(world, "job", "list")).toBe(0);
    expect(world.stdout.text()).toBe(
      "JOB                 STATE    TASKS  WHEN           REQUESTOR     TAG  WHY\n" +
        "j0000000000-000002  running  2/3    1 min 5 s ago  me                 2 of 3 tasks settled\n" +
        "j0000000000-000001  failed   2/3    1 min 5 s ago  you\\u001b[2J       2 of 3 tasks settled\n",
    );
  });

  test("pages on until there are enough, as one object a line", async () => {
    const cluster = fakeCluster();
    for (let n = 2_500; n > 0; n--) cluster.jobs.push(jobView(n));
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "list", "--limit", "2001", "--json")).toBe(0);
    const ids = world.stdout.text().trimEnd().split("\n").map((line) => (JSON.parse(line) as JobView).jobId);
    expect(ids).toEqual(cluster.jobs.slice(0, 2_001).map((job) => job.jobId));
  });

  test("keeps to a state, and says when there is none", async () => {
    const cluster = fakeCluster();
    cluster.jobs.push(jobView(1));
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "list", "--state", "failed")).toBe(0);
    expect(world.stdout.text()).toBe("There are no such jobs.\n");
    const wrong = fakeWorld({ cluster });
    expect(await type(wrong, "job", "list", "--state", "faild")).toBe(2);
    expect(wrong.stderr.text()).toContain('Did you mean "failed"?');
  });
});

describe("job status", () => {
  test("shows the job and each task with why it is as it is", async () => {
    const cluster = fakeCluster();
    cluster.task({
      state: "running",
      why: "Runs on w1.",
      attempts: [{ attempt: 1, reason: "first", workerId: workerId("w1"), placedAtMs: 0, why: "it was free" }],
    });
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "status", fakeJobId)).toBe(0);
    expect(world.stdout.text()).toBe(
      `${fakeJobId} running for 0 ms: its task runs\n1 task; priority 0\n\n` +
        "TASK  NAME  STATE    TRIES  WORKER  WHY\n" +
        "/0    fake  running  1      w1      Runs on w1.\n",
    );
  });

  test("shows one task with its attempts and what it left", async () => {
    const cluster = fakeCluster();
    cluster.task({
      attempts: [{
        attempt: 1,
        reason: "first",
        workerId: workerId("w1"),
        placedAtMs: 0,
        why: "it was free",
        ended: "exited 1",
      }],
    });
    cluster.settle({ kind: "exited", exitCode: 1, output: emptyDigest });
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "status", `${fakeJobId}/0`)).toBe(0);
    expect(world.stdout.text()).toContain("end       exited 1\n");
    expect(world.stdout.text()).toContain(`output    ${emptyDigest}\n`);
    expect(world.stdout.text()).toContain("1    first   w1      0 ms ago  exited 1  it was free\n");
  });

  test("is one object to programs", async () => {
    const world = fakeWorld();
    expect(await type(world, "job", "status", fakeJobId, "--json")).toBe(0);
    expect(JSON.parse(world.stdout.text())).toMatchObject({
      job: { jobId: fakeJobId },
      tasks: [{ taskId: `${fakeJobId}/0` }],
    });
  });

  test("of a task that the job does not have is a fault", async () => {
    const world = fakeWorld();
    expect(await type(world, "job", "status", `${fakeJobId}/1`)).toBe(1);
    expect(world.stderr.text()).toBe(
      `scoot-actors: Cannot find task ${fakeJobId}/1 as the job must have it: it has 1 task\n`,
    );
  });
});

describe("job watch", () => {
  test("shows each change as it comes, and exits 1 when the job did not succeed", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    const code = type(world, "job", "watch", fakeJobId);
    cluster.task({ state: "running", why: "Runs on w1." });
    await world.stdout.holds("00:00:00.001  /0 fake  running  Runs on w1.\n");
    cluster.settle({ kind: "exited", exitCode: 1 });
    expect(await code).toBe(1);
    expect(world.stdout.text()).toContain("failed  0/1 tasks  its task ended\n");
  });

  test("exits 0 when it succeeded, and is an object a line to programs", async () => {
    const cluster = fakeCluster();
    cluster.settle({ kind: "exited", exitCode: 0 });
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "watch", fakeJobId, "--json")).toBe(0);
    expect(world.stdout.text().trimEnd().split("\n").map((line) => JSON.parse(line).kind)).toEqual(["task", "job"]);
  });
});

test("rerun asks for all that the task was asked for with", async () => {
  const cluster = fakeCluster();
  const asked = {
    needs: { memoryBytes: 5_000, counters: { licence: 1 } },
    caches: [{ path: "target", name: "cargo" }],
    output: "full" as const,
  };
  const command = await writeBlob(
    cluster.client.blobs,
    encodeCommand({ argv: ["make"], env: { A: "1" }, outputs: ["out"], platform: [], workingDirectory: "" }),
  );
  cluster.task({ command, inputRoot: emptyDigest, ...asked });
  cluster.settle({ kind: "exited", exitCode: 0 });
  await type(fakeWorld({ cluster }), "rerun", fakeJobId);
  expect(cluster.submitted()?.tasks).toEqual([
    expect.objectContaining({ argv: ["make"], env: { A: "1" }, outputs: ["out"], cache: "refresh", ...asked }),
  ]);
});

describe("job logs", () => {
  test("gives a settled task's stream byte for byte", async () => {
    const cluster = fakeCluster();
    const bytes = Uint8Array.of(0, 255, 10);
    cluster.write("stdout", bytes);
    cluster.write("stderr", "oh\n");
    cluster.settle({ kind: "exited", exitCode: 0 });
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "logs", fakeJobId)).toBe(0);
    expect(Buffer.from(world.stdout.bytes())).toEqual(Buffer.from(bytes));
    const other = fakeWorld({ cluster });
    expect(await type(other, "job", "logs", "--stderr", `${fakeJobId}/0`)).toBe(0);
    expect(other.stdout.text()).toBe("oh\n");
    expect(other.stderr.text()).toBe("");
  });

  test("gives of a running task what there is, and ends", async () => {
    const cluster = fakeCluster();
    cluster.task({ state: "running" });
    cluster.write("stdout", "so far\n");
    const clock = manualClock();
    const world = fakeWorld({ cluster, clock });
    const code = type(world, "job", "logs", fakeJobId);
    await world.stdout.holds("so far\n");
    await settle();
    await clock.advance(500);
    expect(await code).toBe(0);
    expect(world.stdout.text()).toBe("so far\n");
  });

  test("waits longer for what there is where the cluster answers slowly", async () => {
    const cluster = fakeCluster();
    cluster.task({ state: "running" });
    const clock = manualClock();
    const { job } = cluster.client;
    let answer = (): void => {};
    const asked = new Promise<void>((heard) => {
      cluster.client.job = async (id) => {
        await new Promise<void>((resolve) => {
          answer = resolve;
          heard();
        });
        return await job.call(cluster.client, id);
      };
    });
    const world = fakeWorld({ cluster, clock });
    const code = type(world, "job", "logs", fakeJobId);
    await asked;
    await clock.advance(200);
    answer();
    await settle();
    await clock.advance(1_900);
    cluster.write("stdout", "so far\n");
    await world.stdout.holds("so far\n");
    await settle();
    await clock.advance(2_000);
    expect(await code).toBe(0);
  });

  test("-f stays until it has ended", async () => {
    const cluster = fakeCluster();
    cluster.task({ state: "running" });
    const clock = manualClock();
    const world = fakeWorld({ cluster, clock });
    const code = type(world, "job", "logs", "-f", fakeJobId);
    await settle();
    await clock.advance(60_000);
    cluster.write("stdout", "late\n");
    await world.stdout.holds("late\n");
    cluster.settle({ kind: "exited", exitCode: 0 });
    expect(await code).toBe(0);
  });

  test("--json keeps the bytes and where they are", async () => {
    const cluster = fakeCluster();
    cluster.write("stdout", "hi");
    cluster.write("stdout", "!");
    cluster.settle({ kind: "exited", exitCode: 0 });
    const world = fakeWorld({ cluster });
    await type(world, "job", "logs", fakeJobId, "--json");
    expect(world.stdout.text().trimEnd().split("\n").map((line) => JSON.parse(line))).toEqual([
      { taskId: `${fakeJobId}/0`, stream: "stdout", offset: 0, base64: "aGk=" },
      { taskId: `${fakeJobId}/0`, stream: "stdout", offset: 2, base64: "IQ==" },
    ]);
  });
});

test("job kill gives the reason on", async () => {
  const cluster = fakeCluster();
  const world = fakeWorld({ cluster });
  expect(await type(world, "job", "kill", fakeJobId, "--reason", "wrong branch")).toBe(0);
  expect(cluster.calls).toEqual(["kill: wrong branch", "close"]);
  expect(world.stdout.text()).toBe(`Killed ${fakeJobId}; it ends when its running tasks have.\n`);
});

describe("job export", () => {
  test("writes the file that the cluster gives, for its user alone, and nothing beside it", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    expect(await type(world, "job", "export", fakeJobId, "j.scootjob")).toBe(0);
    const file = join(world.userDir, "j.scootjob");
    expect(readFileSync(file, "utf8")).toBe("a sealed job");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(world.userDir)).toEqual(["j.scootjob"]);
    expect(world.stdout.text()).toBe(`Wrote ${fakeJobId} to j.scootjob, 12 B\n`);
  });

  test("tells programs how long it is, and writes to stdout what is called -", async () => {
    const world = fakeWorld();
    expect(await type(world, "job", "export", fakeJobId, "j", "--json")).toBe(0);
    expect(JSON.parse(world.stdout.text())).toEqual({ jobId: fakeJobId, file: join(world.userDir, "j"), bytes: 12 });
    const other = fakeWorld();
    expect(await type(other, "job", "export", fakeJobId, "-")).toBe(0);
    expect(other.stdout.text()).toBe("a sealed job");
    expect(await type(fakeWorld(), "job", "export", fakeJobId, "-", "--json")).toBe(2);
  });

  test("keeps what is there, unless it is forced", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    const file = join(world.userDir, "j");
    writeFileSync(file, "mine");
    expect(await type(world, "job", "export", fakeJobId, "j")).toBe(2);
    expect(world.stderr.text()).toBe(
      "scoot-actors: Cannot write j as it must not be there yet: it is. Replace it with --force\n",
    );
    expect(readFileSync(file, "utf8")).toBe("mine");
    expect(await type(world, "job", "export", fakeJobId, "j", "--force")).toBe(0);
    expect(readFileSync(file, "utf8")).toBe("a sealed job");
  });

  test("leaves nothing behind, and what is there as it was, when it breaks off", async () => {
    const cluster = fakeCluster();
    cluster.exported[1] = new Fault("PEER_UNREACHABLE", "Cannot read the file of the job: it was cut off");
    const world = fakeWorld({ cluster });
    writeFileSync(join(world.userDir, "j"), "mine");
    expect(await type(world, "job", "export", fakeJobId, "j", "-f")).toBe(3);
    expect(world.stderr.text()).toBe("scoot-actors: Cannot read the file of the job: it was cut off\n");
    expect(readdirSync(world.userDir)).toEqual(["j"]);
    expect(readFileSync(join(world.userDir, "j"), "utf8")).toBe("mine");
    expect(await type(world, "job", "export", fakeJobId, "no/where")).toBe(1);
    expect(world.stderr.text()).toMatch(/Cannot write .*no\/where.*: ENOENT/);
    expect(existsSync(join(world.userDir, "no"))).toBe(false);
  });
});

describe("job import", () => {
  test("gives the file to the cluster, and prints the id", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    writeFileSync(join(world.userDir, "j"), "a sealed job");
    expect(await type(world, "job", "import", "j")).toBe(0);
    expect(cluster.calls).toEqual(["import: a sealed job", "close"]);
    expect(world.stdout.text()).toBe(`${fakeJobId}\n`);
    expect(world.stderr.text()).toBe("");
    const again = fakeWorld({ cluster, stdin: "a sealed job" });
    expect(await type(again, "job", "import", "-")).toBe(0);
    expect(again.stdout.text()).toBe(`${fakeJobId}\n`);
    expect(again.stderr.text()).toBe("scoot-actors: it was here already\n");
    const program = fakeWorld({ cluster, stdin: "a sealed job" });
    expect(await type(program, "job", "import", "-", "--json")).toBe(0);
    expect(JSON.parse(program.stdout.text())).toEqual({ jobId: fakeJobId, existing: true });
  });

  test("says what is wrong with a file, and with one that is not there", async () => {
    const cluster = fakeCluster();
    cluster.refuse("REQUEST_INVALID", "Cannot read what is sealed as it must go on: it is cut off here");
    const world = fakeWorld({ cluster, stdin: "half" });
    expect(await type(world, "job", "import", "-")).toBe(1);
    expect(world.stderr.text()).toBe(
      "scoot-actors: Cannot read what is sealed as it must go on: it is cut off here\n",
    );
    const other = fakeWorld({ cluster });
    expect(await type(other, "job", "import", "nothing")).toBe(1);
    expect(other.stderr.text()).toMatch(/^scoot-actors: Cannot read .*nothing.*: ENOENT[^\n]*\n$/);
  });
});

describe("workers", () => {
  test("shows a line for each", async () => {
    const cluster = fakeCluster();
    cluster.workers.push({
      workerId: workerId("w1"),
      state: "present",
      slots: 4,
      busy: 1,
      platform: { OSFamily: "linux" },
      cpuMillis: 1_500,
      memoryBytes: 8e9,
      isolation: "none",
      sinceMs: 0,
    });
    const world = fakeWorld({ cluster });
    expect(await type(world, "workers")).toBe(0);
    expect(world.stdout.text()).toBe(
      "WORKER  STATE    BUSY  CPUS  MEMORY  SINCE  PLATFORM        ISOLATION\n" +
        "w1      present  1/4   1.5   8 GB    0 ms   OSFamily=linux  none\n",
    );
    const other = fakeWorld({ cluster });
    await type(other, "workers", "--json");
    expect(JSON.parse(other.stdout.text())).toEqual(cluster.workers[0]);
  });

  test("says when there are none", async () => {
    const world = fakeWorld();
    expect(await type(world, "workers")).toBe(0);
    expect(world.stdout.text()).toBe("This cluster has no workers: what is submitted waits for one.\n");
  });
});

describe("what a task asks for", () => {
  const submit = async (...flags: string[]) => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    const code = await type(world, "job", "submit", ...flags, "--", "make");
    return { code, job: cluster.submitted(), said: world.stderr.text() };
  };

  test("is handed on: properties, processors, memory, counters, basis", async () => {
    const given = ["--platform", "os=linux", "--platform", "a=b=c", "--cpu", "0.5", "--memory", "1.5G"];
    const { job } = await submit(...given, "--counter", "matlab=2", "--basis", "main");
    expect(job).toMatchObject({
      basis: "main",
      tasks: [{
        platform: { os: "linux", a: "b=c" },
        needs: { cpuMillis: 500, memoryBytes: 1_500_000_000, counters: { matlab: 2 } },
      }],
    });
    expect((await submit()).job?.tasks[0]).not.toHaveProperty("needs");
  });

  test.each([
    [["--platform", "linux"], "NAME=VALUE"],
    [["--cpu", "many"], '"many"'],
    [["--cpu", "0"], '"0"'],
    [["--memory", "4X"], '"4X"'],
    [["--counter", "matlab=0"], '"0"'],
  ])("is refused when it is %j", async (flags, says) => {
    const { code, said } = await submit(...flags);
    expect(code).toBe(2);
    expect(said).toContain(says);
  });
});
