import type { Client } from "../../api/client.ts";
import type { Digest } from "../../domain/digest.ts";
import type { Clock } from "../../runtime/clock.ts";

/** Runs that are over by then need nothing of this. */
const firstMs = 10_000;

/** What stays in the cluster's store as long as somebody works with it. */
export interface HeldTrees {
  add(snapshot: Digest): void;
  stop(): void;
}

/**
 * Asks after trees again and again, so that none is collected: what a task that has not been sent yet will be made of is
 * known to nobody but the one who will send it, and what it waits for may take longer than a store keeps what is not used.
 */
export function holdTrees(
  { client, clock, signal }: {
    readonly client: Pick<Client, "holds" | "store">;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): HeldTrees {
  const held = new Set<Digest>();
  let guaranteedAgeMs: number | undefined;
  let isStopped = false;
  const ask = async (): Promise<void> => {
    try {
      ({ guaranteedAgeMs } = guaranteedAgeMs === undefined ? await client.store.usage() : { guaranteedAgeMs });
      for (const snapshot of held) {
        if (isStopped || signal.aborted) return;
        await client.holds(snapshot, { signal });
      }
    } catch {
      // Whoever needs a tree is told what is missing of it.
    }
    if (isStopped || signal.aborted) return;
    cancel = clock.at(clock.now() + Math.max(firstMs, (guaranteedAgeMs ?? 0) / 4), () => void ask());
  };
  let cancel = clock.at(clock.now() + firstMs, () => void ask());
  return {
    add: (snapshot) => void held.add(snapshot),
    stop() {
      isStopped = true;
      cancel();
    },
  };
}
