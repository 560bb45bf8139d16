import type { Context, Hono } from "hono";
import { Fault } from "../domain/fault.ts";
import type { JobId } from "../domain/ids.ts";
import type { EncodedJob } from "../protocol/client_messages.ts";

/** The page in the browser at `/`, and what it asks under /v1/inspect. */
export interface InspectorDoor {
  answer(
    path: string,
    query: URLSearchParams,
    who: { readonly isReadOnly: boolean; readonly signal: AbortSignal },
  ): Promise<unknown>;
  /** Resolves when there are news of what is watched, or after a while without. */
  news(query: URLSearchParams, signal: AbortSignal): Promise<unknown>;
  /** A job, or one of its tasks, to be run once more. */
  again(asked: { readonly jobId: JobId; readonly place?: number; readonly key: string }): Promise<EncodedJob>;
  file(name: string): Promise<PageFile | undefined>;
  /** Content-Security-Policy of its files. */
  readonly policy: string;
}

export interface PageFile {
  readonly bytes: Uint8Array;
  /** The same, where that is shorter. */
  readonly gzipped?: Uint8Array;
  readonly type: string;
  /** Of the bytes, in quotes. */
  readonly tag: string;
}

/** Files of the page: they hold nothing of the cluster, so whoever asks may have them. */
// deno-lint-ignore no-explicit-any -- whatever the app's environment is
export function pageRoutes(app: Hono<any>, inspector: InspectorDoor | undefined): void {
  const answer = async (c: Context, next: () => Promise<void>): Promise<Response | void> => {
    const file = await inspector?.file(c.req.param("file") ?? "index.html");
    if (inspector === undefined || file === undefined) return await next();
    const { bytes, gzipped, type, tag } = file;
    const headers = {
      "Content-Security-Policy": inspector.policy,
      "Referrer-Policy": "no-referrer",
      // Kept, and asked for each time whether it is still the same.
      "Cache-Control": "no-cache",
      "Vary": "Accept-Encoding",
      "ETag": tag,
    };
    if (c.req.header("if-none-match")?.split(/, */).includes(tag)) return c.body(null, 304, headers);
    const takesGzip = /\bgzip\b(?! *; *q=0(\.0*)?(,|$))/.test(c.req.header("accept-encoding") ?? "");
    const body = takesGzip && gzipped !== undefined ? gzipped : bytes;
    return c.body(body as Uint8Array<ArrayBuffer>, 200, {
      ...headers,
      "Content-Type": type,
      ...(body === gzipped ? { "Content-Encoding": "gzip" } : {}),
    });
  };
  app.get("/", answer);
  app.get("/inspector/:file", answer);
}

/** What the page asks, of those who may ask. */
export function inspectorRoutes(
  // deno-lint-ignore no-explicit-any -- whatever the app's environment is
  app: Hono<any>,
  { inspector, isReadOnly }: {
    readonly inspector: InspectorDoor | undefined;
    readonly isReadOnly: (c: Context) => boolean;
  },
): void {
  if (inspector === undefined) return;
  const queryOf = (c: Context): URLSearchParams => {
    const query = new URL(c.req.url).searchParams;
    query.delete("token");
    return query;
  };
  app.get("/v1/inspect/feed", async (c) => c.json(await inspector.news(queryOf(c), c.req.raw.signal)));
  app.get(
    "/v1/inspect/:what",
    async (c) =>
      c.json(
        await inspector.answer(c.req.param("what"), queryOf(c), {
          isReadOnly: isReadOnly(c),
          signal: c.req.raw.signal,
        }),
      ),
  );
}

/** @throws {Fault} `READ_ONLY` */
export function refuseChange(method: string): void {
  if (method === "GET" || method === "HEAD") return;
  throw new Fault(
    "READ_ONLY",
    "Cannot do that as it changes something: this token may look and no more. Use the cluster's own token",
  );
}
