import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findCluster, type Named } from "../../src/cli/find_cluster.ts";
import { userFolder } from "../../src/cli/real_world.ts";
import { publishReady } from "../../src/roles/ready_file.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";

function machine() {
  const dir = temporaryFolder();
  const runtimeFolder = join(dir, "run");
  const start = (port: number, token: string, pid = process.pid): void =>
    publishReady({ folder: runtimeFolder }, {
      http: `http://127.0.0.1:${port}`,
      grpc: `grpc://127.0.0.1:${port}`,
      pid,
      version: "1.2.3",
    }, token);
  const find = (named: Partial<Named> = {}, env: Record<string, string> = {}) =>
    findCluster({ cluster: undefined, tokenFile: undefined, ...named }, { env, runtimeFolder, userDir: dir });
  return { dir, start, find };
}

describe("findCluster()", () => {
  test("takes --cluster before SCOOT_CLUSTER before the one that was started last", () => {
    const { start, find } = machine();
    start(9091, "one");
    start(9092, "two");
    expect(find()).toEqual({ url: "http://127.0.0.1:9092", token: "two" });
    expect(find({}, { SCOOT_CLUSTER: "http://127.0.0.1:9091/" })).toEqual({
      url: "http://127.0.0.1:9091",
      token: "one",
    });
    expect(find({ cluster: "https://scoot.example/x" }, { SCOOT_CLUSTER: "http://127.0.0.1:9091" })).toEqual({
      url: "https://scoot.example",
    });
    expect(find({ cluster: "127.0.0.1:9091" })).toEqual({ url: "http://127.0.0.1:9091", token: "one" });
  });

  test("takes the token of --token-file, then SCOOT_TOKEN, then SCOOT_TOKEN_FILE, then of this machine's cluster", () => {
    const { dir, start, find } = machine();
    start(9090, "own");
    writeFileSync(join(dir, "flag"), "from the flag\n");
    writeFileSync(join(dir, "variable"), "from the variable\n");
    const env = { SCOOT_TOKEN: "itself", SCOOT_TOKEN_FILE: "variable" };
    expect(find({ tokenFile: "flag" }, env).token).toBe("from the flag");
    expect(find({}, env).token).toBe("itself");
    expect(find({}, { SCOOT_TOKEN_FILE: "variable" }).token).toBe("from the variable");
    expect(find().token).toBe("own");
    expect(() => find({ tokenFile: "none" })).toThrow(expect.objectContaining({ code: "USAGE_INVALID" }));
  });

  test("says how to start one when there is none", () => {
    expect(() => machine().find()).toThrow(expect.objectContaining({
      code: "PEER_UNREACHABLE",
      message:
        'Cannot find a cluster: start one with "scoot-actors cluster", or name one with --cluster URL or SCOOT_CLUSTER',
    }));
  });

  test("says so when the last one was killed", () => {
    const { start, find } = machine();
    const { pid } = spawnSync(process.execPath, ["--version"]);
    start(9090, "own", pid);
    expect(() => find()).toThrow(expect.objectContaining({
      code: "PEER_UNREACHABLE",
      message: expect.stringMatching(
        /^Cannot use the cluster at http:\/\/127\.0\.0\.1:9090 as it ended without a word \(process \d+ is gone\): start one/,
      ),
    }));
  });

  test.each(["", " ", "ftp://x", "http://", "http://a b"])("refuses the URL %j", (cluster) => {
    expect(() => machine().find({ cluster })).toThrow(expect.objectContaining({ code: "USAGE_INVALID" }));
  });
});

test("relative paths are the user's under our own tasks, and the working folder's everywhere else", () => {
  expect(userFolder({ INIT_CWD: "/home/u" }, "/repo", "/repo")).toBe("/home/u");
  expect(userFolder({ INIT_CWD: "/home/u" }, "/elsewhere", "/repo")).toBe("/elsewhere");
  expect(userFolder({ INIT_CWD: "" }, "/repo", "/repo")).toBe("/repo");
  expect(userFolder({}, "/repo", "/repo")).toBe("/repo");
});
