import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  appendFileSync,
  constants,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  truncateSync,
} from "node:fs";
import { userInfo } from "node:os";
import { basename, delimiter, join, resolve as resolvePath } from "node:path";
import process from "node:process";
import { Fault } from "../domain/fault.ts";
import { invariant } from "../domain/invariant.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { type Launched, notStarted, ownLauncher, shown } from "./launch.ts";
import { launcherProcess } from "./launcher_process.ts";
import { killRecorded, startLifeline } from "./lifeline.ts";
import { createMeter, type Meter, type Metered } from "./meter.ts";
import { bootId, processesSince, type ProcessInfo, processInfo, writesTo } from "./proc.ts";
import type { Exit, Runner, Running, RunRequest } from "./runner.ts";

export interface ProcessRunnerOptions {
  /** Holds the records of running commands; made when absent. For this runner alone, and the same after a restart. */
  readonly dir: string;
  readonly clock: Clock;
}

/** Where a bare command name is sought when the command's environment has no PATH. */
const defaultPath = "/usr/local/bin:/usr/bin:/bin";
/** Output files, and what commands use, are measured this often: the first figure at first, and while one grows fast. */
const measureMsMin = 10;
const measureMsMax = 200;
/**
 * A stream may stand over its limit by this much before it is cut while the command runs. What is written between
 * measuring and cutting is cut uncounted: the fewer cuts, the truer the count.
 */
const spareBytes = 32 * 1024 * 1024;
/** Time in which no system gives out all its process numbers: 32,768 of them, where there are fewest. */
const recentMs = 1_000;
/** How long processes that were sent SIGKILL are waited for: one that hangs in the kernel must not hold the slot for ever. */
const dyingMsMax = 10_000;

/**
 * Runs commands as processes of this machine, each in a session and process group of its own, without a sandbox.
 *
 * - Streams are plain files, opened for appending. While a command runs, a file may be larger than `outputBytesMax`;
 *   its first `outputBytesMax` bytes never change, and what lies behind them is cut sooner or later: readers stop there.
 * - When the command's own process has ended, what is left of its session, and whoever still writes to its output, is
 *   killed before `exit` settles; after a stop or a time limit only when the grace is over. A process that left the
 *   session, lost its parent *and* closed the output is not found: containing such needs a sandbox.
 * - When the calling process dies, by SIGKILL too, a small watcher kills the same set within milliseconds; when the
 *   watcher dies with it, {@link Runner.killLeftovers} of the next one does.
 *
 * Linux only: it reads /proc.
 */
export function processRunner(options: ProcessRunnerOptions): Runner {
  const { dir, clock } = options;
  const boot = bootId();
  const commands = new Map<string, Command>();
  let lifeline: ChildProcess | undefined;
  let isClosed = false;
  let cancelMeasuring: (() => void) | undefined;
  let measureMs = measureMsMin;
  const meter = createMeter(clock);
  mkdirSync(dir, { recursive: true });
  const launcher = "deno" in process.versions ? ownLauncher(clock) : launcherProcess({
    clock,
    lifeline: () => holdLifeline(),
    onLost: (record) => killRecorded(dir, boot, [basename(record)]),
  });
  const forgetSignals = learnUnnamedSignals((signal) => {
    for (const command of commands.values()) {
      if (processInfo(command.pid) === undefined) {
        command.onLeaderExit({ exitCode: 128 + signal, signal: `SIG${signal}` });
      }
    }
  });

  function holdLifeline(): ChildProcess {
    if (lifeline !== undefined) return lifeline;
    const child = startLifeline(dir, boot);
    const startedAtMs = clock.now();
    child.on("error", () => lifeline = undefined);
    child.on("exit", () => {
      lifeline = undefined;
      // Killed by someone: the commands that run must not be without one. Not when it cannot live, to not start it in a circle.
      if (!isClosed && commands.size > 0 && clock.now() - startedAtMs > 1_000) holdLifeline();
    });
    child.stdin?.on("error", () => {});
    if (child.pid === undefined) {
      throw new Fault("INTERNAL", "Cannot run a command as its watcher, /bin/sh, must start");
    }
    child.unref();
    (child.stdin as unknown as { unref?(): void } | null)?.unref?.();
    return lifeline = child;
  }

  /** Keeps the output and memory of all running commands within bounds, by one timer. */
  function measure(): void {
    cancelMeasuring = undefined;
    let isFast = false;
    for (const command of commands.values()) if (command.cutOutput()) isFast = true;
    meter.read(commands.values());
    measureMs = isFast ? measureMsMin : Math.min(measureMs * 2, measureMsMax);
    if (commands.size > 0) cancelMeasuring = clock.at(clock.now() + measureMs, measure);
  }

  return {
    isolation: `none: tasks can read and write this machine as ${userName()}`,

    async start(request) {
      invariant(!isClosed, "nothing is started on a closed runner");
      invariant(!commands.has(request.id), `no two commands run as ${request.id}`);
      invariant(!/[\n\0]/.test(request.stdoutPath + request.stderrPath), "output paths hold no line ends");
      const file = findExecutable(request);
      const record = join(dir, recordName(request.id));
      holdLifeline();
      const cwd = realpathSync.native(request.cwd);
      const known = [boot, request.stdoutPath, request.stderrPath, cwd.includes("\n") ? "" : cwd];
      const { argv, env, stdoutPath, stderrPath } = request;
      const launched = await launcher.start({
        argv,
        env,
        cwd: request.cwd,
        stdoutPath,
        stderrPath,
        file,
        record,
        known: known.join("\n") + "\n",
      });
      const command = watchCommand({ request, launched, starter: launcher.pid, record, clock, meter });
      commands.set(request.id, command);
      command.exit.then(() => {
        rmSync(record, { force: true });
        commands.delete(request.id);
      });
      measureMs = measureMsMin;
      cancelMeasuring?.();
      cancelMeasuring = clock.at(clock.now() + measureMs, measure);
      return command;
    },

    async killLeftovers() {
      const own = new Set([...commands.keys()].map(recordName));
      const records = readdirSync(dir).filter((name) => name.endsWith(".run") && !own.has(name));
      return await killRecorded(dir, boot, records);
    },

    async close() {
      if (isClosed) return;
      isClosed = true;
      for (const command of commands.values()) command.stop("the runner was closed");
      await Promise.all([...commands.values()].map((command) => command.exit));
      cancelMeasuring?.();
      forgetSignals();
      lifeline?.stdin?.destroy();
      launcher.close();
    },
  };
}

interface Command extends Running, Metered {
  /** Cuts output that is far over its limit. @returns whether some stream grows so fast that it is to be watched closely. */
  cutOutput(): boolean;
  onLeaderExit(how: { readonly exitCode: number; readonly signal?: string }): void;
}

type Ending =
  | { readonly kind: "timedOut" }
  | { readonly kind: "stopped"; readonly reason: string }
  | { readonly kind: "memoryExceeded"; readonly memoryBytes: number; readonly memoryBytesMax: number };

/** A started command until all of it is gone. */
function watchCommand(
  { request, launched: { pid, startedAtMs, paths, ended }, starter, record, clock, meter }: {
    readonly request: RunRequest;
    readonly launched: Launched;
    readonly starter: number | undefined;
    readonly record: string;
    readonly clock: Clock;
    readonly meter: Meter;
  },
): Command {
  invariant(pid > 0, "a command that was started has a pid");
  const streams = paths.map((path) => ({ path, lastBytes: 0, truncatedBytes: 0 }));
  /** Descendants outside of the session, by pid: once their ancestors die nothing else names them. */
  const strays = new Map<number, string>();
  let ending: Ending | undefined;
  let graceEndsAtMs = Infinity;
  let leaderIsGone = false;
  let settle: (exit: Exit) => void = () => {};
  const exit = new Promise<Exit>((resolve) => settle = resolve);
  let cancelTimer = clock.at(startedAtMs + request.timeoutMs, () => end({ kind: "timedOut" }));

  /** The living processes of the command, its leader left out; remembers those that are outside of its session. */
  function members(): ProcessInfo[] {
    const found = new Set<number>([pid]);
    const isRecent = clock.now() - startedAtMs < recentMs;
    const candidates = processesSince(pid, isRecent).filter((candidate) =>
      candidate.pid !== process.pid && candidate.pid !== starter
    );
    for (let before = 0; before !== found.size;) {
      before = found.size;
      for (const candidate of candidates) {
        if (found.has(candidate.pid)) continue;
        const isOurs = candidate.session === pid || found.has(candidate.parent) ||
          strays.get(candidate.pid) === candidate.startTicks;
        if (isOurs || (before === 1 && writesTo(candidate.pid, paths))) found.add(candidate.pid);
        if (found.has(candidate.pid) && candidate.session !== pid) strays.set(candidate.pid, candidate.startTicks);
      }
    }
    return candidates.filter((candidate) => found.has(candidate.pid));
  }

  /** Signals the whole group at once, so that none is missed that is being forked, and whoever left the group. */
  function sendToAll(signal: NodeJS.Signals): void {
    const others = members();
    if (!leaderIsGone || others.some((other) => other.group === pid)) send(-pid, signal);
    for (const other of others) if (other.group !== pid) send(other.pid, signal);
  }

  function end(why: Ending, graceMs = request.graceMs): void {
    if (ending !== undefined || leaderIsGone) return;
    ending = why;
    sendToAll(graceMs === 0 ? "SIGKILL" : "SIGTERM");
    // Should this process die during the grace, nothing else would name those who survived their parents.
    if (strays.size > 0) appendFileSync(record, [...strays].map((it) => `${it.join(" ")}\n`).join(""));
    graceEndsAtMs = clock.now() + graceMs;
    cancelTimer();
    cancelTimer = clock.at(graceEndsAtMs, () => sendToAll("SIGKILL"));
  }

  async function onLeaderExit(how: { readonly exitCode: number; readonly signal?: string }): Promise<void> {
    if (leaderIsGone) return;
    leaderIsGone = true;
    const endedAtMs = clock.now();
    // Those who were asked to end have the time that they were promised; whom nobody asked has no business any more.
    while (ending !== undefined && clock.now() < graceEndsAtMs && members().length > 0) await sleep(clock, 10);
    cancelTimer();
    const giveUpAtMs = clock.now() + dyingMsMax;
    for (let waitMs = 1; clock.now() < giveUpAtMs; waitMs = Math.min(waitMs * 2, 50)) {
      if (members().length === 0) break;
      sendToAll("SIGKILL");
      await sleep(clock, waitMs);
    }
    for (const stream of streams) cut(stream, request.outputBytesMax, 0);
    const [stdout, stderr = stdout] = streams;
    const usage = meter.usageOf(command);
    settle({
      ...(ending ?? { kind: "exited", ...how }),
      startedAtMs,
      endedAtMs: ending === undefined ? endedAtMs : clock.now(),
      stdoutTruncatedBytes: stdout?.truncatedBytes ?? 0,
      stderrTruncatedBytes: stderr?.truncatedBytes ?? 0,
      ...(usage === undefined ? {} : { usage }),
    });
  }

  void ended.then(onLeaderExit);

  const command: Command = {
    pid,
    startedAtMs,
    ...(request.memoryBytesMax === undefined ? {} : { memoryBytesMax: request.memoryBytesMax }),
    onMemoryExceeded: (memoryBytes) =>
      end({ kind: "memoryExceeded", memoryBytes, memoryBytesMax: request.memoryBytesMax ?? 0 }, 0),
    exit,
    stop: (reason) => end({ kind: "stopped", reason }),
    onLeaderExit,
    cutOutput() {
      let isFast = false;
      for (const stream of streams) {
        const before = stream.lastBytes;
        cut(stream, request.outputBytesMax, spareBytes);
        if (stream.lastBytes - before > spareBytes / 8) isFast = true;
      }
      return isFast;
    },
  };
  return command;
}

interface Stream {
  readonly path: string;
  /** Size when it was last measured, what was cut included. */
  lastBytes: number;
  truncatedBytes: number;
}

/** Cuts the file to `bytesMax` when it is larger than that by more than `toleratedBytes`, and counts what was cut. */
function cut(stream: Stream, bytesMax: number, toleratedBytes: number): void {
  try {
    const size = statSync(stream.path).size;
    stream.lastBytes = size + stream.truncatedBytes;
    if (size <= bytesMax + toleratedBytes) return;
    truncateSync(stream.path, bytesMax);
    stream.truncatedBytes += size - bytesMax;
  } catch {
    // The command removed its output file: there is nothing to cut.
  }
}

/** @throws {Fault} `COMMAND_NOT_STARTED` when something that can be known beforehand is wrong. @returns an absolute path. */
function findExecutable(request: RunRequest): string {
  const { argv, env, cwd } = request;
  const command = argv[0];
  if (command === undefined || command === "") throw notStarted(request, "its name must not be empty");
  if (argv.some((argument) => argument.includes("\0"))) {
    throw notStarted(request, `arguments must hold no NUL: argument ${argv.findIndex((it) => it.includes("\0"))} does`);
  }
  for (const [name, value] of Object.entries(env)) {
    if (name === "" || /[=\0]/.test(name) || value.includes("\0")) {
      throw notStarted(
        request,
        `variables must have a name without "=" and hold no NUL: current value is ${shown(name)}`,
      );
    }
  }
  if (!isFolder(cwd)) throw notStarted(request, `its working folder must exist: current value is ${shown(cwd)}`);

  if (command.includes("/")) {
    const path = resolvePath(cwd, command);
    const wrong = whyNotExecutable(path);
    if (wrong !== undefined) throw notStarted(request, `${shown(path)} must be an executable file: ${wrong}`);
    return path;
  }
  const searched = env["PATH"] ?? defaultPath;
  let almost = "";
  for (const folder of searched.split(delimiter)) {
    const path = resolvePath(cwd, folder, command);
    const wrong = whyNotExecutable(path);
    if (wrong === undefined) return path;
    if (wrong !== "it does not exist") almost ||= ` (${path}: ${wrong})`;
  }
  throw notStarted(request, `it must be found in PATH, which is ${shown(searched)}${almost}`);
}

function whyNotExecutable(path: string): string | undefined {
  try {
    if (!statSync(path).isFile()) return "it is not a file";
    accessSync(path, constants.X_OK);
    return undefined;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === "EACCES" ? "it is not executable" : "it does not exist";
  }
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/**
 * Tells of a child's end by a signal that Deno has no name for (the real-time ones): it then emits no "exit" but
 * rejects a promise that nobody holds, which would end this whole process. Nothing to do elsewhere.
 *
 * @returns what takes it back.
 */
function learnUnnamedSignals(onSignal: (signal: number) => void): () => void {
  if (!("deno" in process.versions)) return () => {};
  const onRejection = (event: Event): void => {
    const reason = (event as Event & { readonly reason?: unknown }).reason;
    const signal = reason instanceof TypeError ? /^Invalid signal: (\d+)$/.exec(reason.message)?.[1] : undefined;
    if (signal === undefined) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    onSignal(Number(signal));
  };
  globalThis.addEventListener("unhandledrejection", onRejection);
  return () => globalThis.removeEventListener("unhandledrejection", onRejection);
}

/** Sends a signal to a process, or with a negative number to a group; one that is gone is no error. */
function send(target: number, signal: NodeJS.Signals): void {
  try {
    process.kill(target, signal);
  } catch {
    // Gone already.
  }
}

/** One line of a name that is safe as a file name: ids hold slashes. */
function recordName(id: string): string {
  const name = encodeURIComponent(id);
  return `${name.length > 200 ? createHash("sha256").update(id).digest("hex") : name}.run`;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `user ${process.getuid?.() ?? "unknown"}`; // A uid without an account, as containers have it.
  }
}
