import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync, inflateRawSync, zstdCompressSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Digest } from "../../../src/domain/digest.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { hasZstd } from "../../../src/runtime/zstd.ts";
import { type Compressed, digestOf, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { type LocalBlobs, localBlobs } from "../../../src/snapshots/blobs/local.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { collected, text } from "./contract.ts";

let dir: string;
let blobs: LocalBlobs;
beforeEach(() => {
  dir = temporaryFolder();
  blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
});
afterEach(() => blobs.close());

const fileOf = (bytes: Uint8Array): string => {
  const path = join(dir, "upload");
  writeFileSync(path, bytes);
  return path;
};
const gathered = async (chunks: AsyncIterable<Uint8Array> | undefined): Promise<Buffer | undefined> => {
  if (chunks === undefined) return undefined;
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
};
const holdsWhole = async (digest: Digest, bytes: Uint8Array): Promise<void> => {
  expect(Buffer.compare(await collected(blobs, digest), bytes)).toBe(0);
  const part = await collected(blobs, digest, { offset: 70_000, length: 90_000 });
  expect(Buffer.compare(part, bytes.subarray(70_000, 160_000))).toBe(0);
  expect((await blobs.missing(new Set([digest]))).size).toBe(0);
  expect(blobs.find(digest.slice(0, 64))).toBe(digest);
};
const compressions: readonly (readonly [Compressed, (bytes: Uint8Array) => Buffer])[] = [
  ["deflate", (bytes) => deflateRawSync(bytes)],
  ...(hasZstd ? [["zstd", (bytes: Uint8Array) => zstdCompressSync(bytes)] as const] : []),
];

describe("adopt()", () => {
  test.runIf(hasZstd)("takes a large frame of what does not get smaller, and frames one after the other", async () => {
    const random = randomBytes(9_000_000);
    const skippable = Buffer.from("5e2a4d1803000000abcdef", "hex");
    for (
      const [bytes, sent] of [
        [random, zstdCompressSync(random)],
        [
          random.subarray(1),
          Buffer.concat([zstdCompressSync(random.subarray(1, 7)), zstdCompressSync(random.subarray(7))]),
        ],
        [random.subarray(2), Buffer.concat([skippable, zstdCompressSync(random.subarray(2)), skippable])],
      ] as const
    ) {
      await blobs.adopt!(digestOf(bytes), { path: fileOf(sent), compressor: "zstd" });
      await holdsWhole(digestOf(bytes), bytes);
      expect(Buffer.compare((await gathered(blobs.asKept!(digestOf(bytes), "zstd")))!, sent)).toBe(0);
    }
  });
  test("takes what is deflated and does not get smaller", async () => {
    const random = randomBytes(9_000_000);
    await blobs.adopt!(digestOf(random), { path: fileOf(deflateRawSync(random)), compressor: "deflate" });
    await holdsWhole(digestOf(random), random);
  });

  test("moves a file of raw bytes, be they such that would get smaller; small ones are deflated", async () => {
    for (const bytes of [randomBytes(300_000), Buffer.from(text(300_000))]) {
      const path = fileOf(bytes);
      await blobs.adopt!(digestOf(bytes), { path, compressor: "identity" });
      expect(existsSync(path)).toBe(false);
      await holdsWhole(digestOf(bytes), bytes);
      expect(blobs.asKept!(digestOf(bytes), "deflate")).toBeUndefined();
    }
    const small = Buffer.from(text(100_000));
    await blobs.adopt!(digestOf(small), { path: fileOf(small), compressor: "identity" });
    const kept = await gathered(blobs.asKept!(digestOf(small), "deflate"));
    expect(Buffer.compare(inflateRawSync(kept!), small)).toBe(0);
  });

  for (const [compressor, compress] of compressions) {
    test(`keeps what came as ${compressor} as it is, gives it back so, and its raw bytes and parts of them too`, async () => {
      const bytes = Buffer.from(text(300_000));
      const sent = compress(bytes);
      await blobs.adopt!(digestOf(bytes), { path: fileOf(sent), compressor });
      await holdsWhole(digestOf(bytes), bytes);
      expect(Buffer.compare((await gathered(blobs.asKept!(digestOf(bytes), compressor)))!, sent)).toBe(0);
      const [other] = compressions.map(([name]) => name).filter((name) => name !== compressor);
      if (other !== undefined) expect(blobs.asKept!(digestOf(bytes), other)).toBeUndefined();
      // Another that is opened on the same folder finds it so; what is taken away is gone with its file.
      const again = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
      expect(Buffer.compare(await collected(again, digestOf(bytes)), bytes)).toBe(0);
      const taken = await again.held.remove(
        [Buffer.from(digestOf(bytes).slice(0, 64), "hex")],
        Number.MAX_SAFE_INTEGER,
      );
      expect(taken.count).toBe(1);
      await again.close();
      await expect(collected(blobs, digestOf(bytes))).rejects.toMatchObject({ code: "BLOB_MISSING" });
      expect((await blobs.held.removeOrphans()).count).toBe(0);
    });

    test(`refuses ${compressor} that is not whole, has more behind it, or holds something else; nothing is kept`, async () => {
      const bytes = Buffer.from(text(300_000));
      const digest = digestOf(bytes);
      const sent = compress(bytes);
      const bad = [
        sent.subarray(0, sent.length - 5),
        Buffer.concat([sent, Buffer.from("more")]),
        bytes,
        compress(bytes.subarray(1)),
        compress(Buffer.concat([bytes, bytes])),
        Buffer.alloc(0),
      ];
      for (const given of bad) {
        const path = fileOf(given);
        await expect(blobs.adopt!(digest, { path, compressor })).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
        expect(Buffer.compare(readFileSync(path), given)).toBe(0);
        expect((await blobs.missing(new Set([digest]))).size).toBe(1);
      }
      await blobs.adopt!(digest, { path: fileOf(sent), compressor });
      await holdsWhole(digest, bytes);
    });
  }

  test("leaves the file alone when the blob is there", async () => {
    const bytes = randomBytes(300_000);
    const digest = await writeBlob(blobs, bytes);
    const path = fileOf(bytes);
    await blobs.adopt!(digest, { path, compressor: "identity" });
    expect(existsSync(path)).toBe(true);
    await holdsWhole(digest, bytes);
  });
});

test("a small deflated blob is given as it lies, too", async () => {
  const bytes = Buffer.from(text(5_000));
  const digest = await writeBlob(blobs, bytes);
  expect(Buffer.compare(inflateRawSync((await gathered(blobs.asKept!(digest, "deflate")))!), bytes)).toBe(0);
  const raw = await writeBlob(blobs, Buffer.from("short"));
  expect(blobs.asKept!(raw, "deflate")).toBeUndefined();
});
