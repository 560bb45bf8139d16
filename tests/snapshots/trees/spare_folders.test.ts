import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Digest } from "../../../src/domain/digest.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import type { Blobs } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { capture } from "../../../src/snapshots/trees/capture.ts";
import { checkout } from "../../../src/snapshots/trees/checkout.ts";
import { spareFolders, type SpareFoldersOptions } from "../../../src/snapshots/trees/spare_folders.ts";
import { temporaryFolder, writeTree } from "./git_repositories.ts";

let top: string;
let remove: () => void;
let blobs: Blobs;
beforeEach(() => {
  ({ dir: top, remove } = temporaryFolder());
  blobs = memoryBlobs();
});
afterEach(() => remove());

/** A clock that is ahead, so that what was just written is old to it. */
const laterClock = { ...realClock, now: () => realClock.now() + 10_000 };
/** Until what is changed bears a later time than what was changed before. */
async function tick(): Promise<void> {
  const path = join(top, "tick");
  const stamp = (): number => (writeFileSync(path, ""), lstatSync(path).ctimeMs);
  for (const before = stamp(); stamp() === before;) await new Promise((resolve) => setImmediate(resolve));
}
let folders = 0;
const place = (): string => join(top, `out${++folders}`);
const spares = (options: Partial<SpareFoldersOptions> = {}) =>
  spareFolders({ dir: join(top, "spare"), clock: laterClock, foldersMax: 2, filesMin: 1, ...options });

async function snapshotOf(files: Readonly<Record<string, string>>): Promise<Digest> {
  const dir = join(top, `made${++folders}`);
  mkdirSync(dir);
  writeTree(dir, files);
  if (existsSync(join(dir, "run"))) chmodSync(join(dir, "run"), 0o755);
  symlinkSync("a", join(dir, "link"));
  return (await capture({ dir, blobs, clock: realClock, ignoreRules: false })).snapshot;
}

/** All that one can see of a folder. */
function seen(dir: string, within = ""): string[] {
  return readdirSync(dir).sort().flatMap((name) => {
    const path = join(dir, name);
    const stat = lstatSync(path);
    const mode = (stat.mode & 0o7777).toString(8);
    const shown = `${within}${name} ${stat.isSymbolicLink() ? readlinkSync(path) : `${mode} ${stat.mtimeMs}`}`;
    return stat.isDirectory()
      ? [shown, ...seen(path, `${within}${name}/`)]
      : stat.isFile()
      ? [`${shown} ${readFileSync(path, "utf8")}`]
      : [shown];
  });
}
async function fresh(snapshot: Digest): Promise<string[]> {
  const dir = place();
  await checkout({ snapshot, dir, blobs });
  return seen(dir);
}

describe("spareFolders()", () => {
  const files = { a: "1", run: "#!", "d/b": "2", "d/e/c": "3", "f/b": "other" };

  test("lays out a folder that was left again, and makes no file anew that nobody has touched", async () => {
    const snapshot = await snapshotOf(files);
    const spare = spares();
    const first = await spare.checkout({ snapshot, dir: place(), blobs });
    expect(seen(first.dir)).toEqual(await fresh(snapshot));
    const inode = lstatSync(join(first.dir, "d/b")).ino;
    await tick();
    writeFileSync(join(first.dir, "made"), "by the task");
    writeFileSync(join(first.dir, "a"), "changed");
    await spare.leave(first);
    expect(existsSync(first.dir)).toBe(false);
    expect(readdirSync(join(top, "spare/1")).sort()).toEqual(["d", "f", "link", "run"]);
    const second = await spare.checkout({ snapshot, dir: place(), blobs });
    expect(seen(second.dir)).toEqual(await fresh(snapshot));
    expect(lstatSync(join(second.dir, "d/b")).ino).toBe(inode);
    expect(readdirSync(join(top, "spare"))).toEqual([]);
  });

  test.each<[string, (dir: string) => void]>([
    ["a file changed in place, with its times set back", (dir) => {
      const { atimeMs, mtimeMs } = lstatSync(join(dir, "a"));
      writeFileSync(join(dir, "a"), "2");
      utimesSync(join(dir, "a"), atimeMs / 1000, mtimeMs / 1000);
    }],
    ["a file cut", (dir) => truncateSync(join(dir, "a"), 0)],
    ["two folders exchanged", (dir) => {
      renameSync(join(dir, "d"), join(dir, "x"));
      renameSync(join(dir, "f"), join(dir, "d"));
      renameSync(join(dir, "x"), join(dir, "f"));
    }],
    ["a file in place of a folder, a folder in place of a file", (dir) => {
      rmSync(join(dir, "d"), { recursive: true });
      writeFileSync(join(dir, "d"), "now a file");
      rmSync(join(dir, "a"));
      writeTree(dir, { "a/deep/er": "now a folder" });
    }],
    ["symlinks to elsewhere in place of a folder and a file", (dir) => {
      rmSync(join(dir, "d"), { recursive: true });
      symlinkSync(join(top, "elsewhere"), join(dir, "d"));
      rmSync(join(dir, "a"));
      symlinkSync(join(top, "elsewhere/b"), join(dir, "a"));
      rmSync(join(dir, "link"));
      symlinkSync("/", join(dir, "link"));
    }],
    ["another name for a file", (dir) => linkSync(join(dir, "a"), join(dir, "../alias"))],
    [
      "a file whose name is no text",
      (dir) => void spawnSync("/bin/sh", ["-c", `cd "$1" && : > "$(printf 'd/a\\377b')"`, "sh", dir]),
    ],
    ["a symlink to elsewhere in place of the folder itself", (dir) => {
      renameSync(dir, `${dir}.moved`);
      symlinkSync(join(top, "elsewhere"), dir);
    }],
    ["modes taken away", (dir) => {
      chmodSync(join(dir, "run"), 0o600);
      chmodSync(join(dir, "d/e"), 0o500);
      chmodSync(join(dir, "d"), 0);
      chmodSync(dir, 0o700);
    }],
  ])("undoes %s", async (_, harm) => {
    mkdirSync(join(top, "elsewhere"));
    writeFileSync(join(top, "elsewhere/b"), "not ours");
    const snapshot = await snapshotOf(files);
    for (const clock of [laterClock, { ...realClock, now: () => 0 }]) {
      const spare = spares({ clock });
      const first = await spare.checkout({ snapshot, dir: place(), blobs });
      await tick();
      harm(first.dir);
      await spare.leave(first);
      const second = await spare.checkout({ snapshot, dir: place(), blobs });
      expect(seen(second.dir)).toEqual(await fresh(snapshot));
      expect(lstatSync(second.dir).mode & 0o777).toBe(0o755);
      rmSync(join(top, "alias"), { force: true });
      await spare.leave(second);
    }
    expect(readFileSync(join(top, "elsewhere/b"), "utf8")).toBe("not ours");
  });

  test("whatever a task does, the next tree is as if it were laid out anew", async () => {
    const names = ["a", "run", "d/b", "d/e/c", "f/b", "g/h/i"];
    const tree = fc.dictionary(fc.constantFrom(...names), fc.constantFrom("1", "22", "333"), { minKeys: 1 });
    const act = fc.record({
      kind: fc.constantFrom("write", "remove", "folder", "link", "move", "mode"),
      path: fc.constantFrom(...names, "d", "d/e", "new"),
    });
    const rounds = fc.array(fc.tuple(fc.nat(1), fc.array(act, { maxLength: 4 })), { minLength: 2, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(fc.array(tree, { minLength: 1, maxLength: 2 }), rounds, async (trees, rounds) => {
        const spare = spares();
        for (const [number, acts] of rounds) {
          const snapshot = await snapshotOf(trees[number % trees.length]!);
          const laid = await spare.checkout({ snapshot, dir: place(), blobs });
          expect(seen(laid.dir)).toEqual(await fresh(snapshot));
          await tick();
          for (const { kind, path } of acts) {
            const at = join(laid.dir, path);
            try {
              if (kind === "write") writeFileSync(at, "by the task");
              else if (kind === "remove") rmSync(at, { recursive: true });
              else if (kind === "folder") mkdirSync(at, { recursive: true });
              else if (kind === "link") symlinkSync("..", at);
              else if (kind === "move") renameSync(at, join(laid.dir, "f"));
              else chmodSync(at, 0o700);
            } catch {
              // what cannot be done there is not done
            }
          }
          await spare.leave(laid);
        }
      }),
      { numRuns: 12 },
    );
  });

  test("of folders that wait, takes the one of the same tree, else one that is alike, else none", async () => {
    const [one, like, other] = await Promise.all(
      [files, { ...files, a: "new" }, { "x/y": "1", z: "2", u: "3", w: "4" }].map(snapshotOf),
    );
    const spare = spares({ foldersMax: 3 });
    const laid = await Promise.all(
      [one, like, other].map((snapshot) => spare.checkout({ snapshot: snapshot!, dir: place(), blobs })),
    );
    const inodes = laid.map(({ dir }) => lstatSync(dir).ino);
    for (const each of laid) await spare.leave(each);
    const inodeOf = async (snapshot: Digest): Promise<number> =>
      lstatSync((await spare.checkout({ snapshot, dir: place(), blobs })).dir).ino;
    expect(await inodeOf(like!)).toBe(inodes[1]);
    expect(await inodeOf(like!)).toBe(inodes[0]);
    expect(inodes).not.toContain(await inodeOf(like!));
  });

  test("keeps no more than it may, nothing small, and nothing that a process is in", async () => {
    const snapshot = await snapshotOf(files);
    const few = spares({ foldersMax: 1 });
    const [a, b] = [
      await few.checkout({ snapshot, dir: place(), blobs }),
      await few.checkout({ snapshot, dir: place(), blobs }),
    ];
    await few.leave(a);
    expect(existsSync(join(top, "spare"))).toBe(false); // one is laid out
    await few.leave(b);
    expect(readdirSync(join(top, "spare"))).toEqual(["1"]);
    const small = spares({ filesMin: 6, dir: join(top, "none") });
    const c = await small.checkout({ snapshot, dir: place(), blobs });
    await small.leave(c);
    const lived = spares({ dir: join(top, "none") });
    const d = await lived.checkout({ snapshot, dir: place(), blobs });
    const child = spawn("/bin/sleep", ["1000"], { cwd: join(d.dir, "d"), stdio: "ignore" });
    onTestFinished(() => void process.kill(child.pid!, "SIGKILL"));
    await once(child, "spawn");
    await lived.leave(d);
    expect([c, d].map(({ dir }) => existsSync(dir))).toEqual([false, false]);
    expect(existsSync(join(top, "none"))).toBe(false);
  });

  test("whoever comes while a folder is still being tidied has it already", async () => {
    const many = Object.fromEntries(Array.from({ length: 1_500 }, (_, index) => [`d${index % 10}/f${index}`, "1"]));
    const snapshot = await snapshotOf({ a: "1", ...many });
    const spare = spares({ foldersMax: 1 });
    const first = await spare.checkout({ snapshot, dir: place(), blobs });
    const inode = lstatSync(join(first.dir, "d3/f3")).ino;
    await tick();
    writeFileSync(join(first.dir, "d9/f9"), "changed");
    writeFileSync(join(first.dir, "d9/made"), "by the task");
    const left = spare.leave(first);
    const second = await spare.checkout({ snapshot, dir: place(), blobs });
    await left;
    expect(lstatSync(join(second.dir, "d3/f3")).ino).toBe(inode);
    expect(readFileSync(join(second.dir, "d9/f9"), "utf8")).toBe("1");
    expect(existsSync(join(second.dir, "d9/made"))).toBe(false);
    await spare.leave(second);
    expect(readdirSync(join(top, "spare"))).toEqual(["2"]);
  });

  test("keeps nothing where there is no room, and removes what waits when there no longer is", async () => {
    const snapshot = await snapshotOf(files);
    let hasRoom = true;
    const spare = spares({ hasRoom: () => hasRoom, foldersMax: 3 });
    const lay = () => spare.checkout({ snapshot, dir: place(), blobs });
    const [a, b, c] = [await lay(), await lay(), await lay()];
    const waiting = (): string[] => readdirSync(join(top, "spare"));
    await spare.leave(a);
    expect(waiting()).toEqual(["1"]);
    hasRoom = false;
    await spare.leave(b);
    await vi.waitUntil(() => waiting().length === 0);
    expect(existsSync(b.dir)).toBe(false);
    hasRoom = true;
    await spare.leave(c);
    expect(waiting()).toEqual(["2"]);
    spare.drop();
    await vi.waitUntil(() => waiting().length === 0);
  });

  test("tells what the store lacks, and leaves nothing then", async () => {
    const snapshot = await snapshotOf(files);
    const spare = spares();
    await spare.leave(await spare.checkout({ snapshot, dir: place(), blobs }));
    const dir = place();
    const later = await snapshotOf({ ...files, a: "new" });
    const lacking: Blobs = { ...memoryBlobs(), get: blobs.get, missing: blobs.missing };
    const failing: Blobs = {
      ...lacking,
      async *get(digest, options) {
        if (digest.endsWith("/3")) yield* memoryBlobs().get(digest, options);
        else yield* blobs.get(digest, options);
      },
    };
    delete (failing as { peek?: unknown }).peek;
    await expect(spare.checkout({ snapshot: later, dir, blobs: failing })).rejects.toMatchObject({
      code: "BLOB_MISSING",
    });
    expect(existsSync(dir)).toBe(false);
    expect(seen((await spare.checkout({ snapshot: later, dir, blobs })).dir)).toEqual(await fresh(later));
    expect(realpathSync(dir)).toBe(dir);
  });
});
