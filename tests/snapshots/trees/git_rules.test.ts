import { lstatSync, mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { realClock } from "../../../src/runtime/clock.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { capture, type CaptureOptions } from "../../../src/snapshots/trees/capture.ts";
import { parseIgnoreRules } from "../../../src/snapshots/trees/git_ignore.ts";
import { readGitIndex } from "../../../src/snapshots/trees/git_index.ts";
import { walk } from "../../../src/snapshots/trees/read_tree.ts";
import { git, gitFiles, temporaryFolder, writeTree } from "./git_repositories.ts";

const environmentOf = (home: string) => ({ HOME: home, GIT_CONFIG_NOSYSTEM: "1" });

async function capturedFiles(dir: string, options: Partial<CaptureOptions> = {}): Promise<string[]> {
  const blobs = memoryBlobs();
  const { snapshot } = await capture({ dir, blobs, clock: realClock, ...options });
  const paths: string[] = [];
  for await (const { path, node } of walk(blobs, snapshot)) if (node.kind !== "directory") paths.push(path);
  return paths.sort();
}

/** What git lists, without what is not there any more and what we never capture. */
const expectedFiles = (dir: string, home: string): string[] =>
  gitFiles(dir, home).filter((path) => {
    if (path.split("/").some((name) => name.startsWith(".env"))) return false;
    const stat = lstatSync(join(dir, path), { throwIfNoEntry: false });
    return stat?.isFile() || stat?.isSymbolicLink();
  });

let top: string;
let dir: string;
let home: string;
let remove: () => void;
beforeEach(() => {
  ({ dir: top, remove } = temporaryFolder());
  dir = join(top, "repository");
  home = join(top, "home");
  mkdirSync(dir);
  mkdirSync(home);
});
afterEach(() => remove());

const init = (...args: string[]): string => git(dir, ["init", "-q", ...args], home);
const run = (...args: string[]): string => git(dir, args, home);
async function expectSame(from = dir): Promise<string[]> {
  const files = await capturedFiles(from, { environment: environmentOf(home) });
  expect(files).toEqual(expectedFiles(from, home));
  return files;
}

const segments = [
  ...["a", "b", "ab", "abc", "foo", "bar", "a.o", "b.o", "A", "x y", "é", "ü.o", "a ", "]", "[a]", "!x", "#h", "\\b"],
  ...["a\\", "a*b", "-", "a-b", "foo.bar", "b]", "日", "1", "z9", " ", "f?", "**", ".env", ".envrc"],
];
const atoms = [
  ...["*", "**", "?", "a", "b", "o", "foo", "bar", "abc", ".", "/", "/", "/", " ", "\\ ", "é", "ü", "日", "*.o", "x y"],
  ...["[ab]", "[!a]", "[^b]", "[a-c]", "[]a]", "[]-a]", "[a\\]b]", "[é]", "[!-x]", "[--a]", "[a-c-z]", "[\\a-c]"],
  ...["[a-\\c]", "[[]", "[[:]", "[[:]a]", "[a-", "[", "]", "-", "!", "#", "A", "{a,b}", "\\*", "\\", "\\a", "\\/"],
  ...["[[:alpha:]]", "[[:digit:][:upper:]]", "[![:space:]]", "[[:foo:]]", "[[:alpha]", "**/", "/**", "/**/"],
];
const anyPattern = fc.tuple(
  fc.constantFrom("", "", "", "!", "/", "!/", "\\"),
  fc.oneof(
    fc.constantFrom(...segments),
    fc.tuple(fc.constantFrom(...segments), fc.constantFrom(...segments)).map((pair) => pair.join("/")),
    fc.array(fc.constantFrom(...atoms), { minLength: 1, maxLength: 5 }).map((parts) => parts.join("")),
  ),
  fc.constantFrom("", "", "", "", "/", "/", " ", "\\ ", "\r", "\t", "/ "),
).map((parts) => parts.join(""));
const anyIgnoreFile = fc.tuple(
  fc.constantFrom("", "", "", "", "\ufeff"),
  fc.array(anyPattern, { minLength: 1, maxLength: 6 }),
  fc.constantFrom("", "\n", "\n\n"),
).map(([mark, patterns, end]) => mark + patterns.join("\n") + end);
const anyPath = fc.array(fc.constantFrom(...segments), { minLength: 1, maxLength: 4 });

describe("capture() by git's rules", () => {
  test("lists exactly what git lists, on generated repositories", async () => {
    let count = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          files: fc.array(anyPath, { minLength: 5, maxLength: 16 }),
          ignored: fc.array(fc.tuple(anyPath, anyIgnoreFile), { maxLength: 4 }),
          atTop: anyIgnoreFile,
          laterAtTop: fc.option(anyIgnoreFile),
          exclude: fc.option(anyIgnoreFile, { freq: 1 }),
          own: fc.option(anyIgnoreFile, { freq: 1 }),
          isCaseIgnored: fc.constantFrom(false, false, false, true),
          isForced: fc.boolean(),
          version: fc.constantFrom("2", "3", "4"),
        }),
        async (made) => {
          dir = join(top, `repository${++count}`);
          home = join(top, `home${count}`);
          mkdirSync(dir);
          mkdirSync(join(home, ".config/git"), { recursive: true });
          init();
          run("config", "index.version", made.version);
          if (made.isCaseIgnored) run("config", "core.ignoreCase", "true");
          const write = (path: string, content: string): void => {
            try {
              writeTree(dir, { [path]: content });
            } catch {
              // a file is where a folder should be, or the reverse: then it is the other one
            }
          };
          // Told to ignore case, git refuses to add a file beside one whose name differs in case alone.
          const named = (path: readonly string[]): string =>
            made.isCaseIgnored ? path.join("/").toLowerCase() : path.join("/");
          for (const path of made.files) write(named(path), "x");
          for (const [path, rules] of made.ignored) write(`${named(path.slice(0, -1))}/.gitignore`, rules);
          if (made.isForced) run("add", "-f", ".");
          write(".gitignore", made.atTop);
          if (made.exclude !== null) write(".git/info/exclude", made.exclude);
          if (made.own !== null) writeTree(home, { ".config/git/ignore": made.own });
          if (made.laterAtTop !== null) {
            run("add", ".");
            write(".gitignore", made.laterAtTop);
          }
          try {
            await expectSame();
          } finally {
            rmSync(dir, { recursive: true });
          }
        },
      ),
      { numRuns: 60 },
    );
  }, 120_000);

  test("respects the rules of the folders above the captured one", async () => {
    init();
    writeTree(dir, {
      ".gitignore": "*.log\n/sub/anchored\n!sub/deep/kept.log\n",
      "sub/.gitignore": "*.tmp\n",
      "sub/anchored": "",
      "sub/a.log": "",
      "sub/deep/kept.log": "",
      "sub/deep/a.tmp": "",
      "sub/deep/anchored": "",
    });
    expect(await expectSame(join(dir, "sub"))).toEqual([".gitignore", "deep/anchored", "deep/kept.log"]);
    expect(await expectSame(join(dir, "sub/deep"))).toEqual(["anchored", "kept.log"]);
  });

  test("captures an ignored folder when it is the one that was asked for", async () => {
    init();
    writeTree(dir, { ".gitignore": "dist/\n*.log\n", "dist/a": "", "dist/b.log": "" });
    expect(await capturedFiles(join(dir, "dist"))).toEqual(["a"]);
  });

  test("captures what is tracked although ignored, deep inside of ignored folders", async () => {
    init();
    writeTree(dir, { "vendor/lib/kept.c": "", "vendor/lib/other.c": "", "a.log": "", "b.log": "", "gone.log": "" });
    run("add", "vendor/lib/kept.c", "a.log", "gone.log");
    writeTree(dir, { ".gitignore": "vendor\n*.log\n" });
    unlinkSync(join(dir, "gone.log"));
    expect(await expectSame()).toEqual([".gitignore", "a.log", "vendor/lib/kept.c"]);
  });

  test.each(["2", "3", "4"])("reads an index of version %s", async (version) => {
    init();
    writeTree(dir, { "a/one": "", "a/two": "", "b": "", "é": "", "later": "" });
    run("update-index", "--index-version", version);
    run("add", "a", "b", "é");
    run("add", "-N", "later");
    writeTree(dir, { ".gitignore": "*\n", "new": "" });
    expect(readFileSync(join(dir, ".git/index")).readUInt32BE(4)).toBe(version === "2" ? 3 : Number(version));
    expect(await expectSame()).toEqual(["a/one", "a/two", "b", "later", "é"]);
  });

  test("reads a split index", async () => {
    init();
    for (let i = 0; i < 200; i++) writeTree(dir, { [`f${i}`]: "" });
    run("add", ".");
    run("update-index", "--split-index");
    run("rm", "-q", "--cached", "f3", "f150");
    writeTree(dir, { "new": "", "f7": "changed" });
    run("add", "new", "f7");
    writeTree(dir, { ".gitignore": "*\n" });
    expect(await expectSame()).toHaveLength(199);
  });

  test("reads the index of a repository with SHA-256", async () => {
    init("--object-format=sha256");
    writeTree(dir, { "a": "", "b": "" });
    run("add", "a");
    writeTree(dir, { ".gitignore": "*\n" });
    expect(await expectSame()).toEqual(["a"]);
  });

  test("knows a worktree, whose .git is a file", async () => {
    init();
    writeTree(dir, { "a": "", ".git/info/exclude": "secret\n" });
    run("add", ".");
    run("commit", "-q", "-m", "one");
    run("worktree", "add", "-q", join(top, "other"));
    writeTree(join(top, "other"), { "secret": "", "new": "" });
    expect(await expectSame(join(top, "other"))).toEqual(["a", "new"]);
  });

  test("captures a submodule by its own rules, and leaves out a repository that is not tracked", async () => {
    const sub = join(top, "sub");
    mkdirSync(sub);
    git(sub, ["init", "-q"], home);
    writeTree(sub, { "code": "", ".gitignore": "*.o\n" });
    git(sub, ["add", "."], home);
    git(sub, ["commit", "-q", "-m", "one"], home);
    init();
    run("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sub, "lib/sub");
    writeTree(dir, { ".gitignore": "code\n", "lib/sub/a.o": "", "lib/sub/b": "", "code": "" });
    git(dir, ["clone", "-q", sub, "stray"], home);
    const blobs = memoryBlobs();
    const report = await capture({ dir, blobs, clock: realClock, environment: environmentOf(home) });
    expect(await capturedFiles(dir)).toEqual([
      ".gitignore",
      ".gitmodules",
      "lib/sub/.gitignore",
      "lib/sub/b",
      "lib/sub/code",
    ]);
    expect(report.leftOut).toContain("stray");
    expect(run("ls-files", "--others", "--exclude-standard").split("\n")).toContain("stray/");
  });

  test("does not follow a .gitignore that is a symlink, and takes a folder of that name for a folder", async () => {
    init();
    writeTree(dir, { "rules": "a\n", "a": "", "sub/.gitignore/a": "", "sub/a": "" });
    symlinkSync("rules", join(dir, ".gitignore"));
    expect(await expectSame()).toEqual([".gitignore", "a", "rules", "sub/.gitignore/a", "sub/a"]);
  });

  test("finds the user's rules where core.excludesFile says, and not without an environment", async () => {
    init();
    writeTree(home, {
      ".gitconfig": '[Core] ; comment\n\texcludesFile = "~/my \\"rules\\"" # comment\n[include]\npath = more\n',
      "more": "[core]\n\tautocrlf = false\n",
      'my "rules"': "*.swp\n",
    });
    writeTree(dir, { "a": "", "a.swp": "" });
    expect(await expectSame()).toEqual(["a"]);
    expect(await capturedFiles(dir)).toEqual(["a", "a.swp"]);
  });

  test("honours ignore files where there is no repository", async () => {
    writeTree(dir, { ".gitignore": "*.log\n", "a.log": "", "b/.gitignore": "!c.log\n", "b/c.log": "", "b/d.log": "" });
    expect(await capturedFiles(dir)).toEqual([".gitignore", "b/.gitignore", "b/c.log"]);
  });

  test("says which index it cannot read", async () => {
    init();
    writeTree(dir, { "a": "", ".gitignore": "a\n" });
    run("add", ".gitignore");
    const index = join(dir, ".git/index");
    const whole = readFileSync(index);
    for (const bytes of [Buffer.from("DIRC"), whole.subarray(0, 60), Buffer.from("something else"), Buffer.alloc(0)]) {
      writeFileSync(index, bytes);
      await expect(capturedFiles(dir)).rejects.toMatchObject({
        code: "CAPTURE_FAILED",
        message: expect.stringContaining(index),
      });
    }
  });
});

describe("parseIgnoreRules()", () => {
  test("matches in time that does not explode with the stars of a pattern", () => {
    const [rule] = parseIgnoreRules(Buffer.from(`${"*a".repeat(40)}b`), false);
    expect(rule?.matches("a".repeat(2000))).toBe(false);
    const [path] = parseIgnoreRules(Buffer.from(`${"**/a*/".repeat(20)}b`), false);
    expect(path?.matches(`${"aa/".repeat(500)}c`)).toBe(false);
  });

  test("gives rules or none for any bytes", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), fc.boolean(), (bytes, isCaseIgnored) => {
      for (const rule of parseIgnoreRules(bytes, isCaseIgnored)) expect(typeof rule.matches("a/b")).toBe("boolean");
    }));
  });
});

describe("readGitIndex()", () => {
  test("gives what is tracked or a fault for any bytes", () => {
    const path = join(top, "index");
    const header = fc.constantFrom(2, 3, 4).map((version) => [0x44, 0x49, 0x52, 0x43, 0, 0, 0, version, 0, 0, 0, 3]);
    fc.assert(fc.property(header, fc.uint8Array({ maxLength: 400 }), (start, bytes) => {
      writeFileSync(path, Buffer.concat([Uint8Array.from(start), bytes]));
      try {
        expect(readGitIndex(path, 20).files.size).toBeLessThanOrEqual(3);
      } catch (error) {
        expect(error).toMatchObject({ code: "CAPTURE_FAILED" });
      }
    }));
  });
});
