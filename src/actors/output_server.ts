import { closeSync, openSync, readSync } from "node:fs";
import type { TaskId } from "../domain/ids.ts";
import { type FromWorkerToGateway, parseToWorkerFromGateway } from "../protocol/worker_messages.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { Connection } from "../transport/transport.ts";

const chunkBytes = 64 * 1024;
const pollMs = 25;
const followsMax = 1_000;

export interface OutputServerOptions {
  readonly clock: Clock;
  readonly pathOf: (taskId: TaskId, attempt: number, stream: "stdout" | "stderr") => string;
  /** Whether the attempt is here, and whether its streams still grow. */
  readonly stageOf: (taskId: TaskId, attempt: number) => "growing" | "complete" | "unknown";
  readonly outputBytesMax: number;
}

/**
 * Gives a gateway the bytes of running attempts' streams, from any offset, as they grow. A stream is at an end when its
 * attempt has; what was kept of it is a blob then.
 */
export function serveOutput(connection: Connection, options: OutputServerOptions): void {
  const follows = new Map<number, AbortController>();
  connection.onMessage((input) => {
    const message = parseToWorkerFromGateway(input);
    if (message.type === "output.stop") return follows.get(message.follow)?.abort();
    const { follow, taskId, attempt, stream, offset } = message;
    if (follows.has(follow) || follows.size >= followsMax) {
      return connection.send(
        { type: "output.end", follow, offset, why: "Too many streams are followed" } satisfies FromWorkerToGateway,
      );
    }
    const abort = new AbortController();
    follows.set(follow, abort);
    void give(connection, options, { follow, taskId, attempt, stream, offset }, abort.signal)
      .catch((thrown) =>
        connection.send(
          {
            type: "output.end",
            follow,
            offset,
            why: String((thrown as Error).message).slice(0, 500),
          } satisfies FromWorkerToGateway,
        )
      )
      .finally(() => follows.delete(follow));
  });
  void connection.closed.then(() => follows.forEach((abort) => abort.abort()));
}

interface Follow {
  readonly follow: number;
  readonly taskId: TaskId;
  readonly attempt: number;
  readonly stream: "stdout" | "stderr";
  readonly offset: number;
}

async function give(
  connection: Connection,
  options: OutputServerOptions,
  { follow, taskId, attempt, stream, ...from }: Follow,
  signal: AbortSignal,
): Promise<void> {
  const { clock, outputBytesMax } = options;
  let offset = from.offset;
  let fd: number | undefined;
  const buffer = new Uint8Array(chunkBytes);
  const end = (why: string): void =>
    connection.send({ type: "output.end", follow, offset, why } satisfies FromWorkerToGateway);
  try {
    while (!signal.aborted) {
      // Asked before reading: bytes written after this are seen by the next round, so none is missed at the end.
      const stage = options.stageOf(taskId, attempt);
      if (stage === "unknown") return end("This worker does not have the attempt");
      fd ??= openIfThere(options.pathOf(taskId, attempt, stream));
      const wanted = Math.min(chunkBytes, outputBytesMax - offset);
      const got = fd === undefined || wanted <= 0 ? 0 : readSync(fd, buffer, 0, wanted, offset);
      if (got > 0) {
        connection.send(
          { type: "output.chunk", follow, offset, bytes: buffer.slice(0, got) } satisfies FromWorkerToGateway,
        );
        offset += got;
        await connection.drained();
      } else if (stage === "complete") return end("The attempt ended");
      else await sleep(clock, pollMs, signal).catch(() => {});
    }
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch {
    return undefined; // not yet: the checkout comes first
  }
}
