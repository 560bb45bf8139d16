import { Buffer } from "node:buffer";
import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, expectCode, expectThat, newBytes, NotOffered, type ProbeClient, store } from "./client.ts";
import { decompressWith } from "./compressors.ts";
import type { Capabilities, Check } from "./run.ts";

const zstd = "compressed-blobs/zstd";
const needsZstd = ({ cacheCapabilities }: Capabilities): void => {
  if (cacheCapabilities?.supportedCompressors.includes(1) !== true) throw new NotOffered("it lists no zstd");
};

interface Range {
  readonly readOffset?: number;
  readonly readLimit?: number;
}
const read = async (client: ProbeClient, resourceName: string, range: Range = {}): Promise<Buffer> =>
  Buffer.concat((await client.stream(methods.read, { resourceName, ...range })).map(({ data }) => data));

/** Part 7: ByteStream.Read. */
export const checks: readonly Check[] = [
  {
    id: "R-1",
    says: "blobs are read by their names; a name out of form is INVALID_ARGUMENT",
    async holds(client) {
      const bytes = newBytes();
      const digest = await store(client, bytes);
      expectThat((await read(client, client.blobName(digest))).equals(bytes), "it reads as something else");
      const { hash } = digest;
      for (const name of ["", "blobs", `blobs/${hash}`, `blobs/${hash}/x`, `${hash}/36`]) {
        await expectCode(client.stream(methods.read, { resourceName: name }), "INVALID_ARGUMENT", "NOT_FOUND");
      }
    },
  },
  {
    id: "R-2",
    says: "a read goes on at its offset; at the end it is empty, behind it or before 0 OUT_OF_RANGE",
    async holds(client) {
      const bytes = newBytes();
      const name = client.blobName(await store(client, bytes));
      expectThat((await read(client, name, { readOffset: 5 })).equals(bytes.subarray(5)), "it reads as something else");
      const end = await read(client, name, { readOffset: bytes.length });
      expectThat(end.length === 0, `at the end it has ${end.length} bytes`);
      for (const readOffset of [bytes.length + 1, -1]) {
        await expectCode(client.stream(methods.read, { resourceName: name, readOffset }), "OUT_OF_RANGE");
      }
    },
  },
  {
    id: "R-3",
    says: "read_limit is kept to",
    async holds(client) {
      const bytes = newBytes();
      const name = client.blobName(await store(client, bytes));
      for (const [readOffset, readLimit] of [[0, 5], [3, 5], [30, 1_000], [0, 0]] as const) {
        const wanted = bytes.subarray(readOffset, readLimit === 0 ? undefined : readOffset + readLimit);
        const found = await read(client, name, { readOffset, readLimit });
        expectThat(found.equals(wanted), `from ${readOffset}, of ${readLimit}, it has ${found.length} bytes`);
      }
      await expectCode(
        client.stream(methods.read, { resourceName: name, readLimit: -1 }),
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
      );
    },
  },
  {
    id: "R-3",
    says: "the offset of a compressed read counts raw bytes, and a limit is INVALID_ARGUMENT",
    async holds(client, capabilities) {
      needsZstd(capabilities);
      const bytes = newBytes(50_000);
      const name = client.blobName(await store(client, bytes), zstd);
      const part = await read(client, name, { readOffset: 10_000 });
      expectThat(decompressWith("zstd", [part]).equals(bytes.subarray(10_000)), "it reads as something else");
      await expectCode(client.stream(methods.read, { resourceName: name, readLimit: 5 }), "INVALID_ARGUMENT");
    },
  },
  {
    id: "R-4",
    says: "a missing blob is NOT_FOUND, before any data",
    async holds(client, { cacheCapabilities }) {
      const digest = digestOfBytes(newBytes(10_000_000));
      const kinds = ["blobs", ...(cacheCapabilities?.supportedCompressors.includes(1) === true ? [zstd] : [])];
      for (const kind of kinds) {
        await expectCode(client.stream(methods.read, { resourceName: client.blobName(digest, kind) }), "NOT_FOUND");
      }
    },
  },
  {
    id: "R-6",
    says: "the messages of a read are below the 4 MiB that clients take",
    async holds(client) {
      const bytes = newBytes(10_000_000);
      const parts = await client.stream(methods.read, { resourceName: client.blobName(await store(client, bytes)) });
      const largest = Math.max(...parts.map(({ data }) => data.length));
      expectThat(largest < 4 * 1024 * 1024, `one has ${largest} bytes`);
      expectThat(Buffer.concat(parts.map(({ data }) => data)).equals(bytes), "it reads as something else");
    },
  },
  {
    id: "R-8",
    says: "the name of an upload cannot be read",
    async holds(client) {
      const resourceName = client.uploadName(await store(client, newBytes()));
      await expectCode(client.stream(methods.read, { resourceName }), "INVALID_ARGUMENT", "NOT_FOUND");
    },
  },
];
