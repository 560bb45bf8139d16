import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { closeSync, openSync, readlinkSync, rmSync, writeSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { asFault, Fault } from "../domain/fault.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { inheritedDescriptors, processInfo } from "./proc.ts";

/** A command that is to be started, as plain data. */
export interface Launch {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly stdoutPath: string;
  readonly stderrPath: string;
  /** The executable, absolute. */
  readonly file: string;
  /** A file, made before the command is, that finds what is left of it after a crash; and what it says without the pid. */
  readonly record: string;
  readonly known: string;
}

/** How the process of a command ended, its children apart. */
export interface LeaderEnd {
  readonly exitCode: number;
  readonly signal?: string;
}

/** A command whose process was started. */
export interface Launched {
  readonly pid: number;
  readonly startedAtMs: number;
  /** Of its output files, one or two, without symbolic links. */
  readonly paths: readonly string[];
  readonly ended: Promise<LeaderEnd>;
}

/** Starts commands. */
export interface Launcher {
  /** @throws {Fault} `COMMAND_NOT_STARTED` when the system refuses to execute it; nothing is left of it then. */
  start(launch: Launch): Promise<Launched>;
  /** The process that starts them, if it is another than this. */
  readonly pid: number | undefined;
  close(): void;
}

/** Starts commands as children of this process. */
export function ownLauncher(clock: Clock): Launcher {
  const nullFd = openSync("/dev/null", "r+");
  /**
   * What stands for descriptors 3, 4, … of commands, so that none of this process reaches them; nothing as a rule.
   * Deno tells the command of it by the variable DENO_EXTRA_STDIO_FDS: better start a worker without an IPC channel.
   */
  const hidden: ("ignore" | number)[] = [];
  for (const fd of inheritedDescriptors()) {
    while (hidden.length < fd - 3) hidden.push("ignore");
    hidden.push(nullFd);
  }
  return {
    async start(launch) {
      const output = openOutput(launch);
      try {
        const recordFd = openSync(launch.record, "w");
        try {
          // Before the start, without the pid: should this process die in between, the output files name the command.
          writeSync(recordFd, launch.known);
          const child = await spawnCommand(launch, ["ignore", ...output.fds, ...hidden], clock);
          const ended = endOf(child);
          const pid = child.pid ?? 0;
          const startedAtMs = clock.now();
          // A command that has ended already has no start time; what it left behind is found by its output files.
          const started = processInfo(pid);
          if (started !== undefined) writeSync(recordFd, `${pid} ${started.startTicks}\n`);
          return { pid, startedAtMs, paths: output.paths, ended };
        } finally {
          closeSync(recordFd);
        }
      } catch (thrown) {
        rmSync(launch.record, { force: true });
        throw thrown instanceof Fault ? thrown : asFault(thrown, `Cannot start ${shown(launch.argv[0])}`);
      } finally {
        output.close();
      }
    },
    pid: undefined,
    close: () => closeSync(nullFd),
  };
}

const endOf = (child: ChildProcess): Promise<LeaderEnd> =>
  new Promise((resolve) => {
    child.on("exit", (code, signal) => {
      if (signal === null) resolve({ exitCode: code ?? 0 });
      else resolve({ exitCode: 128 + (constants.signals[signal] ?? 0), signal });
    });
    // Only of what happens to a process that runs: that it could not be sent a signal. Its end is heard of anyway.
    child.on("error", () => {});
  });

function openOutput(
  launch: Launch,
): { readonly fds: readonly [number, number]; readonly paths: readonly string[]; close(): void } {
  const open = (path: string): number => {
    // Appending, so that after a cut the next write goes to the new end; exclusive, so that nothing is followed.
    const openNew = (): number => openSync(path, "ax", 0o644);
    try {
      try {
        return openNew();
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
        rmSync(path, { force: true });
        return openNew();
      }
    } catch (thrown) {
      throw asFault(thrown, `Cannot write the output of ${shown(launch.argv[0])} to ${path}`);
    }
  };
  const stdout = open(launch.stdoutPath);
  try {
    const stderr = launch.stderrPath === launch.stdoutPath ? stdout : open(launch.stderrPath);
    return {
      fds: [stdout, stderr],
      paths: [...new Set([realPathOf(stdout, launch.stdoutPath), realPathOf(stderr, launch.stderrPath)])],
      close() {
        closeSync(stdout);
        if (stderr !== stdout) closeSync(stderr);
      },
    };
  } catch (thrown) {
    closeSync(stdout);
    throw thrown;
  }
}

/** As the system shows it for whoever has the file open. */
function realPathOf(fd: number, path: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return path; // A system without /proc shows nobody else's files either.
  }
}

export const notStarted = ({ argv }: Pick<Launch, "argv">, why: string, cause?: unknown): Fault =>
  new Fault("COMMAND_NOT_STARTED", `Cannot start ${shown(argv[0])} as ${why}`, { cause });

export const shown = (argument: string | undefined): string =>
  JSON.stringify((argument ?? "").length > 200 ? `${argument?.slice(0, 200)}…` : argument ?? "");

/** @throws {Fault} `COMMAND_NOT_STARTED` when the system refuses to execute it. */
async function spawnCommand(
  launch: Launch,
  stdio: ("ignore" | number)[],
  clock: Clock,
): Promise<ChildProcess> {
  const command = asGiven(launch);
  const options: SpawnOptions = {
    cwd: launch.cwd,
    env: launch.env as NodeJS.ProcessEnv,
    detached: true,
    stdio,
  };
  for (let attempt = 1;; attempt++) {
    const started = await trySpawn(command, options);
    if (!(started instanceof Error)) return started;
    const code = (started as NodeJS.ErrnoException).code ?? "";
    // The file was just written, and some process that is being started still holds it open for writing (ETXTBSY, 26).
    // Deno gives no code for it.
    if ((code === "ETXTBSY" || started.message.includes("(os error 26)")) && attempt < 8) {
      await sleep(clock, 5 * attempt);
      continue;
    }
    if (code === "EAGAIN" || code === "ENOMEM" || code === "EMFILE" || code === "ENFILE") throw started;
    const why = code === "ENOENT"
      ? "its interpreter must exist"
      : code === "E2BIG"
      ? "its arguments and environment must fit into what the system takes"
      : `the system must execute it: ${started.message}`;
    throw notStarted(launch, why, started);
  }
}

async function trySpawn(command: SpawnedAs, options: SpawnOptions): Promise<ChildProcess | Error> {
  try {
    const child = spawn(command.file, command.args, { ...options, argv0: command.argv0 });
    if (child.pid !== undefined) return child;
    return await new Promise((resolve) => child.once("error", resolve));
  } catch (thrown) {
    return thrown instanceof Error ? thrown : new Error(String(thrown));
  }
}

interface SpawnedAs {
  readonly file: string;
  readonly args: readonly string[];
  readonly argv0: string;
}

/**
 * The command such that the runtime starts exactly it; on Node that is the command itself.
 *
 * Deno rewrites command lines in which its own path occurs (it adds flags and variables, to pass for Node). A second
 * slash before the path hides it. Where it stands among the arguments or variables, a shell is told a text in which
 * quotes break the path up, and then becomes the command; `argv[0]` is then the path of the executable.
 */
function asGiven(launch: Launch): SpawnedAs {
  const { file } = launch;
  const [argv0 = "", ...args] = launch.argv;
  if (!("deno" in process.versions)) return { file, args, argv0 };
  const hidden = file === process.execPath ? `/${file}` : file;
  const isRewritten = args.length > 0 &&
    [...args, ...Object.values(launch.env)].some((text) => text.includes(process.execPath));
  if (!isRewritten) return { file: hidden, args, argv0 };
  const words = [hidden, ...args].map((word) => `'${word.replaceAll("'", "'\\''").replace(/[;&|/]/g, "$&''")}'`);
  const unset = launch.env["PWD"] === undefined ? "unset PWD\n" : "";
  return { file: "/bin/sh", args: ["-c", `${unset}exec ${words.join(" ")}`], argv0: "sh" };
}
