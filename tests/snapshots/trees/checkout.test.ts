import { spawnSync } from "node:child_process";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Digest, digestOfHash, emptyDigest } from "../../../src/domain/digest.ts";
import { Fault } from "../../../src/domain/fault.ts";
import { encodeDirectory } from "../../../src/protocol/reapi/canonical.ts";
import { realClock, sleep } from "../../../src/runtime/clock.ts";
import { type Blobs, digestOf, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { capture } from "../../../src/snapshots/trees/capture.ts";
import { captureOutputs } from "../../../src/snapshots/trees/outputs.ts";
import { bringBack, checkout, checkoutMtimeSeconds } from "../../../src/snapshots/trees/checkout.ts";
import { depthMax, lookup, readDirectory, walk } from "../../../src/snapshots/trees/read_tree.ts";
import type { Node } from "../../../src/snapshots/trees/tree.ts";
import { temporaryFolder, writeTree } from "./git_repositories.ts";

let top: string;
let dir: string;
let remove: () => void;
let blobs: Blobs;
beforeEach(() => {
  ({ dir: top, remove } = temporaryFolder());
  dir = join(top, "out");
  blobs = memoryBlobs();
});
afterEach(() => remove());

const text = (content: string): Promise<Digest> => writeBlob(blobs, Buffer.from(content));
const folder = (...nodes: Node[]): Promise<Digest> => writeBlob(blobs, encodeDirectory(nodes));
const file = async (name: string, content: string, executable = false): Promise<Node> => (
  { kind: "file", name, digest: await text(content), executable }
);
const link = (name: string, target: string): Node => ({ kind: "symlink", name, target });
const within = async (name: string, ...nodes: Node[]): Promise<Node> => (
  { kind: "directory", name, digest: await folder(...nodes) }
);
const modeOf = (path: string): number => lstatSync(join(dir, path)).mode & 0o777;
/** A store that must be waited for. */
const distant = (inner: Blobs): Blobs => {
  const { peek: _, ...rest } = inner;
  return rest;
};

describe("checkout()", () => {
  test("N-11: writes files with their modes whatever the umask, symlinks as they are, empty folders and one fixed time", async () => {
    const snapshot = await folder(
      await file("plain", "hello"),
      await file("run", "#!", true),
      await file("nothing", ""),
      link("dangling", "../../nowhere"),
      link("rooted", "/etc/passwd"),
      await within("empty"),
      await within("src", await within("deep", await file("é", "1"))),
    );
    const before = process.umask(0o077);
    try {
      expect(await checkout({ snapshot, dir, blobs })).toEqual({ files: 4, bytes: 8 });
    } finally {
      process.umask(before);
    }
    expect(readFileSync(join(dir, "plain"), "utf8")).toBe("hello");
    expect(readFileSync(join(dir, "src/deep/é"), "utf8")).toBe("1");
    expect(readFileSync(join(dir, "nothing"), "utf8")).toBe("");
    expect([modeOf("plain"), modeOf("run"), modeOf("empty"), modeOf("src/deep")]).toEqual([0o644, 0o755, 0o755, 0o755]);
    expect(readlinkSync(join(dir, "dangling"))).toBe("../../nowhere");
    expect(readlinkSync(join(dir, "rooted"))).toBe("/etc/passwd");
    for (const path of ["", "plain", "run", "empty", "src", "src/deep", "src/deep/é"]) {
      expect(statSync(join(dir, path)).mtimeMs).toBe(checkoutMtimeSeconds * 1000);
    }
  });

  test("gives back by capture what it was given, whatever the tree", async () => {
    const anyName = fc.constantFrom("a", "b", "c", "é", ".env", ".git", "A b", "😀", "\uffff");
    const anyTree = fc.letrec<{ nodes: unknown[][]; node: unknown[] }>((tie) => ({
      nodes: fc.uniqueArray(tie("node"), { selector: ([name]) => name, maxLength: 5 }),
      node: fc.oneof(
        { maxDepth: 4 },
        fc.tuple(anyName, fc.constantFrom("link", "text", "program"), fc.constantFrom("x", "../y", "z".repeat(300))),
        fc.tuple(anyName, fc.constant("folder"), tie("nodes")),
      ),
    })).nodes;
    const build = async (nodes: unknown[][]): Promise<Digest> =>
      folder(
        ...await Promise.all(nodes.map(async ([name, kind, content]): Promise<Node> =>
          kind === "folder"
            ? { kind: "directory", name: name as string, digest: await build(content as unknown[][]) }
            : kind === "link"
            ? link(name as string, content as string)
            : await file(name as string, content as string, kind === "program")
        )),
      );
    let count = 0;
    await fc.assert(
      fc.asyncProperty(anyTree, fc.boolean(), async (nodes, isDistant) => {
        const snapshot = await build(nodes);
        const into = join(dir, `${++count}`);
        await checkout({ snapshot, dir: into, blobs: isDistant ? distant(blobs) : blobs });
        expect(await captureOutputs({ dir: into, paths: [""], blobs, clock: realClock })).toBe(snapshot);
      }),
      { numRuns: 50 },
    );
  });

  test("streams large files from a store that must be waited for", async () => {
    const content = "0123456789abcdef".repeat(200_000);
    const snapshot = await folder(await file("big", content), await file("small", "s"));
    expect(await checkout({ snapshot, dir, blobs: distant(blobs) })).toEqual({ files: 2, bytes: content.length + 1 });
    expect(readFileSync(join(dir, "big"), "utf8") === content).toBe(true);
  });

  test("tells its progress, and ends with the signal's reason when it is aborted", async () => {
    const nodes = await Promise.all(Array.from({ length: 300 }, (_, i) => file(`f${i}`, `${i}`)));
    const snapshot = await folder(...nodes);
    const seen: number[] = [];
    await checkout({ snapshot, dir, blobs, onProgress: ({ files }) => seen.push(files) });
    expect(seen.length).toBeGreaterThan(3);
    expect(seen.at(-1)).toBe(300);
    const reason = new Error("enough");
    const controller = new AbortController();
    const aborted = checkout({
      snapshot,
      dir: join(top, "again"),
      blobs,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    });
    await expect(aborted).rejects.toBe(reason);
    expect(readdirSync(join(top, "again")).length).toBeLessThan(300);
  });

  test("refuses a folder that is not empty, and a path that is a file", async () => {
    writeTree(top, { "out/there": "", "file": "" });
    const snapshot = await folder();
    await expect(checkout({ snapshot, dir, blobs })).rejects.toMatchObject({ code: "CHECKOUT_FAILED" });
    await expect(checkout({ snapshot, dir: join(top, "file"), blobs })).rejects.toMatchObject({
      code: "CHECKOUT_FAILED",
    });
  });

  test("says which snapshot or blob the store lacks", async () => {
    const absent = digestOfHash("ab".repeat(32), 5);
    await expect(checkout({ snapshot: absent, dir, blobs })).rejects.toMatchObject({
      code: "SNAPSHOT_UNKNOWN",
      message: expect.stringContaining(absent),
    });
    for (const kind of ["file", "directory"] as const) {
      const snapshot = await folder({ kind, name: "a", digest: absent, executable: false });
      await expect(checkout({ snapshot, dir: join(top, kind), blobs })).rejects.toMatchObject({
        code: "BLOB_MISSING",
        message: expect.stringContaining(absent),
      });
    }
  });

  test("takes away no other fault of the store, and leaves nothing under way", async () => {
    const nodes = await Promise.all(Array.from({ length: 40 }, (_, i) => file(`f${i}`, `${i}`)));
    const snapshot = await folder(...nodes);
    let under = 0;
    const failing: Blobs = {
      ...distant(blobs),
      async *get(digest) {
        if (digest === snapshot) return yield* blobs.get(digest);
        under++;
        await new Promise((resolve) => setImmediate(resolve));
        under--;
        throw new Fault("STORE_CORRUPT", "Cannot read it");
      },
    };
    await expect(checkout({ snapshot, dir, blobs: failing })).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    expect(under).toBe(0);
  });

  test("refuses trees that are no trees, that are too deep, and that have too many entries", async () => {
    const garbage = await text("no directory at all");
    await expect(checkout({ snapshot: garbage, dir, blobs })).rejects.toMatchObject({ code: "TREE_INVALID" });

    let deep = emptyDigest;
    for (let i = 0; i <= depthMax; i++) deep = await folder({ kind: "directory", name: "d", digest: deep });
    await expect(checkout({ snapshot: deep, dir: join(top, "deep"), blobs })).rejects.toMatchObject({
      code: "TREE_INVALID",
    });

    // Thirty small blobs that name 2^30 folders.
    let bomb = emptyDigest;
    for (let i = 0; i < 30; i++) {
      bomb = await folder(
        { kind: "directory", name: "a", digest: bomb },
        { kind: "directory", name: "b", digest: bomb },
      );
    }
    await expect(checkout({ snapshot: bomb, dir: join(top, "bomb"), blobs, entriesMax: 500 })).rejects.toMatchObject({
      code: "TREE_INVALID",
      message: expect.stringContaining("500"),
    });
  });

  test("refuses names that lead elsewhere, before it writes anything there", async () => {
    // What encodeDirectory would not write: an honest name is replaced by one of the same length.
    const honest = Buffer.from(encodeDirectory([await file("abcdefghij", "x")]));
    for (const name of ["../escaped", "abc/../def", "/etc/hosts", "abcdefghi\0"]) {
      const bytes = Buffer.from(honest);
      bytes.write(name, bytes.indexOf("abcdefghij"));
      const snapshot = await writeBlob(blobs, bytes);
      await expect(checkout({ snapshot, dir, blobs })).rejects.toMatchObject({ code: "PATH_INVALID" });
    }
    expect(readdirSync(top)).toEqual(["out"]);
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe("bringBack()", () => {
  beforeEach(() => mkdirSync(dir));

  test("replaces files in one step, joins folders and leaves everything else", async () => {
    writeTree(dir, { "same": "old", "src/kept": "kept", "link-to-be": "old" });
    chmodSync(join(dir, "same"), 0o600);
    symlinkSync("/etc/passwd", join(dir, "was-link"));
    const snapshot = await folder(
      await file("same", "new", true),
      await file("was-link", "now a file"),
      link("link-to-be", "same"),
      await within("src", await file("new", "1"), await file("nothing", "")),
      await within("made", await within("deep")),
    );
    const opened = lstatSync(join(dir, "same")).ino;
    expect(await bringBack({ snapshot, dir, blobs })).toEqual({ files: 4, bytes: 14 });
    expect(readFileSync(join(dir, "same"), "utf8")).toBe("new");
    expect(modeOf("same")).toBe(0o755);
    expect(lstatSync(join(dir, "same")).ino).not.toBe(opened);
    expect(lstatSync(join(dir, "was-link")).isFile()).toBe(true);
    expect(readFileSync("/etc/passwd", "utf8")).not.toBe("now a file");
    expect(readlinkSync(join(dir, "link-to-be"))).toBe("same");
    expect(readdirSync(join(dir, "src")).sort()).toEqual(["kept", "new", "nothing"]);
    expect(readdirSync(dir).sort()).toEqual(["link-to-be", "made", "same", "src", "was-link"]);
    expect(readdirSync(join(dir, "made"))).toEqual(["deep"]);
  });

  test("goes through a symlink to a folder inside, and refuses one that leads outside", async () => {
    mkdirSync(join(dir, "real"));
    mkdirSync(join(top, "elsewhere"));
    symlinkSync("real", join(dir, "inside"));
    symlinkSync("../elsewhere", join(dir, "outside"));
    symlinkSync("nowhere", join(dir, "dangling"));
    await bringBack({ snapshot: await folder(await within("inside", await file("a", "1"))), dir, blobs });
    expect(readFileSync(join(dir, "real/a"), "utf8")).toBe("1");
    for (const name of ["outside", "dangling"]) {
      const snapshot = await folder(await within(name, await file("a", "1")));
      await expect(bringBack({ snapshot, dir, blobs })).rejects.toMatchObject({ code: "PATH_INVALID" });
    }
    expect(readdirSync(join(top, "elsewhere"))).toEqual([]);
  });

  test("refuses to put a file where a folder is, or a folder where a file is", async () => {
    writeTree(dir, { "folder/a": "1", "file": "2" });
    for (const node of [await file("folder", "x"), link("folder", "x"), await within("file")]) {
      await expect(bringBack({ snapshot: await folder(node), dir, blobs })).rejects.toMatchObject({
        code: "CHECKOUT_FAILED",
      });
    }
    expect(readFileSync(join(dir, "folder/a"), "utf8")).toBe("1");
    expect(readFileSync(join(dir, "file"), "utf8")).toBe("2");
  });

  test("leaves the old file, and nothing beside it, when the store fails half-way", async () => {
    writeFileSync(join(dir, "big"), "old");
    const snapshot = await folder(await file("big", "x".repeat(3_000_000)));
    const failing: Blobs = {
      ...distant(blobs),
      async *get(digest) {
        for await (const chunk of blobs.get(digest)) {
          yield chunk;
          if (digest !== snapshot) throw new Fault("STORE_CORRUPT", "Cannot read on");
        }
      },
    };
    await expect(bringBack({ snapshot, dir, blobs: failing })).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    expect(readdirSync(dir)).toEqual(["big"]);
    expect(readFileSync(join(dir, "big"), "utf8")).toBe("old");
  });
});

describe("bringBack() of what cannot all be brought back", () => {
  let snapshot: Digest;
  beforeEach(async () => {
    mkdirSync(dir);
    writeTree(dir, { "a": "old" });
    snapshot = await folder(
      await file("a", "new"),
      await within("z", await file("place", "x"), await within("deep", await file("b", "1"))),
    );
  });

  const inTheWay: Record<string, () => void> = {
    "a folder where a file is to be": () => writeTree(dir, { "z/place/x": "1" }),
    "a file where a folder is to be": () => writeTree(dir, { "z/deep": "1" }),
    "a symlink that leads outside": () => {
      mkdirSync(join(dir, "z"));
      symlinkSync(top, join(dir, "z/deep"));
    },
    "a symlink in a ring": () => symlinkSync("z", join(dir, "z")),
  };
  test.each(Object.entries(inTheWay))("%s: nothing at all is written", async (_, put) => {
    put();
    for (const since of [undefined, { atMs: realClock.now() + 1000 }]) {
      const options = since === undefined ? {} : { since };
      await expect(bringBack({ snapshot, dir, blobs, ...options })).rejects.toMatchObject({
        code: expect.stringMatching(/^(CHECKOUT_FAILED|PATH_INVALID)$/),
      });
      expect(readFileSync(join(dir, "a"), "utf8")).toBe("old");
    }
  });

  test("a blob that the store lacks: nothing at all is written", async () => {
    const lacking = await folder(
      await file("a", "new"),
      { kind: "file", name: "gone", digest: digestOf(Buffer.from("gone")), executable: false },
    );
    await expect(bringBack({ snapshot: lacking, dir, blobs })).rejects.toMatchObject({ code: "BLOB_MISSING" });
    expect(readFileSync(join(dir, "a"), "utf8")).toBe("old");
  });

  test("a name as long as a name may be is no hindrance", async () => {
    const name = "n".repeat(255);
    writeTree(dir, { [name]: "old" });
    await bringBack({ snapshot: await folder(await file(name, "new")), dir, blobs });
    expect(readFileSync(join(dir, name), "utf8")).toBe("new");
    expect(readdirSync(dir).sort()).toEqual(["a", name]);
  });

  test("a change behind a symlink is noticed while it writes", async () => {
    mkdirSync(join(dir, "real"));
    writeTree(dir, { "real/b": "old" });
    symlinkSync("real", join(dir, "z"));
    const into = await folder(await within("z", await file("b", "new")));
    const editing: Blobs = {
      ...blobs,
      peek(digest) {
        if (digest === digestOf(Buffer.from("new"))) writeTree(dir, { "real/b": "edited just now" });
        return blobs.peek!(digest);
      },
    };
    await expect(bringBack({ snapshot: into, dir, blobs: editing, since: { atMs: realClock.now() + 1000 } }))
      .rejects.toMatchObject({ code: "OUTPUT_CHANGED" });
    expect(readFileSync(join(dir, "real/b"), "utf8")).toBe("edited just now");
  });
});

describe("lookup() and walk()", () => {
  const made = async (): Promise<Digest> =>
    folder(
      await file("b", "1"),
      link("z", "b"),
      await within("a", await file("x", "2"), await within("deeper", await file("y", "3"))),
    );
  const walked = async (snapshot: Digest, path?: string): Promise<string[]> => {
    const seen: string[] = [];
    for await (const { path: at, node } of walk(blobs, snapshot, path)) seen.push(`${node.kind} ${at}`);
    return seen;
  };

  test("find what is at a path, and do not follow symlinks", async () => {
    const snapshot = await made();
    expect(await lookup(blobs, snapshot, "")).toEqual({ kind: "directory", name: "", digest: snapshot });
    expect(await lookup(blobs, snapshot, "./a//deeper/y")).toMatchObject({
      kind: "file",
      digest: digestOf(Buffer.from("3")),
    });
    expect(await lookup(blobs, snapshot, "z")).toEqual({ kind: "symlink", name: "z", target: "b" });
    await expect(lookup(blobs, snapshot, "a/none")).rejects.toMatchObject({ code: "PATH_UNKNOWN" });
    await expect(lookup(blobs, snapshot, "z/x")).rejects.toMatchObject({ code: "PATH_UNKNOWN" });
    await expect(lookup(blobs, snapshot, "a/../../b")).rejects.toMatchObject({ code: "PATH_INVALID" });
    await expect(lookup(blobs, digestOf(Buffer.from("no")), "a")).rejects.toMatchObject({ code: "SNAPSHOT_UNKNOWN" });
  });

  test("walk parents before what is in them, from any path on", async () => {
    const snapshot = await made();
    expect(await walked(snapshot)).toEqual([
      "file b",
      "directory a",
      "file a/x",
      "directory a/deeper",
      "file a/deeper/y",
      "symlink z",
    ]);
    expect(await walked(snapshot, "a/deeper")).toEqual(["file a/deeper/y"]);
    expect(await walked(snapshot, "b")).toEqual(["file b"]);
    expect(await walked(emptyDigest)).toEqual([]);
    await expect(walked(digestOf(Buffer.from("no")))).rejects.toMatchObject({ code: "SNAPSHOT_UNKNOWN" });
  });
});

/** Waits for a time later than all stamps so far, even where they are whole seconds and a little behind. */
async function nextSecond(): Promise<number> {
  const atMs = (Math.floor(realClock.now() / 1000) + 1) * 1000 + 50;
  await sleep(realClock, atMs - realClock.now());
  return atMs;
}

describe("bringBack() into a folder that is worked in", () => {
  let inputs: Digest;
  let atMs: number;
  beforeEach(async () => {
    writeTree(dir, { "src/a": "old", "dist/out": "old" });
    // All of it was changed before the task was sent: so says a clock that is ahead, as far as ignored files go.
    atMs = realClock.now() + 1000;
    inputs = await folder(await within("src", await file("a", "old")));
  });

  test("replaces what is as it was, and what is what it is to be", async () => {
    writeTree(dir, { "same": "new" });
    const snapshot = await folder(
      await within("src", await file("a", "new")),
      await within("dist", await file("out", "new")),
      await file("same", "new"),
    );
    await bringBack({ snapshot, dir, blobs, since: { inputs, atMs } });
    expect(readFileSync(join(dir, "src/a"), "utf8")).toBe("new");
    expect(readFileSync(join(dir, "dist/out"), "utf8")).toBe("new");
  });

  test("refuses a file that was changed since, and then writes nothing at all", async () => {
    writeTree(dir, { "src/a": "edited meanwhile" });
    const snapshot = await folder(await file("first", "1"), await within("src", await file("a", "new")));
    await expect(bringBack({ snapshot, dir, blobs, since: { inputs, atMs } })).rejects.toMatchObject({
      code: "OUTPUT_CHANGED",
      message: expect.stringContaining("src/a"),
    });
    expect(readFileSync(join(dir, "src/a"), "utf8")).toBe("edited meanwhile");
    expect(readdirSync(dir).sort()).toEqual(["dist", "src"]);
  });

  test("refuses a file that was not captured and is younger than the capture, or one made since", async () => {
    const since = { inputs, atMs: 0 };
    for (const path of ["dist/out", "fresh"]) {
      writeTree(dir, { [path]: "made since" });
      const [name, inner] = path.split("/") as [string, string?];
      const snapshot = inner === undefined
        ? await folder(await file(name, "new"))
        : await folder(await within(name, await file(inner, "new")));
      await expect(bringBack({ snapshot, dir, blobs, since })).rejects.toMatchObject({ code: "OUTPUT_CHANGED" });
      expect(readFileSync(join(dir, path), "utf8")).toBe("made since");
    }
  });

  test.each(["dist", "dist/deep", "link"])(
    "refuses an older file that came there since with its folder %s",
    async (moved) => {
      writeTree(dir, { "dist/deep/out": "old", "elsewhere/out": "another's", "elsewhere/deep/out": "another's" });
      symlinkSync("dist/deep", join(dir, "link"));
      const [outer, inner] = moved === "link" ? ["link"] : ["dist", "deep"];
      const out = await file("out", "new");
      const snapshot = await folder(
        await within(outer!, ...(inner === undefined ? [out] : [await within(inner, out)])),
      );
      const since = { atMs: await nextSecond() };
      if (moved === "link") {
        rmSync(join(dir, "link"));
        symlinkSync("elsewhere", join(dir, "link"));
      } else {
        renameSync(join(dir, moved), join(dir, "away"));
        renameSync(join(dir, "elsewhere"), join(dir, moved));
      }
      await expect(bringBack({ snapshot, dir, blobs, since })).rejects.toMatchObject({ code: "OUTPUT_CHANGED" });
    },
  );

  test("refuses a file that was edited in the very second in which the task was sent", async () => {
    const since = { atMs: await nextSecond() };
    await sleep(realClock, 40); // stamps are a little behind
    writeTree(dir, { "dist/out": "edited" });
    const snapshot = await folder(await within("dist", await file("out", "new")));
    await expect(bringBack({ snapshot, dir, blobs, since })).rejects.toMatchObject({ code: "OUTPUT_CHANGED" });
  });

  test("replaces older files though others were put beside them since", async () => {
    const since = { atMs: await nextSecond() };
    writeTree(dir, { "dist/another": "1", "src/another": "1" });
    await bringBack({ snapshot: await folder(await within("dist", await file("out", "new"))), dir, blobs, since });
    expect(readFileSync(join(dir, "dist/out"), "utf8")).toBe("new");
  });

  test.each([".git", ".GIT", "src/.git"])("never replaces the repository %s, and then writes nothing", async (path) => {
    writeTree(dir, { [`${path}/config`]: "the user's" });
    const made = await within(path.slice(path.lastIndexOf("/") + 1), await file("config", "the task's"));
    const snapshot = await folder(await file("a", "1"), path.startsWith("src") ? await within("src", made) : made);
    await expect(bringBack({ snapshot, dir, blobs, since: { inputs, atMs } })).rejects.toMatchObject({
      code: "OUTPUT_CHANGED",
      message: expect.stringContaining(path),
    });
    expect(readFileSync(join(dir, path, "config"), "utf8")).toBe("the user's");
    expect(readdirSync(dir)).not.toContain("a");
  });

  test("brings back a repository that a task made, more than once, where the user has none", async () => {
    for (const config of ["1", "2"]) {
      const snapshot = await folder(await within("dist", await within(".git", await file("config", config))));
      await bringBack({ snapshot, dir, blobs, since: { inputs, atMs } });
      expect(readFileSync(join(dir, "dist/.git/config"), "utf8")).toBe(config);
    }
  });

  test("takes away what was left when it was killed half-way, and that is never captured", async () => {
    const { pid } = spawnSync(process.execPath, ["--version"]);
    const left = `.scoot-0123456789abcdef.${pid}.tmp`;
    const others = [`.scoot-0123456789abcdef.${process.ppid}.tmp`, ".scoot-mine.tmp", `.scoot-0123456789abcdef.${pid}`];
    for (const name of [left, ...others]) writeTree(dir, { [`dist/${name}`]: "half" });
    const { snapshot: captured } = await capture({ dir: join(dir, "dist"), blobs, clock: realClock });
    const names = (await readDirectory(blobs, captured)).map(({ name }) => name);
    expect(names).toEqual([`.scoot-0123456789abcdef.${pid}`, ".scoot-mine.tmp", "out"]);
    await bringBack({ snapshot: await folder(await within("dist", await file("out", "new"))), dir, blobs });
    expect(readdirSync(join(dir, "dist")).sort()).toEqual([...others, "out"].sort());
  });

  test("notices a change that happens while it writes, and leaves nothing beside", async () => {
    const snapshot = await folder(await file("a", "1"), await within("src", await file("a", "new")));
    const editing: Blobs = {
      ...blobs,
      peek(digest) {
        if (digest === digestOf(Buffer.from("new"))) writeTree(dir, { "src/a": "edited just now" });
        return blobs.peek!(digest);
      },
    };
    await expect(bringBack({ snapshot, dir, blobs: editing, since: { inputs, atMs } })).rejects.toMatchObject({
      code: "OUTPUT_CHANGED",
    });
    expect(readFileSync(join(dir, "src/a"), "utf8")).toBe("edited just now");
    expect(readdirSync(join(dir, "src"))).toEqual(["a"]);
  });
});

describe("a tree with names that differ in case or normalization alone", () => {
  test("is refused where they are one, by both names, before anything of that folder is written", async () => {
    const snapshot = await folder(await within("d", await file("Readme", "1"), await file("README", "2")));
    for (const write of [checkout, bringBack]) {
      await expect(write({ snapshot, dir, blobs, foldsNames: () => true })).rejects.toMatchObject({
        code: "CHECKOUT_FAILED",
        message: expect.stringMatching(/"README" and "Readme"/),
      });
      expect(readdirSync(join(dir, "d"))).toEqual([]);
    }
    expect(await checkout({ snapshot, dir: join(top, "other"), blobs })).toEqual({ files: 2, bytes: 2 });
    expect(readdirSync(join(top, "other/d")).sort()).toEqual(["README", "Readme"]);
  });
});

describe("checkout() with trees of before", () => {
  const times = { mtimeMs: 1_000_000_000_000, changedMs: 1_000_000_010_000 };
  async function changedIn(snapshot: Digest, since: readonly Digest[], from = blobs): Promise<string[]> {
    const { dir: into, remove } = temporaryFolder();
    const { mtimeMs, changedMs } = times;
    try {
      await checkout({ snapshot, dir: into, blobs: from, mtimeMs, changed: { since, mtimeMs: changedMs } });
      const changed: string[] = [];
      for await (const { path, node } of walk(blobs, snapshot)) {
        const { mtimeMs: found } = lstatSync(join(into, path));
        if (node.kind === "symlink") continue;
        expect([mtimeMs, ...node.kind === "file" ? [changedMs] : []]).toContain(found);
        if (found === changedMs) changed.push(path);
      }
      return changed.sort();
    } finally {
      remove();
    }
  }

  test("gives another time to files that differ in content, mode or kind from any of them", async () => {
    const before = await folder(
      await file("a", "1"),
      await file("mode", "1"),
      link("kind", "a"),
      await within("same", await file("x", "1")),
      await within(
        "src",
        await file("one", "1"),
        await file("gone", "1"),
        await within("deep", await file("two", "1")),
      ),
      await file("was-file", "1"),
    );
    const now = await folder(
      await file("a", "1"),
      await file("mode", "1", true),
      await file("kind", "1"),
      await within("same", await file("x", "1")),
      await within("src", await file("one", "2"), await file("new", "1"), await within("deep", await file("two", "1"))),
      await within("was-file", await file("in", "1")),
    );
    const changed = ["kind", "mode", "src/new", "src/one", "was-file/in"];
    for (const from of [blobs, distant(blobs)]) expect(await changedIn(now, [before], from)).toEqual(changed);
    expect(await changedIn(now, [now])).toEqual([]);
    expect(await changedIn(now, [])).toEqual([]);
    expect(await changedIn(now, [now, before])).toEqual(changed);
  });

  test("takes everything for changed when a tree of before is lost", async () => {
    const now = await folder(await file("a", "1"), await within("d", await file("b", "1")));
    expect(await changedIn(now, [`${"0".repeat(64)}/7` as Digest])).toEqual(["a", "d/b"]);
  });
});
