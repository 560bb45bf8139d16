import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { type Digest, emptyDigest } from "../../../src/domain/digest.ts";
import { encodeDirectory } from "../../../src/protocol/reapi/canonical.ts";
import { type Blobs, readBlob, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { mountTrees, overlay } from "../../../src/snapshots/trees/compose.ts";
import { lookup, walk } from "../../../src/snapshots/trees/read_tree.ts";
import type { Node } from "../../../src/snapshots/trees/tree.ts";

let blobs: Blobs;
beforeEach(() => {
  blobs = memoryBlobs();
});

/** A folder as a record: a text is a file, "-> x" a symlink to x. */
interface Tree {
  readonly [name: string]: string | Tree;
}
async function stored(tree: Tree): Promise<Digest> {
  const nodes: Node[] = [];
  for (const [name, content] of Object.entries(tree)) {
    if (typeof content !== "string") nodes.push({ kind: "directory", name, digest: await stored(content) });
    else if (content.startsWith("-> ")) nodes.push({ kind: "symlink", name, target: content.slice(3) });
    else {nodes.push({
        kind: "file",
        name,
        digest: await writeBlob(blobs, Buffer.from(content)),
        executable: content.startsWith("#!"),
      });}
  }
  return await writeBlob(blobs, encodeDirectory(nodes));
}
async function read(snapshot: Digest): Promise<Tree> {
  const top: Record<string, string | Tree> = {};
  for await (const { path, node } of walk(blobs, snapshot)) {
    const segments = path.split("/");
    let at = top;
    for (const segment of segments.slice(0, -1)) at = at[segment] as Record<string, string | Tree>;
    at[node.name] = node.kind === "directory"
      ? {}
      : node.kind === "symlink"
      ? `-> ${node.target}`
      : Buffer.from(await readBlob(blobs, node.digest, 1e6)).toString();
  }
  return top;
}
const anyTree = fc.letrec<{ tree: Tree; entry: string | Tree }>((tie) => ({
  tree: fc.dictionary(fc.constantFrom("a", "b", "c", "d"), tie("entry"), { maxKeys: 4, noNullPrototype: true }),
  entry: fc.oneof({ maxDepth: 3 }, fc.constantFrom("1", "2", "#!", "-> x", "-> y"), tie("tree")),
})).tree;

const laidOver = (base: Tree, top: Tree): Tree => {
  const all: Record<string, string | Tree> = { ...base };
  for (const [name, over] of Object.entries(top)) {
    const under = all[name];
    all[name] = typeof over === "object" && typeof under === "object" ? laidOver(under, over) : over;
  }
  return all;
};

describe("overlay()", () => {
  test("joins folders and takes all else from the upper tree", async () => {
    await fc.assert(fc.asyncProperty(anyTree, anyTree, async (base, top) => {
      const snapshot = await overlay(blobs, await stored(base), await stored(top));
      expect(snapshot).toBe(await stored(laidOver(base, top)));
    }));
  });

  test("reads and writes only folders that both have and that differ", async () => {
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`d${i}`, { deep: { f: `${i}` } }]));
    const base = await stored({ ...many, src: { a: "1", same: { b: "2" } } });
    const top = await stored({ src: { c: "3", same: { b: "2" } } });
    const read: Digest[] = [];
    const put: Digest[] = [];
    const counted: Blobs = {
      ...blobs,
      peek(digest) {
        read.push(digest);
        return blobs.peek!(digest);
      },
      put(digest, bytes) {
        put.push(digest);
        return blobs.put(digest, bytes);
      },
    };
    const snapshot = await overlay(counted, base, top);
    expect(read).toHaveLength(4);
    expect(put).toHaveLength(2);
    expect(await overlay(counted, snapshot, top)).toBe(snapshot);
    expect(put).toHaveLength(2);
  });

  test("reports a tree that the store does not hold", async () => {
    const here = await stored({ a: "1" });
    const away = `${"0".repeat(64)}/5` as Digest;
    await expect(overlay(blobs, away, here)).rejects.toMatchObject({ code: "SNAPSHOT_UNKNOWN" });
    await expect(overlay(blobs, here, away)).rejects.toMatchObject({ code: "SNAPSHOT_UNKNOWN" });
  });
});

describe("mountTrees()", () => {
  test("puts each tree, or a part of one, at its path", async () => {
    const source = await stored({ "package.json": "{}", src: { a: "1" }, tool: "#!x" });
    const deps = await stored({ node_modules: { x: { "index.js": "2" } }, log: "3" });
    const snapshot = await mountTrees(blobs, [
      { path: ".", snapshot: source },
      { path: "./node_modules/", snapshot: deps, subtree: "node_modules" },
      { path: "deep/er/log.txt", snapshot: deps, subtree: "log" },
      { path: "deep/tool", snapshot: source, subtree: "tool" },
    ]);
    expect(await read(snapshot)).toEqual({
      "package.json": "{}",
      src: { a: "1" },
      tool: "#!x",
      node_modules: { x: { "index.js": "2" } },
      deep: { er: { "log.txt": "3" }, tool: "#!x" },
    });
    expect(await lookup(blobs, snapshot, "deep/tool")).toMatchObject({ executable: true });
  });

  test("of one tree at the root is that tree; of none, the empty one", async () => {
    const snapshot = await stored({ a: { b: "1" } });
    expect(await mountTrees(blobs, [{ path: "", snapshot }])).toBe(snapshot);
    expect(await mountTrees(blobs, [{ path: "", snapshot }, { path: "", snapshot }])).toBe(snapshot);
    expect(await mountTrees(blobs, [])).toBe(emptyDigest);
  });

  test("gives the same tree, or a refusal, in whatever order", async () => {
    const settled = (parts: readonly { readonly path: string; readonly snapshot: Digest }[]): Promise<string> =>
      mountTrees(blobs, parts).catch(({ code }) => code);
    const anyPart = fc.tuple(fc.constantFrom("", "a", "b", "a/b", "a/b/c"), anyTree);
    await fc.assert(fc.asyncProperty(fc.array(anyPart, { maxLength: 4 }), async (given) => {
      const parts = [];
      for (const [path, tree] of given) parts.push({ path, snapshot: await stored(tree) });
      const result = await settled(parts);
      expect(await settled(parts.toReversed())).toBe(result);
      if (result === "PATH_INVALID") return;
      // What is accepted has all of each part, and nothing else.
      let all: Tree = {};
      for (const [path, tree] of given) {
        const nested = path === ""
          ? tree
          : path.split("/").reduceRight<Tree>((inner, name) => ({ [name]: inner }), tree);
        const joined = laidOver(all, nested);
        expect(joined).toEqual(laidOver(nested, all));
        all = joined;
      }
      expect(result).toBe(await stored(all));
    }));
  });

  test("refuses two files at one path, and a mount over or in a file, with both names", async () => {
    const one = await stored({ a: { b: "1" }, f: "x", l: "-> a" });
    const two = await stored({ a: { b: "2" } });
    const refused = (path: string, snapshot: Digest) =>
      expect(mountTrees(blobs, [
        { path: ".", snapshot: one, name: "the folder" },
        { path, snapshot, name: "the output of deps" },
      ])).rejects;
    for (const [path, at] of [[".", "a/b"], ["f", "f"], ["f/deep/er", "f"], ["l/x", "l"], ["a/b", "a/b"]] as const) {
      await refused(path, two).toMatchObject({
        code: "PATH_INVALID",
        message: expect.stringMatching(new RegExp(`the folder at "\\.".*the output of deps at "${path}".*"${at}"`)),
      });
    }
  });

  test("refuses paths that lead outside, subtrees that are not there, and a file as the root", async () => {
    const snapshot = await stored({ f: "x" });
    await expect(mountTrees(blobs, [{ path: "../x", snapshot }])).rejects.toMatchObject({ code: "PATH_INVALID" });
    await expect(mountTrees(blobs, [{ path: "/x", snapshot }])).rejects.toMatchObject({ code: "PATH_INVALID" });
    await expect(mountTrees(blobs, [{ path: "x", snapshot, subtree: "y" }])).rejects.toMatchObject({
      code: "PATH_UNKNOWN",
    });
    await expect(mountTrees(blobs, [{ path: ".", snapshot, subtree: "f" }])).rejects.toMatchObject({
      code: "PATH_INVALID",
    });
    await expect(mountTrees(blobs, [{ path: "x/".repeat(1001), snapshot }])).rejects.toMatchObject({
      code: "TREE_INVALID",
    });
  });
});
