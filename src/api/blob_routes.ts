import { Buffer } from "node:buffer";
import type { Hono } from "hono";
import * as v from "valibot";
import { type Digest, isDigest, sizeOf } from "../domain/digest.ts";
import { Fault, type FaultData } from "../domain/fault.ts";
import { digest as digestSchema, parse } from "../protocol/schema.ts";
import { type Blobs, passOver, readBlob } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { lookup, readDirectory, readRoot } from "../snapshots/trees/read_tree.ts";
import { batchBlobsMax, batchBytesMax, batchHeader, batchHeaderBytes, decodeBatch } from "./batch.ts";
import type { Gateway } from "./gateway.ts";
import { blobAnswers, sandbox, streamOf } from "./http_answers.ts";
import {
  type Bodies,
  type Ctx,
  type Env,
  needMediaType,
  pathDigest,
  pick,
  queryNumber,
  restOf,
} from "./http_requests.ts";
import { needTree } from "./trees.ts";

const digestsMax = 100_000;
const digestList = v.strictObject({ digests: v.pipe(v.array(digestSchema), v.maxLength(digestsMax)) });
const nameMove = v.strictObject({ expected: v.nullable(v.string()), value: v.nullable(v.string()) });

export interface BlobRoutesOptions {
  readonly gateway: Pick<Gateway, "needSpace">;
  readonly blobs: Blobs;
  readonly trees: TreeKeeper;
  readonly names: Refs;
  readonly bodies: Bodies;
  /** A failure as strangers may read it. */
  readonly told: (thrown: unknown) => FaultData;
}

/** Blobs, the snapshots that they make, and the names of those. */
export function blobRoutes(app: Hono<Env>, { gateway, blobs, trees, names, bodies, told }: BlobRoutesOptions): void {
  const answers = blobAnswers(blobs);

  app.post("/v1/blobs/missing", async (c) => {
    const { digests } = parse(digestList, "a list of digests", await bodies.json(c));
    return c.json({ missing: [...await blobs.missing(new Set(digests))] });
  });
  app.post("/v1/blobs/upload", async (c) => {
    needMediaType(c, "application/octet-stream");
    gateway.needSpace("blobs");
    const entries = decodeBatch(await bodies.whole(c, batchBytesMax));
    const faults: { readonly index: number; readonly code: string; readonly message: string }[] = [];
    await Promise.all(
      entries.map(({ digest, bytes }, index) =>
        blobs.put(digest, bytes).catch((thrown) => faults.push({ index, ...told(thrown) }))
      ),
    );
    return c.json({ stored: entries.length - faults.length, faults });
  });
  app.post("/v1/blobs/download", async (c) => {
    const { digests } = parse(digestList, "a list of digests", await bodies.json(c));
    const bytes = digests.reduce((sum, digest) => sum + batchHeaderBytes + sizeOf(digest), 0);
    if (digests.length > batchBlobsMax || bytes > batchBytesMax) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot give so many blobs at once as a batch must hold at most ${batchBlobsMax} and ${batchBytesMax} bytes: current value is ${digests.length} and ${bytes}`,
      );
    }
    const missing = await blobs.missing(new Set(digests));
    const present = digests.filter((digest) => !missing.has(digest));
    return c.body(streamOf(batchOf(present)), 200, { "Content-Type": "application/octet-stream" });
  });
  async function* batchOf(digests: readonly Digest[]): AsyncGenerator<Uint8Array> {
    let parts: Uint8Array[] = [];
    let held = 0;
    for (const digest of digests) {
      const bytes = await readBlob(blobs, digest, batchBytesMax);
      parts.push(batchHeader(digest), bytes);
      held += bytes.length + batchHeaderBytes;
      if (held < 256 * 1024) continue;
      yield Buffer.concat(parts);
      parts = [];
      held = 0;
    }
    if (held > 0) yield Buffer.concat(parts);
  }
  app.put("/v1/blobs/:hash/:size", async (c) => {
    needMediaType(c, "application/octet-stream");
    gateway.needSpace("a blob");
    const bytes = bodies.read(c);
    await blobs.put(pathDigest(c), bytes);
    await passOver(bytes);
    return c.body(null, 204);
  });
  app.get(
    "/v1/blobs/:hash/:size",
    async (c) => await answers.ranged(c, pathDigest(c), { "Content-Type": "application/octet-stream", ...sandbox }),
  );

  // ---- names -------------------------------------------------------------------------------------------------------

  app.get("/v1/names", async (c) => {
    const limit = Math.min(queryNumber(c, "limit") ?? 1_000, 10_000);
    const found: { readonly name: string; readonly value: string }[] = [];
    for await (
      const [name, value] of names.list(c.req.query("prefix") ?? "", {
        limit,
        ...pick({ after: c.req.query("after") }),
      })
    ) {
      found.push({ name, value });
    }
    return c.json({ names: found });
  });
  app.get("/v1/names/*", async (c) => {
    const name = restOf(c, "/v1/names/");
    const value = await names.get(name);
    if (value === undefined) throw new Fault("REF_UNKNOWN", `Cannot find a snapshot called "${name}"`);
    return c.json({ name, value });
  });
  app.put("/v1/names/*", async (c) => {
    const { expected, value } = parse(nameMove, "the move of a name", await bodies.json(c));
    const name = restOf(c, "/v1/names/");
    if (value !== null) gateway.needSpace("a name");
    if (value !== null && isDigest(value)) await needTree(trees, value, `give the name "${name}" as its snapshot`);
    await names.compareAndSet(name, expected ?? undefined, value ?? undefined);
    return c.body(null, 204);
  });

  // ---- snapshots ---------------------------------------------------------------------------------------------------

  app.get("/v1/held/:hash/:size", async (c) => {
    const missing = await trees.keep(pathDigest(c));
    return c.json(missing.length === 0 ? { held: true } : { held: false, missing });
  });
  const snapshot = async (c: Ctx): Promise<Response> => {
    const root = pathDigest(c);
    const path = restOf(c, `/v1/snapshots/${root}`).replace(/^\//, "");
    const node = await lookup(blobs, root, path);
    if (node.kind === "symlink") return c.json(node);
    if (node.kind === "directory") {
      const entries = node.digest === root ? await readRoot(blobs, root) : await readDirectory(blobs, node.digest);
      return c.json({ kind: "directory", digest: node.digest, entries });
    }
    const type = await isText(node.digest) ? "text/plain; charset=utf-8" : "application/octet-stream";
    return await answers.ranged(c, node.digest, { "Content-Type": type, ...sandbox });
  };
  app.get("/v1/snapshots/:hash/:size", snapshot);
  app.get("/v1/snapshots/:hash/:size/*", snapshot);
  /** Judged by its beginning; what follows may be anything, and a browser shows it as text all the same. */
  const isText = async (digest: Digest): Promise<boolean> => {
    for await (const bytes of blobs.get(digest, { length: Math.min(sizeOf(digest), 4_096) })) {
      return !bytes.includes(0) && !Buffer.from(bytes).toString("utf8").slice(0, -1).includes("\ufffd");
    }
    return true;
  };
}
