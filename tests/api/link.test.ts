import { expect, onTestFinished, test } from "vitest";
import { createLink, type Link, type LinkOptions, type Subscription } from "../../src/api/link.ts";
import { Fault } from "../../src/domain/fault.ts";
import { parseAnswer, parseToPassOn, type SchedulerRequest } from "../../src/protocol/client_messages.ts";
import { protocolVersion } from "../../src/protocol/version.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import type { Connection } from "../../src/transport/transport.ts";
import { startRig, until } from "./rig.ts";

/** A link, and its peer's end: what that has heard, and says. */
async function joined(parse: LinkOptions["parse"] = parseAnswer) {
  const memory = memoryTransport({ clock: realClock });
  const heard: { readonly id: number; readonly body: SchedulerRequest }[] = [];
  const ends: Connection[] = [];
  const hello = { protocol: "scoot-actors", version: protocolVersion, incarnation: "one" } as const;
  const listener = await memory.listen({
    name: "peer",
    hello: { ...hello, role: "scheduler", memberId: "peer" },
    roles: ["gateway"],
    onConnection(connection) {
      ends.push(connection);
      connection.onMessage((input) => void heard.push(input as typeof heard[number]));
    },
  });
  const link: Link<SchedulerRequest> = createLink({
    clock: realClock,
    parse,
    peer: "the peer",
    advice: "",
    waitMs: 10_000,
    requestsMax: 10,
  });
  onTestFinished(async () => {
    link.close();
    await listener.close();
  });
  const connect = async (): Promise<Connection> => {
    const connection = await memory.dial("memory:peer", { hello: { ...hello, role: "gateway", memberId: "us" } });
    link.attach(connection);
    return connection;
  };
  return { link, heard, ends, connect };
}

const cluster = { type: "cluster.get" } as const;
const subscription = (over: Partial<Subscription<SchedulerRequest>> & { failures: Fault[] }) => ({
  begin: (watch: number) => ({ type: "tree.serve", watch }) as const,
  stop: (watch: number) => ({ type: "job.unwatch", watch }) as const,
  hear: () => {},
  failed: (why: Fault) => void over.failures.push(why),
  ...over,
});

test("an answer that cannot be read fails its request alone: others go on, on the same connection", async () => {
  const { link, heard, ends, connect } = await joined();
  const connection = await connect();
  const [one, other] = [link.ask(cluster), link.ask(cluster)];
  await until("both are heard", () => heard.length === 2);
  const sentAtMs = 0;
  ends[0]!.send({ re: heard[0]!.id, sentAtMs, body: { type: "never heard of" } });
  ends[0]!.send({ re: heard[1]!.id, sentAtMs, body: { type: "done" } });
  await expect(one).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  expect(await other).toEqual({ type: "done" });
  expect(link.isConnected).toBe(true);
  ends[0]!.send({ sentAtMs, body: { type: "never heard of" } });
  expect(await connection.closed, "what is about nothing ends the connection").toMatchObject({
    code: "REQUEST_INVALID",
  });
});

test("a push that cannot be read or heard ends its subscription alone, and the peer is asked to stop", async () => {
  for (const parse of [parseAnswer, parseToPassOn]) {
    const { link, heard, ends, connect } = await joined(parse);
    await connect();
    const failures: Fault[] = [];
    const others: unknown[] = [];
    const hear = (): never => {
      throw new TypeError("it has no tree");
    };
    link.subscribe(subscription({ failures, hear }));
    link.subscribe(subscription({ failures: [], hear: (push) => void others.push(push) }));
    await until("both have begun", () => heard.length === 2);
    const [first, second] = heard.map(({ body }) => (body as { readonly watch: number }).watch);
    ends[0]!.send({ sentAtMs: 0, body: { type: "tree.wanted", watch: first } });
    ends[0]!.send({ sentAtMs: 0, body: { type: "watch.end", watch: second } });
    await until("the other is heard", () => others.length === 1);
    expect(failures).toHaveLength(1);
    await until("it is stopped", () => heard.length === 3);
    expect(heard[2]!.body).toEqual({ type: "job.unwatch", watch: first });
    expect(link.isConnected).toBe(true);
  }
});

test("what was never answered is bounded, and what was waits for nothing", async () => {
  const { link, heard, ends, connect } = await joined();
  const failures: Fault[] = [];
  let begun = 0;
  for (let count = 0; count < 10; count++) link.subscribe(subscription({ failures, begun: () => void begun++ }));
  await expect(link.ask(cluster)).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
  link.subscribe(subscription({ failures }));
  await until("it is refused", () => failures.length === 1);
  await connect();
  await until("the others have begun", () => heard.length === 10);
  for (const { id } of heard) ends[0]!.send({ re: id, sentAtMs: 0, body: { type: "done" } });
  await until("all are answered", () => begun === 10);
  const answer = link.ask(cluster);
  await until("it is asked", () => heard.length === 11);
  ends[0]!.send({ re: heard[10]!.id, sentAtMs: 0, body: { type: "done" } });
  expect(await answer).toEqual({ type: "done" });
  expect(failures).toHaveLength(1);
});

test("a subscription that is over is not begun again, and one that is too long for a frame fails alone", async () => {
  const { link, heard, ends, connect } = await joined(parseToPassOn);
  const failures: Fault[] = [];
  link.subscribe(subscription({ failures, hear: () => "over" }));
  link.subscribe(
    subscription({ failures, begin: () => ({ type: "job.kill", reason: "x".repeat(9_000_000) }) as never }),
  );
  link.subscribe(subscription({ failures: [] }));
  await connect();
  await until("two have begun", () => heard.length === 2);
  expect(failures.map(({ code }) => code)).toEqual(["FRAME_TOO_LONG"]);
  const watch = (heard[0]!.body as { readonly watch: number }).watch;
  ends[0]!.send({ sentAtMs: 0, body: { type: "tree.wanted", watch } });
  const other = link.ask(cluster);
  await until("it is asked", () => heard.length === 3);
  ends[0]!.send({ re: heard[2]!.id, sentAtMs: 0, body: { type: "done" } });
  await other;
  heard.length = 0;
  await connect();
  await until("one has begun again", () => heard.length === 1);
  expect(heard.map(({ body }) => body.type)).toEqual(["tree.serve"]);
});

test("a request that is too long for a frame, asked while the peer is away, fails alone when it comes", async () => {
  const { link, heard, ends, connect } = await joined();
  const long = link.ask({ type: "job.kill", jobId: "j", reason: "x".repeat(9_000_000) } as never);
  const other = link.ask(cluster);
  await connect();
  await expect(long).rejects.toMatchObject({ code: "FRAME_TOO_LONG" });
  await until("the other is heard", () => heard.length === 1);
  ends[0]!.send({ re: heard[0]!.id, sentAtMs: 0, body: { type: "done" } });
  expect(await other).toEqual({ type: "done" });
});

test("a scheduler answers a request that it cannot read, and goes on with the others", async () => {
  const rig = await startRig();
  onTestFinished(() => rig.close());
  const one = rig.gateway.ask({ type: "job.get", jobId: 7 } as never);
  const other = rig.gateway.ask(cluster);
  await expect(one).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  expect(await other).toMatchObject({ type: "cluster.view" });
  expect(rig.gateway.hasScheduler).toBe(true);
});
