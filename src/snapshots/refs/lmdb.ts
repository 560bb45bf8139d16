import { Fault } from "../../domain/fault.ts";
import { hasRoom, lmdbFault } from "../lmdb_fault.ts";
import { openSharedIndex } from "../shared_index.ts";
import { claimFormat } from "../store_format.ts";
import type { Refs } from "./refs.ts";
import { nameBytes, refConflict, valueBytes } from "./name.ts";

const formatVersion = 1;
/** The environment may grow to this; address space, not memory or disk. */
const mapBytes = 2 ** 34;
/** What a move may take on the disk. */
const pagesBytes = 256 * 1024;
/** Names read in one go while listing; between two goes others have their turn, and see later moves. */
const pageNames = 500;

/** Refs in an LMDB environment that any number of processes of this machine may open. @param options.dir made if need be. */
export function lmdbRefs({ dir }: { readonly dir: string }): Refs {
  claimFormat(dir, "refs", formatVersion);
  const root = openSharedIndex({ dir, mapBytes, databasesMax: 2 });
  const values = root.openDB<Uint8Array, Uint8Array>("refs", { encoding: "binary", keyEncoding: "binary" });
  let isClosed = false;
  const assertOpen = (): void => {
    if (isClosed) throw new Fault("DRAINING", `Cannot use the refs in ${dir} as they must be open: they were closed`);
  };
  const read = (key: Uint8Array): string | undefined => values.getBinary(key)?.toString("utf8");

  return {
    async get(name) {
      assertOpen();
      const key = nameBytes(name);
      root.resetReadTxn(); // within a turn LMDB shows one moment; another process may have moved it since
      return await Promise.resolve(read(key));
    },
    async compareAndSet(name, expected, next) {
      assertOpen();
      const key = nameBytes(name);
      const value = next === undefined ? undefined : valueBytes(next);
      let conflict: Fault | undefined;
      try {
        await values.transaction(() => { // holds the lock that all processes share
          const present = read(key);
          if (present !== expected) conflict = refConflict(name, expected, present);
          else if (value === undefined) values.removeSync(key);
          else values.putSync(key, value);
        });
      } catch (error) {
        throw await lmdbFault(error, `Cannot move ref ${name}`, () => !hasRoom(dir, pagesBytes));
      }
      if (conflict !== undefined) throw conflict;
    },
    async *list(prefix, options = {}) {
      const from = Buffer.from(prefix);
      let start = from;
      if (options.after !== undefined && Buffer.compare(Buffer.from(options.after), from) >= 0) {
        start = Buffer.concat([Buffer.from(options.after), Buffer.of(0)]); // the next name that can be
      }
      let left = options.limit ?? Number.POSITIVE_INFINITY;
      while (left > 0) {
        assertOpen();
        root.resetReadTxn();
        const page: (readonly [string, string])[] = [];
        let last: Uint8Array | undefined;
        for (const { key, value } of values.getRange({ start, limit: Math.min(left, pageNames) })) {
          const bytes = Buffer.from(key);
          if (!bytes.subarray(0, from.length).equals(from)) break;
          page.push([bytes.toString("utf8"), Buffer.from(value).toString("utf8")]);
          last = bytes;
        }
        for (const entry of page) yield await Promise.resolve(entry);
        if (last === undefined || page.length < pageNames) return;
        left -= page.length;
        start = Buffer.concat([last, Buffer.of(0)]);
      }
    },
    async close() {
      if (isClosed) return;
      isClosed = true;
      await root.close();
    },
  };
}
