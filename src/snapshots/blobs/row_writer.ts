import type { Database, RootDatabase } from "lmdb";
import { Fault } from "../../domain/fault.ts";
import { lmdbFault } from "../lmdb_fault.ts";

type Rows = Database<Uint8Array, Uint8Array>;

/** What is written under a key of a table. */
export interface Row {
  readonly rows: Rows;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Writes rows of one LMDB environment in groups, as a commit costs a sync of the disk however many are in it. */
export interface RowWriter {
  /**
   * Resolves when the rows are on the disk: all of them or, when it rejects, none.
   *
   * @param cost bytes that `make` has to work on; it is called once, later.
   * @throws {Fault} `NO_SPACE` when the disk is full: no row of the group is kept then.
   */
  write(cost: number, make: () => readonly Row[]): Promise<void>;
  /** Resolves when nothing is under way any more. */
  idle(): Promise<void>;
}

interface Waiting {
  readonly cost: number;
  readonly make: () => readonly Row[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}
interface Made {
  readonly rows: readonly Row[];
  readonly waiting: Waiting;
}

/** Work done in one turn of the event loop before others have theirs: 3 to 6 ms of deflating. */
const costPerTurn = 256 * 1024;
/** While one group is synced the next is written; what comes meanwhile makes the groups after it larger. */
const commitsMax = 2;

/** What a row may take beside its bytes: it is rounded up to pages, and moves those above it. */
const pagesBytes = 3 * 4096;

/**
 * @param root opened without event turn batching: that drops a promise, which ends the process when the disk is full.
 * @param hasRoom whether the disk takes so many bytes more. LMDB copes with a full disk, but prints each failure.
 */
export function rowWriter(root: RootDatabase, hasRoom: (bytes: number) => boolean): RowWriter {
  const queue: Waiting[] = [];
  let made: Made[] = [];
  let commits = 0;
  let isTurnComing = false;
  const whenIdle: (() => void)[] = [];

  function soon(): void {
    if (isTurnComing) return;
    isTurnComing = true;
    setImmediate(turn);
  }

  function turn(): void {
    isTurnComing = false;
    let taken = 0;
    for (let cost = 0; taken < queue.length && cost < costPerTurn; taken++) {
      const waiting = queue[taken]!;
      cost += waiting.cost;
      try {
        made.push({ rows: waiting.make(), waiting });
      } catch (error) {
        waiting.reject(error);
      }
    }
    queue.splice(0, taken);
    if (queue.length > 0) soon();
    if (made.length > 0 && commits < commitsMax) void commit();
    if (isIdle()) { for (const resolve of whenIdle.splice(0)) resolve(); }
  }

  async function commit(): Promise<void> {
    const group = made;
    made = [];
    commits++;
    const rows = group.flatMap((each) => each.rows);
    const bytes = rows.reduce((sum, { value }) => sum + value.length + pagesBytes, 0);
    try {
      if (!hasRoom(bytes)) {
        throw new Fault("NO_SPACE", `Cannot store blobs as ${bytes} bytes must be free on the disk: they are not`);
      }
      await root.batch(() => {
        for (const row of rows) void row.rows.put(row.key, row.value);
      });
      for (const { waiting } of group) waiting.resolve();
    } catch (error) {
      const fault = await lmdbFault(error, "Cannot store blobs", () => !hasRoom(bytes));
      for (const { waiting } of group) waiting.reject(fault);
    } finally {
      commits--;
      soon();
    }
  }

  const isIdle = (): boolean => queue.length === 0 && made.length === 0 && commits === 0;

  return {
    write: (cost, make) =>
      new Promise((resolve, reject) => {
        queue.push({ cost, make, resolve, reject });
        soon();
      }),
    idle: () => isIdle() ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve)),
  };
}
