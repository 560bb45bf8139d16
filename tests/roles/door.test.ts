import type { ChildProcess } from "node:child_process";
import { Buffer } from "node:buffer";
import { readdirSync } from "node:fs";
import { Agent, request } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import process from "node:process";
import grpc from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { silentLog } from "../../src/observability/log.ts";
import { type Door, openDoor } from "../../src/roles/door.ts";
import {
  type ProcessSupervisor,
  type SupervisedProcess,
  superviseProcesses,
} from "../../src/roles/process_supervisor.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import { realRandom } from "../../src/runtime/random.ts";
import { echoService } from "./echo_service.ts";
import { eventually, isRunning } from "./support.ts";

const host = "127.0.0.1";

/** A connection by which a test speaks for itself. */
interface Peer {
  readonly socket: Socket;
  said: string;
  isClosed: boolean;
}

describe("openDoor()", () => {
  let door: Door;
  let supervisor: ProcessSupervisor;
  let gateway: SupervisedProcess;
  /** The process of the gateway that runs now. */
  let child: ChildProcess | undefined;
  const peers: Peer[] = [];

  beforeEach(async () => {
    door = await openDoor({ clock: realClock, host, port: 0 });
    supervisor = superviseProcesses({
      clock: realClock,
      random: realRandom,
      log: silentLog,
      onGivenUp: (name, why) => {
        throw new Error(`${name} is given up: ${why}`);
      },
    });
  });
  afterEach(async () => {
    for (const { socket } of peers.splice(0)) socket.destroy();
    await supervisor.stop();
    await door.close();
  });

  function startGateway(delayMs = 0): void {
    gateway = supervisor.start({
      name: "gateway",
      module: new URL("./gateway_fixture.ts", import.meta.url),
      args: [`${delayMs}`],
      env: process.env,
      channel: true,
      onStarted(started) {
        child = started;
        door.serve(started);
      },
    });
  }

  function dial(port = door.port): Promise<Peer> {
    const socket = connect({ host, port });
    const peer: Peer = { socket, said: "", isClosed: false };
    peers.push(peer);
    socket.on("data", (bytes) => peer.said += bytes).on("error", () => {}).on("close", () => peer.isClosed = true);
    return new Promise((resolve) => socket.once("connect", () => resolve(peer)));
  }
  const dialMany = (count: number): Promise<Peer[]> => Promise.all(Array.from({ length: count }, () => dial()));
  const get = (peer: Peer, path: string): boolean => peer.socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
  const isAnswered = (peer: Peer, path: string): boolean => peer.said.includes(` GET ${path} 0`);
  /** The pid in an answer of the gateway's stub. */
  const answeredBy = (peer: Peer): number => Number(/\r\n(\d+) GET/.exec(peer.said)?.[1]);

  const fetchText = (options: { path: string; method?: string; agent?: Agent }, body?: Uint8Array): Promise<string> =>
    new Promise((resolve, reject) => {
      const asked = request({ host, port: door.port, agent: false, ...options }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part) => text += part).on("end", () => resolve(text)).on(
          "error",
          reject,
        );
      });
      asked.on("error", reject).end(body);
    });

  const openFiles = (): number => readdirSync("/proc/self/fd").length;

  describe("hands connections to the gateway's process:", () => {
    test("HTTP requests, large ones and several on one connection", async () => {
      startGateway();
      expect(await fetchText({ path: "/a" })).toBe(`${gateway.pid} GET /a 0`);
      expect(await fetchText({ path: "/b", method: "POST" }, new Uint8Array(3_000_000))).toBe(
        `${gateway.pid} POST /b 3000000`,
      );
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      for (const path of ["/1", "/2", "/3"]) {
        expect(await fetchText({ path, agent })).toBe(`${gateway.pid} GET ${path} 0`);
      }
      agent.destroy();
    });

    test("WebSockets", async () => {
      startGateway();
      const webSocket = new WebSocket(`ws://${host}:${door.port}/`);
      await new Promise((resolve, reject) => webSocket.once("open", resolve).once("error", reject));
      for (const text of ["one", "x".repeat(200_000)]) {
        webSocket.send(text);
        const answer = await new Promise<string>((resolve) =>
          webSocket.once("message", (data) => resolve(`${data as Buffer}`))
        );
        expect(answer).toBe(`${gateway.pid} ${text}`);
      }
      webSocket.terminate();
    });

    test("our own protocol", async () => {
      startGateway();
      const peer = await dial();
      peer.socket.write("SCOOT/1\n");
      await eventually("it was answered", () => peer.said === `${gateway.pid} SCOOT/1\n`);
      peer.socket.write("and on");
      await eventually("it goes on", () => peer.said.endsWith("and on"));
    });

    test("gRPC, and the gateway outlives its clients' farewells", async () => {
      startGateway();
      const Client = grpc.makeGenericClientConstructor(echoService, "Echo");
      const { pid } = gateway;
      for (let round = 0; round < 3; round++) {
        const client = new Client(`${host}:${door.port}`, grpc.credentials.createInsecure(), {
          "grpc.use_local_subchannel_pool": 1,
        });
        const call = (bytes: Buffer): Promise<Buffer> =>
          new Promise((resolve, reject) =>
            client["Echo"]?.(bytes, (error: Error | null, reply: Buffer) => error ? reject(error) : resolve(reply))
          );
        for (let count = 0; count < 200; count++) expect(`${await call(Buffer.from("hello"))}`).toBe(`${pid} hello`);
        expect((await call(Buffer.alloc(3_000_000))).length).toBe(3_000_000 + `${pid} `.length);
        client.close();
      }
      expect(await fetchText({ path: "/" })).toBe(`${pid} GET / 0`);
    }, 30_000);

    test("a thousand connections one after the other, and keeps none of them open itself", async () => {
      startGateway();
      await fetchText({ path: "/" });
      const before = openFiles();
      for (let round = 0; round < 20; round++) {
        await Promise.all(Array.from({ length: 50 }, (_, index) => fetchText({ path: `/${round}/${index}` })));
      }
      await eventually("the files are closed", () => openFiles() <= before + 2);
    }, 60_000);
  });

  describe("lets connections wait while there is no gateway:", () => {
    test("until the first is up", async () => {
      const early = await dialMany(10);
      early.forEach((peer, index) => get(peer, `/${index}`));
      await eventually("they are held", () => door.heldCount === 10);
      startGateway();
      await eventually("all are answered", () => early.every((peer, index) => isAnswered(peer, `/${index}`)));
      expect(door.heldCount).toBe(0);
    });

    test(
      "while it restarts after kill -9: open ones are closed, new ones wait, and then all are answered",
      async () => {
        startGateway(300);
        const idle = await dialMany(50);
        for (const peer of idle) get(peer, "/idle");
        await eventually("all are answered", () => idle.every((peer) => isAnswered(peer, "/idle")));
        const firstPid = gateway.pid ?? 0;
        process.kill(firstPid, "SIGKILL");
        await eventually("the kernel closed what was open", () => idle.every((peer) => peer.isClosed));
        const waiting = await dialMany(50);
        for (const peer of waiting) get(peer, "/waited");
        await eventually("all are answered", () => waiting.every((peer) => isAnswered(peer, "/waited")));
        expect(waiting.some((peer) => peer.isClosed)).toBe(false);
        expect(new Set(waiting.map(answeredBy))).toEqual(new Set([gateway.pid]));
        expect(gateway.pid).not.toBe(firstPid);
      },
      30_000,
    );

    test(
      "when the gateway hangs and is killed, none is left hanging: all but the one on its way are answered",
      async () => {
        startGateway();
        await fetchText({ path: "/" });
        const before = openFiles();
        const hanging = gateway.pid ?? 0;
        process.kill(hanging, "SIGSTOP");
        const waiting = await dialMany(50);
        for (const peer of waiting) get(peer, "/waited");
        await eventually("all but one are held", () => door.heldCount === 49);
        process.kill(hanging, "SIGKILL");
        await eventually(
          "all are answered or closed",
          () => waiting.every((it) => isAnswered(it, "/waited") || it.isClosed),
        );
        expect(
          waiting.filter((peer) => isAnswered(peer, "/waited")).length,
        ).toBe(49);
        for (const peer of waiting) peer.socket.destroy();
        await eventually("the files are closed", () => openFiles() <= before + 2);
      },
      30_000,
    );

    test("when the gateway asks for it, as it does before it stops", async () => {
      startGateway();
      const open = await dial();
      get(open, "/1");
      await eventually("it was answered", () => isAnswered(open, "/1"));
      const first = child;
      process.kill(gateway.pid ?? 0, "SIGUSR2");
      await new Promise((resolve) => first?.once("message", resolve));
      const waiting = await dial();
      get(waiting, "/2");
      get(open, "/3");
      await eventually("the open one is served", () => isAnswered(open, "/3"));
      expect(door.heldCount).toBe(1);
      process.kill(gateway.pid ?? 0, "SIGKILL");
      await eventually("the next one answers", () => isAnswered(waiting, "/2"));
    });

    test("at most 45 s each", async () => {
      let nowMs = 0;
      const wakes: { atMs: number; wake: () => void }[] = [];
      const clock: Clock = {
        now: () => nowMs,
        at(atMs, wake) {
          wakes.push({ atMs, wake });
          return () => {};
        },
      };
      const slow = await openDoor({ clock, host, port: 0 });
      const first = await dial(slow.port);
      await eventually("it is held", () => slow.heldCount === 1);
      nowMs = 20_000;
      const second = await dial(slow.port);
      await eventually("both are held", () => slow.heldCount === 2);
      expect(wakes.map((it) => it.atMs)).toEqual([45_000]);
      nowMs = 45_000;
      wakes[0]?.wake();
      await eventually("the first is closed", () => first.isClosed);
      expect([second.isClosed, slow.heldCount, wakes[1]?.atMs]).toEqual([false, 1, 65_000]);
      await slow.close();
      await eventually("the second is closed with the door", () => second.isClosed);
    });

    test("at most 1,000 of them; one more is closed", async () => {
      await dialMany(1_000);
      await eventually("a thousand are held", () => door.heldCount === 1_000);
      const last = await dial();
      await eventually("the last is closed", () => last.isClosed);
      expect(door.heldCount).toBe(1_000);
      expect(peers.filter((peer) => peer.isClosed)).toEqual([last]);
    }, 30_000);
  });

  test("a busy port is PORT_BUSY, in one sentence that names it", async () => {
    const other = createServer();
    const port = await new Promise<number>((resolve) =>
      other.listen(0, host, () => resolve((other.address() as { port: number }).port))
    );
    await expect(openDoor({ clock: realClock, host, port })).rejects.toMatchObject({
      code: "PORT_BUSY",
      message: `Cannot listen at ${host}:${port} as the port must be free: another program listens on ${port}`,
    });
    other.close();
  });

  test("an address that is not of this machine is BIND_REFUSED", async () => {
    const refused = openDoor({ clock: realClock, host: "192.0.2.1", port: 0 });
    await expect(refused).rejects.toMatchObject({ code: "BIND_REFUSED" });
  });

  test("close() frees the port though connections that were handed over are still open", async () => {
    startGateway();
    const open = await dial();
    get(open, "/1");
    await eventually("it was answered", () => isAnswered(open, "/1"));
    await door.close();
    const again = await openDoor({ clock: realClock, host, port: door.port });
    await again.close();
    get(open, "/2");
    await eventually("it is still served", () => isAnswered(open, "/2"));
    expect(isRunning(gateway.pid)).toBe(true);
  });
});
