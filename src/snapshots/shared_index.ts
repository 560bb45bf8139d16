import { join } from "node:path";
import { open, type RootDatabase } from "lmdb";
import { syncFolder } from "./store_format.ts";

/**
 * The LMDB environment of a store, in its folder "index", which any number of processes of this machine may open. A
 * commit is visible only once it is synced: what one process sees survives a power cut, so it may be acted on at once.
 *
 * @param mapBytes it may grow to this; address space, not memory or disk.
 */
export function openSharedIndex(
  { dir, mapBytes, databasesMax }: {
    readonly dir: string;
    readonly mapBytes: number;
    readonly databasesMax: number;
  },
): RootDatabase {
  const path = join(dir, "index");
  const root = open({
    path,
    mapSize: mapBytes,
    overlappingSync: false,
    // It would drop a promise, which ends the process when the disk is full.
    eventTurnBatching: false,
    maxDbs: databasesMax,
    maxReaders: 512,
  });
  for (const folder of [dir, path]) syncFolder(folder);
  return root;
}
