import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Gateway } from "../api/gateway.ts";
import type { Digest } from "../domain/digest.ts";
import type { Log } from "../observability/log.ts";
import { type Clock, realClock } from "../runtime/clock.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { CollectableBlobs } from "../snapshots/blobs/held.ts";
import { type Collector, createCollector } from "../snapshots/collect.ts";
import type { Root } from "../snapshots/lease.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { keptFolders } from "../snapshots/trees/kept_folders.ts";

/** Bytes of the files in a folder, as of at most five seconds ago, or of when it could last be read; 0 while it is not there. */
export function folderBytes(dir: string, clock: Clock = realClock): () => number {
  let bytes = 0;
  let lookedAtMs = -Infinity;
  return () => {
    if (clock.now() - lookedAtMs < 5_000) return bytes;
    lookedAtMs = clock.now();
    try {
      bytes = existsSync(dir) ? bytesIn(dir) : 0; // whoever writes it may not have started yet
    } catch { /* a folder in it went while it was listed: the next look tells */ }
    return bytes;
  };
}

function bytesIn(dir: string): number {
  let bytes = 0;
  for (const name of readdirSync(dir, { recursive: true, encoding: "utf8" })) {
    bytes += statSync(join(dir, name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return bytes;
}

export interface BudgetOptions {
  readonly blobs: CollectableBlobs;
  readonly actions: ActionCache;
  readonly names: Refs;
  /** What tasks leave to those after them, where workers have the same store. */
  readonly caches?: Refs;
  readonly gateway: Pick<Gateway, "leases">;
  /** Bytes of the states of this machine, which are bounded by themselves. */
  readonly statesBytes: () => number;
  readonly log: Log;
  readonly maxBytes?: number;
}

/**
 * Keeps the store that a worker has for itself within its budget: whatever goes can be had again from the gateway, so
 * nothing but its age keeps a blob.
 */
export function startNearBudget(
  { blobs, log, maxBytes }: Pick<BudgetOptions, "blobs" | "log" | "maxBytes">,
): Collector {
  const collector = createCollector({
    blobs,
    roots: async function* () {},
    statesBytes: () => 0,
    clock: realClock,
    log,
    ...(maxBytes === undefined ? {} : { maxBytes }),
  });
  collector.start();
  return collector;
}

/** So much of the store is held for what tasks leave to those after them: the rest is for what is new. */
const keptShareMax = 0.5;

/**
 * Keeps a gateway's store within its budget: what is named, and what tasks are made of that have not settled, stays. So
 * does what tasks left most lately to those after them, up to its share; the rest of that goes as all else does, and is
 * made anew.
 */
export function startBudget(options: BudgetOptions): Collector {
  const { blobs, actions, names, caches, gateway, statesBytes, log, maxBytes } = options;
  const kept = caches === undefined ? undefined : keptFolders({ refs: caches, blobs, clock: realClock, log });
  async function* roots(): AsyncGenerator<Root> {
    for await (const [, value] of names.list("")) yield { digest: value as Digest, kind: "tree", why: "named" };
    for await (const { state, command, inputs, action } of gateway.leases()) {
      yield { digest: command, kind: "blob", why: state };
      if (action !== undefined) yield { digest: action, kind: "blob", why: state };
      for (const digest of inputs) yield { digest, kind: "tree", why: state };
    }
    if (kept === undefined) return;
    for await (const digest of kept.snapshots(collector.df().limitBytes * keptShareMax)) {
      yield { digest, kind: "tree", why: "kept for the next run" };
    }
  }
  const collector = createCollector({
    blobs,
    actions,
    roots,
    statesBytes,
    clock: realClock,
    log,
    ...(maxBytes === undefined ? {} : { maxBytes }),
  });
  collector.start();
  return collector;
}
