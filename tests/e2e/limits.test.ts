import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startCluster, type TestCluster } from "../../scripts/support/cluster.ts";
import { protocolVersion } from "../../src/protocol/version.ts";
import { seededRandom } from "../../src/runtime/random.ts";
import { decode, encode } from "../../src/transport/codec.ts";
import { frameHeaderBytes, frameReader, magic, writeFrameHeader } from "../../src/transport/frame.ts";

/** What strangers may cost the gateway, all of this file's together: of memory that is its own, beside mapped files. */
const growthBytesMax = 50 * 1024 * 1024;
const kinds = { message: 0, hello: 1, close: 4 };

describe("bad bytes at the port", () => {
  let cluster: TestCluster;
  let port: number;
  let gateway: number;
  let bytesAtFirst: number;
  const hello = (more: object = {}): object => ({
    protocol: "scoot-actors",
    version: protocolVersion,
    role: "client",
    memberId: "stranger",
    incarnation: "stranger",
    token: cluster.token,
    ...more,
  });

  const ownBytes = (): number =>
    Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${gateway}/status`, "latin1"))?.[1]) * 1_024;
  const good = async (): Promise<number> => {
    const answer = await fetch(`${cluster.ready.http}/v1/cluster`, {
      headers: { authorization: `Bearer ${cluster.token}` },
    });
    await answer.text();
    return answer.status;
  };

  beforeAll(async () => {
    cluster = await startCluster(["--workers", "1"]);
    port = Number(new URL(cluster.ready.http).port);
    gateway = cluster.pids("gateway")[0]!;
    for (let count = 0; count < 50; count++) await good();
    bytesAtFirst = ownBytes();
  });
  afterEach(async () => {
    expect(await good()).toBe(200);
    expect(cluster.pids("gateway")).toEqual([gateway]);
    expect(ownBytes() - bytesAtFirst).toBeLessThan(growthBytesMax);
  });
  afterAll(async () => {
    const code = await cluster?.stop();
    expect(code).toBe(0);
    expect(cluster?.log()).not.toMatch(/INTERNAL|Uncaught|unhandled/);
  });

  const open = (): Socket => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.on("error", () => {});
    return socket;
  };
  /** Sends those bytes, in that order. @returns what came back until the other side closed. */
  const say = (...pieces: readonly Uint8Array[]): Promise<Buffer> =>
    new Promise((resolve) => {
      const heard: Buffer[] = [];
      const socket = open();
      socket.on("data", (bytes: Buffer) => heard.push(bytes));
      socket.on("end", () => socket.end());
      socket.on("close", () => resolve(Buffer.concat(heard)));
      for (const piece of pieces) socket.write(piece);
    });
  const frame = (kind: number, body: Uint8Array): Buffer => {
    const bytes = Buffer.alloc(frameHeaderBytes + 1 + body.length);
    writeFrameHeader(bytes, 0, 1 + body.length);
    bytes[frameHeaderBytes] = kind;
    bytes.set(body, frameHeaderBytes + 1);
    return bytes;
  };
  const header = (payloadBytes: number): Buffer => {
    const bytes = Buffer.alloc(frameHeaderBytes);
    writeFrameHeader(bytes, 0, payloadBytes);
    return bytes;
  };
  const deep = (levels: number): Buffer => Buffer.alloc(levels, 0x81); // arrays of one, one in the other
  /** The reason of the close that ends the answer. */
  const reason = (answer: Uint8Array): { readonly code: string; readonly message: string } => {
    const reader = frameReader({ payloadBytesMax: 1024 * 1024 });
    reader.push(answer);
    for (let payload = reader.next(); payload !== undefined; payload = reader.next()) {
      if (payload[0] === kinds.close) return decode(payload.subarray(1)) as { code: string; message: string };
    }
    throw new Error(`There is no close in ${Buffer.from(answer).toString("latin1")}`);
  };

  test("garbage is refused as HTTP refuses it, or just closed", async () => {
    const random = seededRandom(1);
    for (const bytes of [10, 1_000, 100_000]) {
      const answer = await say(Uint8Array.from({ length: bytes }, () => random.integer(256)), Buffer.from("\r\n\r\n"));
      expect(answer.toString("latin1")).toMatch(/^($|HTTP\/1\.1 400 )/);
    }
  });

  test.each<[string, () => readonly Uint8Array[], string]>([
    ["garbage", () => [frame(kinds.hello, Buffer.from("garbage"))], "FRAME_INVALID"],
    ["a frame that claims 4 GiB", () => [header(0xffffffff)], "FRAME_TOO_LONG"],
    ["a hello of 1 MiB", () => [header(1024 * 1024)], "FRAME_TOO_LONG"],
    ["a hello nested 16,000 deep", () => [frame(kinds.hello, deep(16_000))], "FRAME_INVALID"],
    ["a message before the hello", () => [frame(kinds.message, encode({}))], "FRAME_INVALID"],
    ["a hello of another protocol", () => [frame(kinds.hello, encode({ protocol: "x", version: 1 }))], "FRAME_INVALID"],
    ["a wrong version", () => [frame(kinds.hello, encode(hello({ version: 999 })))], "VERSION_MISMATCH"],
    ["a wrong token", () => [frame(kinds.hello, encode(hello({ token: "x" })))], "TOKEN_INVALID"],
    ["no token", () => {
      const { token: _, ...without } = hello() as { token: string };
      return [frame(kinds.hello, encode(without))];
    }, "TOKEN_INVALID"],
    [
      "a role that does not come here",
      () => [frame(kinds.hello, encode(hello({ role: "gateway" })))],
      "REQUEST_INVALID",
    ],
    [
      "a message that claims 9 MiB",
      () => [frame(kinds.hello, encode(hello())), header(9 * 1024 * 1024)],
      "FRAME_TOO_LONG",
    ],
    [
      "a message nested a million deep",
      () => [frame(kinds.hello, encode(hello())), frame(kinds.message, deep(1_000_000))],
      "FRAME_INVALID",
    ],
    [
      "a message that is no request",
      () => [frame(kinds.hello, encode(hello())), frame(kinds.message, encode({ sentAtMs: 1, body: { type: "x" } }))],
      "REQUEST_INVALID",
    ],
  ])("%s in our protocol is refused with a code and a sentence", async (_, pieces, code) => {
    const refused = reason(await say(magic, ...pieces()));
    expect(refused.code).toBe(code);
    expect(refused.message).toMatch(/^Cannot [^\n]+$/);
    expect(refused.message.length).toBeLessThan(500);
  });

  test.each<[string, string, RequestInit, number, string]>([
    ["a body of 9 MiB", "/v1/jobs", { method: "POST", body: new Uint8Array(9 * 1024 * 1024) }, 413, "FRAME_TOO_LONG"],
    ["JSON nested a million deep", "/v1/jobs", { method: "POST", body: "[".repeat(1_000_000) }, 400, "REQUEST_INVALID"],
    ["JSON that is cut off", "/v1/jobs", { method: "POST", body: '{"key":' }, 400, "REQUEST_INVALID"],
    ["bytes that are not UTF-8", "/v1/jobs", { method: "POST", body: new Uint8Array([0xff]) }, 400, "REQUEST_INVALID"],
    ["a job that is none", "/v1/jobs", { method: "POST", body: "{}" }, 400, "REQUEST_INVALID"],
    ["a digest that is none", `/v1/blobs/${"x".repeat(64)}/1`, {}, 400, "DIGEST_INVALID"],
    [
      "a job whose task is its own input",
      "/v1/jobs",
      {
        method: "POST",
        body: JSON.stringify({ key: "k", tasks: [{ name: "a", argv: ["x"], input: { kind: "task", task: "a" } }] }),
      },
      400,
      "JOB_INVALID",
    ],
    ["a path that leads up", `/v1/names/${encodeURIComponent("../../token")}`, {}, 404, "REF_UNKNOWN"],
    ["a route that is none", "/v1/nothing", {}, 404, "ROUTE_UNKNOWN"],
  ])("%s over HTTP is refused with a code and a sentence", async (_, path, init, status, code) => {
    const answer = await fetch(`${cluster.ready.http}${path}`, {
      ...init,
      headers: { authorization: `Bearer ${cluster.token}`, "content-type": "application/json" },
    });
    const told = await answer.json() as { code: string; message: string };
    expect([answer.status, told.code]).toEqual([status, code]);
    expect(told.message).toMatch(/^Cannot [^\n]+$/);
    expect(told.message.length).toBeLessThan(1_000);
  });

  test("an HTTP header of a megabyte is cut off", async () => {
    const answer = await say(Buffer.from(`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${"x".repeat(1024 * 1024)}\r\n\r\n`));
    expect(answer.toString("latin1")).toMatch(/^($|HTTP\/1\.1 431 )/);
  });

  test("a WebSocket elsewhere, and one that sends text, are closed", async () => {
    const closed = (path: string, text?: string): Promise<number> =>
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
        socket.on("error", () => {});
        socket.on("open", () => text !== undefined && socket.send(text));
        socket.on("close", resolve);
      });
    expect(await closed("/elsewhere")).toBe(1006);
    expect(await closed("/v1/connect", "text")).toBe(1006);
  });

  test("1,000 idle connections and a header that comes by the byte: others are served, and all are closed in time", async () => {
    const idle = Array.from({ length: 1_000 }, (_, index) => {
      const socket = open();
      // Some say nothing, some begin in each language, some are half of a request.
      const beginning = [
        "",
        "SCOOT",
        "SCOOT/1\n",
        "PRI * ",
        "GET /v1/cluster HTTP/1.1\r\nHost: 127.0.0.1\r\n",
      ][index % 5]!;
      if (beginning !== "") socket.write(beginning);
      return new Promise<void>((resolve) => socket.on("close", () => resolve()).resume());
    });
    const slow = open();
    slow.write("GET /v1/cluster HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ");
    const drip = setInterval(() => slow.write("x"), 100);
    const slowClosed = new Promise<void>((resolve) => slow.on("close", () => resolve()).resume());
    const startedMs = performance.now();
    try {
      for (let count = 0; count < 20; count++) {
        const askedMs = performance.now();
        expect(await good()).toBe(200);
        expect(performance.now() - askedMs).toBeLessThan(5_000);
      }
      expect(ownBytes() - bytesAtFirst).toBeLessThan(growthBytesMax);
      await Promise.all([...idle, slowClosed]);
      expect(performance.now() - startedMs).toBeLessThan(30_000);
    } finally {
      clearInterval(drip);
    }
  });
});
