import { checks as actionCache } from "./action_cache.ts";
import { checks as batches } from "./batches.ts";
import { checks as byteStream } from "./byte_stream.ts";
import { checks as capabilities } from "./capabilities.ts";
import type { ProbeClient } from "./client.ts";
import { methods } from "../protocol/reapi/services.ts";
import { checks as execution } from "./execution.ts";
import { checks as findMissing } from "./find_missing.ts";

/** One line of the checklist, tried on a server. */
export interface Check {
  /** Of the checklist: "W-7". */
  readonly id: string;
  readonly says: string;
  /** @throws saying what the server does instead. */
  readonly holds: (client: ProbeClient) => Promise<void>;
}

export interface Verdict {
  readonly id: string;
  readonly says: string;
  readonly why?: string;
}

/** Of the cache, in the order of the checklist's parts; a part that comes to it is a file that is named here. */
export const cacheChecks: readonly Check[] = [
  ...capabilities,
  ...findMissing,
  ...batches,
  ...byteStream,
  ...actionCache,
];

/** Of servers that execute, too. */
export async function checksFor(client: ProbeClient): Promise<readonly Check[]> {
  const { executionCapabilities } = await client.unary(methods.getCapabilities, {});
  return executionCapabilities?.execEnabled ? [...cacheChecks, ...execution] : cacheChecks;
}

/** One after the other, so that what a check does to the server cannot be another's failure. `why` only where it failed. */
export async function* runChecks(client: ProbeClient, checks?: readonly Check[]): AsyncGenerator<Verdict> {
  for (const { id, says, holds } of checks ?? await checksFor(client).catch(() => cacheChecks)) {
    try {
      await holds(client);
      yield { id, says };
    } catch (thrown) {
      yield { id, says, why: (thrown as Error).message };
    }
  }
}
