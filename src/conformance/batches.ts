import { Buffer } from "node:buffer";
import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, expectCode, expectThat, missingOf, newBytes, NotOffered, store } from "./client.ts";
import { compressorNames, compressWith, decompressWith } from "./compressors.ts";
import type { Check } from "./run.ts";

const zstd = 1;

/** Part 5: batches. */
export const checks: readonly Check[] = [
  {
    id: "BU-1",
    says: "every digest has one answer, with that digest",
    async holds(client) {
      const blobs = Array.from({ length: 10 }, () => newBytes());
      const digests = blobs.map(digestOfBytes);
      const updated = await client.unary(methods.batchUpdateBlobs, {
        requests: blobs.map((data, place) => ({ digest: digests[place], data, compressor: 0 })),
      });
      const absent = digestOfBytes(newBytes());
      const read = await client.unary(methods.batchReadBlobs, { digests: [...digests, absent] });
      for (const [asked, { responses }] of [[digests, updated], [[...digests, absent], read]] as const) {
        const answered = responses.map(({ digest }) => `${digest?.hash}/${digest?.sizeBytes}`).sort();
        const wanted = asked.map(({ hash, sizeBytes }) => `${hash}/${sizeBytes}`).sort();
        expectThat(answered.join() === wanted.join(), `it answers ${answered.length} of ${wanted.length}`);
      }
    },
  },
  {
    id: "BU-2",
    says: "more than max_batch_total_size_bytes is INVALID_ARGUMENT as a whole",
    async holds(client, { cacheCapabilities }) {
      const max = cacheCapabilities?.maxBatchTotalSizeBytes ?? 0;
      if (max === 0 || max > 2 ** 24) throw new NotOffered(`its batches may have ${max === 0 ? "any size" : max}`);
      const blobs = [newBytes(Math.ceil(max / 2) + 1), newBytes(Math.ceil(max / 2) + 1)];
      const requests = blobs.map((data) => ({ digest: digestOfBytes(data), data, compressor: 0 }));
      await expectCode(client.unary(methods.batchUpdateBlobs, { requests }), "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED");
      expectThat(await missingOf(client, blobs.map(digestOfBytes)) === 2, "some of it is stored");
      const digests = await Promise.all(blobs.map((bytes) => store(client, bytes)));
      await expectCode(client.unary(methods.batchReadBlobs, { digests }), "INVALID_ARGUMENT");
    },
  },
  {
    id: "BU-3",
    says: "a blob that does not match is INVALID_ARGUMENT by itself, and is not stored",
    async holds(client) {
      const [good, bad, long] = [newBytes(), newBytes(), newBytes()];
      const requests = [
        { digest: digestOfBytes(good), data: good, compressor: 0 },
        { digest: digestOfBytes(bad), data: newBytes(), compressor: 0 },
        { digest: digestOfBytes(long), data: Buffer.concat([long, long]), compressor: 0 },
      ];
      const { responses } = await client.unary(methods.batchUpdateBlobs, { requests });
      const codes = requests.map(({ digest }) =>
        responses.find((it) => it.digest?.hash === digest.hash)?.status?.code ?? 0
      );
      expectThat(responses.length === 3 && codes.join() === "0,3,3", `the codes are ${codes.join(", ")}`);
      const missing = await missingOf(client, requests.map(({ digest }) => digest));
      expectThat(missing === 2, `${missing} of 3 are missing`);
    },
  },
  {
    id: "BU-4",
    says: "a missing blob is NOT_FOUND by itself",
    async holds(client) {
      const data = newBytes();
      const digests = [await store(client, data), digestOfBytes(newBytes())];
      const { responses } = await client.unary(methods.batchReadBlobs, { digests });
      const codes = digests.map(({ hash }) => responses.find((it) => it.digest?.hash === hash)?.status?.code ?? 0);
      expectThat(responses.length === 2 && codes.join() === "0,5", `the codes are ${codes.join(", ")}`);
    },
  },
  {
    id: "BU-5",
    says: "an empty request is taken, or is INVALID_ARGUMENT",
    async holds(client) {
      await expectCode(client.unary(methods.batchUpdateBlobs, {}), "OK", "INVALID_ARGUMENT");
      await expectCode(client.unary(methods.batchReadBlobs, {}), "OK", "INVALID_ARGUMENT");
    },
  },
  {
    id: "BU-7",
    says: "a read answers by a compressor that the client takes, or by none",
    async holds(client) {
      const data = newBytes(20_000);
      const digests = [await store(client, data)];
      for (const acceptableCompressors of [[], [0], [zstd]]) {
        const { responses: [answer] } = await client.unary(methods.batchReadBlobs, { digests, acceptableCompressors });
        const compressor = answer?.compressor ?? 0;
        expectThat(
          compressor === 0 || (acceptableCompressors as number[]).includes(compressor),
          `it answers by ${compressor}, when ${acceptableCompressors.join() || "none"} may be`,
        );
        const raw = compressor === 0 ? answer!.data : decompressWith(compressorNames[compressor]!, [answer!.data]);
        expectThat(Buffer.from(raw).equals(data), "it reads as something else");
      }
    },
  },
  {
    id: "BU-7",
    says: "an update by a compressor that is listed for batches is taken",
    async holds(client, { cacheCapabilities }) {
      const listed = (cacheCapabilities?.supportedBatchUpdateCompressors ?? []).filter((compressor) => compressor > 0);
      if (listed.length === 0) throw new NotOffered("it lists none");
      for (const compressor of listed) {
        const raw = newBytes(20_000);
        const digest = digestOfBytes(raw);
        const data = compressWith(compressorNames[compressor] ?? "", raw);
        const { responses: [answer] } = await client.unary(methods.batchUpdateBlobs, {
          requests: [{ digest, data, compressor }],
        });
        expectThat((answer?.status?.code ?? 0) === 0, `by ${compressor} it answers code ${answer?.status?.code}`);
        expectThat(await missingOf(client, [digest]) === 0, "it is not stored");
      }
    },
  },
  {
    id: "BU-8",
    says: "the same blob twice, or one that is there, is no mistake",
    async holds(client) {
      const data = newBytes();
      const request = { digest: digestOfBytes(data), data, compressor: 0 };
      for (let times = 0; times < 2; times++) {
        const { responses } = await client.unary(methods.batchUpdateBlobs, { requests: [request, request] });
        const codes = responses.map(({ status }) => status?.code ?? 0);
        expectThat(codes.length > 0 && codes.every((code) => code === 0), `the codes are ${codes.join(", ")}`);
      }
    },
  },
];
