import type { Digest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { absentMax, type TreeKeeper } from "../snapshots/lease.ts";

/**
 * Keeps all of a snapshot that somebody named by its digest.
 *
 * @param what it is needed for: "accept the job as the input of task "build"".
 * @throws {Fault} `SNAPSHOT_UNKNOWN` when some of it is missing: nothing should come to depend on it then.
 */
export async function needTree(
  trees: TreeKeeper,
  snapshot: Digest,
  what: string,
  signal?: AbortSignal,
): Promise<void> {
  const missing = await trees.keep(snapshot, signal);
  const [first] = missing;
  if (first === undefined) return;
  const lack = first === snapshot
    ? `${snapshot} is not`
    : `it lacks ${
      missing.length === absentMax ? "many" : missing.length
    } of the blobs of ${snapshot}, such as ${first}`;
  throw new Fault("SNAPSHOT_UNKNOWN", `Cannot ${what} must be in the cluster's store: ${lack}. Capture it first`);
}
