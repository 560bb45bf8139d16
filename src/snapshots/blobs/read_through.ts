import { type Digest, sizeOf } from "../../domain/digest.ts";
import { isFault } from "../../domain/fault.ts";
import { type Blobs, rangeOf } from "./blobs.ts";

/** A blob on its way from far to near, and those who wait for it. */
interface Fetch {
  readonly done: Promise<void>;
  readonly stop: AbortController;
  waiters: number;
}

/**
 * Reads the near store first, and the far one only when the near one is sure not to hold a blob; any other trouble is
 * thrown. A blob read whole is brought near before its first byte is given on, once for all who ask at the same time,
 * and so checked; a part of a blob is read from afar and not kept. A stream never goes on elsewhere once it has begun.
 *
 * A put goes to the far store and then to the near one: when it resolves, losing the near store loses nothing.
 */
export function readThrough({ near, far }: { readonly near: Blobs; readonly far: Blobs }): Blobs {
  const fetches = new Map<Digest, Fetch>();

  function begin(digest: Digest): Fetch {
    const stop = new AbortController();
    const done = near.put(digest, far.get(digest, { signal: stop.signal }), { signal: stop.signal })
      .finally(() => {
        if (fetches.get(digest) === fetch) fetches.delete(digest);
      });
    done.catch(() => {}); // all who waited may have gone
    const fetch: Fetch = { done, stop, waiters: 0 };
    fetches.set(digest, fetch);
    return fetch;
  }

  async function bringNear(digest: Digest, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const fetch = fetches.get(digest) ?? begin(digest);
    fetch.waiters++;
    let leave = (): void => {};
    const left = new Promise<never>((_, reject) => {
      leave = () => reject(signal?.reason);
      signal?.addEventListener("abort", leave, { once: true });
    });
    try {
      await Promise.race([fetch.done, left]);
    } finally {
      signal?.removeEventListener("abort", leave);
      if (--fetch.waiters === 0 && fetches.get(digest) === fetch) {
        fetches.delete(digest);
        fetch.stop.abort(signal?.reason);
      }
    }
  }

  return {
    async *get(digest, options) {
      const { from, to } = rangeOf(digest, options);
      let hasBegun = false;
      try {
        for await (const chunk of near.get(digest, options)) {
          hasBegun = true;
          yield chunk;
        }
        return;
      } catch (error) {
        if (hasBegun || !isFault(error, "BLOB_MISSING")) throw error;
      }
      if (from === 0 && to === sizeOf(digest)) {
        try {
          await bringNear(digest, options?.signal);
        } catch (error) {
          if (!isFault(error, "NO_SPACE")) throw error;
          yield* far.get(digest, options); // there is no room to keep it, which is no reason not to give it
          return;
        }
        yield* near.get(digest, options);
      } else yield* far.get(digest, options);
    },
    async put(digest, bytes, options) {
      await far.put(digest, bytes, options);
      // A stream can be read once: the near store gets what the far one took and checked.
      await near.put(digest, bytes instanceof Uint8Array ? bytes : far.get(digest, options), options);
    },
    /**
     * Absent in the far store: what only the near one still has is to be put again, as others read the far one. The near
     * one is asked as well, so that it keeps what is used.
     */
    async missing(digests) {
      const [, farAbsent] = await Promise.all([near.missing(digests), far.missing(digests)]);
      return farAbsent;
    },
    peek: (digest) => near.peek?.(digest) ?? far.peek?.(digest),
    find: (hash) => near.find?.(hash) ?? far.find?.(hash),
    async close() {
      for (const fetch of fetches.values()) fetch.stop.abort();
      await Promise.allSettled([...fetches.values()].map((fetch) => fetch.done));
      await Promise.all([near.close(), far.close()]);
    },
  };
}
