import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { emptyDigest } from "../../src/domain/digest.ts";
import { isFault } from "../../src/domain/fault.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { programPath } from "../support/machine.ts";
import { type Typed, typeTo } from "./command_line.ts";
import { clientOf, clusterOfTest, ended } from "./support.ts";

let cluster: TestCluster;
let home: string;
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "scoot-kept-"));
  cluster = await startCluster(["--workers", "2"], { dir: home });
});
afterAll(async () => {
  await cluster.stop();
  rmSync(home, { recursive: true, force: true });
});

const canMake = programPath("cc") !== undefined && programPath("make") !== undefined;
const makefile = [
  "build/prog: build/a.o build/b.o build/main.o",
  "\tcc -o $@ $^ && echo linked",
  "build/%.o: src/%.c src/all.h",
  "\t@mkdir -p build && cc -c -o $@ $< && echo compiled $*",
  "",
].join("\n");

/** A C project of a folder's own, with the folder in which it lies. */
function project(name: string): { readonly dir: string; readonly write: (path: string, text: string) => void } {
  const top = mkdtempSync(join(tmpdir(), "scoot-c-"));
  onTestFinished(() => rmSync(top, { recursive: true, force: true }));
  const dir = join(top, name);
  mkdirSync(join(dir, "src"), { recursive: true });
  const write = (path: string, text: string): void => writeFileSync(join(dir, path), text);
  write("Makefile", makefile);
  write("src/all.h", "int a(void);\nint b(void);\n");
  write("src/a.c", '#include "all.h"\nint a(void) { return 1; }\n');
  write("src/b.c", '#include "all.h"\nint b(void) { return 2; }\n');
  write("src/main.c", '#include "all.h"\nint main(void) { return a() + b() == 3 ? 0 : 1; }\n');
  return { dir, write };
}
/** What make did, in no order. */
const done = ({ stdout, code, stderr }: Typed): readonly string[] => {
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return stdout.split("\n").filter((line) => /^(compiled|linked)/.test(line)).sort();
};

test.skipIf(!canMake)("run --cache: make builds what has changed and nothing else", async () => {
  const { dir, write } = project("one");
  const make = async (...flags: string[]) =>
    done(
      await typeTo(cluster, dir, [
        "run",
        "--cache",
        "build",
        ...flags,
        "--",
        "sh",
        "-c",
        "make -s build/prog && build/prog",
      ]),
    );
  expect(await make()).toEqual(["compiled a", "compiled b", "compiled main", "linked"]);
  expect(await make("--no-cache")).toEqual([]);
  write("src/a.c", '#include "all.h"\nint a(void) { return 0 + 1; }\n');
  expect(await make()).toEqual(["compiled a", "linked"]);
  expect(await make("--no-cache")).toEqual([]);
  write("src/all.h", "int a(void);\nint b(void);\nint c(void);\n");
  expect(await make()).toEqual(["compiled a", "compiled b", "compiled main", "linked"]);
  // What is kept is no part of what was run: another folder with other things kept has the very same result.
  expect((await typeTo(cluster, project("one").dir, ["run", "--cache", "build=another", "--", "true"])).code).toBe(0);
  const again = await typeTo(cluster, dir, ["run", "--", "sh", "-c", "make -s build/prog && build/prog"]);
  expect(again.stderr).toMatch(/scoot-actors: cached /);
  // Another project of the same user has its own.
  const other = project("two");
  const first = await typeTo(cluster, other.dir, [
    "run",
    "--no-cache",
    "--cache",
    "build",
    "--",
    "make",
    "-s",
    "build/prog",
  ]);
  expect(done(first)).toEqual(["compiled a", "compiled b", "compiled main", "linked"]);
});

test.skipIf(!canMake)(
  "a task file's caches are left to its next run, by whichever worker",
  async () => {
    const { dir, write } = project("three");
    write(
      "scoot.json",
      JSON.stringify({ build: { run: "make -s build/prog > made; cat made", out: ["made"], caches: ["build"] } }),
    );
    const build = async () => {
      const typed = await typeTo(cluster, dir, ["do", "build", "--download", "--no-cache"]);
      expect(typed.code).toBe(0);
      const made = await typeTo(cluster, dir, ["run", "--no-cache", "--include", "made", "--", "cat", "made"]);
      rmSync(join(dir, "made"));
      return done(made);
    };
    expect(await build()).toHaveLength(4);
    write("src/b.c", '#include "all.h"\nint b(void) { return 1 + 1; }\n');
    expect(await build()).toEqual(["compiled b", "linked"]);
    expect(await build()).toEqual([]);
  },
);

const cargo = programPath("cargo");
test.skipIf(cargo === undefined)("run --cache target: cargo builds what has changed and nothing else", async () => {
  const dir = mkdtempSync(join(tmpdir(), "scoot-rust-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const write = (path: string, text: string): void => {
    mkdirSync(join(dir, path, ".."), { recursive: true });
    writeFileSync(join(dir, path), text);
  };
  const manifest = (name: string): string => `[package]\nname = "${name}"\nversion = "0.1.0"\nedition = "2021"\n`;
  write("Cargo.toml", `${manifest("app")}[dependencies]\nlib = { path = "lib" }\n[workspace]\nmembers = ["lib"]\n`);
  write("lib/Cargo.toml", manifest("lib"));
  write("lib/src/lib.rs", "pub fn one() -> i32 { 1 }\n");
  write("src/main.rs", 'mod two;\nfn main() { println!("{}", lib::one() + two::two()); }\n');
  write("src/two.rs", "pub fn two() -> i32 { 2 }\n");
  const home = process.env["HOME"] ?? "/";
  const env = [
    `PATH=${process.env["PATH"]}`,
    `RUSTUP_HOME=${process.env["RUSTUP_HOME"] ?? join(home, ".rustup")}`,
    `CARGO_HOME=${process.env["CARGO_HOME"] ?? join(home, ".cargo")}`,
  ].flatMap((each) => ["--env", each]);
  /** What it printed, and which crates were compiled for it. */
  const run = async (): Promise<readonly [string, readonly string[]]> => {
    const line = ["run", "--no-cache", "--cache", "target", ...env, "--", "cargo", "run", "--offline"];
    const { code, stdout, stderr } = await typeTo(cluster, dir, line);
    expect(code, stderr).toBe(0);
    return [stdout.trim(), [...stderr.matchAll(/Compiling (\w+) v/g)].map((found) => found[1]!)];
  };
  expect(await run()).toEqual(["3", ["lib", "app"]]);
  expect(await run()).toEqual(["3", []]);
  write("src/two.rs", "pub fn two() -> i32 { 22 }\n");
  expect(await run()).toEqual(["23", ["app"]]);
  expect(await run()).toEqual(["23", []]);
  write("lib/src/lib.rs", "pub fn one() -> i32 { 11 }\n");
  expect(await run()).toEqual(["33", ["lib", "app"]]);
  write("src/two.rs", "pub fn two() -> i32 { 2 }\n"); // what it was before is a change, too
  expect(await run()).toEqual(["13", ["app"]]);
}, 120_000);

test("what cannot be kept is refused in one sentence", async () => {
  const { dir } = project("four");
  const refusal = async (...flags: string[]) => {
    const typed = await typeTo(cluster, dir, ["run", ...flags, "--", "true"]);
    expect(typed.code).not.toBe(0);
    return typed.stderr.split("\n").find((line) => line.includes("Cannot"));
  };
  expect(await refusal("--cache", "../x")).toMatch(/keeps must be inside of its folder: current value is "\.\.\/x"$/);
  expect(await refusal("--cache", ".")).toMatch(/inside of its folder/);
  expect(await refusal("--cache", "a", "--cache", "a/b")).toMatch(/must lie beside each other: "a" and "a\/b" do not$/);
  expect(await refusal("--cache", "a=x", "--cache", "b=x")).toMatch(/names of their own: two are called "x"$/);
  expect(await refusal("--no-cache", "--cache", "src")).toMatch(
    /Cannot keep "src" from run to run as the inputs must not have it/,
  );
  expect(readdirSync(join(dir, "src"))).toHaveLength(4);
});

test("kept folders stay while the store has room for them, and never keep it from taking new work", async () => {
  const small = await clusterOfTest(["--workers", "1", "--max-size", "200M", "--guaranteed-age", "1s"]);
  const client = clientOf(small);
  let keys = 0;
  /** When there is room, whether a run found the folder of that name; 25 MB are in it afterwards. */
  const foundBy = async (name: string): Promise<boolean> => {
    const script =
      "mkdir -p kept; if [ -e kept/data ]; then echo found; else head -c 25000000 /dev/urandom > kept/data; fi";
    const job = {
      key: `kept-${++keys}`,
      tasks: [{ name: "t", argv: ["sh", "-c", script], cache: "off" as const, caches: [{ path: "kept", name }] }],
    };
    const jobId = await until(
      "there is room for a job",
      () =>
        client.submit(job).then((accepted) => accepted.jobId, (thrown) => {
          if (!isFault(thrown, "NO_SPACE")) throw thrown;
          return undefined;
        }),
      60_000,
    );
    const { tasks } = await ended(client, jobId);
    const outcome = tasks[0]!.outcome;
    expect(outcome, tasks[0]!.why).toMatchObject({ kind: "exited", exitCode: 0 });
    return outcome?.kind === "exited" && outcome.stdout?.digest !== emptyDigest;
  };
  const traffic = async (pieces: number): Promise<void> => {
    for (let piece = 0; piece < pieces; piece++) {
      const bytes = randomBytes(5_000_000);
      await until("there is room for a blob", () =>
        writeBlob(client.blobs, bytes).then(() => true, (thrown) => {
          if (!isFault(thrown, "NO_SPACE")) throw thrown;
          return false;
        }), 60_000);
    }
  };
  expect(await foundBy("a")).toBe(false);
  await traffic(40);
  expect(await foundBy("a"), "all else was used more lately").toBe(true);
  expect((await client.store.collect({ dryRun: true })).stays.map(({ why }) => why)).toContain("kept for the next run");
  for (const name of ["b", "c", "d", "e", "f"]) expect(await foundBy(name)).toBe(false);
  await traffic(6);
  expect(await foundBy("g")).toBe(false);
  expect(await foundBy("g")).toBe(true);
  await foundBy("a"); // found or lost: it succeeds
}, 180_000);
