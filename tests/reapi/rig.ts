import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { memoryActions } from "../../src/snapshots/actions/memory.ts";
import { silentLog } from "../../src/observability/log.ts";
import type { Codec, WireDigest } from "../../src/protocol/reapi/codec.ts";
import { type Method, methods } from "../../src/protocol/reapi/services.ts";
import { reapiServer } from "../../src/reapi/server.ts";
import type { Tasks } from "../../src/reapi/tasks.ts";
import type { ActionCache } from "../../src/snapshots/actions/actions.ts";
import type { Instances } from "../../src/reapi/calls.ts";
import { outliveHttp2Farewells } from "../../src/roles/http2_on_deno.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import { type Blobs } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { treeKeeper } from "../../src/snapshots/lease.ts";

/** A gateway in this process, and a client of it that sends what it is told to. */
export interface Rig {
  readonly blobs: Blobs;
  readonly actions: ActionCache;
  /** "HOST:PORT" */
  readonly address: string;
  unary<Request, Response>(
    method: Method<Request, Response>,
    request: Partial<Request> | Uint8Array,
    metadata?: Metadata,
  ): Promise<Response>;
  stream<Request, Response>(method: Method<Request, Response>, request: Partial<Request>): Promise<Response[]>;
  /** The same, answer by answer; `cancel` is the client leaving. */
  open<Request, Response>(
    method: Method<Request, Response>,
    request: Partial<Request>,
    metadata?: Metadata,
  ): AsyncIterableIterator<Response> & { cancel(): void };
  /** @param end false: the client breaks off after the last message. */
  upload(messages: readonly Partial<WriteRequest>[], options?: { end?: boolean; metadata?: Metadata }): Promise<number>;
  /** The gateway is started anew on what is on the disk. */
  restart(): Promise<void>;
  /** The gateway alone, in good order. */
  stop(): Promise<void>;
  close(): Promise<void>;
}
export const rigToken = "the token";
type WriteRequest = typeof methods.write.request extends Codec<infer Message> ? Message : never;

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export async function startRig(options: {
  blobs?: Blobs;
  instances?: Instances;
  needSpace?: (what: string) => void;
  tasks?: (blobs: Blobs, actions: ActionCache) => Tasks;
  isTrusted?: boolean;
  fetch?: typeof fetch;
  clock?: Clock;
} = {}): Promise<Rig> {
  outliveHttp2Farewells();
  const dir = mkdtempSync(join(tmpdir(), "scoot-reapi-"));
  const blobs = options.blobs ?? memoryBlobs();
  const actions = memoryActions({ blobs, clock: realClock });
  const start = () =>
    reapiServer({
      blobs,
      trees: treeKeeper({ blobs, clock: realClock, rememberMs: Infinity }),
      actions,
      uploadsDir: join(dir, "uploads"),
      instances: options.instances ?? "any",
      token: rigToken,
      needSpace: options.needSpace ?? (() => {}),
      ...(options.tasks === undefined ? {} : { tasks: options.tasks(blobs, actions) }),
      pageOf: (jobId) => `http://here/#/job/${jobId}`,
      guaranteedAgeMs: Infinity,
      fetch: options.fetch ?? (() => Promise.reject(new TypeError("nobody is there"))),
      clock: options.clock ?? realClock,
      log: silentLog,
    });
  let server = start();
  const sockets = new Set<Socket>();
  const listener = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    server.take(socket, options.isTrusted ?? true);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const dial = () =>
    new Client(`127.0.0.1:${(listener.address() as AddressInfo).port}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": 16 * 1024 * 1024,
    });
  let client = dial();
  return {
    blobs,
    actions,
    address: `127.0.0.1:${(listener.address() as AddressInfo).port}`,
    unary: (method, request, metadata = new Metadata()) =>
      new Promise((resolve, reject) =>
        client.makeUnaryRequest(
          method.path,
          asBuffer,
          method.response.decode,
          request instanceof Uint8Array ? request : method.request.encode(request),
          metadata,
          (error, response) => error === null ? resolve(response!) : reject(error),
        )
      ),
    async stream(method, request) {
      const call = client.makeServerStreamRequest(
        method.path,
        asBuffer,
        method.response.decode,
        method.request.encode(request),
      );
      const all = [];
      for await (const message of call) all.push(message);
      return all;
    },
    open(method, request, metadata = new Metadata()) {
      const call = client.makeServerStreamRequest(
        method.path,
        asBuffer,
        method.response.decode,
        method.request.encode(request),
        metadata,
      );
      call.on("error", () => {}); // whoever reads hears it
      return Object.assign(call[Symbol.asyncIterator]() as never, { cancel: () => call.cancel() });
    },
    upload: (messages, { end = true, metadata = new Metadata() } = {}) =>
      new Promise((resolve, reject) => {
        const call = client.makeClientStreamRequest(
          methods.write.path,
          asBuffer,
          methods.write.response.decode,
          metadata,
          (error, response) => error === null ? resolve(response!.committedSize) : reject(error),
        );
        let left = messages.length;
        for (const message of messages) {
          call.write(methods.write.request.encode(message), () => {
            if (--left === 0 && !end) call.cancel();
          });
        }
        if (end) call.end();
      }),
    restart() {
      client.close();
      void server.close();
      for (const socket of sockets) socket.destroy();
      server = start();
      client = dial();
      return Promise.resolve();
    },
    stop: () => server.close(),
    async close() {
      client.close();
      const closed = server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
      await new Promise((resolve) => listener.close(resolve));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** The status code of a call that must fail. */
export const codeOf = (call: Promise<unknown>): Promise<number> =>
  call.then(() => 0, (error: ServiceError) => error.code);

export const digestOfText = (content: string | Uint8Array): WireDigest => {
  const bytes = Buffer.from(content);
  return { hash: createHash("sha256").update(bytes).digest("hex"), sizeBytes: bytes.length };
};
export const nameOf = ({ hash, sizeBytes }: WireDigest): string => `${hash}/${sizeBytes}`;
