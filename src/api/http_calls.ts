import { Buffer } from "node:buffer";
import type { Agent, IncomingMessage, request as httpRequest } from "node:http";
import { createRequire } from "node:module";
import { asFault, Fault, type FaultCode, faults } from "../domain/fault.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";

/** A request over HTTP. */
export interface Call {
  readonly method: "GET" | "HEAD" | "PUT" | "POST";
  /** From the root, escaped: "/v1/blobs/…". */
  readonly path: string;
  readonly type?: "application/json" | "application/octet-stream";
  /** Asked for anew at each try. */
  readonly body?: () => Uint8Array | AsyncIterable<Uint8Array>;
  /** Of a body that is a stream, where known. */
  readonly bodyBytes?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether it may be sent once more after some of the body has left; true by default. */
  readonly mayRepeat?: () => boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Requests to one cluster, over a few connections that stay open. */
export interface HttpCalls {
  /**
   * The answer, when its status is 2xx; its body must be read. While the cluster is away it is asked again.
   *
   * @throws {Fault} as the cluster tells it, `PEER_UNREACHABLE`, `CANCELLED` after {@link HttpCalls.close}; the signal's
   *   reason; what reading the body threw.
   */
  send(call: Call): Promise<IncomingMessage>;
  /** @param bytesMax of the answer's body. */
  bytes(call: Call, bytesMax?: number): Promise<Uint8Array>;
  json(call: Call): Promise<unknown>;
  /** Breaks what is under way. */
  close(): void;
}

export interface HttpCallsOptions {
  readonly url: string;
  readonly token: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly waitMs: number;
  /** How long a request that was sent waits for its answer to begin; 300,000 ms by default. */
  readonly silentMs?: number;
  readonly advice: string;
}

const connectionsMax = 8;
const answerBytesMax = 32 * 1024 * 1024;
const backoffMaxMs = 2_000;
const backoffFirstMs = 50;

export function httpCalls(options: HttpCallsOptions): HttpCalls {
  const { clock, random, waitMs, silentMs = 300_000 } = options;
  const url = new URL(options.url);
  const isSecure = url.protocol === "https:";
  const authorization: Record<string, string> = options.token === undefined
    ? {}
    : { Authorization: `Bearer ${options.token}` };
  const closing = new AbortController();
  let wire: { readonly request: typeof httpRequest; readonly agent: Agent } | undefined;
  /** When it is first needed. By `require`: an import reads all that is exported, and Node then loads a WebSocket too. */
  const open = (): { readonly request: typeof httpRequest; readonly agent: Agent } => {
    const load = createRequire(import.meta.url);
    const { request, Agent } = isSecure
      ? load("node:https") as typeof import("node:https")
      : load("node:http") as typeof import("node:http");
    return { request, agent: new Agent({ keepAlive: true, maxSockets: connectionsMax }) };
  };

  /** One try. @param told `sent`: the body begins to leave; `broken`: reading it threw, which is not the cluster's doing. */
  const once = async (call: Call, told: { sent(): void; broken(thrown: unknown): void }): Promise<IncomingMessage> => {
    const { request, agent } = wire ??= open();
    const body = call.body?.();
    const length = body instanceof Uint8Array ? body.length : call.bodyBytes;
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = request({
        agent,
        protocol: url.protocol,
        hostname: url.hostname.replace(/^\[|\]$/g, ""),
        port: url.port === "" ? (isSecure ? 443 : 80) : Number(url.port),
        method: call.method,
        path: call.path,
        headers: {
          ...authorization,
          ...call.headers,
          ...(call.type === undefined ? {} : { "Content-Type": call.type }),
          ...(length === undefined ? {} : { "Content-Length": length }),
        },
      });
      const stop = (): void => {
        reject(new Fault("CANCELLED", "Cannot go on: it was cancelled"));
        outgoing.destroy();
      };
      let wake = (): void => {};
      /** The peer's turn: to answer, or to take more. A process that hangs holds its connections for ever. */
      const awaitPeer = (): void => {
        wake = clock.at(clock.now() + silentMs, () => {
          const why = `it must answer within ${silentMs / 1_000} s: it has not`;
          reject(new Fault("PEER_SILENT", `Cannot use ${options.url} as ${why}. ${options.advice}`));
          outgoing.destroy();
        });
      };
      outgoing.on("close", () => wake());
      const stopsWith = [call.signal, closing.signal];
      const settle = (): void => stopsWith.forEach((signal) => signal?.removeEventListener("abort", stop));
      for (const signal of stopsWith) {
        if (signal?.aborted) stop();
        signal?.addEventListener("abort", stop, { once: true });
      }
      let isAnswered = false;
      let goOn = (): void => {};
      outgoing.on("error", (error) => {
        settle();
        reject(error);
      });
      outgoing.on("response", (incoming) => {
        wake();
        incoming.once("close", settle);
        incoming.on("error", () => {}); // whoever reads hears of it
        isAnswered = true;
        // A body that was refused before its end is sent no further, and so its connection is of no more use.
        incoming.once("end", () => {
          if (!outgoing.writableEnded) outgoing.destroy();
        });
        goOn();
        resolve(incoming);
      });
      if (body === undefined || body instanceof Uint8Array) {
        if (body !== undefined) told.sent();
        outgoing.end(body);
        return awaitPeer();
      }
      told.sent();
      outgoing.on("drain", () => goOn());
      outgoing.on("close", () => goOn());
      void (async () => {
        try {
          for await (const chunk of body) {
            if (isAnswered || outgoing.destroyed) return;
            if (!outgoing.write(chunk)) {
              awaitPeer();
              await new Promise<void>((go) => goOn = go);
              wake();
            }
          }
          outgoing.end();
          if (!isAnswered && !outgoing.destroyed) awaitPeer();
        } catch (thrown) {
          told.broken(thrown);
          reject(thrown);
          outgoing.destroy();
        }
      })();
    });
  };

  const readAll = async (incoming: IncomingMessage, bytesMax: number): Promise<Uint8Array> => {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of incoming) {
      bytes += (chunk as Uint8Array).length;
      if (bytes > bytesMax) {
        incoming.destroy();
        throw new Fault(
          "FRAME_TOO_LONG",
          `Cannot read an answer as it must be at most ${bytesMax} bytes: it is longer`,
        );
      }
      chunks.push(chunk as Uint8Array);
    }
    if (!incoming.complete) throw new Fault("PEER_UNREACHABLE", "Cannot read an answer: it was cut off");
    return new Uint8Array(Buffer.concat(chunks));
  };
  const refused = async (incoming: IncomingMessage): Promise<Fault> => {
    const status = incoming.statusCode ?? 0;
    try {
      const told = JSON.parse(Buffer.from(await readAll(incoming, 64 * 1024)).toString()) as {
        code?: unknown;
        message?: unknown;
      };
      if (typeof told.code === "string" && Object.hasOwn(faults, told.code)) {
        return new Fault(told.code as FaultCode, String(told.message));
      }
    } catch {
      // not one of ours
    }
    const code = status === 404 ? "BLOB_MISSING" : status >= 500 ? "PEER_UNREACHABLE" : "INTERNAL";
    return new Fault(code, `Cannot use the answer of ${options.url}: it has status ${status}`);
  };

  const attempt = async <Result>(call: Call, read: (incoming: IncomingMessage) => Promise<Result>): Promise<Result> => {
    let awaySinceMs: number | undefined;
    for (let failures = 0;; failures++) {
      let hasSent = false;
      let broken: { readonly thrown: unknown } | undefined;
      try {
        const incoming = await once(call, { sent: () => hasSent = true, broken: (thrown) => broken = { thrown } });
        const status = incoming.statusCode ?? 0;
        if (status < 200 || status > 299) {
          throw call.method === "HEAD" ? headRefused(status, incoming) : await refused(incoming);
        }
        return await read(incoming);
      } catch (thrown) {
        call.signal?.throwIfAborted();
        if (closing.signal.aborted) {
          throw new Fault("CANCELLED", `Cannot ask ${options.url}: this side has closed`, { cause: thrown });
        }
        if (broken !== undefined) throw (broken as { readonly thrown: unknown }).thrown;
        if (!isAway(thrown)) throw asFault(thrown);
        const away = unreachable(thrown, options);
        if (hasSent && call.mayRepeat?.() === false) throw away;
        const nowMs = clock.now();
        awaySinceMs ??= nowMs;
        if (nowMs - awaySinceMs >= waitMs) throw away;
        const ceilingMs = Math.min(backoffMaxMs, backoffFirstMs * 2 ** Math.min(failures, 10));
        await sleep(clock, 1 + random.integer(ceilingMs), call.signal).catch(() => {});
      }
    }
  };

  return {
    send: (call) => attempt(call, (incoming) => Promise.resolve(incoming)),
    bytes: (call, bytesMax = answerBytesMax) => attempt(call, (incoming) => readAll(incoming, bytesMax)),
    async json(call) {
      const bytes = await attempt(call, (incoming) => readAll(incoming, answerBytesMax));
      try {
        return JSON.parse(Buffer.from(bytes).toString());
      } catch (thrown) {
        const why = "it must be JSON: what listens there is no cluster";
        throw new Fault("PEER_UNREACHABLE", `Cannot use the answer of ${options.url} as ${why}`, { cause: thrown });
      }
    },
    close() {
      closing.abort();
      wire?.agent.destroy();
    },
  };
}

function headRefused(status: number, incoming: IncomingMessage): Fault {
  incoming.resume();
  const code = status === 404
    ? "BLOB_MISSING"
    : status === 401
    ? "TOKEN_INVALID"
    : status >= 500
    ? "PEER_UNREACHABLE"
    : "INTERNAL";
  return new Fault(code, `Cannot find a blob: the answer has status ${status}`);
}

/** Of the codes of `node:net` and `node:http`, those by which a peer shows that it is not, or no longer, there. */
const awayCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ECONNABORTED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ERR_STREAM_PREMATURE_CLOSE",
]);

function isAway(thrown: unknown): boolean {
  if (thrown instanceof Fault) return thrown.code === "PEER_UNREACHABLE";
  const { code, message } = thrown as { readonly code?: unknown; readonly message?: unknown };
  return awayCodes.has(String(code)) ||
    /socket hang up|connection (closed|reset|refused|error)|error writing a body|aborted/i.test(String(message));
}

function unreachable(thrown: unknown, { url, waitMs, advice }: HttpCallsOptions): Fault {
  const why = thrown instanceof Error ? thrown.message || String((thrown as { code?: unknown }).code) : String(thrown);
  return new Fault("PEER_UNREACHABLE", `Cannot reach ${url} for ${waitMs / 1_000} s: ${why}. ${advice}`, {
    cause: thrown,
  });
}
