import type { ContentfulStatusCode } from "hono/utils/http-status";
import { type Digest, sizeOf } from "../domain/digest.ts";
import { Fault, faultData } from "../domain/fault.ts";
import { blobMissing, type Blobs, isMissing } from "../snapshots/blobs/blobs.ts";
import type { Ctx } from "./http_requests.ts";

/** Files of strangers, shown by a browser at our origin: no script, no frame, nothing loaded. */
export const sandbox = {
  "Content-Security-Policy": "sandbox; default-src 'none'",
  "X-Content-Type-Options": "nosniff",
} as const;

/** Blobs as answers. */
export interface BlobAnswers {
  /** The part of it that the request asks for, or all. */
  ranged(c: Ctx, digest: Digest, headers: Readonly<Record<string, string>>): Promise<Response>;
  /** @throws {Fault} `BLOB_MISSING` */
  part(
    c: Ctx,
    digest: Digest,
    range: { readonly from: number; readonly to: number },
    status: ContentfulStatusCode,
    headers: Readonly<Record<string, string>>,
  ): Promise<Response>;
}

export function blobAnswers(blobs: Blobs): BlobAnswers {
  const ranged = async (c: Ctx, digest: Digest, headers: Readonly<Record<string, string>>): Promise<Response> => {
    const size = sizeOf(digest);
    const range = parseRange(c.req.header("range"), size);
    const all = { ...headers, "Accept-Ranges": "bytes", "ETag": `"${digest}"` };
    if (range === "none") {
      c.header("Content-Range", `bytes */${size}`);
      return c.json(faultData(new Fault("REQUEST_INVALID", `Cannot give that range of a blob of ${size} bytes`)), 416);
    }
    if (range === undefined) return await part(c, digest, { from: 0, to: size }, 200, all);
    const contentRange = `bytes ${range.from}-${range.to - 1}/${size}`;
    return await part(c, digest, range, 206, { ...all, "Content-Range": contentRange });
  };
  const part = async (
    c: Ctx,
    digest: Digest,
    { from, to }: { readonly from: number; readonly to: number },
    status: ContentfulStatusCode,
    headers: Readonly<Record<string, string>>,
  ): Promise<Response> => {
    const sized = { ...headers, "Content-Length": String(to - from) };
    if (c.req.raw.method === "HEAD" || from === to) {
      if (await isMissing(blobs, digest)) throw blobMissing(digest);
      return c.body(null, status, sized);
    }
    const stop = new AbortController();
    const chunks = blobs.get(digest, { offset: from, length: to - from, signal: stop.signal })[Symbol.asyncIterator]();
    const first = await chunks.next(); // a blob that is not there is told with a status
    return c.body(streamOf(startingWith(first, chunks), () => stop.abort()), status, sized);
  };
  return { ranged, part };
}

/** One range of bytes; undefined for none or a form that we do not know; "none" when it lies outside. */
function parseRange(
  header: string | undefined,
  size: number,
): { readonly from: number; readonly to: number } | "none" | undefined {
  const [, first, last] = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header ?? "") ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return undefined;
  const from = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const to = first === "" || last === "" ? size : Math.min(size, Number(last) + 1);
  return from >= to ? "none" : { from, to };
}

/** What was begun to be read. */
export async function* startingWith(
  first: IteratorResult<Uint8Array>,
  others: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  for (let next = first; !next.done; next = await others.next()) yield next.value;
}

/** As a body that is read as fast as it leaves. */
export function streamOf(chunks: AsyncIterable<Uint8Array>, cancel: () => void = () => {}): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await iterator.next();
      if (next.done) controller.close();
      else controller.enqueue(next.value);
    },
    async cancel() {
      cancel();
      await iterator.return?.().catch(() => {});
    },
  }, { highWaterMark: 0 });
}
