import fc from "fast-check";
import { expect, test } from "vitest";
import { type Digest, emptyDigest } from "../../../src/domain/digest.ts";
import { encodeDirectory } from "../../../src/protocol/reapi/canonical.ts";
import { type Blobs, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { diffTrees, type TreeChange } from "../../../src/snapshots/trees/diff.ts";
import type { Node } from "../../../src/snapshots/trees/tree.ts";

/** A folder as a record: a text is a file, "#!…" one that may run, "-> x" a symlink to x. */
interface Tree {
  readonly [name: string]: string | Tree;
}
async function stored(blobs: Blobs, tree: Tree): Promise<Digest> {
  const nodes: Node[] = [];
  for (const [name, content] of Object.entries(tree)) {
    if (typeof content !== "string") nodes.push({ kind: "directory", name, digest: await stored(blobs, content) });
    else if (content.startsWith("-> ")) nodes.push({ kind: "symlink", name, target: content.slice(3) });
    else {
      const digest = await writeBlob(blobs, Buffer.from(content));
      nodes.push({ kind: "file", name, digest, executable: content.startsWith("#!") });
    }
  }
  return await writeBlob(blobs, encodeDirectory(nodes));
}
async function differences(blobs: Blobs, before: Tree, after: Tree): Promise<TreeChange[]> {
  const found = [];
  for await (const change of diffTrees(blobs, await stored(blobs, before), await stored(blobs, after))) {
    found.push(change);
  }
  return found;
}
const shown = ({ path, before, after }: TreeChange): string =>
  `${before === undefined ? "+" : after === undefined ? "-" : "~"} ${path}`;

test("names files, links and whole folders that came, went or changed, by path", async () => {
  const before = { same: "s", a: { b: "1", gone: "g", link: "-> x" }, old: { deep: { er: "1" } }, kind: "file" };
  const after = { same: "s", a: { b: "2", link: "-> y", tool: "#!sh" }, new: { f: "1" }, kind: { now: "folder" } };
  const found = await differences(memoryBlobs(), before, after);
  expect(found.map(shown)).toEqual(["~ a/b", "- a/gone", "~ a/link", "+ a/tool", "~ kind", "+ new", "- old"]);
});

test("an execute bit is a difference", async () => {
  const blobs = memoryBlobs();
  const digest = await writeBlob(blobs, Buffer.from("x"));
  const tree = (executable: boolean): Promise<Digest> =>
    writeBlob(blobs, encodeDirectory([{ kind: "file", name: "f", digest, executable }]));
  const found = [];
  for await (const change of diffTrees(blobs, await tree(false), await tree(true))) found.push(shown(change));
  expect(found).toEqual(["~ f"]);
});

test("reads nothing of what is the same, and needs no blob for the empty tree", async () => {
  const blobs = memoryBlobs();
  const big = { deep: { a: { b: { c: "1" } } } };
  const [one, two] = [await stored(blobs, { ...big, f: "1" }), await stored(blobs, { ...big, f: "2" })];
  const read: Digest[] = [];
  const watched: Blobs = {
    ...blobs,
    get(digest, options) {
      read.push(digest);
      return blobs.get(digest, options);
    },
  };
  delete (watched as { peek?: unknown }).peek;
  for await (const _ of diffTrees(watched, one, two)) { /* all */ }
  expect(read.sort()).toEqual([one, two].sort());
  const found = [];
  for await (const change of diffTrees(blobs, emptyDigest, one)) found.push(shown(change));
  expect(found).toEqual(["+ deep", "+ f"]);
});

const trees: fc.Arbitrary<Tree> = fc.letrec<{ tree: Tree; entry: string | Tree }>((tie) => ({
  tree: fc.dictionary(fc.constantFrom("a", "b", "c"), tie("entry"), { maxKeys: 3, noNullPrototype: true }),
  entry: fc.oneof({ maxDepth: 3 }, fc.constantFrom("1", "2", "-> x"), tie("tree")),
})).tree;

test("for any two trees: none if they are one, and each change is told once, the other way round too", async () => {
  await fc.assert(fc.asyncProperty(trees, trees, async (before, after) => {
    const blobs = memoryBlobs();
    const found = await differences(blobs, before, after);
    expect(found.length === 0).toBe(await stored(blobs, before) === await stored(blobs, after));
    const paths = found.map(({ path }) => path);
    expect(new Set(paths).size).toBe(paths.length);
    const back = await differences(blobs, after, before);
    expect(back.map(({ path, before: b, after: a }) => ({ path, before: a, after: b }))).toEqual(
      found.map(({ path, before: b, after: a }) => ({ path, before: b, after: a })),
    );
  }));
});
