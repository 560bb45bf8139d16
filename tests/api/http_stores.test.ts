import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { digestOfHash } from "../../src/domain/digest.ts";
import { connectClient } from "../../src/api/client.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { capture } from "../../src/snapshots/trees/capture.ts";
import type { Blobs } from "../../src/snapshots/blobs/blobs.ts";
import { digestOf } from "../../src/snapshots/blobs/blobs.ts";
import { blobsContract } from "../snapshots/blobs/contract.ts";
import { refsContract } from "../snapshots/refs/contract.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";
import { writeTree } from "../snapshots/trees/git_repositories.ts";
import { type Rig, startRig, token } from "./rig.ts";

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
beforeEach(() => rig.empty());
afterAll(() => rig.close());

blobsContract("client.blobs", () => rig.client.blobs);
refsContract("client.names", () => rig.client.names);

test("20,000 small blobs are stored and read back in a few requests", async () => {
  const contents = Array.from(
    { length: 20_000 },
    (_, index) => Buffer.from(`file number ${index} `.repeat(1 + index % 100)),
  );
  const digests = contents.map(digestOf);
  const requests = rig.requests();
  expect((await rig.client.blobs.missing(new Set(digests))).size).toBe(20_000);
  await Promise.all(contents.map((bytes, index) => rig.client.blobs.put(digests[index]!, bytes)));
  expect((await rig.client.blobs.missing(new Set(digests))).size).toBe(0);
  const sizes = await Promise.all(digests.map(async (digest) => {
    let size = 0;
    for await (const chunk of rig.client.blobs.get(digest)) size += chunk.length;
    return size;
  }));
  expect(sizes).toEqual(contents.map(({ length }) => length));
  expect(rig.requests() - requests).toBeLessThan(80);
});

test("a folder that is as it was is sent again to a store that has lost any of it, and else asked after once", async () => {
  const dir = temporaryFolder();
  const indexPath = join(temporaryFolder(), "index");
  const files = Array.from({ length: 50 }, (_, index) => `folder${index % 5}/file${index}`);
  writeTree(dir, Object.fromEntries(files.map((path) => [path, path])));
  const { client } = rig;
  const warm = () =>
    capture({
      dir,
      blobs: client.blobs,
      clock: { ...realClock, now: () => realClock.now() + 10_000 }, // what was just written is old to it
      indexPath,
      holdsTree: client.holds,
    });
  const first = await warm();
  expect(first.sentFiles).toBe(50);
  const requests = rig.requests();
  expect(await warm()).toMatchObject({ snapshot: first.snapshot, sentFiles: 0, sentBytes: 0 });
  expect(rig.requests() - requests).toBe(1);
  rig.empty();
  expect(await warm()).toMatchObject({ snapshot: first.snapshot, sentFiles: 50 });
  expect(await client.holds(first.snapshot)).toBe(true);
});

/** A stream of that many bytes that breaks the gateway after some of them, the first time. */
const breaking = (
  bytes: Uint8Array,
  onHalf: () => Promise<void>,
): AsyncIterable<Uint8Array> & { readonly starts: () => number } => {
  let starts = 0;
  return {
    starts: () => starts,
    async *[Symbol.asyncIterator]() {
      const start = ++starts;
      for (let at = 0; at < bytes.length; at += 64 * 1024) {
        if (start === 1 && at >= bytes.length / 2) await onHalf();
        yield bytes.subarray(at, at + 64 * 1024);
      }
    },
  };
};
const restart = async (): Promise<void> => {
  await rig.stopGateway();
  await rig.startGateway();
};

test("a stream that can begin again is sent again when the gateway was restarted half-way", async () => {
  const bytes = randomBytes(8 * 1024 * 1024);
  let restarted: Promise<void> | undefined;
  const stream = breaking(bytes, () => restarted ??= restart());
  await rig.client.blobs.put(digestOf(bytes), stream);
  expect(stream.starts()).toBeGreaterThan(1); // on a slow machine it may find the gateway still away
  expect((await rig.blobs.missing(new Set([digestOf(bytes)]))).size).toBe(0);
});

test("a stream that can be read only once fails as PEER_UNREACHABLE when the gateway was restarted half-way", async () => {
  const bytes = randomBytes(8 * 1024 * 1024);
  const once = breaking(bytes, restart)[Symbol.asyncIterator]() as AsyncGenerator<Uint8Array>;
  await expect(rig.client.blobs.put(digestOf(bytes), once)).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
  expect((await rig.blobs.missing(new Set([digestOf(bytes)]))).size).toBe(1);
});

test("a blob that is read over a restart of the gateway goes on where it broke", async () => {
  const bytes = randomBytes(16 * 1024 * 1024);
  await rig.blobs.put(digestOf(bytes), bytes);
  const parts: Uint8Array[] = [];
  let restarted = false;
  for await (const chunk of rig.client.blobs.get(digestOf(bytes))) {
    parts.push(chunk);
    if (restarted) continue;
    restarted = true;
    await restart();
  }
  expect(Buffer.compare(Buffer.concat(parts), bytes)).toBe(0);
});

test("a large stream is refused as NO_SPACE without sending all of it", async () => {
  rig.setSpace(false);
  const bytes = Buffer.alloc(1024 * 1024);
  let given = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;; given += bytes.length) yield await Promise.resolve(bytes);
  }
  const digest = digestOfHash("ab".repeat(32), 4 * 1024 ** 3);
  await expect(rig.client.blobs.put(digest, endless())).rejects.toMatchObject({ code: "NO_SPACE" });
  rig.setSpace(true);
  expect(given).toBeLessThan(256 * 1024 * 1024);
});

test("a client of an address where nobody listens fails when its time is over", async () => {
  const client = connectClient({ url: "http://127.0.0.1:1", token, waitMs: 50 });
  const blobs: Blobs = client.blobs;
  await expect(blobs.missing(new Set([digestOf(randomBytes(9))]))).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
  await expect(client.cluster()).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
  await client.close();
});
