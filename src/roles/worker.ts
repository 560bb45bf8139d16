import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { attemptEffects, placesOf } from "../actors/attempt_effects.ts";
import { serveOutput } from "../actors/output_server.ts";
import { createWorker, type Worker } from "../actors/worker_actor.ts";
import type { Digest } from "../domain/digest.ts";
import type { Fault } from "../domain/fault.ts";
import type { WorkerId } from "../domain/ids.ts";
import type { Log } from "../observability/log.ts";
import type { Runner } from "../runner/runner.ts";
import { realClock } from "../runtime/clock.ts";
import { randomHex, realRandom } from "../runtime/random.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { localStates } from "../snapshots/states/local.ts";
import type { States } from "../snapshots/states/states.ts";
import { keptFolders } from "../snapshots/trees/kept_folders.ts";
import { spareFolders } from "../snapshots/trees/spare_folders.ts";
import { keepDialing } from "../transport/redial.ts";
import type { Connection, Hello } from "../transport/transport.ts";
import { watchDisk } from "./disk_watch.ts";
import type { Room } from "./local_room.ts";
import { defer, diskSpace, endBroken, helloOf, keepPruned, memberBackoff } from "./machine.ts";

/** Kept of each stream of a task. */
const outputBytesMax = 100 * 1024 * 1024;
/** Of its own attempts: nobody looks far back, and what is not acknowledged stays whatever its age. */
const historyMs = 24 * 3_600_000;
const historyBytesMax = 64 * 1024 * 1024;
/** Between SIGTERM and SIGKILL. */
const graceMs = 5_000;

export interface WorkerRoleOptions {
  /** The worker's own: its attempts, its results until they are acknowledged. */
  readonly dir: string;
  readonly workerId: WorkerId;
  readonly slots: number;
  readonly platform: Readonly<Record<string, string>>;
  /** What it has for the needs of its tasks. */
  readonly room: Room;
  readonly token: string;
  readonly log: Log;
  readonly blobs: Blobs;
  readonly putFile?: (path: string) => Promise<Digest>;
  readonly runner: Runner;
  /** What tasks leave to those after them, on this machine: shared by its workers. */
  readonly caches: Refs;
  readonly dialScheduler: (hello: Hello, signal: AbortSignal) => Promise<Connection>;
  readonly dialGateway: (hello: Hello, signal: AbortSignal) => Promise<Connection>;
  /** Instead of the ones on disk: for a cluster in memory. */
  readonly states?: States;
}

export interface WorkerRole {
  readonly worker: Worker;
  readonly isolation: string;
  /** Gives back what runs, and stops. */
  leave(why: string): Promise<void>;
}

/** A worker that dials its scheduler and its gateway until it is stopped. */
export async function startWorker(options: WorkerRoleOptions): Promise<WorkerRole> {
  const { dir, workerId, slots, platform, room, token, log, blobs, putFile, runner, caches } = options;
  mkdirSync(dir, { recursive: true });
  const killed = await runner.killLeftovers();
  if (killed > 0) {
    log.warn("Killed what the tasks of an earlier life of this worker had left running", { processes: killed });
  }
  const attemptsDir = join(dir, "attempts");
  // What a loss of power takes of its results is run again, as is whatever this machine had begun.
  const states = options.states ??
    await localStates({ dir: join(dir, "states"), clock: realClock, flush: "later" });
  const folders = spareFolders({
    dir: join(attemptsDir, "spare"),
    clock: realClock,
    foldersMax: slots,
    hasRoom: diskSpace(dir),
  });
  const worker = createWorker({
    description: {
      workerId,
      incarnation: randomHex(8),
      slots,
      platform,
      isolation: runner.isolation,
      ...room,
    },
    states,
    clock: realClock,
    log,
    defer,
    broken: endBroken,
    effects: (report) =>
      attemptEffects({
        workerId,
        dir: attemptsDir,
        path: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
        folders,
        blobs,
        ...(putFile === undefined ? {} : { putFile }),
        runner,
        keptFolders: keptFolders({ refs: caches, blobs, clock: realClock, log }),
        clock: realClock,
        log,
        outputBytesMax,
        graceMs,
        report(taskId, attempt, event) {
          if ("fault" in event && event.fault?.code === "NO_SPACE") disk.lacks();
          report(taskId, attempt, event);
        },
      }),
  });
  const disk = watchDisk(dir, realClock, (why) => {
    if (why !== undefined) {
      log.warn("Takes no tasks for now", { why });
      folders.drop();
    }
    worker.pause(why);
  });
  await worker.start();
  const endPruning = keepPruned(states, { historyMs, historyBytesMax }, log);
  const stopping = new AbortController();
  const hello = helloOf("worker", workerId, token);
  const dial = (
    what: string,
    dialOne: WorkerRoleOptions["dialScheduler"],
    onConnection: (connection: Connection) => void,
  ): void => {
    let told = "";
    void keepDialing({
      dial: (signal) => dialOne(hello, signal),
      onConnection(connection) {
        told = "";
        onConnection(connection);
      },
      onTrouble(fault: Fault) {
        if (fault.message !== told) log.warn(`Cannot reach the ${what}; trying again`, { why: fault });
        told = fault.message;
      },
      clock: realClock,
      random: realRandom,
      backoff: memberBackoff,
      signal: stopping.signal,
    });
  };
  dial("scheduler", options.dialScheduler, (connection) => worker.attachScheduler(connection));
  dial("gateway", options.dialGateway, (connection) =>
    serveOutput(connection, {
      clock: realClock,
      pathOf: (taskId, attempt, stream) => placesOf(attemptsDir, taskId, attempt)[stream],
      stageOf: (taskId, attempt) => worker.stageOf(taskId, attempt),
      outputBytesMax,
    }));
  return {
    worker,
    isolation: runner.isolation,
    async leave(why) {
      await worker.leave(why);
      stopping.abort();
      disk.end();
      endPruning();
      await worker.stop();
      await runner.close();
      await caches.close();
      await states.close();
    },
  };
}
