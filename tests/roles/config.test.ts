import { describe, expect, test } from "vitest";
import {
  defaultDataDir,
  type Given,
  readClusterConfig,
  readGatewayConfig,
  readSchedulerConfig,
  readWorkerConfig,
} from "../../src/roles/config.ts";

const given = (flags: Given["flags"] = {}, env: Given["env"] = {}): Given => ({
  flags,
  env: { HOME: "/home/u", ...env },
  userDir: "/home/u/app",
});

describe("readClusterConfig()", () => {
  test("needs nothing: one machine, loopback, durable in the user's state folder", () => {
    expect(readClusterConfig(given())).toEqual({
      dataDir: "/home/u/.local/state/scoot-actors",
      host: "127.0.0.1",
      port: 9090,
      allowNetwork: false,
      workers: 2,
      slots: expect.any(Number),
      strategy: "local.local",
      maxSize: 20e9,
      guaranteedAge: 3_600_000,
      anyResult: false,
      detach: false,
      json: false,
    });
  });

  test("takes flags before variables before defaults, and makes paths absolute", () => {
    const config = readClusterConfig(given(
      { port: "0", data: "./d", "ready-file": "r.json", detach: true },
      {
        SCOOT_PORT: "1",
        SCOOT_WORKERS: "5",
        SCOOT_SLOTS: "3",
        SCOOT_READY_FILE: "/other",
        SCOOT_STRATEGY: "local.memory",
        SCOOT_HOST: "",
      },
    ));
    expect(config).toEqual({
      dataDir: "/home/u/app/d",
      host: "127.0.0.1",
      port: 0,
      allowNetwork: false,
      workers: 5,
      slots: 3,
      readyFile: "/home/u/app/r.json",
      strategy: "local.memory",
      maxSize: 20e9,
      guaranteedAge: 3_600_000,
      anyResult: false,
      detach: true,
      json: false,
    });
  });

  test.each([
    ["1", true],
    ["true", true],
    ["0", false],
    ["no", false],
  ])("reads SCOOT_DETACH=%s as %s", (text, expected) => {
    expect(readClusterConfig(given({}, { SCOOT_DETACH: text })).detach).toBe(expected);
  });

  test.each<[Given["flags"], Given["env"], string]>([
    [{ port: "65536" }, {}, 'Cannot start as --port must be a whole number from 0 to 65535: current value is "65536"'],
    [{ "max-size": "1M" }, {}, 'Cannot start as --max-size must be at least 100M: current value is "1M"'],
    [
      { "max-size": "much" },
      {},
      'Cannot start as --max-size must be a size such as 500M or 20G: current value is "much"',
    ],
    [
      { "guaranteed-age": "1" },
      {},
      'Cannot start as --guaranteed-age must be a time such as 30m or 3h: current value is "1"',
    ],
    [{ port: "0x10" }, {}, 'Cannot start as --port must be a whole number from 0 to 65535: current value is "0x10"'],
    [
      {},
      { SCOOT_SLOTS: "0" },
      'Cannot start as SCOOT_SLOTS must be a whole number from 1 to 10000: current value is "0"',
    ],
    [{ strategy: "x" }, {}, 'Cannot start as --strategy must be "local.local" or "local.memory": current value is "x"'],
    [{ data: "" }, {}, 'Cannot start as --data must be a path: current value is ""'],
    [{}, { SCOOT_DETACH: "maybe" }, 'Cannot start as SCOOT_DETACH must be 1 or 0: current value is "maybe"'],
  ])("refuses %j %j in one sentence", (flags, env, sentence) => {
    expect(() => readClusterConfig(given(flags, env))).toThrow(
      expect.objectContaining({ code: "USAGE_INVALID", message: sentence }),
    );
  });

  test.each(["0.0.0.0", "::", "10.1.2.3", "example.org"])(
    "refuses to listen on %s with how it can be allowed",
    (host) => {
      expect(() => readClusterConfig(given({ host }))).toThrow(expect.objectContaining({
        code: "BIND_REFUSED",
        message: expect.stringMatching(
          /--allow-network, and give the token in \/home\/u\/\.local\/state\/scoot-actors\/token to/,
        ),
      }));
      expect(readClusterConfig(given({ host, "allow-network": true })).host).toBe(host);
      expect(readClusterConfig(given({ host }, { SCOOT_ALLOW_NETWORK: "1" })).host).toBe(host);
    },
  );
});

test("the state folder is where the system's convention says", () => {
  expect(defaultDataDir({ HOME: "/h", XDG_STATE_HOME: "/s" })).toBe("/s/scoot-actors");
  expect(defaultDataDir({ HOME: "/h", XDG_STATE_HOME: "relative" })).toBe("/h/.local/state/scoot-actors");
});

describe("roles alone", () => {
  test("find each other by default, and share one token", () => {
    const scheduler = readSchedulerConfig(given());
    const gateway = readGatewayConfig(given());
    const worker = readWorkerConfig(given({ "worker-id": "w1" }));
    expect(scheduler.listen).toEqual({ host: "127.0.0.1", port: 9091 });
    expect(gateway.scheduler).toEqual(scheduler.listen);
    expect(worker.scheduler).toEqual(scheduler.listen);
    expect(worker.gateway).toEqual(gateway.listen);
    expect(new Set([scheduler.tokenFile, gateway.tokenFile, worker.tokenFile])).toEqual(
      new Set(["/home/u/.local/state/scoot-actors/token"]),
    );
    expect(worker.dataDir).toBe("/home/u/.local/state/scoot-actors/workers/w1");
  });

  test("keep the token with the data that they are told", () => {
    expect(readSchedulerConfig(given({ data: "/d" })).tokenFile).toBe("/d/token");
    expect(readGatewayConfig(given({ data: "/d", "token-file": "t" })).tokenFile).toBe("/home/u/app/t");
  });

  test("read addresses, IPv6 ones in brackets", () => {
    expect(readWorkerConfig(given({ scheduler: "[::1]:1", gateway: "scoot.example:65535" }))).toMatchObject({
      scheduler: { host: "::1", port: 1 },
      gateway: { host: "scoot.example", port: 65_535 },
    });
    for (const scheduler of ["x", "x:", ":1", "x:65536", "x:1:2", "http://x:1"]) {
      expect(() => readWorkerConfig(given({ scheduler }))).toThrow(
        `Cannot start as --scheduler must be a host and a port such as 127.0.0.1:9091: current value is "${scheduler}"`,
      );
    }
  });

  test("refuse to listen where others reach them", () => {
    expect(() => readSchedulerConfig(given({ listen: "0.0.0.0:1" }))).toThrow(
      expect.objectContaining({ code: "BIND_REFUSED" }),
    );
    expect(() => readGatewayConfig(given({ listen: "[::]:1" }))).toThrow(
      expect.objectContaining({ code: "BIND_REFUSED" }),
    );
    expect(readGatewayConfig(given({ listen: "[::]:1", "allow-network": true })).listen).toEqual({
      host: "::",
      port: 1,
    });
  });

  test("read a worker's platform from flags or from one variable", () => {
    expect(readWorkerConfig(given({ platform: ["OSFamily=linux", "pool=a=b"] })).platform).toEqual({
      OSFamily: "linux",
      pool: "a=b",
    });
    expect(readWorkerConfig(given({}, { SCOOT_PLATFORM: "OSFamily=linux,pool=" })).platform).toEqual({
      OSFamily: "linux",
      pool: "",
    });
    expect(() => readWorkerConfig(given({ platform: ["x"] }))).toThrow(
      'Cannot start as --platform must be NAME=VALUE: current value is ["x"]',
    );
  });

  test("give a worker the machine's name, made fit, when it has none", () => {
    expect(readWorkerConfig(given()).workerId).toMatch(/^[A-Za-z0-9._-]{1,64}$/);
    expect(() => readWorkerConfig(given({ "worker-id": "a b" }))).toThrow(
      "--worker-id must be 1 to 64 of A-Z a-z 0-9 . _ -",
    );
  });
});

test("instance names come with commas or each by itself; one that no client could use is refused", () => {
  expect(readClusterConfig(given({ instances: ",main,a/b,main" })).instances).toEqual(["", "main", "a/b"]);
  expect(readGatewayConfig(given({}, { SCOOT_INSTANCES: "main" })).instances).toEqual(["main"]);
  expect(readClusterConfig(given())).not.toHaveProperty("instances");
  for (const instances of ["a//b", "a/blobs"]) {
    expect(() => readClusterConfig(given({ instances }))).toThrow(
      `Cannot start as --instances must be instance names such as main or a/b`,
    );
  }
});
