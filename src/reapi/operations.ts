import { asFault, Fault } from "../domain/fault.ts";
import { acceptedAtMs, type JobId } from "../domain/ids.ts";
import type { AskedAction } from "../domain/job.ts";
import type { Log } from "../observability/log.ts";
import type { TaskView } from "../protocol/client_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import type { ActionCache } from "../snapshots/actions/actions.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import {
  cancelledResponse,
  ended,
  type ExecuteResponse,
  goingOn,
  type Operation,
  responseOf,
  unmetResponse,
} from "./execution_answers.ts";
import type { AskedTask, Tasks } from "./tasks.ts";
import { nextChange } from "./next_change.ts";

/**
 * Actions that clients wait for. Each Execute has an operation of its own, though identical actions in flight are one
 * job; its name holds the job's id, so that the next gateway finds it again. This process remembers only who waits.
 */
export interface Operations {
  /** Hands an action over, or joins the job that runs it. @returns the new operation's name. */
  begin(task: Omit<AskedTask, "key">): Promise<string>;
  /** The operation as it is, then at every change and every {@link repeatMs}, then its end. @throws {Fault} `JOB_UNKNOWN`, `PEER_UNREACHABLE`. */
  follow(name: string, signal: AbortSignal): AsyncIterable<Operation>;
  /** For this operation alone: the job goes on while others wait for it. @throws {Fault} as {@link Operations.follow}. */
  cancel(name: string): Promise<void>;
  /** Those that somebody waits for, by name; of all instances, or of one. */
  list(instance?: string): Operation[];
  /** Who follows is told to come back (`DRAINING`); what they wait for goes on. */
  close(): void;
}

export interface OperationsOptions {
  readonly tasks: Tasks;
  readonly blobs: Blobs;
  readonly actions: ActionCache;
  /** The address at which people see that job. */
  readonly pageOf: (jobId: JobId) => string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Between two messages of a stream, so that what is between us and the client does not take it for dead. */
export const repeatMs = 30_000;
/** A client that lost its stream comes back within this time; after it, nobody wants the action any more. */
export const graceMs = 20_000;

interface Share {
  waiters: number;
  isCancelled: boolean;
}

/** What of the same action may be joined. */
interface Joinable {
  readonly live: Promise<Live>;
  readonly priority: AskedTask["priority"];
  readonly cache: AskedTask["cache"];
  /** Once it was accepted. */
  opened: Live | undefined;
}

/** Who wants an action to be run anew may join what runs, and nothing that may yet be answered from the cache. */
const suits = ({ priority, cache, opened }: Joinable, task: Omit<AskedTask, "key">): boolean =>
  task.priority <= priority &&
  (task.cache !== "refresh" || cache === "refresh" || opened?.task?.state === "running");

interface Live {
  readonly jobId: JobId;
  action: AskedAction | undefined;
  task: TaskView | undefined;
  response: Promise<ExecuteResponse> | undefined;
  failure: Fault | undefined;
  /** Whether its task is being watched: it has not ended. */
  isWatched: boolean;
  /** Somebody who knew its instance has waited for it here: it is killed when nobody does any more. */
  isWanted: boolean;
  readonly changed: Set<() => void>;
  readonly shares: Map<string, Share>;
  readonly stop: AbortController;
  /** Takes the grace of those who left back. */
  forget: () => void;
  /** Nobody joins it any more. */
  leave: () => void;
}

const nameForm = /^(?:(.+)\/)?operations\/(j[0-9a-z]{10}-[0-9a-z]{6})\/([0-9a-f]{16})$/;
const nameOf = (instance: string, jobId: JobId, share: string): string =>
  `${instance === "" ? "" : `${instance}/`}operations/${jobId}/${share}`;

export const operationUnknown = (name: string): Fault =>
  new Fault("JOB_UNKNOWN", `There is no operation "${name.slice(0, 300)}": execute its action again`);

export function createOperations({ tasks, blobs, actions, pageOf, clock, log }: OperationsOptions): Operations {
  const lives = new Map<JobId, Live>();
  /** Jobs whose action others may join, and those that are being handed over. */
  const joinable = new Map<string, Joinable>();
  const keyOf = ({ instance, digest }: AskedAction): string => `${instance} ${digest}`;

  const wake = (live: Live): void => {
    for (const each of [...live.changed]) each();
  };
  const waitersOf = (live: Live): number =>
    [...live.shares.values()].reduce((sum, { waiters, isCancelled }) => isCancelled ? sum : sum + waiters, 0);
  const drop = (live: Live): void => {
    live.forget();
    if (live.isWatched) live.stop.abort(new Fault("CANCELLED", "Nobody waits for it"));
    if (lives.get(live.jobId) === live) lives.delete(live.jobId);
  };
  const kill = (live: Live, reason: string): void => {
    live.leave();
    tasks.kill(live.jobId, reason).catch((thrown) =>
      log.warn("Cannot kill what nobody waits for", { job: live.jobId, error: asFault(thrown) })
    );
    drop(live);
  };
  /** When the last one has left. */
  const expectBack = (live: Live): void => {
    live.forget();
    if (waitersOf(live) > 0) return;
    if (!live.isWanted || live.response !== undefined || live.failure !== undefined) return drop(live);
    live.forget = clock.at(clock.now() + graceMs, () => kill(live, "All clients that waited for it have left"));
  };

  const watch = async (live: Live, changes: AsyncIterable<TaskView>): Promise<void> => {
    // Of what nobody here has waited for the end may be long ago: not all that it made need be here.
    const isFound = live.action === undefined;
    try {
      for await (const task of changes) {
        const isPast = isFound && live.task === undefined;
        live.action ??= task.action;
        live.task = task;
        const unmet = unmetResponse(task, pageOf(live.jobId));
        if (unmet !== undefined && live.action !== undefined) {
          live.response = Promise.resolve(unmet);
          live.leave();
          wake(live);
          await tasks.kill(live.jobId, "No worker could ever run it, and its clients were told so");
          return;
        }
        if (task.state === "settled" && live.action !== undefined) {
          live.leave();
          const stores = { blobs, actions, isPast };
          live.response = responseOf(task, live.action, pageOf(live.jobId), stores, live.stop.signal);
          live.response.catch(() => {}); // who follows hears it
        }
        wake(live);
      }
    } catch (thrown) {
      live.leave();
      live.failure = asFault(thrown);
      wake(live);
    } finally {
      live.isWatched = false;
      if (waitersOf(live) === 0 && live.response !== undefined) drop(live);
    }
  };
  /** Of a job of which nothing is known here. */
  const find = (jobId: JobId): Live => {
    const stop = new AbortController();
    return open(jobId, undefined, stop, tasks.watch(jobId, stop.signal));
  };
  const open = (
    jobId: JobId,
    action: AskedAction | undefined,
    stop: AbortController,
    changes: AsyncIterable<TaskView>,
  ): Live => {
    const live: Live = {
      jobId,
      action,
      task: undefined,
      response: undefined,
      failure: undefined,
      isWatched: true,
      isWanted: false,
      changed: new Set(),
      shares: new Map(),
      stop,
      forget: () => {},
      leave: () => {},
    };
    lives.set(jobId, live);
    void watch(live, changes);
    return live;
  };
  const shareOf = (live: Live, share: string): Share => {
    let found = live.shares.get(share);
    if (found === undefined) live.shares.set(share, found = { waiters: 0, isCancelled: false });
    return found;
  };
  const parse = (name: string): { readonly instance: string; readonly jobId: JobId; readonly share: string } => {
    const [, instance = "", jobId, share] = nameForm.exec(name) ?? [];
    if (jobId === undefined || share === undefined) throw operationUnknown(name);
    return { instance, jobId: jobId as JobId, share };
  };
  const change = (live: Live, signal: AbortSignal): Promise<void> =>
    nextChange(live.changed, signal, (wake) => clock.at(clock.now() + repeatMs, wake));

  return {
    async begin(task) {
      const key = keyOf(task.action);
      const mayJoin = task.cache !== "off";
      const found = mayJoin ? joinable.get(key) : undefined;
      let joined = found?.live;
      // A more urgent one is a job of its own, behind which the scheduler puts the other.
      if (found === undefined || !suits(found, task)) {
        const stop = new AbortController();
        const live = tasks.accept({ ...task, key: randomHex(16) }, stop.signal).then(({ jobId, changes }) => {
          const opened = open(jobId, task.action, stop, changes);
          own.opened = opened;
          if (mayJoin) opened.leave = leave;
          return opened;
        });
        const own: Joinable = { live, priority: task.priority, cache: task.cache, opened: undefined };
        const leave = (): void => {
          if (joinable.get(key) === own) joinable.delete(key);
        };
        if (mayJoin) joinable.set(key, own);
        live.catch(leave);
        joined = live;
      }
      const live = await joined!;
      const share = randomHex(8);
      shareOf(live, share);
      live.isWanted = true;
      expectBack(live);
      return nameOf(task.action.instance, live.jobId, share);
    },
    async *follow(name, signal) {
      const { instance, jobId, share: shareId } = parse(name);
      const live = lives.get(jobId) ?? find(jobId);
      const share = shareOf(live, shareId);
      share.waiters++;
      live.forget();
      try {
        for (;;) {
          signal.throwIfAborted();
          const { action, task } = live;
          if (action?.instance === instance) live.isWanted = true;
          if (share.isCancelled && action !== undefined) {
            return yield ended(name, action.digest, cancelledResponse("Its client cancelled it"));
          }
          if (live.failure !== undefined && live.response === undefined) throw live.failure;
          if (action !== undefined && action.instance !== instance) throw operationUnknown(name);
          if (task !== undefined && action === undefined) throw operationUnknown(name); // a job of another door
          if (action !== undefined) {
            if (live.response !== undefined) return yield ended(name, action.digest, await live.response);
            yield goingOn(name, action.digest, acceptedAtMs(jobId), task);
          }
          if (live.task === task && live.failure === undefined && !share.isCancelled) await change(live, signal);
        }
      } finally {
        share.waiters--;
        expectBack(live);
      }
    },
    async cancel(name) {
      const { instance, jobId, share } = parse(name);
      const live = lives.get(jobId) ?? find(jobId);
      try {
        while (live.task === undefined && live.action === undefined && live.failure === undefined) {
          await change(live, live.stop.signal);
        }
        if (live.action === undefined && live.failure !== undefined) throw live.failure;
        if (live.action?.instance !== instance) throw operationUnknown(name);
        // Not before it is known what it is of: who follows is told of that action.
        shareOf(live, share).isCancelled = true;
        wake(live);
        if (waitersOf(live) === 0 && live.response === undefined) kill(live, "Its client cancelled it");
      } finally {
        if (waitersOf(live) === 0 && (!live.isWanted || live.failure !== undefined)) drop(live);
      }
    },
    list: (instance) =>
      [...lives.values()].flatMap((live) =>
        live.action === undefined || (instance !== undefined && live.action.instance !== instance)
          ? []
          : [...live.shares].flatMap(([share, { waiters, isCancelled }]) =>
            waiters === 0 || isCancelled ? [] : [
              goingOn(
                nameOf(live.action!.instance, live.jobId, share),
                live.action!.digest,
                acceptedAtMs(live.jobId),
                live.task,
              ),
            ]
          )
      ).sort((a, b) => a.name < b.name ? -1 : 1),
    close() {
      for (const live of [...lives.values()]) {
        live.failure ??= new Fault(
          "DRAINING",
          "Cannot go on with this stream as the gateway is stopping: wait for it again",
        );
        wake(live);
        drop(live);
      }
    },
  };
}
