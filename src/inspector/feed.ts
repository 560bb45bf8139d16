import { Fault } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import type { States } from "../snapshots/states/states.ts";
import { momentOf } from "./moments.ts";
import type { News } from "./routes.ts";

/**
 * Tells those who ask as soon as something of what they watch has changed; what it is now, they ask, and then for the next
 * news. So nothing is sent to somebody who is slow, nothing is kept for anybody, and while nobody waits nothing is done.
 */
export interface Feed {
  /**
   * Resolves when something has changed, or with nothing changed after 25 s or when `signal` is aborted.
   *
   * @param watch addresses, or beginnings of addresses that end in "/"; "" is everything.
   * @param after what came up to this entry is known.
   * @throws {Fault} `LIMIT_EXCEEDED` when too many wait.
   */
  news(watch: readonly string[], after: number, signal: AbortSignal): Promise<News>;
  close(): void;
}

export interface FeedOptions {
  readonly states: () => Promise<States>;
  readonly clock: Clock;
}

const waitingMax = 200;
const waitMs = 25_000;
/** Between two looks while somebody waits. */
const lookMs = 40;
/** Of more entries at once it is not looked whose they are. */
const addressesMax = 4_000;

interface Waiting {
  readonly watch: readonly string[];
  /** Nothing of it had changed up to this entry. */
  seq: number;
  readonly untilMs: number;
  readonly done: (result: { readonly seq: number; readonly changed: readonly string[] }) => void;
  readonly fail: (error: unknown) => void;
}

export function createFeed({ states, clock }: FeedOptions): Feed {
  const waiting = new Set<Waiting>();
  let cancelLook: (() => void) | undefined;
  let isLooking = false;
  let isClosed = false;

  const look = async (): Promise<void> => {
    cancelLook = undefined;
    isLooking = true;
    try {
      if (waiting.size > 0) {
        const those = [...waiting];
        const from = Math.min(...those.map(({ seq }) => seq));
        const { lastSeq, addresses } = await (await states()).news(from);
        for (const one of those) {
          const changed = changedOf(one, from, lastSeq, addresses);
          one.seq = lastSeq;
          if (changed.length > 0 || one.untilMs <= clock.now()) one.done({ seq: lastSeq, changed });
        }
      }
    } catch (error) {
      for (const { fail } of [...waiting]) fail(error);
    } finally {
      isLooking = false;
      lookLater();
    }
  };
  const lookLater = (): void => {
    if (waiting.size === 0 || cancelLook !== undefined || isLooking || isClosed) return;
    cancelLook = clock.at(clock.now() + lookMs, () => void look());
  };

  return {
    async news(watch, after, signal) {
      const found = await states();
      const { lastSeq, addresses } = await found.news(after);
      const already = changedOf({ watch, seq: after }, after, lastSeq, addresses);
      if (already.length > 0 || signal.aborted || isClosed) {
        return { last: await momentOf(found, lastSeq), changed: already };
      }
      if (waiting.size >= waitingMax) {
        throw new Fault("LIMIT_EXCEEDED", `Cannot wait for news as at most ${waitingMax} may at once: so many do`);
      }
      const { seq, changed } = await new Promise<Parameters<Waiting["done"]>[0]>((resolve, reject) => {
        const leave = (): void => {
          waiting.delete(one);
          signal.removeEventListener("abort", abort);
          if (waiting.size > 0) return;
          cancelLook?.();
          cancelLook = undefined;
        };
        const one: Waiting = {
          watch,
          seq: lastSeq,
          untilMs: clock.now() + waitMs,
          done: (result) => (leave(), resolve(result)),
          fail: (error) => (leave(), reject(error)),
        };
        const abort = (): void => one.done({ seq: one.seq, changed: [] });
        signal.addEventListener("abort", abort, { once: true });
        waiting.add(one);
        lookLater();
      });
      return { last: await momentOf(found, seq), changed };
    },
    close() {
      isClosed = true;
      for (const { seq, done } of [...waiting]) done({ seq, changed: [] });
    },
  };
}

/** @param addresses of the entries after `from`; undefined: not known. */
function changedOf(
  { watch, seq }: Pick<Waiting, "watch" | "seq">,
  from: number,
  lastSeq: number,
  addresses: readonly string[] | undefined,
): readonly string[] {
  if (seq === lastSeq) return [];
  if (addresses === undefined || addresses.length > addressesMax || seq > lastSeq) return watch;
  const changed = new Set<string>();
  for (const address of addresses.slice(seq - from)) {
    if (changed.size === watch.length) break;
    for (const one of watch) {
      if (one === "" || one === address || (one.endsWith("/") && address.startsWith(one))) changed.add(one);
    }
  }
  return watch.filter((one) => changed.has(one));
}
