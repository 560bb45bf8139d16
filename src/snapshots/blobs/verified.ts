import { createHash } from "node:crypto";
import { digestOfHash, sizeOf } from "../../domain/digest.ts";
import { blobCorrupt, type Blobs, digestOf, rangeOf } from "./blobs.ts";

/**
 * Checks what is read against its digest, for stores that are not trusted to give back what they were given.
 * The last chunk is held back until all is known to be right, so nobody has the whole of a wrong blob. A part of a blob
 * is checked by reading all of it.
 *
 * @throws {Fault} `BLOB_CORRUPT` from `get` and `peek` when bytes and digest differ.
 */
export function verified(blobs: Blobs): Blobs {
  return {
    ...blobs,
    async *get(digest, options = {}) {
      const { from, to } = rangeOf(digest, options);
      const hash = createHash("sha256");
      let size = 0;
      let held: Uint8Array | undefined;
      for await (const chunk of blobs.get(digest, options.signal === undefined ? {} : { signal: options.signal })) {
        if (size + chunk.length > sizeOf(digest)) throw blobCorrupt(digest, `more than ${sizeOf(digest)} bytes`);
        hash.update(chunk);
        const part = chunk.subarray(Math.max(0, from - size), Math.max(0, to - size));
        size += chunk.length;
        if (part.length === 0) continue;
        if (held !== undefined) yield held;
        held = part;
      }
      const found = digestOfHash(hash.digest("hex"), size);
      if (found !== digest) throw blobCorrupt(digest, found);
      if (held !== undefined) yield held;
    },
    peek(digest) {
      const bytes = blobs.peek?.(digest);
      if (bytes === undefined) return undefined;
      const found = digestOf(bytes);
      if (found !== digest) throw blobCorrupt(digest, found);
      return bytes;
    },
  };
}
