import { Buffer } from "node:buffer";
import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, expectCode, expectThat, newBytes } from "./client.ts";
import type { Check } from "./run.ts";

/** Parts 6 and 7: ByteStream. */
export const checks: readonly Check[] = [
  {
    id: "W-6",
    says: "bytes that do not match are INVALID_ARGUMENT",
    holds: (client) =>
      expectCode(
        client.write([{
          resourceName: client.uploadName(digestOfBytes(newBytes())),
          data: newBytes(),
          finishWrite: true,
        }]),
        "INVALID_ARGUMENT",
      ),
  },
  {
    id: "W-7",
    says: "committed_size is the full size",
    async holds(client) {
      const bytes = newBytes();
      const resourceName = client.uploadName(digestOfBytes(bytes));
      const size = await client.write([{ resourceName, data: bytes.subarray(0, 7) }, {
        writeOffset: 7,
        data: bytes.subarray(7),
        finishWrite: true,
      }]);
      expectThat(size === bytes.length, `it is ${size}, not ${bytes.length}`);
      const read = await client.stream(methods.read, {
        resourceName: client.blobName(digestOfBytes(bytes)),
        readOffset: 3,
      });
      expectThat(Buffer.concat(read.map(({ data }) => data)).equals(bytes.subarray(3)), "it reads as something else");
    },
  },
  {
    id: "W-8",
    says: "a blob that is there is OK, with its full size",
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
    id: "R-2",
    says: "an offset behind the end is OUT_OF_RANGE",
    async holds(client) {
      const bytes = newBytes();
      const digest = digestOfBytes(bytes);
      await client.write([{ resourceName: client.uploadName(digest), data: bytes, finishWrite: true }]);
      await expectCode(
        client.stream(methods.read, { resourceName: client.blobName(digest), readOffset: bytes.length + 1 }),
        "OUT_OF_RANGE",
      );
    },
  },
  {
    id: "R-4",
    says: "a missing blob is NOT_FOUND",
    holds: (client) =>
      expectCode(
        client.stream(methods.read, { resourceName: client.blobName(digestOfBytes(newBytes())) }),
        "NOT_FOUND",
      ),
  },
];
