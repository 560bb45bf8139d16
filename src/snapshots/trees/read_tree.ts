import type { Digest } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import { decodeDirectory, segmentFlaw } from "../../protocol/reapi/canonical.ts";
import { type Blobs, readBlob } from "../blobs/blobs.ts";
import type { Node } from "./tree.ts";

/** A Directory of more encoded bytes is refused: about 500,000 files in one folder. */
export const directoryBytesMax = 64 * 1024 * 1024;

/** A tree nested deeper is refused; a path of that many one-letter names is half of what Linux allows (PATH_MAX). */
export const depthMax = 1000;

interface ReadTreeOptions {
  readonly signal?: AbortSignal;
}

/**
 * The nodes of one directory: files, directories, symlinks, each sorted by name.
 *
 * @throws {Fault} `TREE_INVALID`, `PATH_INVALID` for a blob that is no Directory, and whatever `get` throws.
 */
export async function readDirectory(blobs: Blobs, digest: Digest, options: ReadTreeOptions = {}): Promise<Node[]> {
  return decodeDirectory(await readBlob(blobs, digest, directoryBytesMax, options));
}

/** The same for the root of a snapshot. @throws {Fault} `SNAPSHOT_UNKNOWN` when the store does not hold it. */
export async function readRoot(blobs: Blobs, snapshot: Digest, options: ReadTreeOptions = {}): Promise<Node[]> {
  try {
    return await readDirectory(blobs, snapshot, options);
  } catch (error) {
    if (!isFault(error, "BLOB_MISSING")) throw error;
    throw new Fault("SNAPSHOT_UNKNOWN", `Cannot read snapshot ${snapshot}: this store does not hold it`, {
      cause: error,
    });
  }
}

/**
 * A relative path as its segments: `./a//b/` is `a`, `b`; "" and "." are none.
 *
 * @throws {Fault} `PATH_INVALID` for an absolute path, "..", a NUL.
 */
export function segmentsOf(path: string): string[] {
  const refuse = (why: string): never => {
    throw new Fault("PATH_INVALID", `Cannot use a path as it must ${why}: current value is "${path}"`);
  };
  if (path.startsWith("/")) refuse("be relative");
  const segments = path.split("/").filter((segment) => segment !== "" && segment !== ".");
  for (const segment of segments) {
    const flaw = segmentFlaw(segment);
    if (flaw !== undefined) refuse(segment === ".." ? "stay inside of the folder" : flaw);
  }
  return segments;
}

/**
 * What is at a path of a snapshot. Symlinks are not followed. The snapshot itself ("" or ".") is a directory named "".
 *
 * @throws {Fault} `PATH_UNKNOWN` when nothing is there, `PATH_INVALID` for a path that leads outside,
 * `SNAPSHOT_UNKNOWN` when the store does not hold the snapshot.
 */
export async function lookup(
  blobs: Blobs,
  snapshot: Digest,
  path: string,
  options: ReadTreeOptions = {},
): Promise<Node> {
  let found: Node = { kind: "directory", name: "", digest: snapshot };
  let walked = "";
  for (const segment of segmentsOf(path)) {
    if (found.kind !== "directory") {
      throw new Fault(
        "PATH_UNKNOWN",
        `Cannot read "${path}" as "${walked}" must be a directory: current value is a ${found.kind}`,
      );
    }
    const nodes: readonly Node[] = walked === ""
      ? await readRoot(blobs, snapshot, options)
      : await readDirectory(blobs, found.digest, options);
    const next: Node | undefined = nodes.find(({ name }) => name === segment);
    if (next === undefined) {
      throw new Fault("PATH_UNKNOWN", `Cannot read "${path}": the snapshot has nothing at that path`);
    }
    found = next;
    walked = walked === "" ? segment : `${walked}/${segment}`;
  }
  return found;
}

/**
 * Everything below a path of a snapshot, parents before what is in them, each folder's files, directories and symlinks
 * by name. Paths are relative to the snapshot. A path that names a file or symlink yields just that.
 *
 * @throws {Fault} as {@link lookup} does, and `TREE_INVALID` for a tree deeper than {@link depthMax}.
 */
export async function* walk(
  blobs: Blobs,
  snapshot: Digest,
  path = "",
  options: ReadTreeOptions = {},
): AsyncGenerator<{ readonly path: string; readonly node: Node }> {
  const start = await lookup(blobs, snapshot, path, options);
  const segments = segmentsOf(path);
  if (start.kind !== "directory") {
    yield { path: segments.join("/"), node: start };
    return;
  }
  const nodes = segments.length === 0
    ? await readRoot(blobs, snapshot, options)
    : await readDirectory(blobs, start.digest, options);
  // Folders being walked, outermost first, each with what is still to come of it.
  const open = [{ prefix: segments.map((segment) => `${segment}/`).join(""), rest: nodes.values() }];
  for (let folder = open.at(-1); folder !== undefined; folder = open.at(-1)) {
    const { value: node, done } = folder.rest.next();
    if (done) {
      open.pop();
      continue;
    }
    const nodePath = folder.prefix + node.name;
    yield { path: nodePath, node };
    if (node.kind !== "directory") continue;
    refuseDepth(open.length + segments.length, nodePath);
    open.push({
      prefix: `${nodePath}/`,
      rest: (await readDirectory(blobs, node.digest, options)).values(),
    });
  }
}

/** @throws {Fault} `TREE_INVALID` when a folder at this depth is too deep. */
export function refuseDepth(depth: number, path: string): void {
  if (depth < depthMax) return;
  throw new Fault(
    "TREE_INVALID",
    `Cannot read a tree as it must be at most ${depthMax} folders deep: current value is "${path.slice(0, 80)}…"`,
  );
}
