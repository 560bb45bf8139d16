import { createHash } from "node:crypto";
import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, expectIsOneOf, expectThat, load, newBytes, statusOf, store, within } from "./client.ts";
import type { Check } from "./run.ts";

/** Part 4: FindMissingBlobs. */
export const checks: readonly Check[] = [
  {
    id: "F-1",
    says: "what was asked and is absent is answered, and nothing else; to ask twice is no mistake",
    async holds(client) {
      const here = await store(client, newBytes());
      const absent = digestOfBytes(newBytes());
      const blobDigests = [here, absent, here, absent];
      const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, { blobDigests });
      expectThat(
        missingBlobDigests.length >= 1 && missingBlobDigests.length <= 2 &&
          missingBlobDigests.every(({ hash }) => hash === absent.hash),
        `it answers ${missingBlobDigests.length} digests`,
      );
    },
  },
  {
    id: "F-3",
    says: "what is reported present can be read now",
    async holds(client) {
      const blobs = Array.from({ length: 20 }, (_, place) => newBytes(36 + place * 5_000));
      const digests = blobs.map(digestOfBytes);
      await Promise.all(blobs.map((bytes) => store(client, bytes)));
      const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, { blobDigests: digests });
      const missing = new Set(missingBlobDigests.map(({ hash }) => hash));
      expectThat(missing.size === 0, `${missing.size} of what was just stored are missing`);
      const read = await Promise.all(digests.map((digest) => load(client, digest)));
      expectThat(read.every((bytes, place) => bytes.equals(blobs[place]!)), "one reads as something else");
    },
  },
  {
    id: "F-4",
    says: "100,000 digests may be asked for at once",
    async holds(client) {
      const here = await store(client, newBytes());
      const blobDigests = Array.from({ length: 100_000 }, (_, n) => ({
        hash: createHash("sha256").update(`${here.hash} ${n}`).digest("hex"),
        sizeBytes: n,
      }));
      const { missingBlobDigests } = await within(
        30_000,
        "the answer",
        client.unary(methods.findMissingBlobs, { blobDigests: [...blobDigests, here] }),
      );
      expectThat(missingBlobDigests.length === 100_000, `it says that ${missingBlobDigests.length} are missing`);
    },
  },
  {
    id: "F-5",
    says: "a known hash with another size is not reported present",
    async holds(client) {
      const { hash, sizeBytes } = await store(client, newBytes());
      const blobDigests = [{ hash, sizeBytes: sizeBytes + 1 }];
      let found = 0;
      const { code } = await statusOf(
        client.unary(methods.findMissingBlobs, { blobDigests }).then((answer) =>
          found = answer.missingBlobDigests.length
        ),
      );
      expectIsOneOf(code, ["OK", "INVALID_ARGUMENT"]);
      expectThat(code !== 0 || found === 1, "it is reported present");
    },
  },
];
