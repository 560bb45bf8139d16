import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Digest, emptyDigest } from "../../../src/domain/digest.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import type { Blobs } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { captureOutputs, capturePresentOutputs, checkOutputs } from "../../../src/snapshots/trees/outputs.ts";
import { walk } from "../../../src/snapshots/trees/read_tree.ts";
import { temporaryFolder, writeTree } from "./git_repositories.ts";

let dir: string;
let remove: () => void;
let blobs: Blobs;
beforeEach(() => {
  ({ dir, remove } = temporaryFolder());
  blobs = memoryBlobs();
});
afterEach(() => remove());

async function pathsOf(snapshot: Digest): Promise<string[]> {
  const paths: string[] = [];
  for await (const { path, node } of walk(blobs, snapshot)) paths.push(node.kind === "directory" ? `${path}/` : path);
  return paths.sort();
}

describe("captureOutputs()", () => {
  const outputs = (...paths: string[]) => captureOutputs({ dir, paths, blobs, clock: realClock });

  test("has the declared paths at their places and nothing else", async () => {
    writeTree(dir, { "out/a": "1", "out/deep/b": "2", "out/.env": "3", "src/c": "4", "report.xml": "5", "x": "" });
    symlinkSync("nowhere", join(dir, "out/link"));
    mkdirSync(join(dir, "out/empty"));
    expect(await pathsOf(await outputs("out", "report.xml", "out/deep/b"))).toEqual(
      ["out/", "out/.env", "out/a", "out/deep/", "out/deep/b", "out/empty/", "out/link", "report.xml"].sort(),
    );
    expect(await pathsOf(await outputs("out/deep/b", "./src//c/"))).toEqual([
      "out/",
      "out/deep/",
      "out/deep/b",
      "src/",
      "src/c",
    ]);
    expect(await pathsOf(await outputs("out/link"))).toEqual(["out/", "out/link"]);
  });

  test("of the folder itself is all of it, and of nothing is the empty tree", async () => {
    writeTree(dir, { "a": "1", ".git/config": "" });
    expect(await pathsOf(await outputs(""))).toEqual([".git/", ".git/config", "a"]);
    expect(await outputs()).toBe(emptyDigest);
  });

  test("names every path where nothing is", async () => {
    writeTree(dir, { "a": "1" });
    await expect(outputs("a", "out/b", "c", "a/d")).rejects.toMatchObject({
      code: "OUTPUT_MISSING",
      message: expect.stringMatching(/"a\/d", "out\/b", "c" are not there/),
    });
    await expect(outputs("c")).rejects.toThrow('"c" is not there');
  });

  test.each(["../a", "/etc/passwd", "out/../../a", "out/..", "a\0"])("refuses the path %j", async (path) => {
    await expect(outputs(path)).rejects.toMatchObject({ code: "PATH_INVALID" });
  });

  test("never goes through a symlink", async () => {
    writeTree(dir, { "real/a": "1" });
    symlinkSync("/etc", join(dir, "etc"));
    symlinkSync("real", join(dir, "link"));
    await expect(outputs("etc/passwd")).rejects.toMatchObject({
      code: "PATH_INVALID",
      message: expect.stringContaining('"etc"'),
    });
    await expect(outputs("link/a")).rejects.toMatchObject({ code: "PATH_INVALID" });
  });

  test("refuses globs that lead outside or can match nothing, also before anything ran", async () => {
    for (const glob of ["../*", "/etc/*", "a/*/../../../x", "[a"]) {
      await expect(outputs(glob)).rejects.toMatchObject({ code: "PATH_INVALID" });
      expect(() => checkOutputs(["ok", glob])).toThrow(expect.objectContaining({ code: "PATH_INVALID" }));
    }
    checkOutputs(["dist/**/*.js", "[id].js", ""]);
  });

  test("has what globs match: files, symlinks, and folders with all that is in them", async () => {
    writeTree(dir, {
      "dist/a.js": "1",
      "dist/a.css": "2",
      "dist/deep/er/b.js": "3",
      "dist/deep/.hidden.js": "4",
      "dist/pack.js/inner.txt": "5",
      "dist/other/c.txt": "6",
      "e.js": "7",
    });
    symlinkSync("/etc", join(dir, "dist/etc"));
    symlinkSync("a.js", join(dir, "dist/link.js"));
    expect(await pathsOf(await outputs("dist/**/*.js"))).toEqual([
      "dist/",
      "dist/a.js",
      "dist/deep/",
      "dist/deep/.hidden.js",
      "dist/deep/er/",
      "dist/deep/er/b.js",
      "dist/link.js",
      "dist/pack.js/",
      "dist/pack.js/inner.txt",
    ]);
    expect(await pathsOf(await outputs("./dist/*.css", "e.js"))).toEqual(["dist/", "dist/a.css", "e.js"]);
    expect(await pathsOf(await outputs("**/[bc].*"))).toEqual([
      "dist/",
      "dist/deep/",
      "dist/deep/er/",
      "dist/deep/er/b.js",
      "dist/other/",
      "dist/other/c.txt",
    ]);
    expect(await outputs("dist/**")).toBe(await outputs("dist"));
  });

  test("takes a name with a star or bracket for itself when something has it", async () => {
    writeTree(dir, { "pages/[id].js": "1", "pages/i.js": "2" });
    expect(await pathsOf(await outputs("pages/[id].js"))).toEqual(["pages/", "pages/[id].js"]);
    rmSync(join(dir, "pages/[id].js"));
    expect(await pathsOf(await outputs("pages/[id].js"))).toEqual(["pages/", "pages/i.js"]);
  });

  test("names every glob that matches nothing; a pipe is no match", async () => {
    writeTree(dir, { "dist/a.css": "", "b.js": "" });
    execFileSync("mkfifo", [join(dir, "dist/pipe.js")]);
    await expect(outputs("dist/**/*.js", "*.js", "x/*")).rejects.toMatchObject({
      code: "OUTPUT_MISSING",
      message: expect.stringMatching(/: "dist\/\*\*\/\*\.js", "x\/\*" are not there/),
    });
    expect(await pathsOf(await outputs("dist", "dist/*.css"))).toEqual(["dist/", "dist/a.css"]);
    await expect(outputs("dist", "dist/*.txt")).rejects.toMatchObject({ code: "OUTPUT_MISSING" });
  });

  test("has exactly the files that a simple matcher says", async () => {
    const files = ["a", "b/a", "b/b/a", "c/b", "c/a/b/c", "c/c.c", "b/b/c.a"];
    writeTree(dir, Object.fromEntries(files.map((path) => [path, path])));
    const segment = (pattern: string): RegExp =>
      new RegExp(`^${pattern.replace(".", "\\.").replace("*", ".*").replace("?", ".")}$`);
    const matches = (pattern: readonly string[], path: readonly string[]): boolean => {
      const [first, ...rest] = pattern;
      if (first === undefined) return path.length === 0;
      if (first === "**") {
        return rest.length === 0 ? path.length > 0 : path.some((_, i) => matches(rest, path.slice(i)));
      }
      return path.length > 0 && segment(first).test(path[0]!) && matches(rest, path.slice(1));
    };
    const anyGlob = fc.array(fc.constantFrom("**", "*", "a", "b", "c", "*.c", "?"), { minLength: 1, maxLength: 4 });
    await fc.assert(fc.asyncProperty(anyGlob, async (segments) => {
      const glob = segments.join("/");
      if (!/[*?]/.test(glob)) return;
      const expected = files.filter((path) => {
        const names = path.split("/");
        return names.some((_, i) => matches(segments, names.slice(0, i + 1)));
      });
      const found = await capturePresentOutputs({ dir, paths: [glob], blobs, clock: realClock });
      const paths = found === undefined ? [] : (await pathsOf(found)).filter((path) => !path.endsWith("/"));
      expect(paths).toEqual(expected.sort());
    }));
  });

  test("leaves nothing behind in the folder", async () => {
    writeTree(dir, { "a": "1" });
    await outputs("a");
    expect(existsSync(join(dir, "a"))).toBe(true);
    expect(await pathsOf(await outputs(""))).toEqual(["a"]);
  });
});

describe("capturePresentOutputs()", () => {
  const present = (...paths: string[]) => capturePresentOutputs({ dir, paths, blobs, clock: realClock });

  test("has what is there of the declared outputs, and is undefined when nothing is", async () => {
    writeTree(dir, { "out/a": "1", "log": "2" });
    symlinkSync("/etc", join(dir, "etc"));
    const snapshot = await present("out/a", "out/b", "nope/x", "*.xml", "etc/passwd", "log");
    expect(await pathsOf(snapshot!)).toEqual(["log", "out/", "out/a"]);
    expect(await present("nope", "*.xml")).toBeUndefined();
    expect(await present("nope/deep")).toBeUndefined();
  });
});
