import { type Digest, emptyDigest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { decodeDirectory, decodeTree, encodeDirectory } from "../../protocol/reapi/canonical.ts";
import { type Blobs, digestOf, readBlob, writeBlob } from "../blobs/blobs.ts";
import type { ActionOutputs } from "./action_outputs.ts";
import { type MountedPart, mountTrees } from "./compose.ts";
import { segmentsOf } from "./read_tree.ts";
import type { Node } from "./tree.ts";

/** As what a result refers to is read elsewhere: about two million files. */
const treeBytesMax = 256 * 1024 * 1024;
const putsAtOnce = 200;

/**
 * What an action made, which its `ActionResult` lists, as one tree of the same things at their paths: a snapshot, whose
 * folders are in the store when it resolves. No file is read.
 *
 * @throws {Fault} `PATH_INVALID` for a path that leads outside, or two outputs that cannot both be; `TREE_INVALID`,
 * `BLOB_MISSING` for a folder that cannot be read; what the store throws.
 */
export async function outputTree(
  blobs: Blobs,
  outputs: ActionOutputs,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Digest> {
  const parts: MountedPart[] = [];
  /** A file or symlink, in a folder of its own until it is mounted. */
  const add = async (path: string, node: (name: string) => Node): Promise<void> => {
    const segments = segmentsOf(path);
    const name = segments.pop();
    if (name === undefined) throw new Fault("PATH_INVALID", `Cannot use "${path}" as a file's path: it must name one`);
    const snapshot = await writeBlob(blobs, encodeDirectory([node(name)]));
    parts.push({ path: segments.join("/"), snapshot, name: path });
  };
  const symlinks = new Map(
    [...outputs.outputSymlinks, ...outputs.outputFileSymlinks, ...outputs.outputDirectorySymlinks]
      .map(({ path, target }) => [path, target]),
  );
  for (const { path, digest, executable } of outputs.outputFiles) {
    await add(path, (name) => ({ kind: "file", name, digest, executable }));
  }
  for (const [path, target] of symlinks) await add(path, (name) => ({ kind: "symlink", name, target }));
  for (const { path, rootDirectory, tree } of outputs.outputDirectories) {
    const snapshot = rootDirectory ?? (tree === undefined ? emptyDigest : await foldersOf(blobs, tree, options));
    parts.push({ path, snapshot, name: path });
  }
  return await mountTrees(blobs, parts, options);
}

/** Stores the folders of a `Tree`. @returns its root. */
async function foldersOf(
  blobs: Blobs,
  tree: Digest,
  options: { readonly signal?: AbortSignal },
): Promise<Digest> {
  const { root, children } = decodeTree(await readBlob(blobs, tree, treeBytesMax, options));
  const folders = new Map([root, ...children].map((bytes) => [digestOf(bytes), bytes]));
  for (const bytes of folders.values()) {
    const lost = decodeDirectory(bytes).find((node) =>
      node.kind === "directory" && node.digest !== emptyDigest && !folders.has(node.digest)
    );
    if (lost === undefined) continue;
    throw new Fault("TREE_INVALID", `Cannot read tree ${tree} as it must hold its folder "${lost.name}": it does not`);
  }
  const all = [...folders];
  for (let at = 0; at < all.length; at += putsAtOnce) {
    await Promise.all(all.slice(at, at + putsAtOnce).map(([digest, bytes]) => blobs.put(digest, bytes, options)));
  }
  return digestOf(root);
}
