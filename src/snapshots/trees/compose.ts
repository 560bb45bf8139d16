import type { Digest } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import { encodeDirectory } from "../../protocol/reapi/canonical.ts";
import { type Blobs, digestOf } from "../blobs/blobs.ts";
import { lookup, readDirectory, readRoot, refuseDepth, segmentsOf } from "./read_tree.ts";
import type { Node } from "./tree.ts";

interface ComposeOptions {
  readonly signal?: AbortSignal;
}

/**
 * A tree with another laid over it: folders are joined, all else is the upper tree's where both have a name. Reads and
 * writes only the folders that both have and that differ; when it resolves, the store holds what is new.
 *
 * @throws {Fault} `SNAPSHOT_UNKNOWN`, `BLOB_MISSING`, `TREE_INVALID` for trees that cannot be read; what the store throws.
 */
export async function overlay(blobs: Blobs, base: Digest, top: Digest, options: ComposeOptions = {}): Promise<Digest> {
  const made = new Made(blobs, options);
  const lay = async (under: readonly Node[], over: Digest, depth: number, path: string): Promise<Digest> => {
    refuseDepth(depth, path);
    options.signal?.throwIfAborted();
    const nodes = new Map(under.map((node) => [node.name, node]));
    const upper = depth === 0 ? await readRoot(blobs, over, options) : await readDirectory(blobs, over, options);
    for (const node of upper) {
      const below = nodes.get(node.name);
      if (node.kind !== "directory" || below?.kind !== "directory" || below.digest === node.digest) {
        nodes.set(node.name, node);
        continue;
      }
      const inside = await readDirectory(blobs, below.digest, options);
      const digest = await lay(inside, node.digest, depth + 1, `${path}${node.name}/`);
      nodes.set(node.name, { ...node, digest });
    }
    return made.add([...nodes.values()]);
  };
  if (base === top) return base;
  const snapshot = await lay(await readRoot(blobs, base, options), top, 0, "");
  await made.store();
  return snapshot;
}

/** A tree, or what is at a path of one, and where it is mounted. */
export interface MountedPart {
  /** Relative to the tree that is made; "" or "." is its root. Folders above are made. */
  readonly path: string;
  readonly snapshot: Digest;
  /** Of the snapshot: what of it is mounted, a folder, file or symlink; all of it by default. */
  readonly subtree?: string;
  /** How people know it, for faults: "the output of deps"; by default the snapshot's digest. */
  readonly name?: string;
}

/** What parts put at one path, before anything is read of it. */
interface Mount {
  readonly here: { readonly node: Node; readonly part: MountedPart }[];
  readonly below: Map<string, Mount>;
}

const newMount = (): Mount => ({ here: [], below: new Map() });

/**
 * One tree of several, each mounted at a path. Folders that several have are joined; the order of the parts does not
 * matter. Reads and writes only the folders in which parts meet.
 *
 * @throws {Fault} `PATH_INVALID` naming both parts where two have a different file or symlink, or one a folder and the
 * other something else, and for a path that leads outside; `PATH_UNKNOWN` for a subtree that is not there;
 * `SNAPSHOT_UNKNOWN`, `BLOB_MISSING`, `TREE_INVALID` for trees that cannot be read; what the store throws.
 */
export async function mountTrees(
  blobs: Blobs,
  parts: readonly MountedPart[],
  options: ComposeOptions = {},
): Promise<Digest> {
  const root = newMount();
  for (const part of parts) {
    let at = root;
    const segments = segmentsOf(part.path);
    segments.forEach((_, depth) => refuseDepth(depth + 1, part.path));
    for (const segment of segments) {
      let next = at.below.get(segment);
      if (next === undefined) at.below.set(segment, next = newMount());
      at = next;
    }
    at.here.push({ node: await nodeOf(blobs, part, options), part });
  }
  const made = new Made(blobs, options);

  /** What is at a path in the end. */
  const settle = async (name: string, path: string, mount: Mount, depth: number): Promise<Node> => {
    refuseDepth(depth, path);
    options.signal?.throwIfAborted();
    const [first, ...others] = mount.here;
    if (first !== undefined) {
      const other = others.find(({ node }) => !isSameThing(first.node, node));
      const isOne = mount.below.size === 0 && other === undefined;
      if (isOne && (first.node.kind !== "directory" || depth > 0)) return { ...first.node, name };
      refuseMeeting(path, mount);
    }
    const below = new Map<string, Mount>();
    const read = new Set<Digest>();
    for (const { node, part } of mount.here) {
      if (node.kind !== "directory" || read.has(node.digest)) continue; // refused, if it were anything else
      read.add(node.digest);
      const nodes = node.digest === part.snapshot
        ? await readRoot(blobs, node.digest, options)
        : await readDirectory(blobs, node.digest, options);
      for (const inside of nodes) {
        let there = below.get(inside.name);
        if (there === undefined) below.set(inside.name, there = newMount());
        there.here.push({ node: inside, part });
      }
    }
    for (const [segment, { here, below: deeper }] of mount.below) {
      below.set(segment, { here: [...below.get(segment)?.here ?? [], ...here], below: deeper });
    }
    const nodes: Node[] = [];
    for (const [segment, inside] of below) {
      nodes.push(await settle(segment, path === "" ? segment : `${path}/${segment}`, inside, depth + 1));
    }
    return { kind: "directory", name, digest: made.add(nodes) };
  };
  const tree = await settle("", "", root, 0);
  await made.store();
  if (tree.kind === "directory") return tree.digest;
  const [only] = root.here;
  throw new Fault(
    "PATH_INVALID",
    `Cannot mount ${nameOf(only!.part)} at "." as that must be a folder: current value is a ${tree.kind}`,
  );
}

async function nodeOf(blobs: Blobs, part: MountedPart, options: ComposeOptions): Promise<Node> {
  try {
    return await lookup(blobs, part.snapshot, part.subtree ?? "", options);
  } catch (error) {
    if (!isFault(error, "PATH_UNKNOWN")) throw error;
    throw new Fault(error.code, `Cannot mount ${nameOf(part)}: ${error.message}`, { cause: error });
  }
}

function isSameThing(a: Node, b: Node): boolean {
  if (a.kind === "symlink") return b.kind === "symlink" && a.target === b.target;
  if (a.kind === "directory") return b.kind === "directory" && a.digest === b.digest;
  return b.kind === "file" && a.digest === b.digest && a.executable === b.executable;
}

/** Parts may meet in a folder that each of them has. @param path "" for the root. */
function refuseMeeting(path: string, { here, below }: Mount): void {
  const odd = here.find(({ node }) => node.kind !== "directory");
  if (odd === undefined) return;
  const other = here.find(({ node, part }) => part !== odd.part && !isSameThing(odd.node, node))?.part ??
    partBelow(below) ?? odd.part;
  if (here.length === 1 && other === odd.part) return;
  throw new Fault(
    "PATH_INVALID",
    `Cannot put ${nameOf(odd.part)} and ${nameOf(other)} into one tree as "${
      path === "" ? "." : path
    }" must be a folder in both, or the same: it is a ${odd.node.kind} in the former`,
  );
}

function partBelow(below: Mount["below"]): MountedPart | undefined {
  for (const mount of below.values()) {
    const found = mount.here[0]?.part ?? partBelow(mount.below);
    if (found !== undefined) return found;
  }
  return undefined;
}

const nameOf = ({ name, snapshot, subtree, path }: MountedPart): string =>
  `${name ?? snapshot.slice(0, 12)}${subtree === undefined ? "" : ` (its "${subtree}")`} at "${
    path === "" ? "." : path
  }"`;

/** Directories that were made, until the store has them. */
class Made {
  #blobs: Blobs;
  #options: ComposeOptions;
  #bytes = new Map<Digest, Uint8Array>();

  constructor(blobs: Blobs, options: ComposeOptions) {
    this.#blobs = blobs;
    this.#options = options;
  }

  add(nodes: readonly Node[]): Digest {
    const bytes = encodeDirectory(nodes);
    const digest = digestOf(bytes);
    this.#bytes.set(digest, bytes);
    return digest;
  }

  async store(): Promise<void> {
    const missing = await this.#blobs.missing(new Set(this.#bytes.keys()));
    const puts = [...missing].map((digest) => this.#blobs.put(digest, this.#bytes.get(digest)!, this.#options));
    // All of them, so that nothing goes on behind the caller's back.
    for (const result of await Promise.allSettled(puts)) if (result.status === "rejected") throw result.reason;
  }
}
