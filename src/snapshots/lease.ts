import { setImmediate as turn } from "node:timers/promises";
import { type Digest, emptyDigest, isDigest } from "../domain/digest.ts";
import { isFault } from "../domain/fault.ts";
import type { Clock } from "../runtime/clock.ts";
import { keySet } from "./collect_key_set.ts";
import type { Blobs } from "./blobs/blobs.ts";
import { keyOf } from "./blobs/index_rows.ts";
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
    if (!isDigest(digest)) {
      unread++; // names hold what people gave them: one that names no blob must not stop the rest
      continue;
    }
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

/** Keeps whole trees from being collected: for who takes in work on them, or a name for them. */
export interface TreeKeeper {
  /**
   * What of a tree is absent, at most {@link absentMax}; all that is there stays for the guaranteed age. What should be
   * a folder and is none counts as absent. A folder that was found whole a short while ago is not walked again, so a
   * tree costs what is new in it; one tree is walked at a time, for those that are asked for at once are much the same.
   *
   * @throws whatever keeps the store from being read.
   */
  keep(root: Digest, signal?: AbortSignal): Promise<readonly Digest[]>;
}

/** Of the blobs that are absent so many are named. */
export const absentMax = 100;
/** Folders that are remembered as whole; beyond, the oldest is forgotten. About 20 MB. */
const rememberedMax = 100_000;
/** Then others have their turn: about 10 ms. */
const foldersPerAsk = 100;

export interface TreeKeeperOptions {
  readonly blobs: Blobs;
  readonly clock: Clock;
  /** For so long what was found whole is not looked at again: at most how late a store may note a use. */
  readonly rememberMs: number;
}

export function treeKeeper({ blobs, clock, rememberMs }: TreeKeeperOptions): TreeKeeper {
  /** Folders that were found whole, with all below them, and when: oldest first. */
  const whole = new Map<Digest, number>();
  const isWhole = (digest: Digest): boolean => {
    const atMs = whole.get(digest);
    return atMs !== undefined && clock.now() - atMs < rememberMs;
  };

  let walking: Promise<unknown> = Promise.resolve();
  const walk = async (root: Digest, signal: AbortSignal | undefined): Promise<readonly Digest[]> => {
    /** Since when all that is below is sure to stay: as long as what is longest remembered. */
    let sinceMs = clock.now();
    const absent = new Set<Digest>();
    const asked = new Set<Digest>([emptyDigest]);
    const met = new Set<Digest>([emptyDigest, root]);
    const walked: Digest[] = [];
    for (let folders = isWhole(root) ? [] : [root]; folders.length > 0;) {
      if (absent.size >= absentMax) break;
      const next: Digest[] = [];
      for (let at = 0; at < folders.length; at += foldersPerAsk) {
        signal?.throwIfAborted();
        const group = folders.slice(at, at + foldersPerAsk);
        const files = new Set<Digest>(group);
        for (const folder of group) {
          try {
            for (const node of await readDirectory(blobs, folder, signal === undefined ? {} : { signal })) {
              if (node.kind === "symlink") continue;
              const known = node.kind === "file" ? asked : met;
              if (known.has(node.digest)) continue;
              known.add(node.digest);
              if (node.kind === "file") files.add(node.digest);
              else if (isWhole(node.digest)) sinceMs = Math.min(sinceMs, whole.get(node.digest)!);
              else next.push(node.digest);
            }
            walked.push(folder);
          } catch (error) {
            if (!unreadable.some((code) => isFault(error, code))) throw error;
            absent.add(folder);
          }
        }
        for (const digest of await blobs.missing(files)) absent.add(digest);
        await turn();
      }
      folders = next;
    }
    if (absent.size === 0) {
      for (const folder of walked) {
        whole.delete(folder);
        whole.set(folder, sinceMs);
      }
      for (const folder of whole.keys()) {
        if (whole.size <= rememberedMax) break;
        whole.delete(folder);
      }
    }
    return [...absent].slice(0, absentMax);
  };

  return {
    async keep(root, signal) {
      if (root === emptyDigest || isWhole(root)) return [];
      const walked = walking.then(() => {
        signal?.throwIfAborted();
        return walk(root, signal);
      });
      walking = walked.catch(() => {}); // who asked for it hears it
      return await walked;
    },
  };
}

const unreadable = ["BLOB_MISSING", "TREE_INVALID", "PATH_INVALID", "REQUEST_INVALID", "STORE_CORRUPT"] as const;
