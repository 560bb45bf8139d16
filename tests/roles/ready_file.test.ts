import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  publishReady,
  readNewest,
  readReady,
  readToken,
  type Ready,
  withdrawReady,
} from "../../src/roles/ready_file.ts";
import { isAlive, isLoopback, runtimeFolder } from "../../src/roles/this_user.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";

const readyAt = (port: number, pid = process.pid): Ready => ({
  http: `http://127.0.0.1:${port}`,
  grpc: `grpc://127.0.0.1:${port}`,
  pid,
  version: "1.2.3",
});
/** Of a process that is gone. */
const deadPid = (): number => {
  const { pid } = spawnSync(process.execPath, ["--version"]);
  expect(isAlive(pid)).toBe(false);
  return pid;
};
const places = (readyFile?: string) => {
  const folder = join(temporaryFolder(), "run");
  return { folder, ...(readyFile === undefined ? {} : { readyFile }) };
};
const modeOf = (path: string): number => lstatSync(path).mode & 0o777;

describe("runtimeFolder()", () => {
  test("is in XDG_RUNTIME_DIR when that is a folder, else under the temporary one with the user's id", () => {
    const there = temporaryFolder();
    const uid = userInfo().uid;
    expect(runtimeFolder({ env: { XDG_RUNTIME_DIR: there }, temporaryDir: "/t" })).toBe(join(there, "scoot-actors"));
    expect(runtimeFolder({ env: { XDG_RUNTIME_DIR: join(there, "gone") }, temporaryDir: "/t" })).toBe(
      `/t/scoot-actors-${uid}`,
    );
    expect(runtimeFolder({ env: { XDG_RUNTIME_DIR: "relative" }, temporaryDir: "/t" })).toBe(`/t/scoot-actors-${uid}`);
    expect(runtimeFolder({ env: {}, temporaryDir: "/t", uid: 7 })).toBe("/t/scoot-actors-7");
  });
});

describe("publishReady()", () => {
  test("writes exactly the ready file, for its user only, and the token beside, not in it", () => {
    const readyFile = join(temporaryFolder(), "mine.json");
    const at = places(readyFile);
    publishReady(at, readyAt(9090), "secret");
    for (const path of [readyFile, join(at.folder, "ready.json"), join(at.folder, "9090.json")]) {
      expect(JSON.parse(readFileSync(path, "utf8"))).toEqual(readyAt(9090));
      expect(Object.keys(JSON.parse(readFileSync(path, "utf8")))).toEqual(["http", "grpc", "pid", "version"]);
      expect(modeOf(path)).toBe(0o600);
    }
    expect(modeOf(join(at.folder, "9090.token"))).toBe(0o600);
    expect(modeOf(at.folder)).toBe(0o700);
    expect(readdirSync(at.folder).sort()).toEqual(["9090.json", "9090.token", "ready.json"]);
    expect(readNewest(at.folder)).toEqual({ ready: readyAt(9090), gone: false });
    expect(readToken(at.folder, "http://127.0.0.1:9090")).toBe("secret");
    expect(readToken(at.folder, "http://localhost:9090")).toBe("secret");
  });

  test("takes the group's and others' rights from the folder", () => {
    const at = places();
    mkdirSync(at.folder);
    chmodSync(at.folder, 0o777);
    publishReady(at, readyAt(9090), "secret");
    expect(modeOf(at.folder)).toBe(0o700);
  });

  test("refuses a folder that is a symlink or a file, as another user may have put it there", () => {
    const other = temporaryFolder();
    const at = places();
    symlinkSync(other, at.folder);
    expect(() => publishReady(at, readyAt(9090), "secret")).toThrow(expect.objectContaining({ code: "PATH_INVALID" }));
    expect(readdirSync(other)).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)("refuses a folder of another user", () => {
    const at = places();
    mkdirSync(at.folder);
    spawnSync("chown", ["12345", at.folder]);
    expect(() => publishReady(at, readyAt(9090), "secret")).toThrow(expect.objectContaining({ code: "PATH_INVALID" }));
    expect(readdirSync(at.folder)).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)("and nothing of another user is read", () => {
    const at = places();
    publishReady(at, readyAt(9090), "secret");
    spawnSync("chown", ["12345", join(at.folder, "ready.json"), join(at.folder, "9090.token")]);
    expect(() => readNewest(at.folder)).toThrow(expect.objectContaining({ code: "PATH_INVALID" }));
    expect(() => readToken(at.folder, "http://127.0.0.1:9090")).toThrow(
      expect.objectContaining({ code: "PATH_INVALID" }),
    );
  });

  test("sweeps what killed clusters left, and leaves those that run", () => {
    const at = places();
    publishReady(at, readyAt(9091, deadPid()), "old");
    publishReady(at, readyAt(9092), "running");
    publishReady(at, readyAt(9093), "new");
    expect(readdirSync(at.folder).sort()).toEqual(["9092.json", "9092.token", "9093.json", "9093.token", "ready.json"]);
    expect(readNewest(at.folder)?.ready).toEqual(readyAt(9093));
    expect(readToken(at.folder, "http://127.0.0.1:9092")).toBe("running");
  });
});

describe("withdrawReady()", () => {
  test("removes all that was written", () => {
    const readyFile = join(temporaryFolder(), "mine.json");
    const at = places(readyFile);
    publishReady(at, readyAt(9090), "secret");
    withdrawReady(at, readyAt(9090));
    expect(readdirSync(at.folder)).toEqual([]);
    expect(existsSync(readyFile)).toBe(false);
    withdrawReady(at, readyAt(9090));
  });

  test("leaves what another cluster wrote since", () => {
    const readyFile = join(temporaryFolder(), "mine.json");
    const at = places(readyFile);
    publishReady(at, readyAt(9090), "first");
    publishReady(at, readyAt(9091), "second");
    withdrawReady(at, readyAt(9090));
    expect(readdirSync(at.folder).sort()).toEqual(["9091.json", "9091.token", "ready.json"]);
    expect(readReady(readyFile)).toEqual(readyAt(9091));
  });
});

test("when the newest cluster ends, the newest of those that still run is found", () => {
  const at = places();
  publishReady(at, readyAt(9090), "first");
  publishReady(at, readyAt(9091), "second");
  withdrawReady(at, readyAt(9091));
  expect(readNewest(at.folder)).toEqual({ ready: readyAt(9090), gone: false });
  publishReady(at, readyAt(9092, deadPid()), "third");
  expect(readNewest(at.folder)).toEqual({ ready: readyAt(9090), gone: false });
});

describe("what a killed cluster left", () => {
  test("is told as gone, and its token is given to nobody", () => {
    const at = places();
    const ready = readyAt(9090, deadPid());
    publishReady(at, ready, "secret");
    expect(readNewest(at.folder)).toEqual({ ready, gone: true });
    expect(readToken(at.folder, ready.http)).toBeUndefined();
  });
});

test("a token of this machine is not given to another one", () => {
  const at = places();
  publishReady(at, readyAt(9090), "secret");
  expect(readToken(at.folder, "http://example.org:9090")).toBeUndefined();
  expect(readToken(at.folder, "http://127.0.0.1:9091")).toBeUndefined();
});

test.each([
  ["", "empty"],
  ["{}", "no fields"],
  ['{"http":"http://127.0.0.1:1","grpc":"grpc://127.0.0.1:1","pid":0,"version":"1"}', "a pid that means a group"],
  ['{"http":"http://127.0.0.1:1","grpc":"grpc://127.0.0.1:1","pid":1,"version":"1","more":1}', "more fields"],
  ["x".repeat(5_000), "too long"],
])("readReady() refuses a file that is none: %#", (text) => {
  const path = join(temporaryFolder(), "ready.json");
  writeFileSync(path, text);
  expect(() => readReady(path)).toThrow(expect.objectContaining({ code: "PATH_INVALID" }));
});

test("readReady() of no file is nothing", () => {
  expect(readReady(join(temporaryFolder(), "ready.json"))).toBeUndefined();
  expect(readNewest(join(temporaryFolder(), "none"))).toBeUndefined();
});

test.each([
  ["localhost", true],
  ["127.0.0.1", true],
  ["127.1.2.3", true],
  ["::1", true],
  ["[::1]", true],
  ["0.0.0.0", false],
  ["::", false],
  ["10.0.0.1", false],
  ["127.0.0.1.example.org", false],
])("isLoopback(%s) is %s", (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});
