import { Buffer } from "node:buffer";
import { randomBytes, randomUUID } from "node:crypto";
import { digestOfHash } from "../domain/digest.ts";
import type { Node } from "../domain/node.ts";
import { encodeDirectory } from "../protocol/reapi/canonical.ts";
import type { WireDigest } from "../protocol/reapi/codec.ts";
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
  statusOf,
  store,
} from "./client.ts";
import type { Check } from "./run.ts";

const folder = (name: string, { hash, sizeBytes }: WireDigest): Node => ({
  kind: "directory",
  name,
  digest: digestOfHash(hash, sizeBytes),
});

/** A root with that many folders, each with one of its own; what is stored of it. */
async function storeTree(client: ProbeClient, count: number, left: number = count) {
  const leaves = Array.from(
    { length: count },
    () => encodeDirectory([{ kind: "symlink", name: "new", target: randomUUID() }]),
  );
  await Promise.all(leaves.slice(0, left).map((bytes) => store(client, bytes)));
  const root = encodeDirectory(leaves.map((bytes, place) => folder(`f${place}`, digestOfBytes(bytes))));
  return { root, digest: await store(client, root), leaves };
}

const hashesOf = (directories: readonly Uint8Array[]): ReadonlySet<string> =>
  new Set(directories.map((bytes) => digestOfBytes(bytes).hash));

async function chunking(client: ProbeClient) {
  const { cacheCapabilities } = await client.unary(methods.getCapabilities, {});
  return {
    splits: cacheCapabilities?.splitBlobSupport === true,
    splices: cacheCapabilities?.spliceBlobSupport === true,
    fastCdc: cacheCapabilities?.fastCdc2020Params,
  };
}

/** Part 8: GetTree, SplitBlob, SpliceBlob. */
export const checks: readonly Check[] = [
  {
    id: "G-1",
    says: "a root that is missing is NOT_FOUND; a folder below that is missing is left out",
    async holds(client) {
      await expectCode(client.stream(methods.getTree, { rootDigest: digestOfBytes(newBytes()) }), "NOT_FOUND");
      const { root, digest: rootDigest, leaves } = await storeTree(client, 5, 3);
      const pages = await client.stream(methods.getTree, { rootDigest });
      const found = hashesOf(pages.flatMap(({ directories }) => directories));
      const wanted = hashesOf([root, ...leaves.slice(0, 3)]);
      expectThat(found.size === 4 && [...wanted].every((hash) => found.has(hash)), `it has ${found.size} of 4`);
    },
  },
  {
    id: "G-2",
    says: "all pages come in one stream, and the last has no token",
    async holds(client) {
      const { root, digest: rootDigest, leaves } = await storeTree(client, 50);
      for (const pageSize of [0, 10]) {
        const pages = await client.stream(methods.getTree, { rootDigest, pageSize });
        const found = hashesOf(pages.flatMap(({ directories }) => directories));
        expectThat(
          [...hashesOf([root, ...leaves])].every((hash) => found.has(hash)),
          `it has ${found.size} of ${leaves.length + 1} folders`,
        );
        expectThat(pages.at(-1)?.nextPageToken === "", "the last page has a token");
      }
    },
  },
  {
    id: "G-3",
    says: "a token goes on where a page ended; one that is none is INVALID_ARGUMENT",
    async holds(client) {
      const { digest: rootDigest } = await storeTree(client, 50);
      const pages = await client.stream(methods.getTree, { rootDigest, pageSize: 10 });
      const [first] = pages;
      if (pages.length === 1) throw new NotOffered("it answers all at once");
      const rest = await client.stream(methods.getTree, {
        rootDigest,
        pageSize: 10,
        pageToken: first!.nextPageToken,
      });
      const found = hashesOf([...first!.directories, ...rest.flatMap(({ directories }) => directories)]);
      expectThat(found.size === 51, `from page to page it has ${found.size} of 51 folders`);
      await expectCode(client.stream(methods.getTree, { rootDigest, pageToken: "no token" }), "INVALID_ARGUMENT");
    },
  },
  {
    id: "C-14",
    says: "that blobs are split and spliced is said only where it is so",
    async holds(client) {
      const { splits, splices } = await chunking(client);
      const blobDigest = digestOfBytes(newBytes());
      if (splits) await expectCode(client.unary(methods.splitBlob, { blobDigest }), "NOT_FOUND");
      const request = { blobDigest, chunkDigests: [digestOfBytes(newBytes())] };
      if (splices) await expectCode(client.unary(methods.spliceBlob, request), "NOT_FOUND");
    },
  },
  {
    id: "G-4",
    says: "a blob is split into chunks that are there and give it again; one that is missing is NOT_FOUND",
    async holds(client) {
      if (!(await chunking(client)).splits) throw new NotOffered("it does not say that it splits");
      const bytes = noise(5_000_000);
      const { chunkDigests } = await client.unary(methods.splitBlob, { blobDigest: await store(client, bytes) });
      expectThat(await missingOf(client, chunkDigests) === 0, "a chunk is missing");
      const parts = [];
      for (const each of chunkDigests) parts.push(await load(client, each));
      expectThat(Buffer.concat(parts).equals(bytes), "the chunks are not the blob");
      await expectCode(client.unary(methods.splitBlob, { blobDigest: digestOfBytes(newBytes()) }), "NOT_FOUND");
    },
  },
  {
    id: "G-5",
    says: "chunks are spliced to what their digest says, or refused by what is wrong",
    async holds(client) {
      if (!(await chunking(client)).splices) throw new NotOffered("it does not say that it splices");
      const parts = [newBytes(1_000), newBytes(2_000)];
      const chunkDigests = await Promise.all(parts.map((bytes) => store(client, bytes)));
      const whole = Buffer.concat(parts);
      const blobDigest = digestOfBytes(whole);
      await client.unary(methods.spliceBlob, { blobDigest, chunkDigests });
      expectThat((await load(client, blobDigest)).equals(whole), "it reads as something else");
      const again = await statusOf(client.unary(methods.spliceBlob, { blobDigest, chunkDigests }));
      expectIsOneOf(again.code, ["OK", "ALREADY_EXISTS"], "the second time it answers");
      const other = digestOfBytes(newBytes(3_000));
      await expectCode(client.unary(methods.spliceBlob, { blobDigest: other, chunkDigests }), "INVALID_ARGUMENT");
      await expectCode(client.unary(methods.spliceBlob, { blobDigest: other, chunkDigests: [] }), "INVALID_ARGUMENT");
      await expectCode(
        client.unary(methods.spliceBlob, { blobDigest: other, chunkDigests: [digestOfBytes(newBytes(3_000))] }),
        "NOT_FOUND",
      );
    },
  },
  {
    id: "G-6",
    says: "FastCDC 2020 cuts within its bounds, and mostly where it did when a byte is put before",
    async holds(client) {
      const { splits, fastCdc: it } = await chunking(client);
      if (!splits || it === undefined) throw new NotOffered("it does not say that it cuts by FastCDC 2020");
      const bytes = noise(Math.min(64 * it.avgChunkSizeBytes, 32 * 1024 * 1024));
      const cut = async (of: Uint8Array): Promise<readonly WireDigest[]> =>
        (await client.unary(methods.splitBlob, { blobDigest: await store(client, of), chunkingFunction: 1 }))
          .chunkDigests;
      const [chunks, moved] = [await cut(bytes), await cut(Buffer.concat([Uint8Array.of(1), bytes]))];
      const sizes = chunks.slice(0, -1).map(({ sizeBytes }) => sizeBytes);
      const isWithin = sizes.every((size) => size >= it.avgChunkSizeBytes / 4 && size <= it.avgChunkSizeBytes * 4);
      expectThat(isWithin, `chunks have from ${Math.min(...sizes)} to ${Math.max(...sizes)} bytes`);
      const same = new Set(chunks.map(({ hash }) => hash));
      const kept = moved.filter(({ hash }) => same.has(hash)).length;
      expectThat(kept > chunks.length / 2, `${kept} of ${chunks.length} chunks are the same`);
    },
  },
];

/** Bytes in which nothing repeats. */
function noise(length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 1_024) }, () => randomBytes(1_024));
  return Buffer.concat(blocks).subarray(0, length);
}
