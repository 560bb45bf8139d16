import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { inflateRawSync } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import { digestOf } from "../../../src/snapshots/blobs/blobs.ts";
import { deflated, raw } from "../../../src/snapshots/blobs/deflate.ts";
import { type Pool, threadPool } from "../../../src/snapshots/pool/pool.ts";
import { startChild } from "../child.ts";
import { temporaryFolder } from "../temporary_folder.ts";

function opened(threads: number): Pool {
  const pool = threadPool({ threads });
  onTestFinished(() => pool.close());
  return pool;
}

test("hashes files, more than it has threads, each as itself", async () => {
  const dir = temporaryFolder();
  const pool = opened(2);
  const files = Array.from({ length: 10 }, (_, i) => {
    const bytes = randomBytes(i * 50_000);
    writeFileSync(join(dir, String(i)), bytes);
    return { path: join(dir, String(i)), digest: digestOf(bytes) };
  });
  expect(await Promise.all(files.map(({ path }) => pool.hashFile(path)))).toEqual(files.map(({ digest }) => digest));
});

test("stores a file deflated where that is worth it, and as it is otherwise", async () => {
  const dir = temporaryFolder();
  const pool = opened(1);
  const text = Buffer.from("all work and no play ".repeat(50_000));
  const noise = randomBytes(1_000_000);
  writeFileSync(join(dir, "text"), text);
  writeFileSync(join(dir, "noise"), noise);
  const stored = await pool.storeFile(join(dir, "text"), join(dir, "text.z"));
  expect(stored).toMatchObject({ digest: digestOf(text), encoding: deflated });
  expect(inflateRawSync(readFileSync(join(dir, "text.z"))).equals(text)).toBe(true);
  expect(stored.storedBytes).toBe(readFileSync(join(dir, "text.z")).length);
  expect(await pool.storeFile(join(dir, "noise"), join(dir, "noise.raw"))).toEqual({
    digest: digestOf(noise),
    encoding: raw,
    storedBytes: noise.length,
  });
  expect(readFileSync(join(dir, "noise.raw")).equals(noise)).toBe(true);
});

test("keeps the code of what went wrong in a thread, and the thread", async () => {
  const dir = temporaryFolder();
  const pool = opened(1);
  await expect(pool.hashFile(join(dir, "nothing"))).rejects.toMatchObject({ code: "ENOENT" });
  writeFileSync(join(dir, "something"), "x");
  expect(await pool.hashFile(join(dir, "something"))).toBe(digestOf(Buffer.from("x")));
});

test("close() rejects calls under way and waiting, and calls after it", async () => {
  const fifo = join(temporaryFolder(), "fifo");
  execFileSync("mkfifo", [fifo]);
  const pool = threadPool({ threads: 1 });
  const calls = [pool.hashFile(fifo), pool.hashFile(fifo)]; // nobody writes to it: they never end by themselves
  const ends = Promise.all(calls.map((call) => expect(call).rejects.toMatchObject({ code: "DRAINING" })));
  await pool.close();
  await ends;
  await expect(pool.hashFile(fifo)).rejects.toMatchObject({ code: "DRAINING" });
  // Whoever still waits in the system for a writer is let go.
  writeFileSync(fifo, "", { flag: "r+" });
});

test("a call rejects when its thread dies, and the next call gets another thread", async () => {
  const pool = threadPool({ threads: 1, script: new URL("./dying_worker.ts", import.meta.url) });
  onTestFinished(() => pool.close());
  for (const way of ["exit", "throw", "exit"]) {
    await expect(pool.hashFile(way)).rejects.toMatchObject({ code: "INTERNAL" });
    expect(await pool.hashFile("live")).toBe("live");
  }
});

test("an idle pool does not keep its process alive", { timeout: 30_000 }, async () => {
  const dir = temporaryFolder();
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "file"), "x");
  const child = startChild(new URL("./idle_child.ts", import.meta.url), join(dir, "file"));
  expect((await child.lines.next()).value).toBe(digestOf(Buffer.from("x")));
  expect(await child.ended).toBe(0);
  expect(existsSync(join(dir, "file"))).toBe(true);
});
