import { Buffer } from "node:buffer";
import { digestOfHash, hashOf, sizeOf } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { parseBlobName, parseLogName, parseUploadName, type UploadName } from "../protocol/reapi/resource_name.ts";
import { readResponseHead } from "../protocol/reapi/messages.ts";
import { methods, opaque } from "../protocol/reapi/services.ts";
import { blobCorrupt, blobMissing, type Blobs, isMissing } from "../snapshots/blobs/blobs.ts";
import {
  type Call,
  checkInstance,
  clientOf,
  type Instances,
  type Served,
  serveStream,
  serveUnary,
  serveUpload,
} from "./calls.ts";
import type { LogStreams } from "./log_streams.ts";
import type { Upload, Uploads } from "./uploads.ts";
import { compressed, decompressed, decompressSmall, needServed } from "./compression.ts";

/** Uploads of blobs up to this size are kept in memory; one that breaks off begins anew. */
const memoryBytesMax = 256 * 1024;
const nameHeader = "build.bazel.remote.execution.v2.resource-name";
/** Clients that take nothing but the raw size for a compressed upload; all others count what they sent. */
const countsRawBytes = /siso|reclient|reproxy|remotetool/i;

export function serveByteStream(
  served: Served,
  blobs: Blobs,
  uploads: Uploads,
  logs: LogStreams,
  instances: Instances,
  needSpace: (what: string) => void,
): void {
  // Answers are encoded here, into the memory of the one before: it has left when the next is asked for.
  serveStream(served, { ...methods.read, response: opaque }, async function* (request, { signal }) {
    const { resourceName, readOffset, readLimit } = request;
    const encode = readResponses();
    const log = parseLogName(resourceName);
    if (log !== undefined) {
      for await (const data of logs.read(log, { offset: readOffset, limit: readLimit }, signal)) yield encode(data);
      return;
    }
    const { instance, digest, compressor } = parseBlobName(resourceName);
    checkInstance(instances, instance);
    needServed(compressor);
    if (readOffset < 0 || readOffset > sizeOf(digest) || readLimit < 0) {
      throw new Fault(
        "RANGE_INVALID",
        `Cannot read blob ${digest} as offset and limit must lie within it: current values are ${readOffset} and ${readLimit}`,
      );
    }
    if (await isMissing(blobs, digest)) throw blobMissing(digest); // else it stays for a while
    if (compressor === "identity") {
      const length = readLimit === 0 ? {} : { length: readLimit };
      for await (const data of blobs.get(digest, { offset: readOffset, ...length, signal, isPassing: true })) {
        yield encode(data);
      }
      return;
    }
    if (readLimit !== 0) {
      throw new Fault("REQUEST_INVALID", "Cannot read a compressed blob as read_limit must be 0 then");
    }
    const kept = readOffset === 0 ? blobs.asKept?.(digest, compressor) : undefined;
    if (kept !== undefined) {
      for await (const data of kept) yield encode(data);
      return;
    }
    // Before the first byte leaves: whether there is a blob at all.
    const raw = blobs.get(digest, { offset: readOffset, signal })[Symbol.asyncIterator]();
    const first = await raw.next();
    const chunks = async function* (): AsyncGenerator<Uint8Array> {
      for (let next = first; !next.done; next = await raw.next()) yield next.value;
    };
    for await (const data of compressed(compressor, chunks())) yield encode(data);
  });

  serveUpload(served, methods.write, async (requests, call) => {
    const first = await requests.next();
    if (first.done) {
      throw new Fault("REQUEST_INVALID", "Cannot take an upload as it must have a first message: there was none");
    }
    const log = parseLogName(first.value.resourceName);
    if (log !== undefined) return { committedSize: await logs.write(log, first.value, requests) };
    const name = parseUploadName(first.value.resourceName);
    checkInstance(instances, name.instance);
    checkHeader(call, first.value.resourceName);
    needServed(name.compressor);
    const isRaw = name.compressor === "identity";
    const countsRaw = isRaw || countsRawBytes.test(clientOf(call)?.toolDetails?.toolName ?? "");
    const size = sizeOf(name.digest);
    if (!await isMissing(blobs, name.digest)) return { committedSize: countsRaw ? size : -1 };
    needSpace("a blob");

    const { next: nextRequest, lose } = losable(requests);
    const upload = size <= memoryBytesMax ? inMemory() : await uploads.take(first.value.resourceName, {
      isHashed: isRaw,
      onTaken: () =>
        lose(new Fault("CANCELLED", "Cannot go on with this upload as its client went on with it elsewhere")),
    });
    let isDone = false;
    try {
      const sentMax = isRaw ? size : size + Math.ceil(size / 128) + 1024;
      let isFinished = false;
      for (
        let next: IteratorResult<WriteRequest, undefined> = first;
        !next.done;
        next = await nextRequest()
      ) {
        const { resourceName, writeOffset, finishWrite, data } = next.value;
        if (resourceName !== "" && resourceName !== first.value.resourceName) {
          throw refused(name, `keep its resource name: it became "${resourceName.slice(0, 300)}"`);
        }
        // More may have come by a connection that broke off than was there when its client asked how much there is.
        if (next === first && writeOffset >= 0 && writeOffset < upload.size) await upload.rewind(writeOffset);
        if (writeOffset !== upload.size) {
          throw refused(name, `go on at offset ${upload.size}: current value is ${writeOffset}`);
        }
        if (upload.size + data.length > sentMax) {
          isDone = true;
          throw blobCorrupt(name.digest, `more than ${sentMax} bytes`);
        }
        if (data.length > 0) await upload.append(data);
        if (finishWrite) {
          isFinished = true;
          break;
        }
      }
      if (!isFinished) return { committedSize: upload.size };
      isDone = true; // whatever comes of it: what does not match is worth nothing
      if (isRaw && upload.size !== size) throw blobCorrupt(name.digest, `${upload.size} bytes`);
      await store(blobs, name, upload, call.signal);
      return { committedSize: countsRaw ? size : upload.size };
    } finally {
      await upload.close(isDone);
    }
  });

  serveUnary(served, methods.queryWriteStatus, async ({ resourceName }) => {
    const log = parseLogName(resourceName);
    if (log !== undefined) return logs.status(log);
    const { instance, digest } = parseUploadName(resourceName);
    checkInstance(instances, instance);
    if (!await isMissing(blobs, digest)) return { committedSize: sizeOf(digest), complete: true };
    return { committedSize: await uploads.sizeOf(resourceName), complete: false };
  });
}

/** ReadResponses, each in the memory of the one before. */
function readResponses(): (data: Uint8Array) => Uint8Array {
  let memory = Buffer.alloc(0);
  return (data) => {
    const head = readResponseHead(data.length);
    const length = head.length + data.length;
    if (memory.length < length) memory = Buffer.allocUnsafeSlow(length);
    memory.set(head);
    memory.set(data, head.length);
    return memory.subarray(0, length);
  };
}

export interface WriteRequest {
  readonly resourceName: string;
  readonly writeOffset: number;
  readonly finishWrite: boolean;
  readonly data: Uint8Array;
}

/**
 * Requests that can be lost: who waits for the next one then hears why. (A race with one promise for all of them would keep
 * every message until the last.)
 */
function losable<Request>(requests: AsyncIterator<Request, undefined>) {
  let why: Fault | undefined;
  let tell = (_why: Fault): void => {};
  return {
    next: () =>
      new Promise<IteratorResult<Request, undefined>>((resolve, reject) => {
        if (why !== undefined) return reject(why);
        tell = reject;
        requests.next().then(resolve, reject);
      }),
    lose(fault: Fault): void {
      why ??= fault;
      tell(why);
    },
  };
}

async function store(
  blobs: Blobs,
  { digest, compressor }: UploadName,
  upload: Upload,
  signal: AbortSignal,
): Promise<void> {
  const file = await upload.asFile?.();
  if (file !== undefined && blobs.adopt !== undefined) {
    if (file.hash !== undefined && file.hash !== hashOf(digest)) {
      throw blobCorrupt(digest, digestOfHash(file.hash, upload.size));
    }
    return await blobs.adopt(digest, { path: file.path, compressor }, { signal });
  }
  if (sizeOf(digest) > memoryBytesMax) {
    const bytes = upload.read();
    const raw = compressor === "identity" ? bytes : decompressed(compressor, digest, bytes);
    return await blobs.put(digest, raw, { signal });
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of upload.read()) chunks.push(chunk);
  const whole = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  await blobs.put(digest, compressor === "identity" ? whole : decompressSmall(compressor, digest, whole), { signal });
}

/** In one piece, for messages may be of a byte each; the first, which mostly is all, is not copied. */
function inMemory(): Upload {
  let bytes: Uint8Array = new Uint8Array(0);
  let size = 0;
  return {
    get size() {
      return size;
    },
    append(more) {
      const needed = size + more.length;
      if (size === 0) bytes = more;
      else {
        if (needed > bytes.length) {
          const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * bytes.length));
          grown.set(bytes.subarray(0, size));
          bytes = grown;
        }
        bytes.set(more, size);
      }
      size = needed;
      return Promise.resolve();
    },
    rewind(to) {
      size = to;
      return Promise.resolve();
    },
    async *read() {
      yield bytes.subarray(0, size);
    },
    close: () => Promise.resolve(),
  };
}

function checkHeader({ metadata }: Call, name: string): void {
  const [header] = metadata.get(nameHeader);
  if (header === undefined || header === name) return;
  throw new Fault(
    "REQUEST_INVALID",
    `Cannot take an upload as the header ${nameHeader} must be the name in the message`,
  );
}

const refused = ({ digest }: UploadName, must: string): Fault =>
  new Fault("REQUEST_INVALID", `Cannot take the upload of blob ${digest} as it must ${must}`);
