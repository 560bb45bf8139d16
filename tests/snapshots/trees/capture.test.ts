import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import fc from "fast-check";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Digest, emptyDigest, sizeOf } from "../../../src/domain/digest.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { type Blobs, digestOf, readBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { capture, type CaptureOptions } from "../../../src/snapshots/trees/capture.ts";
import { lookup, walk } from "../../../src/snapshots/trees/read_tree.ts";
import { asOrdinaryUser } from "../../support/machine.ts";
import { git, temporaryFolder, writeTree } from "./git_repositories.ts";

let dir: string;
let remove: () => void;
let blobs: Blobs;
beforeEach(() => {
  ({ dir, remove } = temporaryFolder());
  blobs = memoryBlobs();
});
afterEach(() => remove());

const captured = (options: Partial<CaptureOptions> = {}) => capture({ dir, blobs, clock: realClock, ...options });

async function pathsOf(snapshot: Digest, from = blobs): Promise<string[]> {
  const paths: string[] = [];
  for await (const { path, node } of walk(from, snapshot)) paths.push(node.kind === "directory" ? `${path}/` : path);
  return paths.sort();
}
const textAt = async (snapshot: Digest, path: string): Promise<string> => {
  const node = await lookup(blobs, snapshot, path);
  if (node.kind !== "file") throw new Error(`${path} is a ${node.kind}`);
  return Buffer.from(await readBlob(blobs, node.digest, 1e9)).toString();
};

/** Files whose times are long past, so that the stat cache may trust them. */
function age(...paths: string[]): void {
  for (const path of paths) utimesSync(join(dir, path), 1e9, 1e9);
}
/** The stat cache trusts a file only when its ctime, too, is past; a clock that is ahead makes it so. */
const laterClock = { ...realClock, now: () => realClock.now() + 10_000 };

function counted(inner: Blobs): { readonly blobs: Blobs; readonly puts: Digest[]; readonly asked: Digest[] } {
  const puts: Digest[] = [];
  const asked: Digest[] = [];
  return {
    puts,
    asked,
    blobs: {
      ...inner,
      put(digest, bytes, options) {
        puts.push(digest);
        return inner.put(digest, bytes, options);
      },
      missing(digests) {
        asked.push(...digests);
        return inner.missing(digests);
      },
    },
  };
}

describe("capture()", () => {
  test("keeps contents, execute bits, symlinks as they are, and empty folders", async () => {
    writeTree(dir, { "src/a.txt": "hello", "src/run.sh": "#!/bin/sh\n", "é/😀": "" });
    chmodSync(join(dir, "src/run.sh"), 0o700);
    mkdirSync(join(dir, "empty/inner"), { recursive: true });
    symlinkSync("../nowhere", join(dir, "src/dangling"));
    symlinkSync("\ufffd", join(dir, "src/replaced"));
    symlinkSync("src", join(dir, "folder"));

    const report = await captured();

    expect(await pathsOf(report.snapshot)).toEqual(
      [
        "empty/",
        "empty/inner/",
        "folder",
        "src/",
        "src/a.txt",
        "src/dangling",
        "src/replaced",
        "src/run.sh",
        "é/",
        "é/😀",
      ].sort(),
    );
    expect(await textAt(report.snapshot, "src/a.txt")).toBe("hello");
    expect(await lookup(blobs, report.snapshot, "src/run.sh")).toMatchObject({ kind: "file", executable: true });
    expect(await lookup(blobs, report.snapshot, "src/a.txt")).toMatchObject({ executable: false });
    expect(await lookup(blobs, report.snapshot, "src/dangling")).toMatchObject({ target: "../nowhere" });
    expect(await lookup(blobs, report.snapshot, "folder")).toMatchObject({ kind: "symlink", target: "src" });
    expect(await lookup(blobs, report.snapshot, "é/😀")).toMatchObject({ digest: emptyDigest });
    expect(report).toMatchObject({ files: 3, bytes: 15, leftOut: [], changedWhileRead: [] });
  });

  test("of an empty folder is the empty digest", async () => {
    expect((await captured()).snapshot).toBe(emptyDigest);
  });

  test("gives one digest for equal folders, whatever their times and where they are", async () => {
    writeTree(dir, { "one/a/b": "1", "one/c": "2", "two/c": "2", "two/a/b": "1" });
    age("one/c");
    const one = await captured({ dir: join(dir, "one") });
    const two = await captured({ dir: join(dir, "two") });
    expect(two.snapshot).toBe(one.snapshot);
    expect(two).toMatchObject({ files: 2, sentFiles: 0, sentBytes: 0 });
    expect(one).toMatchObject({ sentFiles: 2 });
  });

  test("leaves out .git, and .env files even if they are tracked, and says so", async () => {
    git(dir, ["init", "-q"]);
    writeTree(dir, { ".env": "SECRET", "a/.env.local": "SECRET", "a/b": "", ".envrc": "SECRET", "env": "" });
    git(dir, ["add", "-f", ".env"]);
    const report = await captured();
    expect(await pathsOf(report.snapshot)).toEqual(["a/", "a/b", "env"]);
    expect(report.leftOut.toSorted()).toEqual([".env", ".envrc", ".git", "a/.env.local"]);
    expect(report.leftOutCount).toBe(4);
  });

  test("captures what is included by name, whatever the rules say, and nothing else with it", async () => {
    git(dir, ["init", "-q"]);
    writeTree(dir, {
      ".gitignore": "dist\n*.log\n",
      ".env": "1",
      "dist/app/main.js": "",
      "dist/app/.env": "1",
      "dist/other.js": "",
      "deep/.env.d/one": "",
      "deep/.env.d/two": "",
      "x.log": "",
    });
    const report = await captured({ include: ["dist/app", "./deep/.env.d/one", ".env"] });
    expect(await pathsOf(report.snapshot)).toEqual([
      ".env",
      ".gitignore",
      "deep/",
      "deep/.env.d/",
      "deep/.env.d/one",
      "dist/",
      "dist/app/",
      "dist/app/main.js",
    ]);
  });

  test("refuses to include what is not there or outside", async () => {
    writeTree(dir, { "file": "" });
    await expect(captured({ include: ["file/nope"] })).rejects.toMatchObject({ code: "PATH_UNKNOWN" });
    await expect(captured({ include: ["nope"] })).rejects.toMatchObject({ code: "PATH_UNKNOWN" });
    await expect(captured({ include: ["../x"] })).rejects.toMatchObject({ code: "PATH_INVALID" });
    await expect(captured({ dir: join(dir, "nope") })).rejects.toMatchObject({ code: "PATH_UNKNOWN" });
  });

  test("without the ignore rules captures all but .git and .env files", async () => {
    git(dir, ["init", "-q"]);
    writeTree(dir, { ".gitignore": "*", "a.log": "", ".env": "" });
    expect(await pathsOf((await captured({ ignoreRules: false })).snapshot)).toEqual([".gitignore", "a.log"]);
  });

  test("keeps an empty folder, and leaves out one in which everything is left out", async () => {
    writeTree(dir, { ".gitignore": "*.log\n", "logs/a.log": "", "deep/er/b.log": "" });
    mkdirSync(join(dir, "empty"));
    expect(await pathsOf((await captured()).snapshot)).toEqual([".gitignore", "empty/"]);
  });

  test("leaves out sockets and pipes, without waiting for them, and says so", async () => {
    writeTree(dir, { "a": "" });
    execFileSync("mkfifo", [join(dir, "pipe")]);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(dir, "socket"), resolve));
    const report = await captured();
    await new Promise((resolve) => server.close(resolve));
    expect(await pathsOf(report.snapshot)).toEqual(["a"]);
    expect(report.leftOut).toEqual(["pipe", "socket"]);
  });

  test("N-8: refuses a name that is not UTF-8 by its bytes, and takes one that has a U+FFFD", async () => {
    writeTree(dir, { "ok/\ufffd": "" });
    expect(await pathsOf((await captured()).snapshot)).toEqual(["ok/", "ok/\ufffd"]);
    execFileSync("sh", ["-c", `touch "$(printf 'sub\\351')"`], { cwd: dir });
    await expect(captured()).rejects.toMatchObject({
      code: "NAME_NOT_UTF8",
      message: expect.stringMatching(/sub\\x(e9|ef\\xbf\\xbd)/),
    });
  });

  test("refuses a symlink whose target is not UTF-8", async () => {
    execFileSync("sh", ["-c", `ln -s "$(printf 'sub\\351')" link`], { cwd: dir });
    await expect(captured()).rejects.toMatchObject({
      code: "NAME_NOT_UTF8",
      message: expect.stringContaining('"link"'),
    });
  });

  test("names a file that it cannot read", async () => {
    writeTree(dir, { "locked/secret.bin": "x".repeat(5 * 1024 * 1024) });
    const failing = Promise.reject(Object.assign(new Error("EACCES: permission denied"), { code: "EACCES" }));
    await expect(captured({ hashFile: () => failing })).rejects.toMatchObject({
      code: "CAPTURE_FAILED",
      message: expect.stringContaining('"locked/secret.bin"'),
    });
  });

  test("names a small file and a folder that it may not read", async () => {
    chmodSync(dir, 0o755);
    for (const path of ["locked/secret.txt", "locked"]) {
      writeTree(dir, { "locked/secret.txt": "x" });
      chmodSync(join(dir, path), 0);
      await expect(asOrdinaryUser(captured)).rejects.toMatchObject({
        code: "CAPTURE_FAILED",
        message: expect.stringContaining(`"${path}`),
      });
      chmodSync(join(dir, path), 0o700);
    }
  });

  test("passes on what the store throws, after all that was under way has ended", async () => {
    for (let i = 0; i < 700; i++) writeTree(dir, { [`f${i}`]: `${i}` });
    let under = 0;
    const full: Blobs = {
      ...blobs,
      async put() {
        under++;
        await new Promise((resolve) => setImmediate(resolve));
        under--;
        throw new Error("disk full");
      },
    };
    await expect(captured({ blobs: full })).rejects.toThrow("disk full");
    expect(under).toBe(0);
  });

  test("ends with the signal's reason when it is aborted", async () => {
    for (let i = 0; i < 200; i++) writeTree(dir, { [`f${i}`]: `${i}` });
    const reason = new Error("enough");
    const controller = new AbortController();
    await expect(captured({ signal: controller.signal, onProgress: () => controller.abort(reason) })).rejects.toBe(
      reason,
    );
  });

  test("tells its progress and ends it with the totals", async () => {
    for (let i = 0; i < 200; i++) writeTree(dir, { [`f${i}`]: `${i}` });
    const seen: number[] = [];
    const report = await captured({ onProgress: ({ files }) => seen.push(files) });
    expect(seen.length).toBeGreaterThan(2);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(report.files);
  });

  test("sends each content once, asks in groups, and sends nothing that the store has", async () => {
    for (let i = 0; i < 1200; i++) writeTree(dir, { [`d${i % 3}/f${i}`]: `${i % 600}` });
    const first = counted(blobs);
    await captured({ blobs: first.blobs });
    expect(first.puts).toHaveLength(new Set(first.puts).size);
    expect(first.puts).toHaveLength(600 + 4);
    const second = counted(blobs);
    await captured({ blobs: second.blobs });
    expect(second.puts).toEqual([]);
    expect(second.asked.length).toBe(604);
  });
});

describe("capture() of a file that changes while it is read", () => {
  /** Calls `change` whenever the large file has been hashed. */
  const hashedThen = (change: (time: number) => void) => {
    let times = 0;
    return (path: string): Promise<Digest> => {
      const digest = digestOf(readFileSync(path));
      change(++times);
      return Promise.resolve(digest);
    };
  };
  const large = "x".repeat(5 * 1024 * 1024);

  test("reads it again, captures the last reading and names the file", async () => {
    writeTree(dir, { "big": large });
    const report = await captured({
      hashFile: hashedThen((time) => {
        if (time <= 2) writeFileSync(join(dir, "big"), `${large}${time}`);
      }),
    });
    expect(report.changedWhileRead).toEqual(["big"]);
    expect((await textAt(report.snapshot, "big")).slice(large.length)).toBe("2");
    expect(report.bytes).toBe(large.length + 1);
  });

  test("captures a file that never stops growing as it was at one look", async () => {
    writeTree(dir, { "log": large });
    const report = await captured({ hashFile: hashedThen(() => appendFileSync(join(dir, "log"), "more")) });
    expect(report.changedWhileRead).toEqual(["log"]);
    expect(await textAt(report.snapshot, "log")).toMatch(/^x+(more)*$/);
  });

  test("gives up on one that is rewritten again and again, naming it", async () => {
    writeTree(dir, { "big": large });
    const rewritten = hashedThen((time) => writeFileSync(join(dir, "big"), `${time}${large}`));
    await expect(captured({ hashFile: rewritten })).rejects.toMatchObject({
      code: "CAPTURE_FAILED",
      message: expect.stringContaining('"big"'),
    });
  });

  test("leaves out one that is gone before it is read, and names it", async () => {
    writeTree(dir, { "big": large, "small": "" });
    const report = await captured({
      hashFile: (path) => {
        rmSync(path);
        return Promise.resolve(digestOf(readFileSync(path)));
      },
    });
    expect(await pathsOf(report.snapshot)).toEqual(["small"]);
    expect(report.changedWhileRead).toEqual(["big"]);
  });
});

describe("capture() of what vanishes in the middle", () => {
  test("leaves out a folder that is gone before its turn, and names it", async () => {
    writeTree(dir, { "a": "x".repeat(5 * 1024 * 1024), "d/in/it": "1", "e": "2" });
    const report = await captured({
      hashFile: (path) => {
        rmSync(join(dir, "d"), { recursive: true, force: true });
        return Promise.resolve(digestOf(readFileSync(path)));
      },
    });
    expect(await pathsOf(report.snapshot)).toEqual(["a", "e"]);
    expect(report.changedWhileRead).toEqual(["d"]);
  });

  test("captures anew when a file is gone that the index knows and the store wants", async () => {
    writeTree(dir, { "a": "1", "b": "2" });
    const indexPath = `${dir}.index`;
    await captured({ indexPath, clock: laterClock });
    const other = memoryBlobs();
    let isFirst = true;
    const report = await captured({
      indexPath,
      clock: laterClock,
      blobs: {
        ...other,
        missing(digests) {
          if (isFirst) rmSync(join(dir, "b"));
          isFirst = false;
          return other.missing(digests);
        },
      },
    });
    rmSync(indexPath);
    expect(await pathsOf(report.snapshot, other)).toEqual(["a"]);
  });
});

describe("capture() of a large file", () => {
  test("passes it through in chunks", async () => {
    const size = 24 * 1024 * 1024;
    writeFileSync(join(dir, "big"), Buffer.alloc(size, 7));
    let largestChunk = 0;
    const streaming: Blobs = {
      ...blobs,
      async put(digest, bytes) {
        if (bytes instanceof Uint8Array) return;
        let length = 0;
        for await (const chunk of bytes) {
          largestChunk = Math.max(largestChunk, chunk.length);
          length += chunk.length;
        }
        expect(length).toBe(sizeOf(digest));
      },
    };
    const report = await captured({ blobs: streaming });
    expect(report).toMatchObject({ bytes: size, sentFiles: 1 });
    expect(largestChunk).toBeLessThanOrEqual(1024 * 1024);
  });

  test("uses the store's own way to take a file, if there is one", async () => {
    writeFileSync(join(dir, "big"), Buffer.alloc(5 * 1024 * 1024, 1));
    const taken: string[] = [];
    const report = await captured({
      putFile: async (path, { expected }) => {
        taken.push(path);
        await blobs.put(expected, readFileSync(path));
        return expected;
      },
    });
    expect(taken).toEqual([join(dir, "big")]);
    expect(report.sentFiles).toBe(1);
  });
});

describe("capture() with an index of what was read before", () => {
  const indexPath = () => join(dir, "../", `${dir.split("/").at(-1)}.index`);
  const warm = (options: Partial<CaptureOptions> = {}) =>
    captured({ indexPath: indexPath(), clock: laterClock, ...options });
  afterEach(() => rmSync(indexPath(), { force: true }));

  test("reads only what has changed, and captures the same as without", async () => {
    writeTree(dir, { "a/one": "1", "a/two": "2", "b/three": "3", "c": "4" });
    await warm();
    writeTree(dir, { "a/two": "changed", "b/new": "5" });
    rmSync(join(dir, "c"));
    const report = await warm();
    expect(report).toMatchObject({ files: 4, sentFiles: 2 });
    expect(report.snapshot).toBe((await captured()).snapshot);
    expect(await textAt(report.snapshot, "a/two")).toBe("changed");
  });

  test("does not read unchanged files at all", async () => {
    const large = Buffer.alloc(5 * 1024 * 1024, 1);
    writeFileSync(join(dir, "big"), large);
    writeTree(dir, { "after": "" });
    let hashed = 0;
    const hashFile = (path: string): Promise<Digest> => {
      hashed++;
      return Promise.resolve(digestOf(readFileSync(path)));
    };
    const first = await warm({ hashFile });
    const second = await warm({ hashFile });
    expect(hashed).toBe(1);
    expect(second.snapshot).toBe(first.snapshot);
  });

  test("notices a change that keeps size and time of change", async () => {
    writeTree(dir, { "a": "one" });
    age("a");
    await warm();
    // The clock here is ahead, so wait for what it pretends: another time of the last change than before.
    const { ctimeMs } = lstatSync(join(dir, "a"));
    await vi.waitFor(() => {
      writeTree(dir, { "a": "two" });
      age("a");
      expect(lstatSync(join(dir, "a")).ctimeMs).not.toBe(ctimeMs);
    }, { timeout: 5000, interval: 20 });
    expect(await textAt((await warm()).snapshot, "a")).toBe("two");
  });

  test("does not trust what changed just before it was read", async () => {
    writeTree(dir, { "a": "one" });
    await warm({ clock: realClock });
    let asked = 0;
    const report = await warm({
      clock: realClock,
      blobs: {
        ...blobs,
        missing(digests) {
          asked += digests.size;
          return blobs.missing(digests);
        },
      },
    });
    expect(asked).toBe(2);
    expect(report.files).toBe(1);
  });

  test("sends everything again to a store that has lost it, or that is another", async () => {
    writeTree(dir, { "a/one": "1", "two": "2" });
    const before = await warm();
    const other = memoryBlobs();
    const report = await warm({ blobs: other });
    expect(report).toMatchObject({ snapshot: before.snapshot, sentFiles: 2 });
    expect(await pathsOf(report.snapshot, other)).toEqual(["a/", "a/one", "two"]);
  });

  test("starts afresh from an index that is damaged or of another folder", async () => {
    writeTree(dir, { "a/one": "1", "two": "2" });
    const before = await warm();
    const bytes = readFileSync(indexPath());
    for (const damaged of [bytes.subarray(0, 10), Buffer.alloc(100), Buffer.concat([bytes, bytes])]) {
      writeFileSync(indexPath(), damaged);
      expect((await warm()).snapshot).toBe(before.snapshot);
    }
    const flipped = Buffer.from(bytes);
    flipped[flipped.length >> 1]! ^= 1;
    writeFileSync(indexPath(), flipped);
    expect((await warm()).snapshot).toBe(before.snapshot);
    writeTree(dir, { "a/two": "of the inner folder" });
    expect((await warm({ dir: join(dir, "a") })).files).toBe(2);
  });

  test("that cannot be kept is no reason not to capture", async () => {
    writeTree(dir, { "a": "1", "b/c": "2" });
    const { snapshot } = await captured();
    mkdirSync(join(indexPath(), "in the way"), { recursive: true });
    try {
      expect((await warm()).snapshot).toBe(snapshot);
      expect(readdirSync(indexPath())).toEqual(["in the way"]);
      expect(readdirSync(join(dir, "..")).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    } finally {
      rmSync(indexPath(), { recursive: true });
    }
  });

  test("of two captures at once is whole", async () => {
    writeTree(dir, { "a": "1", "b/c": "2" });
    const all = await Promise.all([warm(), warm(), warm()]);
    expect(new Set(all.map(({ snapshot }) => snapshot)).size).toBe(1);
    const before = counted(blobs);
    expect(await warm({ blobs: before.blobs, holdsTree: () => Promise.resolve(true) })).toMatchObject({
      snapshot: all[0].snapshot,
    });
    expect(before.asked).toEqual([]); // nothing was read again
  });

  test("is not believed of folders that changed places, nor of a file with another's times and size", async () => {
    writeTree(dir, { "x/f": "one", "x/deep/g": "one", "y/f": "two", "y/deep/g": "two" });
    const old = new Date(1_600_000_000_000);
    for (const path of ["x/f", "y/f", "x/deep/g", "y/deep/g"]) utimesSync(join(dir, path), old, old);
    const holdsTree = () => Promise.resolve(true);
    await warm({ holdsTree });
    const swap = (one: string, other: string): void => {
      renameSync(join(dir, one), join(dir, "swap"));
      renameSync(join(dir, other), join(dir, one));
      renameSync(join(dir, "swap"), join(dir, other));
    };
    for (const [one, other] of [["x", "y"], ["x/deep", "y/deep"], ["x/f", "y/f"]] as const) {
      swap(one, other);
      const { snapshot } = await warm({ holdsTree });
      expect(snapshot).toBe((await captured({ blobs: memoryBlobs() })).snapshot);
    }
    // The clock that is ahead has the cache trust what is too young for it: until the file system's clock has ticked.
    const { ctimeMs } = lstatSync(join(dir, "x/f"));
    while (lstatSync(join(dir, "x/f")).ctimeMs === ctimeMs) chmodSync(join(dir, "x/f"), 0o755);
    writeFileSync(join(dir, "other"), "eno");
    renameSync(join(dir, "other"), join(dir, "y/f"));
    utimesSync(join(dir, "y/f"), old, old);
    const { snapshot } = await warm({ holdsTree });
    expect(snapshot).toBe((await captured({ blobs: memoryBlobs() })).snapshot);
  });

  test("is not believed when a file holds something else than it says", async () => {
    writeTree(dir, { "a": "one" });
    await warm();
    // Another store asks for the bytes; the file changes between the look and the reading.
    const other = memoryBlobs();
    let isFirst = true;
    const report = await warm({
      blobs: {
        ...other,
        missing(digests) {
          if (isFirst) writeTree(dir, { "a": "new" });
          isFirst = false;
          return other.missing(digests);
        },
      },
    });
    const node = await lookup(other, report.snapshot, "a");
    expect(node).toMatchObject({ digest: digestOf(Buffer.from("new")) });
  });
});

describe("capture() with the store's word for a whole tree", () => {
  const indexPath = () => `${dir}.index`;
  afterEach(() => rmSync(indexPath(), { force: true }));
  const warm = (options: Partial<CaptureOptions> = {}) =>
    captured({ indexPath: indexPath(), clock: laterClock, ...options });

  test("asks after nothing else but what is new", async () => {
    writeTree(dir, { "a/one": "1", "a/two": "2", "b/three": "3" });
    const asked: Digest[] = [];
    const holdsTree = (snapshot: Digest): Promise<boolean> => {
      asked.push(snapshot);
      return Promise.resolve(true);
    };
    const first = await warm({ holdsTree });
    expect(asked).toEqual([]);
    writeTree(dir, { "a/two": "changed" });
    const second = counted(blobs);
    const report = await warm({ holdsTree, blobs: second.blobs });
    expect(asked).toEqual([first.snapshot]);
    expect(second.asked).toHaveLength(1 + 2); // the file, and the folders that it is in
    expect(report.snapshot).toBe((await captured()).snapshot);
    await warm({ holdsTree });
    expect(asked).toEqual([first.snapshot, report.snapshot]);
  });

  test("whatever was changed, it captures what a capture without an index does", async () => {
    const names = ["a", "B", "d/a", "d/e/a", "d/e/B", "f/a"];
    const edit = fc.oneof(
      fc.record({ kind: fc.constantFrom("write" as const, "program" as const), path: fc.constantFrom(...names) }),
      fc.record({
        kind: fc.constantFrom("remove" as const, "link" as const, "folder" as const),
        path: fc.constantFrom(...names, "d", "d/e", "f"),
      }),
      fc.record({ kind: fc.constant("move" as const), path: fc.constantFrom("d", "d/e", "f"), to: fc.constant("g") }),
      fc.record({ kind: fc.constant("ignore" as const), path: fc.constantFrom("/d/e", "a", "!a") }),
    );
    let writes = 0;
    const apply = (each: typeof edit extends fc.Arbitrary<infer Edit> ? Edit : never): void => {
      const path = join(dir, each.path);
      try {
        // Of another length each time: the clock that is ahead has the cache trust what is too young for it.
        if (each.kind === "write") writeTree(dir, { [each.path]: "x".repeat(++writes) });
        else if (each.kind === "program") writeFileSync(path, "x".repeat(++writes), { mode: 0o755 });
        else if (each.kind === "remove") rmSync(path, { recursive: true, force: true });
        else if (each.kind === "link") symlinkSync("a", path);
        else if (each.kind === "folder") mkdirSync(path, { recursive: true });
        else if (each.kind === "move") renameSync(path, join(dir, each.to));
        else if (each.kind === "ignore") appendFileSync(join(dir, ".scootignore"), `${each.path}\n`);
      } catch {
        // what cannot be done there is no edit
      }
    };
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(edit, { maxLength: 4 }), { maxLength: 5 }), async (rounds) => {
        for (const name of readdirSync(dir)) rmSync(join(dir, name), { recursive: true });
        rmSync(indexPath(), { force: true });
        blobs = memoryBlobs();
        writeTree(dir, Object.fromEntries(names.map((name) => [name, name])));
        for (const edits of [[], ...rounds, []]) {
          for (const each of edits) apply(each);
          const report = await warm({ holdsTree: () => Promise.resolve(true) });
          const cold = await captured({ blobs: memoryBlobs() });
          expect({ ...report, sentFiles: 0, sentBytes: 0, tookMs: 0 })
            .toEqual({ ...cold, sentFiles: 0, sentBytes: 0, tookMs: 0 });
          await pathsOf(report.snapshot, blobs); // all of it is there
        }
      }),
      { numRuns: 60 },
    );
  });

  test("sends what is missing when the store says no, and passes on what it throws", async () => {
    writeTree(dir, { "a/one": "1", "two": "2" });
    await warm();
    const other = memoryBlobs();
    const report = await warm({ blobs: other, holdsTree: () => Promise.resolve(false) });
    expect(report.sentFiles).toBe(2);
    expect(await pathsOf(report.snapshot, other)).toEqual(["a/", "a/one", "two"]);
    await expect(warm({ holdsTree: () => Promise.reject(new Error("gone away")) })).rejects.toThrow("gone away");
  });
});

describe("capture() by .scootignore", () => {
  test("leaves out on top of git's rules, without git as well, tracked files too", async () => {
    writeTree(dir, {
      ".gitignore": "*.log\n",
      ".scootignore": "# large\n*.bin\n/docs/\n!keep.bin\n",
      "a.log": "",
      "a.bin": "",
      "keep.bin": "",
      "docs/x": "",
      "src/docs/y": "",
      "src/.scootignore": "/only-here",
      "src/only-here": "",
      "src/deep/only-here": "",
    });
    const expected = [
      ".gitignore",
      ".scootignore",
      "keep.bin",
      "src/",
      "src/.scootignore",
      "src/deep/",
      "src/deep/only-here",
      "src/docs/",
      "src/docs/y",
    ];
    const report = await captured();
    expect(await pathsOf(report.snapshot)).toEqual(expected);
    expect(report.leftOut).toEqual(["docs", "a.bin", "a.log", "src/only-here"]);
    git(dir, ["init", "-q"]);
    git(dir, ["add", "-A"]);
    expect(await pathsOf((await captured()).snapshot)).toEqual(expected);
  });

  test("takes back what git ignores", async () => {
    writeTree(dir, { ".gitignore": "dist\n*.log\n", ".scootignore": "!dist\n", "dist/a": "", "dist/b.log": "" });
    expect(await pathsOf((await captured()).snapshot)).toEqual([".gitignore", ".scootignore", "dist/", "dist/a"]);
  });

  test("counts from the top of the repository when a folder in it is captured, and across repositories inside", async () => {
    git(dir, ["init", "-q"]);
    writeTree(dir, { ".scootignore": "/web/big\nsecret\n", "web/big": "", "web/a": "", "web/lib/secret": "" });
    expect(await pathsOf((await captured({ dir: join(dir, "web") })).snapshot)).toEqual(["a"]);
    rmSync(join(dir, ".git"), { recursive: true });
    git(join(dir, "web/lib"), ["init", "-q"]);
    writeTree(dir, { "web/lib/kept": "" });
    expect(await pathsOf((await captured()).snapshot)).toEqual([
      ".scootignore",
      "web/",
      "web/a",
      "web/lib/",
      "web/lib/kept",
    ]);
  });

  test("gives way to what is included by name", async () => {
    writeTree(dir, { ".scootignore": "big\n", "big/a": "", "big/b": "" });
    expect(await pathsOf((await captured({ include: ["big/a"] })).snapshot)).toEqual([".scootignore", "big/", "big/a"]);
    expect(await pathsOf((await captured({ ignoreRules: false })).snapshot)).toEqual([
      ".scootignore",
      "big/",
      "big/a",
      "big/b",
    ]);
  });
});

describe("capture() of private keys", () => {
  const pem = (kind: string) => `-----BEGIN ${kind}-----\nabc\n-----END ${kind}-----\n`;

  test("leaves them out by name, and by their first bytes where the name may mean both, and says which", async () => {
    writeTree(dir, {
      ".ssh/config": "",
      "deploy/id_rsa": "",
      "deploy/id_rsa.pub": "",
      "deploy/id_ed25519": "",
      "store.p12": "",
      "tls/server.key": `Bag Attributes\n${pem("RSA PRIVATE KEY")}`,
      "tls/server.pem": pem("CERTIFICATE"),
      "tls/new.pem": pem("PRIVATE KEY"),
      "tls/putty.ppk": "PuTTY-User-Key-File-3: ssh-ed25519\n",
      "keyboard.key": "qwerty",
    });
    const report = await captured();
    expect(await pathsOf(report.snapshot)).toEqual([
      "deploy/",
      "deploy/id_rsa.pub",
      "keyboard.key",
      "tls/",
      "tls/server.pem",
    ]);
    const keys = [
      ".ssh",
      "deploy/id_ed25519",
      "deploy/id_rsa",
      "store.p12",
      "tls/new.pem",
      "tls/putty.ppk",
      "tls/server.key",
    ];
    expect(report.privateKeys.toSorted()).toEqual(keys);
    expect(report.leftOut.toSorted()).toEqual(keys);
  });

  test("takes those that are named, and no longer when they are not, with an index too", async () => {
    writeTree(dir, { "id_rsa": "1", "tls/a.key": pem("EC PRIVATE KEY"), "tls/b.key": "text" });
    const options = { indexPath: `${dir}.index`, clock: laterClock };
    try {
      const named = await captured({ ...options, include: ["id_rsa", "tls/a.key"] });
      expect(await pathsOf(named.snapshot)).toEqual(["id_rsa", "tls/", "tls/a.key", "tls/b.key"]);
      expect(named.privateKeys).toEqual([]);
      const unnamed = await captured({ ...options, include: ["tls"] });
      expect(await pathsOf(unnamed.snapshot)).toEqual(["tls/", "tls/b.key"]);
      writeTree(dir, { "tls/b.key": pem("ENCRYPTED PRIVATE KEY") });
      expect(await pathsOf((await captured(options)).snapshot)).toEqual([]);
    } finally {
      rmSync(options.indexPath, { force: true });
    }
  });
});

test("capture() refuses a pipe that is named, and says what it is", async () => {
  execFileSync("mkfifo", [join(dir, "pipe")]);
  await expect(captured({ include: ["pipe"] })).rejects.toMatchObject({
    code: "PATH_INVALID",
    message: expect.stringMatching(/"pipe".*a pipe/),
  });
});

test("capture() tells names that are one where case or normalization does not count", async () => {
  writeTree(dir, {
    "a/Readme": "",
    "a/README": "",
    "b/caf\u00e9": "",
    "b/cafe\u0301": "",
    "c/x": "",
    "C/x": "",
    "d/\u00df": "",
    "d/SS": "",
  });
  const { collisions, snapshot } = await captured();
  expect(collisions).toEqual([
    ["a/README", "a/Readme"],
    ["b/cafe\u0301", "b/caf\u00e9"],
    ["d/SS", "d/\u00df"],
    ["C", "c"],
  ]);
  expect(await pathsOf(snapshot)).toHaveLength(13);
});
