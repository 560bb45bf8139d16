import type { News } from "../routes.ts";
import { Refusal, stream } from "./data.ts";

/** News of what a page shows, pushed by the cluster; until `signal` is aborted, over restarts of anything. */
export interface FeedOptions {
  /** Addresses, or beginnings of addresses that end in "/"; "" is everything. At most 32. */
  readonly watch: readonly string[];
  /** The moment that the page shows: what came after it is news. */
  readonly after: number;
  readonly onNews: (news: News) => void;
  /** The cluster went away, or is there again. */
  readonly onConnected: (isConnected: boolean) => void;
  readonly signal: AbortSignal;
}

/** Between two tries while the cluster is away. */
const againMs = 500;
/** What may be otherwise in a moment. */
const passing: ReadonlySet<string> = new Set(["PEER_UNREACHABLE", "LIMIT_EXCEEDED", "INTERNAL"]);

/** @throws {Refusal} for a line that says why there is no more. */
function newsIn(line: string): News {
  const told = JSON.parse(line) as News | { readonly fault: { readonly code: string; readonly message: string } };
  if ("fault" in told) throw new Refusal(told.fault.code, told.fault.message);
  return told;
}

/**
 * Follows until `signal` is aborted.
 *
 * @throws {Refusal} when the cluster will not have it: a wrong token, a watch that is no address.
 */
export async function follow(options: FeedOptions): Promise<void> {
  const { signal, watch } = options;
  let { after } = options;
  while (!signal.aborted) {
    try {
      let text = "";
      const query = new URLSearchParams([...watch.map((one) => ["watch", one]), ["after", String(after)]]);
      for await (const chunk of stream(`/v1/inspect/feed?${query}`, signal)) {
        if (text === "") options.onConnected(true);
        text += chunk;
        const lines = text.split("\n");
        text = lines.pop()!;
        // Of what came at once the newest says all.
        const news = lines.filter((line) => line !== "").map(newsIn);
        const last = news.at(-1)?.last;
        if (last === undefined) continue;
        after = last.seq;
        options.onNews({ last, changed: [...new Set(news.flatMap(({ changed }) => changed))] });
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refusal && !passing.has(error.code)) throw error;
    }
    if (signal.aborted) return;
    options.onConnected(false);
    await new Promise((resolve) => setTimeout(resolve, againMs));
  }
}
