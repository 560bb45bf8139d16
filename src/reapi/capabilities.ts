import { Fault } from "../domain/fault.ts";
import { fastCdc2020 } from "../protocol/reapi/fast_cdc.ts";
import { compressors, sha256Function } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { checkInstance, type Instances, type Served, serveUnary } from "./calls.ts";
import { served as servedCompressors } from "./compression.ts";

/** A batch's blobs together: below the 4 MiB that most clients take in one message, with room for what is around them. */
export const batchBytesMax = 4 * 1024 * 1024 - 64 * 1024;

/** `SymlinkAbsolutePathStrategy.Value`. */
const absoluteSymlinksAllowed = 2;

/** As the API has it: the lower, the sooner. */
const priorities = { minPriority: -2, maxPriority: 0 };

/** A priority of the API as ours, where 2 is the most urgent. @throws {Fault} `REQUEST_INVALID`. */
export function checkPriority(given: number): 0 | 1 | 2 {
  if (given === 0 || given === -1 || given === -2) return Math.abs(given) as 0 | 1 | 2;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot run the action as its priority must be from -2, the most urgent, to 0: current value is ${given}`,
  );
}

/** What this server can do, so that clients of every age use what both know. @param executes whether it runs actions. */
export function serveCapabilities(served: Served, instances: Instances, executes: boolean): void {
  const numbers = servedCompressors.map((name) => compressors[name]);
  serveUnary(served, methods.getCapabilities, ({ instanceName }) => {
    checkInstance(instances, instanceName);
    return {
      cacheCapabilities: {
        digestFunctions: [sha256Function],
        actionCacheUpdateCapabilities: { updateEnabled: true },
        cachePriorityCapabilities: undefined,
        maxBatchTotalSizeBytes: batchBytesMax,
        symlinkAbsolutePathStrategy: absoluteSymlinksAllowed,
        supportedCompressors: numbers,
        supportedBatchUpdateCompressors: numbers,
        splitBlobSupport: true,
        spliceBlobSupport: true,
        fastCdc2020Params: { avgChunkSizeBytes: fastCdc2020.averageBytes, seed: 0 },
      },
      executionCapabilities: executes
        ? {
          digestFunction: sha256Function,
          digestFunctions: [sha256Function],
          execEnabled: true,
          executionPriorityCapabilities: { priorities: [priorities] },
          supportedNodeProperties: [],
        }
        : undefined,
      lowApiVersion: { major: 2, minor: 0, patch: 0, prerelease: "" },
      highApiVersion: { major: 2, minor: 2, patch: 0, prerelease: "" },
    };
  });
}
