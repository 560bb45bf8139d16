import { Buffer } from "node:buffer";
import { rpcStatus } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import type { ServiceError } from "@grpc/grpc-js";
import { begin, prepare } from "./asked.ts";
import {
  digestOfBytes,
  expectCode,
  expectThat,
  missingOf,
  newBytes,
  NotOffered,
  sleep,
  type Upload,
  within,
} from "./client.ts";
import type { Check } from "./run.ts";

const batchMax = 4 * 1024 * 1024;

/** Part 1: gRPC basics. */
export const checks: readonly Check[] = [
  {
    id: "T-2",
    says: "a message may be as large as the largest batch, with what is around it",
    async holds(client, { cacheCapabilities }) {
      const max = Math.min(cacheCapabilities?.maxBatchTotalSizeBytes || batchMax / 2, 2 * batchMax);
      const whole = newBytes(max);
      const resourceName = client.uploadName(digestOfBytes(whole));
      await client.write([{ resourceName, data: whole, finishWrite: true }]);
      const count = 1_000;
      const each = Math.floor(max / count);
      const blobs = Array.from({ length: count }, () => newBytes(Math.max(36, each)));
      const requests = blobs.map((data) => ({ digest: digestOfBytes(data), data, compressor: 0 }));
      const { responses } = await client.unary(methods.batchUpdateBlobs, { requests });
      const refused = responses.filter(({ status }) => (status?.code ?? 0) !== 0);
      expectThat(responses.length === count && refused.length === 0, `${refused.length} of ${count} are refused`);
    },
  },
  {
    id: "T-3",
    says: "a stream on which nothing happens stays, and says so every 30 s",
    needs: "execution",
    isSlow: true,
    async holds(client) {
      const running = await begin(client, await prepare(client, { script: "sleep 40" }));
      let lastMs = performance.now();
      let longestMs = 0;
      for await (const operation of running.answers) {
        longestMs = Math.max(longestMs, performance.now() - lastMs);
        lastMs = performance.now();
        if (operation.done) {
          expectThat(longestMs < 36_000, `it says nothing for ${Math.round(longestMs / 1000)} s`);
          return;
        }
      }
      throw new Error("the stream ends without a done operation");
    },
  },
  {
    id: "T-4",
    says: "hundreds of calls of one connection are open at a time",
    async holds(client) {
      const data = newBytes(1_000);
      const digest = digestOfBytes(data);
      const uploads: Upload[] = [];
      try {
        for (let count = 0; count < 250; count++) {
          const upload = client.upload();
          uploads.push(upload);
          void upload.send({ resourceName: client.uploadName(digest), data: data.subarray(0, 10) });
        }
        await within(20_000, "a call beside 250 uploads", missingOf(client, [digest]));
      } finally {
        for (const upload of uploads) upload.cancel();
      }
    },
  },
  {
    id: "T-5",
    says: "pings are answered, and do not end the connection",
    async holds(client) {
      const keen = client.again({ keepAliveMs: 1_000 });
      try {
        const data = newBytes();
        const upload = keen.upload();
        const digest = digestOfBytes(data);
        await upload.send({ resourceName: keen.uploadName(digest), data: data.subarray(0, 10) });
        await Promise.race([sleep(6_000), upload.answer]);
        await upload.send({ writeOffset: 10, data: data.subarray(10), finishWrite: true });
        upload.end();
        expectThat(await upload.answer === data.length, "the upload is not whole");
      } finally {
        keen.close();
      }
    },
  },
  {
    id: "T-6",
    says: "the details of an error are a Status with the call's own code and message",
    async holds(client) {
      const error = await client.unary(methods.findMissingBlobs, { blobDigests: [{ hash: "x", sizeBytes: 1 }] })
        .then(() => undefined, (thrown: ServiceError) => thrown);
      expectThat(error !== undefined, "a digest out of form is taken");
      const [details] = error.metadata.get("grpc-status-details-bin");
      if (details === undefined) throw new NotOffered("it sends no details");
      const { code, message } = rpcStatus.decode(Buffer.from(details));
      expectThat(code === error.code && message === error.details, `they say ${code} "${message}"`);
    },
  },
  {
    id: "T-7",
    says: "an unknown method is UNIMPLEMENTED",
    holds: (client) =>
      expectCode(
        client.unary({ ...methods.getCapabilities, path: "/build.bazel.remote.execution.v2.Nothing/Nothing" }, {}),
        "UNIMPLEMENTED",
      ),
  },
];
