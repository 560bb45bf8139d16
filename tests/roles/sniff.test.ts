import { Buffer } from "node:buffer";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { feedHttpServer, sniffSocket } from "../../src/roles/sniff.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { eventually } from "./support.ts";

describe("sniffSocket()", () => {
  let server: Server;
  let taken: string[] = [];
  let wakes: { atMs: number; wake: () => void; isCancelled: boolean }[] = [];
  const sockets: Socket[] = [];
  const clock: Clock = {
    now: () => 5_000,
    at(atMs, wake) {
      const timer = { atMs, wake, isCancelled: false };
      wakes.push(timer);
      return () => void (timer.isCancelled = true);
    },
  };
  const http = createHttpServer(
    { headersTimeout: 300, connectionsCheckingInterval: 20 },
    (request, response) => response.end(`${request.method} ${request.url}`),
  );
  const give = feedHttpServer(http);

  beforeEach(async () => {
    taken = [];
    wakes = [];
    /** What is read after the sniffing, as it comes. */
    const echo = (name: string, socket: Socket): void => {
      taken.push(name);
      socket.on("data", (bytes) => socket.write(`${name}:${bytes}`));
    };
    server = createServer({ pauseOnConnect: true }, (socket) =>
      sniffSocket(socket, {
        onCbor(socket, firstBytes) {
          socket.write(`first ${Buffer.from(firstBytes)}`);
          echo("cbor", socket);
        },
        onHttp2: (socket) => echo("http2", socket),
        onHttp(socket) {
          taken.push("http");
          give(socket);
        },
      }, clock));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
    server.close();
  });

  /** Sends the pieces, each when the last has left; answers arrive in `said`. */
  async function dial(...pieces: readonly string[]): Promise<{ said: string; isClosed: boolean; socket: Socket }> {
    const socket = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", noDelay: true });
    sockets.push(socket);
    const peer = { said: "", isClosed: false, socket };
    socket.on("data", (bytes) => peer.said += bytes).on("error", () => {}).on("close", () => peer.isClosed = true);
    for (const piece of pieces) await new Promise((resolve) => socket.write(piece, resolve));
    return peer;
  }

  test("our own protocol is recognised, whole or byte by byte, and nothing is lost", async () => {
    const whole = await dial("SCOOT/1\nrest");
    await eventually("it was answered", () => whole.said === "first SCOOT/1\nrest");
    const pieces = await dial(..."SCOOT/1\n");
    await eventually("it was answered", () => pieces.said === "first SCOOT/1\n");
    pieces.socket.write("more");
    await eventually("it goes on", () => pieces.said === "first SCOOT/1\ncbor:more");
    expect(taken).toEqual(["cbor", "cbor"]);
  });

  test("HTTP/2 is recognised, and its taker reads from the first byte on", async () => {
    const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const whole = await dial(preface);
    await eventually("it was answered", () => whole.said === `http2:${preface}`);
    const pieces = await dial(...preface);
    await eventually("it was answered", () => pieces.said.replaceAll("http2:", "") === preface);
    expect(taken).toEqual(["http2", "http2"]);
  });

  test.each([
    [["GET /a HTTP/1.1\r\nhost: x\r\n\r\n"], "GET /a"],
    [["P", "OST /b HTTP/1.1\r\nhost: x\r\n\r\n"], "POST /b"],
    [[..."PUT /c HTTP/1.1\r\nhost: x\r\n\r\n"], "PUT /c"],
    [["S", "EARCH /d HTTP/1.1\r\nhost: x\r\n\r\n"], "SEARCH /d"],
    [["PR", "OPFIND /e HTTP/1.1\r\nhost: x\r\n\r\n"], "PROPFIND /e"],
  ])("HTTP/1 in the pieces %j is answered", async (pieces, answer) => {
    const peer = await dial(...pieces);
    await eventually("it was answered", () => peer.said.endsWith(`\r\n\r\n${answer}`));
    expect(taken).toEqual(["http"]);
  });

  test("HTTP/1 is served as by a server that listens: several requests, a client that has ended, one that is too slow", async () => {
    const again = await dial("GET /1 HTTP/1.1\r\nhost: x\r\n\r\n");
    await eventually("it was answered", () => again.said.endsWith("GET /1"));
    again.socket.write("GET /2 HTTP/1.1\r\nhost: x\r\n\r\n");
    await eventually("it was answered again", () => again.said.endsWith("GET /2"));
    const ended = await dial();
    ended.socket.end("GET /3 HTTP/1.1\r\nhost: x\r\n\r\n");
    await eventually("it was answered", () => ended.said.endsWith("GET /3"));
    const slow = await dial("GET /4 HTTP/1.1\r\n");
    await eventually("it was closed", () => slow.isClosed);
    expect(slow.said).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
  });

  test("what is nothing of these is left to HTTP/1 to refuse", async () => {
    const peer = await dial("\x16\x03\x01hello");
    await eventually("it was refused", () => peer.isClosed);
    expect(peer.said).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
  });

  test("a peer that does not show its language within ten seconds is closed", async () => {
    const silent = await dial();
    const slow = await dial("SCOOT");
    await eventually("both are waited for", () => wakes.length === 2);
    expect(wakes.map((it) => it.atMs)).toEqual([15_000, 15_000]);
    for (const { wake } of wakes) wake();
    await eventually("both are closed", () => silent.isClosed && slow.isClosed);
    expect(taken).toEqual([]);
  });

  test("a peer that ends or breaks off before it has shown its language is closed and not waited for", async () => {
    const ends = await dial("SCO");
    ends.socket.end();
    const breaks = await dial("PRI");
    await eventually("both are waited for", () => wakes.length === 2);
    breaks.socket.resetAndDestroy();
    await eventually("nobody is waited for", () => ends.isClosed && wakes.every((it) => it.isCancelled));
    expect(taken).toEqual([]);
  });
});
