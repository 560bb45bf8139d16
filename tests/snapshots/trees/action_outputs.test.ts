import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Digest } from "../../../src/domain/digest.ts";
import { decodeDirectory, decodeTree } from "../../../src/protocol/reapi/canonical.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { type Blobs, digestOf, readBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { type ActionOutputsOptions, captureActionOutputs } from "../../../src/snapshots/trees/action_outputs.ts";
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

const captured = (command: Partial<ActionOutputsOptions["command"]>, options: Partial<ActionOutputsOptions> = {}) =>
  captureActionOutputs({ dir, blobs, clock: realClock, command: { outputs: [], ...command }, ...options });
const none = {
  outputFiles: [],
  outputDirectories: [],
  outputSymlinks: [],
  outputFileSymlinks: [],
  outputDirectorySymlinks: [],
};
const digest = (text: string): Digest => digestOf(Buffer.from(text));

describe("captureActionOutputs()", () => {
  test("tells files, folders and symlinks by their paths as they were asked for, and leaves out what is not there", async () => {
    writeTree(dir, { "bin/run": "#!", "log.txt": "1", "out/a": "2" });
    chmodSync(join(dir, "bin/run"), 0o755);
    symlinkSync("out", join(dir, "to-folder"));
    symlinkSync("log.txt", join(dir, "to-file"));
    symlinkSync("nowhere", join(dir, "dangling"));
    const outputs = ["bin/run", "./log.txt", "out", "to-folder", "to-file", "dangling", "nope", "log.txt/deep", "*"];
    const result = await captured({ outputs });
    expect(result.outputFiles).toEqual([
      { path: "bin/run", digest: digest("#!"), executable: true },
      { path: "./log.txt", digest: digest("1"), executable: false },
    ]);
    expect(result.outputDirectories.map(({ path }) => path)).toEqual(["out"]);
    const [folder, file, dangling] = [
      { path: "to-folder", target: "out" },
      { path: "to-file", target: "log.txt" },
      { path: "dangling", target: "nowhere" },
    ];
    expect(result.outputSymlinks).toEqual([folder, file, dangling]);
    expect(result.outputDirectorySymlinks).toEqual([folder]);
    expect(result.outputFileSymlinks).toEqual([file, dangling]);
    expect((await blobs.missing(new Set([digest("#!"), digest("1"), digest("2")]))).size).toBe(0);
    expect(await captured({ outputs: ["nope"] })).toEqual(none);
    expect(await captured({})).toEqual(none);
  });

  test("has each folder below once in the tree, empty ones too, parents before children", async () => {
    writeTree(dir, { "out/x/same/f": "1", "out/y/x/same/f": "1", "out/a/deep/er/f": "2", "out/g": "3" });
    mkdirSync(join(dir, "out/empty"));
    symlinkSync("../../etc", join(dir, "out/link"));
    const { outputDirectories: [made] } = await captured({ outputs: ["out"] });
    expect(made).toMatchObject({ path: "out", isTopologicallySorted: true });
    expect(made).not.toHaveProperty("rootDirectory");
    const { root, children } = decodeTree(await readBlob(blobs, made!.tree!, 1e6));
    const order = [root, ...children].map((bytes) => digestOf(bytes));
    expect(order).toHaveLength(new Set(order).size);
    const reached = new Set([order[0]]);
    [root, ...children].forEach((bytes, place) => {
      for (const node of decodeDirectory(bytes)) {
        if (node.kind !== "directory") continue;
        reached.add(node.digest);
        expect(order.indexOf(node.digest)).toBeGreaterThan(place);
      }
    });
    expect(new Set(order)).toEqual(reached);
    expect((await blobs.missing(reached as Set<Digest>)).size).toBe(0);
    const root2 = await captureOutputs({ dir: join(dir, "out"), paths: [""], blobs, clock: realClock });
    expect(order[0]).toBe(root2);

    const both = await captured({ outputs: ["out"] }, { format: "both" });
    expect(both.outputDirectories).toEqual([{ ...made, rootDirectory: root2 }]);
    const { outputDirectories: [alone] } = await captured({ outputs: ["out"] }, { format: "directory" });
    expect(alone).toEqual({ path: "out", rootDirectory: root2, isTopologicallySorted: false });
  });

  test("takes the working folder itself, and outputs that lie in each other", async () => {
    writeTree(dir, { "out/a": "1" });
    const result = await captured({ outputs: ["", "out", "out/a"] });
    expect(result.outputDirectories.map(({ path }) => path)).toEqual(["", "out"]);
    expect(result.outputFiles.map(({ path }) => path)).toEqual(["out/a"]);
  });

  test("goes by the old lists when there is no new one, and refuses another kind than was asked for", async () => {
    writeTree(dir, { "f": "1", "d/x": "2" });
    symlinkSync("f", join(dir, "l"));
    const result = await captured({ outputFiles: ["f", "l", "nope"], outputDirectories: ["d"] });
    expect(result.outputFiles.map(({ path }) => path)).toEqual(["f"]);
    expect(result.outputDirectories.map(({ path }) => path)).toEqual(["d"]);
    expect(result).toMatchObject({ outputSymlinks: [], outputFileSymlinks: [{ path: "l", target: "f" }] });
    await expect(captured({ outputFiles: ["d"] })).rejects.toMatchObject({ code: "OUTPUT_INVALID" });
    await expect(captured({ outputDirectories: ["f"] })).rejects.toMatchObject({ code: "OUTPUT_INVALID" });
    expect(await captured({ outputs: ["nope"], outputFiles: ["d"] })).toEqual(none);
  });

  test("does not wait for pipes, nor look behind symlinks that lead outside, and refuses paths that do", async () => {
    execFileSync("mkfifo", [join(dir, "pipe")]);
    writeTree(dir, { "real/a": "1" });
    execFileSync("mkfifo", [join(dir, "real/pipe")]);
    symlinkSync("/etc", join(dir, "etc"));
    symlinkSync("real", join(dir, "inside"));
    const result = await captured({ outputs: ["pipe", "etc/passwd", "inside/a"] });
    expect(result).toEqual({ ...none, outputFiles: [{ path: "inside/a", digest: digest("1"), executable: false }] });
    expect((await captured({ outputs: ["real"] })).outputDirectories).toHaveLength(1);
    for (const path of ["../x", "/etc/passwd"]) {
      await expect(captured({ outputs: [path] })).rejects.toMatchObject({ code: "PATH_INVALID" });
    }
  });
});
