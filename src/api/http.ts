import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { type Context, Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as v from "valibot";
import { type Digest, emptyDigest, isDigest, parseDigest, sizeOf } from "../domain/digest.ts";
import { asFault, Fault, faultData } from "../domain/fault.ts";
import { jobOfTask, type TaskId } from "../domain/ids.ts";
import type { Log } from "../observability/log.ts";
import {
  type Answer,
  type ClientRequest,
  type EncodedJob,
  encodedJob,
  parseFromClient,
  parseJobSpec,
} from "../protocol/client_messages.ts";
import {
  digest as digestSchema,
  parse,
  taskId as taskIdSchema,
  whole as wholeSchema,
  workerId,
} from "../protocol/schema.ts";
import { parseSettings } from "../protocol/settings.ts";
import type { Clock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import { blobMissing, type Blobs, passOver, readBlob } from "../snapshots/blobs/blobs.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { Collector } from "../snapshots/collect.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { lookup, readDirectory, readRoot } from "../snapshots/trees/read_tree.ts";
import { sameSecret, tokenIn, viewTokenOf } from "../transport/secret.ts";
import { entryOfTask, pageOf, revokedLines, unknownAction, viewOf } from "./action_routes.ts";
import type { Change } from "./client.ts";
import { batchBlobsMax, batchBytesMax, batchHeader, batchHeaderBytes, decodeBatch } from "./batch.ts";
import { needTree } from "./trees.ts";
import { storeRoutes } from "./http_store.ts";
import { type InspectorDoor, inspectorRoutes, pageRoutes, refuseChange } from "./inspector_routes.ts";
import { type Gateway, type Question, unexpected } from "./gateway.ts";
import { checkOrigin } from "./own_origin.ts";

export interface HttpOptions {
  readonly gateway: Gateway;
  readonly blobs: Blobs;
  /** Of the same store. */
  readonly trees: TreeKeeper;
  /** Named snapshots. Whoever has the token may move every one of them. */
  readonly names: Refs;
  /** Absent where blobs are in memory. */
  readonly collector?: Collector;
  /** Results that are kept of actions. Whoever has the token may revoke them. */
  readonly actions: ActionCache;
  readonly token: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Host names that are ours beside the loopback ones, for a cluster that listens elsewhere too. */
  readonly hosts?: readonly string[];
  /** The page in the browser, and what it asks. */
  readonly inspector?: InspectorDoor;
  /** Bazel's HTTP cache, at `/ac/` and `/cas/`; answers undefined for a path that is not of it. */
  readonly cache?: (request: {
    readonly method: string;
    readonly path: string;
    /** As the request tells it. */
    readonly lengthBytes: number | undefined;
    /** For one use. */
    readonly body: () => AsyncIterable<Uint8Array>;
  }) => Promise<
    | { readonly status: 200 | 204; readonly lengthBytes: number; readonly chunks?: AsyncIterable<Uint8Array> }
    | undefined
  >;
  /** Takes a WebSocket handshake at /v1/connect whose Host and Origin are ours; the hello then brings the token. */
  readonly acceptUpgrade: (request: IncomingMessage, socket: Duplex, head: Uint8Array) => void;
}

const jsonBytesMax = 8 * 1024 * 1024;
const headerBytesMax = 32 * 1024;
/** For the headers of a first request; of later ones on the same connection, the wait for them included. */
const firstRequestMs = 10_000;
const nextRequestMs = 65_000;
/** Between two chunks of a body. */
const bodySilenceMs = 30_000;
/** Of a body that is refused. */
const discardBytesMax = 32 * 1024 * 1024;
const discardMs = 1_000;
const keepAliveMs = 15_000;
const healthMs = 2_000;
const actionsMax = 1_000;
const digestsMax = 100_000;

type Env = {
  Bindings: { readonly incoming: IncomingMessage; readonly outgoing: ServerResponse };
  Variables: { isReadOnly: boolean };
};
type Ctx = Context<Env>;

/**
 * The HTTP door: docs/http.md describes it. The server does not listen: call `listen`, or give it sockets that somebody
 * else accepted (`server.emit("connection", socket)`). Slow strangers are cut off either way.
 */
export function httpServer(options: HttpOptions): Server {
  const { clock } = options;
  const app = routes(options);
  const answer = getRequestListener(app.fetch as (request: Request) => Response | Promise<Response>, {
    overrideGlobalObjects: false,
  });
  const deadlines = new WeakMap<object, () => void>();
  const disarm = (socket: object): void => deadlines.get(socket)?.();
  const arm = (socket: Duplex, ms: number): void => {
    disarm(socket);
    deadlines.set(socket, clock.at(clock.now() + ms, () => void socket.destroy()));
  };

  const server = createServer(
    { maxHeaderSize: headerBytesMax, keepAliveTimeout: nextRequestMs - 5_000, requestTimeout: 0 },
    (request, response) => {
      const { socket } = request;
      disarm(socket);
      response.once("close", () => {
        if (!socket.destroyed) arm(socket, nextRequestMs);
      });
      void answer(request, response);
    },
  );
  server.on("connection", (socket) => {
    arm(socket, firstRequestMs);
    socket.once("close", () => disarm(socket));
    socket.on("error", () => {}); // the loss of that connection only
  });
  server.on("upgrade", (request, socket, head) => {
    disarm(socket);
    try {
      if (pathOf(request.url) !== "/v1/connect") throw unknownRoute("GET", pathOf(request.url));
      checkOrigin({ host: request.headers.host, origin: request.headers.origin }, options.hosts);
      options.acceptUpgrade(request, socket, head);
    } catch (thrown) {
      const fault = asFault(thrown);
      const body = JSON.stringify(faultData(fault));
      socket.end(
        `HTTP/1.1 ${fault.meaning.http} Refused\r\nContent-Type: application/json\r\nConnection: close\r\n` +
          `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    }
  });
  return server;
}

const pathOf = (url: string | undefined): string => (url ?? "/").split("?", 1)[0] ?? "/";
const unknownRoute = (method: string, path: string): Fault =>
  new Fault(
    "ROUTE_UNKNOWN",
    `Cannot ${method} ${path.slice(0, 200)}: there is nothing; docs/http.md tells what there is`,
  );

function routes(
  { gateway, blobs, trees, names, collector, actions, token, clock, log, hosts, inspector, cache }: HttpOptions,
): Hono<Env> {
  const app = new Hono<Env>();
  const viewToken = viewTokenOf(token);

  // ---- who may ask -------------------------------------------------------------------------------------------------

  app.use(async (c, next) => {
    checkOrigin({ host: c.req.header("host"), origin: c.req.header("origin") }, hosts);
    c.header("X-Content-Type-Options", "nosniff");
    c.header("Cross-Origin-Resource-Policy", "same-origin");
    c.header("Cache-Control", "no-store");
    await next();
    if (c.req.raw.method === "HEAD") await c.res.body?.cancel(); // nobody will read it to its end
  });
  pageRoutes(app, inspector);
  app.get("/healthz", async (c) => {
    const away = new Fault("PEER_UNREACHABLE", "The scheduler does not answer: it is starting, or away");
    if (!gateway.hasScheduler) throw away;
    const answer = await new Promise<Answer>((resolve, reject) => {
      const cancel = clock.at(clock.now() + healthMs, () => reject(away));
      gateway.ask({ type: "cluster.get" }).then(resolve, reject).finally(cancel);
    });
    if (answer.type !== "cluster.view") throw unexpected(answer);
    return c.json({ state: answer.cluster.state, epoch: answer.cluster.epoch });
  });
  app.use(async (c, next) => {
    // A browser's EventSource and links cannot set headers; what changes something must.
    const query = c.req.method === "GET" ? c.req.query("token") : undefined;
    const given = tokenIn(c.req.header("authorization")) ?? query;
    const isReader = given !== undefined && sameSecret(given, viewToken);
    if (given === undefined || !(isReader || sameSecret(given, token))) {
      throw new Fault(
        "TOKEN_INVALID",
        `Cannot answer as the request must bring the cluster's token ("Authorization: Bearer …"): current value is ${
          given === undefined ? "absent" : "another"
        }`,
      );
    }
    if (isReader) refuseChange(c.req.raw.method);
    c.set("isReadOnly", isReader);
    await next();
  });

  // ---- jobs --------------------------------------------------------------------------------------------------------

  app.post("/v1/jobs", async (c) => {
    const accepted = await gateway.submit(parseJobSpec(await jsonBody(c)));
    c.header("Location", `/v1/jobs/${accepted.jobId}`);
    return c.json(accepted, accepted.existing ? 200 : 201);
  });
  app.get("/v1/jobs", async (c) => {
    const answer = await gateway.ask(question({
      type: "job.list",
      limit: queryNumber(c, "limit") ?? 100,
      ...pick({ state: c.req.query("state"), before: c.req.query("before") }),
    }));
    if (answer.type !== "job.views") throw unexpected(answer);
    return c.json({ jobs: answer.jobs });
  });
  app.get("/v1/jobs/:job", async (c) => {
    const answer = await gateway.ask(
      question({ type: "job.get", jobId: c.req.param("job"), ...pick({ tasksFrom: queryNumber(c, "tasksFrom") }) }),
    );
    if (answer.type !== "job.view") throw unexpected(answer);
    const { type: _, ...view } = answer;
    return c.json(view);
  });
  app.delete("/v1/jobs/:job", async (c) => {
    const reason = c.req.query("reason") ?? "Killed over HTTP";
    await gateway.ask(question({ type: "job.kill", jobId: c.req.param("job"), reason }));
    return c.body(null, 204);
  });
  app.get("/v1/jobs/:job/events", async (c) => {
    const { jobId } = question({ type: "job.get", jobId: c.req.param("job") });
    const view = await gateway.ask({ type: "job.get", jobId });
    if (view.type !== "job.view") throw unexpected(view);
    const afterSeq = whole("Last-Event-ID", c.req.header("last-event-id") ?? c.req.query("after") ?? "0");
    const stop = new AbortController();
    const changes = gateway.watch(jobId, { afterSeq, signal: stop.signal })[Symbol.asyncIterator]();
    // Browsers come back for ever unless they are told that there is no more.
    const first = view.job.state !== "running" && afterSeq > 0 ? await changes.next() : undefined;
    if (first?.done) return c.body(null, 204);
    return c.body(serverSentEvents(changes, first, stop), 200, {
      "Content-Type": "text/event-stream",
      "X-Accel-Buffering": "no",
    });
  });

  const serverSentEvents = (
    changes: AsyncIterator<Change>,
    first: IteratorResult<Change> | undefined,
    stop: AbortController,
  ): ReadableStream<Uint8Array> => {
    let cancelBeat = (): void => {};
    let held = first;
    return new ReadableStream<Uint8Array>({
      start(controller) {
        const beat = (): void => {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(utf8.encode(": still here\n\n"));
          cancelBeat = clock.at(clock.now() + keepAliveMs, beat);
        };
        // At once too, so that the headers leave before the first change.
        beat();
      },
      async pull(controller) {
        const finish = (text: string): void => {
          cancelBeat();
          controller.enqueue(utf8.encode(text));
          controller.close();
        };
        try {
          const next = held ?? await changes.next();
          held = undefined;
          if (next.done) return finish("event: end\ndata: {}\n\n");
          const { kind, seq, ...change } = next.value;
          controller.enqueue(
            utf8.encode(`id: ${seq}\nevent: ${kind}\ndata: ${JSON.stringify({ seq, ...change })}\n\n`),
          );
        } catch (thrown) {
          if (!stop.signal.aborted) finish(`event: fault\ndata: ${JSON.stringify(told(thrown))}\n\n`);
        }
      },
      cancel() {
        cancelBeat();
        stop.abort();
      },
    });
  };

  app.get("/v1/jobs/:job/tasks/:task/:stream{stdout|stderr}", async (c) => {
    const stream = c.req.param("stream") as "stdout" | "stderr";
    const offset = queryNumber(c, "offset") ?? 0;
    const taskId = `${c.req.param("job")}/${c.req.param("task")}` as TaskId;
    parseFromClient({ sentAtMs: 0, body: { type: "output.follow", follow: 1, taskId, stream, offset } });
    const headers = { "Content-Type": "text/plain; charset=utf-8", ...sandbox };
    if (isOn(c.req.query("follow"))) {
      const stop = new AbortController();
      const pieces = gateway.follow({ taskId, stream, offset }, stop.signal);
      return c.body(streamOf(chunksOf(pieces), () => stop.abort()), 200, headers);
    }
    const index = Number(c.req.param("task"));
    const answer = await gateway.ask({ type: "job.get", jobId: jobOfTask(taskId), tasksFrom: index });
    if (answer.type !== "job.view") throw unexpected(answer);
    const task = answer.tasks[0];
    if (task?.taskId !== taskId) {
      throw new Fault("TASK_UNKNOWN", `Cannot find task ${taskId}: its job has ${answer.job.tasks}`);
    }
    if (task.outcome === undefined) {
      throw new Fault(
        "OUTPUT_MISSING",
        `Cannot give the ${stream} of task ${taskId} as it is kept when the task has settled: it is ${task.state}. Ask with follow=1`,
      );
    }
    const kept = task.outcome.kind === "skipped" ? undefined : task.outcome[stream];
    if (kept === undefined) return c.body("", 200, headers);
    const from = Math.min(offset, sizeOf(kept.digest));
    return await blobResponse(c, kept.digest, { from, to: sizeOf(kept.digest) }, 200, {
      ...headers,
      "X-Truncated-Bytes": String(kept.truncatedBytes),
    });
  });

  app.get("/v1/jobs/:job/export", async (c) => {
    const { jobId } = question({ type: "job.get", jobId: c.req.param("job") });
    const chunks = gateway.exportJob(jobId)[Symbol.asyncIterator]();
    const first = await chunks.next(); // what cannot be exported is told with a status
    return c.body(streamOf(startingWith(first, chunks), () => void chunks.return?.()), 200, {
      "Content-Type": "application/octet-stream",
      "Content-Disposition": `attachment; filename="${jobId}.scootjob"`,
    });
  });
  app.post("/v1/jobs/:job/rerun", async (c) => {
    if (inspector === undefined) throw unknownRoute("POST", c.req.path);
    const { jobId } = question({ type: "job.get", jobId: c.req.param("job") });
    const key = parse(encodedJob.entries.key, "the key of a job", c.req.query("key") ?? `rerun/${randomHex(16)}`);
    const job = await inspector.again({ jobId, key, ...pick({ place: queryNumber(c, "task") }) });
    await needMadeOf(job);
    const accepted = await gateway.accept(job);
    c.header("Location", `/v1/jobs/${accepted.jobId}`);
    return c.json(accepted, accepted.existing ? 200 : 201);
  });
  /** What an old job is made of may have been collected. */
  const needMadeOf = async ({ tasks }: EncodedJob): Promise<void> => {
    const needed = new Map<Digest, string>();
    for (const { name, input } of tasks) {
      const parts = input.kind === "mounted" ? input.parts : [input];
      for (const part of parts) if ("snapshot" in part) needed.set(part.snapshot, name);
    }
    for (const [snapshot, name] of needed) {
      if (snapshot !== emptyDigest) await needTree(trees, snapshot, `run task "${name}" again as its input`);
    }
    const [missing] = await blobs.missing(new Set(tasks.map(({ command }) => command)));
    if (missing !== undefined) throw blobMissing(missing);
  };
  app.post("/v1/jobs/import", async (c) => {
    needMediaType(c, "application/octet-stream");
    const imported = await gateway.importJob(body(c));
    c.header("Location", `/v1/jobs/${imported.jobId}`);
    return c.json(imported, imported.existing ? 200 : 201);
  });

  app.get("/v1/jobs/:job/why", async (c) => {
    const atMs = queryNumber(c, "at");
    const answer = await gateway.ask(
      question({ type: "job.why", jobId: c.req.param("job"), ...(atMs === undefined ? {} : { atMs }) }),
    );
    if (answer.type !== "job.why") throw unexpected(answer);
    const { type: _type, ...why } = answer;
    return c.json(why);
  });
  app.get("/v1/settings", async (c) => {
    const answer = await gateway.ask({ type: "settings.get" });
    if (answer.type !== "settings.view") throw unexpected(answer);
    return c.json(answer.settings);
  });
  app.put("/v1/settings", async (c) => {
    const settings = parseSettings(await jsonBody(c));
    await gateway.ask({ type: "settings.set", settings, reason: c.req.query("reason") ?? "" });
    return c.body(null, 204);
  });
  app.post("/v1/workers/:worker/:change{offline|reinstate}", async (c) => {
    const type = `worker.${c.req.param("change") as "offline" | "reinstate"}` as const;
    await gateway.ask(question({ type, workerId: c.req.param("worker"), reason: c.req.query("reason") ?? "" }));
    return c.body(null, 204);
  });

  app.get("/v1/workers", async (c) => {
    const answer = await gateway.ask({ type: "worker.list" });
    if (answer.type !== "worker.views") throw unexpected(answer);
    return c.json({ workers: answer.workers });
  });
  app.get("/v1/cluster", async (c) => {
    const answer = await gateway.ask({ type: "cluster.get" });
    if (answer.type !== "cluster.view") throw unexpected(answer);
    return c.json(answer.cluster);
  });

  // ---- blobs -------------------------------------------------------------------------------------------------------

  app.post("/v1/blobs/missing", async (c) => {
    const { digests } = parse(digestList, "a list of digests", await jsonBody(c));
    return c.json({ missing: [...await blobs.missing(new Set(digests))] });
  });
  app.post("/v1/blobs/upload", async (c) => {
    needMediaType(c, "application/octet-stream");
    gateway.needSpace("blobs");
    const entries = decodeBatch(await wholeBody(c, batchBytesMax));
    const faults: { readonly index: number; readonly code: string; readonly message: string }[] = [];
    await Promise.all(
      entries.map(({ digest, bytes }, index) =>
        blobs.put(digest, bytes).catch((thrown) => faults.push({ index, ...told(thrown) }))
      ),
    );
    return c.json({ stored: entries.length - faults.length, faults });
  });
  app.post("/v1/blobs/download", async (c) => {
    const { digests } = parse(digestList, "a list of digests", await jsonBody(c));
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
    const bytes = body(c);
    await blobs.put(pathDigest(c), bytes);
    await passOver(bytes);
    return c.body(null, 204);
  });
  app.get(
    "/v1/blobs/:hash/:size",
    async (c) => await ranged(c, pathDigest(c), { "Content-Type": "application/octet-stream", ...sandbox }),
  );

  const ranged = async (c: Ctx, digest: Digest, headers: Readonly<Record<string, string>>): Promise<Response> => {
    const size = sizeOf(digest);
    const range = parseRange(c.req.header("range"), size);
    const all = { ...headers, "Accept-Ranges": "bytes", "ETag": `"${digest}"` };
    if (range === "none") {
      c.header("Content-Range", `bytes */${size}`);
      return c.json(faultData(new Fault("REQUEST_INVALID", `Cannot give that range of a blob of ${size} bytes`)), 416);
    }
    if (range === undefined) return await blobResponse(c, digest, { from: 0, to: size }, 200, all);
    const contentRange = `bytes ${range.from}-${range.to - 1}/${size}`;
    return await blobResponse(c, digest, range, 206, { ...all, "Content-Range": contentRange });
  };
  const blobResponse = async (
    c: Ctx,
    digest: Digest,
    { from, to }: { readonly from: number; readonly to: number },
    status: ContentfulStatusCode,
    headers: Readonly<Record<string, string>>,
  ): Promise<Response> => {
    const sized = { ...headers, "Content-Length": String(to - from) };
    if (c.req.raw.method === "HEAD" || from === to) {
      if ((await blobs.missing(new Set([digest]))).size > 0) throw blobMissing(digest);
      return c.body(null, status, sized);
    }
    const stop = new AbortController();
    const chunks = blobs.get(digest, { offset: from, length: to - from, signal: stop.signal })[Symbol.asyncIterator]();
    const first = await chunks.next(); // a blob that is not there is told with a status
    return c.body(streamOf(startingWith(first, chunks), () => stop.abort()), status, sized);
  };

  // ---- kept results of actions --------------------------------------------------------------------------------------

  app.get("/v1/actions", async (c) => {
    const limit = Math.min(queryNumber(c, "limit") ?? 100, actionsMax);
    const after = c.req.query("after");
    const key = after === undefined
      ? {}
      : { after: { instance: c.req.query("afterInstance") ?? "", action: parseDigest(after) } };
    return c.json(await pageOf(actions, { limit, ...key }));
  });
  app.post("/v1/actions/revoke", async (c) => {
    const { workerId, sinceMs } = parse(revocation, "a revocation", await jsonBody(c));
    return c.body(streamOf(revokedLines(actions.revoke({ workerId, sinceMs }), told)), 200, {
      "Content-Type": "application/x-ndjson",
    });
  });
  app.get("/v1/actions/of/:job/:task", async (c) => {
    const id = parse(taskIdSchema, "a task's id", `${c.req.param("job")}/${c.req.param("task")}`);
    return c.json(viewOf(await entryOfTask({ gateway, blobs, actions }, id)));
  });
  app.get("/v1/actions/:hash/:size", async (c) => {
    const action = pathDigest(c);
    const entry = await actions.show({ instance: c.req.query("instance") ?? "", action });
    if (entry === undefined) throw unknownAction(`action ${action}`);
    return c.json(viewOf(entry));
  });

  storeRoutes(app, collector);

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
    const name = rest(c, "/v1/names/");
    const value = await names.get(name);
    if (value === undefined) throw new Fault("REF_UNKNOWN", `Cannot find a snapshot called "${name}"`);
    return c.json({ name, value });
  });
  app.put("/v1/names/*", async (c) => {
    const { expected, value } = parse(nameMove, "the move of a name", await jsonBody(c));
    const name = rest(c, "/v1/names/");
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
    const path = rest(c, `/v1/snapshots/${root}`).replace(/^\//, "");
    const node = await lookup(blobs, root, path);
    if (node.kind === "symlink") return c.json(node);
    if (node.kind === "directory") {
      const entries = node.digest === root ? await readRoot(blobs, root) : await readDirectory(blobs, node.digest);
      return c.json({ kind: "directory", digest: node.digest, entries });
    }
    const type = await isText(node.digest) ? "text/plain; charset=utf-8" : "application/octet-stream";
    return await ranged(c, node.digest, { "Content-Type": type, ...sandbox });
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

  // ---- Bazel's HTTP cache ------------------------------------------------------------------------------------------

  app.use(async (c, next) => {
    const length = c.req.header("content-length");
    const answer = await cache?.({
      method: c.req.raw.method,
      path: c.req.path,
      lengthBytes: length === undefined ? undefined : whole("Content-Length", length),
      body: () => body(c),
    });
    if (answer === undefined) return await next();
    const { status, lengthBytes, chunks } = answer;
    const headers = { "Content-Type": "application/octet-stream", "Content-Length": String(lengthBytes), ...sandbox };
    if (chunks !== undefined) return c.body(streamOf(chunks), 200, headers);
    return c.body(null, status, status === 204 ? {} : headers);
  });

  // ---- what goes wrong ---------------------------------------------------------------------------------------------

  app.notFound((c) => refuse(c, unknownRoute(c.req.method, c.req.path)));
  app.onError((thrown, c) => refuse(c, thrown));
  const told = (thrown: unknown): ReturnType<typeof faultData> => {
    const fault = asFault(thrown);
    if (fault.code !== "INTERNAL") return faultData(fault);
    log.error("Cannot answer a request over HTTP", { error: fault });
    return { code: "INTERNAL", message: "Cannot answer: see the gateway's log" };
  };
  inspectorRoutes(app, { inspector, isReadOnly: (c) => c.get("isReadOnly") === true });
  const refuse = async (c: Ctx, thrown: unknown): Promise<Response> => {
    const fault = asFault(thrown);
    await discardBody(c.env.incoming);
    if (fault.meaning.retry === "later") c.header("Retry-After", "1");
    return c.json(told(thrown), fault.meaning.http as ContentfulStatusCode);
  };

  /**
   * Throws away what has not been read of a body, for a while: who sends before listening would otherwise find the
   * connection closed, and not our answer.
   */
  const discardBody = (incoming: IncomingMessage): Promise<void> => {
    const { "content-length": length, "transfer-encoding": coding } = incoming.headers;
    if (incoming.readableEnded || incoming.destroyed || (coding === undefined && Number(length ?? 0) === 0)) {
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      let bytes = 0;
      const hear = (chunk: Uint8Array): void => {
        bytes += chunk.length;
        if (bytes > discardBytesMax) done();
      };
      const done = (): void => {
        cancel();
        incoming.off("data", hear);
        resolve();
      };
      const cancel = clock.at(clock.now() + discardMs, done);
      incoming.on("data", hear);
      incoming.once("end", done);
      incoming.once("close", done);
    });
  };

  /** A request's body, chunk by chunk; one that stops coming is given up. */
  async function* body(c: Ctx): AsyncGenerator<Uint8Array> {
    const { incoming } = c.env;
    const late = (): void =>
      void incoming.destroy(
        new Fault(
          "PEER_SILENT",
          `Cannot read a body as something must come of it every ${bodySilenceMs} ms: nothing did`,
        ),
      );
    let cancel = clock.at(clock.now() + bodySilenceMs, late);
    try {
      for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
        cancel();
        yield chunk as Uint8Array;
        cancel = clock.at(clock.now() + bodySilenceMs, late);
      }
    } finally {
      cancel();
    }
  }
  const wholeBody = async (c: Ctx, bytesMax: number): Promise<Uint8Array> => {
    const tooLong = (bytes: number | string): Fault =>
      new Fault(
        "FRAME_TOO_LONG",
        `Cannot take a body as it must be at most ${bytesMax} bytes: current value is ${bytes}`,
      );
    const told = Number(c.req.header("content-length") ?? 0);
    if (told > bytesMax) throw tooLong(told);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of body(c)) {
      bytes += chunk.length;
      if (bytes > bytesMax) throw tooLong("more");
      chunks.push(chunk);
    }
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  };
  const jsonBody = async (c: Ctx): Promise<unknown> => {
    needMediaType(c, "application/json");
    const bytes = await wholeBody(c, jsonBytesMax);
    try {
      return JSON.parse(strictUtf8.decode(bytes));
    } catch (cause) {
      throw new Fault("REQUEST_INVALID", `Cannot read the body as it must be JSON: ${(cause as Error).message}`, {
        cause,
      });
    }
  };
  return app;
}

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });
/** Files of strangers, shown by a browser at our origin: no script, no frame, nothing loaded. */
const sandbox = {
  "Content-Security-Policy": "sandbox; default-src 'none'",
  "X-Content-Type-Options": "nosniff",
} as const;
const digestList = v.strictObject({ digests: v.pipe(v.array(digestSchema), v.maxLength(digestsMax)) });
const revocation = v.strictObject({ workerId, sinceMs: wholeSchema(0) });
const nameMove = v.strictObject({ expected: v.nullable(v.string()), value: v.nullable(v.string()) });

/** A question as the one schema has it. @throws {Fault} `REQUEST_INVALID` */
function question<Type extends Question["type"]>(
  body: { readonly type: Type; readonly [field: string]: unknown },
): Extract<Question, { type: Type }> {
  const request: ClientRequest = parseFromClient({ sentAtMs: 0, body }).body;
  return request as Extract<Question, { type: Type }>;
}

/** Without the fields that are undefined. */
const pick = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

const isOn = (text: string | undefined): boolean => text !== undefined && text !== "0" && text !== "false";

function whole(what: string, text: string): number {
  const number = /^[0-9]{1,16}$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(number)) return number;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot use ${what} as it must be a whole number: current value is "${text.slice(0, 100)}"`,
  );
}
const queryNumber = (c: Ctx, name: string): number | undefined => {
  const text = c.req.query(name);
  return text === undefined ? undefined : whole(name, text);
};

const pathDigest = (c: Ctx): Digest => parseDigest(`${c.req.param("hash")}/${c.req.param("size")}`);

/** What follows a prefix of the path, decoded. @throws {Fault} `REQUEST_INVALID` */
function rest(c: Ctx, prefix: string): string {
  const text = new URL(c.req.url).pathname.slice(prefix.length);
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot read a path as its %-escapes must be UTF-8: current value is ${text.slice(0, 200)}`,
      { cause },
    );
  }
}

function needMediaType(c: Ctx, wanted: string): void {
  const given = c.req.header("content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  if (given === wanted) return;
  throw new Fault(
    "MEDIA_TYPE_REFUSED",
    `Cannot take a body as its Content-Type must be ${wanted}: current value is ${given ?? "absent"}`,
  );
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

async function* chunksOf(pieces: ReturnType<Gateway["follow"]>): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) if (piece.kind === "chunk") yield piece.bytes;
}
async function* startingWith(
  first: IteratorResult<Uint8Array>,
  others: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  for (let next = first; !next.done; next = await others.next()) yield next.value;
}

/** As a body that is read as fast as it leaves. */
function streamOf(chunks: AsyncIterable<Uint8Array>, cancel: () => void = () => {}): ReadableStream<Uint8Array> {
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
