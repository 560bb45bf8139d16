import { type Digest, digestOfHash, hashOf, isDigest, sizeOf } from "../domain/digest.ts";
import { asFault, Fault } from "../domain/fault.ts";
import { decodeDirectory } from "../protocol/reapi/canonical.ts";
import type { WireDigest } from "../protocol/reapi/codec.ts";
import { compressors } from "../protocol/reapi/messages.ts";
import { methods, opaque } from "../protocol/reapi/services.ts";
import type { Clock } from "../runtime/clock.ts";
import { blobCorrupt, type Blobs, readBlob } from "../snapshots/blobs/blobs.ts";
import {
  type Call,
  checkDigest,
  checkScope,
  type Instances,
  type Served,
  serveStream,
  serveUnary,
  statusOf,
} from "./calls.ts";
import { batchBytesMax } from "./capabilities.ts";
import { readQuickly, recentBlobs, rememberedMsOf } from "./recent_blobs.ts";
import { compressorNamed, decompressSmall } from "./compression.ts";

/** Digests looked up in one turn of the event loop: a few ms. */
const lookupsPerTurn = 5_000;
const blobsAtOnce = 64;

const directoryBytesMax = 16 * 1024 * 1024;
const pageDirectoriesMax = 1_000;
const pageBytesMax = 1024 * 1024;
/** Of a tree that is listed: each costs about 200 bytes while it is. */
const treeDirectoriesMax = 1_000_000;

export function serveContentAddressableStorage(
  served: Served,
  blobs: Blobs,
  instances: Instances,
  needSpace: (what: string) => void,
  { clock, guaranteedAgeMs }: { readonly clock: Clock; readonly guaranteedAgeMs: number },
): void {
  const recent = recentBlobs(rememberedMsOf(guaranteedAgeMs));
  serveUnary(served, { ...methods.findMissingBlobs, request: opaque }, async (bytes) => {
    const nowMs = clock.now();
    const quick = readQuickly(bytes, recent, nowMs);
    const request = quick ?? methods.findMissingBlobs.request.decode(bytes);
    checkScope(instances, request);
    const given = "unknown" in request ? request.unknown : request.blobDigests;
    if (given.length === 0) return { missingBlobDigests: [] };
    const asked = new Set(given.map((it) => checkDigest(it, "a blob that is looked for")));
    const missing = await missingOf(blobs, asked);
    for (const digest of asked) if (!missing.has(digest)) recent.note(digest, nowMs);
    return { missingBlobDigests: [...missing].map(toWire) };
  });

  serveUnary(served, methods.batchUpdateBlobs, async (request, { signal }) => {
    checkScope(instances, request);
    checkTotal(request.requests.reduce((sum, { data }) => sum + data.length, 0));
    needSpace("blobs");
    const update = async (given: (typeof request.requests)[number]) => {
      let result: ReturnType<typeof statusOf> = { code: 0, message: "" };
      try {
        const digest = checkDigest(given.digest, "a blob to store");
        await blobs.put(digest, rawBytes(digest, given.data, given.compressor), { signal });
      } catch (thrown) {
        result = statusOf(toldOf(thrown, served));
      }
      return { digest: given.digest, status: { ...result, details: [] } };
    };
    return { responses: await inGroups(request.requests, update) };
  });

  serveUnary(served, methods.batchReadBlobs, async (request, { signal }) => {
    checkScope(instances, request);
    checkTotal(request.digests.reduce((sum, { sizeBytes }) => sum + Math.max(0, sizeBytes), 0));
    const asked = request.digests.map(({ hash, sizeBytes }): string => digestOfHash(hash, sizeBytes));
    await blobs.missing(new Set(asked.filter(isDigest))); // so that what is read stays for a while
    const read = async (given: WireDigest) => {
      try {
        const bytes = await readBlob(blobs, checkDigest(given, "a blob to read"), batchBytesMax, { signal });
        return {
          digest: given,
          data: bytes,
          status: { code: 0, message: "", details: [] },
          compressor: compressors.identity,
        };
      } catch (thrown) {
        const told = { ...statusOf(toldOf(thrown, served)), details: [] };
        return { digest: given, data: new Uint8Array(0), status: told, compressor: compressors.identity };
      }
    };
    return { responses: await inGroups(request.digests, read) };
  });

  serveStream(served, methods.getTree, async function* (request, { signal }) {
    checkScope(instances, request);
    const root = checkDigest(request.rootDigest, "a tree");
    const from = /^(0|[1-9][0-9]{0,6})$/.test(request.pageToken || "0") ? Number(request.pageToken) : -1;
    if (from < 0 || request.pageSize < 0) {
      throw new Fault(
        "REQUEST_INVALID",
        "Cannot list a tree as page_token must be one that was answered, and page_size at least 0",
      );
    }
    const pageMax = request.pageSize === 0 ? pageDirectoriesMax : Math.min(request.pageSize, pageDirectoriesMax);
    let page: Uint8Array[] = [];
    let pageBytes = 0;
    let seen = 0;
    for await (const directory of directoriesOf(blobs, root, signal)) {
      if (page.length === pageMax || (page.length > 0 && pageBytes + directory.length > pageBytesMax)) {
        yield { directories: page, nextPageToken: String(seen) };
        page = [];
        pageBytes = 0;
      }
      if (seen++ < from) continue;
      page.push(directory);
      pageBytes += directory.length;
    }
    if (from > seen) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot list a tree from ${from} on as it has ${seen} folders: begin without a page_token`,
      );
    }
    yield { directories: page, nextPageToken: "" };
  });
}

export const toWire = (digest: Digest): WireDigest => ({ hash: hashOf(digest), sizeBytes: sizeOf(digest) });

/** What a blob's own status says; the log has what nobody expected. */
function toldOf(thrown: unknown, { log }: Served): Fault {
  const fault = asFault(thrown);
  if (fault.code !== "INTERNAL") return fault;
  log.error("Cannot serve a blob of a batch", { error: fault });
  return new Fault("INTERNAL", "Cannot serve this blob: see the gateway's log");
}

async function missingOf(blobs: Blobs, asked: ReadonlySet<Digest>): Promise<ReadonlySet<Digest>> {
  if (asked.size <= lookupsPerTurn) return await blobs.missing(asked);
  const all = [...asked];
  const missing = new Set<Digest>();
  for (let at = 0; at < all.length; at += lookupsPerTurn) {
    for (const digest of await blobs.missing(new Set(all.slice(at, at + lookupsPerTurn)))) missing.add(digest);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return missing;
}

function checkTotal(bytes: number): void {
  if (bytes <= batchBytesMax) return;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot serve a batch as its blobs must have at most ${batchBytesMax} bytes together: current value is ${bytes}. Use ByteStream`,
  );
}

function rawBytes(digest: Digest, data: Uint8Array, compressor: number): Uint8Array {
  const name = compressorNamed(compressor);
  if (name === "identity") return data;
  if (sizeOf(digest) > batchBytesMax) {
    throw blobCorrupt(digest, `a batch, in which blobs have at most ${batchBytesMax} bytes`);
  }
  return decompressSmall(name, digest, data);
}

async function inGroups<Item, Result>(
  items: readonly Item[],
  each: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let at = 0; at < items.length; at += blobsAtOnce) {
    results.push(...await Promise.all(items.slice(at, at + blobsAtOnce).map(each)));
  }
  return results;
}

/** The root, then those below it, level by level, each once. Those that are missing are left out, but for the root. */
async function* directoriesOf(blobs: Blobs, root: Digest, signal: Call["signal"]): AsyncGenerator<Uint8Array> {
  const found = new Set<Digest>([root]);
  for (const digest of found) {
    let bytes: Uint8Array;
    try {
      bytes = await readBlob(blobs, digest, directoryBytesMax, { signal });
    } catch (thrown) {
      if (digest !== root && thrown instanceof Fault && thrown.code === "BLOB_MISSING") continue;
      throw thrown;
    }
    for (const node of decodeDirectory(bytes)) {
      if (node.kind === "directory") found.add(node.digest);
    }
    if (found.size > treeDirectoriesMax) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot list tree ${root} as it must have at most ${treeDirectoriesMax} folders: it has more`,
      );
    }
    yield bytes;
  }
}
