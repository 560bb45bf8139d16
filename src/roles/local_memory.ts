import { mkdirSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { taskResults } from "../actors/task_results.ts";
import { workerId } from "../domain/ids.ts";
import { processRunner } from "../runner/process.ts";
import { realClock } from "../runtime/clock.ts";
import { memoryActions } from "../snapshots/actions/memory.ts";
import { memoryBlobs } from "../snapshots/blobs/memory.ts";
import { memoryRefs } from "../snapshots/refs/memory.ts";
import { memoryStates } from "../snapshots/states/memory.ts";
import { memoryTransport } from "../transport/memory.ts";
import { tcpTransport } from "../transport/tcp.ts";
import type { ClusterConfig } from "./config.ts";
import { listenFault } from "./door.ts";
import { startGateway } from "./gateway.ts";
import type { RunningCluster } from "./local.ts";
import { machineRoom, roomOfEach } from "./local_room.ts";
import { originOf, stderrLog } from "./machine.ts";
import { machinePlatform } from "./machine_platform.ts";
import { startScheduler } from "./scheduler.ts";
import { sealedJobs } from "./sealed_jobs.ts";
import { sniffSocket } from "./sniff.ts";
import { startWorker } from "./worker.ts";

const drainMs = 10_000;
/** All of it is in memory. */
const statesBytesMax = 256 * 1024 * 1024;

/** The parts of a cluster in this one process, over the in-memory transport and stores; only the port is real. */
export async function startMemoryCluster(config: ClusterConfig, token: string): Promise<RunningCluster> {
  const { dataDir } = config;
  const memory = memoryTransport({ clock: realClock });
  const tcp = tcpTransport({ clock: realClock });
  const blobs = memoryBlobs();
  const states = memoryStates();
  const actions = memoryActions({ blobs, clock: realClock });
  const schedulerLog = stderrLog("scheduler");
  const scheduler = await startScheduler({
    dataDir,
    token,
    log: schedulerLog,
    states,
    results: taskResults({ actions, blobs, log: schedulerLog }),
    maxBytes: statesBytesMax,
  });
  await memory.listen({ name: "scheduler", ...scheduler.accepting });
  const gateway = startGateway({
    dataDir,
    token,
    log: stderrLog("gateway"),
    blobs,
    sealed: sealedJobs({ blobs, clock: realClock, states: () => Promise.resolve(states) }),
    states: () => Promise.resolve(states),
    names: memoryRefs(),
    actions,
    hosts: [config.host],
    origin: () => originOf({ host: config.host, port: (server.address() as AddressInfo).port }),
    ...(config.instances === undefined ? {} : { instances: config.instances }),
    takesAnyResult: config.anyResult,
    dialScheduler: (hello, signal) => memory.dial("memory:scheduler", { hello, signal }),
    acceptCbor: tcp.acceptSocket,
  });
  await memory.listen({ name: "gateway", ...gateway.accepting });
  const server = createServer({ pauseOnConnect: true }, (socket) => sniffSocket(socket, gateway.takers, realClock));
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => reject(listenFault(config.host, config.port, cause)));
    server.listen({ host: config.host, port: config.port }, resolve);
  });
  const caches = memoryRefs();
  const workers = await Promise.all(Array.from({ length: config.workers }, (_, index) => {
    const id = workerId(`w${index + 1}`);
    const dir = join(dataDir, "workers", id);
    mkdirSync(dir, { recursive: true });
    return startWorker({
      dir,
      workerId: id,
      slots: config.slots,
      platform: machinePlatform(),
      room: roomOfEach(machineRoom(), config.workers),
      token,
      log: stderrLog(id),
      blobs,
      runner: processRunner({ dir: join(dir, "running"), clock: realClock }),
      caches,
      dialScheduler: (hello, signal) => memory.dial("memory:scheduler", { hello, signal }),
      dialGateway: (hello, signal) => memory.dial("memory:gateway", { hello, signal }),
      states: memoryStates(),
    });
  }));
  return {
    port: (server.address() as AddressInfo).port,
    drain: (why) => scheduler.drain(why, drainMs),
    async stop() {
      for (const worker of workers) await worker.leave("the cluster is stopping");
      await gateway.stop();
      server.close();
      await scheduler.stop();
    },
  };
}
