import { setImmediate as turn } from "node:timers/promises";
import { type Digest, emptyDigest, hashOf } from "../domain/digest.ts";
import { isFault } from "../domain/fault.ts";
import { keySet } from "./collect_key_set.ts";
import type { Blobs } from "./blobs/blobs.ts";
import { readDirectory } from "./trees/read_tree.ts";

/** What must stay, and why, as a short phrase that is shown: "queued", "running", "named". At most 255 are told apart. */
export interface Root {
  readonly digest: Digest;
  /** `tree`: a Directory and all that is below it. */
  readonly kind: "blob" | "tree";
  readonly why: string;
}

/**
 * All that must stay as of now, in any order; the same may come again. What is used while this is read need not be in
 * it: a blob that was put or asked about is safe for the guaranteed age.
 */
export type Roots = (signal?: AbortSignal) => AsyncIterable<Root>;

export interface Leases {
  /** Why the blob with that hash (32 bytes) must stay, by the first root that led to it; undefined: it need not. */
  whyOf(key: Uint8Array): string | undefined;
  /** How many trees could not be read: absent, or none. What else they name is not known and not leased. */
  readonly unread: number;
}

/** Directories read before others have their turn: about 5 ms. */
const directoriesPerTurn = 100;

/**
 * Walks all that must stay. Takes at most 70 bytes of memory a blob and again a folder. A shared folder is read once.
 *
 * @throws whatever keeps the store or the roots from being read: then nothing is known, and nothing must be removed.
 */
export async function leasesOf(blobs: Blobs, roots: Roots, signal?: AbortSignal): Promise<Leases> {
  const marked = keySet();
  /** Apart from those marked: a tree may have been a plain blob to another root. */
  const walked = keySet();
  const whys: string[] = [];
  let unread = 0;
  let directories = 0;

  const numberOf = (why: string): number => {
    const at = whys.indexOf(why);
    if (at >= 0) return at;
    return whys.length < 255 ? whys.push(why) - 1 : 254;
  };
  async function walkTree(root: Digest, why: number): Promise<void> {
    const open = [root];
    for (let digest = open.pop(); digest !== undefined; digest = open.pop()) {
      if (!walked.add(keyOf(digest), why)) continue;
      if (++directories % directoriesPerTurn === 0) await turn();
      signal?.throwIfAborted();
      try {
        for (const node of await readDirectory(blobs, digest, signal === undefined ? {} : { signal })) {
          if (node.kind === "symlink" || node.digest === emptyDigest) continue;
          marked.add(keyOf(node.digest), why);
          if (node.kind === "directory") open.push(node.digest);
        }
      } catch (error) {
        // A tree that nobody can read is no reason to keep nothing else in bounds.
        if (!unreadable.some((code) => isFault(error, code))) throw error;
        unread++;
      }
    }
  }

  for await (const { digest, kind, why } of roots(signal)) {
    signal?.throwIfAborted();
    if (digest === emptyDigest) continue;
    marked.add(keyOf(digest), numberOf(why));
    if (kind === "tree") await walkTree(digest, numberOf(why));
  }
  return {
    whyOf(key) {
      const why = marked.get(key);
      return why === undefined ? undefined : whys[why];
    },
    unread,
  };
}

const unreadable = ["BLOB_MISSING", "TREE_INVALID", "PATH_INVALID", "REQUEST_INVALID", "STORE_CORRUPT"] as const;

const keyOf = (digest: Digest): Buffer => Buffer.from(hashOf(digest), "hex");
