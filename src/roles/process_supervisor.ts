import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Log } from "../observability/log.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";

/**
 * Starts the processes of this machine, restarts what dies, and stops them together.
 *
 *     starting ──▶ running ──dies──▶ waiting ──▶ running …        waiting: not at all the first time, then 100 ms,
 *                                       └─too often─▶ given up             200 ms … 5 s; anew after 30 s of life
 *
 * Whoever is killed, nothing stays behind: a child that dies is started anew; when the supervisor dies, each child
 * notices ({@link onParentLost}) and stops by itself. Each child leads a session, so a terminal's Ctrl-C reaches the
 * supervisor alone, which stops the children in its order.
 */
export interface ProcessSupervisor {
  /** Starts a child and keeps it running until {@link stop}. */
  start(spec: ChildSpec): SupervisedProcess;
  /** Stops all children, the last started first, each before the next. */
  stop(): Promise<void>;
}

export interface ChildSpec {
  /** Unique, for people: "worker 2". */
  readonly name: string;
  /** The module that the child runs; a URL, as of `new URL("./gateway_main.ts", import.meta.url)`. */
  readonly module: URL;
  readonly args: readonly string[];
  /** The child's environment, as it is; the supervisor adds one variable of its own. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * Whether there is a channel for messages and sockets (`process.send` in the child). Not for a child that runs
   * commands of others: under Deno they inherit it.
   */
  readonly channel: boolean;
  /** A new process of this child: at the first start and after each restart. Whoever listens to it must do so here. */
  readonly onStarted?: (child: ChildProcess) => void;
}

export interface SupervisedProcess {
  readonly name: string;
  /** Of the process that runs now; undefined between two. */
  readonly pid: number | undefined;
  /** How often it was started again. */
  readonly restarts: number;
  /** SIGTERM, after `stopMs` SIGKILL; resolves when it is gone, and then it is not started again. */
  stop(): Promise<void>;
}

export interface SupervisorOptions {
  readonly clock: Clock;
  /** Spreads restarts by up to a tenth, so that what died together does not come back in step. */
  readonly random: Random;
  readonly log: Log;
  /** Between SIGTERM and SIGKILL; 10,000 ms by default. */
  readonly stopMs?: number;
  /** More restarts of one child within 60 s than this: it is given up. 10 by default, reached in about 20 s. */
  readonly restartsPerMinuteMax?: number;
  /** A child was given up. The one who asked for it decides; as a rule the whole ends. */
  readonly onGivenUp: (name: string, why: string) => void;
}

/** Tells a child that its standard input is the supervisor's lifeline. */
const supervisedVariable = "SCOOT_SUPERVISED";

const firstDelayMs = 100;
const delayMsMax = 5_000;
const longLifeMs = 30_000;

export function superviseProcesses(options: SupervisorOptions): ProcessSupervisor {
  const { clock, random, log, stopMs = 10_000, restartsPerMinuteMax = 10 } = options;
  const children: SupervisedProcess[] = [];

  function supervise(spec: ChildSpec): SupervisedProcess {
    let child: ChildProcess | undefined;
    let restarts = 0;
    let restartedAtMs: number[] = [];
    /** 0: the next restart is at once. */
    let nextDelayMs = 0;
    let cancelRestart = (): void => {};
    let stopping: Promise<void> | undefined;
    let onGone = (): void => {};

    function launch(): void {
      const startedAtMs = clock.now();
      const started = launchChild(spec);
      child = started;
      let isOver = false;
      const onEnd = (why: string): void => {
        if (isOver) return;
        isOver = true;
        child = undefined;
        if (stopping !== undefined) return onGone();
        if (clock.now() - startedAtMs >= longLifeMs) nextDelayMs = 0;
        restartLater(why);
      };
      started.on("exit", (code, signal) => {
        // Deno does not notice by itself that nobody is at the other end of the channel.
        if (started.connected) started.disconnect();
        onEnd(signal === null ? `it exited with ${code}` : `it was killed by ${signal}`);
      });
      started.on("error", (error) => {
        // Also says that a message could not be sent to a child that is dying; then the exit follows.
        if (started.pid === undefined) onEnd(`it could not be started: ${error.message}`);
      });
      started.stdin?.on("error", () => {});
      if (started.pid !== undefined) spec.onStarted?.(started);
    }

    function restartLater(why: string): void {
      const nowMs = clock.now();
      restartedAtMs = restartedAtMs.filter((atMs) => nowMs - atMs < 60_000);
      if (restartedAtMs.length >= restartsPerMinuteMax) {
        log.error(`${spec.name} is given up`, { why, restartsWithinAMinute: restartedAtMs.length });
        return options.onGivenUp(spec.name, why);
      }
      const delayMs = nextDelayMs + Math.floor(nextDelayMs * random.integer(100) / 1_000);
      log.warn(`${spec.name} is started again`, { why, afterMs: delayMs });
      nextDelayMs = nextDelayMs === 0 ? firstDelayMs : Math.min(nextDelayMs * 2, delayMsMax);
      const restart = (): void => {
        restartedAtMs.push(clock.now());
        restarts++;
        launch();
      };
      if (delayMs === 0) restart();
      else cancelRestart = clock.at(nowMs + delayMs, restart);
    }

    launch();
    return {
      name: spec.name,
      get pid() {
        return child?.pid;
      },
      get restarts() {
        return restarts;
      },
      stop() {
        return stopping ??= new Promise((resolve) => {
          cancelRestart();
          if (child === undefined) return resolve();
          signal(child, "SIGTERM");
          const cancelKill = clock.at(clock.now() + stopMs, () => {
            log.warn(`${spec.name} did not stop in time and is killed`, { afterMs: stopMs });
            if (child !== undefined) signal(child, "SIGKILL");
          });
          onGone = () => {
            cancelKill();
            resolve();
          };
        });
      },
    };
  }

  return {
    start(spec) {
      const child = supervise(spec);
      children.push(child);
      return child;
    },
    async stop() {
      for (const child of children.splice(0).reverse()) await child.stop();
    },
  };
}

function launchChild(spec: ChildSpec): ChildProcess {
  // Deno takes Node's command line for its own otherwise, and grants nothing.
  const run = "deno" in process.versions ? ["run", "-A"] : [];
  return spawn(process.execPath, [...run, fileURLToPath(spec.module), ...spec.args], {
    detached: true,
    // Nothing is ever written to the child's input: it reads its end when this process is gone.
    stdio: ["pipe", "inherit", "inherit", ...(spec.channel ? ["ipc" as const] : [])],
    env: { ...spec.env, [supervisedVariable]: "1" },
  });
}

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(child.pid, name);
  } catch {
    // It has just gone, and its exit is on the way.
  }
}

/**
 * In a supervised child: calls back once when the supervisor is gone, by SIGKILL too; a child then stops by itself.
 * Does not keep the process alive. In a process that nobody supervises it never calls back.
 */
export function onParentLost(callback: () => void): void {
  if (process.env[supervisedVariable] === undefined) return;
  let isLost = false;
  const lost = (): void => {
    if (isLost) return;
    isLost = true;
    callback();
  };
  const lifeline = process.stdin as typeof process.stdin & Partial<Pick<Socket, "unref">>;
  lifeline.on("end", lost).on("close", lost).on("error", lost).resume();
  lifeline.unref?.();
}
