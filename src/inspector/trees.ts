import { Buffer } from "node:buffer";
import { type Digest, sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import type { Node } from "../domain/node.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import { diffTrees } from "../snapshots/trees/diff.ts";
import { lookup, readDirectory, readRoot } from "../snapshots/trees/read_tree.ts";
import type { TreeDiff, TreeNode, TreePage } from "./routes.ts";

const textBytesMax = 256 * 1024;
/** What a file begins with says whether it is text. */
const judgedBytes = 4_096;

const treeNode = (node: Node): TreeNode => node.kind === "file" ? { ...node, bytes: sizeOf(node.digest) } : { ...node };
const order = { directory: 0, file: 1, symlink: 1 } as const;

/** What is at a path of a snapshot. @throws {Fault} `SNAPSHOT_UNKNOWN`, `PATH_UNKNOWN`, `PATH_INVALID`, `TREE_INVALID`. */
export async function treePage(
  blobs: Blobs,
  snapshot: Digest,
  path: string,
  { from, limit }: { readonly from: number; readonly limit: number },
): Promise<TreePage> {
  const node = await lookup(blobs, snapshot, path);
  if (node.kind === "symlink") return { kind: "symlink", target: node.target };
  if (node.kind === "file") return await filePage(blobs, node);
  const nodes = node.digest === snapshot ? await readRoot(blobs, snapshot) : await readDirectory(blobs, node.digest);
  const sorted = nodes.sort((a, b) => order[a.kind] - order[b.kind] || (a.name < b.name ? -1 : 1));
  return {
    kind: "directory",
    digest: node.digest,
    entries: sorted.slice(from, from + limit).map(treeNode),
    ...(from + limit < sorted.length ? { next: from + limit } : {}),
  };
}

async function filePage(blobs: Blobs, file: Extract<Node, { kind: "file" }>): Promise<TreePage> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of blobs.get(file.digest, { length: Math.min(sizeOf(file.digest), textBytesMax) })) {
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  const text = bytes.toString("utf8");
  const isWhole = bytes.length === sizeOf(file.digest);
  const judged = bytes.subarray(0, judgedBytes);
  const isText = !judged.includes(0) && !judged.toString("utf8").slice(0, -1).includes("\ufffd");
  return {
    kind: "file",
    digest: file.digest,
    bytes: sizeOf(file.digest),
    executable: file.executable,
    ...(isText ? { text: isWhole ? text : text.replace(/\ufffd+$/, "") } : {}),
  };
}

/** Trees that differ everywhere are read whole: so long, and no longer. */
const diffMsMax = 20_000;

/**
 * What differs between two snapshots, by path.
 *
 * @throws {Fault} as {@link diffTrees}; `LIMIT_EXCEEDED` after 20 s. What `signal` was aborted with.
 */
export async function treeDiff(
  blobs: Blobs,
  before: Digest,
  after: Digest,
  { from, limit, clock, signal }: {
    readonly from: number;
    readonly limit: number;
    readonly clock: Clock;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<TreeDiff> {
  const changes: TreeDiff["changes"][number][] = [];
  let place = 0;
  const untilMs = clock.now() + diffMsMax;
  // Wherever two folders differ something in them does: so this is come by again and again.
  for await (const { path, before: was, after: is } of diffTrees(blobs, before, after, signal && { signal })) {
    if (clock.now() >= untilMs) {
      throw new Fault(
        "LIMIT_EXCEEDED",
        `Cannot say what differs between ${before} and ${after} as it takes longer than ${
          diffMsMax / 1_000
        } s: compare folders within them`,
      );
    }
    if (place++ < from) continue;
    if (changes.length >= limit) return { changes, next: from + limit };
    changes.push({
      path,
      ...(was === undefined ? {} : { before: treeNode(was) }),
      ...(is === undefined ? {} : { after: treeNode(is) }),
    });
  }
  return { changes };
}
