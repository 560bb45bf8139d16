import { compressors, sha256Function } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { checkInstance, type Instances, type Served, serveUnary } from "./calls.ts";
import { hasZstd } from "./zstd.ts";

/** A batch's blobs together: below the 4 MiB that most clients take in one message, with room for what is around them. */
export const batchBytesMax = 4 * 1024 * 1024 - 64 * 1024;

/** `SymlinkAbsolutePathStrategy.Value`. */
const absoluteSymlinksAllowed = 2;

/** What this server can do, so that clients of every age use what both know. */
export function serveCapabilities(served: Served, instances: Instances): void {
  const zstd = hasZstd ? [compressors.zstd] : [];
  serveUnary(served, methods.getCapabilities, ({ instanceName }) => {
    checkInstance(instances, instanceName);
    return {
      cacheCapabilities: {
        digestFunctions: [sha256Function],
        actionCacheUpdateCapabilities: { updateEnabled: true },
        cachePriorityCapabilities: undefined,
        maxBatchTotalSizeBytes: batchBytesMax,
        symlinkAbsolutePathStrategy: absoluteSymlinksAllowed,
        supportedCompressors: zstd,
        supportedBatchUpdateCompressors: zstd,
      },
      lowApiVersion: { major: 2, minor: 0, patch: 0, prerelease: "" },
      highApiVersion: { major: 2, minor: 2, patch: 0, prerelease: "" },
    };
  });
}
