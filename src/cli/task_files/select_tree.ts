import { type Digest, emptyDigest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import { encodeDirectory } from "../../protocol/reapi/canonical.ts";
import { type Blobs, digestOf } from "../../snapshots/blobs/blobs.ts";
import { compileGlob, type GlobPlace, placesBelow } from "../../snapshots/trees/output_glob.ts";
import { readDirectory } from "../../snapshots/trees/read_tree.ts";
import type { Node } from "../../snapshots/trees/tree.ts";

/** Takes parts of one tree; each folder is read once, however many parts are taken. */
export interface TreeSelection {
  /**
   * What the globs match, as a tree that is kept in the store. A folder that one matches is taken whole.
   *
   * @throws {Fault} `PATH_UNKNOWN` naming the globs that match nothing.
   */
  select(globs: readonly string[]): Promise<Digest>;
}

export function selectionOf(blobs: Blobs, snapshot: Digest): TreeSelection {
  const read = new Map<Digest, Promise<readonly Node[]>>();
  const nodesOf = (digest: Digest): Promise<readonly Node[]> => {
    if (digest === emptyDigest) return Promise.resolve([]);
    let nodes = read.get(digest);
    if (nodes === undefined) read.set(digest, nodes = readDirectory(blobs, digest));
    return nodes;
  };
  const selected = new Map<string, Promise<Digest>>();

  const select = async (globs: readonly string[]): Promise<Digest> => {
    const unmatched = new Set(globs);
    const made = new Map<Digest, Uint8Array>();
    const add = (nodes: readonly Node[]): Digest => {
      const bytes = encodeDirectory(nodes);
      const digest = digestOf(bytes);
      made.set(digest, bytes);
      return digest;
    };
    const inside = async (nodes: readonly Node[], places: readonly GlobPlace[]): Promise<readonly Node[]> => {
      const taken = await Promise.all(nodes.map(async (node): Promise<Node | undefined> => {
        const below = placesBelow(places, node.name);
        for (const glob of below.ended) unmatched.delete(glob.text);
        if (node.kind !== "directory" || below.places.length === 0) return below.ended.length > 0 ? node : undefined;
        // Read even where it is taken whole, so that globs which match in it are known to.
        const part = below.ended.length > 0 && unmatched.size === 0
          ? undefined
          : await inside(await nodesOf(node.digest), below.places);
        if (below.ended.length > 0) return node;
        return part === undefined || part.length === 0 ? undefined : { ...node, digest: add(part) };
      }));
      return taken.filter((node) => node !== undefined);
    };
    const places = globs.map((text) => compileGlob(text)).map((glob) => ({ glob, at: glob.start }));
    const root = add(await inside(await nodesOf(snapshot), places));
    if (unmatched.size > 0) {
      const names = [...unmatched].map((glob) => `"${glob}"`).join(", ");
      throw new Fault(
        "PATH_UNKNOWN",
        `Cannot take ${names} as each input must match something that is captured: ${
          unmatched.size === 1 ? "it matches" : "they match"
        } nothing (what ignore rules leave out must be named without * or ?)`,
      );
    }
    const missing = await blobs.missing(new Set(made.keys()));
    await Promise.all([...missing].map((digest) => blobs.put(digest, made.get(digest)!)));
    return root;
  };
  return {
    select(globs) {
      const key = JSON.stringify(globs);
      let digest = selected.get(key);
      if (digest === undefined) selected.set(key, digest = select(globs));
      return digest;
    },
  };
}
