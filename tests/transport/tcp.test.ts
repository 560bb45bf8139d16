import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { realClock } from "../../src/runtime/clock.ts";
import { magic } from "../../src/transport/frame.ts";
import { tcpTransport } from "../../src/transport/tcp.ts";
import type { Connection } from "../../src/transport/transport.ts";
import { connectionContract, hello, type RawPeer } from "./connection_contract.ts";

const transport = tcpTransport({ clock: realClock });

/** A socket as a raw peer. */
function rawSocket(socket: Socket): RawPeer {
  socket.on("error", () => {});
  const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.resume();
  return {
    write: (bytes) => void socket.write(bytes),
    onBytes: (listener) => void socket.on("data", listener),
    ended,
    end: () => void socket.end(),
  };
}

connectionContract("tcpTransport()", async (options) => {
  const listener = await transport.listen({ ...options, host: "127.0.0.1", port: 0 });
  return {
    address: listener.address,
    dial: transport.dial,
    async dialRaw(address) {
      const socket = connect({ host: "127.0.0.1", port: Number(new URL(address).port), noDelay: true });
      await new Promise<void>((resolve) => socket.once("connect", resolve));
      return rawSocket(socket);
    },
    close: () => listener.close(),
  };
});

const accept = { hello: hello("scheduler"), roles: ["worker"] as const };

test("tcpTransport() accepts a socket whose first bytes somebody else has read", async () => {
  const server = createServer((socket) => {
    socket.once("data", (first: Uint8Array) => {
      socket.pause();
      // A door has more to do before it knows whose socket this is.
      setImmediate(() =>
        transport.acceptSocket(socket, first, {
          ...accept,
          onConnection: (connection) => connection.onMessage((message) => connection.send({ echo: message })),
        })
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const dialled = await transport.dial(`tcp://127.0.0.1:${port}`, { hello: hello("worker") });
  const echo = new Promise((resolve) => dialled.onMessage(resolve));
  dialled.send(1);
  expect(await echo).toEqual({ echo: 1 });
  dialled.close();
  expect(await dialled.closed).toBeUndefined();
  server.close();
});

test("tcpTransport() says the magic first", async () => {
  const first = new Promise<Uint8Array>((resolve) => {
    const server = createServer((socket) => {
      socket.once("data", (bytes) => {
        resolve(bytes);
        socket.destroy();
        server.close();
      });
    });
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      transport.dial(`tcp://127.0.0.1:${port}`, { hello: hello("worker") }).catch(() => {});
    });
  });
  expect((await first).subarray(0, magic.length)).toEqual(Buffer.from("SCOOT/1\n"));
});

test("tcpTransport() dials an HTTP server and says what answered", async () => {
  const server = createServer((socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await expect(transport.dial(`tcp://127.0.0.1:${port}`, { hello: hello("worker") })).rejects.toMatchObject({
    code: "FRAME_TOO_LONG",
    message: expect.stringContaining('"HTTP"'),
  });
  server.close();
});

test("tcpTransport() gives up a peer that accepts and says nothing, after the time for the handshake", async () => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => void sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const dial = transport.dial(`tcp://127.0.0.1:${port}`, { hello: hello("worker"), limits: { handshakeMs: 50 } });
  await expect(dial).rejects.toMatchObject({ code: "PEER_UNREACHABLE", message: expect.stringContaining("50 ms") });
  for (const socket of sockets) socket.destroy();
  server.close();
});

test("tcpTransport() reports a port that is taken, one where nobody listens, and an address that is none", async () => {
  const listener = await transport.listen({ ...accept, host: "127.0.0.1", port: 0, onConnection: () => {} });
  const port = Number(new URL(listener.address).port);
  await expect(transport.listen({ ...accept, host: "127.0.0.1", port, onConnection: () => {} })).rejects.toMatchObject({
    code: "PORT_BUSY",
  });
  await listener.close();
  await expect(transport.dial(listener.address, { hello: hello("worker") })).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
  });
  for (const address of ["http://127.0.0.1:80", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "tcp://a b:1", ""]) {
    await expect(transport.dial(address, { hello: hello("worker") })).rejects.toMatchObject({
      code: "REQUEST_INVALID",
    });
  }
});

test("tcpTransport() speaks IPv6", async () => {
  let accepted: Connection | undefined;
  const listener = await transport.listen({
    ...accept,
    host: "::1",
    port: 0,
    onConnection: (connection) => void (accepted = connection),
  });
  expect(listener.address).toMatch(/^tcp:\/\/\[::1\]:/);
  const dialled = await transport.dial(listener.address, { hello: hello("worker") });
  dialled.close();
  expect(await dialled.closed).toBeUndefined();
  expect(accepted?.peer.role).toBe("worker");
  await listener.close();
});
