import { lstatSync, readlinkSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import { type Digest, emptyDigest } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import type { Blobs } from "../blobs/blobs.ts";
import { hashFile } from "../blobs/object_file.ts";
import { folderAt, refuseFolder } from "./places.ts";
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
 * Makes sure that all of a snapshot can be brought into a folder, and would replace nothing there that somebody has
 * changed since a moment: a file counts as unchanged if it is what it was then, or what the snapshot has, or was last
 * changed before, and so was where it is. A repository of the user's is never replaced: what is captured of a folder has
 * no `.git`, so the one that a task made is another.
 *
 * @param dir absolute, without symlinks.
 * @param since without, every file may be replaced that stays as it is from now on.
 * @throws {Fault} `OUTPUT_CHANGED` naming the first that was, `PATH_INVALID` and `CHECKOUT_FAILED` for what is in the
 * way, `BLOB_MISSING`; nothing was touched.
 */
export async function unchangedSince(
  blobs: Blobs,
  snapshot: Digest,
  dir: string,
  since: Since | undefined,
): Promise<Unchanged> {
  const seen = new Map<string, Stats | undefined>();
  const files = new Set<Digest>();
  const sinceMs = since === undefined ? 0 : since.atMs - stampLagMs;
  /** @param links those that led to the folder. */
  const look = async (
    path: string,
    nodes: readonly Node[],
    then: Digest | undefined,
    links: readonly string[],
    depth: number,
  ): Promise<void> => {
    refuseDepth(depth, path);
    const isUsers = depth === 0 || then !== undefined;
    let isNew: boolean | undefined;
    const isPlaceNew = (): boolean => isNew ??= [path, ...links].some((place) => cameSince(place, dir, sinceMs));
    const before = new Map((await nodesThen(blobs, then)).map((node) => [node.name, node]));
    for (const node of nodes) {
      const at = `${path}/${node.name}`;
      const was = before.get(node.name);
      if (isUsers && node.name.toLowerCase() === ".git") refuseRepository(at);
      if (node.kind === "directory") {
        const real = folderAt(at, dir) ?? at;
        await look(
          real,
          await readDirectory(blobs, node.digest),
          was?.kind === "directory" ? was.digest : undefined,
          real === at ? links : [...links, at],
          depth + 1,
        );
        continue;
      }
      refuseFolder(at);
      if (node.kind === "file" && node.digest !== emptyDigest) files.add(node.digest);
      const stat = lstatSync(at, { throwIfNoEntry: false });
      seen.set(at, stat);
      if (stat === undefined || since === undefined) continue; // nothing to lose
      if (await isThat(at, stat, node)) continue;
      const isAsThen = was === undefined || was.kind === "directory"
        ? Math.max(stat.ctimeMs, stat.mtimeMs) < sinceMs && !isPlaceNew()
        : await isThat(at, stat, was);
      if (!isAsThen) throw changed(at);
    }
  };
  await look(dir, await readRoot(blobs, snapshot), since?.inputs, [], 0);
  const [missing] = await blobs.missing(files);
  if (missing !== undefined) {
    throw new Fault(
      "BLOB_MISSING",
      `Cannot bring back ${snapshot}: the store lacks ${missing} of it; run the task again`,
    );
  }
  return {
    refuseChanged(path) {
      const before = seen.get(path);
      const now = lstatSync(path, { throwIfNoEntry: false });
      const isSame = before === undefined || now === undefined ? before === now : isSameStat(before, now);
      if (seen.has(path) && !isSame) throw changed(path);
    },
  };
}

/**
 * Whether a folder or a symlink, or a folder that it is in, may have come to its place at that time or later. That stamps
 * it, not what is in it, and changes where it comes to: one of them alone has another reason.
 */
function cameSince(path: string, top: string, atMs: number): boolean {
  let isStamped = false; // what the turn before looked at
  for (let at = path;; at = dirname(at)) {
    const stat = lstatSync(at, { throwIfNoEntry: false });
    if (stat === undefined || (isStamped && stat.mtimeMs >= atMs)) return true;
    if (at === top) return false;
    // Deno tells whole seconds.
    isStamped = (stat.ctimeMs % 1000 === 0 ? stat.ctimeMs + 999 : stat.ctimeMs) >= atMs;
  }
}

function refuseRepository(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new Fault(
    "OUTPUT_CHANGED",
    `Cannot bring back ${path} as no repository must be there: there is one; name outputs without it, as "dist" or "[!.]*"`,
  );
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
