import type { Digest } from "../../domain/digest.ts";

export interface ReadOptions {
  /** First byte wanted, from 0 to the blob's size; 0 by default. */
  readonly offset?: number;
  /** At most so many bytes; to the end by default. */
  readonly length?: number;
  readonly signal?: AbortSignal;
}

/** Immutable bytes, named by what they are. Safe for use by several processes of one machine at once. */
export interface Blobs {
  /**
   * Yields the blob's raw bytes in order, in chunks of at most 1 MiB.
   * The empty blob is always there. A read never ends short: loss or damage met half-way is thrown.
   *
   * @throws {Fault} `BLOB_MISSING` only if known to be absent, before any byte; other trouble keeps its code.
   */
  get(digest: Digest, options?: ReadOptions): AsyncIterable<Uint8Array>;
  /**
   * Stores all of it or none, durably before it resolves; storing again is cheap.
   *
   * @param bytes the raw bytes, whole or in chunks of any size, in order.
   * @throws {Fault} `BLOB_CORRUPT` if bytes and digest differ, `NO_SPACE` when the disk is full; nothing is kept then.
   */
  put(digest: Digest, bytes: Uint8Array | AsyncIterable<Uint8Array>, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** Exactly the absent ones; keeps the present ones from being collected soon. */
  missing(digests: ReadonlySet<Digest>): Promise<ReadonlySet<Digest>>;
  close(): Promise<void>;
}
