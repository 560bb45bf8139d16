import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as v from "valibot";
import { parseDigest } from "../domain/digest.ts";
import { asFault, Fault, type FaultData, faultData } from "../domain/fault.ts";
import type { Log } from "../observability/log.ts";
import type { Answer } from "../protocol/client_messages.ts";
import { parse, taskId as taskIdSchema, whole, workerId } from "../protocol/schema.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { Collector } from "../snapshots/collect.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { sameSecret, tokenIn, viewTokenOf } from "../transport/secret.ts";
import { entryOfTask, pageOf, revokedLines, unknownAction, viewOf } from "./action_routes.ts";
import { blobRoutes } from "./blob_routes.ts";
import { type Gateway, unexpected } from "./gateway.ts";
import { sandbox, streamOf } from "./http_answers.ts";
import { bodiesOf, type Ctx, type Env, pathDigest, queryNumber, wholeNumber } from "./http_requests.ts";
import { storeRoutes } from "./http_store.ts";
import { type InspectorDoor, inspectorRoutes, pageRoutes, refuseChange } from "./inspector_routes.ts";
import { jobRoutes } from "./job_routes.ts";
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

const headerBytesMax = 32 * 1024;
/** For the headers of a first request; of later ones on the same connection, the wait for them included. */
const firstRequestMs = 10_000;
const nextRequestMs = 65_000;
const healthMs = 2_000;
const actionsMax = 1_000;
const revocation = v.strictObject({ workerId, sinceMs: whole(0) });

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
  const bodies = bodiesOf(clock);
  const told = (thrown: unknown): FaultData => {
    const fault = asFault(thrown);
    if (fault.code !== "INTERNAL") return faultData(fault);
    log.error("Cannot answer a request over HTTP", { error: fault });
    return { code: "INTERNAL", message: "Cannot answer: see the gateway's log" };
  };

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

  jobRoutes(app, { gateway, blobs, trees, clock, bodies, inspector, told });
  blobRoutes(app, { gateway, blobs, trees, names, bodies, told });

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
    const { workerId, sinceMs } = parse(revocation, "a revocation", await bodies.json(c));
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

  // ---- Bazel's HTTP cache ------------------------------------------------------------------------------------------

  app.use(async (c, next) => {
    const length = c.req.header("content-length");
    const answer = await cache?.({
      method: c.req.raw.method,
      path: c.req.path,
      lengthBytes: length === undefined ? undefined : wholeNumber("Content-Length", length),
      body: () => bodies.read(c),
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
  inspectorRoutes(app, { inspector, isReadOnly: (c) => c.get("isReadOnly") === true });
  const refuse = async (c: Ctx, thrown: unknown): Promise<Response> => {
    const fault = asFault(thrown);
    await bodies.discard(c);
    if (fault.meaning.retry === "later") c.header("Retry-After", "1");
    return c.json(told(thrown), fault.meaning.http as ContentfulStatusCode);
  };

  return app;
}
