import type { Socket } from "node:net";
import { join } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { JobId } from "../domain/ids.ts";
import type { Log } from "../observability/log.ts";
import { serving } from "../protocol/reapi/messages.ts";
import { methods, reflection } from "../protocol/reapi/services.ts";
import type { Clock } from "../runtime/clock.ts";
import { sameSecret, tokenIn } from "../transport/secret.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import { Fault } from "../domain/fault.ts";
import { serveActionCache } from "./action_cache.ts";
import { serveAssets } from "./assets.ts";
import { serveByteStream } from "./byte_stream.ts";
import { type Instances, type Served, serveUnary } from "./calls.ts";
import { serveChunks } from "./chunks.ts";
import { serveCapabilities } from "./capabilities.ts";
import { serveContentAddressableStorage } from "./content_addressable_storage.ts";
import { serveExecution } from "./execution.ts";
import { logStreams, serveLogStreams } from "./log_streams.ts";
import { createOperations } from "./operations.ts";
import { serveReflection } from "./reflection.ts";
import type { Tasks } from "./tasks.ts";
import { fileUploads } from "./uploads.ts";

export interface ReapiOptions {
  readonly blobs: Blobs;
  /** Of these blobs: it keeps the inputs of actions that are executed. */
  readonly trees: TreeKeeper;
  readonly actions: ActionCache;
  /** Where actions are run; absent: this is a cache alone. */
  readonly tasks?: Tasks;
  /** Where uploads that broke off are kept, for this process alone. */
  readonly uploadsDir: string;
  /** "any": every name is a namespace of its own. */
  readonly instances: Instances;
  /** What calls must bring that come by a connection which is not trusted. */
  readonly token: string;
  /** @throws {Fault} `NO_SPACE` when there is no room for what is named. */
  readonly needSpace: (what: string) => void;
  /** The address at which people see that job. */
  readonly pageOf: (jobId: JobId) => string;
  /** What was said to be present stays at least so long; Infinity where nothing is ever taken away. */
  readonly guaranteedAgeMs: number;
  /** How assets are had from where they lie. */
  readonly fetch: typeof fetch;
  readonly clock: Clock;
  readonly log: Log;
}

/** The door for Bazel and its cousins. It does not listen: it is given sockets whose peers speak HTTP/2. */
export interface ReapiServer {
  /** @param isTrusted whether its calls need no token. */
  take(socket: Socket, isTrusted: boolean): void;
  /** Who follows an operation is told to come back, calls end, clients go; those that have not after `graceMs` are cut off. */
  close(graceMs?: number): Promise<void>;
}

/** Of one message, each way: more than a batch with what is around it, and 100,000 digests. */
const messageBytesMax = 16 * 1024 * 1024;

/** Of a connection: more than any client has calls at a time; 10 KB each. Those beyond wait with their client. */
export const streamsMax = 10_000;
/** A client that is gone without a word is noticed by then, at the latest after twice as long: what it waits for is let go. */
const pingEveryMs = 60_000;

/** For calls that are under way when it stops. */
const closeMs = 1_000;

const serviceOf = ({ path }: { readonly path: string }): string => path.split("/")[1]!;
const ofExecution: ReadonlySet<string> = new Set([serviceOf(methods.execute), serviceOf(methods.getOperation)]);

export function reapiServer(options: ReapiOptions): ReapiServer {
  const { blobs, trees, actions, instances, clock, log, tasks, token } = options;
  const operations = tasks === undefined
    ? undefined
    : createOperations({ tasks, blobs, actions, clock, log, pageOf: options.pageOf });
  const uploads = fileUploads(options.uploadsDir, clock);
  const logs = logStreams({ ...options, dir: join(options.uploadsDir, "logs") });
  const stopping = new AbortController();

  const all = [...Object.values(methods), ...Object.values(reflection)].map(serviceOf);
  const services = new Set(tasks === undefined ? all.filter((name) => !ofExecution.has(name)) : all);

  /** All services, for those whom `admit` lets in. */
  const open = (admit: Served["admit"]) => {
    const server = new Server({
      "grpc.max_receive_message_length": messageBytesMax,
      "grpc.max_send_message_length": messageBytesMax,
      "grpc.enable_channelz": 0,
      "grpc.max_concurrent_streams": streamsMax,
      "grpc.keepalive_time_ms": pingEveryMs,
      "grpc.keepalive_timeout_ms": pingEveryMs,
    });
    const served: Served = { server, admit, log };
    serveCapabilities(served, instances, tasks !== undefined);
    serveContentAddressableStorage(served, blobs, instances, options.needSpace, options);
    serveChunks(served, blobs, instances, options.needSpace);
    serveLogStreams(served, logs);
    serveByteStream(served, blobs, uploads, logs, instances, options.needSpace);
    serveAssets(served, {
      blobs,
      actions,
      uploads,
      instances,
      needSpace: options.needSpace,
      fetch: options.fetch,
      stopping: stopping.signal,
      clock,
    });
    serveActionCache(served, { actions, blobs }, instances, clock);
    if (tasks !== undefined && operations !== undefined) {
      serveExecution(served, { operations, tasks, blobs, trees, actions, instances, clock });
    }
    serveUnary(served, methods.checkHealth, ({ service }) => {
      if (service === "" || services.has(service)) return { status: serving };
      throw new Fault("ROUTE_UNKNOWN", `Cannot tell of the service "${service.slice(0, 200)}": it is not here`);
    });
    serveReflection(served, [...services]);
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    return { server, injector };
  };
  const trusted = open(() => {});
  const untrusted = open((metadata) => {
    const [given] = metadata.get("authorization");
    const found = typeof given === "string" ? tokenIn(given) : undefined;
    if (found !== undefined && sameSecret(found, token)) return;
    throw new Fault(
      "TOKEN_INVALID",
      `Cannot answer as the call must bring the cluster's token ("authorization: Bearer …"): current value is ${
        given === undefined ? "none" : "another"
      }`,
    );
  });
  let closing: Promise<void> | undefined;
  const sockets = new Set<Socket>();
  let whenAllGone = (): void => {};
  async function close(graceMs: number): Promise<void> {
    operations?.close();
    stopping.abort(new Fault("DRAINING", "Cannot go on with this as the gateway is stopping: ask again"));
    for (const { injector } of [trusted, untrusted]) injector.drain(graceMs);
    if (sockets.size > 0) {
      await new Promise<void>((resolve) => {
        const cancelTimer = clock.at(clock.now() + graceMs, resolve);
        whenAllGone = () => {
          cancelTimer();
          resolve();
        };
      });
    }
    for (const { server, injector } of [trusted, untrusted]) {
      injector.destroy();
      server.forceShutdown();
    }
  }
  return {
    take(socket, isTrusted) {
      if (closing !== undefined) return void socket.destroy();
      sockets.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        if (sockets.size === 0) whenAllGone();
      });
      (isTrusted ? trusted : untrusted).injector.injectConnection(socket);
    },
    close: (graceMs = closeMs) => closing ??= close(graceMs),
  };
}
