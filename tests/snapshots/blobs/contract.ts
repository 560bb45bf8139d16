import { createHash, randomBytes } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Digest, digestOfHash, emptyDigest, hashOf, sizeOf } from "../../../src/domain/digest.ts";
import { type Blobs, digestOf, readBlob, type ReadOptions, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";

export const text = (length: number): Uint8Array =>
  Buffer.from("const answer = 42; // what was asked\n".repeat(Math.ceil(length / 37))).subarray(0, length);

/** The same bytes as a stream of chunks of that length. */
export async function* streamed(bytes: Uint8Array, chunkBytes = 10_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    yield await Promise.resolve(bytes.subarray(at, at + chunkBytes));
  }
}

export async function collected(blobs: Blobs, digest: Digest, options?: ReadOptions): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of blobs.get(digest, options)) {
    expect(chunk.length).toBeLessThanOrEqual(1024 * 1024);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** How long the blobs are that the contract tries: below, at and above where stores do something else. */
const sizes = [1, 1024, 1025, 4096, 4097, 128 * 1024, 128 * 1024 + 1, 3 * 1024 * 1024 + 7];

/** What every implementation of Blobs promises. @param make a new, empty store; the contract closes it. */
export function blobsContract(name: string, make: () => Blobs): void {
  describe(name, () => {
    const opened = (): Blobs => {
      const blobs = make();
      onTestFinished(() => blobs.close());
      return blobs;
    };

    test("finds a blob by its hash alone, where it can", async () => {
      const blobs = opened();
      if (blobs.find === undefined) return;
      expect(blobs.find(hashOf(emptyDigest))).toBe(emptyDigest);
      for (const size of [1, 200_000]) {
        const digest = digestOf(text(size));
        expect(blobs.find(hashOf(digest))).toBeUndefined();
        await writeBlob(blobs, text(size));
        expect(blobs.find(hashOf(digest))).toBe(digest);
      }
    });

    for (const size of sizes) {
      for (const [kind, bytes] of [["compressible", text(size)], ["random", randomBytes(size)]] as const) {
        test(`gives back ${size} ${kind} bytes that were put whole, and any part of them`, async () => {
          const blobs = opened();
          const digest = await writeBlob(blobs, bytes);
          expect(Buffer.compare(await collected(blobs, digest), bytes)).toBe(0);
          expect(Buffer.compare(await readBlob(blobs, digest, size), bytes)).toBe(0);
          for (
            const [offset, length] of [[0, 0], [0, 1], [size, 10], [size - 1, 1], [size >> 1, size], [
              size >> 2,
              size >> 2,
            ]]
          ) {
            const part = await collected(blobs, digest, { offset: offset!, length: length! });
            expect(Buffer.compare(part, bytes.subarray(offset, offset! + length!))).toBe(0);
          }
        });
        test(`gives back ${size} ${kind} bytes that were put as a stream`, async () => {
          const blobs = opened();
          const digest = digestOf(bytes);
          await blobs.put(digest, streamed(bytes));
          expect(Buffer.compare(await collected(blobs, digest), bytes)).toBe(0);
        });
      }
    }

    test("always holds the empty blob", async () => {
      const blobs = opened();
      expect(await collected(blobs, emptyDigest)).toHaveLength(0);
      expect(await readBlob(blobs, emptyDigest, 0)).toHaveLength(0);
      expect(await blobs.missing(new Set([emptyDigest]))).toEqual(new Set());
      await blobs.put(emptyDigest, new Uint8Array(0));
    });

    test("get() reports an absent blob as BLOB_MISSING", async () => {
      const blobs = opened();
      for (const size of sizes) {
        await expect(collected(blobs, digestOf(text(size)))).rejects.toMatchObject({ code: "BLOB_MISSING" });
      }
    });

    test("get() knows a hash with another size as an absent blob", async () => {
      const blobs = opened();
      const digest = await writeBlob(blobs, text(5000));
      const other = digestOfHash(hashOf(digest), 4999);
      await expect(collected(blobs, other)).rejects.toMatchObject({ code: "BLOB_MISSING" });
      expect(await blobs.missing(new Set([other]))).toEqual(new Set([other]));
      expect(blobs.peek?.(other)).toBeUndefined();
    });

    test("missing() says exactly which blobs are absent", async () => {
      const blobs = opened();
      const present = await Promise.all(sizes.map((size) => writeBlob(blobs, text(size))));
      const absent = sizes.map((size) => digestOf(randomBytes(size)));
      expect(await blobs.missing(new Set([...present, ...absent]))).toEqual(new Set(absent));
    });

    for (const size of [500, 50_000, 500_000]) {
      test(`put() refuses ${size} bytes that differ from their digest and keeps nothing`, async () => {
        const blobs = opened();
        const bytes = text(size);
        const digest = digestOf(bytes);
        const wrong = Buffer.from(bytes);
        wrong[size >> 1]! ^= 1;
        const longer = Buffer.concat([bytes, Buffer.of(1)]);
        for (const given of [wrong, longer, bytes.subarray(1), new Uint8Array(0)]) {
          await expect(blobs.put(digest, given)).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
          await expect(blobs.put(digest, streamed(given))).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
        }
        expect(await blobs.missing(new Set([digest]))).toEqual(new Set([digest]));
        await blobs.put(digest, bytes);
        expect(Buffer.compare(await collected(blobs, digest), bytes)).toBe(0);
      });

      test(`put() of a stream of ${size} bytes that breaks off throws what the stream threw and keeps nothing`, async () => {
        const blobs = opened();
        const bytes = text(size);
        const digest = digestOf(bytes);
        async function* broken(): AsyncGenerator<Uint8Array> {
          yield* streamed(bytes.subarray(0, size >> 1));
          throw new Error("the peer is gone");
        }
        await expect(blobs.put(digest, broken())).rejects.toThrow("the peer is gone");
        expect(await blobs.missing(new Set([digest]))).toEqual(new Set([digest]));
      });
    }

    test("put() of an endless stream ends at the size that the digest tells", async () => {
      const blobs = opened();
      let given = 0;
      async function* endless(): AsyncGenerator<Uint8Array> {
        for (;;) {
          given += 65536;
          yield await Promise.resolve(new Uint8Array(65536));
        }
      }
      for (const size of [1000, 1_000_000]) {
        given = 0;
        await expect(blobs.put(digestOf(text(size)), endless())).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
        expect(given).toBeLessThan(size + 4_000_000);
      }
    });

    test("put() does not depend on the caller leaving the bytes alone afterwards, nor do readers share them", async () => {
      const blobs = opened();
      const bytes = Buffer.from(randomBytes(600));
      const digest = await writeBlob(blobs, bytes);
      const before = Buffer.from(bytes);
      bytes.fill(0);
      const read = await readBlob(blobs, digest, 600);
      expect(Buffer.compare(read, before)).toBe(0);
      read.fill(0);
      (await collected(blobs, digest)).fill(0);
      for await (const chunk of blobs.get(digest)) chunk.fill(0);
      expect(Buffer.compare(await readBlob(blobs, digest, 600), before)).toBe(0);
    });

    test("put() of the same blob many times at once stores it", async () => {
      const blobs = opened();
      for (const size of [3000, 300_000]) {
        const bytes = text(size);
        await Promise.all(
          Array.from({ length: 8 }, (_, i) => blobs.put(digestOf(bytes), i % 2 ? bytes : streamed(bytes))),
        );
        expect(Buffer.compare(await collected(blobs, digestOf(bytes)), bytes)).toBe(0);
      }
    });

    test("put() and get() stop with the signal's reason", async () => {
      const blobs = opened();
      const reason = new Error("not wanted any more");
      for (const size of [3000, 1_000_000]) {
        const bytes = randomBytes(size);
        const digest = digestOf(bytes);
        const stop = new AbortController();
        const stopping = async function* (): AsyncGenerator<Uint8Array> {
          yield bytes.subarray(0, 1000);
          stop.abort(reason);
          yield* streamed(bytes.subarray(1000));
        };
        await expect(blobs.put(digest, stopping(), { signal: stop.signal })).rejects.toBe(reason);
        expect(await blobs.missing(new Set([digest]))).toEqual(new Set([digest]));
        await blobs.put(digest, bytes);
        await expect(collected(blobs, digest, { signal: stop.signal })).rejects.toBe(reason);
      }
    });

    test("get() may be left before its end", async () => {
      const blobs = opened();
      for (const bytes of [text(5_000_000), randomBytes(5_000_000)]) {
        const digest = await writeBlob(blobs, bytes);
        for await (const chunk of blobs.get(digest)) {
          expect(Buffer.compare(chunk, bytes.subarray(0, chunk.length))).toBe(0);
          break;
        }
      }
    });

    test("get() refuses an offset outside of the blob and numbers that are not whole", async () => {
      const blobs = opened();
      const digest = await writeBlob(blobs, text(100));
      for (
        const options of [{ offset: 101 }, { offset: -1 }, { offset: 0.5 }, { length: -1 }, { length: Number.NaN }]
      ) {
        await expect(collected(blobs, digest, options)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
      }
    });

    test("readBlob() refuses a blob larger than its caller will hold", async () => {
      const blobs = opened();
      const digest = await writeBlob(blobs, text(100));
      await expect(readBlob(blobs, digest, 99)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    });

    test("gives chunks that hash to the digest also for a blob that was put in single bytes", async () => {
      const blobs = opened();
      const bytes = randomBytes(140_000);
      const digest = digestOf(bytes);
      await blobs.put(digest, streamed(bytes, 7));
      const hash = createHash("sha256");
      for await (const chunk of blobs.get(digest)) hash.update(chunk);
      expect(digestOfHash(hash.digest("hex"), sizeOf(digest))).toBe(digest);
    });
  });
}
