import { lstatSync, readlinkSync, type Stats } from "node:fs";
import type { Digest } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { hashFile } from "../blobs/object_file.ts";
import { statOf } from "./read_files.ts";
import { readDirectory, readRoot, refuseDepth } from "./read_tree.ts";
import { isSameStat } from "./stat_cache.ts";
import type { Node } from "./tree.ts";

/** A moment, and what a folder held then. */
export interface Since {
  /** By this machine's clock, ms since the epoch: before the folder was captured. */
  readonly atMs: number;
  /** What was captured of it; without, every file that was changed after the moment counts as changed. */
  readonly inputs?: Digest;
}

/** File systems stamp with a clock that may be so much behind. */
const stampLagMs = 20;

/** What was at paths when it was looked at. */
export interface Unchanged {
  /** @throws {Fault} `OUTPUT_CHANGED` when something else is at the path by now. */
  refuseChanged(path: string): void;
}

/**
 * Makes sure that a snapshot would replace nothing in a folder that somebody has changed since a moment: a file counts
 * as unchanged if it is what it was then, or what the snapshot has, or was last changed before.
 *
 * @param dir absolute, without symlinks.
 * @throws {Fault} `OUTPUT_CHANGED` naming the first that was; nothing was touched.
 */
export async function unchangedSince(blobs: Blobs, snapshot: Digest, dir: string, since: Since): Promise<Unchanged> {
  const seen = new Map<string, Stats | undefined>();
  const look = async (path: string, nodes: readonly Node[], then: Digest | undefined, depth: number): Promise<void> => {
    refuseDepth(depth, path);
    const before = new Map((await nodesThen(blobs, then)).map((node) => [node.name, node]));
    for (const node of nodes) {
      const at = `${path}/${node.name}`;
      const was = before.get(node.name);
      if (node.kind === "directory") {
        await look(
          at,
          await readDirectory(blobs, node.digest),
          was?.kind === "directory" ? was.digest : undefined,
          depth + 1,
        );
        continue;
      }
      const stat = statOf(at);
      seen.set(at, stat);
      if (stat === undefined || stat.isDirectory()) continue; // nothing to lose, or refused by who writes
      if (await isThat(at, stat, node)) continue;
      const isAsThen = was === undefined || was.kind === "directory"
        ? stat.ctimeMs < since.atMs - stampLagMs
        : await isThat(at, stat, was);
      if (!isAsThen) throw changed(at);
    }
  };
  await look(dir, await readRoot(blobs, snapshot), since.inputs, 0);
  return {
    refuseChanged(path) {
      const before = seen.get(path);
      const now = lstatSync(path, { throwIfNoEntry: false });
      const isSame = before === undefined || now === undefined ? before === now : isSameStat(before, now);
      if (seen.has(path) && !isSame) throw changed(path);
    },
  };
}

async function nodesThen(blobs: Blobs, digest: Digest | undefined): Promise<readonly Node[]> {
  if (digest === undefined) return [];
  try {
    return await readDirectory(blobs, digest);
  } catch (error) {
    if (isFault(error, "BLOB_MISSING")) return []; // times tell then
    throw error;
  }
}

async function isThat(path: string, stat: Stats, node: Node): Promise<boolean> {
  if (node.kind === "symlink") return stat.isSymbolicLink() && readlinkSync(path) === node.target;
  return node.kind === "file" && stat.isFile() && await hashFile(path) === node.digest;
}

const changed = (path: string): Fault =>
  new Fault(
    "OUTPUT_CHANGED",
    `Cannot bring back ${path} as it must be as it was when the task was sent: it was changed since; move it away to have it brought back`,
  );
