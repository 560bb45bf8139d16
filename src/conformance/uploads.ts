import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import type { WireDigest } from "../protocol/reapi/codec.ts";
import { requestMetadata } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import {
  digestOfBytes,
  expectCode,
  expectIsOneOf,
  expectThat,
  load,
  missingOf,
  newBytes,
  NotOffered,
  type ProbeClient,
  sleep,
  statusOf,
  store,
  within,
} from "./client.ts";
import { compressWith } from "./compressors.ts";
import { metadataHeader } from "./asked.ts";
import type { Capabilities, Check } from "./run.ts";

const nameHeader = "build.bazel.remote.execution.v2.resource-name";
const zstd = 1;
/** Larger than what servers keep in memory of an upload. */
const largeBytes = 1024 * 1024;

const needsZstd = ({ cacheCapabilities }: Capabilities): void => {
  if (cacheCapabilities?.supportedCompressors.includes(zstd) !== true) throw new NotOffered("it lists no zstd");
};

const asTool = (toolName: string) => ({
  [metadataHeader]: requestMetadata.encode({ toolDetails: { toolName, toolVersion: "1" } }),
});

async function expectStored(client: ProbeClient, bytes: Uint8Array): Promise<void> {
  expectThat((await load(client, digestOfBytes(bytes))).equals(bytes), "it reads as something else");
}

/** Sends the first half and breaks off; waits until the server knows of it. @returns what it says it has. */
async function breakOff(client: ProbeClient, resourceName: string, half: Uint8Array): Promise<number> {
  const upload = client.upload();
  await upload.send({ resourceName, data: half });
  await sleep(200); // as a network does: what is under way is not what has come
  upload.cancel();
  await statusOf(upload.answer);
  const { code } = await statusOf(client.unary(methods.queryWriteStatus, { resourceName }));
  if (code === 12) throw new NotOffered("it has no QueryWriteStatus");
  if (code === 5) return 0;
  return (await client.unary(methods.queryWriteStatus, { resourceName })).committedSize;
}

/** Part 6: ByteStream.Write and QueryWriteStatus. */
export const checks: readonly Check[] = [
  {
    id: "W-1",
    says: "what follows the size in a name is passed over",
    async holds(client) {
      const data = newBytes();
      const resourceName = `${client.uploadName(digestOfBytes(data))}/some/file.txt`;
      await client.write([{ resourceName, data, finishWrite: true }]);
      await expectStored(client, data);
    },
  },
  {
    id: "W-1",
    says: "a name out of form is INVALID_ARGUMENT",
    async holds(client) {
      const data = newBytes();
      const { hash, sizeBytes } = digestOfBytes(data);
      const names = [
        "",
        `uploads/${hash}/${sizeBytes}`,
        `uploads/${randomUUID()}/blobs/${hash}`,
        `uploads/${randomUUID()}/blobs/${hash}/x`,
        `uploads/${randomUUID()}/blobs/${hash}/-1`,
        `uploads/${randomUUID()}/compressed-blobs/none/${hash}/${sizeBytes}`,
      ];
      for (const resourceName of names) {
        await expectCode(client.write([{ resourceName, data, finishWrite: true }]), "INVALID_ARGUMENT");
      }
    },
  },
  {
    id: "W-2",
    says: "the name may be in every message or in the first alone, and may not change",
    async holds(client) {
      for (const isInEvery of [true, false]) {
        const data = newBytes();
        const resourceName = client.uploadName(digestOfBytes(data));
        const second = { writeOffset: 10, data: data.subarray(10), finishWrite: true };
        await client.write([
          { resourceName, data: data.subarray(0, 10) },
          isInEvery ? { resourceName, ...second } : second,
        ]);
        await expectStored(client, data);
      }
      const data = newBytes();
      const [resourceName, other] = [client.uploadName(digestOfBytes(data)), client.uploadName(digestOfBytes(data))];
      await expectCode(
        client.write([{ resourceName, data: data.subarray(0, 10) }, {
          resourceName: other,
          writeOffset: 10,
          data: data.subarray(10),
          finishWrite: true,
        }]),
        "INVALID_ARGUMENT",
      );
    },
  },
  {
    id: "W-3",
    says: "a gap or an overlap is INVALID_ARGUMENT",
    async holds(client) {
      for (const writeOffset of [9, 11, 0]) {
        const data = newBytes();
        const resourceName = client.uploadName(digestOfBytes(data));
        await expectCode(
          client.write([{ resourceName, data: data.subarray(0, 10) }, {
            writeOffset,
            data: data.subarray(10),
            finishWrite: true,
          }]),
          "INVALID_ARGUMENT",
          "OUT_OF_RANGE",
        );
        expectThat(await missingOf(client, [digestOfBytes(data)]) === 1, "it is stored all the same");
      }
    },
  },
  {
    id: "W-4",
    says: "finish_write may come alone; without it nothing is stored",
    async holds(client) {
      const [whole, half] = [newBytes(), newBytes()];
      const resourceName = client.uploadName(digestOfBytes(whole));
      await client.write([{ resourceName, data: whole }, { writeOffset: whole.length, finishWrite: true }]);
      await expectStored(client, whole);
      await statusOf(client.write([{ resourceName: client.uploadName(digestOfBytes(half)), data: half.subarray(1) }]));
      expectThat(await missingOf(client, [digestOfBytes(half)]) === 1, "what is not finished is stored");
    },
  },
  {
    id: "W-5",
    says: "an upload may come in hundreds of small messages",
    async holds(client) {
      const data = newBytes(8 * 1024 * 1024);
      await expectWritten(client, data, 16 * 1024, 30_000);
    },
  },
  {
    id: "W-6",
    says: "bytes that do not match are INVALID_ARGUMENT, and nothing is stored",
    async holds(client) {
      for (const size of [36, largeBytes]) {
        const [asked, other] = [newBytes(size), newBytes(size)];
        const digest = digestOfBytes(asked);
        for (const data of [other, asked.subarray(1), Buffer.concat([asked, other])]) {
          const resourceName = client.uploadName(digest);
          await expectCode(client.write([{ resourceName, data, finishWrite: true }]), "INVALID_ARGUMENT");
        }
        expectThat(await missingOf(client, [digest]) === 1, "it is stored all the same");
      }
    },
  },
  {
    id: "W-7",
    says: "committed_size is the full size",
    async holds(client) {
      const bytes = newBytes();
      const size = await client.write([
        { resourceName: client.uploadName(digestOfBytes(bytes)), data: bytes.subarray(0, 7) },
        { writeOffset: 7, data: bytes.subarray(7), finishWrite: true },
      ]);
      expectThat(size === bytes.length, `it is ${size}, not ${bytes.length}`);
    },
  },
  {
    id: "W-8",
    says: "a blob that is there is OK with its full size, before the upload's end",
    async holds(client) {
      const bytes = newBytes(largeBytes);
      await store(client, bytes);
      const upload = client.upload();
      await upload.send({ resourceName: client.uploadName(digestOfBytes(bytes)), data: bytes.subarray(0, 1_000) });
      try {
        const size = await within(10_000, "the answer", upload.answer);
        expectThat(size === bytes.length, `committed_size is ${size}, not ${bytes.length}`);
      } finally {
        upload.cancel();
      }
    },
  },
  {
    id: "W-8",
    says: "to upload a blob that is there is never ALREADY_EXISTS",
    async holds(client) {
      const bytes = newBytes();
      for (let times = 0; times < 2; times++) {
        const size = await client.write([{
          resourceName: client.uploadName(digestOfBytes(bytes)),
          data: bytes,
          finishWrite: true,
        }]);
        expectThat(size === bytes.length, `committed_size is ${size}, not ${bytes.length}`);
      }
    },
  },
  {
    id: "W-9",
    says: "a compressed upload is answered by a size that its client takes",
    async holds(client, capabilities) {
      needsZstd(capabilities);
      for (const tool of ["bazel", "siso"]) {
        const raw = newBytes(50_000);
        const digest = digestOfBytes(raw);
        const data = compressWith("zstd", raw);
        const resourceName = client.uploadName(digest, "compressed-blobs/zstd");
        const size = await client.write([{ resourceName, data, finishWrite: true }], asTool(tool));
        const taken = tool === "siso" ? [raw.length] : [data.length, -1];
        expectThat(taken.includes(size), `for ${tool} it is ${size}, not ${taken.join(" or ")}`);
        await expectStored(client, raw);
      }
    },
  },
  {
    id: "W-10",
    says: "write_offset of a compressed upload counts what is sent",
    async holds(client, capabilities) {
      needsZstd(capabilities);
      const raw = newBytes(50_000);
      const data = compressWith("zstd", raw);
      const resourceName = client.uploadName(digestOfBytes(raw), "compressed-blobs/zstd");
      await client.write([
        { resourceName, data: data.subarray(0, 20) },
        { writeOffset: 20, data: data.subarray(20), finishWrite: true },
      ]);
      await expectStored(client, raw);
    },
  },
  {
    id: "W-11",
    says: "an upload that broke off goes on where QueryWriteStatus says",
    async holds(client) {
      const data = newBytes(largeBytes);
      const resourceName = client.uploadName(digestOfBytes(data));
      const at = await breakOff(client, resourceName, data.subarray(0, largeBytes / 2));
      expectThat(at <= largeBytes / 2, `it says ${at} of ${largeBytes / 2}`);
      await client.write([{ resourceName, writeOffset: at, data: data.subarray(at), finishWrite: true }]);
      await expectStored(client, data);
      const { committedSize, complete } = await client.unary(methods.queryWriteStatus, { resourceName });
      expectThat(complete && committedSize === data.length, `then it says ${committedSize}, complete: ${complete}`);
    },
  },
  {
    id: "W-11",
    says: "an upload that is unknown is NOT_FOUND, or of no bytes",
    async holds(client) {
      const resourceName = client.uploadName(digestOfBytes(newBytes()));
      const status = await statusOf(client.unary(methods.queryWriteStatus, { resourceName }));
      if (status.code === 12) throw new NotOffered("it has no QueryWriteStatus");
      expectIsOneOf(status.code, ["OK", "NOT_FOUND"]);
      if (status.code !== 0) return;
      const { committedSize, complete } = await client.unary(methods.queryWriteStatus, { resourceName });
      expectThat(committedSize === 0 && !complete, `it says ${committedSize}, complete: ${complete}`);
    },
  },
  {
    id: "W-12",
    says: "what is said to be kept of an upload is never more than was sent",
    async holds(client) {
      const data = newBytes(largeBytes);
      for (const sent of [1, 1_000, 300_000]) {
        const said = await breakOff(client, client.uploadName(digestOfBytes(data)), data.subarray(0, sent));
        expectThat(said <= sent, `it says ${said} of ${sent}`);
      }
    },
  },
  {
    id: "W-13",
    says: "two uploads of one blob at a time both succeed, and one that breaks off harms no other",
    async holds(client) {
      for (const size of [1_000, largeBytes]) {
        const data = newBytes(size);
        const half = size / 2;
        const uploads = [client.upload(), client.upload(), client.upload()];
        for (const upload of uploads) {
          await upload.send({ resourceName: client.uploadName(digestOfBytes(data)), data: data.subarray(0, half) });
        }
        uploads[0]!.cancel();
        const going = uploads.slice(1);
        for (const upload of going) {
          void upload.send({ writeOffset: half, data: data.subarray(half), finishWrite: true });
          upload.end();
        }
        const sizes = await Promise.all(going.map(({ answer }) => answer));
        expectThat(sizes.every((committed) => committed === size), `they are answered ${sizes.join(", ")}`);
        await expectStored(client, data);
      }
    },
  },
  {
    id: "W-14",
    says: "a large upload ends within what clients wait",
    holds: (client) => expectWritten(client, newBytes(64 * 1024 * 1024), 1024 * 1024, 60_000),
  },
  {
    id: "W-15",
    says: "the empty blob may be uploaded",
    async holds(client) {
      const digest: WireDigest = digestOfBytes(new Uint8Array(0));
      const size = await client.write([{ resourceName: client.uploadName(digest), finishWrite: true }]);
      expectThat(size === 0, `committed_size is ${size}`);
    },
  },
  {
    id: "W-16",
    says: "a header with a resource name must be that of the message",
    async holds(client) {
      const data = newBytes();
      const resourceName = client.uploadName(digestOfBytes(data));
      const messages = [{ resourceName, data, finishWrite: true }];
      const other = client.uploadName(digestOfBytes(data));
      await expectCode(client.write(messages, { [nameHeader]: other }), "INVALID_ARGUMENT");
      await client.write(messages, { [nameHeader]: resourceName });
      await expectStored(client, data);
    },
  },
];

async function expectWritten(client: ProbeClient, data: Uint8Array, pieceBytes: number, ms: number): Promise<void> {
  const digest = digestOfBytes(data);
  const upload = client.upload();
  const send = async (): Promise<number> => {
    for (let at = 0; at < data.length; at += pieceBytes) {
      await upload.send({
        ...(at === 0 ? { resourceName: client.uploadName(digest) } : {}),
        writeOffset: at,
        data: data.subarray(at, at + pieceBytes),
        finishWrite: at + pieceBytes >= data.length,
      });
    }
    upload.end();
    return await upload.answer;
  };
  try {
    const size = await within(ms, "the upload", Promise.race([send(), upload.answer]));
    expectThat(size === data.length, `committed_size is ${size}, not ${data.length}`);
  } finally {
    upload.cancel();
  }
  expectThat(await missingOf(client, [digest]) === 0, "it is missing");
}
