import fc from "fast-check";
import { expect, test } from "vitest";
import { Fault } from "../../src/domain/fault.ts";
import { encode } from "../../src/transport/codec.ts";
import type { ByteStream } from "../../src/transport/connection.ts";
import { frameReader } from "../../src/transport/frame.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import type { AcceptOptions, Connection, Limits } from "../../src/transport/transport.ts";
import { frameOf, hello, joined, kinds, opening } from "./connection_contract.ts";
import { manualClock, settle } from "./manual_clock.ts";

const limits: Limits = { heartbeatMs: 100, silenceMs: 500, handshakeMs: 300 };

async function room(options: Partial<AcceptOptions> = {}) {
  const clock = manualClock();
  const transport = memoryTransport({ clock });
  const accepted: Connection[] = [];
  await transport.listen({
    name: "n",
    hello: hello("scheduler"),
    roles: ["worker"],
    limits,
    onConnection(connection) {
      accepted.push(connection);
      connection.onMessage(() => {});
    },
    ...options,
  });
  /** A peer under our hand: what it was sent, and when its stream ended. */
  const raw = () => {
    const stream: ByteStream = transport.connect("memory:n");
    const heard: number[] = [];
    let ended = false;
    const reader = frameReader({ payloadBytesMax: 2 ** 24 });
    stream.attach({
      onBytes(bytes) {
        reader.push(bytes);
        for (let frame = reader.next(); frame !== undefined; frame = reader.next()) heard.push(frame[0] as number);
      },
      onTaken: () => {},
      onEnd: () => void (ended = true),
    });
    return { stream, heard, ended: () => ended };
  };
  return { clock, transport, accepted, raw };
}

test("an idle connection costs one ping and one pong a heartbeat, whichever side begins", async () => {
  const { clock, raw } = await room();
  const { stream, heard } = raw();
  stream.write(opening(hello("worker")));
  await settle();
  for (let beat = 0; beat < 10; beat++) {
    await clock.advance(100);
    stream.write(frameOf(kinds.ping));
    await settle();
  }
  expect(heard.filter((kind) => kind === kinds.ping).length).toBeLessThanOrEqual(1);
  expect(heard.filter((kind) => kind === kinds.pong)).toHaveLength(10);
});

test("two connected sides stay so for an hour without a message", async () => {
  const { clock, transport, accepted } = await room();
  const dialled = await transport.dial("memory:n", { hello: hello("worker"), limits });
  dialled.onMessage(() => {});
  await clock.advance(60_000);
  let ended = false;
  void Promise.race([dialled.closed, accepted[0]?.closed]).then(() => ended = true);
  await settle();
  expect(ended).toBe(false);
  dialled.close();
  await dialled.closed;
  await settle();
  expect(clock.waiting()).toBe(0);
});

test("a peer that says nothing is given up after silenceMs and at most a heartbeat more", async () => {
  const { clock, raw, accepted } = await room();
  const { stream, ended } = raw();
  stream.write(opening(hello("worker")));
  await settle();
  let why: unknown;
  void accepted[0]?.closed.then((fault) => why = fault);
  await clock.advance(499);
  expect(why).toBeUndefined();
  await clock.advance(102);
  expect(why).toMatchObject({ code: "PEER_SILENT" });
  expect(ended()).toBe(true);
  expect(clock.waiting()).toBe(0);
});

test("a process that was itself stopped for a minute does not blame its peer", async () => {
  const { clock, raw, accepted } = await room();
  const { stream } = raw();
  stream.write(opening(hello("worker")));
  await settle();
  let ended = false;
  void accepted[0]?.closed.then(() => ended = true);
  await clock.jump(60_000);
  stream.write(frameOf(kinds.pong));
  await settle();
  await clock.advance(400);
  expect(ended).toBe(false);
  await clock.advance(300);
  expect(ended).toBe(true);
});

test("a peer that reads slowly after a close is hung up on in the end", async () => {
  const { clock, raw, accepted } = await room();
  const { stream, ended } = raw();
  stream.write(opening(hello("worker")));
  await settle();
  stream.pause();
  accepted[0]?.send("x".repeat(1000));
  accepted[0]?.close();
  await settle();
  let closed = false;
  void accepted[0]?.closed.then(() => closed = true);
  await clock.advance(4999);
  expect(closed).toBe(false);
  await clock.advance(1);
  expect(closed).toBe(true);
  stream.resume();
  await settle();
  expect(ended()).toBe(true);
  expect(clock.waiting()).toBe(0);
});

test("who does not finish the handshake in time is hung up on", async () => {
  const { clock, raw, accepted } = await room();
  const { stream, ended } = raw();
  stream.write(opening(hello("worker")).subarray(0, 20));
  await clock.advance(299);
  expect(ended()).toBe(false);
  await clock.advance(1);
  expect(ended()).toBe(true);
  expect(accepted).toEqual([]);
  expect(clock.waiting()).toBe(0);
});

test("a code that this version does not know is INTERNAL, and its message is kept", async () => {
  const { raw, accepted } = await room();
  const { stream } = raw();
  stream.write(joined(
    opening(hello("worker")),
    frameOf(kinds.close, encode({ code: "toString", message: "of the future" })),
  ));
  await settle();
  expect(await accepted[0]?.closed).toMatchObject({ code: "INTERNAL", message: "of the future" });
});

test("an error of onConnection ends that connection only", async () => {
  const { raw, transport } = await room({
    onConnection(connection) {
      if (connection.peer.memberId === "bad") throw new Error("ours");
      connection.onMessage((message) => connection.send(message));
    },
  });
  const bad = raw();
  bad.stream.write(opening(hello("worker", { memberId: "bad" })));
  await settle();
  expect(bad.heard).toEqual([kinds.hello, kinds.close]);
  expect(bad.ended()).toBe(true);
  const good = await transport.dial("memory:n", { hello: hello("worker") });
  const echo = new Promise((resolve) => good.onMessage(resolve));
  good.send(1);
  expect(await echo).toBe(1);
  good.close();
});

/** Bytes which are at first right, then changed. */
const damagedConversation = fc.record({
  // A key of that name cannot be encoded, which is no damage.
  messages: fc.array(fc.jsonValue().filter((value) => !JSON.stringify(value).includes("__proto__")), { maxLength: 5 }),
  changes: fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }),
  cuts: fc.array(fc.nat(), { maxLength: 8 }),
  garbage: fc.uint8Array({ maxLength: 40 }),
});

test("damaged conversations end in a fault that the peer is told, or are understood; never in a crash", async () => {
  const { raw, accepted, clock } = await room();
  await fc.assert(
    fc.asyncProperty(damagedConversation, async ({ messages, changes, cuts, garbage }) => {
      accepted.length = 0;
      const { stream, heard, ended } = raw();
      const bytes = joined(
        opening(hello("worker")),
        ...messages.map((message) => frameOf(kinds.message, encode(message))),
        garbage,
      );
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
      const places = [0, ...cuts.map((cut) => cut % bytes.length).sort((a, b) => a - b), bytes.length];
      for (const [index, end] of places.slice(1).entries()) stream.write(bytes.slice(places[index], end));
      await settle();
      if (ended() && accepted.length === 0) expect(heard).toEqual([kinds.close]);
      stream.end();
      await clock.advance(1000);
      expect(ended()).toBe(true);
      for (const connection of accepted) {
        const why = await connection.closed;
        if (why !== undefined) expect(why).toBeInstanceOf(Fault);
      }
      expect(clock.waiting()).toBe(0);
    }),
    { numRuns: 200 },
  );
});
