import { Buffer } from "node:buffer";
import {
  type handleClientStreamingCall,
  type handleUnaryCall,
  Metadata,
  type Server,
  type ServerDuplexStream,
  type ServerWritableStream,
  status,
} from "@grpc/grpc-js";
import { type Digest, digestOfHash, isDigest } from "../domain/digest.ts";
import { asFault, Fault, type FaultCode } from "../domain/fault.ts";
import type { Log } from "../observability/log.ts";
import type { MessageOf, WireDigest } from "../protocol/reapi/codec.ts";
import { requestMetadata, retryInfo, rpcStatus, sha256Function } from "../protocol/reapi/messages.ts";
import { checkInstanceName } from "../protocol/reapi/resource_name.ts";
import type { Method } from "../protocol/reapi/services.ts";

/** How methods are served: requests decoded, faults told, clients that leave noticed. */

/** What a method knows of its call. */
export interface Call {
  readonly metadata: Metadata;
  /** Aborted when the client has gone, or its deadline has passed. */
  readonly signal: AbortSignal;
}

const detailsKey = "grpc-status-details-bin";
const metadataKey = "build.bazel.remote.execution.v2.requestmetadata-bin";
/** Trailers are headers, which clients bound. */
const messageMax = 1_500;

const buffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
/** Requests are decoded by the method, which can answer for what is wrong with them; grpc-js would say INTERNAL. */
const asItIs = (bytes: Buffer): Buffer => bytes;

/** What may go well in a moment, and so is told with a time. */
const comesAgain: ReadonlySet<number> = new Set([status.UNAVAILABLE, status.RESOURCE_EXHAUSTED]);

/** A fault as `google.rpc.Status`, for answers that hold one. */
export function statusOf(fault: Fault): { readonly code: number; readonly message: string } {
  return {
    code: status[fault.meaning.grpc as keyof typeof status],
    message: fault.message.slice(0, messageMax).toWellFormed(),
  };
}

/** A fault with more for its client to read, each a message by its full name. */
export class DetailedFault extends Fault {
  readonly details: readonly { readonly type: string; readonly value: Uint8Array }[];
  constructor(code: FaultCode, message: string, details: DetailedFault["details"]) {
    super(code, message);
    this.details = details;
  }
}

/** How calls are answered that fail. */
export interface Served {
  readonly server: Server;
  /** @throws {Fault} `TOKEN_INVALID` for a client that may not. */
  readonly admit: (metadata: Metadata) => void;
  readonly log: Log;
}

/** What is thrown, as the call's own status, with the same as details. */
function errorOf(thrown: unknown, path: string, signal: AbortSignal, log: Log) {
  let fault = asFault(thrown);
  if (fault.code === "INTERNAL" && !signal.aborted) {
    log.error("Cannot answer a call", { method: path, error: fault });
    fault = new Fault("INTERNAL", "Cannot answer: see the gateway's log");
  }
  const { code, message } = statusOf(fault);
  const metadata = new Metadata();
  const comes = { type: "google.rpc.RetryInfo", value: retryInfo.encode({ retryDelay: { seconds: 1, nanos: 0 } }) };
  const details = [
    ...fault instanceof DetailedFault ? fault.details : [],
    ...comesAgain.has(code) ? [comes] : [],
  ].map(({ type, value }) => ({ typeUrl: `type.googleapis.com/${type}`, value }));
  metadata.set(detailsKey, buffer(rpcStatus.encode({ code, message, details })));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

/** Until the call is over; grpc-js says "cancelled" after a good end too. */
function watchClient(call: { on(event: "cancelled", listener: () => void): unknown; cancelled: boolean }) {
  const gone = new AbortController();
  let isOver = false;
  const onCancelled = (): void => {
    if (!isOver) gone.abort(new Fault("CANCELLED", "The client has gone, or its deadline has passed"));
  };
  call.on("cancelled", onCancelled);
  if (call.cancelled) onCancelled();
  return { signal: gone.signal, end: () => isOver = true };
}

export function serveUnary<Request, Response>(
  { server, admit, log }: Served,
  method: Method<Request, Response>,
  answer: (request: Request, call: Call) => Promise<Partial<Response>> | Partial<Response>,
): void {
  const handle: handleUnaryCall<Buffer, Uint8Array> = (call, respond) => {
    const client = watchClient(call);
    const { metadata } = call;
    const answered = async (): Promise<Uint8Array> => {
      admit(metadata);
      return method.response.encode(
        await answer(method.request.decode(call.request), { metadata, signal: client.signal }),
      );
    };
    answered().then((bytes) => {
      client.end();
      respond(null, bytes);
    }, (thrown) => {
      client.end();
      respond(errorOf(thrown, method.path, client.signal, log));
    });
  };
  server.register(method.path, handle, buffer, asItIs, "unary");
}

/** Resolves when the message has left, or fails when the client has. */
const sender =
  (call: { write(bytes: Uint8Array, done: (error: unknown) => void): unknown }, signal: AbortSignal) =>
  (bytes: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      const onGone = (): void => reject(signal.reason);
      signal.addEventListener("abort", onGone, { once: true });
      call.write(bytes, (error: unknown) => {
        signal.removeEventListener("abort", onGone);
        if (error) reject(error);
        else resolve();
      });
    });

/** Says what is to be said over a call, encoded, and ends it: well, or with the fault that came up. */
function sayAll(
  { admit, log }: Served,
  path: string,
  call: ServerWritableStream<Buffer, Uint8Array> | ServerDuplexStream<Buffer, Uint8Array>,
  say: (send: (bytes: Uint8Array) => Promise<void>, signal: AbortSignal) => Promise<void>,
): void {
  const client = watchClient(call);
  void (async () => {
    try {
      admit(call.metadata);
      await say(sender(call, client.signal), client.signal);
      client.end();
      call.end();
    } catch (thrown) {
      client.end();
      if (!client.signal.aborted) call.emit("error", errorOf(thrown, path, client.signal, log));
    }
  })();
}

/** Answers are sent one by one, as fast as the client takes them. */
export function serveStream<Request, Response>(
  served: Served,
  method: Method<Request, Response>,
  answers: (request: Request, call: Call) => AsyncIterable<Partial<Response>>,
): void {
  served.server.register<Buffer, Uint8Array>(
    method.path,
    (call: ServerWritableStream<Buffer, Uint8Array>) =>
      sayAll(served, method.path, call, async (send, signal) => {
        for await (const answer of answers(method.request.decode(call.request), { metadata: call.metadata, signal })) {
          signal.throwIfAborted();
          await send(method.response.encode(answer));
        }
      }),
    buffer,
    asItIs,
    "serverStream",
  );
}

/** A client's stream of requests, answered once: when the method says, which may be before the stream's end. */
export function serveUpload<Request, Response>(
  { server, admit, log }: Served,
  method: Method<Request, Response>,
  answer: (requests: AsyncIterator<Request, undefined>, call: Call) => Promise<Partial<Response>>,
): void {
  const handle: handleClientStreamingCall<Buffer, Uint8Array> = (call, respond) => {
    const client = watchClient(call);
    const received = call[Symbol.asyncIterator]() as AsyncIterator<Buffer, undefined>;
    const requests: AsyncIterator<Request, undefined> = {
      async next() {
        const next = await received.next();
        return next.done ? next : { done: false, value: method.request.decode(next.value) };
      },
    };
    const { metadata } = call;
    const answered = async (): Promise<Uint8Array> => {
      admit(metadata);
      return method.response.encode(await answer(requests, { metadata, signal: client.signal }));
    };
    answered().then((bytes) => {
      client.end();
      respond(null, bytes);
    }, (thrown) => {
      client.end();
      respond(errorOf(thrown, method.path, client.signal, log));
    });
  };
  server.register(method.path, handle, buffer, asItIs, "clientStream");
}

/** A client's stream of requests, each answered as it comes; the next is read when the answer has left. */
export function serveDialogue<Request, Response>(
  served: Served,
  method: Method<Request, Response>,
  answer: (request: Uint8Array) => Partial<Response>,
): void {
  served.server.register<Buffer, Uint8Array>(
    method.path,
    (call: ServerDuplexStream<Buffer, Uint8Array>) =>
      sayAll(served, method.path, call, async (send) => {
        // A duplex that is destroyed at the end of what it reads could send no status.
        for await (const request of call.iterator({ destroyOnReturn: false })) {
          await send(method.response.encode(answer(request as Buffer)));
        }
      }),
    buffer,
    asItIs,
    "bidi",
  );
}

/** Which instances there are: any name, each a namespace of its own, or those of a list. */
export type Instances = readonly string[] | "any";

/** @throws {Fault} `REQUEST_INVALID` for an instance that is not here, or a digest function that is not SHA-256. */
export function checkScope(
  instances: Instances,
  { instanceName, digestFunction }: { readonly instanceName: string; readonly digestFunction: number },
): string {
  if (digestFunction !== 0 && digestFunction !== sha256Function) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot use digest function ${digestFunction} as it must be one that is served here: SHA256 (1)`,
    );
  }
  return checkInstance(instances, instanceName);
}

/** @throws {Fault} `REQUEST_INVALID`. */
export function checkInstance(instances: Instances, name: string): string {
  checkInstanceName(name);
  if (instances === "any" || instances.includes(name)) return name;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot use the instance "${name}" as it must be one that is served here: ${
      instances.map((known) => `"${known}"`).join(", ")
    }`,
  );
}

/** @throws {Fault} `DIGEST_INVALID`. */
export function checkDigest(given: WireDigest | undefined, what: string): Digest {
  const found: string = digestOfHash(given?.hash ?? "", given?.sizeBytes ?? 0);
  if (isDigest(found)) return found;
  throw new Fault(
    "DIGEST_INVALID",
    `Cannot use ${what} as its digest must be 64 lower-case hex digits and a size from 0: current value is "${
      found.slice(0, 100)
    }"`,
  );
}

/** What the client says of itself. Whatever is wrong with it, the call goes on without. */
export function clientOf({ metadata }: Call): MessageOf<typeof requestMetadata> | undefined {
  const [header] = metadata.get(metadataKey);
  try {
    return header === undefined || typeof header === "string" ? undefined : requestMetadata.decode(header);
  } catch {
    return undefined;
  }
}
