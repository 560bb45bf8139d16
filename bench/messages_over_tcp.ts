/**
 * How many messages a second does a connection carry? Both ends are in this one process, so every message is encoded,
 * written, read, scanned and decoded on one thread; the baseline writes and reads the same bytes over a bare socket.
 */
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import process from "node:process";
import { realClock } from "../src/runtime/clock.ts";
import { decode, encode } from "../src/transport/codec.ts";
import { frameHeaderBytes } from "../src/transport/frame.ts";
import { tcpTransport } from "../src/transport/tcp.ts";
import type { Connection, Hello } from "../src/transport/transport.ts";
import { type Figure, report } from "./report.ts";

const hello = (role: Hello["role"]): Hello => ({
  protocol: "scoot-actors",
  version: 1,
  role,
  memberId: role,
  incarnation: "1",
});

/** What a worker says most: 276 bytes. */
const message = {
  id: "w1-000123",
  from: "worker/w1",
  to: "task/j01k3x9q7f-4m2d/0",
  sentAtMs: 1764000000000,
  body: {
    type: "task.exited",
    taskId: "j01k3x9q7f-4m2d/0",
    attempt: 1,
    outcome: {
      kind: "exited",
      exitCode: 0,
      output: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0",
      startedAtMs: 1764000000000,
      endedAtMs: 1764000000100,
    },
  },
};
const encoded = Uint8Array.from(encode(message));

/** Runs `once` some times to warm up, then `count` times, and gives the rate. */
async function perSecond(count: number, run: (count: number) => Promise<void> | void): Promise<number> {
  await run(Math.ceil(count / 5));
  const startMs = performance.now();
  await run(count);
  return count / ((performance.now() - startMs) / 1000);
}

const transport = tcpTransport({ clock: realClock });
let arrived = 0;
let expected = 0;
let allArrived = (): void => {};
const listener = await transport.listen({
  host: "127.0.0.1",
  port: 0,
  hello: hello("scheduler"),
  roles: ["worker"],
  onConnection(connection) {
    connection.onMessage((message) => {
      if ((message as { ping?: true }).ping) connection.send(message);
      else if (++arrived === expected) allArrived();
    });
  },
});
const connection = await transport.dial(listener.address, { hello: hello("worker") });
let answered = (): void => {};
connection.onMessage(() => answered());

/** Sends `count` messages, `together` in each write, and waits until the last has been handled. */
async function send(connection: Connection, count: number, together: number): Promise<void> {
  arrived = 0;
  expected = count;
  const all = new Promise<void>((resolve) => allArrived = resolve);
  for (let sent = 0; sent < count; sent++) {
    connection.send(message);
    if ((sent + 1) % together !== 0) continue;
    // The end of a turn, for the connection; the next one begins at once.
    await undefined;
    if (connection.bufferedBytes > 256 * 1024) await connection.drained();
  }
  await all;
}

/** The same over a bare socket, without encoding, framing or reading what comes. */
async function sendBare(socket: Socket, count: number, together: number): Promise<void> {
  const piece = new Uint8Array((frameHeaderBytes + 1 + encoded.length) * together);
  bareArrivedBytes = 0;
  bareExpectedBytes = piece.length * (count / together);
  const all = new Promise<void>((resolve) => allArrived = resolve);
  for (let sent = 0; sent < count; sent += together) {
    if (!socket.write(piece)) await new Promise((resolve) => socket.once("drain", resolve));
    else await undefined;
  }
  await all;
}
let bareArrivedBytes = 0;
let bareExpectedBytes = 0;
const bareServer = createServer({ noDelay: true }, (socket) => {
  socket.on("data", (chunk) => {
    bareArrivedBytes += chunk.length;
    if (bareArrivedBytes >= bareExpectedBytes) allArrived();
  });
});
await new Promise<void>((resolve) => bareServer.listen(0, "127.0.0.1", resolve));
const bare = connect({ host: "127.0.0.1", port: (bareServer.address() as AddressInfo).port, noDelay: true });

const figures: Figure[] = [
  {
    name: "messages of 276 bytes, each in its own write",
    value: await perSecond(50_000, (count) => send(connection, count, 1)),
    baseline: await perSecond(50_000, (count) => sendBare(bare, count, 1)),
    unit: "messages/s",
    target: { atLeast: 20_000 },
  },
  {
    name: "messages of 276 bytes, 1,000 in each turn",
    value: await perSecond(200_000, (count) => send(connection, count, 1000)),
    baseline: await perSecond(200_000, (count) => sendBare(bare, count, 1000)),
    unit: "messages/s",
    target: { atLeast: 80_000 },
  },
  {
    name: "questions and answers, one after the other",
    value: await perSecond(10_000, async (count) => {
      for (let asked = 0; asked < count; asked++) {
        const answer = new Promise<void>((resolve) => answered = resolve);
        connection.send({ ping: true });
        await answer;
      }
    }),
    unit: "round trips/s",
    target: { atLeast: 3000 },
  },
  {
    name: "encode()",
    value: 1e6 / await perSecond(200_000, (count) => {
      for (let n = 0; n < count; n++) encode(message);
    }),
    unit: "µs",
    target: { atMost: 10 },
  },
  {
    name: "decode()",
    value: 1e6 / await perSecond(200_000, (count) => {
      for (let n = 0; n < count; n++) decode(encoded);
    }),
    unit: "µs",
    target: { atMost: 10 },
  },
];
report(figures, process.argv.slice(2));

connection.close();
await listener.close();
bare.destroy();
bareServer.close();
