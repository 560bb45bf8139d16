import { asFault, Fault } from "../domain/fault.ts";
import type { WorkerId } from "../domain/ids.ts";
import type { TaskMessage } from "../machines/task.ts";
import type { Log } from "../observability/log.ts";
import { type FromWorker, parseFromWorker, type ToWorker } from "../protocol/worker_messages.ts";
import type { Connection } from "../transport/transport.ts";

/** A worker's connection. One that another has replaced is heard no more. */
export interface WorkerLink {
  readonly connection: Connection;
  /**
   * Whether its sync was answered. Until then nothing is to be held or dropped by it: what leaves late, as the disk was
   * slow, may have been said to an earlier process of the worker.
   */
  isSynced: boolean;
  lastNumber: number;
}

type Should = Pick<ToWorker, "hold" | "drop" | "acknowledged">;

export interface WorkerLinksOptions {
  readonly log: Log;
  readonly epoch: () => number;
  /** Each message once, in order. What it returns holds further reading back. */
  readonly hear: (workerId: WorkerId, link: WorkerLink, message: FromWorker) => Promise<void> | undefined;
  readonly left: (workerId: WorkerId) => void;
}

/** What workers should do, on its way to them: a change at once, everything in answer to a sync. */
export interface WorkerLinks {
  attach(connection: Connection): void;
  has(workerId: WorkerId): boolean;
  /** Whether a message that waited its turn still counts: its link is not replaced, and nothing newer was taken. */
  takes(workerId: WorkerId, link: WorkerLink, number: number): boolean;
  /** What a task says to its worker; nothing when the worker is away, for it will sync when it comes back. */
  tell(workerId: WorkerId, said: Extract<TaskMessage, { type: `attempt.${string}` }>): void;
  /** All that it should hold and drop, in answer to a sync that came by this link. */
  answer(workerId: WorkerId, link: WorkerLink, hold: ToWorker["hold"], drop: ToWorker["drop"]): void;
}

export function createWorkerLinks(options: WorkerLinksOptions): WorkerLinks {
  const { log } = options;
  const links = new Map<WorkerId, WorkerLink>();
  const deltas = new Map<WorkerId, Should>();
  /** One counter for all of them, so that none is kept for those that are gone. */
  let lastNumber = 0;

  const send = (workerId: WorkerId, full: boolean, what: Should): void => {
    const connection = links.get(workerId)?.connection;
    try {
      connection?.send(
        { type: "worker.should", epoch: options.epoch(), number: ++lastNumber, full, ...what } satisfies ToWorker,
      );
    } catch (thrown) {
      log.error("Cannot send to a worker", { worker: workerId, error: asFault(thrown) });
      connection?.close(asFault(thrown));
    }
  };
  const sendDeltas = (): void => {
    for (const [workerId, what] of deltas) send(workerId, false, what);
    deltas.clear();
  };
  const deltasOf = (workerId: WorkerId): Should => {
    let found = deltas.get(workerId);
    if (found === undefined) {
      if (deltas.size === 0) queueMicrotask(sendDeltas);
      deltas.set(workerId, found = { hold: [], drop: [], acknowledged: [] });
    }
    return found;
  };

  return {
    has: (workerId) => links.has(workerId),
    takes(workerId, link, number) {
      if (links.get(workerId) !== link || number <= link.lastNumber) return false;
      link.lastNumber = number;
      return true;
    },
    attach(connection) {
      const workerId = connection.peer.memberId as WorkerId;
      const link: WorkerLink = { connection, isSynced: false, lastNumber: 0 };
      const other = links.get(workerId)?.connection;
      if (other !== undefined && other.peer.incarnation !== connection.peer.incarnation) {
        return connection.close(
          new Fault(
            "WORKER_ID_TAKEN",
            `Cannot serve worker ${workerId} as its id must be its own: another process, at ${other.remote}, is here by it`,
          ),
        );
      }
      other?.close();
      links.set(workerId, link);
      connection.onMessage((input) => {
        const message = parseFromWorker(input);
        if (message.type === "worker.sync" && message.worker.workerId !== workerId) {
          throw new Fault(
            "REQUEST_INVALID",
            `Cannot take a sync of ${message.worker.workerId} as the connection is that of ${workerId}`,
          );
        }
        return options.hear(workerId, link, message);
      });
      void connection.closed.then((why) => {
        if (links.get(workerId) !== link) return;
        links.delete(workerId);
        if (why !== undefined) log.warn("A worker is away", { worker: workerId, why });
        options.left(workerId);
      });
    },
    tell(workerId, said) {
      const link = links.get(workerId);
      if (link === undefined) return;
      switch (said.type) {
        case "attempt.hold": {
          if (!link.isSynced) return;
          const { type: _type, to: _to, ...assignment } = said;
          deltasOf(workerId).hold.push(assignment);
          return;
        }
        case "attempt.drop":
          if (!link.isSynced) return;
          deltasOf(workerId).drop.push({ taskId: said.taskId, attempt: said.attempt, reason: said.reason });
          return;
        case "attempt.acknowledged":
          deltasOf(workerId).acknowledged.push({ taskId: said.taskId, attempt: said.attempt });
      }
    },
    answer(workerId, link, hold, drop) {
      if (links.get(workerId) !== link) return;
      link.isSynced = true;
      const pending = deltas.get(workerId);
      deltas.delete(workerId);
      send(workerId, true, { hold, drop, acknowledged: pending?.acknowledged ?? [] });
    },
  };
}
