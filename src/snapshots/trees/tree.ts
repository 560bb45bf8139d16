import type { Digest } from "../../domain/digest.ts";

export type { Node } from "../../domain/node.ts";

/** What was sent and left out, for the one line that says so. */
export interface CaptureReport {
  readonly snapshot: Digest;
  readonly files: number;
  readonly bytes: number;
  /** What was not in the store before. */
  readonly sentFiles: number;
  readonly sentBytes: number;
  /** Names left out, without what is in them: "node_modules", ".git", ".env". The most notable 20. */
  readonly leftOut: readonly string[];
  readonly leftOutCount: number;
  /** Of those, the private keys: at most 20. */
  readonly privateKeys: readonly string[];
  /** Pairs of paths that are one where case or normalization does not count: at most 20. */
  readonly collisions: readonly (readonly [string, string])[];
  /** Files that changed while they were read; what was captured is one consistent reading of each. */
  readonly changedWhileRead: readonly string[];
  readonly tookMs: number;
}
