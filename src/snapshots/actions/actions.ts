import type { Digest } from "../../domain/digest.ts";
import type { TaskId, WorkerId } from "../../domain/ids.ts";

/** What an entry is known by. Entries never cross instances. */
export interface ActionKey {
  /** REAPI's instance name; "" for the job API and as the default. At most 256 bytes of UTF-8 without control characters. */
  readonly instance: string;
  /** Of the `Action`. */
  readonly action: Digest;
}

/** Who made a result, and when. */
export interface Made {
  /** `upload`: a client ran the action by itself and said what came of it. */
  readonly by: "job" | "upload";
  readonly taskId?: TaskId;
  readonly attempt?: number;
  readonly workerId?: WorkerId;
  readonly requestor?: string;
  /** When it was recorded: epoch ms. */
  readonly atMs: number;
  /** How long the command took: what a hit saves. */
  readonly durationMs: number;
}

/** A result that the cache holds. */
export interface CachedAction {
  readonly key: ActionKey;
  /** An `ActionResult` in canonical form, for `decodeActionResult`. The bytes are the caller's own. */
  readonly result: Uint8Array;
  readonly made: Made;
}

/** All that is known about an entry. */
export interface ActionEntry extends CachedAction {
  /** Hits served, and when the last was: up to a few seconds old; hits of a process that was killed may be lost. */
  readonly useCount: number;
  readonly usedAtMs: number;
  /** Who was served by it, the newest {@link usersMax}, oldest first. */
  readonly usedBy: readonly TaskId[];
  /** Set when the same action was seen to end otherwise too: how often, and what came of it then the last time. */
  readonly differed?: { readonly count: number; readonly result: Uint8Array; readonly made: Made };
}

/** What became of a put. */
export type PutAnswer =
  /** There was none, or one that was to be replaced, or whose outputs are gone. */
  | { readonly kind: "stored" }
  /** The same outputs and exit code were there already; the first result stays. Streams and times may differ. */
  | { readonly kind: "same"; readonly existing: CachedAction }
  /** One key, two outcomes: the proof that the action is not deterministic. */
  | {
    readonly kind: "differs";
    readonly existing: CachedAction;
    readonly given: Uint8Array;
    readonly kept: "existing" | "given";
  };

export interface PutOptions {
  /** An entry with another outcome is replaced: what was run anew, by wish, wins (REAPI checklist A-7). */
  readonly replace?: boolean;
  /** Nothing is taken on trust: everything that the result refers to must be there now, as for uploads of clients. */
  readonly checked?: boolean;
  readonly signal?: AbortSignal;
}

export interface GetOptions {
  /** Who is served: noted, for when the entry is revoked. */
  readonly usedBy?: TaskId;
  readonly signal?: AbortSignal;
}

/** An entry that was taken back. */
export interface Revoked {
  readonly key: ActionKey;
  readonly made: Made;
  /** The newest {@link usersMax} that were served by it. */
  readonly usedBy: readonly TaskId[];
}

/** Of each entry so many tasks that used it are known; beyond, the oldest is forgotten. */
export const usersMax = 1000;
/** A result of more encoded bytes is refused: it could not be answered in one gRPC message of the usual 4 MiB. */
export const resultBytesMax = 4 * 1024 * 1024 - 64 * 1024;

/**
 * Results of actions, by action: one cache for the job API and for Bazel. Several processes of a machine may open the
 * same one, beside the blobs that it refers to.
 */
export interface ActionCache {
  /**
   * The result, only if everything that it refers to is there now: files, trees and all in them, both streams. What is
   * answered stays there for at least the guaranteed age. An entry that lacks something is dropped, and no hit.
   */
  get(key: ActionKey, options?: GetOptions): Promise<CachedAction | undefined>;
  /** The same for many, in order. */
  getMany(keys: readonly ActionKey[], options?: GetOptions): Promise<(CachedAction | undefined)[]>;
  /** Whether there is an entry at all, complete or not: false is a sure miss, and costs microseconds. */
  knows(key: ActionKey): boolean;
  /**
   * Keeps a result, durably before it resolves. Repeating it changes nothing.
   *
   * @param result an encoded `ActionResult`; kept in canonical form.
   * @throws {Fault} `REQUEST_INVALID` when it is none or too large, `OUTPUT_MISSING` when it was to be checked and
   * refers to what is not there, `NO_SPACE`; nothing is kept then.
   */
  put(key: ActionKey, result: Uint8Array, made: Made, options?: PutOptions): Promise<PutAnswer>;
  /** All that is known about an entry, complete or not; using this is no use. */
  show(key: ActionKey): Promise<ActionEntry | undefined>;
  /**
   * Entries by instance, then by action.
   *
   * @param options.instance of that instance only; of all by default.
   * @param options.prefix of the action's hash: lower-case hex digits.
   * @param options.after where to go on: exclusive.
   */
  list(
    options?: {
      readonly instance?: string;
      readonly prefix?: string;
      readonly after?: ActionKey;
      readonly limit?: number;
    },
  ): AsyncIterable<ActionEntry>;
  /** Removes an entry. @returns whether there was one. */
  remove(key: ActionKey): Promise<boolean>;
  /** Takes back what that worker made since then, entry by entry as it is read, and says who used it. */
  revoke(options: { readonly workerId: WorkerId; readonly sinceMs: number }): AsyncIterable<Revoked>;
  /** Removes entries that were neither made nor used since then. @returns how many. */
  forget(beforeMs: number, signal?: AbortSignal): Promise<number>;
  /** How many entries there are, and about how many bytes they take on the disk. */
  size(): { readonly entries: number; readonly bytes: number };
  close(): Promise<void>;
}
