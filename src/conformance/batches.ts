import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, expectThat, newBytes } from "./client.ts";
import type { Check } from "./run.ts";

/** Part 5: batches. */
export const checks: readonly Check[] = [
  {
    id: "BU-3",
    says: "a blob that does not match is INVALID_ARGUMENT by itself, and is not stored",
    async holds(client) {
      const [good, bad] = [newBytes(), newBytes()];
      const requests = [good, bad].map((bytes) => ({ digest: digestOfBytes(bytes), data: good, compressor: 0 }));
      const { responses } = await client.unary(methods.batchUpdateBlobs, { requests });
      const codes = requests.map(({ digest }) =>
        responses.find((it) => it.digest?.hash === digest.hash)?.status?.code ?? 0
      );
      expectThat(responses.length === 2 && codes[0] === 0 && codes[1] === 3, `the codes are ${codes.join(", ")}`);
      const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, {
        blobDigests: requests.map((it) => it.digest),
      });
      expectThat(missingBlobDigests.length === 1, `${missingBlobDigests.length} of 2 are missing`);
    },
  },
  {
    id: "BU-4",
    says: "a missing blob is NOT_FOUND by itself",
    async holds(client) {
      const { responses } = await client.unary(methods.batchReadBlobs, { digests: [digestOfBytes(newBytes())] });
      expectThat(
        responses.length === 1 && responses[0]!.status?.code === 5,
        `the code is ${responses[0]?.status?.code}`,
      );
    },
  },
];
