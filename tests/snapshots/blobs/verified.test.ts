import { expect, test } from "vitest";
import { type Blobs, digestOf, readBlob, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { verified } from "../../../src/snapshots/blobs/verified.ts";
import { blobsContract, collected, streamed, text } from "./contract.ts";

blobsContract("verified()", () => verified(memoryBlobs()));

/** A store that gives those bytes whatever it is asked for. */
const lying = (bytes: Uint8Array): Blobs => ({
  ...memoryBlobs(),
  get: () => streamed(bytes),
  peek: () => bytes,
});

test("verified() never gives the whole of a wrong blob", async () => {
  const bytes = text(50_000);
  const wrong = Buffer.from(bytes);
  wrong[49_999]! ^= 1;
  for (const given of [wrong, wrong.subarray(1), Buffer.concat([bytes, bytes])]) {
    let received = 0;
    await expect((async () => {
      for await (const chunk of verified(lying(given)).get(digestOf(bytes))) received += chunk.length;
    })()).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
    expect(received).toBeLessThan(50_000);
    await expect(readBlob(verified(lying(given)), digestOf(bytes), 50_000)).rejects.toMatchObject({
      code: "BLOB_CORRUPT",
    });
  }
});

test("verified() checks the whole blob also where a part is read", async () => {
  const bytes = text(50_000);
  const wrong = Buffer.from(bytes);
  wrong[49_999]! ^= 1;
  await expect(collected(verified(lying(wrong)), digestOf(bytes), { offset: 10, length: 5 })).rejects.toMatchObject({
    code: "BLOB_CORRUPT",
  });
});

test("verified() passes on what the store below throws", async () => {
  const blobs = verified(memoryBlobs());
  await writeBlob(blobs, text(10));
  await expect(collected(blobs, digestOf(text(11)))).rejects.toMatchObject({ code: "BLOB_MISSING" });
});
