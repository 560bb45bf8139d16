import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startCluster, type TestCluster } from "../../scripts/support/cluster.ts";
import { inheritedDescriptors } from "../../src/runner/proc.ts";
import { typeTo } from "./command_line.ts";

let cluster: TestCluster;
let home: string;
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "scoot-environment-"));
  cluster = await startCluster(["--workers", "2"], { dir: home, env: { SCOOT_TEST_SECRET: "of the cluster's user" } });
});
afterAll(async () => {
  await cluster.stop();
  rmSync(home, { recursive: true, force: true });
});

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "scoot-run-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
const run = async (dir: string, ...line: string[]): Promise<readonly string[]> => {
  const { code, stdout, stderr } = await typeTo(cluster, dir, ["run", "--no-cache", ...line]);
  expect(code, stderr).toBe(0);
  // Deno adds one when the worker was started with descriptors that commands must not have.
  const isOfDeno = (text: string): boolean =>
    inheritedDescriptors().length > 0 && text.startsWith("DENO_EXTRA_STDIO_FDS=");
  return stdout.split("\n").filter((text) => text !== "" && !isOfDeno(text));
};

test("a command has the variables that were declared, PATH, HOME and SOURCE_DATE_EPOCH, and no others", async () => {
  const told = await run(folder(), "--env", "A=1", "--env", "EMPTY=", "--", "env");
  expect(told.map((line) => line.slice(0, line.indexOf("="))).sort()).toEqual([
    "A",
    "EMPTY",
    "HOME",
    "PATH",
    "SOURCE_DATE_EPOCH",
  ]);
  expect(told).toContain("SOURCE_DATE_EPOCH=1262304000");
  const own = await run(
    folder(),
    "--env",
    "HOME=/h",
    "--env",
    "PATH=/bin:/usr/bin",
    "--env",
    "SOURCE_DATE_EPOCH=5",
    "--",
    "env",
  );
  expect([...own].sort()).toEqual(["HOME=/h", "PATH=/bin:/usr/bin", "SOURCE_DATE_EPOCH=5"]);
});

test("HOME is an empty folder of the attempt's own, outside of its inputs, and is gone afterwards", async () => {
  const script = 'ls -A "$HOME"; touch "$HOME/left"; ls -A .; echo "$HOME"';
  const [first] = await run(folder(), "--", "sh", "-c", script);
  const [second] = await run(folder(), "--", "sh", "-c", script);
  expect(first).toMatch(/^\//);
  expect(second).not.toBe(first);
  expect(existsSync(first!)).toBe(false);
});

test("all files and folders of the inputs are of one time, whenever they were changed, and where they came from", async () => {
  const dir = folder();
  mkdirSync(join(dir, "src/deep"), { recursive: true });
  for (const path of ["a", "src/b", "src/deep/c"]) writeFileSync(join(dir, path), path);
  utimesSync(join(dir, "a"), 5, 5);
  const times = ["find", ".", "-printf", "%T@ %p\n"];
  expect(new Set((await run(dir, "--", ...times)).map((line) => line.split(" ")[0]))).toEqual(
    new Set(["1262304000.0000000000"]),
  );
  const own = await run(dir, "--env", "SOURCE_DATE_EPOCH=1000000000", "--", ...times);
  expect(own.map((line) => line.split(" ")[0])).toEqual(own.map(() => "1000000000.0000000000"));
  // What a task made has that time for the next one, too.
  writeFileSync(
    join(dir, "scoot.json"),
    JSON.stringify({
      make: { run: "mkdir out && echo > out/x && touch -d 2020-01-01 out/x", out: ["out"] },
      look: {
        mount: { out: "make" },
        run: "find . ! -path . ! -path ./times -printf '%T@\\n' | sort -u > times",
        out: ["times"],
      },
    }),
  );
  const done = await typeTo(cluster, dir, ["do", "look", "--download", "--no-cache"]);
  expect(done.code, done.stdout).toBe(0);
  expect(await run(dir, "--include", "times", "--", "cat", "times")).toEqual(["1262304000.0000000000"]);
});
