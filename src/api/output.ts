import { asFault, Fault } from "../domain/fault.ts";
import { sizeOf } from "../domain/digest.ts";
import type { TaskId, WorkerId } from "../domain/ids.ts";
import type { TaskView } from "../protocol/client_messages.ts";
import { parseFromWorkerToGateway, type ToWorkerFromGateway } from "../protocol/worker_messages.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { Connection } from "../transport/transport.ts";
import { feed } from "./feed.ts";
import type { Link } from "./link.ts";
import { watchTask } from "./watch.ts";

export interface FollowRequest {
  readonly taskId: TaskId;
  readonly stream: "stdout" | "stderr";
  readonly offset: number;
  /** The attempt that `offset` counts in; absent: whichever is the newest. */
  readonly attempt?: number | undefined;
}

/** A stretch of a stream; or its end, when the task has settled and all that is kept was given. */
export type OutputPiece =
  | { readonly kind: "chunk"; readonly attempt: number; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: "end"; readonly offset: number; readonly truncatedBytes: number; readonly why: string };

/**
 * The streams of tasks: from the worker that runs the newest attempt while it runs, from the blob store once it has
 * settled. They never pass the scheduler, which only says where a task is.
 *
 * A new attempt begins a new stream, from its first byte: what an earlier one wrote before it was lost is not kept
 * anywhere, so nothing could be resumed there. Whoever follows learns it by the chunk's `attempt`.
 */
export interface Outputs {
  /** The newest connection of a worker counts. Call in the turn in which it was handed over. */
  attachWorker(connection: Connection): void;
  /** Ends after a piece of kind "end". @throws {Fault} `TASK_UNKNOWN`, `JOB_UNKNOWN`, `BLOB_MISSING`, `PEER_UNREACHABLE`. */
  follow(request: FollowRequest, signal?: AbortSignal): AsyncIterable<OutputPiece>;
}

/** Bytes that wait for a reader; at more, the worker is asked to stop, and again when they are read. */
const bytesMax = 2 * 1024 * 1024;

/** Someone who follows one attempt on one worker. */
interface Listener {
  readonly chunk: (offset: number, bytes: Uint8Array) => void;
  readonly end: () => void;
  readonly lost: () => void;
}

interface WorkerLink {
  readonly connection: Connection;
  readonly listeners: Map<number, Listener>;
}

type TaskWatchRequest = Parameters<typeof watchTask>[0] extends Link<infer Request> ? Request : never;

export function createOutputs(
  { scheduler, blobs }: { readonly scheduler: Link<TaskWatchRequest>; readonly blobs: Blobs },
): Outputs {
  const workers = new Map<WorkerId, WorkerLink>();
  const joined = new Set<() => void>();
  let follows = 0;

  const listen = (
    worker: WorkerLink,
    request: FollowRequest & { readonly attempt: number },
    listener: Listener,
  ): () => void => {
    const id = ++follows;
    worker.listeners.set(id, listener);
    const { taskId, attempt, stream, offset } = request;
    const say = (message: ToWorkerFromGateway): void => worker.connection.send(message);
    say({ type: "output.follow", follow: id, taskId, attempt, stream, offset });
    return () => {
      if (worker.listeners.delete(id)) say({ type: "output.stop", follow: id });
    };
  };

  return {
    attachWorker(connection) {
      const workerId = connection.peer.memberId as WorkerId;
      const worker: WorkerLink = { connection, listeners: new Map() };
      const leave = (gone: WorkerLink): void => {
        if (workers.get(workerId) === gone) workers.delete(workerId);
        const listeners = [...gone.listeners.values()];
        gone.listeners.clear();
        for (const listener of listeners) listener.lost();
      };
      const old = workers.get(workerId);
      workers.set(workerId, worker);
      if (old !== undefined) {
        leave(old);
        old.connection.close();
      }
      connection.onMessage((input) => {
        const message = parseFromWorkerToGateway(input);
        const listener = worker.listeners.get(message.follow);
        if (listener === undefined) return;
        if (message.type === "output.chunk") return listener.chunk(message.offset, message.bytes);
        worker.listeners.delete(message.follow);
        listener.end();
      });
      void connection.closed.then(() => leave(worker));
      for (const look of [...joined]) look();
    },

    follow(request, signal) {
      const { taskId, stream } = request;
      /** Where the follower stands: so many bytes of that attempt. */
      let position = request.offset;
      let attempt = request.attempt;
      let view: TaskView | undefined;
      let isCurrent = false;
      let source: { readonly attempt: number; readonly workerId: WorkerId; readonly stop: () => void } | undefined;
      /** What the worker has no more of, until the task changes or a worker joins. */
      let exhausted: TaskView | undefined;
      let isServing = false;
      let isClosed = false;

      const pieces = feed<OutputPiece>({
        weightMax: bytesMax,
        onFull: () => stopSource(),
        onEmpty: () => look(),
        onClose: () => {
          isClosed = true;
          joined.delete(onJoined);
          stopSource();
          task.close();
        },
        signal,
      });
      const stopSource = (): void => {
        source?.stop();
        source = undefined;
      };
      const stand = (at: number): void => {
        if (attempt !== undefined && attempt !== at) position = 0;
        attempt = at;
      };
      const give = (at: number, bytes: Uint8Array): void => {
        pieces.put({ kind: "chunk", attempt: attempt!, offset: at, bytes }, bytes.length);
        position = at + bytes.length;
      };
      const look = (): void => {
        if (isClosed || isServing || pieces.isFull || view === undefined || !isCurrent) return;
        if (view.state === "settled") {
          isServing = true;
          stopSource();
          serveKept(view).catch((thrown) => pieces.end(asFault(thrown, `Cannot read ${stream} of task ${taskId}`)));
          return;
        }
        const last = view.attempts.at(-1);
        const runs = (view.state === "running" || view.state === "stopping") && last?.startedAtMs !== undefined &&
          last.ended === undefined;
        if (source !== undefined && runs && source.attempt === last.attempt && source.workerId === last.workerId) {
          return;
        }
        stopSource();
        const worker = runs ? workers.get(last.workerId) : undefined;
        if (last === undefined || worker === undefined || exhausted === view) return;
        stand(last.attempt);
        const stop = listen(worker, { taskId, stream, attempt: last.attempt, offset: position }, {
          chunk(offset, bytes) {
            // What was sent twice is cut off; a gap would be a mistake of the worker's and is not passed on.
            if (offset > position || offset + bytes.length <= position) return;
            give(position, bytes.subarray(position - offset));
          },
          end() {
            source = undefined;
            exhausted = view;
            look();
          },
          lost() {
            source = undefined;
            look();
          },
        });
        source = { attempt: last.attempt, workerId: last.workerId, stop };
      };
      const onJoined = (): void => {
        exhausted = undefined;
        look();
      };
      const serveKept = async ({ outcome, attempts, cached, why }: TaskView): Promise<void> => {
        const of = attempts.findLast((one) => one.ended === undefined) ?? attempts.at(-1);
        const kept = outcome !== undefined && outcome.kind !== "skipped" ? outcome[stream] : undefined;
        // The result of another run is a stream of its own, after those of all attempts.
        if (cached !== undefined) stand(attempts.length + 1);
        else if (of !== undefined) stand(of.attempt);
        if (kept !== undefined && position < sizeOf(kept.digest)) {
          for await (
            const bytes of blobs.get(kept.digest, { offset: position, ...(signal === undefined ? {} : { signal }) })
          ) {
            give(position, bytes);
            await pieces.room();
            if (isClosed) return;
          }
        }
        pieces.put({ kind: "end", offset: position, truncatedBytes: kept?.truncatedBytes ?? 0, why }, 0);
        pieces.end();
      };

      const task = watchTask(scheduler, taskId, {
        changed(next) {
          view = next;
          look();
        },
        begun() {
          isCurrent = true;
          look();
        },
        ended(why) {
          if (why !== undefined) return pieces.end(why);
          isCurrent = true;
          look();
          if (view?.state !== "settled") {
            pieces.end(
              new Fault("TASK_UNKNOWN", `Cannot follow task ${taskId} any further: it is older than what is kept`),
            );
          }
        },
      });
      joined.add(onJoined);
      return pieces;
    },
  };
}
