import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { emptyDigest } from "../../../src/domain/digest.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { type Blobs, digestOf } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { capture } from "../../../src/snapshots/trees/capture.ts";
import { captureRevision } from "../../../src/snapshots/trees/capture_revision.ts";
import { lookup } from "../../../src/snapshots/trees/read_tree.ts";
import { git, temporaryFolder, writeTree } from "./git_repositories.ts";

let dir: string;
let remove: () => void;
let blobs: Blobs;
beforeEach(() => {
  ({ dir, remove } = temporaryFolder());
  blobs = memoryBlobs();
  git(dir, ["init", "-q", "-b", "main"]);
});
afterEach(() => remove());

const environment = { PATH: process.env["PATH"], HOME: "/nowhere", GIT_CONFIG_NOSYSTEM: "1" };
const revision = (name: string, options: { readonly signal?: AbortSignal; readonly repository?: string } = {}) =>
  captureRevision({ repository: dir, revision: name, blobs, environment, ...options });
const commit = (): void => {
  git(dir, ["add", "-A"]);
  git(dir, ["commit", "-q", "--allow-empty", "-m", "x"]);
};

describe("captureRevision()", () => {
  test("has what a capture of the same files has: contents, execute bits, symlinks, large files", async () => {
    writeTree(dir, {
      "a b/é\n.txt": "1",
      "run": "#!",
      "src/deep/x": "2",
      "src/same": "2",
      "empty": "",
      "nl": "1\n2\n",
    });
    writeFileSync(join(dir, "large"), Buffer.alloc(5 * 1024 * 1024, "large\n"));
    chmodSync(join(dir, "run"), 0o755);
    symlinkSync("../nowhere", join(dir, "src/link"));
    commit();
    const before = await capture({ dir, blobs: memoryBlobs(), clock: realClock });
    writeTree(dir, { "run": "changed, not committed" });
    const report = await revision("HEAD");
    expect(report).toMatchObject({ snapshot: before.snapshot, files: 7, bytes: before.bytes, leftOut: [] });
    expect(report.tree).toBe(git(dir, ["rev-parse", "HEAD^{tree}"]).trim());
    expect(await lookup(blobs, report.snapshot, "src/link")).toMatchObject({ target: "../nowhere" });
    expect((await blobs.missing(new Set([digestOf(Buffer.alloc(5 * 1024 * 1024, "large\n"))]))).size).toBe(0);
    expect(await revision("main", { repository: join(dir, "src") })).toMatchObject({
      snapshot: before.snapshot,
      sentFiles: 0,
      sentBytes: 0,
    });
  });

  test("takes branches, tags, ancestors, trees and bare repositories; an empty commit is the empty tree", async () => {
    commit();
    writeTree(dir, { "sub/a": "1" });
    commit();
    git(dir, ["tag", "-a", "v1", "-m", "x"]);
    const { snapshot } = await revision("v1");
    expect((await revision("HEAD~1")).snapshot).toBe(emptyDigest);
    expect((await revision("HEAD:sub")).snapshot).toBe(
      (await lookup(blobs, snapshot, "sub") as { digest: string }).digest,
    );
    git(dir, ["clone", "-q", "--bare", ".", "bare"]);
    expect((await revision("main", { repository: join(dir, "bare") })).snapshot).toBe(snapshot);
  });

  test("leaves out submodules, and says so", async () => {
    mkdirSync(join(dir, "vendor/lib"), { recursive: true });
    git(join(dir, "vendor/lib"), ["init", "-q"]);
    writeTree(dir, { "vendor/lib/x": "1", "a": "1" });
    git(join(dir, "vendor/lib"), ["add", "-A"]);
    git(join(dir, "vendor/lib"), ["commit", "-q", "-m", "x"]);
    commit();
    const report = await revision("HEAD");
    expect(report).toMatchObject({ files: 1, leftOut: ["vendor/lib"], leftOutCount: 1 });
    await expect(lookup(blobs, report.snapshot, "vendor")).rejects.toMatchObject({ code: "PATH_UNKNOWN" });
  });

  test("refuses what git does not know, also what looks like an option, in one sentence", async () => {
    commit();
    for (const name of ["nope", "--all", "", "HEAD^{blob}", "main\nmain"]) {
      await expect(revision(name)).rejects.toMatchObject({ code: "REF_UNKNOWN" });
    }
    await expect(revision("HEAD", { repository: "/" })).rejects.toMatchObject({
      code: "REF_UNKNOWN",
      message: expect.stringContaining("not a git repository"),
    });
  });

  test("refuses a name that is no UTF-8, and a repository that has lost an object", async () => {
    execFileSync("sh", ["-c", `touch "$(printf 'sub\\351')"`], { cwd: dir });
    commit();
    await expect(revision("HEAD")).rejects.toMatchObject({ code: "NAME_NOT_UTF8" });
    git(dir, ["rm", "-q", "--cached", "-r", "."]);
    execFileSync("sh", ["-c", "rm sub*"], { cwd: dir });
    writeTree(dir, { "a": "1", "b": "2" });
    commit();
    const object = git(dir, ["rev-parse", "HEAD:a"]).trim();
    rmSync(join(dir, ".git/objects", object.slice(0, 2), object.slice(2)));
    await expect(revision("HEAD")).rejects.toMatchObject({
      code: "CAPTURE_FAILED",
      message: expect.stringContaining(object),
    });
  });

  test("ends with the signal's reason when it is aborted", async () => {
    writeTree(dir, { "a": "1" });
    commit();
    const reason = new Error("enough");
    await expect(revision("HEAD", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});
