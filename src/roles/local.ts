import type { ChildProcess } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { connectClient } from "../api/client.ts";
import { Fault, isFault } from "../domain/fault.ts";
import { productVersion } from "../protocol/version.ts";
import { realClock, sleep } from "../runtime/clock.ts";
import { realRandom } from "../runtime/random.ts";
import { lockStore } from "../snapshots/states/lock.ts";
import type { ClusterConfig } from "./config.ts";
import { type Door, openDoor } from "./door.ts";
import { onLauncherLost } from "./launcher.ts";
import { machineRoom, roomOfEach } from "./local_room.ts";
import { makeDataDir, originOf, readOrMakeToken, stderrLog } from "./machine.ts";
import { drainedMessage, type DrainMessage, type Member } from "./member.ts";
import { superviseProcesses } from "./process_supervisor.ts";
import { ownCommand } from "./own_command.ts";
import { publishReady, type Ready, type ReadyPlaces, withdrawReady } from "./ready_file.ts";
import { runtimeFolder } from "./this_user.ts";

/** For running tasks to end, when the cluster is asked to stop. */
const drainMs = 10_000;
/** Signals that follow each other so fast are one: a Ctrl-C under npx arrives twice. */
const sameSignalMs = 1_000;
const readyMsMax = 30_000;

const ownMember = new URL(import.meta.url.endsWith(".ts") ? "./member_main.ts" : "./member_main.js", import.meta.url);

/**
 * A whole cluster on this machine, and stays with it until it is stopped.
 *
 * @param memberModule what each process of the cluster runs; the tests of recovery have one that dies on purpose.
 * @returns the exit code: 0 after a stop that was asked for, 1 when a part of it could not be kept running.
 * @throws {Fault} `STORE_LOCKED` naming the cluster that has the data, `PORT_BUSY`.
 */
export async function runLocalCluster(config: ClusterConfig, memberModule: URL = ownMember): Promise<number> {
  const startedAtMs = realClock.now();
  const { dataDir } = config;
  makeDataDir(dataDir);
  const stopRequests = stopSignals(config.detach);
  const lock = await lockCluster(dataDir);
  try {
    const token = readOrMakeToken(join(dataDir, "token"));
    const cluster = config.strategy === "local.memory"
      ? await (await import("./local_memory.ts")).startMemoryCluster(config, token)
      : await startProcesses(config, memberModule, stopRequests.fail);
    const places: ReadyPlaces = {
      folder: runtimeFolder({ env: process.env, temporaryDir: tmpdir() }),
      ...(config.readyFile === undefined ? {} : { readyFile: config.readyFile }),
    };
    const host = config.host.includes(":") ? `[${config.host}]` : config.host;
    const ready: Ready = {
      http: `http://${host}:${cluster.port}`,
      grpc: `grpc://${host}:${cluster.port}`,
      pid: process.pid,
      version: productVersion,
      data: config.dataDir,
    };
    try {
      const isolation = await Promise.race([
        whenReady(ready.http, token, config.workers),
        stopRequests.first.then(() => undefined),
      ]);
      if (isolation !== undefined) {
        publishReady(places, ready, token);
        announce(config, ready, token, isolation, realClock.now() - startedAtMs);
      }
      const why = await stopRequests.first;
      withdrawReady(places, ready);
      if (why === undefined) {
        await cluster.stop();
        return 1;
      }
      process.stderr.write(
        `Stopping (${why}): waiting at most ${drainMs / 1_000} s for running tasks; once more to stop now.\n`,
      );
      await Promise.race([cluster.drain(why), stopRequests.second]);
      await cluster.stop();
      process.stderr.write("Stopped. What was accepted goes on at the next start.\n");
      return 0;
    } finally {
      withdrawReady(places, ready);
    }
  } finally {
    await lock.release();
    stopRequests.close();
  }
}

export interface RunningCluster {
  readonly port: number;
  /** Places nothing new, waits for what runs, puts back the rest. */
  drain(why: string): Promise<void>;
  stop(): Promise<void>;
}

async function lockCluster(dataDir: string) {
  try {
    return await lockStore(join(dataDir, "cluster"));
  } catch (thrown) {
    if (!isFault(thrown, "STORE_LOCKED")) throw thrown;
    const pid = /process (\d+)/.exec(thrown.message)?.[1] ?? "another process";
    throw new Fault(
      "STORE_LOCKED",
      `Cannot start a cluster on ${dataDir} as process ${pid} runs one there: use it, stop it with "scoot-actors stop", or give another folder with --data`,
      { cause: thrown },
    );
  }
}

/** Door and supervisor: the parts are processes of their own, and are started again when they die. */
async function startProcesses(config: ClusterConfig, memberModule: URL, fail: () => void): Promise<RunningCluster> {
  const { dataDir, host, guaranteedAge: guaranteedAgeMs } = config;
  const log = stderrLog("door");
  const doors: Door[] = [];
  const supervisor = superviseProcesses({ clock: realClock, random: realRandom, log, onGivenUp: fail });
  const start = (name: string, member: Member, door?: Door): void => {
    supervisor.start({
      name,
      module: memberModule,
      args: [JSON.stringify(member)],
      env: process.env,
      channel: door !== undefined,
      ...(door === undefined ? {} : {
        onStarted(child) {
          if (name === "scheduler") scheduler = child;
          door.serve(child);
        },
      }),
    });
  };
  let scheduler: ChildProcess | undefined;
  const open = async (at: { host: string; port: number }): Promise<Door> => {
    const door = await openDoor({ clock: realClock, ...at });
    doors.push(door);
    return door;
  };
  const stop = async (): Promise<void> => {
    await supervisor.stop();
    for (const door of doors) await door.close();
  };
  try {
    const front = await open({ host, port: config.port });
    // Workers and the gateway find the scheduler behind a port of its own, which outlives it as well.
    const inner = await open({ host: "127.0.0.1", port: 0 });
    const schedulerAddress = `tcp://127.0.0.1:${inner.port}`;
    const gatewayAddress = `tcp://${host.includes(":") ? `[${host}]` : host}:${front.port}`;
    start("scheduler", { role: "scheduler", dataDir, maxBytes: config.maxSize, guaranteedAgeMs }, inner);
    start(
      "gateway",
      {
        role: "gateway",
        dataDir,
        tokenFile: join(dataDir, "token"),
        schedulerAddress,
        hosts: [host],
        origin: originOf({ host, port: front.port }),
        ...(config.instances === undefined ? {} : { instances: config.instances }),
        takesAnyResult: config.anyResult,
        maxBytes: config.maxSize,
        guaranteedAgeMs,
      },
      front,
    );
    for (let number = 1; number <= config.workers; number++) {
      const workerId = `w${number}` as Extract<Member, { role: "worker" }>["workerId"];
      start(workerId, {
        role: "worker",
        dataDir,
        workerId,
        slots: config.slots,
        room: roomOfEach(machineRoom(), config.workers),
        guaranteedAgeMs,
        schedulerAddress,
        gatewayAddress,
      });
    }
    return {
      port: front.port,
      async drain(why) {
        const child = scheduler;
        if (child === undefined || child.exitCode !== null || !child.connected) return;
        const drained = new Promise<void>((resolve) => {
          child.on("message", (message) => {
            if ((message as { type?: unknown }).type === drainedMessage.type) resolve();
          });
          child.once("exit", () => resolve());
        });
        child.send({ type: "drain", why, waitMs: drainMs } satisfies DrainMessage);
        await Promise.race([drained, sleep(realClock, drainMs + 5_000)]);
      },
      stop,
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

/**
 * The cluster answers and all its workers are there.
 *
 * @returns how tasks are kept apart.
 */
async function whenReady(url: string, token: string, workers: number): Promise<string> {
  const client = connectClient({ url, token });
  try {
    const untilMs = realClock.now() + readyMsMax;
    for (;;) {
      const present = (await client.workers()).filter((worker) => worker.state === "present");
      if (present.length >= workers || realClock.now() >= untilMs) {
        return present[0]?.isolation ?? "no worker is there yet";
      }
      await sleep(realClock, 20);
    }
  } finally {
    await client.close();
  }
}

function announce(config: ClusterConfig, ready: Ready, token: string, isolation: string, tookMs: number): void {
  if (config.json) return void process.stdout.write(`${JSON.stringify(ready)}\n`);
  const where = config.strategy === "local.memory"
    ? "in memory only: nothing outlives this process"
    : `durable in ${config.dataDir}`;
  const workers = `${config.workers} ${config.workers === 1 ? "worker" : "workers"} of ${config.slots} ${
    config.slots === 1 ? "slot" : "slots"
  }`;
  process.stdout.write(
    `Ready in ${(tookMs / 1_000).toFixed(2)} s, ${where}, ${workers}; isolation ${isolation}\n` +
      `At ${ready.http} (page, HTTP, WebSocket); bazel build --remote_executor=${ready.grpc}\n` +
      // After the #, so that a browser keeps the token to itself.
      (process.stdout.isTTY ? `See it: ${ready.http}/#token=${encodeURIComponent(token)}\n` : "") +
      `Try: ${ownCommand()} run -- sh -c 'echo hello from $PWD'\n`,
  );
}

/** SIGINT, SIGTERM, SIGHUP and the loss of the launcher ask to stop; asking again stops now. */
function stopSignals(isDetached: boolean) {
  let firstAtMs: number | undefined;
  let resolveFirst: (why: string | undefined) => void;
  let resolveSecond: () => void;
  const first = new Promise<string | undefined>((resolve) => resolveFirst = resolve);
  const second = new Promise<void>((resolve) => resolveSecond = resolve);
  const ask = (why: string): void => {
    const nowMs = realClock.now();
    if (firstAtMs === undefined) {
      firstAtMs = nowMs;
      resolveFirst(why);
    } else if (nowMs - firstAtMs >= sameSignalMs) resolveSecond();
  };
  const onInterrupt = (): void => ask("interrupted");
  const onTerminate = (): void => ask("asked to by SIGTERM");
  const onHangup = (): void => {
    if (!isDetached) ask("the terminal is gone");
  };
  process.on("SIGINT", onInterrupt).on("SIGTERM", onTerminate).on("SIGHUP", onHangup);
  const unwatch = isDetached ? () => {} : onLauncherLost(realClock, () => ask("the program that started it is gone"));
  return {
    first,
    second,
    /** A part was given up: the whole ends. */
    fail: () => resolveFirst(undefined),
    /** The signals stay heard: one that comes between here and the end of the process must not change how it ends. */
    close: unwatch,
  };
}
