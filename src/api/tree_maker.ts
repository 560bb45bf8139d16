import type { Digest } from "../domain/digest.ts";
import { asFault, Fault, faultData } from "../domain/fault.ts";
import type { Log } from "../observability/log.ts";
import type { Push, SchedulerRequest } from "../protocol/client_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import { mountTrees, overlay } from "../snapshots/trees/compose.ts";
import type { Link } from "./link.ts";
import { needTree } from "./trees.ts";

type Wanted = Extract<Push, { type: "tree.wanted" }> & {
  /** How often the scheduler did not take what was said of it. */
  readonly refusals?: number;
};

/** Trees made at once: each waits for the store now and then. */
const atOnceMax = 4;
const againMs = 1_000;

export interface TreeMakerOptions {
  readonly scheduler: Link<SchedulerRequest>;
  readonly blobs: Blobs;
  /** Of the same store. */
  readonly trees: TreeKeeper;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Makes the trees that the scheduler's tasks want, of trees that are in the store. Where the store has no room, or cannot
 * be reached, it tries again until it can: the task waits, and is not failed for it. What the scheduler does not take, said
 * twice, is not said a third time. @returns what ends it.
 */
export function makeTrees({ scheduler, blobs, trees, clock, log }: TreeMakerOptions): () => void {
  /** Wanted and not answered, by task and what of it. */
  const known = new Set<string>();
  const waiting: Wanted[] = [];
  const stopping = new AbortController();
  let making = 0;
  let cancelAgain = (): void => {};

  const { signal } = stopping;
  const make = async ({ taskId, tree }: Wanted): Promise<Digest> => {
    if (tree.of === "inputs") return await mountTrees(blobs, tree.parts, { signal });
    const made = await overlay(blobs, tree.base, tree.top, { signal });
    // It is a result, and stays as long as any that is handed out; its inputs may have been there for long.
    await needTree(trees, made, `lay the output of ${taskId} over its inputs as both`, signal);
    return made;
  };
  const answer = async (wanted: Wanted): Promise<SchedulerRequest | "again"> => {
    const { taskId, tree: { of } } = wanted;
    try {
      return { type: "tree.made", taskId, of, tree: await make(wanted) };
    } catch (thrown) {
      const fault = asFault(thrown, `Cannot put together the ${of} of ${taskId}`);
      return fault.meaning.retry === "later" ? "again" : { type: "tree.failed", taskId, of, fault: faultData(fault) };
    }
  };
  const later = (wanted: Wanted): void =>
    void clock.at(clock.now() + againMs, () => {
      waiting.push(wanted);
      next();
    });
  /** It does not ask again of its own unless it was away, and its task waits for this. */
  const sayAgain = async (wanted: Wanted, why: Fault): Promise<void> => {
    if (why.meaning.retry === "later") return later(wanted);
    if (wanted.refusals === undefined) return later({ ...wanted, refusals: 1 });
    const { taskId, tree: { of } } = wanted;
    log.error("The scheduler does not take what was made for a task", { taskId, of, error: why });
    try {
      await scheduler.ask({ type: "tree.failed", taskId, of, fault: faultData(why) });
    } catch (error) {
      log.error("Nor that it failed: the task waits until another gateway comes", {
        taskId,
        of,
        error: asFault(error),
      });
    }
    known.delete(keyOf(wanted));
  };
  const next = (): void => {
    while (making < atOnceMax && waiting.length > 0) {
      const wanted = waiting.shift()!;
      making++;
      void answer(wanted).then(async (said) => {
        making--;
        if (stopping.signal.aborted) return;
        next();
        if (said === "again") return later(wanted);
        try {
          await scheduler.ask(said);
          known.delete(keyOf(wanted));
        } catch (thrown) {
          if (!stopping.signal.aborted) await sayAgain(wanted, asFault(thrown));
        }
      });
    }
  };

  const serve = (): void => {
    scheduler.subscribe({
      begin: (watch) => ({ type: "tree.serve", watch }),
      stop: (watch) => ({ type: "job.unwatch", watch }),
      hear(push) {
        if (push.type !== "tree.wanted" || known.has(keyOf(push))) return;
        known.add(keyOf(push));
        waiting.push(push);
        next();
      },
      failed(why) {
        if (stopping.signal.aborted || why.code === "CANCELLED") return;
        cancelAgain = clock.at(clock.now() + againMs, serve);
      },
    });
  };
  serve();
  return () => {
    stopping.abort(new Fault("CANCELLED", "The gateway stops"));
    cancelAgain();
  };
}

const keyOf = ({ taskId, tree }: Wanted): string => `${taskId} ${tree.of}`;
