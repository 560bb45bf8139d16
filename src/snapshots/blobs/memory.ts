import { type Digest, emptyDigest, hashOf } from "../../domain/digest.ts";
import { blobMissing, type Blobs, chunksOf, gather, rangeOf } from "./blobs.ts";

/** Blobs in this process's memory, for tests and the strategy that keeps nothing. Grows with what is put. */
export function memoryBlobs(): Blobs {
  const held = new Map<Digest, Uint8Array>([[emptyDigest, new Uint8Array(0)]]);
  const byHash = new Map<string, Digest>([[hashOf(emptyDigest), emptyDigest]]);
  return {
    async *get(digest, options) {
      const { from, to } = rangeOf(digest, options);
      const bytes = held.get(digest);
      if (bytes === undefined) throw blobMissing(digest);
      for (const chunk of chunksOf(bytes.subarray(from, to))) {
        options?.signal?.throwIfAborted();
        yield chunk.slice();
      }
    },
    async put(digest, bytes, options) {
      options?.signal?.throwIfAborted();
      if (held.has(digest)) return;
      held.set(digest, new Uint8Array(await gather(digest, bytes, options?.signal))); // a copy
      byHash.set(hashOf(digest), digest);
    },
    missing: (digests) => Promise.resolve(new Set([...digests].filter((digest) => !held.has(digest)))),
    peek: (digest) => held.get(digest)?.slice(),
    find: (hash) => byHash.get(hash),
    close: () => Promise.resolve(),
  };
}
