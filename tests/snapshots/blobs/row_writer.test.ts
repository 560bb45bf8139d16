import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { open } from "lmdb";
import { expect, onTestFinished, test, vi } from "vitest";
import { rowWriter } from "../../../src/snapshots/blobs/row_writer.ts";
import { hasRoom } from "../../../src/snapshots/lmdb_fault.ts";
import { smallDisk } from "../small_disk.ts";
import { temporaryFolder } from "../temporary_folder.ts";

function opened(dir: string) {
  const root = open<Uint8Array, Uint8Array>({
    path: join(dir, "index"),
    overlappingSync: false,
    eventTurnBatching: false,
    encoding: "binary",
    keyEncoding: "binary",
  });
  onTestFinished(() => root.close());
  return root;
}

test("writes what was asked for, and is idle only then", async () => {
  const root = opened(temporaryFolder());
  const writer = rowWriter(root, () => true);
  await writer.idle();
  const keys = Array.from({ length: 2000 }, (_, n) => Buffer.from(`key ${n}`));
  const written = keys.map((key) => writer.write(1000, () => [{ rows: root, key, value: key }]));
  await writer.idle();
  for (const key of keys) expect(root.getBinary(key)).toEqual(key);
  await Promise.all(written);
});

test("gives others a turn between large amounts of work", async () => {
  const root = opened(temporaryFolder());
  const writer = rowWriter(root, () => true);
  let made = 0;
  const written = Array.from({ length: 10 }, (_, n) =>
    writer.write(256 * 1024, () => {
      made++;
      return [{ rows: root, key: Buffer.of(n), value: Buffer.of(n) }];
    }));
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  expect(made).toBeLessThan(10);
  await Promise.all(written);
  expect(made).toBe(10);
});

test("what cannot be made rejects alone", async () => {
  const root = opened(temporaryFolder());
  const writer = rowWriter(root, () => true);
  const good = writer.write(1, () => [{ rows: root, key: Buffer.from("good"), value: Buffer.from("value") }]);
  const bad = writer.write(1, () => {
    throw new Error("cannot be made");
  });
  await expect(bad).rejects.toThrow("cannot be made");
  await good;
  expect(root.getBinary(Buffer.from("bad"))).toBeUndefined();
  await writer.idle();
});

test("answers NO_SPACE where LMDB meets a full disk, keeps nothing of the group, and goes on", async (context) => {
  const dir = smallDisk(1024 * 1024);
  if (dir === undefined) return context.skip("this machine lets nobody mount a small disk");
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  onTestFinished(() => printed.mockRestore());
  const root = opened(dir);
  let asked = 0; // first by the writer before it writes, when there seems to be room, then to judge what LMDB says
  const writer = rowWriter(root, (bytes) => ++asked % 2 === 1 || hasRoom(dir, bytes));
  const keys = Array.from({ length: 50 }, (_, n) => Buffer.from(`key ${n}`));
  for (let again = 0; again < 3; again++) {
    const results = await Promise.allSettled(
      keys.map((key) => writer.write(1, () => [{ rows: root, key, value: randomBytes(50_000) }])),
    );
    asked = 0;
    for (const result of results) expect(result).toMatchObject({ status: "rejected", reason: { code: "NO_SPACE" } });
    for (const key of keys) expect(root.getBinary(key)).toBeUndefined();
  }
  await writer.write(1, () => [{ rows: root, key: Buffer.from("small"), value: Buffer.from("value") }]);
  expect(root.getBinary(Buffer.from("small"))?.toString()).toBe("value");
});
