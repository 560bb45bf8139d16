import * as v from "valibot";
import { type Digest, emptyDigest, sizeOf } from "../domain/digest.ts";
import { asFault, Fault } from "../domain/fault.ts";
import { digest as digestSchema, fault as faultSchema, parse, whole } from "../protocol/schema.ts";
import { blobCorrupt, blobMissing, type Blobs, digestOf, gather, rangeOf } from "../snapshots/blobs/blobs.ts";
import { batchBytesMax, batchHeaderBytes, decodeBatch, encodeBatch } from "./batch.ts";
import type { HttpCalls } from "./http_calls.ts";

/** Blobs up to this size travel in batches. */
const smallBytesMax = 128 * 1024;
/** A batch leaves when it holds so much; earlier when nothing else is under way. */
const batchFullBytes = 2 * 1024 * 1024;
const batchFullCount = 2_000;
const batchesAtOnce = 3;
/** A stream that is larger is first asked after: it may be there already. */
const askFirstBytes = 1024 * 1024;
const digestsPerRequest = 10_000;

const missingAnswer = v.looseObject({ missing: v.array(digestSchema) });
const uploadAnswer = v.looseObject({ faults: v.array(v.looseObject({ index: whole(0), ...faultSchema.entries })) });

/** The cluster's blobs, over HTTP. What is read in batches is checked against its digest; streams go on where they broke. */
export function httpBlobs(calls: HttpCalls): Blobs {
  const uploads = batches<{ readonly digest: Digest; readonly bytes: Uint8Array }, void>(
    ({ bytes }) => batchHeaderBytes + bytes.length,
    async (entries) => {
      const body = encodeBatch(entries);
      const answer = await calls.json({
        method: "POST",
        path: "/v1/blobs/upload",
        type: "application/octet-stream",
        body: () => body,
      });
      const { faults } = parse(uploadAnswer, "an answer", answer);
      const results: (Fault | undefined)[] = entries.map(() => undefined);
      for (const { index, code, message } of faults) results[index] = new Fault(code, message);
      return results;
    },
  );
  const downloads = batches<Digest, Uint8Array>(
    (digest) => batchHeaderBytes + sizeOf(digest),
    async (wanted) => {
      const body = new TextEncoder().encode(JSON.stringify({ digests: [...new Set(wanted)] }));
      const answer = await calls.bytes({
        method: "POST",
        path: "/v1/blobs/download",
        type: "application/json",
        body: () => body,
      });
      const found = new Map(decodeBatch(answer).map(({ digest, bytes }) => [digest, bytes]));
      return wanted.map((digest) => {
        const bytes = found.get(digest);
        if (bytes === undefined) return blobMissing(digest);
        const real = digestOf(bytes);
        return real === digest ? bytes.slice() : blobCorrupt(digest, real);
      });
    },
  );

  const isThere = async (digest: Digest, signal: AbortSignal | undefined): Promise<boolean> => {
    try {
      (await calls.send({ method: "HEAD", path: pathOf(digest), signal })).resume();
      return true;
    } catch (thrown) {
      if (asFault(thrown).code === "BLOB_MISSING") return false;
      throw thrown;
    }
  };

  return {
    async *get(digest, options = {}) {
      const { from, to } = rangeOf(digest, options);
      const { signal } = options;
      if (digest === emptyDigest) return;
      if (from === 0 && to === sizeOf(digest) && to <= smallBytesMax) {
        signal?.throwIfAborted();
        yield await downloads.add(digest);
        return;
      }
      let at = from;
      do {
        const range = `bytes=${at}-${to - 1}`;
        const headers: Record<string, string> = at === 0 && to === sizeOf(digest) ? {} : { Range: range };
        const incoming = await calls.send({
          method: at === to ? "HEAD" : "GET",
          path: pathOf(digest),
          headers: at === to ? {} : headers,
          signal,
        });
        const before = at;
        try {
          for await (const chunk of incoming) {
            at += (chunk as Uint8Array).length;
            if (at > to) throw blobCorrupt(digest, `more than ${to} bytes`);
            yield new Uint8Array(chunk as Uint8Array);
          }
        } catch (thrown) {
          if (thrown instanceof Fault) throw thrown;
          signal?.throwIfAborted();
          if (at === before) {
            throw new Fault("PEER_UNREACHABLE", `Cannot read blob ${digest}: ${(thrown as Error).message}`, {
              cause: thrown,
            });
          }
        } finally {
          incoming.destroy();
        }
      } while (at < to);
    },
    async put(digest, bytes, options = {}) {
      const { signal } = options;
      signal?.throwIfAborted();
      const size = sizeOf(digest);
      if (size <= smallBytesMax) {
        await uploads.add({ digest, bytes: await gather(digest, bytes, signal) });
        return;
      }
      const put = { method: "PUT", path: pathOf(digest), type: "application/octet-stream", signal } as const;
      if (bytes instanceof Uint8Array) {
        if (bytes.length !== size) throw blobCorrupt(digest, `${bytes.length} bytes`);
        await calls.bytes({ ...put, body: () => bytes });
        return;
      }
      if (size >= askFirstBytes && await isThere(digest, signal)) return;
      await calls.bytes({
        ...put,
        body: () => exactly(digest, bytes),
        bodyBytes: size,
        mayRepeat: () => canRestart(bytes),
      });
    },
    async missing(digests) {
      const all = [...digests];
      const missing = new Set<Digest>();
      for (let at = 0; at < all.length; at += digestsPerRequest) {
        const body = new TextEncoder().encode(JSON.stringify({ digests: all.slice(at, at + digestsPerRequest) }));
        const answer = await calls.json({
          method: "POST",
          path: "/v1/blobs/missing",
          type: "application/json",
          body: () => body,
        });
        for (const digest of parse(missingAnswer, "an answer", answer).missing) missing.add(digest);
      }
      return missing;
    },
    close: () => Promise.resolve(),
  };
}

const pathOf = (digest: Digest): string => `/v1/blobs/${digest}`;

/** Whether a stream gives the same again when it is asked for a second time: not what can be read only once. */
export function canRestart(bytes: AsyncIterable<Uint8Array>): boolean {
  return !("next" in bytes) && !("getReader" in bytes) && !("pipe" in bytes);
}

/**
 * The stream, checked to be as long as its digest says. Its end is held back until that is known: the store would
 * otherwise take the beginning of too long a stream for all of it.
 */
async function* exactly(digest: Digest, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let left = sizeOf(digest);
  let held: Uint8Array | undefined;
  for await (const chunk of bytes) {
    left -= chunk.length;
    if (left < 0) throw blobCorrupt(digest, `more than ${sizeOf(digest)} bytes`);
    if (chunk.length === 0) continue;
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (left > 0) throw blobCorrupt(digest, `${sizeOf(digest) - left} bytes`);
  if (held !== undefined) yield held;
}

/** Gathers what is asked one by one into requests for many. Each gets its own result or fault. */
function batches<Item, Result>(
  weightOf: (item: Item) => number,
  run: (items: readonly Item[]) => Promise<readonly (Result | Fault)[]>,
): { add(item: Item): Promise<Result> } {
  interface Waiting {
    readonly item: Item;
    readonly weight: number;
    readonly resolve: (result: Result) => void;
    readonly reject: (why: unknown) => void;
  }
  let waiting: Waiting[] = [];
  let weight = 0;
  let running = 0;
  let isDue = false;

  const leave = (): void => {
    isDue = false;
    while (
      waiting.length > 0 && running < batchesAtOnce &&
      (running === 0 || weight >= batchFullBytes || waiting.length >= batchFullCount)
    ) {
      let count = 0;
      let taken = 0;
      while (
        count < waiting.length && count < batchFullCount && taken + waiting[count]!.weight <= batchBytesMax &&
        taken < batchFullBytes
      ) {
        taken += waiting[count++]!.weight;
      }
      const batch = waiting.slice(0, count);
      waiting = waiting.slice(count);
      weight -= taken;
      running++;
      void run(batch.map(({ item }) => item)).then(
        (results) => {
          for (const [place, { resolve, reject }] of batch.entries()) {
            const result = results[place] as Result | Fault;
            if (result instanceof Fault) reject(result);
            else resolve(result);
          }
        },
        (why) => {
          for (const { reject } of batch) reject(why);
        },
      ).finally(() => {
        running--;
        leave();
      });
    }
  };
  return {
    add: (item) =>
      new Promise<Result>((resolve, reject) => {
        const itemWeight = weightOf(item);
        waiting.push({ item, weight: itemWeight, resolve, reject });
        weight += itemWeight;
        if (isDue) return;
        isDue = true;
        setImmediate(leave);
      }),
  };
}
