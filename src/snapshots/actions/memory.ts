import type { Clock } from "../../runtime/clock.ts";
import type { Blobs } from "../blobs/blobs.ts";
import type { ActionCache } from "./actions.ts";
import { cacheOver } from "./cache.ts";
import { type ActionRows, type Row, type Table, tables, type Writing } from "./rows.ts";

/** An action cache in this process's memory. @param options.blobs what its results refer to; stays the caller's to close. */
export const memoryActions = (options: { readonly blobs: Blobs; readonly clock: Clock }): ActionCache =>
  cacheOver(memoryRows(), options);

function memoryRows(): ActionRows {
  const held = new Map<Table, Map<string, Uint8Array>>(tables.map((table) => [table, new Map()]));
  const nameOf = (key: Uint8Array): string => Buffer.from(key).toString("latin1");
  const reading = {
    get: (table: Table, key: Uint8Array) => held.get(table)!.get(nameOf(key))?.slice(),
    range(table: Table, from: Uint8Array, to: Uint8Array, limit: number): Row[] {
      const [first, last] = [nameOf(from), nameOf(to)];
      return [...held.get(table)!].filter(([name]) => name >= first && name < last)
        .sort(([a], [b]) => a < b ? -1 : 1)
        .slice(0, limit)
        .map(([name, value]) => [Buffer.from(name, "latin1"), value.slice()]);
    },
  };
  const writing: Writing = {
    ...reading,
    put: (table, key, value) => void held.get(table)!.set(nameOf(key), value.slice()),
    remove: (table, key) => void held.get(table)!.delete(nameOf(key)),
  };
  return {
    ...reading,
    transact: async (act) => await Promise.resolve(act(writing)),
    size: () => ({
      entries: held.get("entries")!.size,
      bytes: [...held.values()].flatMap((rows) => [...rows]).reduce((sum, [k, v]) => sum + k.length + v.length, 0),
    }),
    close: () => Promise.resolve(),
  };
}
