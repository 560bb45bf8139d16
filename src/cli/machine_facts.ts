import { existsSync, readFileSync, statfsSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";
import { productVersion } from "../protocol/version.ts";
import { readClusterConfig } from "../roles/config.ts";
import { defaultPort, type Facts } from "./diagnosis.ts";
import { findCluster } from "./find_cluster.ts";
import type { World } from "./world.ts";

const answerMs = 2_000;
/** Of tmpfs and ramfs, as statfs tells. */
const memoryTypes: ReadonlySet<number> = new Set([0x0102_1994, 0x8584_58f6]);

/** Looks at this machine; nothing is changed. */
export async function machineFacts(
  world: World,
  named: { readonly cluster: string | undefined; readonly tokenFile: string | undefined },
): Promise<Facts> {
  const { dataDir } = readClusterConfig({ flags: {}, env: world.env, userDir: world.userDir });
  const { deno } = process.versions;
  return {
    runtime: deno === undefined ? { name: "Node", version: process.versions.node } : { name: "Deno", version: deno },
    version: productVersion,
    isRoot: process.getuid?.() === 0,
    dataDir,
    disk: diskOf(dataDir),
    ...processLimits(),
    watchesMax: numberIn("/proc/sys/fs/inotify/max_user_watches"),
    userNamespacesMax: numberIn("/proc/sys/user/max_user_namespaces"),
    hasCgroups: existsSync("/sys/fs/cgroup/cgroup.controllers"),
    hasShell: existsSync("/bin/sh"),
    isPortTaken: await listens(defaultPort),
    nowMs: world.clock.now(),
    cluster: await clusterOf(world, named),
  };
}

function diskOf(dataDir: string): Facts["disk"] {
  let dir = dataDir; // it may not be made yet
  while (!existsSync(dir) && dirname(dir) !== dir) dir = dirname(dir);
  try {
    const { bavail, blocks, bsize, type } = statfsSync(dir);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, isMemory: memoryTypes.has(type) };
  } catch {
    return undefined;
  }
}

function processLimits(): Pick<Facts, "openFilesMax" | "processesMax"> {
  const text = textIn("/proc/self/limits") ?? "";
  const limit = (name: string): number | undefined => {
    const found = new RegExp(`^${name} +(\\S+)`, "m").exec(text)?.[1];
    return found === undefined ? undefined : found === "unlimited" ? Infinity : Number(found);
  };
  return { openFilesMax: limit("Max open files"), processesMax: limit("Max processes") };
}

function textIn(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function numberIn(path: string): number | undefined {
  const text = textIn(path);
  return text === undefined ? undefined : Number(text.trim());
}

const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    const end = (is: boolean): void => {
      socket.destroy();
      resolve(is);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
    socket.setTimeout(answerMs, () => end(false));
  });

async function clusterOf(world: World, named: Parameters<typeof findCluster>[0]): Promise<Facts["cluster"]> {
  let url: string;
  try {
    const target = findCluster(named, world);
    ({ url } = target);
    const askedAtMs = world.clock.now();
    const date = await dateAt(url);
    const client = await world.connect(target);
    try {
      const [{ version }, workers] = await Promise.all([client.cluster(), client.workers()]);
      // The header has whole seconds.
      const clockAheadMs = date === undefined ? undefined : date + 500 - (askedAtMs + world.clock.now()) / 2;
      return { url, version, isolations: workers.map(({ isolation }) => isolation), clockAheadMs };
    } finally {
      await client.close();
    }
  } catch (thrown) {
    const { message } = thrown as Error;
    return message.startsWith("Cannot find a cluster") ? undefined : { fault: message };
  }
}

/** What the clock there says: epoch ms. */
const dateAt = (url: string): Promise<number | undefined> =>
  new Promise((resolve) => {
    const asked = request(`${url}/healthz`, { timeout: answerMs }, (answer) => {
      answer.resume();
      const atMs = Date.parse(answer.headers.date ?? "");
      resolve(Number.isFinite(atMs) ? atMs : undefined);
    });
    asked.once("timeout", () => asked.destroy());
    asked.once("error", () => resolve(undefined));
    asked.end();
  });
