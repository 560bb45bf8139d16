import { expect, test } from "vitest";
import { Fault } from "../../src/domain/fault.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { seededRandom } from "../../src/runtime/random.ts";
import { keepDialing } from "../../src/transport/redial.ts";
import type { Connection } from "../../src/transport/transport.ts";
import { hello } from "./connection_contract.ts";
import { manualClock, settle } from "./manual_clock.ts";

/** A connection that ends when it is told to. */
function fakeConnection(): { readonly connection: Connection; end(why?: Fault): void; readonly closes: number } {
  let end = (_why?: Fault): void => {};
  let closes = 0;
  const closed = new Promise<Fault | undefined>((resolve) => end = resolve);
  return {
    end,
    get closes() {
      return closes;
    },
    connection: {
      peer: hello("scheduler"),
      remote: "fake",
      bufferedBytes: 0,
      closed,
      send: () => {},
      drained: () => Promise.resolve(),
      onMessage: () => {},
      close(why) {
        closes++;
        end(why);
      },
    },
  };
}

const refused = new Fault("PEER_UNREACHABLE", "Cannot reach it");
const backoff = { firstMs: 100, maxMs: 800 };
/** Always waits as long as it may. */
const patient = { integer: (below: number): number => below - 1 };

async function keeping(clock: Clock, dial: (signal: AbortSignal) => Promise<Connection>, random = patient) {
  const abort = new AbortController();
  const connections: Connection[] = [];
  const troubles: string[] = [];
  const done = keepDialing({
    dial,
    onConnection: (connection) => void connections.push(connection),
    clock,
    random,
    backoff,
    onTrouble: (fault) => void troubles.push(fault.code),
    signal: abort.signal,
  });
  await settle();
  return { abort, connections, troubles, done };
}

test("keepDialing() waits twice as long after each failure, up to the most", async () => {
  const clock = manualClock();
  const dialledAtMs: number[] = [];
  const kept = await keeping(clock, () => {
    dialledAtMs.push(clock.now());
    return Promise.reject(refused);
  });
  for (let step = 0; step < 300; step++) await clock.advance(10);
  expect(dialledAtMs.slice(0, 7)).toEqual([0, 100, 300, 700, 1500, 2300]);
  kept.abort.abort();
  await kept.done;
});

test("keepDialing() spreads its tries by chance", async () => {
  const clock = manualClock();
  const random = seededRandom(1);
  let dials = 0;
  const kept = await keeping(clock, () => {
    dials++;
    return Promise.reject(refused);
  }, random);
  for (let step = 0; step < 1000; step++) await clock.advance(10);
  // On average half of the most: 10 s at 400 ms each.
  expect(dials).toBeGreaterThan(15);
  expect(dials).toBeLessThan(45);
  kept.abort.abort();
  await kept.done;
});

test("keepDialing() tries again soon when the connection that broke had lived a while", async () => {
  const clock = manualClock();
  const dialledAtMs: number[] = [];
  let fake = fakeConnection();
  let isUp = false;
  const kept = await keeping(clock, () => {
    dialledAtMs.push(clock.now());
    return isUp ? Promise.resolve((fake = fakeConnection()).connection) : Promise.reject(refused);
  });
  for (let step = 0; step < 70; step++) await clock.advance(10);
  isUp = true;
  for (let step = 0; step < 80; step++) await clock.advance(10);
  expect(dialledAtMs).toEqual([0, 100, 300, 700, 1500]);
  expect(kept.connections).toEqual([fake.connection]);
  await clock.advance(6000);
  fake.end(refused);
  await settle();
  await clock.advance(100);
  expect(dialledAtMs.at(-1)).toBe(7600);
  expect(kept.connections).toHaveLength(2);
  kept.abort.abort();
  await kept.done;
});

test("keepDialing() keeps waiting longer when connections break at once", async () => {
  const clock = manualClock();
  const dialledAtMs: number[] = [];
  const kept = await keeping(clock, () => {
    dialledAtMs.push(clock.now());
    const fake = fakeConnection();
    fake.end(refused);
    return Promise.resolve(fake.connection);
  });
  for (let step = 0; step < 160; step++) await clock.advance(10);
  expect(dialledAtMs).toEqual([0, 100, 300, 700, 1500]);
  expect(kept.troubles).toHaveLength(5);
  kept.abort.abort();
  await kept.done;
});

test("keepDialing() tells what trying will not cure, and tries it every five seconds only", async () => {
  const clock = manualClock();
  const dialledAtMs: number[] = [];
  const kept = await keeping(clock, () => {
    dialledAtMs.push(clock.now());
    return Promise.reject(new Fault("TOKEN_INVALID", "Cannot accept this connection"));
  });
  for (let step = 0; step < 120; step++) await clock.advance(100);
  expect(dialledAtMs).toEqual([0, 5000, 10_000]);
  expect(kept.troubles).toEqual(["TOKEN_INVALID", "TOKEN_INVALID", "TOKEN_INVALID"]);
  kept.abort.abort();
  await kept.done;
});

test("keepDialing() says nothing of an ordinary close, and dials again", async () => {
  const clock = manualClock();
  const fakes = [fakeConnection(), fakeConnection()];
  let dials = 0;
  const kept = await keeping(clock, () => Promise.resolve((fakes[dials++] ?? fakeConnection()).connection));
  fakes[0]?.end();
  await settle();
  await clock.advance(100);
  expect(dials).toBe(2);
  expect(kept.troubles).toEqual([]);
  kept.abort.abort();
  await kept.done;
});

test("keepDialing() stops at once when aborted: in a wait, in a dial, and with a connection, which it closes", async () => {
  const clock = manualClock();
  const waiting = await keeping(clock, () => Promise.reject(refused));
  waiting.abort.abort();
  await waiting.done;

  const dialling = await keeping(clock, (signal) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(new Fault("CANCELLED", "Cannot dial: it was cancelled")));
    }));
  dialling.abort.abort();
  await dialling.done;
  expect(dialling.troubles).toEqual([]);

  const fake = fakeConnection();
  const connected = await keeping(clock, () => Promise.resolve(fake.connection));
  connected.abort.abort();
  await connected.done;
  expect(fake.closes).toBe(1);
  expect(clock.waiting()).toBe(0);
});

test("keepDialing() closes a connection that comes after the abort, without handing it over", async () => {
  const clock = manualClock();
  const fake = fakeConnection();
  let arrive = (_connection: Connection): void => {};
  const kept = await keeping(clock, () => new Promise((resolve) => arrive = resolve));
  kept.abort.abort();
  arrive(fake.connection);
  await kept.done;
  expect(fake.closes).toBe(1);
  expect(kept.connections).toEqual([]);
});

test("keepDialing() closes a connection that onConnection fails to begin with, and dials again", async () => {
  const clock = manualClock();
  const fakes = [fakeConnection(), fakeConnection()];
  const abort = new AbortController();
  const troubles: string[] = [];
  let dials = 0;
  const done = keepDialing({
    dial: () => Promise.resolve((fakes[dials++] ?? fakeConnection()).connection),
    onConnection() {
      if (dials === 1) throw new Error("ours");
    },
    clock,
    random: patient,
    onTrouble: (fault) => void troubles.push(fault.message),
    signal: abort.signal,
  });
  await settle();
  expect(fakes[0]?.closes).toBe(1);
  await clock.advance(5000);
  expect(dials).toBe(2);
  expect(troubles).toEqual(["Cannot begin with a connection: ours"]);
  abort.abort();
  await done;
});
