import { Fault } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import type { States } from "../snapshots/states/states.ts";
import { momentOf } from "./moments.ts";
import type { News } from "./routes.ts";

/**
 * Tells those who follow that something of what they watch has changed; what it is now, they ask. So nothing waits for
 * anybody: of a follower is known how far it was told, and no more. One who does not take its news is not looked after
 * until it comes back, and is then told of all at once. While nobody waits, nothing is done.
 */
export interface Feed {
  /**
   * News until `signal` is aborted or the feed is closed.
   *
   * @param watch addresses, or beginnings of addresses that end in "/"; "" is everything.
   * @param after what came up to this entry is known.
   * @throws {Fault} `LIMIT_EXCEEDED` when too many follow.
   */
  follow(watch: readonly string[], after: number, signal: AbortSignal): AsyncIterable<News>;
  close(): void;
}

export interface FeedOptions {
  readonly states: () => Promise<States>;
  readonly clock: Clock;
}

const followersMax = 200;
/** Between two looks while somebody waits. */
const lookMs = 40;
/** Between two news for one follower: when much happens, some of it is told at once. */
const newsMs = 250;
/** Of more entries at once it is not looked whose they are. */
const addressesMax = 4_000;

interface Follower {
  readonly watch: readonly string[];
  /** Told up to this entry. */
  seq: number;
  readonly changed: Set<string>;
  notBeforeMs: number;
  /** It waits for news; undefined: it has something else to do. */
  wake: ((error?: unknown) => void) | undefined;
}

export function createFeed({ states, clock }: FeedOptions): Feed {
  const followers = new Set<Follower>();
  let cancelLook: (() => void) | undefined;
  let isLooking = false;
  let isClosed = false;

  const isReady = ({ changed, notBeforeMs }: Follower): boolean => changed.size > 0 && notBeforeMs <= clock.now();
  const waiting = (): Follower[] => [...followers].filter(({ wake }) => wake !== undefined);

  /** What of it has changed between the entry up to which it was told and the newest. */
  const note = (follower: Follower, from: number, lastSeq: number, addresses: readonly string[] | undefined): void => {
    if (follower.seq === lastSeq) return;
    const { watch, changed, seq } = follower;
    follower.seq = lastSeq;
    if (addresses === undefined || addresses.length > addressesMax || seq > lastSeq || seq < from) {
      for (const one of watch) changed.add(one);
      return;
    }
    for (const address of addresses.slice(seq - from)) {
      if (changed.size === watch.length) return;
      for (const one of watch) {
        if (one === "" || one === address || (one.endsWith("/") && address.startsWith(one))) changed.add(one);
      }
    }
  };

  const look = async (): Promise<void> => {
    cancelLook = undefined;
    isLooking = true;
    try {
      const those = waiting();
      if (those.length > 0) {
        const from = Math.min(...those.map(({ seq }) => seq));
        const { lastSeq, addresses } = await (await states()).news(from);
        for (const follower of those) {
          note(follower, from, lastSeq, addresses);
          if (isReady(follower)) follower.wake?.();
        }
      }
    } catch (error) {
      for (const { wake } of waiting()) wake?.(error);
    } finally {
      isLooking = false;
      lookLater();
    }
  };
  const lookLater = (): void => {
    const those = waiting();
    if (those.length === 0 || cancelLook !== undefined || isLooking || isClosed) return;
    const nextMs = Math.min(...those.map(({ notBeforeMs }) => notBeforeMs));
    cancelLook = clock.at(Math.max(clock.now() + lookMs, nextMs), () => void look());
  };
  const stopLooking = (): void => {
    if (waiting().length > 0) return;
    cancelLook?.();
    cancelLook = undefined;
  };

  /** Resolves when there is something to tell, or the follower is to go. */
  const news = (follower: Follower, signal: AbortSignal): Promise<void> =>
    new Promise<void>((resolve, reject) => {
      const wake = (error?: unknown): void => {
        follower.wake = undefined;
        signal.removeEventListener("abort", leave);
        stopLooking();
        if (error === undefined) resolve();
        else reject(error);
      };
      const leave = (): void => wake();
      follower.wake = wake;
      signal.addEventListener("abort", leave, { once: true });
      lookLater();
    });

  return {
    async *follow(watch, after, signal) {
      if (followers.size >= followersMax) {
        throw new Fault("LIMIT_EXCEEDED", `Cannot follow as at most ${followersMax} may at once: so many do`);
      }
      const follower: Follower = { watch, seq: after, changed: new Set(), notBeforeMs: 0, wake: undefined };
      followers.add(follower);
      try {
        const found = await states();
        while (!signal.aborted && !isClosed) {
          // What came while nobody looked after it.
          const { lastSeq, addresses } = await found.news(follower.seq);
          note(follower, follower.seq, lastSeq, addresses);
          if (!isReady(follower)) await news(follower, signal);
          if (!isReady(follower)) continue;
          const last = await momentOf(found, follower.seq);
          const changed = [...follower.changed];
          follower.changed.clear();
          follower.notBeforeMs = clock.now() + newsMs;
          yield { last, changed };
        }
      } finally {
        followers.delete(follower);
      }
    },
    close() {
      isClosed = true;
      for (const { wake } of waiting()) wake?.();
      cancelLook?.();
      cancelLook = undefined;
    },
  };
}
