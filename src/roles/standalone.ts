import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { connectClient } from "../api/client.ts";
import { noResults } from "../actors/task_results.ts";
import { Fault } from "../domain/fault.ts";
import { processRunner } from "../runner/process.ts";
import { realClock } from "../runtime/clock.ts";
import { realRandom } from "../runtime/random.ts";
import { localActions } from "../snapshots/actions/local.ts";
import { localBlobs } from "../snapshots/blobs/local.ts";
import { readThrough } from "../snapshots/blobs/read_through.ts";
import { threadPool } from "../snapshots/pool/pool.ts";
import { lmdbRefs } from "../snapshots/refs/lmdb.ts";
import { localStates } from "../snapshots/states/local.ts";
import { tcpTransport } from "../transport/tcp.ts";
import type { DoorConfig, GatewayConfig, NetworkAddress, SchedulerConfig, WorkerConfig } from "./config.ts";
import { startNearBudget } from "./budget.ts";
import { openDoor } from "./door.ts";
import { startGateway } from "./gateway.ts";
import { machineRoom } from "./local_room.ts";
import { keepHeapSmall, makeDataDir, originOf, readOrMakeToken, stderrLog } from "./machine.ts";
import { machinePlatform } from "./machine_platform.ts";
import type { Member } from "./member.ts";
import { superviseProcesses } from "./process_supervisor.ts";
import { startScheduler } from "./scheduler.ts";
import { readableStates, sealedJobs } from "./sealed_jobs.ts";
import { sniffSocket } from "./sniff.ts";
import { startWorker } from "./worker.ts";

/** Roles started by themselves, for clusters of several machines. Each stays until it is asked to stop, and returns 0. */

const drainMs = 10_000;
const poolThreads = 2;
/** What a worker's own store has is the gateway's too: it is kept to be near, and need not be kept long. */
const nearAgeMs = 60_000;

const urlOf = (protocol: string, { host, port }: NetworkAddress): string =>
  `${protocol}://${host.includes(":") ? `[${host}]` : host}:${port}`;

/** The reason of the first SIGINT or SIGTERM. */
const asked = (): Promise<string> =>
  new Promise((resolve) => {
    process.once("SIGINT", () => resolve("interrupted")).once("SIGTERM", () => resolve("asked to by SIGTERM"));
  });
const say = (line: string): void => void process.stdout.write(`${line}\n`);

export async function runScheduler(config: SchedulerConfig): Promise<number> {
  makeDataDir(config.dataDir);
  const token = readOrMakeToken(config.tokenFile);
  keepHeapSmall();
  const states = await localStates({ dir: join(config.dataDir, "states"), clock: realClock });
  // The blobs that results are made of are on other machines.
  const results = noResults;
  const role = await startScheduler({ dataDir: config.dataDir, token, log: stderrLog("scheduler"), states, results });
  try {
    const listener = await tcpTransport({ clock: realClock }).listen({ ...config.listen, ...role.accepting });
    say(
      `Scheduler ready at ${listener.address}, durable in ${config.dataDir}; workers and gateways need the token in ${config.tokenFile}`,
    );
    const why = await asked();
    await listener.close();
    await role.drain(why, drainMs);
    return 0;
  } finally {
    await role.stop();
  }
}

export async function runGateway(config: GatewayConfig): Promise<number> {
  makeDataDir(config.dataDir);
  const token = readOrMakeToken(config.tokenFile);
  const tcp = tcpTransport({ clock: realClock });
  const pool = threadPool({ threads: poolThreads });
  const blobs = localBlobs({ dir: join(config.dataDir, "blobs"), clock: realClock, pool });
  const states = readableStates(join(config.dataDir, "states"), realClock);
  const role = startGateway({
    dataDir: config.dataDir,
    token,
    log: stderrLog("gateway"),
    blobs,
    sealed: sealedJobs({ blobs, clock: realClock, states: states.get }),
    states: states.get,
    names: lmdbRefs({ dir: join(config.dataDir, "names") }),
    budget: { blobs, statesBytes: () => 0, maxBytes: config.maxSize },
    actions: localActions({ dir: join(config.dataDir, "actions"), blobs, clock: realClock }),
    hosts: [config.listen.host],
    origin: () => originOf({ ...config.listen, port: (server.address() as AddressInfo).port }),
    ...(config.instances === undefined ? {} : { instances: config.instances }),
    takesAnyResult: config.anyResult,
    dialScheduler: (hello, signal) => tcp.dial(urlOf("tcp", config.scheduler), { hello, signal }),
    acceptCbor: tcp.acceptSocket,
  });
  const server = createServer({ pauseOnConnect: true }, (socket) => sniffSocket(socket, role.takers, realClock));
  await new Promise<void>((resolve, reject) => {
    server.once(
      "error",
      (cause) =>
        reject(new Fault("PORT_BUSY", `Cannot listen at ${urlOf("tcp", config.listen)}: ${cause.message}`, { cause })),
    );
    server.listen(config.listen, resolve);
  });
  const { port } = server.address() as AddressInfo;
  say(
    `Gateway ready at ${urlOf("http", { ...config.listen, port })}, blobs in ${config.dataDir}; scheduler at ${
      urlOf("tcp", config.scheduler)
    }`,
  );
  await asked();
  server.close();
  await role.stop();
  await states.close();
  return 0;
}

/** A gateway whose port outlives it. */
export async function runDoor(config: DoorConfig): Promise<number> {
  makeDataDir(config.dataDir);
  readOrMakeToken(config.tokenFile);
  const door = await openDoor({ clock: realClock, ...config.listen });
  const log = stderrLog("door");
  let givenUp = (): void => {};
  const failed = new Promise<undefined>((resolve) => givenUp = () => resolve(undefined));
  const supervisor = superviseProcesses({ clock: realClock, random: realRandom, log, onGivenUp: () => givenUp() });
  const member: Member = {
    role: "gateway",
    dataDir: config.dataDir,
    tokenFile: config.tokenFile,
    schedulerAddress: urlOf("tcp", config.scheduler),
    maxBytes: config.maxSize,
    hosts: [config.listen.host],
    origin: originOf({ ...config.listen, port: door.port }),
    ...(config.instances === undefined ? {} : { instances: config.instances }),
    takesAnyResult: config.anyResult,
  };
  supervisor.start({
    name: "gateway",
    module: new URL(import.meta.url.endsWith(".ts") ? "./member_main.ts" : "./member_main.js", import.meta.url),
    args: [JSON.stringify(member)],
    env: process.env,
    channel: true,
    onStarted: (child) => door.serve(child),
  });
  say(
    `Door ready at ${urlOf("http", { ...config.listen, port: door.port })}; scheduler at ${
      urlOf("tcp", config.scheduler)
    }`,
  );
  const why = await Promise.race([asked(), failed]);
  await supervisor.stop();
  await door.close();
  return why === undefined ? 1 : 0;
}

export async function runWorker(config: WorkerConfig): Promise<number> {
  makeDataDir(config.dataDir);
  // A worker is never the first of a cluster: a token that it made itself would open nothing.
  const token = readFileSync(config.tokenFile, "utf8").trim();
  const tcp = tcpTransport({ clock: realClock });
  const pool = threadPool({ threads: poolThreads });
  const client = connectClient({ url: urlOf("http", config.gateway), token });
  const log = stderrLog(config.workerId);
  const near = localBlobs({
    dir: join(config.dataDir, "blobs"),
    clock: realClock,
    pool,
    guaranteedAgeMs: nearAgeMs,
  });
  const budget = startNearBudget({ blobs: near, log, maxBytes: config.maxSize });
  const role = await startWorker({
    dir: config.dataDir,
    workerId: config.workerId,
    slots: config.slots,
    platform: { ...machinePlatform(), ...config.platform },
    room: machineRoom(),
    token,
    log,
    blobs: readThrough({ near, far: client.blobs }),
    runner: processRunner({ dir: join(config.dataDir, "running"), clock: realClock }),
    caches: lmdbRefs({ dir: join(config.dataDir, "caches") }),
    dialScheduler: (hello, signal) => tcp.dial(urlOf("tcp", config.scheduler), { hello, signal }),
    dialGateway: (hello, signal) => tcp.dial(urlOf("tcp", config.gateway), { hello, signal }),
  });
  say(`Worker ${config.workerId} with ${config.slots} slots; isolation ${role.isolation}`);
  const why = await asked();
  await role.leave(why);
  await budget.stop();
  await client.close();
  await pool.close();
  return 0;
}
