import { join } from "node:path";
import process from "node:process";
import { asFault } from "../domain/fault.ts";
import { processRunner } from "../runner/process.ts";
import { realClock } from "../runtime/clock.ts";
import { taskResults } from "../actors/task_results.ts";
import { localActions } from "../snapshots/actions/local.ts";
import { localBlobs } from "../snapshots/blobs/local.ts";
import { threadPool } from "../snapshots/pool/pool.ts";
import { lmdbRefs } from "../snapshots/refs/lmdb.ts";
import { localStates } from "../snapshots/states/local.ts";
import type { States } from "../snapshots/states/states.ts";
import { tcpTransport } from "../transport/tcp.ts";
import { folderBytes } from "./budget.ts";
import { startGateway } from "./gateway.ts";
import { keepHeapSmall, readOrMakeToken, stderrLog } from "./machine.ts";
import { machinePlatform } from "./machine_platform.ts";
import { drainedMessage, type DrainMessage, type Member } from "./member.ts";
import { onParentLost } from "./process_supervisor.ts";
import { startScheduler } from "./scheduler.ts";
import { readableStates, sealedJobs } from "./sealed_jobs.ts";
import { receiveSockets } from "./sniff.ts";
import { startWorker } from "./worker.ts";

/** Threads for large files, in each process that meets them. */
const poolThreads = 2;

const places = (dataDir: string) => ({
  token: join(dataDir, "token"),
  blobs: join(dataDir, "blobs"),
  actions: join(dataDir, "actions"),
  names: join(dataDir, "names"),
  caches: join(dataDir, "caches"),
  states: join(dataDir, "states"),
});

/** What a test of recovery puts around the states, to die at a chosen moment. */
export interface MemberSeams {
  readonly aroundStates?: (states: States) => States;
}

async function begin(member: Member, seams: MemberSeams): Promise<(why: string) => Promise<void> | void> {
  const { dataDir } = member;
  const at = places(dataDir);
  const token = readOrMakeToken(member.role === "gateway" ? member.tokenFile : at.token);
  const tcp = tcpTransport({ clock: realClock });
  const age = member.guaranteedAgeMs === undefined ? {} : { guaranteedAgeMs: member.guaranteedAgeMs };
  switch (member.role) {
    case "scheduler": {
      keepHeapSmall();
      const states = await localStates({ dir: at.states, clock: realClock });
      const log = stderrLog("scheduler");
      const blobs = localBlobs({ dir: at.blobs, clock: realClock, ...age });
      const actions = localActions({ dir: at.actions, blobs, clock: realClock });
      const role = await startScheduler({
        dataDir,
        token,
        log,
        states: seams.aroundStates?.(states) ?? states,
        results: taskResults({ actions, blobs, log }),
        ...(member.maxBytes === undefined ? {} : { maxBytes: member.maxBytes }),
      });
      process.on("message", (message) => {
        const drain = message as DrainMessage;
        if (drain.type === "drain") void role.drain(drain.why, drain.waitMs).then(() => process.send?.(drainedMessage));
      });
      const refuse = (socket: { destroy(): void }): void => socket.destroy();
      receiveSockets({
        onCbor: (socket, firstBytes) => tcp.acceptSocket(socket, firstBytes, role.accepting),
        onHttp: refuse,
        onHttp2: refuse,
        clock: realClock,
      });
      return async () => {
        await role.stop();
        await actions.close();
        await blobs.close();
      };
    }
    case "gateway": {
      const pool = threadPool({ threads: poolThreads });
      const blobs = localBlobs({ dir: at.blobs, clock: realClock, ...age, pool });
      const states = readableStates(at.states, realClock);
      const role = startGateway({
        dataDir,
        token,
        log: stderrLog("gateway"),
        blobs,
        sealed: sealedJobs({ blobs, clock: realClock, states: states.get }),
        states: states.get,
        names: lmdbRefs({ dir: at.names }),
        budget: {
          blobs,
          caches: lmdbRefs({ dir: at.caches }),
          statesBytes: folderBytes(at.states),
          ...(member.maxBytes === undefined ? {} : { maxBytes: member.maxBytes }),
        },
        actions: localActions({ dir: at.actions, blobs, clock: realClock }),
        hosts: member.hosts,
        origin: () => member.origin,
        ...(member.instances === undefined ? {} : { instances: member.instances }),
        takesAnyResult: member.takesAnyResult,
        dialScheduler: (hello, signal) => tcp.dial(member.schedulerAddress, { hello, signal }),
        acceptCbor: tcp.acceptSocket,
      });
      receiveSockets({ ...role.takers, clock: realClock });
      return async () => {
        await role.stop();
        await states.close();
      };
    }
    case "worker": {
      const pool = threadPool({ threads: poolThreads });
      const blobs = localBlobs({ dir: at.blobs, clock: realClock, ...age, pool });
      const dir = join(dataDir, "workers", member.workerId);
      const role = await startWorker({
        dir,
        workerId: member.workerId,
        slots: member.slots,
        platform: machinePlatform(),
        room: member.room,
        token,
        log: stderrLog(member.workerId),
        blobs,
        putFile: (path) => blobs.putFile(path),
        runner: processRunner({ dir: join(dir, "running"), clock: realClock }),
        caches: lmdbRefs({ dir: at.caches }),
        dialScheduler: (hello, signal) => tcp.dial(member.schedulerAddress, { hello, signal }),
        dialGateway: (hello, signal) => tcp.dial(member.gatewayAddress, { hello, signal }),
      });
      return (why) => role.leave(why);
    }
  }
}

/** A member's whole life. It stops in good order, once; a stop that hangs is ended by the supervisor. */
export async function runMember(seams: MemberSeams = {}): Promise<void> {
  const member = JSON.parse(process.argv[2] ?? "null") as Member;
  const log = stderrLog(member.role);
  let isStopping = false;
  let stop: ((why: string) => Promise<void> | void) | undefined;
  const end = async (why: string): Promise<void> => {
    if (isStopping) return;
    isStopping = true;
    try {
      await stop?.(why);
    } catch (thrown) {
      log.error("Cannot stop in good order", { error: asFault(thrown) });
    }
    process.exit(0);
  };
  process.on("SIGTERM", () => void end("the cluster is stopping"));
  process.on("SIGINT", () => {}); // the door decides
  onParentLost(() => void end("the cluster's door is gone"));
  try {
    stop = await begin(member, seams);
  } catch (thrown) {
    log.error(`Cannot start this ${member.role}`, { error: asFault(thrown) });
    process.exit(1);
  }
}
