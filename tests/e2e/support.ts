import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { onTestFinished } from "vitest";
import { processesWith, startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { type Client, connectClient } from "../../src/api/client.ts";
import type { JobId } from "../../src/domain/ids.ts";
import type { JobSpecInput, JobView, TaskView } from "../../src/protocol/client_messages.ts";
import type { Ready } from "../../src/roles/ready_file.ts";

/** A folder of the running test's own; it goes with it, and so does every process that has its name on its command line. */
export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "scoot-e2e-"));
  onTestFinished(async () => {
    await killAllOf(dir);
    rmSync(dir, { recursive: true, force: true });
  });
  return dir;
}

/** SIGKILL to whoever has that text on its command line, and waits until none is left. */
export async function killAllOf(text: string): Promise<void> {
  await until(`all processes of ${text} to be gone`, () => {
    const pids = processesWith(text);
    for (const pid of pids) killIfThere(pid, "SIGKILL");
    return pids.length === 0;
  });
}

export function killIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It is gone already.
  }
}

/** A cluster in a folder of the running test's own. */
export async function clusterOfTest(
  flags: readonly string[] = [],
  dir: string = temporaryFolder(),
): Promise<TestCluster> {
  rmSync(join(dir, "ready.json"), { force: true }); // one that was killed left it
  return await startCluster(flags, { dir });
}

/** The exit code of a child, now or when it comes. */
export const exitOf = (child: ChildProcess): Promise<number | null> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve(child.exitCode)
    : new Promise((resolve) => child.once("close", (code) => resolve(code)));

/** Waits until nothing runs that belongs to the cluster in that folder. */
export const allGone = (dir: string): Promise<true> =>
  until(`all processes of ${dir} to be gone`, () => processesWith(join(dir, "data")).length === 0) as Promise<true>;

export interface LaunchedCluster {
  readonly dir: string;
  readonly launcher: ChildProcess;
  readonly ready: Ready;
  readonly token: string;
  log(): string;
}

/** A cluster that another program starts: `words` gives its command line, from the flags of the cluster. */
export async function clusterUnder(
  words: (flags: readonly string[]) => readonly [string, ...string[]],
): Promise<LaunchedCluster> {
  const dir = temporaryFolder();
  const readyFile = join(dir, "ready.json");
  const log = join(dir, "log");
  const [program, ...args] = words(["--data", join(dir, "data"), "--port", "0", "--ready-file", readyFile]);
  const out = openSync(log, "a");
  // Not through a pipe: who writes to one whose reader was killed has other troubles.
  const launcher = spawn(program, args, { stdio: ["ignore", out, out], env: { ...process.env, XDG_RUNTIME_DIR: dir } });
  const ready = await until("the cluster to be ready", () => {
    if (launcher.exitCode !== null) {
      throw new Error(`It exited with ${launcher.exitCode}: ${readFileSync(log, "utf8")}`);
    }
    return existsSync(readyFile) && JSON.parse(readFileSync(readyFile, "utf8")) as Ready;
  }, 60_000);
  const token = readFileSync(join(dir, "data", "token"), "utf8").trim();
  return { dir, launcher, ready, token, log: () => readFileSync(log, "utf8") };
}

/** A client of the cluster, for as long as the test runs. */
export function clientOf({ ready, token }: { readonly ready: Ready; readonly token: string }): Client {
  const client = connectClient({ url: ready.http, token });
  onTestFinished(() => client.close());
  return client;
}

let jobs = 0;

/** A job of shell scripts, one task each. */
export const shellJob = (...scripts: readonly string[]): JobSpecInput => ({
  key: `e2e-${process.pid}-${++jobs}`,
  tasks: scripts.map((script, index) => ({ name: `t${index}`, argv: ["sh", "-c", script], cache: "off" as const })),
});

/** A job and its tasks, once it has ended. */
export async function ended(
  client: Client,
  jobId: JobId,
): Promise<{ readonly job: JobView; readonly tasks: readonly TaskView[] }> {
  for await (const _ of client.watch(jobId)) { /* until the last change */ }
  return await client.job(jobId);
}

/** Whether a file is there; for {@link until}. */
export const there = (path: string) => (): boolean => existsSync(path);
