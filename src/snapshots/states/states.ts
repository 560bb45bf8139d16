import type { Address } from "../../domain/ids.ts";

/** A message as it is saved with the state of the actor that said it. */
export interface Said {
  /** `<seq of the entry>.<place in it>`: ids of one host are in the order in which things were said. */
  readonly id: string;
  readonly to: Address;
  readonly body: unknown;
}

/** One saved step of one actor: the whole of what must be on disk before anyone may know of it. */
export interface Entry {
  /** 1, 2, 3 … without gaps, over all actors of the store. */
  readonly seq: number;
  readonly atMs: number;
  /** Of the process that wrote it; never falls from one entry to the next. */
  readonly epoch: number;
  readonly address: Address;
  readonly machine: string;
  /** Of the machine's state shape. */
  readonly version: number;
  /** What the machine persists, plain data; null: the actor is gone. */
  readonly state: unknown;
  /**
   * The message that led here. One between actors of the store (its id is that of a {@link Said}) has only its type here:
   * its body stands with who said it.
   */
  readonly cause: { readonly id: string; readonly from: Address; readonly event: unknown };
  readonly said: readonly Said[];
  /** Why, as a sentence, where a decision was made. */
  readonly reason?: string;
}

/** Where an actor stands: its newest entry without what it heard and said. */
export interface Standing extends Omit<Entry, "cause" | "said" | "reason"> {
  /** Of the message that led there. */
  readonly causeId: string;
}

/** What a restart needs, beside the current states. */
export interface Tail {
  /** Of the last entry; 0 for an empty store. */
  readonly lastSeq: number;
  readonly lastEpoch: number;
  /**
   * What was said and may not have been heard: every Said of the store to an address of `internal` kind with an id
   * after the highest `cause.id` of that same host. In order.
   */
  readonly unsent: readonly (Said & { readonly from: Address })[];
}

/**
 * Where actors' states are kept, with their history. One process writes a store; others may read it, and see what it
 * writes when they ask without an upper bound (`bounds`, `news`, the newest of `get`, `history` to its end).
 */
export interface States {
  /**
   * Appends the entries, all or none, in order; resolves when they are durable (fdatasync or better).
   * Calls may overlap; they become durable in the order of the calls.
   *
   * @throws {Fault} `NO_SPACE` when the disk is full: nothing of this call or any later one is kept until `commit` succeeds again.
   */
  commit(entries: readonly Entry[]): Promise<void>;
  /**
   * What a host needs to go on. From the first call on a store only remembers who may still have said something to
   * such an address, so the host asks once, before it commits, and always means the same actors.
   *
   * @param isInternal whether an address is an actor of this store's own host.
   */
  tail(isInternal: (to: Address) => boolean): Promise<Tail>;
  /**
   * The newest entry of that actor, or with `seq` its entry in that cut; undefined when there is none or it is gone.
   *
   * @throws {Fault} `REQUEST_INVALID` with the bounds when seq is outside of them.
   */
  get(address: Address, seq?: number): Promise<Entry | undefined>;
  /** The newest entry of every actor that is not gone, in byte order of address, under `prefix` if given. */
  current(prefix?: string): AsyncIterable<Entry>;
  /** Like {@link current} in pages of some hundreds, at half the cost: for whoever must know where everybody stands. */
  standing(prefix?: string): AsyncIterable<readonly Standing[]>;
  /**
   * Entries of one actor, of all whose address starts with a prefix ending in "/", or of all for "", oldest first. It
   * begins with `firstSeq` (see {@link bounds}); what an actor was before is in the cut there.
   */
  history(
    address: string,
    range?: { readonly afterSeq?: number; readonly toSeq?: number; readonly limit?: number },
  ): AsyncIterable<Entry>;
  /**
   * Every actor as it was just after entry `seq`: a consistent cut of the system.
   * Complete for every seq from `firstSeq` (see {@link bounds}) on. In byte order of address.
   *
   * @param after begins behind this address.
   * @throws {Fault} `REQUEST_INVALID` with the bounds when seq is outside of them.
   */
  cut(seq: number, prefix?: string, after?: string): AsyncIterable<Entry>;
  /**
   * The entry that was the newest at that time: of those before the first that is later. `firstSeq - 1` when all that is
   * kept is later. Reads one segment of the log at most.
   */
  seqAt(atMs: number): Promise<number>;
  bounds(): Promise<{ readonly firstSeq: number; readonly lastSeq: number; readonly bytes: number }>;
  /**
   * Whether something was added after an entry, and by whom, without reading it: for whoever follows what happens.
   *
   * @returns `addresses` of the entries after it, in order, one for each; undefined when that cannot be told cheaply.
   */
  news(
    afterSeq: number,
  ): Promise<{ readonly lastSeq: number; readonly addresses: readonly string[] | undefined }>;
  /**
   * Whose the entries after one up to another are, in order, read without what they hold: for whoever asks those how they
   * are instead. It begins with `firstSeq` (see {@link bounds}).
   */
  addresses(afterSeq: number, toSeq: number): Promise<readonly Address[]>;
  /** Forgets history that is older or more than this; current states and cuts from the new firstSeq on stay whole. */
  prune(
    limits: { readonly beforeMs: number; readonly bytesMax: number },
  ): Promise<{ readonly firstSeq: number; readonly bytes: number }>;
  close(): Promise<void>;
}
