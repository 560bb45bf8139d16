import type { ActionResultData } from "../../domain/action_result.ts";
import { type Digest, emptyDigest } from "../../domain/digest.ts";
import { isFault } from "../../domain/fault.ts";
import { decodeDirectory, decodeTree } from "../../protocol/reapi/canonical.ts";
import { type Blobs, readBlob } from "../blobs/blobs.ts";

/** A Tree of more encoded bytes counts as absent: about two million files. */
const treeBytesMax = 256 * 1024 * 1024;

/** Of the blobs that are absent so many are named. */
const namedMax = 100;

/**
 * What a result refers to and is not there, at most so many; all that is there is kept from being collected soon.
 * Trees are read; a blob that is no tree counts as absent.
 */
export async function absentOf(
  blobs: Blobs,
  result: ActionResultData,
  signal?: AbortSignal,
): Promise<readonly Digest[]> {
  const options = signal === undefined ? {} : { signal };
  const absent = new Set<Digest>();
  const asked = new Set<Digest>([emptyDigest]);
  const ask = async (digests: Iterable<Digest>): Promise<void> => {
    const fresh = new Set<Digest>();
    for (const digest of digests) if (!asked.has(digest)) fresh.add(digest);
    if (fresh.size === 0) return;
    for (const digest of fresh) asked.add(digest);
    for (const digest of await blobs.missing(fresh)) absent.add(digest);
  };
  const direct = new Set<Digest>(result.outputFiles.map(({ digest }) => digest));
  for (const digest of [result.stdout, result.stderr]) if (digest !== undefined) direct.add(digest);
  for (const { tree, rootDirectory } of result.outputDirectories) {
    if (tree !== undefined) direct.add(tree);
    if (rootDirectory !== undefined) direct.add(rootDirectory);
  }
  await ask(direct);
  /** Reads what is there; what cannot be read as what it should be counts as absent. */
  const read = async <Value>(digest: Digest, decode: (bytes: Uint8Array) => Value): Promise<Value | undefined> => {
    if (absent.has(digest)) return undefined;
    try {
      return decode(await readBlob(blobs, digest, treeBytesMax, options));
    } catch (error) {
      const isUnfit = (["BLOB_MISSING", "TREE_INVALID", "PATH_INVALID", "REQUEST_INVALID"] as const)
        .some((code) => isFault(error, code));
      if (!isUnfit) throw error;
      absent.add(digest);
      return undefined;
    }
  };
  const walked = new Set<Digest>();
  for (const { tree, rootDirectory } of result.outputDirectories) {
    if (tree !== undefined && !walked.has(tree) && absent.size < namedMax) {
      walked.add(tree);
      const files = await read(tree, (bytes) => {
        const { root, children } = decodeTree(bytes);
        return [root, ...children].flatMap((each) => decodeDirectory(each))
          .flatMap((node) => node.kind === "file" ? [node.digest] : []);
      });
      await ask(files ?? []);
    }
    const open = rootDirectory === undefined ? [] : [rootDirectory];
    for (let digest = open.pop(); digest !== undefined && absent.size < namedMax; digest = open.pop()) {
      if (walked.has(digest)) continue;
      walked.add(digest);
      const nodes = await read(digest, decodeDirectory) ?? [];
      await ask(nodes.flatMap((node) => node.kind === "symlink" ? [] : [node.digest]));
      for (const node of nodes) if (node.kind === "directory") open.push(node.digest);
    }
  }
  return [...absent].slice(0, namedMax);
}
