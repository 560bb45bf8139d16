import { noResults } from "../../src/actors/task_results.ts";
import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createScheduler, type Scheduler } from "../../src/actors/scheduler_actor.ts";
import { type Client, connectClient } from "../../src/api/client.ts";
import { createGateway, type Gateway } from "../../src/api/gateway.ts";
import { httpServer } from "../../src/api/http.ts";
import type { CommandData } from "../../src/domain/command.ts";
import type { TaskId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import { pagePolicy } from "../../src/inspector/files.ts";
import { createInspector } from "../../src/inspector/server.ts";
import { silentLog } from "../../src/observability/log.ts";
import { decodeCommand } from "../../src/protocol/reapi/canonical.ts";
import { protocolVersion } from "../../src/protocol/version.ts";
import { type HeldAttempt, parseToWorker, parseToWorkerFromGateway } from "../../src/protocol/worker_messages.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { realRandom } from "../../src/runtime/random.ts";
import { type Blobs, readBlob, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { treeKeeper } from "../../src/snapshots/lease.ts";
import type { Refs } from "../../src/snapshots/refs/refs.ts";
import { sealedJobs } from "../../src/roles/sealed_jobs.ts";
import type { ActionCache } from "../../src/snapshots/actions/actions.ts";
import { memoryActions } from "../../src/snapshots/actions/memory.ts";
import { memoryRefs } from "../../src/snapshots/refs/memory.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import type { States } from "../../src/snapshots/states/states.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import { keepDialing } from "../../src/transport/redial.ts";
import type { Connection, Hello } from "../../src/transport/transport.ts";
import { webSocketTransport } from "../../src/transport/websocket.ts";

export const token = "secret-of-the-tests";

const hello = (role: Hello["role"], memberId: string): Hello => ({
  protocol: "scoot-actors",
  version: protocolVersion,
  role,
  memberId,
  incarnation: `${memberId}-1`,
  token,
});

/** Polls until it holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const startedAtMs = Date.now();
  while (!await holds()) {
    if (Date.now() - startedAtMs > withinMs) throw new Error(`Waited ${withinMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function gathered<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Something that a task has written, as it grows. */
interface Written {
  bytes: Uint8Array;
  readonly grown: Set<() => void>;
}

/**
 * A worker without processes: what a command does is said by its argv. `exit N [TEXT]` writes the text and exits;
 * `hold` runs until {@link PretendWorker.finish}, and writes what {@link PretendWorker.write} gives it.
 */
export class PretendWorker {
  readonly running = new Map<TaskId, { readonly attempt: number; readonly stdout: Written }>();
  readonly started: string[] = [];
  /** Bytes that were asked for, by follow. */
  readonly asked: number[] = [];
  #toScheduler: Connection | undefined;
  #number = 0;
  #ended = new Map<string, HeldAttempt>();
  #blobs: Blobs;
  readonly workerId: string;

  constructor(workerId: string, blobs: Blobs) {
    this.workerId = workerId;
    this.#blobs = blobs;
  }

  attachScheduler(connection: Connection): void {
    this.#toScheduler = connection;
    connection.onMessage((input) => {
      const should = parseToWorker(input);
      for (const { taskId, attempt, command } of should.hold) {
        if (this.running.has(taskId) || this.#ended.has(`${taskId}#${attempt}`)) continue;
        const stdout: Written = { bytes: new Uint8Array(0), grown: new Set() };
        this.running.set(taskId, { attempt, stdout });
        this.started.push(`${taskId}#${attempt}`);
        this.#report({ stage: "running", taskId, attempt, startedAtMs: Date.now() });
        void readBlob(this.#blobs, command, 1e6).then((bytes) => this.#run(taskId, decodeCommand(bytes)));
      }
      for (const { taskId, reason } of should.drop) void this.finish(taskId, { kind: "killed", reason });
      for (const { taskId, attempt } of should.acknowledged) this.#ended.delete(`${taskId}#${attempt}`);
    });
    this.#number = 0;
    connection.send({
      type: "worker.sync",
      number: ++this.#number,
      worker: { workerId: this.workerId, incarnation: "one", slots: 8, platform: { os: "pretend" }, isolation: "none" },
      attempts: [
        ...[...this.running].map(([taskId, { attempt }]) => ({
          stage: "running" as const,
          taskId,
          attempt,
          startedAtMs: 1,
        })),
        ...this.#ended.values(),
      ],
    });
  }

  attachGateway(connection: Connection): void {
    const stops = new Map<number, () => void>();
    connection.onMessage((input) => {
      const message = parseToWorkerFromGateway(input);
      if (message.type === "output.stop") return stops.get(message.follow)?.();
      const { follow, taskId, attempt } = message;
      const held = this.running.get(taskId);
      this.asked.push(message.offset);
      if (held === undefined || held.attempt !== attempt || message.stream !== "stdout") {
        return connection.send({ type: "output.end", follow, offset: message.offset, why: "not here" });
      }
      const { stdout } = held;
      let at = message.offset;
      const give = (): void => {
        for (; at < stdout.bytes.length; at += 64 * 1024) {
          const bytes = stdout.bytes.subarray(at, at + 64 * 1024);
          connection.send({ type: "output.chunk", follow, offset: at, bytes });
        }
        at = stdout.bytes.length;
      };
      stdout.grown.add(give);
      stops.set(follow, () => stdout.grown.delete(give));
      give();
    });
  }

  write(taskId: TaskId, text: string | Uint8Array): void {
    const { stdout } = this.running.get(taskId)!;
    stdout.bytes = Buffer.concat([stdout.bytes, Buffer.from(text as string)]);
    for (const give of stdout.grown) give();
  }

  async finish(taskId: TaskId, outcome: Outcome = { kind: "exited", exitCode: 0 }): Promise<void> {
    const held = this.running.get(taskId);
    if (held === undefined) return;
    const { attempt, stdout } = held;
    const kept = outcome.kind === "skipped"
      ? {}
      : { stdout: { digest: await writeBlob(this.#blobs, stdout.bytes), truncatedBytes: 0 } };
    this.running.delete(taskId);
    const ended: HeldAttempt = { stage: "ended", taskId, attempt, outcome: { ...outcome, ...kept } as Outcome };
    this.#ended.set(`${taskId}#${attempt}`, ended);
    this.#report(ended);
  }

  /** As if its process were new: what it ran is gone. */
  forget(): void {
    this.running.clear();
  }

  async #run(taskId: TaskId, { argv }: CommandData): Promise<void> {
    if (argv[0] === "hold") return;
    if (argv[2] !== undefined) this.write(taskId, argv[2]);
    await this.finish(taskId, { kind: "exited", exitCode: Number(argv[1] ?? 0) });
  }
  #report(held: HeldAttempt): void {
    this.#toScheduler?.send({ type: "worker.report", number: ++this.#number, attempts: [held] });
  }
}

/** A cluster in this process: a real scheduler and a real gateway with its HTTP server, joined in memory. */
export interface Rig {
  readonly url: string;
  readonly blobs: Blobs;
  /** What the gateway keeps of results. The scheduler keeps none. */
  readonly actions: ActionCache;
  readonly states: States;
  readonly worker: PretendWorker;
  readonly client: Client;
  readonly gateway: Gateway;
  readonly scheduler: Scheduler;
  setSpace(hasSpace: boolean): void;
  /** Whether the store is over its budget. */
  setFull(isFull: boolean): void;
  /** Forgets all blobs and names. */
  empty(): void;
  /** HTTP requests so far. */
  requests(): number;
  /** Ends it as `kill -9` would: connections break, nothing is said. */
  stopScheduler(): Promise<void>;
  startScheduler(): Promise<void>;
  stopGateway(): Promise<void>;
  startGateway(): Promise<void>;
  close(): Promise<void>;
}

export async function startRig(
  options: {
    readonly waitMs?: number;
    readonly lostAfterMs?: number;
    /** What the scheduler has around its states. */
    readonly aroundStates?: (states: States) => States;
    /** What the gateway has around its blobs. */
    readonly aroundBlobs?: (blobs: Blobs) => Blobs;
    /** Its gateway cannot read the scheduler's states. */
    readonly isFarFromScheduler?: boolean;
  } = {},
): Promise<Rig> {
  const clock = realClock;
  const random = realRandom;
  const log = silentLog;
  const ownStates = memoryStates();
  const states = options.aroundStates?.(ownStates) ?? ownStates;
  let blobsNow = memoryBlobs();
  let namesNow = memoryRefs();
  const own: Blobs = {
    get: (digest, options) => blobsNow.get(digest, options),
    put: (digest, bytes, options) => blobsNow.put(digest, bytes, options),
    missing: (digests) => blobsNow.missing(digests),
    close: () => Promise.resolve(),
  };
  const blobs = options.aroundBlobs?.(own) ?? own;
  const actions = memoryActions({ blobs, clock });
  const names: Refs = {
    get: (name) => namesNow.get(name),
    compareAndSet: (name, expected, next) => namesNow.compareAndSet(name, expected, next),
    list: (prefix, options) => namesNow.list(prefix, options),
    close: () => Promise.resolve(),
  };
  const trees = treeKeeper({ blobs, clock, rememberMs: 0 }); // what a test takes away is seen to be gone
  const sealed = sealedJobs({
    blobs,
    clock,
    states: () => Promise.resolve(options.isFarFromScheduler === true ? undefined : states),
  });
  let requests = 0;
  const memory = memoryTransport({ clock });
  const webSockets = webSocketTransport({ clock });
  const waitMs = options.waitMs ?? 45_000;
  let hasSpace = true;
  let isFull = false;

  let schedulerConnections: Connection[] = [];
  let closeScheduler = (): Promise<void> => Promise.resolve();
  let scheduler: Scheduler;
  const startScheduler = async (): Promise<void> => {
    scheduler = createScheduler({
      states,
      clock,
      random,
      log,
      defer: (work) => void setImmediate(work),
      lostAfterMs: options.lostAfterMs ?? 10_000,
      keepJobsMs: 3_600_000,
      keepJobsMax: 10_000,
      keepTasksMax: 1_000_000,
      hasSpace: () => hasSpace,
      results: noResults,
    });
    await scheduler.start();
    const listener = await memory.listen({
      name: "scheduler",
      hello: hello("scheduler", "scheduler"),
      roles: ["worker", "gateway"],
      token,
      onConnection(connection) {
        schedulerConnections.push(connection);
        if (connection.peer.role === "worker") scheduler.attachWorker(connection);
        else scheduler.attachGateway(connection);
      },
    });
    closeScheduler = async () => {
      await listener.close();
      for (const connection of schedulerConnections) connection.close();
      schedulerConnections = [];
      await scheduler.stop();
    };
  };

  let port = 0;
  let gateway: Gateway;
  let closeGateway = (): Promise<void> => Promise.resolve();
  const startGateway = async (): Promise<void> => {
    const stopping = new AbortController();
    const connections: Connection[] = [];
    const space = { hasSpace: () => hasSpace, isFull: () => isFull };
    const here = createGateway({ blobs, trees, names, sealed, clock, log, ...space, waitMs });
    gateway = here;
    const take = (connection: Connection): void => {
      connections.push(connection);
      if (connection.peer.role === "worker") here.attachWorker(connection);
      else here.attachClient(connection);
    };
    const accept = {
      hello: hello("gateway", "gateway"),
      roles: ["client", "worker"] as const,
      token,
      onConnection: take,
    };
    const dialing = keepDialing({
      dial: (signal) => memory.dial("memory:scheduler", { hello: hello("gateway", "gateway"), signal }),
      onConnection: here.attachScheduler,
      backoff: { firstMs: 1, maxMs: 20 },
      clock,
      random,
      signal: stopping.signal,
    });
    const listener = await memory.listen({ name: "gateway", ...accept });
    const inspector = createInspector({ states: () => Promise.resolve(states), clock, blobs, actions });
    const server: Server = httpServer({
      gateway: here,
      blobs,
      trees,
      names,
      actions,
      token,
      clock,
      log,
      inspector: { ...inspector, policy: pagePolicy },
      acceptUpgrade: (request, socket, head) => webSockets.acceptUpgrade(request, socket, head, accept),
    });
    server.on("request", () => requests++);
    const sockets = new Set<Socket>();
    server.on("connection", (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    });
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
    closeGateway = async () => {
      stopping.abort();
      inspector.close();
      await listener.close();
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      for (const connection of connections) connection.close();
      here.close();
      await closed;
      await dialing;
    };
  };

  const stopping = new AbortController();
  const worker = new PretendWorker("w1", blobs);
  const dialings = ([["scheduler", (connection: Connection) => worker.attachScheduler(connection)], [
    "gateway",
    (connection: Connection) => worker.attachGateway(connection),
  ]] as const).map(([name, onConnection]) =>
    keepDialing({
      dial: (signal) => memory.dial(`memory:${name}`, { hello: hello("worker", "w1"), signal }),
      onConnection,
      backoff: { firstMs: 1, maxMs: 20 },
      clock,
      random,
      signal: stopping.signal,
    })
  );
  await startScheduler();
  await startGateway();
  const client = connectClient({ url: `http://127.0.0.1:${port}`, token, waitMs });
  return {
    url: `http://127.0.0.1:${port}`,
    blobs,
    actions,
    states,
    worker,
    client,
    get gateway() {
      return gateway;
    },
    get scheduler() {
      return scheduler;
    },
    setSpace: (there) => void (hasSpace = there),
    setFull: (full) => void (isFull = full),
    empty() {
      blobsNow = memoryBlobs();
      namesNow = memoryRefs();
    },
    requests: () => requests,
    stopScheduler: () => closeScheduler(),
    startScheduler,
    stopGateway: () => closeGateway(),
    startGateway,
    async close() {
      await client.close();
      stopping.abort();
      await closeGateway();
      await closeScheduler();
      await Promise.all(dialings);
      await states.close();
    },
  };
}
