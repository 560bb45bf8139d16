import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { realClock } from "../../src/runtime/clock.ts";
import { encode } from "../../src/transport/codec.ts";
import type { AcceptOptions, Connection } from "../../src/transport/transport.ts";
import { webSocketOptions, webSocketTransport } from "../../src/transport/websocket.ts";
import { connectionContract, frameOf, hello, kinds, opening } from "./connection_contract.ts";

const transport = webSocketTransport({ clock: realClock });

async function listen(options: AcceptOptions): Promise<{ readonly address: string; close(): Promise<void> }> {
  const server = createServer();
  server.on("upgrade", (request, socket, head) => transport.acceptUpgrade(request, socket, head, options));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1/connect`,
    // deno-lint-ignore require-await -- the server's callback would wait for the open connections
    async close() {
      server.close();
    },
  };
}

connectionContract("webSocketTransport()", async (options) => ({
  ...await listen(options),
  dial: transport.dial,
  async dialRaw(address) {
    const webSocket = new WebSocket(address);
    webSocket.on("error", () => {});
    const ended = new Promise<void>((resolve) => webSocket.once("close", () => resolve()));
    await new Promise<void>((resolve) => webSocket.once("open", resolve));
    return {
      write: (bytes) => webSocket.send(bytes),
      onBytes: (listener) => void webSocket.on("message", (data: Uint8Array) => listener(data)),
      ended,
      end: () => webSocket.close(),
    };
  },
}));

const accept = { hello: hello("gateway"), roles: ["client"] as const };
const client = hello("client");

test("webSocketTransport() is spoken by a browser's WebSocket", async () => {
  const listener = await listen({
    ...accept,
    onConnection: (connection) => connection.onMessage((message) => connection.send({ echo: message })),
  });
  const browser = new globalThis.WebSocket(listener.address);
  browser.binaryType = "arraybuffer";
  const heard: Uint8Array[] = [];
  await new Promise<void>((resolve, reject) => {
    browser.onerror = () => reject(new Error("the WebSocket broke"));
    browser.onopen = () => {
      browser.send(opening(client));
      browser.send(frameOf(kinds.message, encode("from the browser")));
    };
    browser.onmessage = ({ data }) => {
      heard.push(new Uint8Array(data as ArrayBuffer));
      if (Buffer.concat(heard).includes("from the browser")) resolve();
    };
  });
  expect(Buffer.concat(heard)).toContainEqual(kinds.message);
  const closed = new Promise<void>((resolve) => browser.onclose = () => resolve());
  browser.send(frameOf(kinds.close, encode(null)));
  await closed;
  await listener.close();
});

test("webSocketTransport() accepts a WebSocket that somebody else has upgraded", async () => {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", ...webSocketOptions });
  await new Promise<void>((resolve) => server.once("listening", resolve));
  const accepted = new Promise<Connection>((resolve) => {
    server.on(
      "connection",
      (webSocket, request) =>
        transport.acceptWebSocket(webSocket, `${request.socket.remoteAddress}`, { ...accept, onConnection: resolve }),
    );
  });
  const { port } = server.address() as AddressInfo;
  const dialled = await transport.dial(`ws://127.0.0.1:${port}`, { hello: client });
  const other = await accepted;
  other.onMessage(() => {});
  expect(other.remote).toBe("127.0.0.1");
  dialled.close();
  expect(await other.closed).toBeUndefined();
  server.close();
});

for (
  const [what, data] of [["a text message", "hello"], [
    "a message above 1 MiB",
    new Uint8Array(1024 * 1024 + 1),
  ]] as const
) {
  test(`webSocketTransport() hangs up on ${what}`, async () => {
    const accepted: Connection[] = [];
    const listener = await listen({ ...accept, onConnection: (connection) => void accepted.push(connection) });
    const webSocket = new WebSocket(listener.address);
    webSocket.on("error", () => {});
    await new Promise<void>((resolve) => webSocket.once("open", resolve));
    const closed = new Promise<void>((resolve) => webSocket.once("close", () => resolve()));
    webSocket.send(opening(client));
    webSocket.send(data);
    await closed;
    expect(await accepted[0]?.closed).toMatchObject({ code: "PEER_UNREACHABLE" });
    await listener.close();
  });
}

test("webSocketTransport() reports an address that is none, and a server that does not upgrade", async () => {
  for (const address of ["tcp://127.0.0.1:1", "ws://", "127.0.0.1"]) {
    await expect(transport.dial(address, { hello: client })).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  }
  const server = createServer((_, response) => void response.writeHead(404).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await expect(transport.dial(`ws://127.0.0.1:${port}/nowhere`, { hello: client })).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
    message: expect.stringContaining("404"),
  });
  server.close();
});
