import type { Server } from "node:http";
import type { Socket } from "node:net";
import { join } from "node:path";
import { createGateway, type Gateway } from "../api/gateway.ts";
import type { SealedJobs } from "../api/job_files.ts";
import { httpServer } from "../api/http.ts";
import { Fault } from "../domain/fault.ts";
import { pagePolicy } from "../inspector/files.ts";
import { createInspector } from "../inspector/server.ts";
import { linkTo } from "../inspector/web/place.ts";
import type { Log } from "../observability/log.ts";
import { realClock } from "../runtime/clock.ts";
import { realRandom } from "../runtime/random.ts";
import { httpCache } from "../reapi/http_cache.ts";
import { reapiServer } from "../reapi/server.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import { treeKeeper } from "../snapshots/lease.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import type { States } from "../snapshots/states/states.ts";
import { keepDialing } from "../transport/redial.ts";
import type { AcceptOptions, Connection, Hello } from "../transport/transport.ts";
import { webSocketTransport } from "../transport/websocket.ts";
import { type BudgetOptions, startBudget } from "./budget.ts";
import { outliveHttp2Farewells } from "./http2_on_deno.ts";
import { isOwnPeer } from "./own_peer.ts";
import { tasksOver } from "./reapi_tasks.ts";
import { diskSpace, helloOf, memberBackoff } from "./machine.ts";
import { feedHttpServer, type Takers } from "./sniff.ts";

export interface GatewayRoleOptions {
  /** Where the blobs lie: new work is refused when its disk is nearly full. */
  readonly dataDir: string;
  readonly token: string;
  readonly log: Log;
  readonly blobs: Blobs;
  readonly sealed: SealedJobs;
  readonly names: Refs;
  /** The scheduler's states, to be shown; undefined where they cannot be read. */
  readonly states: () => Promise<States | undefined>;
  /** What is kept within a budget; absent where blobs are in memory. */
  readonly budget?: Pick<BudgetOptions, "blobs" | "caches" | "statesBytes" | "maxBytes">;
  /** Results of actions, which Bazel and its cousins share with jobs. */
  readonly actions: ActionCache;
  /** Host names beside the loopback ones that requests may carry. */
  readonly hosts: readonly string[];
  /** Where people find the page in the browser: "http://127.0.0.1:9090". */
  readonly origin: () => string;
  /** Instance names of the Remote Execution API; absent: any, each a namespace of its own. */
  readonly instances?: readonly string[];
  /** Whether `/ac/` over HTTP takes what is no ActionResult, as ccache and its like need. */
  readonly takesAnyResult?: boolean;
  readonly dialScheduler: (hello: Hello, signal: AbortSignal) => Promise<Connection>;
  readonly acceptCbor: (socket: Socket, firstBytes: Uint8Array, options: AcceptOptions) => void;
}

export interface GatewayRole {
  readonly gateway: Gateway;
  readonly http: Server;
  /** What a new connection is given to, by its first bytes. */
  readonly takers: Takers;
  /** How connections of clients and workers are accepted. */
  readonly accepting: AcceptOptions;
  /** Resolves when it uses its stores no more. */
  stop(): Promise<void>;
}

/** The door for people, programs and workers' output, over the scheduler that it dials. */
export function startGateway(options: GatewayRoleOptions): GatewayRole {
  const { token, log, blobs, names } = options;
  const hasDisk = diskSpace(options.dataDir);
  // In memory nothing is collected, so that what was whole is.
  const rememberMs = options.budget?.blobs.held.noteEveryMs ?? Infinity;
  const trees = treeKeeper({ blobs, clock: realClock, rememberMs });
  const gateway: Gateway = createGateway({
    blobs,
    trees,
    names,
    sealed: options.sealed,
    clock: realClock,
    log,
    hasSpace: hasDisk,
    isFull: () => collector?.isFull === true,
  });
  const collector = options.budget === undefined
    ? undefined
    : startBudget({ ...options.budget, actions: options.actions, names, gateway, log });
  const accepting: AcceptOptions = {
    hello: helloOf("gateway", "gateway"),
    token,
    roles: ["client", "worker"],
    onConnection: (connection) => {
      if (connection.peer.role === "client") gateway.attachClient(connection);
      else if (connection.peer.role === "worker") gateway.attachWorker(connection);
      else {connection.close(
          new Fault(
            "REQUEST_INVALID",
            `Cannot serve a ${connection.peer.role} here: a gateway serves clients and workers`,
          ),
        );}
    },
  };
  const inspector = createInspector({ states: options.states, clock: realClock, blobs, actions: options.actions });
  const webSockets = webSocketTransport({ clock: realClock });
  const cached = {
    blobs,
    actions: options.actions,
    instances: options.instances ?? "any",
    needSpace: gateway.needSpace,
    clock: realClock,
  } as const;
  const http = httpServer({
    gateway,
    blobs,
    trees,
    names,
    ...(collector === undefined ? {} : { collector }),
    actions: options.actions,
    token,
    clock: realClock,
    log,
    hosts: options.hosts,
    inspector: { ...inspector, policy: pagePolicy },
    cache: httpCache({ ...cached, takesAnyResult: options.takesAnyResult === true }),
    acceptUpgrade: (request, socket, head) =>
      webSockets.acceptUpgrade(request, socket as Socket, head as Buffer, accepting),
  });
  outliveHttp2Farewells();
  let origin: string | undefined;
  const reapi = reapiServer({
    ...cached,
    trees,
    tasks: tasksOver(gateway, realClock),
    pageOf: (jobId) => `${origin ??= options.origin()}/${linkTo("job", jobId)}`,
    uploadsDir: join(options.dataDir, "uploads"),
    token,
    guaranteedAgeMs: options.budget?.blobs.held.guaranteedAgeMs ?? Infinity,
    fetch,
    log,
  });
  const stopping = new AbortController();
  let told = "";
  void keepDialing({
    dial: (signal) => options.dialScheduler(helloOf("gateway", "gateway", token), signal),
    onConnection(connection) {
      told = "";
      gateway.attachScheduler(connection);
    },
    onTrouble(fault) {
      if (fault.message !== told) log.warn("Cannot reach the scheduler; trying again", { why: fault });
      told = fault.message;
    },
    clock: realClock,
    random: realRandom,
    backoff: memberBackoff,
    signal: stopping.signal,
  });
  return {
    gateway,
    http,
    accepting,
    takers: {
      onHttp: feedHttpServer(http),
      onCbor: (socket, firstBytes) => options.acceptCbor(socket, firstBytes, accepting),
      onHttp2: (socket) => reapi.take(socket, isOwnPeer(socket)),
    },
    async stop() {
      stopping.abort();
      gateway.close();
      inspector.close();
      await reapi.close();
      http.close();
      http.closeAllConnections();
      await collector?.stop();
    },
  };
}
