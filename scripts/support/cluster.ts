import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Ready } from "../../src/roles/ready_file.ts";

/** Real clusters for scripts, tests and benches: started as a user does, on a free port, in a folder of their own. */

const isDeno = "deno" in process.versions;
/** Benches on Node run what a user of Node runs: the program as `npm pack` has it, which deno task bench builds first. */
const isBuilt = !isDeno && process.env["BENCH_BUILT"] === "1";
const cli = fileURLToPath(new URL(isBuilt ? "../../dist/cli/main.js" : "../../src/cli/main.ts", import.meta.url));

/** How this runtime runs a TypeScript file. */
export const runtimeArgs = (file: string): string[] => isDeno ? ["run", "-A", file] : [file];
export const cliArgs = (...args: string[]): string[] => [...runtimeArgs(cli), ...args];

export interface TestCluster {
  readonly dir: string;
  readonly ready: Ready;
  readonly token: string;
  readonly process: ChildProcess;
  /** What it wrote to stdout and stderr. */
  log(): string;
  /** The environment in which the CLI finds it. */
  readonly env: NodeJS.ProcessEnv;
  /** The ids of its processes of that role. */
  pids(role: "scheduler" | "gateway" | "worker"): number[];
  /** SIGTERM, and waits for its end; then nothing of it is left. @returns the exit code. */
  stop(): Promise<number | null>;
}

/** Resolves when `found` gives something; rejects after `ms`. Polls, as there is no event for what others do. */
export async function until<T>(
  what: string,
  found: () => T | undefined | false | Promise<T | undefined | false>,
  ms = 30_000,
): Promise<T> {
  const endMs = performance.now() + ms;
  for (;;) {
    const value = await found();
    if (value !== undefined && value !== false) return value;
    if (performance.now() >= endMs) throw new Error(`Waited ${ms} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Ids of the processes whose command line holds all of the words. */
export function processesWith(...words: string[]): number[] {
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, "latin1");
      const state = readFileSync(`/proc/${name}/stat`, "latin1").split(") ").at(-1)?.[0];
      if (state !== "Z" && words.every((word) => command.includes(word))) found.push(Number(name));
    } catch {
      // gone meanwhile
    }
  }
  return found;
}

/** @param entry what to run instead of the CLI's `cluster`; it is given the same flags. */
export async function startCluster(
  flags: readonly string[] = [],
  options: { readonly entry?: string; readonly env?: NodeJS.ProcessEnv; readonly dir?: string } = {},
): Promise<TestCluster> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), "scoot-cluster-"));
  const readyFile = join(dir, "ready.json");
  const env = { ...process.env, XDG_RUNTIME_DIR: dir, ...options.env };
  const args = ["--data", join(dir, "data"), "--port", "0", "--ready-file", readyFile, ...flags];
  const child = spawn(
    process.execPath,
    options.entry === undefined ? cliArgs("cluster", ...args) : [...runtimeArgs(options.entry), ...args],
    {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let text = "";
  child.stdout.on("data", (bytes) => text += bytes);
  child.stderr.on("data", (bytes) => text += bytes);
  // Not "exit": what it said last may still be on its way.
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  const ready = await until("the cluster to be ready", () => {
    if (child.exitCode !== null) throw new Error(`The cluster exited with ${child.exitCode}:\n${text}`);
    return existsSync(readyFile) ? JSON.parse(readFileSync(readyFile, "utf8")) as Ready : undefined;
  }, 60_000).catch(async (thrown) => {
    if (child.exitCode === null && child.signalCode === null) process.kill(child.pid!, "SIGTERM");
    await ended;
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
    throw thrown;
  });
  return {
    dir,
    ready,
    token: readFileSync(join(dir, "data", "token"), "utf8").trim(),
    process: child,
    log: () => text,
    env: { ...env, SCOOT_CLUSTER: ready.http },
    pids: (role) => processesWith(`"role":"${role}"`, join(dir, "data")),
    async stop() {
      // Not child.kill(): Deno takes a child that it was told to kill for killed, however it ends.
      if (child.exitCode === null && child.signalCode === null) process.kill(child.pid!, "SIGTERM");
      const code = await ended;
      const left = await until("its processes to be gone", () => {
        const pids = processesWith(join(dir, "data"));
        return pids.length === 0 ? [] : undefined;
      }, 15_000).catch(() => processesWith(join(dir, "data")));
      if (left.length > 0) throw new Error(`Left running: ${left.join(", ")}`);
      if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
      return code;
    },
  };
}

export interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly onStart?: (child: ChildProcess) => void;
  } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (bytes) => stdout += bytes);
    child.stderr.on("data", (bytes) => stderr += bytes);
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
    options.onStart?.(child);
  });
}

/** The CLI, as its user types it, against that cluster. */
export const scoot = (
  cluster: TestCluster,
  args: readonly string[],
  options: { readonly cwd?: string; readonly onStart?: (child: ChildProcess) => void } = {},
): Promise<Ran> => runProgram(process.execPath, cliArgs(...args), { ...options, env: cluster.env });
