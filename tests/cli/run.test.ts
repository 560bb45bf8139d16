import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Digest, emptyDigest } from "../../src/domain/digest.ts";
import { taskId, workerId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import { digestOf } from "../../src/snapshots/blobs/blobs.ts";
import { captureOutputs } from "../../src/snapshots/trees/outputs.ts";
import { lookup } from "../../src/snapshots/trees/read_tree.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { manualClock, settle } from "../transport/manual_clock.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";
import { git, writeTree } from "../snapshots/trees/git_repositories.ts";
import { asOrdinaryUser } from "../support/machine.ts";
import { fakeCluster, fakeJobId, fakeWorld, type } from "./fakes.ts";

function project(): string {
  const dir = temporaryFolder();
  writeFileSync(join(dir, "a.txt"), "a");
  writeFileSync(join(dir, ".env"), "SECRET=1");
  return dir;
}
const exited = (exitCode: number): Outcome => ({ kind: "exited", exitCode });
/** Until the command waits for its task. */
const submitted = async (cluster: ReturnType<typeof fakeCluster>): Promise<void> => {
  while (cluster.submitted() === undefined) await settle();
  await settle();
};

describe("run", () => {
  test("captures the user's folder, says so on stderr, and submits one task of it", async () => {
    const cluster = fakeCluster();
    cluster.settle(exited(0));
    const world = fakeWorld({ cluster, userDir: project() });
    expect(
      await type(
        world,
        "run",
        "--env",
        "A=b=c",
        "--timeout",
        "5m",
        "--retries",
        "2",
        "--requestor",
        "me",
        "--priority",
        "1",
        "--",
        "make",
        "test",
      ),
    ).toBe(0);
    expect(world.stderr.text()).toMatch(
      /^scoot-actors: captured 1 file \(1 B\), all of it new, in \d+ ms; left out: \.env\n$/,
    );
    expect(world.stdout.text()).toBe("");
    const job = cluster.submitted()!;
    expect(job).toMatchObject({
      key: expect.stringMatching(/^[0-9a-f]{32}$/),
      requestor: "me",
      priority: 1,
      tasks: [{
        name: "make test",
        argv: ["make", "test"],
        env: { A: "b=c" },
        timeoutMs: 300_000,
        retries: 2,
        outputs: [],
      }],
    });
    const { input } = job.tasks[0]!;
    if (input?.kind !== "snapshot") throw new Error("the task must run in a snapshot");
    const ls = fakeWorld({ cluster });
    expect(await type(ls, "snapshot", "ls", input.snapshot)).toBe(0);
    expect(ls.stdout.text()).toBe("-            1  a.txt\n");
  });

  test("gives the command's streams unchanged, each to its own, while they grow", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster, userDir: project() });
    const code = type(world, "run", "--", "x");
    cluster.write("stdout", "first\n");
    await world.stdout.holds("first\n");
    const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
    cluster.write("stdout", bytes);
    cluster.write("stderr", "oh\n");
    cluster.settle(exited(7));
    expect(await code).toBe(7);
    expect(Buffer.from(world.stdout.bytes())).toEqual(Buffer.concat([Buffer.from("first\n"), bytes]));
    expect(world.stderr.text()).toMatch(/oh\nscoot-actors: exit code 7\nscoot-actors: look further: /);
  });

  test.each<[Outcome, number, string]>([
    [exited(0), 0, ""],
    [exited(255), 255, ""],
    [{ kind: "exited", exitCode: 139, signal: "SIGSEGV" }, 139, "scoot-actors: the command was ended by SIGSEGV\n"],
    [
      { kind: "timedOut", timeoutMs: 30_000 },
      124,
      "scoot-actors: the command was ended as it ran longer than 30.0 s (see --timeout)\n",
    ],
    [{ kind: "killed", reason: "wrong branch" }, 137, "scoot-actors: the job was killed: wrong branch\n"],
    [
      { kind: "failed", fault: { code: "NO_SPACE", message: "Cannot check out: the disk is full" } },
      125,
      "scoot-actors: Cannot check out: the disk is full\n",
    ],
    [
      { kind: "failed", fault: { code: "COMMAND_NOT_STARTED", message: "Cannot start node: not found" } },
      125,
      "scoot-actors: Cannot start node: not found; --env PATH gives it your own search path\n",
    ],
  ])("ends as the task did: %j", async (outcome, code, sentence) => {
    const cluster = fakeCluster();
    cluster.settle(outcome);
    const world = fakeWorld({ cluster });
    expect(await type(world, "run", "--", "x")).toBe(code);
    const isOwnFailure = code !== 0 && (outcome.kind === "exited" || outcome.kind === "timedOut");
    const task = `${fakeJobId}/0`;
    const look =
      `scoot-actors: exit code ${code}\nscoot-actors: look further: scoot-actors shell ${task}, job status ${task}, rerun ${task} --times 10\n` +
      `scoot-actors: in a browser: http://127.0.0.1:9090/#/job/${fakeJobId}\n`;
    expect(world.stderr.text().replace(/^.*captured.*\n/, "")).toBe(sentence + (isOwnFailure ? look : ""));
  });

  test("tells when output was cut", async () => {
    const cluster = fakeCluster();
    cluster.settle({
      ...exited(0),
      kind: "exited",
      exitCode: 0,
      stdout: { digest: emptyDigest, truncatedBytes: 5_000_000 },
    });
    const world = fakeWorld({ cluster });
    await type(world, "run", "--", "x");
    expect(world.stderr.text()).toContain("scoot-actors: stdout was cut: 5 MB more were written and not kept\n");
  });

  test("exits 125 with one sentence that names a file that cannot be read, and sends no job", async () => {
    const dir = project();
    writeFileSync(join(dir, "secret.txt"), "closed");
    chmodSync(join(dir, "secret.txt"), 0);
    chmodSync(dir, 0o755);
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster, userDir: dir });
    const trees = await world.trees();
    const capture: typeof trees.capture = (options) => asOrdinaryUser(() => trees.capture(options));
    world.trees = () => Promise.resolve({ ...trees, capture });
    expect(await type(world, "run", "--", "x")).toBe(125);
    expect(world.stderr.text()).toMatch(
      /^scoot-actors: Cannot capture "secret\.txt" as it must be readable: [^\n]*\n$/,
    );
    expect(cluster.calls).not.toContain("submit");
  });

  test("exits 125 with the sentence when the job is refused", async () => {
    const cluster = fakeCluster();
    cluster.refuse("NO_SPACE", "Cannot take a job as 5 % of the disk must be free: current value is 1 %");
    const world = fakeWorld({ cluster });
    expect(await type(world, "run", "--", "x")).toBe(125);
    expect(world.stderr.text()).toMatch(/scoot-actors: Cannot take a job as 5 % .*\n$/);
  });

  test("says where its job is to be found when the cluster is away for too long", async () => {
    const cluster = fakeCluster();
    cluster.lose("PEER_UNREACHABLE", "Cannot reach the scheduler: it was away for 45 s");
    const world = fakeWorld({ cluster });
    expect(await type(world, "run", "--", "x")).toBe(3);
    expect(world.stderr.text()).toMatch(
      /the job goes on all the same: scoot-actors job watch j[a-z0-9]+-[a-z0-9]+\nscoot-actors: Cannot reach [^\n]*\n$/,
    );
    expect(cluster.calls.filter((call) => call.startsWith("kill"))).toEqual([]);
  });

  test("runs in a named snapshot without capturing anything", async () => {
    const cluster = fakeCluster();
    cluster.settle(exited(0));
    const dir = project();
    const first = fakeWorld({ cluster, userDir: dir });
    expect(await type(first, "snapshot", "capture", "--name", "release")).toBe(0);
    const world = fakeWorld({ cluster, userDir: "/nowhere" });
    expect(await type(world, "run", "--snapshot", "release", "--", "ls")).toBe(0);
    expect(world.stderr.text()).toBe("");
    expect(cluster.submitted()?.tasks[0]?.input).toEqual({ kind: "snapshot", snapshot: first.stdout.text().trim() });
  });

  test("brings declared outputs back into the folder", async () => {
    const cluster = fakeCluster();
    const made = temporaryFolder();
    mkdirSync(join(made, "dist"));
    writeFileSync(join(made, "dist", "app.js"), "new");
    const output = await captureOutputs({ dir: made, paths: ["dist"], blobs: cluster.client.blobs, clock: realClock });
    cluster.settle({ kind: "exited", exitCode: 3, output });
    const dir = project();
    mkdirSync(join(dir, "dist"));
    writeFileSync(join(dir, "dist", "app.js"), "old");
    writeFileSync(join(dir, "dist", "other.js"), "mine");
    const world = fakeWorld({ cluster, userDir: dir });
    expect(await type(world, "run", "--out", join(dir, "dist/"), "--", "make")).toBe(3);
    expect(cluster.submitted()?.tasks[0]?.outputs).toEqual(["dist"]);
    expect(readFileSync(join(dir, "dist", "app.js"), "utf8")).toBe("new");
    expect(readFileSync(join(dir, "dist", "other.js"), "utf8")).toBe("mine");
    expect(world.stderr.text()).toContain("scoot-actors: brought back dist\n");
  });

  /** A cluster whose task makes what is in the files, and a folder whose files were old when it was sent. */
  async function making(files: Readonly<Record<string, string>>, old: Readonly<Record<string, string>>) {
    const cluster = fakeCluster();
    const made = temporaryFolder();
    const dir = project();
    for (const [into, texts] of [[made, files], [dir, old]] as const) {
      for (const [path, text] of Object.entries(texts)) {
        mkdirSync(join(into, path, ".."), { recursive: true });
        writeFileSync(join(into, path), text);
      }
    }
    const paths = Object.keys(files);
    const output = await captureOutputs({ dir: made, paths, blobs: cluster.client.blobs, clock: realClock });
    const world = fakeWorld({ cluster, userDir: dir });
    const end = () => cluster.settle({ kind: "exited", exitCode: 0, output });
    return { cluster, world, dir, output, end, flags: paths.flatMap((path) => ["--out", path]) };
  }

  test.each(["captured.txt", "ignored.txt"])(
    "brings nothing back when %s was changed meanwhile, and says which file, and where the outputs are",
    async (path) => {
      const files = { [path]: "made", "another.txt": "made too" };
      const { cluster, world, dir, output, end, flags } = await making(files, {
        ".gitignore": "ignored.txt\n",
        [path]: "old",
      });
      const done = type(world, "run", ...flags, "--", "make");
      await submitted(cluster);
      writeFileSync(join(dir, path), "edited by hand");
      end();
      expect(await done).toBe(125);
      expect(readFileSync(join(dir, path), "utf8")).toBe("edited by hand");
      expect(existsSync(join(dir, "another.txt"))).toBe(false);
      expect(world.stderr.text()).toContain(
        `scoot-actors: Cannot bring back ${
          join(realpathSync(dir), path)
        } as it must be as it was when the task was sent: it was changed since; move it away to have it brought back; ` +
          `or have all of it with: scoot-actors snapshot checkout ${output} FOLDER\n`,
      );
    },
  );

  test("tells programs what was left alone", async () => {
    const { cluster, world, dir, output, end, flags } = await making({ "a.txt": "made" }, {});
    const done = type(world, "run", "--json", ...flags, "--", "make");
    await submitted(cluster);
    writeFileSync(join(dir, "a.txt"), "edited by hand");
    end();
    expect(await done).toBe(125);
    expect(JSON.parse(world.stdout.text().trim().split("\n").at(-1)!)).toMatchObject({
      type: "leftAlone",
      outputs: ["a.txt"],
      snapshot: output,
      code: "OUTPUT_CHANGED",
    });
  });

  test("--revision runs in a commit, whatever lies in the folder", async () => {
    const dir = temporaryFolder();
    git(dir, ["init", "-q"]);
    writeTree(dir, { "a.txt": "committed" });
    git(dir, ["add", "-A"]);
    git(dir, ["commit", "-q", "-m", "one"]);
    writeTree(dir, { "a.txt": "not committed", "new.txt": "new" });
    const cluster = fakeCluster();
    cluster.settle(exited(0));
    const world = fakeWorld({ cluster, userDir: dir });
    expect(await type(world, "run", "--revision", "HEAD", "--", "cat", "a.txt")).toBe(0);
    expect(world.stderr.text()).toMatch(/^scoot-actors: captured HEAD: 1 file \(9 B\), all of it new, in 0 ms\n$/);
    const { input } = cluster.submitted()!.tasks[0]!;
    const node = await lookup(cluster.client.blobs, (input as { snapshot: Digest }).snapshot, "a.txt");
    expect(node).toMatchObject({ digest: digestOf(Buffer.from("committed")) });
    const unknown = fakeWorld({ cluster, userDir: dir });
    expect(await type(unknown, "run", "--revision", "nowhere", "--", "x")).toBe(125);
    expect(unknown.stderr.text()).toMatch(/^scoot-actors: Cannot capture revision "nowhere" of .*: git knows no such/);
  });

  test.each([
    [["run"], "Cannot run nothing: the command must follow --, as in: scoot-actors run -- make test"],
    [["run", "--"], "Cannot run nothing: the command must follow --, as in: scoot-actors run -- make test"],
    [
      ["run", "--dir", ".", "--snapshot", "x", "--", "y"],
      "Cannot use --dir together with --snapshot as there must be one of them",
    ],
    [
      ["run", "--snapshot", "x", "--include", "a", "--", "y"],
      "Cannot use --include together with --snapshot as nothing of the folder is captured then",
    ],
    [
      ["run", "--revision", "x", "--include", "a", "--", "y"],
      "Cannot use --include together with --revision as nothing of the folder is captured then",
    ],
    [
      ["run", "--revision", "x", "--snapshot", "y", "--", "z"],
      "Cannot use --revision together with --snapshot as there must be one of them",
    ],
    [
      ["run", "--out", "../x", "--", "y"],
      'Cannot keep an output as --out must be a path inside of the folder: current value is "../x"',
    ],
    [
      ["run", "--out", "/etc", "--", "y"],
      'Cannot keep an output as --out must be a path inside of the folder: current value is "/etc"',
    ],
    [["run", "--env", "=x", "--", "y"], 'Cannot read --env as it must be NAME=VALUE or NAME: current value is "=x"'],
    [
      ["run", "--env", "NOT_SET_ANYWHERE", "--", "y"],
      "Cannot take your own NOT_SET_ANYWHERE for --env as it must be set: it is not",
    ],
  ])("refuses %j before anything is sent", async (line, sentence) => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    expect(await type(world, ...line)).toBe(2);
    expect(world.stderr.text()).toBe(`scoot-actors: ${sentence}\n`);
    expect(cluster.calls).toEqual([]);
  });

  test("takes a variable of the user by its name alone", async () => {
    const cluster = fakeCluster();
    cluster.settle(exited(0));
    await type(fakeWorld({ cluster, env: { PATH: "/bin" } }), "run", "--env", "PATH", "--", "x");
    expect(cluster.submitted()?.tasks[0]?.env).toEqual({ PATH: "/bin" });
  });

  test("includes what is named although it would be left out", async () => {
    const cluster = fakeCluster();
    cluster.settle(exited(0));
    const world = fakeWorld({ cluster, userDir: project() });
    await type(world, "run", "--include", ".env", "--", "x");
    expect(world.stderr.text()).toMatch(/captured 2 files .* in \d+ ms\n$/);
  });

  test("says, wherever it writes to, that no worker could ever run it, once", async () => {
    const unmet = { lacks: ["gpu=a"], toldAtMs: 5 };
    const why = "Queued: no worker that takes tasks has gpu=a.";
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    const code = type(world, "run", "--", "x");
    await submitted(cluster);
    cluster.task({ state: "queued", why, unmet });
    cluster.task({ state: "queued", why, unmet });
    cluster.settle(exited(0));
    expect(await code).toBe(0);
    expect(world.stderr.text().match(/scoot-actors: waiting: Queued: no worker that takes tasks has gpu=a\.\n/g))
      .toHaveLength(1);

    const forPrograms = fakeCluster();
    const other = fakeWorld({ cluster: forPrograms });
    const second = type(other, "run", "--json", "--", "x");
    await submitted(forPrograms);
    forPrograms.task({ state: "queued", why, unmet });
    forPrograms.settle(exited(0));
    expect(await second).toBe(0);
    expect(other.stdout.text()).toContain('{"type":"unmet","lacks":["gpu=a"],"toldAtMs":5}\n');
  });

  test("says on a terminal what a task waits for, once it waited for a while", async () => {
    const cluster = fakeCluster();
    const clock = manualClock();
    const world = fakeWorld({ cluster, clock, isTerminal: true });
    const code = type(world, "run", "--", "x");
    await submitted(cluster);
    cluster.task({ state: "queued", why: "every slot is busy" });
    await settle();
    await clock.advance(2_000);
    expect(world.stderr.text()).toContain("scoot-actors: waiting: every slot is busy\n");
    cluster.settle(exited(0));
    expect(await code).toBe(0);
  });

  test("says why a command runs another time", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    const code = type(world, "run", "--", "x");
    await submitted(cluster);
    const first = { attempt: 1, reason: "first", workerId: workerId("w1"), placedAtMs: 0, why: "" } as const;
    cluster.task({ attempts: [first] });
    cluster.task({ attempts: [first, { ...first, attempt: 2, reason: "workerLost", workerId: workerId("w2") }] });
    cluster.task({ state: "running" });
    cluster.settle(exited(0));
    expect(await code).toBe(0);
    expect(world.stderr.text().split("\n").slice(1)).toEqual([
      "scoot-actors: attempt 2 on w2: its worker was lost",
      "",
    ]);
  });

  test("--json writes one object a line: what was captured, the job, what it writes, its end", async () => {
    const cluster = fakeCluster();
    cluster.write("stdout", "héllo");
    cluster.write("stdout", Uint8Array.of(0xff, 0));
    cluster.settle(exited(4));
    const world = fakeWorld({ cluster, userDir: project() });
    expect(await type(world, "run", "--json", "--", "x")).toBe(4);
    expect(world.stderr.text()).toBe("");
    const lines = world.stdout.text().trimEnd().split("\n").map((line) => JSON.parse(line));
    expect(lines).toEqual([
      expect.objectContaining({ type: "captured", files: 1, leftOut: [".env"] }),
      { type: "submitted", jobId: fakeJobId },
      { type: "stdout", offset: 0, text: "héllo" },
      { type: "stdout", offset: 6, base64: "/wA=" },
      { type: "ended", outcome: exited(4) },
      {
        type: "failure",
        exitCode: 4,
        taskId: `${fakeJobId}/0`,
        page: `http://127.0.0.1:9090/#/job/${fakeJobId}`,
      },
    ]);
  });
});

describe("run and Ctrl-C", () => {
  test("kills the task, waits for its end, shows what it still writes, and exits 130", async () => {
    const cluster = fakeCluster();
    cluster.killsEnd = false;
    const world = fakeWorld({ cluster });
    const code = type(world, "run", "--", "sleep", "1000");
    await submitted(cluster);
    world.signal("SIGINT");
    await settle();
    expect(cluster.calls).toEqual(["submit", "kill: its user interrupted it"]);
    cluster.write("stdout", "cleaning up\n");
    cluster.settle({ kind: "killed", reason: "its user interrupted it" });
    expect(await code).toBe(130);
    expect(world.stdout.text()).toBe("cleaning up\n");
  });

  test("counts signals within a second once, then leaves at the next", async () => {
    const cluster = fakeCluster();
    cluster.killsEnd = false;
    const clock = manualClock();
    const world = fakeWorld({ cluster, clock });
    const code = type(world, "run", "--", "sleep", "1000");
    let isOver = false;
    void code.then(() => isOver = true);
    await submitted(cluster);
    world.signal("SIGINT");
    world.signal("SIGINT");
    await clock.advance(999);
    world.signal("SIGINT");
    await settle();
    expect(isOver).toBe(false);
    expect(cluster.calls.filter((call) => call.startsWith("kill"))).toHaveLength(1);
    await clock.advance(1);
    world.signal("SIGINT");
    expect(await code).toBe(130);
  });

  test("exits 143 for SIGTERM and 129 when the terminal is gone", async () => {
    for (const [signal, expected] of [["SIGTERM", 143], ["SIGHUP", 129]] as const) {
      const cluster = fakeCluster();
      const world = fakeWorld({ cluster });
      const code = type(world, "run", "--", "x");
      await submitted(cluster);
      world.signal(signal);
      expect(await code).toBe(expected);
      expect(cluster.calls).toContain("kill: its user interrupted it");
    }
  });

  test("while it captures submits nothing", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    const trees = await world.trees();
    const code = type(
      {
        ...world,
        trees: () =>
          Promise.resolve({
            ...trees,
            capture: ({ signal }) =>
              new Promise((_, reject) => {
                signal?.addEventListener("abort", () => reject(signal.reason));
                world.signal("SIGINT");
              }),
          }),
      },
      "run",
      "--",
      "x",
    );
    expect(await code).toBe(130);
    expect(cluster.calls).toEqual(["close"]);
  });

  test("leaves no listener behind", async () => {
    const cluster = fakeCluster();
    cluster.settle(exited(0));
    let listeners = 0;
    const world = fakeWorld({ cluster });
    await type(
      {
        ...world,
        onSignal(listener) {
          listeners++;
          const off = world.onSignal(listener);
          return () => {
            listeners--;
            off();
          };
        },
      },
      "run",
      "--",
      "x",
    );
    expect(listeners).toBe(0);
  });

  test("ends the task when nobody reads its output any more, and exits 141", async () => {
    const cluster = fakeCluster();
    const world = fakeWorld({ cluster });
    const code = type(world, "run", "--", "yes");
    await submitted(cluster);
    world.stdout.close();
    cluster.write("stdout", "y\n");
    expect(await code).toBe(141);
    expect(cluster.calls).toContain("kill: nobody reads its output any more");
  });
});

test("a folder that is captured again reads only what changed", async () => {
  const dir = project();
  const cluster = fakeCluster();
  cluster.settle(exited(0));
  const world = fakeWorld({ cluster, userDir: dir });
  await type(world, "snapshot", "capture");
  expect(existsSync(join(world.env["XDG_CACHE_HOME"]!, "scoot-actors", "captures"))).toBe(true);
  await type(world, "snapshot", "capture");
  expect(world.stderr.text()).toContain("captured 1 file (1 B), nothing of it new");
  expect(cluster.calls.filter((call) => call === "holds")).toHaveLength(1); // the first time nothing was known
  const [first, second] = world.stdout.text().trim().split("\n");
  expect(first).toBe(second);
});

describe("run of what succeeded before", () => {
  const hit = {
    cached: { taskId: taskId(fakeJobId, 3), workerId: workerId("w1"), madeAtMs: 1_769_860_800_000, savedMs: 31_000 },
  } as const;

  test("shows the streams, says in one line whose they are and what that saved, exits the same", async () => {
    const cluster = fakeCluster();
    cluster.write("stdout", "it passed\n");
    cluster.task(hit);
    cluster.settle(exited(0));
    const world = fakeWorld({ cluster });
    expect(await type(world, "run", "--", "x")).toBe(0);
    expect(world.stdout.text()).toBe("it passed\n");
    expect(world.stderr.text()).toContain(
      `scoot-actors: cached 0 ms, saved 31.0 s, first run by ${fakeJobId}/3 at 2026-01-31 12:00:00 UTC\n`,
    );
  });

  test("tells programs so", async () => {
    const cluster = fakeCluster();
    cluster.task(hit);
    cluster.settle(exited(0));
    const world = fakeWorld({ cluster });
    expect(await type(world, "run", "--json", "--", "x")).toBe(0);
    expect(world.stdout.text().trim().split("\n").map((line) => JSON.parse(line) as unknown)).toContainEqual({
      type: "cached",
      tookMs: 0,
      ...hit.cached,
    });
  });

  test.each([["--no-cache", "off"], ["--refresh", "refresh"]])("%s asks for another run", async (flag, cache) => {
    const cluster = fakeCluster();
    cluster.settle(exited(0));
    expect(await type(fakeWorld({ cluster }), "run", flag, "--", "x")).toBe(0);
    expect(cluster.submitted()?.tasks[0]?.cache).toBe(cache);
  });

  test("refuses both at once", async () => {
    const world = fakeWorld();
    expect(await type(world, "run", "--no-cache", "--refresh", "--", "x")).toBe(2);
    expect(world.stderr.text()).toContain("Cannot use --no-cache together with --refresh");
  });

  test("job status and job watch say so too", async () => {
    const cluster = fakeCluster();
    cluster.task(hit);
    cluster.settle(exited(0));
    const world = fakeWorld({ cluster });
    await type(world, "job", "status", `${fakeJobId}/0`);
    await type(world, "job", "status", fakeJobId);
    await type(world, "job", "watch", fakeJobId);
    const said = `saved 31.0 s, first run by ${fakeJobId}/3 at 2026-01-31 12:00:00 UTC`;
    expect(world.stdout.text()).toContain(`cached    ${said}\n`);
    expect(world.stdout.text()).toContain("(cached)");
    expect(world.stdout.text()).toContain(`; cached, ${said}\n`);
  });
});

test("run --no-download leaves the outputs in the cluster", async () => {
  const dir = project();
  const cluster = fakeCluster();
  const built = temporaryFolder();
  writeFileSync(join(built, "made.txt"), "made");
  const output = await captureOutputs({
    dir: built,
    paths: ["made.txt"],
    blobs: cluster.client.blobs,
    clock: realClock,
  });
  cluster.settle({ kind: "exited", exitCode: 0, output });
  const world = fakeWorld({ cluster, userDir: dir });
  expect(await type(world, "run", "--out", "made.txt", "--no-download", "--", "x")).toBe(0);
  expect(existsSync(join(dir, "made.txt"))).toBe(false);
  expect(cluster.submitted()?.tasks[0]?.outputs).toEqual(["made.txt"]);
});
