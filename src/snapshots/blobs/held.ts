import type { Blobs } from "./blobs.ts";

/** A blob as a collector sees it. */
export interface HeldBlob {
  /** The 32 bytes of its hash. */
  readonly key: Buffer;
  /** What it takes on the disk, about: files and long rows in whole pages of 4 KiB. */
  readonly bytes: number;
  /** Epoch ms, a whole second: when it was put or, at most {@link HeldBlobs.noteEveryMs} too early, last asked for. */
  readonly usedAtMs: number;
}

export interface Taken {
  readonly count: number;
  readonly bytes: number;
}

/** What a store keeps and how it is taken away: for the collector alone. */
export interface HeldBlobs {
  /** What was put, asked for or said to be present stays at least so long. */
  readonly guaranteedAgeMs: number;
  /** A use is noted at most this often a blob, so that asking stays a read. */
  readonly noteEveryMs: number;
  /** At most `limit` blobs in the order of their keys, from `after` (exclusive). About 2 µs each. */
  page(after: Uint8Array | undefined, limit: number): HeldBlob[];
  /**
   * Takes those blobs away that were not used since `beforeMs`; looked at again while nobody else writes.
   * When it resolves they are gone, durably.
   */
  remove(keys: readonly Uint8Array[], beforeMs: number): Promise<Taken>;
  /** Removes files that no blob has: what a process left that died between a file and its row. Old ones only. */
  removeOrphans(signal?: AbortSignal): Promise<Taken>;
  /** How much there is, exactly, as of now; about 20 µs. */
  size(): {
    readonly count: number;
    readonly bytes: number;
    /** What the disk has left for more blobs; pages of the index that hold nothing count. */
    readonly freeBytes: number;
    /** How large the disk is. */
    readonly diskBytes: number;
  };
  /** Runs `act` while no other process does so. @throws {Fault} `STORE_LOCKED` when one does. */
  alone<Answer>(act: () => Promise<Answer>): Promise<Answer>;
}

/** A store that can be kept within a budget. */
export interface CollectableBlobs extends Blobs {
  readonly held: HeldBlobs;
}
