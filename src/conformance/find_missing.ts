import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, emptyBlob, expectCode, expectThat, newBytes } from "./client.ts";
import type { Check } from "./run.ts";

/** Parts 3 and 4: digests, FindMissingBlobs. */
export const checks: readonly Check[] = [
  {
    id: "D-1",
    says: "a hash out of form is INVALID_ARGUMENT",
    async holds(client) {
      const { hash } = digestOfBytes(newBytes());
      for (const bad of [hash.slice(1), hash.toUpperCase(), "x".repeat(64)]) {
        await expectCode(
          client.unary(methods.findMissingBlobs, { blobDigests: [{ hash: bad, sizeBytes: 1 }] }),
          "INVALID_ARGUMENT",
        );
      }
    },
  },
  {
    id: "D-4",
    says: "the empty blob is always there",
    async holds(client) {
      const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, { blobDigests: [emptyBlob] });
      expectThat(missingBlobDigests.length === 0, "it is reported missing");
      const read = await client.stream(methods.read, { resourceName: client.blobName(emptyBlob) });
      expectThat(read.every(({ data }) => data.length === 0), "it reads as something");
    },
  },
  {
    id: "F-1",
    says: "what was asked and is absent is answered, and nothing else",
    async holds(client) {
      const bytes = newBytes();
      const [here, absent] = [digestOfBytes(bytes), digestOfBytes(newBytes())];
      await client.write([{ resourceName: client.uploadName(here), data: bytes, finishWrite: true }]);
      const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, { blobDigests: [here, absent] });
      expectThat(
        missingBlobDigests.length === 1 && missingBlobDigests[0]!.hash === absent.hash,
        `it answers ${missingBlobDigests.length} digests`,
      );
    },
  },
];
