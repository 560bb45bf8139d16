import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../domain/fault.ts";
import { lockStore } from "../snapshots/states/lock.ts";

/** All that the roles of a cluster keep in its data folder. The lock goes last, so that a purge can be done again. */
const kept = [
  "states",
  "blobs",
  "actions",
  "names",
  "caches",
  "uploads",
  "workers",
  "running",
  "token",
  "cluster",
] as const;

/**
 * Removes what a cluster keeps in its data folder, and the folder if nothing else is in it.
 *
 * @returns what else is in it, which stays.
 * @throws {Fault} `STORE_LOCKED` while a cluster runs on it; `PATH_INVALID` for a folder that is no cluster's.
 */
export async function purgeData(dataDir: string): Promise<readonly string[]> {
  if (!existsSync(dataDir)) return [];
  if (!existsSync(join(dataDir, "token")) && !existsSync(join(dataDir, "cluster"))) {
    throw new Fault(
      "PATH_INVALID",
      `Cannot purge ${dataDir} as it must be the data folder of a cluster: it has neither a token nor a lock`,
    );
  }
  const lock = await lockStore(join(dataDir, "cluster"));
  try {
    for (const name of kept) rmSync(join(dataDir, name), { recursive: true, force: true });
    const left = readdirSync(dataDir);
    if (left.length === 0) rmdirSync(dataDir);
    return left;
  } catch (thrown) {
    await lock.release().catch(() => {}); // it may be gone
    throw thrown;
  }
}
