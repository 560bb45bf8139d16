import { type Digest, emptyDigest } from "../../domain/digest.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { readDirectory, readRoot, refuseDepth } from "./read_tree.ts";
import type { Node } from "./tree.ts";

/** What is at a path of one tree and not, or otherwise, of the other. At least one of both is there. */
export interface TreeChange {
  readonly path: string;
  readonly before?: Node;
  readonly after?: Node;
}

/**
 * What differs between two trees, by path. A folder that only one has is one change; a folder that both have is none, but
 * what differs in it. Reads only folders that differ.
 *
 * @throws {Fault} `SNAPSHOT_UNKNOWN`, `BLOB_MISSING`, `TREE_INVALID` for trees that cannot be read.
 */
export async function* diffTrees(
  blobs: Blobs,
  before: Digest,
  after: Digest,
  options: { readonly signal?: AbortSignal } = {},
): AsyncGenerator<TreeChange> {
  if (before === after) return;
  const read = async (digest: Digest, depth: number): Promise<ReadonlyMap<string, Node>> => {
    if (digest === emptyDigest) return new Map();
    const nodes = depth === 0 ? await readRoot(blobs, digest, options) : await readDirectory(blobs, digest, options);
    return new Map(nodes.map((node) => [node.name, node]));
  };
  async function* inside(from: Digest, to: Digest, prefix: string, depth: number): AsyncGenerator<TreeChange> {
    refuseDepth(depth, prefix);
    options.signal?.throwIfAborted();
    const [olds, news] = await Promise.all([read(from, depth), read(to, depth)]);
    for (const name of [...new Set([...olds.keys(), ...news.keys()])].sort()) {
      const old = olds.get(name);
      const now = news.get(name);
      const path = prefix + name;
      if (old?.kind === "directory" && now?.kind === "directory") {
        if (old.digest !== now.digest) yield* inside(old.digest, now.digest, `${path}/`, depth + 1);
      } else if (old === undefined || now === undefined || !isSame(old, now)) {
        yield { path, ...(old === undefined ? {} : { before: old }), ...(now === undefined ? {} : { after: now }) };
      }
    }
  }
  yield* inside(before, after, "", 0);
}

function isSame(a: Node, b: Node): boolean {
  if (a.kind === "symlink" || b.kind === "symlink") {
    return a.kind === "symlink" && b.kind === "symlink" && a.target === b.target;
  }
  const areFiles = a.kind === "file" && b.kind === "file";
  return a.kind === b.kind && a.digest === b.digest && (!areFiles || a.executable === b.executable);
}
