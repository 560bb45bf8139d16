import { Buffer } from "node:buffer";
import { createHash, randomUUID } from "node:crypto";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { type MessageOf, type WireDigest } from "../protocol/reapi/codec.ts";
import { rpcStatus } from "../protocol/reapi/messages.ts";
import { type Method, methods } from "../protocol/reapi/services.ts";

/** A client that sends what it is told to, however odd: it checks nothing and repeats nothing. */
export interface ProbeClient {
  /** "HOST:PORT" */
  readonly address: string;
  /** In requests, and before "blobs" and "uploads" in resource names. */
  readonly instance: string;
  /** Sent with every call. */
  readonly headers: Headers;
  /** @param request encoded as it is when it is bytes; else within {@link instance}, unless it names another. */
  unary<Request, Response>(
    method: Method<Request, Response>,
    request: Partial<Request> | Uint8Array,
    headers?: Headers,
  ): Promise<Response>;
  /** All answers, once the stream has ended. */
  stream<Request, Response>(
    method: Method<Request, Response>,
    request: Partial<Request> | Uint8Array,
    headers?: Headers,
  ): Promise<Response[]>;
  /** The same, answer by answer; `cancel` is the client leaving. */
  open<Request, Response>(
    method: Method<Request, Response>,
    request: Partial<Request> | Uint8Array,
    headers?: Headers,
  ): AsyncIterableIterator<Response> & { cancel(): void };
  /** @returns the committed size. */
  write(messages: readonly Partial<WriteMessage>[], headers?: Headers): Promise<number>;
  /** An upload message by message. */
  upload(headers?: Headers): Upload;
  /** The blob's name for a read. @param kind what stands for "blobs": "compressed-blobs/zstd". */
  blobName(digest: WireDigest, kind?: string): string;
  /** A new name for an upload of it. */
  uploadName(digest: WireDigest, kind?: string): string;
  /** Another connection to the same server. */
  again(options: Partial<Pick<ProbeOptions, "instance" | "keepAliveMs">>): ProbeClient;
  close(): void;
}

export type Headers = Readonly<Record<string, string | Uint8Array>>;
export type WriteMessage = MessageOf<typeof methods.write.request>;

export interface Upload {
  /** Resolves when it has left. */
  send(message: Partial<WriteMessage>): Promise<void>;
  end(): void;
  /** Breaks off. */
  cancel(): void;
  /** The committed size. */
  readonly answer: Promise<number>;
}

export interface ProbeOptions {
  /** "HOST:PORT" */
  readonly address: string;
  readonly instance: string;
  /** False by default. */
  readonly isSecure?: boolean;
  /** With every call: a token, for example. */
  readonly headers?: Headers;
  /** Between two pings; none by default. */
  readonly keepAliveMs?: number;
}

const callMs = 120_000;
const messageBytesMax = 64 * 1024 * 1024;
const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function probeClient(probe: ProbeOptions): ProbeClient {
  const { address, instance, isSecure = false, keepAliveMs } = probe;
  const client = new Client(address, isSecure ? credentials.createSsl() : credentials.createInsecure(), {
    "grpc.max_receive_message_length": messageBytesMax,
    "grpc.max_send_message_length": messageBytesMax,
    "grpc.use_local_subchannel_pool": 1,
    ...(keepAliveMs === undefined
      ? {}
      : { "grpc.keepalive_time_ms": keepAliveMs, "grpc.keepalive_permit_without_calls": 1 }),
  });
  const options = () => ({ deadline: Date.now() + callMs });
  const metadataOf = (headers: Headers = {}): Metadata => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries({ ...probe.headers, ...headers })) {
      metadata.set(name, typeof value === "string" ? value : asBuffer(value));
    }
    return metadata;
  };
  const prefix = instance === "" ? "" : `${instance}/`;
  const encode = <Request>(
    { request: codec }: Method<Request, unknown>,
    request: Partial<Request> | Uint8Array,
  ): Uint8Array => request instanceof Uint8Array ? request : codec.encode({ instanceName: instance, ...request });

  const open: ProbeClient["open"] = (method, request, headers) => {
    const { path, response } = method;
    const bytes = encode(method, request);
    const call = client.makeServerStreamRequest(path, asBuffer, response.decode, bytes, metadataOf(headers), options());
    call.on("error", () => {}); // whoever reads hears it
    return Object.assign(call[Symbol.asyncIterator]() as never, { cancel: () => call.cancel() });
  };
  const upload: ProbeClient["upload"] = (headers) => {
    const { path, request, response } = methods.write;
    let answered = (_error: ServiceError | null, _size: number): void => {};
    const answer = new Promise<number>((resolve, reject) =>
      answered = (error, size) => error === null ? resolve(size) : reject(error)
    );
    answer.catch(() => {}); // whoever waits for it hears it
    const call = client.makeClientStreamRequest(
      path,
      asBuffer,
      response.decode,
      metadataOf(headers),
      options(),
      (error, value) => answered(error, value?.committedSize ?? 0),
    );
    call.on("error", () => {});
    return {
      send: (message) => new Promise((resolve) => call.write(request.encode(message), () => resolve())),
      end: () => call.end(),
      cancel: () => call.cancel(),
      answer,
    };
  };
  return {
    address,
    instance,
    headers: probe.headers ?? {},
    unary: (method, request, headers) =>
      new Promise((resolve, reject) =>
        client.makeUnaryRequest(
          method.path,
          asBuffer,
          method.response.decode,
          encode(method, request),
          metadataOf(headers),
          options(),
          (error, response) => error === null ? resolve(response!) : reject(error),
        )
      ),
    async stream(method, request, headers) {
      const all = [];
      for await (const answer of open(method, request, headers)) all.push(answer);
      return all;
    },
    open,
    upload,
    async write(messages, headers) {
      const { send, end, answer } = upload(headers);
      const isAnswered = answer.then(() => true, () => true);
      for (const message of messages) {
        if (await Promise.race([send(message), isAnswered]) === true) break; // it may answer before the end
      }
      end();
      return await answer;
    },
    blobName: ({ hash, sizeBytes }, kind = "blobs") => `${prefix}${kind}/${hash}/${sizeBytes}`,
    uploadName: ({ hash, sizeBytes }, kind = "blobs") =>
      `${prefix}uploads/${randomUUID()}/${kind}/${hash}/${sizeBytes}`,
    again: (other) => probeClient({ ...probe, ...other }),
    close: () => client.close(),
  };
}

export const emptyBlob: WireDigest = {
  hash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  sizeBytes: 0,
};
/** Bytes that no server has seen before. @param length at least 36, which is the default. */
export function newBytes(length = 36): Uint8Array {
  const bytes = Buffer.alloc(length, "conformance ");
  bytes.write(randomUUID());
  return bytes;
}
export const digestOfBytes = (bytes: Uint8Array): WireDigest => ({
  hash: createHash("sha256").update(bytes).digest("hex"),
  sizeBytes: bytes.length,
});

/** Uploads a blob, in messages that every server takes. */
export async function store(client: ProbeClient, bytes: Uint8Array): Promise<WireDigest> {
  const digest = digestOfBytes(bytes);
  const messages: Partial<WriteMessage>[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    messages.push({
      ...(at === 0 ? { resourceName: client.uploadName(digest) } : {}),
      writeOffset: at,
      data: bytes.subarray(at, at + pieceBytes),
      finishWrite: at + pieceBytes >= bytes.length,
    });
  }
  if (messages.length > 0) await client.write(messages);
  return digest;
}
const pieceBytes = 1024 * 1024;

/** All of a blob. */
export async function load(client: ProbeClient, digest: WireDigest): Promise<Buffer> {
  const read = await client.stream(methods.read, { resourceName: client.blobName(digest) });
  return Buffer.concat(read.map(({ data }) => data));
}

/** How many of them are missing. */
export async function missingOf(client: ProbeClient, blobDigests: readonly WireDigest[]): Promise<number> {
  return (await client.unary(methods.findMissingBlobs, { blobDigests })).missingBlobDigests.length;
}

/** `google.rpc.Status` as calls and answers have it. */
export type Status = MessageOf<typeof rpcStatus>;

/** How a call ends that may fail, with the details that it brings. */
export async function statusOf(call: Promise<unknown>): Promise<Status> {
  try {
    await call;
    return { code: status.OK, message: "", details: [] };
  } catch (thrown) {
    const { code, details: message, metadata } = thrown as ServiceError;
    if (typeof code !== "number") throw thrown;
    const told = metadata?.get("grpc-status-details-bin")[0];
    const details = told instanceof Uint8Array ? rpcStatus.decode(told).details : [];
    return { code, message, details };
  }
}

export type CodeName = Exclude<keyof typeof status, number>;
export const nameOfCode = (code: number): string => status[code] ?? String(code);

/** A call that must end with one of these codes. */
export async function expectCode(call: Promise<unknown>, ...codes: CodeName[]): Promise<void> {
  expectIsOneOf((await statusOf(call)).code, codes);
}

export function expectIsOneOf(code: number, codes: readonly CodeName[], what = "it answers"): void {
  if (codes.some((name) => status[name] === code)) return;
  throw new Error(`${what} ${nameOfCode(code)}, not ${codes.join(" or ")}`);
}

/** @throws when it is not so. */
export function expectThat(isSo: boolean, why: string): asserts isSo {
  if (!isSo) throw new Error(why);
}

/** What a server need not have, and says that it has not. */
export class NotOffered extends Error {}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The value, or a failure after so long. */
export async function within<Value>(ms: number, what: string, value: Promise<Value>): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} takes more than ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([value, late]);
  } finally {
    clearTimeout(timer);
  }
}
