import { Buffer } from "node:buffer";
import { createHash, randomUUID } from "node:crypto";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { WireDigest } from "../protocol/reapi/codec.ts";
import { type Method, methods } from "../protocol/reapi/services.ts";

/** A client that sends what it is told to, however odd: it checks nothing and repeats nothing. */
export interface ProbeClient {
  /** In requests, and before "blobs" and "uploads" in resource names. */
  readonly instance: string;
  unary<Request, Response>(method: Method<Request, Response>, request: Partial<Request>): Promise<Response>;
  stream<Request, Response>(method: Method<Request, Response>, request: Partial<Request>): Promise<Response[]>;
  /** @returns the committed size. */
  write(messages: readonly Partial<WriteMessage>[]): Promise<number>;
  /** The blob's name for a read. */
  blobName(digest: WireDigest): string;
  /** A new name for an upload of it. */
  uploadName(digest: WireDigest): string;
  close(): void;
}

export interface WriteMessage {
  readonly resourceName: string;
  readonly writeOffset: number;
  readonly finishWrite: boolean;
  readonly data: Uint8Array;
}

const callMs = 60_000;
const messageBytesMax = 16 * 1024 * 1024;
const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** @param address "HOST:PORT", spoken to without TLS. */
export function probeClient(address: string, instance: string): ProbeClient {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.max_receive_message_length": messageBytesMax,
    "grpc.max_send_message_length": messageBytesMax,
  });
  const options = () => ({ deadline: Date.now() + callMs });
  const prefix = instance === "" ? "" : `${instance}/`;
  const within = <Request>(request: Partial<Request>): Partial<Request> => ({ instanceName: instance, ...request });
  return {
    instance,
    unary: (method, request) =>
      new Promise((resolve, reject) =>
        client.makeUnaryRequest(
          method.path,
          asBuffer,
          method.response.decode,
          method.request.encode(within(request)),
          new Metadata(),
          options(),
          (error, response) => error === null ? resolve(response!) : reject(error),
        )
      ),
    async stream(method, request) {
      const bytes = method.request.encode(within(request));
      const call = client.makeServerStreamRequest(method.path, asBuffer, method.response.decode, bytes, options());
      const all = [];
      for await (const answer of call) all.push(answer);
      return all;
    },
    write: (messages) =>
      new Promise((resolve, reject) => {
        const { path, request, response } = methods.write;
        const call = client.makeClientStreamRequest(
          path,
          asBuffer,
          response.decode,
          new Metadata(),
          options(),
          (error, answer) => error === null ? resolve(answer!.committedSize) : reject(error),
        );
        for (const message of messages) call.write(request.encode(message));
        call.end();
      }),
    blobName: ({ hash, sizeBytes }) => `${prefix}blobs/${hash}/${sizeBytes}`,
    uploadName: ({ hash, sizeBytes }) => `${prefix}uploads/${randomUUID()}/blobs/${hash}/${sizeBytes}`,
    close: () => client.close(),
  };
}

export const emptyBlob: WireDigest = {
  hash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  sizeBytes: 0,
};
/** Bytes that no server has seen before. */
export const newBytes = (): Uint8Array => Buffer.from(randomUUID());
export const digestOfBytes = (bytes: Uint8Array): WireDigest => ({
  hash: createHash("sha256").update(bytes).digest("hex"),
  sizeBytes: bytes.length,
});

/** A call that must end with one of these codes. */
export async function expectCode(call: Promise<unknown>, ...codes: (keyof typeof status)[]): Promise<void> {
  const code = await call.then(() => status.OK, (error: ServiceError) => error.code);
  if (!codes.some((name) => status[name] === code)) {
    throw new Error(`it answers ${status[code]}, not ${codes.join(" or ")}`);
  }
}

/** @throws when it is not so. */
export function expectThat(isSo: boolean, why: string): void {
  if (!isSo) throw new Error(why);
}
