import type { Digest } from "../../domain/digest.ts";
import { isFault } from "../../domain/fault.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { entriesMaxDefault } from "./checkout.ts";
import { readDirectory } from "./read_tree.ts";

/** Files are asked after in groups of so many. */
const groupMax = 10_000;

/**
 * Whether a store has all of a snapshot, every folder and file; what it has is kept from being collected soon. What is
 * no tree, or one of more than a million entries, it has not. Reads each folder once: 3 µs a file.
 *
 * @throws what the store throws, but for what is missing. The signal's reason when it is aborted.
 */
export async function holdsTree(
  blobs: Blobs,
  snapshot: Digest,
  options: { readonly signal?: AbortSignal } = {},
): Promise<boolean> {
  const seen = new Set([snapshot]);
  const open = [snapshot];
  let asked = new Set([snapshot]);
  const isMissing = async (): Promise<boolean> => {
    const digests = asked;
    asked = new Set();
    return (await blobs.missing(digests)).size > 0;
  };
  let entries = 0;
  for (let digest = open.pop(); digest !== undefined; digest = open.pop()) {
    options.signal?.throwIfAborted();
    let nodes;
    try {
      nodes = await readDirectory(blobs, digest, options);
    } catch (error) {
      if (
        (["BLOB_MISSING", "TREE_INVALID", "PATH_INVALID", "REQUEST_INVALID"] as const).some((code) =>
          isFault(error, code)
        )
      ) return false;
      throw error;
    }
    entries += nodes.length;
    if (entries > entriesMaxDefault) return false;
    for (const node of nodes) {
      if (node.kind === "symlink" || seen.has(node.digest)) continue;
      seen.add(node.digest);
      asked.add(node.digest);
      if (node.kind === "directory") open.push(node.digest);
    }
    if (asked.size >= groupMax && await isMissing()) return false;
  }
  return !(await isMissing());
}
