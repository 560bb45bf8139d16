import type { MessageOf } from "../protocol/reapi/codec.ts";
import type { serverCapabilities } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { checks as actionCache } from "./action_cache.ts";
import { checks as actions } from "./actions.ts";
import { checks as batches } from "./batches.ts";
import { checks as capabilities } from "./capabilities.ts";
import { NotOffered, type ProbeClient } from "./client.ts";
import { checks as digests } from "./digests.ts";
import { checks as executeRequests } from "./execute_requests.ts";
import { checks as findMissing } from "./find_missing.ts";
import { checks as operations } from "./operations.ts";
import { checks as others } from "./others.ts";
import { checks as outputs } from "./outputs.ts";
import { checks as reads } from "./reads.ts";
import { checks as sharing } from "./sharing.ts";
import { checks as transport } from "./transport.ts";
import { checks as trees } from "./trees.ts";
import { checks as uploads } from "./uploads.ts";

/** What the server says that it can do. */
export type Capabilities = MessageOf<typeof serverCapabilities>;

/** One line of the checklist, tried on a server. */
export interface Check {
  /** Of the checklist: "W-7". A line may have several checks. */
  readonly id: string;
  readonly says: string;
  /** What the server must offer, or it is not tried. */
  readonly needs?: "execution";
  /** Waits for most of a minute: is run beside others like it, after all that are not. */
  readonly isSlow?: true;
  /** @throws saying what the server does instead; {@link NotOffered} for what it need not have and has not. */
  readonly holds: (client: ProbeClient, capabilities: Capabilities) => Promise<void>;
}

export interface Verdict {
  readonly id: string;
  readonly says: string;
  readonly result: "holds" | "fails" | "not offered";
  /** What it does instead, or what it does not offer. */
  readonly why?: string;
}

/** In the order of the checklist; a part that comes to it is a file that is named here. */
export const allChecks: readonly Check[] = [
  ...transport,
  ...capabilities,
  ...digests,
  ...findMissing,
  ...batches,
  ...uploads,
  ...reads,
  ...trees,
  ...actionCache,
  ...executeRequests,
  ...operations,
  ...sharing,
  ...actions,
  ...outputs,
  ...others,
];

export interface RunOptions {
  /** Ids, or how they begin: "W-7", "W". All by default. */
  readonly only?: readonly string[];
}

const isAmong = (id: string, only: readonly string[]): boolean =>
  only.length === 0 || only.some((asked) => id === asked || id.startsWith(`${asked}-`));

/** The checks that those ids name. */
export const checksOf = ({ only = [] }: RunOptions): readonly Check[] =>
  allChecks.filter(({ id }) => isAmong(id, only));

/**
 * One after the other, so that what a check does to the server cannot be another's failure; the slow ones, which only
 * wait, together at the end.
 *
 * @throws {ServiceError} when the server does not even say what it can do.
 */
export async function* runChecks(client: ProbeClient, options: RunOptions = {}): AsyncGenerator<Verdict> {
  const checks = checksOf(options);
  const capabilities = await client.unary(methods.getCapabilities, {});
  const verdict = async ({ id, says, needs, holds }: Check): Promise<Verdict> => {
    if (needs === "execution" && capabilities.executionCapabilities?.execEnabled !== true) {
      return { id, says, result: "not offered", why: "it does not execute" };
    }
    try {
      await holds(client, capabilities);
      return { id, says, result: "holds" };
    } catch (thrown) {
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      return { id, says, result: thrown instanceof NotOffered ? "not offered" : "fails", why };
    }
  };
  for (const check of checks) if (check.isSlow !== true) yield await verdict(check);
  for (const ended of checks.filter(({ isSlow }) => isSlow === true).map(verdict)) yield await ended;
}
