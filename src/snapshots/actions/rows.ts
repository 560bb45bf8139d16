/** What the action cache needs of a store: sorted rows, in tables, changed in transactions. */

export type Table = "entries" | "counts" | "users" | "differences";
export const tables: readonly Table[] = ["entries", "counts", "users", "differences"];

export type Row = readonly [key: Buffer, value: Uint8Array];

export interface Reading {
  /** The row; the bytes are the caller's own. */
  get(table: Table, key: Uint8Array): Uint8Array | undefined;
  /** Rows from `from` (inclusive) to `to` (exclusive) in the order of the keys' bytes, at most `limit`. */
  range(table: Table, from: Uint8Array, to: Uint8Array, limit: number): Row[];
}

export interface Writing extends Reading {
  put(table: Table, key: Uint8Array, value: Uint8Array): void;
  remove(table: Table, key: Uint8Array): void;
}

export interface ActionRows extends Reading {
  /** Runs `act` while nobody else writes, in any process; what it wrote is durable when this resolves, or not there. */
  transact<Answer>(act: (rows: Writing) => Answer): Promise<Answer>;
  size(): { readonly entries: number; readonly bytes: number };
  close(): Promise<void>;
}

/** The first key that is behind all that start with `prefix`, which is shorter than any key of 0xff alone. */
export function after(prefix: Uint8Array): Buffer {
  return Buffer.concat([prefix, Buffer.alloc(64, 0xff)]);
}
