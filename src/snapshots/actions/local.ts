import type { Database } from "lmdb";
import { Fault } from "../../domain/fault.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { hasRoom, lmdbFault } from "../lmdb_fault.ts";
import { openSharedIndex } from "../shared_index.ts";
import { claimFormat } from "../store_format.ts";
import type { ActionCache } from "./actions.ts";
import { cacheOver } from "./cache.ts";
import { type ActionRows, type Table, tables, type Writing } from "./rows.ts";

const formatVersion = 1;
/** The environment may grow to this; address space, not memory or disk. */
const mapBytes = 2 ** 36;
/** What a change may take on the disk. */
const pagesBytes = 256 * 1024;

/**
 * An action cache in an LMDB environment that any number of processes of this machine may open.
 *
 * @param options.dir made if need be.
 * @param options.blobs what its results refer to; stays the caller's to close.
 */
export const localActions = (
  options: { readonly dir: string; readonly blobs: Blobs; readonly clock: Clock },
): ActionCache => cacheOver(lmdbRows(options.dir), options);

function lmdbRows(dir: string): ActionRows {
  claimFormat(dir, "actions", formatVersion);
  const root = openSharedIndex({ dir, mapBytes, databasesMax: tables.length + 1 });
  const opened = Object.fromEntries(
    tables.map((table) => [
      table,
      root.openDB<Uint8Array, Uint8Array>(table, { encoding: "binary", keyEncoding: "binary" }),
    ]),
  ) as Record<Table, Database<Uint8Array, Uint8Array>>;
  let isClosed = false;
  let isWriting = false;
  /** Within a turn LMDB shows one moment; another process may have changed it since. */
  const refresh = (): void => {
    if (isClosed) {
      throw new Fault("DRAINING", `Cannot use the actions in ${dir} as they must be open: they were closed`);
    }
    if (!isWriting) root.resetReadTxn();
  };
  const reading = {
    get(table: Table, key: Uint8Array): Uint8Array | undefined {
      refresh();
      return opened[table].getBinary(key);
    },
    range(table: Table, from: Uint8Array, to: Uint8Array, limit: number) {
      refresh();
      return [...opened[table].getRange({ start: from, end: to, limit })]
        .map(({ key, value }) => [Buffer.from(key), new Uint8Array(value)] as const);
    },
  };
  const writing: Writing = {
    ...reading,
    put: (table, key, value) => opened[table].putSync(key, value),
    remove: (table, key) => void opened[table].removeSync(key),
  };
  return {
    ...reading,
    async transact(act) {
      refresh();
      if (!hasRoom(dir, pagesBytes)) {
        throw new Fault(
          "NO_SPACE",
          `Cannot keep a result as ${pagesBytes} bytes must be free on the disk: they are not`,
        );
      }
      try {
        return await root.transaction(() => { // holds the lock that all processes share
          isWriting = true;
          try {
            return act(writing);
          } finally {
            isWriting = false;
          }
        });
      } catch (error) {
        throw await lmdbFault(error, "Cannot keep a result", () => !hasRoom(dir, pagesBytes));
      }
    },
    size() {
      refresh();
      let entries = 0;
      let bytes = 0;
      for (const table of tables) {
        const stats = opened[table].getStats() as Record<string, number>;
        if (table === "entries") entries = stats["entryCount"] ?? 0;
        const pages = (stats["treeBranchPageCount"] ?? 0) + (stats["treeLeafPageCount"] ?? 0) +
          (stats["overflowPages"] ?? 0);
        bytes += pages * (stats["pageSize"] ?? 4096);
      }
      return { entries, bytes };
    },
    async close() {
      if (isClosed) return;
      isClosed = true;
      await root.close();
    },
  };
}
