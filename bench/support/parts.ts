import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { cliArgs, runtimeArgs } from "../../scripts/support/cluster.ts";

/** The parts of a cluster as processes of their own, for benches that look at one of them. */
export interface Part {
  readonly pid: number;
  /** Kills it, and waits for its end. */
  kill(signal?: NodeJS.Signals): Promise<void>;
}

export interface Parts {
  readonly dir: string;
  readonly token: string;
  readonly schedulerAddress: string;
  readonly gatewayUrl: string;
  readonly scheduler: Part;
  readonly gateway: Part;
  /** Starts the scheduler again at the same address. */
  restartScheduler(): Promise<Part>;
  start(file: string, args: readonly string[]): Part;
  stop(): Promise<void>;
}

const file = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** @param options.sharesData the gateway reads the scheduler's states, as on one machine. */
export async function startParts(options: { readonly sharesData?: boolean } = {}): Promise<Parts> {
  const dir = mkdtempSync(join(tmpdir(), "scoot-bench-"));
  const children: ChildProcess[] = [];
  const launch = (args: readonly string[]): ChildProcess => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    return child;
  };
  const part = (child: ChildProcess): Part => {
    const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null;
    const ended = isOver() ? Promise.resolve() : new Promise<void>((resolve) => child.once("exit", () => resolve()));
    return {
      pid: child.pid!,
      async kill(signal = "SIGKILL") {
        if (!isOver()) process.kill(child.pid!, signal);
        await ended;
      },
    };
  };
  /** Its address, from the line that says that it is ready. */
  const ready = (child: ChildProcess): Promise<string> =>
    new Promise((resolve, reject) => {
      let text = "";
      child.stdout!.on("data", (bytes) => {
        text += bytes;
        const address = /ready at ((tcp|http):\/\/[^\s,;]+)/.exec(text)?.[1];
        if (address !== undefined) resolve(address);
      });
      child.once("exit", (code) => reject(new Error(`A part exited with ${code}: ${text}`)));
    });
  const tokenFile = join(dir, "token");
  const startScheduler = (listen: string) =>
    launch(cliArgs(
      "scheduler",
      "--data",
      join(dir, "scheduler"),
      "--listen",
      listen,
      "--token-file",
      tokenFile,
    ));
  const scheduler = startScheduler("127.0.0.1:0");
  const schedulerAddress = await ready(scheduler);
  const hostPort = schedulerAddress.slice("tcp://".length);
  const gateway = launch(cliArgs(
    "gateway",
    "--data",
    join(dir, options.sharesData === true ? "scheduler" : "gateway"),
    "--listen",
    "127.0.0.1:0",
    "--scheduler",
    hostPort,
    "--token-file",
    tokenFile,
  ));
  const gatewayUrl = await ready(gateway);
  return {
    dir,
    token: readFileSync(tokenFile, "utf8").trim(),
    schedulerAddress,
    gatewayUrl,
    scheduler: part(scheduler),
    gateway: part(gateway),
    async restartScheduler() {
      const child = startScheduler(hostPort);
      await ready(child);
      return part(child);
    },
    start: (path, args) => part(launch([...runtimeArgs(file(path)), ...args])),
    async stop() {
      await Promise.all(children.map((child) => part(child).kill()));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Figures of a process from /proc, in bytes and seconds. */
export function usageOf(
  pid: number,
): {
  readonly anonBytes: number;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
  readonly writtenBytes: number;
} {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  const kilobytes = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? NaN) * 1_024;
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)!.split(" ");
  const io = readFileSync(`/proc/${pid}/io`, "latin1");
  return {
    anonBytes: kilobytes("RssAnon"),
    residentBytes: kilobytes("VmRSS"),
    cpuSeconds: (Number(stat[11]) + Number(stat[12])) / 100,
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? NaN),
  };
}
