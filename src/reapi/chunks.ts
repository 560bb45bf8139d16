import { type Digest, emptyDigest, sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { chunksBy, fastCdc2020 } from "../protocol/reapi/fast_cdc.ts";
import { fastCdc2020Function } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { blobCorrupt, blobMissing, type Blobs, digestOf, isMissing } from "../snapshots/blobs/blobs.ts";
import { checkDigest, checkScope, type Instances, type Served, serveUnary } from "./calls.ts";
import { toWire } from "./content_addressable_storage.ts";
import { turns } from "./turns.ts";

/** Of blobs that were split or spliced: so many chunks are remembered, of those the newest. 150 bytes each. */
const rememberedMax = 100_000;
/** Each blob that is being split takes twice the longest chunk. */
const splitsAtOnce = 4;

/** Large blobs by parts: a client that has most of them already fetches or sends the others alone. */
export function serveChunks(
  served: Served,
  blobs: Blobs,
  instances: Instances,
  needSpace: (what: string) => void,
): void {
  const remembered = new Map<Digest, readonly Digest[]>();
  let rememberedCount = 0;
  const remember = (blob: Digest, chunks: readonly Digest[]): void => {
    rememberedCount += chunks.length - (remembered.get(blob)?.length ?? 0);
    remembered.delete(blob);
    remembered.set(blob, chunks);
    for (const [oldest, its] of remembered) {
      if (rememberedCount <= rememberedMax) return;
      remembered.delete(oldest);
      rememberedCount -= its.length;
    }
  };

  const turnFor = turns(splitsAtOnce);
  /** Those that are under way, for all who ask at once. */
  const splitting = new Map<Digest, Promise<readonly Digest[]>>();
  const cut = async (blob: Digest): Promise<readonly Digest[]> => {
    const chunks: Digest[] = [];
    for await (const bytes of chunksBy(fastCdc2020, blobs.get(blob, { isPassing: true }))) {
      const chunk = digestOf(bytes);
      await blobs.put(chunk, bytes);
      chunks.push(chunk);
    }
    remember(blob, chunks);
    return chunks;
  };
  const split = async (blob: Digest): Promise<readonly Digest[]> => {
    const known = remembered.get(blob);
    if (known !== undefined && (await blobs.missing(new Set(known))).size === 0) return known;
    needSpace("the chunks of a blob");
    let chunks = splitting.get(blob);
    if (chunks === undefined) {
      chunks = turnFor(() => cut(blob)).finally(() => splitting.delete(blob));
      splitting.set(blob, chunks);
    }
    return await chunks;
  };

  serveUnary(served, methods.splitBlob, async (request) => {
    checkScope(instances, request);
    const blob = checkDigest(request.blobDigest, "a blob to split");
    if (await isMissing(blobs, blob)) throw blobMissing(blob);
    const chunks = sizeOf(blob) <= fastCdc2020.maxBytes ? [blob] : await split(blob);
    return { chunkDigests: chunks.map(toWire), chunkingFunction: fastCdc2020Function };
  });

  serveUnary(served, methods.spliceBlob, async (request, { signal }) => {
    checkScope(instances, request);
    const blob = checkDigest(request.blobDigest, "a blob to splice");
    const chunks = request.chunkDigests.map((given) => checkDigest(given, "a chunk"));
    if (chunks.length === 0 || chunks.includes(emptyDigest)) {
      throw new Fault("REQUEST_INVALID", `Cannot splice blob ${blob} as it must have chunks, of which none is empty`);
    }
    const together = chunks.reduce((sum, chunk) => sum + sizeOf(chunk), 0);
    if (together !== sizeOf(blob)) throw blobCorrupt(blob, `chunks of ${together} bytes`);
    // Those of a blob that is there stay as well: who sent them may build on them.
    const missing = await blobs.missing(new Set([blob, ...chunks]));
    if (missing.has(blob)) {
      const [absent] = [...missing].filter((each) => each !== blob);
      if (absent !== undefined) throw blobMissing(absent);
      needSpace("a blob");
      await blobs.put(blob, joined(blobs, chunks, signal), { signal });
    }
    return { blobDigest: toWire(blob) };
  });
}

async function* joined(blobs: Blobs, chunks: readonly Digest[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield* blobs.get(chunk, { signal });
}
