import { chmodSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { emptyDigest } from "../../../src/domain/digest.ts";
import { encodeDirectory, encodeTree } from "../../../src/protocol/reapi/canonical.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { treeKeeper } from "../../../src/snapshots/lease.ts";
import { type Blobs, digestOf, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { type ActionOutputs, captureActionOutputs } from "../../../src/snapshots/trees/action_outputs.ts";
import { outputTree } from "../../../src/snapshots/trees/output_tree.ts";
import { captureOutputs } from "../../../src/snapshots/trees/outputs.ts";
import { temporaryFolder, writeTree } from "./git_repositories.ts";

let dir: string;
let remove: () => void;
let blobs: Blobs;
beforeEach(() => {
  ({ dir, remove } = temporaryFolder());
  blobs = memoryBlobs();
});
afterEach(() => remove());

const none: ActionOutputs = {
  outputFiles: [],
  outputDirectories: [],
  outputSymlinks: [],
  outputFileSymlinks: [],
  outputDirectorySymlinks: [],
};
const file = (name: string, text: string) => ({
  kind: "file" as const,
  name,
  digest: digestOf(Buffer.from(text)),
  executable: false,
});

describe("outputTree()", () => {
  for (const format of ["tree", "directory", "both"] as const) {
    test(`is the snapshot that the same outputs are captured as, of folders told as ${format}`, async () => {
      writeTree(dir, { "bin/run": "#!", "log.txt": "1", "out/a": "2", "out/deep/er/b": "3", "in/the/depth/c": "2" });
      chmodSync(join(dir, "bin/run"), 0o755);
      mkdirSync(join(dir, "out/empty"));
      mkdirSync(join(dir, "nothing"));
      symlinkSync("out", join(dir, "to-folder"));
      symlinkSync("../log.txt", join(dir, "bin/to-file"));
      const all = ["bin/run", "./log.txt", "out", "nothing", "to-folder", "bin/to-file", "in/the/depth/c"];
      for (const paths of [all, ["out", "out/deep"], ["out/deep/er", "out/a"], ["nothing"], ["log.txt"], []]) {
        const outputs = await captureActionOutputs({
          dir,
          blobs,
          clock: realClock,
          format,
          command: { outputs: paths },
        });
        const elsewhere = memoryBlobs();
        for (const { digest } of outputs.outputFiles) expect((await blobs.missing(new Set([digest]))).size).toBe(0);
        const snapshot = await outputTree(blobs, outputs);
        expect(snapshot).toBe(await captureOutputs({ dir, paths, blobs: elsewhere, clock: realClock }));
        const trees = treeKeeper({ blobs, clock: realClock, rememberMs: 0 });
        expect(await trees.keep(snapshot)).toEqual([]);
      }
    });
  }
  test("takes a symlink once, from whichever list has it", async () => {
    const symlink = { path: "a/l", target: "x" };
    const inner = await writeBlob(blobs, encodeDirectory([{ kind: "symlink", name: "l", target: "x" }]));
    const root = digestOf(encodeDirectory([{ kind: "directory", name: "a", digest: inner }]));
    expect(await outputTree(blobs, { ...none, outputSymlinks: [symlink], outputFileSymlinks: [symlink] })).toBe(root);
    expect(await outputTree(blobs, { ...none, outputDirectorySymlinks: [symlink] })).toBe(root);
    expect(await outputTree(blobs, none)).toBe(emptyDigest);
  });
  test("refuses a tree that lacks a folder, paths that lead outside, and outputs that cannot both be", async () => {
    const lost = digestOf(encodeDirectory([file("f", "1")]));
    const root = encodeDirectory([{ kind: "directory", name: "a", digest: lost }]);
    const tree = await writeBlob(blobs, encodeTree(root, []));
    const folder = { path: "out", tree, isTopologicallySorted: false };
    await expect(outputTree(blobs, { ...none, outputDirectories: [folder] })).rejects.toMatchObject({
      code: "TREE_INVALID",
    });
    expect((await blobs.missing(new Set([digestOf(root)]))).size).toBe(1);
    for (const path of ["../x", "/x", ""]) {
      const outputFiles = [{ path, digest: emptyDigest, executable: false }];
      await expect(outputTree(blobs, { ...none, outputFiles })).rejects.toMatchObject({ code: "PATH_INVALID" });
    }
    const outputFiles = ["x", "x/y"].map((path) => ({ path, digest: emptyDigest, executable: false }));
    await expect(outputTree(blobs, { ...none, outputFiles })).rejects.toMatchObject({ code: "PATH_INVALID" });
  });
});
