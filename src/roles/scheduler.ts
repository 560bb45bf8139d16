import { createScheduler, type Scheduler } from "../actors/scheduler_actor.ts";
import type { TaskResults } from "../actors/task_results.ts";
import { Fault } from "../domain/fault.ts";
import type { Log } from "../observability/log.ts";
import { realClock, sleep } from "../runtime/clock.ts";
import { realRandom } from "../runtime/random.ts";
import type { States } from "../snapshots/states/states.ts";
import type { AcceptOptions, Connection } from "../transport/transport.ts";
import { defer, diskSpace, endBroken, helloOf, keepPruned } from "./machine.ts";

/** How long a worker may be away before its tasks are run elsewhere. */
const lostAfterMs = 10_000;
/** Ended jobs are kept so long, and so many. */
const keepJobsMs = 7 * 24 * 3_600_000;
const keepJobsMax = 10_000;
const keepTasksMax = 1_000_000;
/** On the disk, of a task that has ended: its part of its job, and what the store leaves empty, included. */
const endedTaskBytes = 3_000;
/** History is kept so long, and so much of it. */
const historyMs = 7 * 24 * 3_600_000;
const historyBytesMax = 2 * 1024 ** 3;
/**
 * What history and ended jobs may take of a store of that many bytes, a quarter each: were they as large as that, no work
 * could be taken until they are old.
 */
export function keptOf(maxBytes: number): { readonly historyBytesMax: number; readonly keepTasksMax: number } {
  const part = Math.floor(maxBytes / 4);
  return {
    historyBytesMax: Math.min(historyBytesMax, part),
    keepTasksMax: Math.min(keepTasksMax, Math.floor(part / endedTaskBytes)),
  };
}

export interface SchedulerRole {
  readonly scheduler: Scheduler;
  /** How connections of workers and gateways are accepted. */
  readonly accepting: AcceptOptions;
  /** Places nothing more, waits so long for running tasks, puts the others back. */
  drain(why: string, waitMs: number): Promise<void>;
  stop(): Promise<void>;
}

/**
 * A scheduler over its states, ready to accept connections.
 *
 * @param options.states belong to the role from now on: its stop closes them.
 */
export async function startScheduler(
  options: {
    readonly dataDir: string;
    readonly token: string;
    readonly log: Log;
    readonly states: States;
    readonly results: TaskResults;
    /** Of the store that its states are a part of; without, they have all that they want. */
    readonly maxBytes?: number;
  },
): Promise<SchedulerRole> {
  const { dataDir, token, log, states } = options;
  const kept = keptOf(options.maxBytes ?? Infinity);
  const scheduler = createScheduler({
    states,
    clock: realClock,
    random: realRandom,
    log,
    results: options.results,
    defer,
    lostAfterMs,
    keepJobsMs,
    keepJobsMax,
    keepTasksMax: kept.keepTasksMax,
    hasSpace: diskSpace(dataDir),
    broken: endBroken,
  });
  await scheduler.start();
  const endPruning = keepPruned(states, { historyMs, historyBytesMax: kept.historyBytesMax }, log);

  return {
    scheduler,
    accepting: {
      hello: helloOf("scheduler", "scheduler"),
      token,
      roles: ["worker", "gateway"],
      onConnection: (connection) => attach(scheduler, connection),
    },
    async drain(why, waitMs) {
      await scheduler.drain(why);
      const untilMs = realClock.now() + waitMs;
      while (scheduler.running > 0 && realClock.now() < untilMs) await sleep(realClock, 50);
      if (scheduler.running > 0) {
        log.warn("Putting running tasks back into the queue", { tasks: scheduler.running, why });
        await scheduler.putBack(why);
      }
    },
    async stop() {
      endPruning();
      await scheduler.stop();
      await states.close();
    },
  };
}

const attach = (scheduler: Scheduler, connection: Connection): void => {
  if (connection.peer.role === "worker") scheduler.attachWorker(connection);
  else if (connection.peer.role === "gateway") scheduler.attachGateway(connection);
  else {connection.close(
      new Fault(
        "REQUEST_INVALID",
        `Cannot serve a ${connection.peer.role} here: a scheduler serves workers and gateways`,
      ),
    );}
};
