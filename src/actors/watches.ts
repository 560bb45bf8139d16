import { Fault } from "../domain/fault.ts";
import {
  type Address,
  jobAddress,
  type JobId,
  jobOfTask,
  kindOf,
  nameOf,
  taskAddress,
  type TaskId,
} from "../domain/ids.ts";
import { jobState, jobView, taskState, taskView } from "../machines/explain.ts";
import type { State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { Push } from "../protocol/client_messages.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import type { Connection } from "../transport/transport.ts";

/** Past changes are read no further while so much waits for a gateway. */
const watchBytesMax = 1024 * 1024;
/** Who waits for a task is told after this time that it runs: of what is over by then only the end. */
const newsAfterMs = 100;

interface Watch {
  readonly gateway: string;
  readonly id: number;
  readonly jobId: JobId;
  /** Only this actor's changes: the job, or one of its tasks. */
  readonly only?: Address;
  /** For who waits for a task: what it was last told of it, and what it is to be told soon. */
  readonly latest?: { told: string; held: Entry | undefined };
  /** While past entries are being read: what came meanwhile. */
  waiting: Entry[] | undefined;
  lastSeq: number;
}

export interface WatchesOptions {
  readonly clock: Clock;
  readonly states: States;
  readonly send: (gateway: string, push: Push) => void;
  readonly connectionOf: (gateway: string) => Connection | undefined;
  readonly isLive: (jobId: JobId) => boolean;
  /** @throws {Fault} `JOB_UNKNOWN` */
  readonly needJob: (jobId: JobId) => Promise<unknown>;
  /** Does it when all that was decided so far is durable and said. */
  readonly afterSaving: (gateway: string, work: () => void) => void;
}

/** Gateways that follow jobs: each hears every change once, in order, past ones first, and then that it was the last. */
export interface Watches {
  /**
   * Past entries first, as they are read; what comes meanwhile waits. Resolves when all past ones were sent.
   *
   * @param only of this actor alone: the job, or one of its tasks.
   * @param isLatest for who waits for a task: how it is now, that it runs, that nobody could run it, and its end.
   * @throws {Fault} `JOB_UNKNOWN`, `TASK_UNKNOWN`
   */
  start(
    gateway: string,
    id: number,
    jobId: JobId,
    afterSeq: number,
    only?: Address,
    isLatest?: boolean,
  ): Promise<void>;
  /** For who waits for that task of a job which is accepted in this turn, and so is queued, or waits for its inputs. */
  await(gateway: string, id: number, jobId: JobId, task: Address): void;
  stop(gateway: string, id: number): void;
  /** A gateway has gone. */
  leave(gateway: string): void;
  /** What became durable. */
  committed(entries: readonly Entry[]): void;
}

/** What who waits is told of besides the end: empty while it waits like others. */
const newsOf = ({ state }: Entry): string => {
  const name = taskState(state as State);
  const { unmet } = (state as State).context as TaskContext;
  return name === "running" || name === "stopping" ? "runs" : unmet === undefined ? "" : JSON.stringify(unmet.lacks);
};

export function createWatches(options: WatchesOptions): Watches {
  const { states, send, clock } = options;
  const watches = new Map<JobId, Set<Watch>>();
  /** Watches that are to be told soon. */
  const holding = new Set<Watch>();

  const push = (watch: Watch, entry: Entry): void => {
    if (entry.seq <= watch.lastSeq || entry.state === null) return;
    watch.lastSeq = entry.seq;
    if (watch.latest === undefined) return tell(watch, entry);
    if (taskState(entry.state as State) === "settled") {
      remove(watch);
      return tell(watch, entry);
    }
    watch.latest.held = newsOf(entry) === watch.latest.told ? undefined : entry;
    if (watch.latest.held === undefined) holding.delete(watch);
    else {
      if (holding.size === 0) clock.at(clock.now() + newsAfterMs, tellHeld);
      holding.add(watch);
    }
  };
  const tellHeld = (): void => {
    for (const watch of holding) tellNow(watch, watch.latest!.held!);
    holding.clear();
  };
  const tellNow = (watch: Watch, entry: Entry): void => {
    if (watch.latest !== undefined) Object.assign(watch.latest, { told: newsOf(entry), held: undefined });
    tell(watch, entry);
  };
  const tell = (watch: Watch, entry: Entry): void => {
    const { id, gateway } = watch;
    const state = entry.state as State;
    const body: Push = kindOf(entry.address) === "job"
      ? { type: "job.changed", watch: id, seq: entry.seq, atMs: entry.atMs, job: jobView(state) }
      : { type: "task.changed", watch: id, seq: entry.seq, atMs: entry.atMs, task: taskView(state) };
    send(gateway, body);
  };
  const add = (watch: Watch): void => {
    let those = watches.get(watch.jobId);
    if (those === undefined) watches.set(watch.jobId, those = new Set());
    those.add(watch);
  };
  const remove = (watch: Watch): void => {
    const those = watches.get(watch.jobId);
    those?.delete(watch);
    if (those?.size === 0) watches.delete(watch.jobId);
    holding.delete(watch);
  };
  const removeAll = (which: (watch: Watch) => boolean): void => {
    for (const those of [...watches.values()]) {
      for (const watch of those) if (which(watch)) remove(watch);
    }
  };
  const end = (watch: Watch): void => {
    if (!watches.get(watch.jobId)?.has(watch)) return;
    remove(watch);
    send(watch.gateway, { type: "watch.end", watch: watch.id });
  };
  /** The entries of these actors after one, in order; of what the history no longer has, the last state of each. */
  async function* pastOf(addresses: readonly string[], afterSeq: number): AsyncGenerator<Entry> {
    const { firstSeq } = await states.bounds();
    if (firstSeq > afterSeq + 1) {
      const old: Entry[] = [];
      for (const address of addresses) {
        if (address.endsWith("/")) { for await (const entry of states.current(address)) old.push(entry); }
        else old.push(...[await states.get(address as Address)].filter((entry) => entry !== undefined));
      }
      yield* old.filter(({ seq }) => seq > afterSeq && seq < firstSeq).sort((a, b) => a.seq - b.seq);
    }
    const streams = addresses.map((address) => states.history(address, { afterSeq })[Symbol.asyncIterator]());
    try {
      const heads = await Promise.all(streams.map((stream) => stream.next()));
      for (;;) {
        let first = -1;
        for (const [at, head] of heads.entries()) {
          if (!head.done && (first < 0 || head.value.seq < heads[first]!.value.seq)) first = at;
        }
        if (first < 0) return;
        yield heads[first]!.value;
        heads[first] = await streams[first]!.next();
      }
    } finally {
      for (const stream of streams) await stream.return?.();
    }
  }

  return {
    await(gateway, id, jobId, task) {
      if (options.connectionOf(gateway) === undefined) return; // it has gone meanwhile
      const latest = { told: "", held: undefined };
      add({ gateway, id, jobId, only: task, latest, waiting: undefined, lastSeq: 0 });
    },
    async start(gateway, id, jobId, afterSeq, only, isLatest = false) {
      const watch: Watch = {
        gateway,
        id,
        jobId,
        ...(only === undefined ? {} : { only }),
        ...(isLatest ? { latest: { told: "", held: undefined } } : {}),
        waiting: [],
        lastSeq: afterSeq,
      };
      add(watch);
      try {
        if (!options.isLive(jobId)) await options.needJob(jobId);
        const last = only === undefined ? undefined : await states.get(only);
        if (only !== undefined && only !== jobAddress(jobId) && last === undefined) {
          throw new Fault("TASK_UNKNOWN", `Cannot find task ${nameOf(only)}: its job has no such task`);
        }
        if (isLatest && last !== undefined && last.seq > afterSeq) {
          watch.lastSeq = last.seq;
          tellNow(watch, last);
          if (taskState(last.state as State) === "settled") return remove(watch);
        }
        const all = [jobAddress(jobId), `${taskAddress(jobId as unknown as TaskId)}/`];
        for await (const entry of isLatest ? [] : pastOf(only === undefined ? all : [only], afterSeq)) {
          if (!watches.get(jobId)?.has(watch)) return; // unwatched, or its gateway has gone
          push(watch, entry);
          const connection = options.connectionOf(gateway);
          if (connection !== undefined && connection.bufferedBytes > watchBytesMax) await connection.drained();
        }
        const { waiting } = watch;
        watch.waiting = undefined;
        for (const entry of waiting!) push(watch, entry);
        if (!options.isLive(jobId)) options.afterSaving(gateway, () => end(watch));
      } catch (thrown) {
        remove(watch);
        throw thrown;
      }
    },
    stop: (gateway, id) => removeAll((watch) => watch.gateway === gateway && watch.id === id),
    leave: (gateway) => removeAll((watch) => watch.gateway === gateway),
    committed(entries) {
      if (watches.size === 0) return;
      for (const entry of entries) {
        const kind = kindOf(entry.address);
        if (kind !== "job" && kind !== "task") continue;
        const jobId = kind === "job" ? nameOf(entry.address) as JobId : jobOfTask(nameOf(entry.address) as TaskId);
        const those = watches.get(jobId);
        if (those === undefined) continue;
        for (const watch of those) {
          if (watch.only !== undefined && entry.address !== watch.only) continue;
          if (watch.waiting === undefined) push(watch, entry);
          else watch.waiting.push(entry);
        }
        if (kind === "job" && entry.state !== null && jobState(entry.state as State) !== "running") {
          for (const watch of [...those]) if (watch.waiting === undefined) end(watch);
        }
      }
    },
  };
}
