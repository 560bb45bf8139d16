import type { News } from "../routes.ts";
import { ask, Refusal } from "./data.ts";
import { restMs } from "./pace.ts";

/** News of what a page shows, as soon as there are any; until `signal` is aborted, over restarts of anything. */
export interface FeedOptions {
  /** Addresses, or beginnings of addresses that end in "/"; "" is everything. At most 32. */
  readonly watch: readonly string[];
  /** The moment that the page shows: what came after it is news. */
  readonly after: number;
  /** Shows it. The next news are asked for when it has resolved; the longer it took, the longer after. */
  readonly onNews: (news: News) => void | Promise<void>;
  /** The cluster went away, or is there again. */
  readonly onConnected: (isConnected: boolean) => void;
  readonly signal: AbortSignal;
}

/** Between two tries while the cluster is away. */
const againMs = 500;
/** What may be otherwise in a moment. */
const passing: ReadonlySet<string> = new Set(["PEER_UNREACHABLE", "LIMIT_EXCEEDED", "INTERNAL"]);

/**
 * Follows until `signal` is aborted.
 *
 * @throws {Refusal} when the cluster will not have it: a wrong token, a watch that is no address.
 */
export async function follow({ watch, signal, ...options }: FeedOptions): Promise<void> {
  let { after } = options;
  let lookedAtMs = performance.now();
  let isConnected: boolean | undefined;
  const say = (is: boolean): void => {
    if (is !== isConnected) options.onConnected(isConnected = is);
  };
  while (!signal.aborted) {
    try {
      // News may be long in coming: that it is there again is told before.
      if (isConnected === false) await ask("/v1/inspect/bounds", {}, signal);
      say(true);
      const news = await ask<News>("/v1/inspect/feed", { watch, after }, signal);
      const entries = news.last.seq - after;
      after = news.last.seq;
      if (news.changed.length === 0) continue;
      const beganMs = performance.now();
      const entriesPerSecond = entries * 1_000 / Math.max(1, beganMs - lookedAtMs);
      lookedAtMs = beganMs;
      await options.onNews(news);
      await rest(restMs(performance.now() - beganMs, entriesPerSecond), signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refusal && !passing.has(error.code)) throw error;
      say(false);
      await rest(againMs, signal);
    }
  }
}

const rest = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done); // it is followed for days
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
