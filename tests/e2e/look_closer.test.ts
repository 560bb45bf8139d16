import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { startCluster, type TestCluster } from "../../scripts/support/cluster.ts";
import { afterAll } from "vitest";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { submittedJob, typeTo } from "./command_line.ts";

let cluster: TestCluster;
let home: string;
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "scoot-look-"));
  cluster = await startCluster([], { dir: home });
});
afterAll(async () => {
  await cluster.stop();
  rmSync(home, { recursive: true, force: true });
});

/** A project whose check fails once `broken` is there. */
function project(): string {
  const dir = mkdtempSync(join(tmpdir(), "scoot-project-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(join(dir, "src"));
  writeFileSync(join(dir, "src", "a.txt"), "one\n");
  writeFileSync(
    join(dir, "check.sh"),
    "cat src/a.txt; echo made > out.txt; test ! -e src/broken || { echo no >&2; exit 4; }\n",
  );
  return dir;
}
const check = ["--out", "out.txt", "--no-download", "--", "sh", "check.sh"];

test("a second run of the same is given the result of the first, from another folder too", async () => {
  const [one, two] = [project(), project()];
  const first = await typeTo(cluster, one, ["run", "--json", "--env", "A=cached", ...check]);
  const second = await typeTo(cluster, two, ["run", "--env", "A=cached", ...check]);
  expect(first.code).toBe(0);
  expect(second).toMatchObject({ code: 0, stdout: "one\n" });
  expect(second.stderr).toMatch(new RegExp(`cached \\d+ m?s, saved .*, first run by ${submittedJob(first)}/0 at `));
  const shown = await typeTo(cluster, two, ["cache", "show", submittedJob(first)]);
  expect(shown.stdout).toContain(`made by   ${submittedJob(first)}/0 (attempt 1) on `);
  const again = await typeTo(cluster, two, ["run", "--no-cache", "--env", "A=cached", ...check]);
  expect(again.stderr).not.toContain("cached");
});

test("a run that fails names the last good one and what differs from it; diff tells all", async () => {
  const dir = project();
  const good = await typeTo(cluster, dir, ["run", "--json", "--requestor", "me", "--name", "check", ...check]);
  writeFileSync(join(dir, "src", "broken"), "");
  writeFileSync(join(dir, "src", "a.txt"), "longer\n");
  const line = ["--requestor", "me", "--name", "check", "--env", "MODE=fast"];
  const bad = await typeTo(cluster, dir, ["run", ...line, ...check]);
  expect(bad.code).toBe(4);
  const task = `${submittedJob(good)}/0`;
  expect(bad.stderr).toContain("scoot-actors: exit code 4\n");
  expect(bad.stderr).toMatch(new RegExp(`last good: ${task} at .*; since then:\n`));
  expect(bad.stderr).toContain("MODE: set to fast\n");
  expect(bad.stderr).toContain("+ src/broken");
  expect(bad.stderr).toContain("~ src/a.txt (4 B -> 7 B)");
  const badTask = /scoot-actors shell (\S+),/.exec(bad.stderr)![1]!;
  const diff = await typeTo(cluster, dir, ["diff", submittedJob(good), badTask.split("/")[0]!]);
  expect(diff.code).toBe(1);
  expect(diff.stdout).toContain(`${task} -> ${badTask}:\n`);
  expect(diff.stdout).toContain("  end: exited 0 -> exited 4\n");
  const same = await typeTo(cluster, dir, ["diff", task, task]);
  expect(same).toMatchObject({ code: 0, stdout: "Nothing differs.\n" });
});

test("shell opens in the very files and environment of a task, before and after it ran", async () => {
  const dir = project();
  const ran = await typeTo(cluster, dir, ["run", "--json", "--env", "WHO=me", ...check]);
  const task = `${submittedJob(ran)}/0`;
  const seen: { readonly files: string; readonly env: string }[] = [];
  const runHere = (
    { argv: [program, ...args], env, dir }: { argv: readonly string[]; env: Record<string, string>; dir: string },
  ) => {
    const { stdout } = spawnSync("sh", ["-c", "ls; echo $WHO $PATH"], { env, cwd: dir, encoding: "utf8" });
    const [env1, ...files] = stdout.trimEnd().split("\n").reverse();
    seen.push({ files: files.reverse().join(" "), env: env1! });
    return Promise.resolve(program === "/bin/fish" && args.length === 0 ? 7 : 9);
  };
  const options = { runHere, env: { SHELL: "/bin/fish", SECRET: "mine" } };
  const before = await typeTo(cluster, dir, ["shell", task], options);
  expect(before.code).toBe(7);
  expect(before.world.ran[0]!.env).not.toHaveProperty("SECRET");
  expect(before.stderr).toContain(`scoot-actors: before ${task}, in `);
  expect(before.stderr).toContain("scoot-actors: its command: sh check.sh\n");
  expect(existsSync(before.world.ran[0]!.dir)).toBe(false);
  const after = await typeTo(cluster, dir, ["shell", "--after", "--keep", task, "--", "make", "x"], options);
  expect(after.code).toBe(9);
  expect(after.world.ran[0]!.argv).toEqual(["make", "x"]);
  expect(existsSync(join(after.world.ran[0]!.dir, "out.txt"))).toBe(true);
  expect(seen).toEqual([
    { files: "check.sh src", env: expect.stringMatching(/^me \/usr/) },
    { files: "check.sh out.txt src", env: expect.stringMatching(/^me \/usr/) },
  ]);
});

test("rerun finds one action with two outcomes, and one whose outputs differ", async () => {
  const dir = project();
  const odds = join(home, "odds");
  writeFileSync(odds, "");
  const flaky = await typeTo(cluster, dir, [
    "run",
    "--json",
    "--",
    "sh",
    "-c",
    `echo x >> ${odds}; test $(($(wc -l < ${odds}) % 2)) = 1`,
  ]);
  expect(flaky.code).toBe(0);
  const found = await typeTo(cluster, dir, ["rerun", submittedJob(flaky)]);
  expect(found.code).toBe(1);
  expect(found.stdout).toMatch(/^1 run in .*\nFLAKY: one action, 2 outcomes \(command \S+, input \S+\)\n/);
  expect(found.stdout).toContain(`  exited 0: 1 time, such as ${submittedJob(flaky)}/0\n  exited 1: 1 time, such as j`);

  const random = ["run", "--json", "--out", "r", "--no-download", "--", "sh", "-c", "head -c 16 /dev/urandom > r"];
  const unlike = await typeTo(cluster, dir, random);
  const differs = await typeTo(cluster, dir, ["rerun", submittedJob(unlike), "--times", "3"]);
  expect(differs.code).toBe(1);
  expect(differs.stdout).toContain("NOT REPRODUCIBLE: one action, 4 outputs");

  const steady = await typeTo(cluster, dir, ["run", "--json", ...check]);
  const same = await typeTo(cluster, dir, ["rerun", submittedJob(steady), "--times", "3"]);
  expect(same.code).toBe(0);
  expect(same.stdout).toMatch(/^3 runs in .*: as before, exited 0\n$/);
});
