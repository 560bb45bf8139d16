import { noOutputs } from "../domain/action_result.ts";
import { type Digest, digestOfHash, hashOf, sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { decodeActionResult, encodeActionResult } from "../protocol/reapi/action_result.ts";
import type { Clock } from "../runtime/clock.ts";
import { type ActionCache, type ActionKey, resultBytesMax } from "../snapshots/actions/actions.ts";
import { blobMissing, type Blobs, chunksOf, isMissing, passOver, writeBlob } from "../snapshots/blobs/blobs.ts";
import { fromUnknownWorker, resultUnknown } from "./action_cache.ts";
import { checkInstance, type Instances } from "./calls.ts";
import { keptResult } from "./tree_result.ts";

/**
 * Bazel's HTTP cache over the same store: `GET`, `HEAD` and `PUT` of `[/INSTANCE]/cas/HASH`, a blob, and of
 * `[/INSTANCE]/ac/HASH`, an ActionResult by its Action. What is put here is found over gRPC, and the other way round.
 */
export interface HttpCacheOptions {
  readonly blobs: Blobs;
  readonly actions: ActionCache;
  readonly instances: Instances;
  /**
   * What is put under `/ac/` may be any bytes, as ccache and its like have them. Who reads an ActionResult there cannot be
   * sure of one then.
   */
  readonly takesAnyResult: boolean;
  /** @throws {Fault} `NO_SPACE` when there is no room for what is named. */
  readonly needSpace: (what: string) => void;
  readonly clock: Clock;
}

export interface CacheRequest {
  readonly method: string;
  /** With its slash, without the query. */
  readonly path: string;
  /** As the request tells it; undefined for a body of unknown length. */
  readonly lengthBytes: number | undefined;
  /** For one use. */
  readonly body: () => AsyncIterable<Uint8Array>;
}

export interface CacheAnswer {
  readonly status: 200 | 204;
  readonly lengthBytes: number;
  /** What lets go of them when it has had enough; absent for HEAD and PUT. */
  readonly chunks?: AsyncIterable<Uint8Array>;
}

const form = /^(?:\/(.+))?\/(ac|cas)\/([^/]+)$/;

/**
 * @returns what answers a request; undefined where its method and path are not of the cache.
 * It throws {@link Fault}: `BLOB_MISSING` and `ACTION_UNKNOWN` for a miss, `DIGEST_INVALID`, `REQUEST_INVALID`,
 * `BLOB_CORRUPT`, `OUTPUT_MISSING`, `FRAME_TOO_LONG`, `NO_SPACE` for what is not taken.
 */
export function httpCache(options: HttpCacheOptions): (request: CacheRequest) => Promise<CacheAnswer | undefined> {
  const { blobs, actions, instances, takesAnyResult, needSpace, clock } = options;

  async function readCas(hash: string, isHead: boolean): Promise<CacheAnswer> {
    const digest = blobs.find?.(hash);
    if (digest === undefined || await isMissing(blobs, digest)) {
      throw blobMissing(digest ?? digestOfHash(hash, 0));
    }
    return { status: 200, lengthBytes: sizeOf(digest), ...(isHead ? {} : { chunks: blobs.get(digest) }) };
  }

  async function writeCas(hash: string, request: CacheRequest): Promise<CacheAnswer> {
    const lengthBytes = lengthOf(request);
    needSpace("a blob");
    const body = request.body();
    await blobs.put(digestOfHash(hash, lengthBytes), body);
    await passOver(body);
    return { status: 204, lengthBytes: 0 };
  }

  /** Under what an action of that hash is known; what nobody has told a size of has none. */
  async function keyOf(instance: string, hash: string): Promise<ActionKey> {
    const blob = blobs.find?.(hash);
    const likely: ActionKey = { instance, action: blob ?? digestOfHash(hash, 0) };
    if (actions.knows(likely)) return likely;
    for await (const { key } of actions.list({ instance, prefix: hash, limit: 1 })) return key;
    return likely;
  }

  async function readAc(instance: string, hash: string, isHead: boolean): Promise<CacheAnswer> {
    const signal = new AbortController().signal;
    const key = await keyOf(instance, hash);
    let bytes = await keptResult(key, { actions, blobs }, signal);
    if (bytes?.length === 0) bytes = fromUnknownWorker;
    if (bytes !== undefined) {
      return { status: 200, lengthBytes: bytes.length, ...(isHead ? {} : { chunks: streamOf(bytes) }) };
    }
    const foreign = takesAnyResult ? await actions.get(foreignKey(instance, hash)) : undefined;
    if (foreign === undefined) throw resultUnknown(key.action);
    return await readCas(hashOf(decodeActionResult(foreign.result).stdout!), isHead);
  }

  async function writeAc(instance: string, hash: string, request: CacheRequest): Promise<CacheAnswer> {
    const lengthBytes = lengthOf(request);
    if (lengthBytes > resultBytesMax) {
      throw new Fault(
        "FRAME_TOO_LONG",
        `Cannot take a result as it must be at most ${resultBytesMax} bytes: current value is ${lengthBytes}`,
      );
    }
    needSpace("a result");
    const whole = new Uint8Array(lengthBytes);
    let filled = 0;
    for await (const chunk of request.body()) {
      if (filled + chunk.length <= lengthBytes) whole.set(chunk, filled);
      filled += chunk.length;
    }
    if (filled !== lengthBytes) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot take a result as its body must have the ${lengthBytes} bytes of its Content-Length: it has ${filled}`,
      );
    }
    const made = { by: "upload", atMs: clock.now(), durationMs: 0 } as const;
    const key = await keyOf(instance, hash);
    try {
      await actions.put(key, whole, made, { replace: true, checked: true });
    } catch (thrown) {
      if (!takesAnyResult || !(thrown instanceof Fault) || thrown.meaning.retry === "later") throw thrown;
      const wrapped = encodeActionResult({ ...noOutputs, exitCode: 0, stdout: await writeBlob(blobs, whole) });
      await actions.put(foreignKey(instance, hash), wrapped, made, { replace: true, checked: true });
      await actions.remove(key); // what was there before is no longer what was put last
    }
    return { status: 204, lengthBytes: 0 };
  }

  return async (request) => {
    const { method, path } = request;
    const [, prefix = "", kind, hash] = form.exec(path) ?? [];
    if (hash === undefined || !["GET", "HEAD", "PUT"].includes(method)) return undefined;
    const instance = checkInstance(instances, decoded(prefix));
    if (!/^[0-9a-f]{64}$/.test(hash)) {
      throw new Fault(
        "DIGEST_INVALID",
        `Cannot use a hash as it must be 64 lower-case hex digits: current value is "${hash.slice(0, 100)}"`,
      );
    }
    if (kind === "cas") {
      return method === "PUT" ? await writeCas(hash, request) : await readCas(hash, method === "HEAD");
    }
    return method === "PUT" ? await writeAc(instance, hash, request) : await readAc(instance, hash, method === "HEAD");
  };
}

/** Bytes that are no ActionResult lie as the stdout of one, in an instance whose name nobody can use. */
const foreignKey = (instance: string, hash: string): ActionKey => ({
  instance: `${instance === "" ? "" : `${instance}/`}blobs`,
  action: digestOfHash(hash, 0) as Digest,
});

function lengthOf({ lengthBytes }: CacheRequest): number {
  if (lengthBytes !== undefined) return lengthBytes;
  throw new Fault("REQUEST_INVALID", "Cannot take a body as its Content-Length must be told, for a blob has a size");
}

function decoded(prefix: string): string {
  try {
    return decodeURIComponent(prefix);
  } catch (cause) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot read an instance name as its %-escapes must be UTF-8: current value is ${prefix.slice(0, 200)}`,
      { cause },
    );
  }
}

async function* streamOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield* chunksOf(bytes);
}
