import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, statSync } from "node:fs";
import { type FileHandle, open, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { asFault, Fault } from "../domain/fault.ts";
import { jobId } from "../domain/ids.ts";
import type { LogName } from "../protocol/reapi/resource_name.ts";
import { methods } from "../protocol/reapi/services.ts";
import type { Clock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import { checkInstance, type Instances, type Served, serveUnary } from "./calls.ts";
import { nextChange } from "./next_change.ts";
import type { WriteRequest } from "./byte_stream.ts";
import type { Tasks } from "./tasks.ts";

export interface LogStreamsOptions {
  /** Made if it is not there; for this process alone. */
  readonly dir: string;
  /** Whose output is read as streams, too. */
  readonly tasks?: Tasks;
  readonly instances: Instances;
  readonly needSpace: (what: string) => void;
  readonly clock: Clock;
}

/** Bytes that are read while they are written: what clients write under a name that they were given, and what actions write. */
export interface LogStreams {
  create(instance: string): Promise<{ readonly name: string; readonly writeResourceName: string }>;
  /** Adds to a stream, which is whole with the message that says so. @returns how long it is. */
  write(name: LogName, first: WriteRequest, more: AsyncIterator<WriteRequest, undefined>): Promise<number>;
  /** How long it is, and whether it is whole. */
  status(name: LogName): { readonly committedSize: number; readonly complete: boolean };
  /** To its end, which may be to come; `limit` 0 is none. */
  read(
    name: LogName,
    range: { readonly offset: number; readonly limit: number },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
}

const streamBytesMax = 64 * 1024 * 1024;
const streamsMax = 1_000;
/** After the last byte. */
const keptMs = 24 * 3600 * 1000;
const pieceBytes = 256 * 1024;

interface Stream {
  readonly id: string;
  readonly instanceHash: string;
  readonly tokenHash: string;
  size: number;
  isWhole: boolean;
  writtenAtMs: number;
  /** One addition after the other. */
  writing: Promise<unknown>;
  /** It was forgotten. */
  isGone: boolean;
  readonly changed: Set<() => void>;
}

const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32);
const fileForm = /^([0-9a-f]{32})-([0-9a-f]{32})-([0-9a-f]{32})(\.whole)?$/;
const actionForm = /^(j[0-9a-z]{10}-[0-9a-z]{6})\.(stdout|stderr)$/;

/** Streams of clients are files, and so are there after a restart; they are forgotten a day after the last byte. */
export function logStreams(options: LogStreamsOptions): LogStreams {
  const { dir, tasks, instances, needSpace, clock } = options;
  mkdirSync(dir, { recursive: true });
  const streams = new Map<string, Stream>();
  const pathOf = ({ id, instanceHash, tokenHash, isWhole }: Stream): string =>
    join(dir, `${id}-${instanceHash}-${tokenHash}${isWhole ? ".whole" : ""}`);
  for (const file of readdirSync(dir)) {
    const [, id, instanceHash, tokenHash, whole] = fileForm.exec(file) ?? [];
    if (id === undefined) continue;
    const { size, mtimeMs } = statSync(join(dir, file));
    streams.set(id, {
      id,
      instanceHash: instanceHash!,
      tokenHash: tokenHash!,
      size,
      isWhole: whole !== undefined,
      writtenAtMs: mtimeMs,
      writing: Promise.resolve(),
      isGone: false,
      changed: new Set(),
    });
  }
  const wake = (stream: Stream): void => {
    for (const each of [...stream.changed]) each();
  };
  const forgetOld = async (): Promise<void> => {
    for (const stream of streams.values()) {
      if (clock.now() - stream.writtenAtMs < keptMs) continue;
      streams.delete(stream.id);
      stream.isGone = true;
      wake(stream);
      await stream.writing.catch(() => {});
      await rm(pathOf(stream), { force: true });
    }
  };

  /** @throws {Fault} `PATH_UNKNOWN`. */
  const find = ({ instance, id }: LogName): Stream => {
    checkInstance(instances, instance);
    const stream = streams.get(id);
    if (stream !== undefined && stream.instanceHash === hashOf(instance)) return stream;
    throw unknown(instance, id);
  };
  /** Of who may write. */
  const findOwn = (name: LogName): Stream => {
    if (name.token === undefined) throw invalid(`${shown(name.id)} must be written by the other of its names`);
    const stream = find(name);
    if (stream.tokenHash !== hashOf(name.token)) throw unknown(name.instance, name.id);
    return stream;
  };
  /** Under the name that it has just then; it stays the same file under the next one. */
  const openOf = (stream: Stream, how: "r" | "r+"): Promise<FileHandle> => {
    const opened = stream.writing.then(() => open(pathOf(stream), how)).catch((thrown) => {
      if ((thrown as { code?: unknown }).code === "ENOENT") throw unknown("", stream.id);
      throw thrown;
    });
    stream.writing = opened.catch(() => {});
    return opened;
  };
  const add = async (stream: Stream, { writeOffset, data, finishWrite }: WriteRequest, file: FileHandle) => {
    if (stream.isGone) throw unknown("", stream.id);
    if (stream.isWhole) throw invalid(`${shown(stream.id)} must not be whole: nothing comes behind its end`);
    if (writeOffset !== stream.size) {
      throw invalid(`${shown(stream.id)} goes on at byte ${stream.size}: current value is ${writeOffset}`);
    }
    if (stream.size + data.length > streamBytesMax) {
      throw new Fault(
        "LIMIT_EXCEEDED",
        `Cannot write to ${shown(stream.id)} as it may have at most ${streamBytesMax} bytes`,
      );
    }
    try {
      for (let at = 0; at < data.length;) {
        at += (await file.write(data, at, data.length - at, stream.size + at)).bytesWritten;
      }
      if (finishWrite) {
        await file.sync();
        await rename(pathOf(stream), `${pathOf(stream)}.whole`);
        stream.isWhole = true;
      }
    } catch (thrown) {
      throw asFault(thrown, `Cannot write to ${shown(stream.id)}`);
    }
    stream.size += data.length;
    stream.writtenAtMs = clock.now();
    wake(stream);
  };

  async function* readOwn(stream: Stream, offset: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    if (offset < 0 || offset > stream.size) {
      throw new Fault("RANGE_INVALID", `Cannot read ${shown(stream.id)} from ${offset} as it has ${stream.size} bytes`);
    }
    const file = await openOf(stream, "r");
    try {
      for (let at = offset;;) {
        const left = stream.size - at;
        if (left > 0) {
          const piece = new Uint8Array(Math.min(left, pieceBytes));
          const { bytesRead } = await file.read(piece, 0, piece.length, at);
          if (bytesRead === 0) throw unknown("", stream.id);
          at += bytesRead;
          yield piece.subarray(0, bytesRead);
        } else if (stream.isWhole) return;
        else if (stream.isGone) throw unknown("", stream.id); // also while the file was opened
        else await nextChange(stream.changed, signal);
      }
    } finally {
      await file.close();
    }
  }

  async function* readAction(name: LogName, offset: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const [, job, stream] = actionForm.exec(name.id)!;
    if (tasks === undefined) throw unknown(name.instance, name.id);
    for await (const { action } of tasks.watch(jobId(job!), signal)) {
      if (action?.instance !== name.instance) throw unknown(name.instance, name.id);
      break;
    }
    yield* tasks.output(jobId(job!), stream as "stdout" | "stderr", offset, signal);
  }

  return {
    async create(instance) {
      checkInstance(instances, instance);
      needSpace("a log stream");
      await forgetOld();
      if (streams.size >= streamsMax) {
        throw new Fault("LIMIT_EXCEEDED", `Cannot make a log stream as there are ${streams.size}, which are all young`);
      }
      const [id, token] = [randomHex(16), randomHex(16)];
      const stream: Stream = {
        id,
        instanceHash: hashOf(instance),
        tokenHash: hashOf(token),
        size: 0,
        isWhole: false,
        writtenAtMs: clock.now(),
        writing: Promise.resolve(),
        isGone: false,
        changed: new Set(),
      };
      streams.set(id, stream);
      await writeFile(pathOf(stream), "", { flag: "wx" });
      const name = `${instance === "" ? "" : `${instance}/`}logstreams/${id}`;
      return { name, writeResourceName: `${name}/${token}` };
    },
    async write(name, first, more) {
      const stream = findOwn(name);
      needSpace("what is written to a log stream");
      const file = await openOf(stream, "r+");
      try {
        for (
          let next: IteratorResult<WriteRequest, undefined> = { done: false, value: first };
          !next.done;
          next = await more.next()
        ) {
          const { value } = next;
          if (value.resourceName !== "" && value.resourceName !== first.resourceName) {
            throw invalid(`its messages must keep its name: it became "${value.resourceName.slice(0, 200)}"`);
          }
          const added = stream.writing.then(() => add(stream, value, file));
          stream.writing = added.catch(() => {});
          await added;
          if (value.finishWrite) break;
        }
        await file.sync();
      } finally {
        await file.close();
      }
      return stream.size;
    },
    status(name) {
      const { size, isWhole } = findOwn(name);
      return { committedSize: size, complete: isWhole };
    },
    async *read(name, { offset, limit }, signal) {
      if (name.token !== undefined) throw invalid(`${shown(name.id)} must be read by the other of its names`);
      if (offset < 0 || limit < 0) {
        throw new Fault(
          "RANGE_INVALID",
          `Cannot read ${
            shown(name.id)
          } as offset and limit must be at least 0: current values are ${offset} and ${limit}`,
        );
      }
      const isOfAction = actionForm.test(name.id);
      if (isOfAction) checkInstance(instances, name.instance);
      const bytes = isOfAction ? readAction(name, offset, signal) : readOwn(find(name), offset, signal);
      let left = limit === 0 ? Infinity : limit;
      for await (const data of bytes) {
        yield data.subarray(0, Math.min(left, data.length));
        left -= data.length;
        if (left <= 0) return;
      }
    },
  };
}

export function serveLogStreams(served: Served, logs: LogStreams): void {
  serveUnary(served, methods.createLogStream, ({ parent }) => logs.create(parent));
}

const shown = (id: string): string => `log stream "${id.slice(0, 100)}"`;
const unknown = (instance: string, id: string): Fault =>
  new Fault(
    "PATH_UNKNOWN",
    `There is no ${shown(id)} in the instance "${instance}", or nobody may write it by that name`,
  );
const invalid = (must: string): Fault => new Fault("REQUEST_INVALID", `Cannot use a log stream as ${must}`);
