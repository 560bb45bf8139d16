import { BinaryHeap } from "deno-std/data_structures/binary_heap.js";
import { jobId, type TaskId, taskId, workerId } from "../domain/ids.ts";
import { type QueuedTask, schedulingView } from "./plan.ts";
import { classifier, type Policy } from "./policy.ts";

/** A task of a trace: what somebody asked for, when, and how long it runs. */
export interface TraceTask {
  /** Any origin, as long as it is the same for all. */
  readonly atMs: number;
  readonly requestor: string;
  /** Lower first; that of a job of priority 0, 1, 2 is 2, 1, 0. */
  readonly rank: number;
  readonly durationMs: number;
  readonly platform?: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** Workers that are all alike. */
export interface Fleet {
  readonly workers: number;
  readonly slots: number;
  readonly platform?: Readonly<Record<string, string>>;
}

/** How long tasks of a class waited for a slot, in ms. */
export interface ClassForecast {
  readonly name: string;
  readonly percent: number;
  readonly tasks: number;
  readonly waitP50Ms: number;
  readonly waitP95Ms: number;
  readonly waitP99Ms: number;
  readonly waitMaxMs: number;
  /** Of all slot time that was used. */
  readonly usedPercent: number;
}

export interface Forecast {
  readonly tasks: number;
  /** Tasks that no worker of the fleet can run. */
  readonly unplaceable: number;
  readonly slots: number;
  /** From the first arrival to the last end. */
  readonly lastsMs: number;
  /** Of the slot time of the fleet in that time. */
  readonly utilisationPercent: number;
  readonly classes: readonly ClassForecast[];
  /**
   * Over the minutes in which all classes had work waiting all the time: by how many points a class's part of the slot
   * time was off its percentage, at the worst and on average. Undefined: there was no such minute. Work that waits for a
   * throttle counts as waiting, so that a throttle shows here.
   */
  readonly unfairPoints?: { readonly worst: number; readonly mean: number; readonly minutes: number };
  readonly preempted: number;
}

const minuteMs = 60_000;

/**
 * What a fleet and a policy would have made of a trace: the same decisions as the scheduler's, in virtual time. Every
 * task takes as long as the trace says, on any worker; there is no network, no disk and no failure.
 *
 * @param trace in the order of `atMs`. Costs memory in proportion to what waits and runs at once, and 8 bytes a task.
 */
export function forecast(trace: Iterable<TraceTask>, fleet: Fleet, policy: Policy): Forecast {
  const view = schedulingView(policy);
  const classOf = classifier(policy);
  const count = policy.classes.length;
  for (let number = 1; number <= fleet.workers; number++) {
    view.setWorker({ workerId: workerId(`w${number}`), slots: fleet.slots, platform: fleet.platform ?? {} });
  }
  const slots = fleet.workers * fleet.slots;

  interface Live {
    readonly task: QueuedTask;
    readonly at: number;
    readonly arrivedMs: number;
    readonly durationMs: number;
    attempt: number;
    startedMs: number;
  }
  const live = new Map<TaskId, Live>();
  const ends = new BinaryHeap<{ readonly atMs: number; readonly one: Live; readonly attempt: number }>((a, b) =>
    a.atMs - b.atMs
  );
  const waits: number[][] = policy.classes.map(() => []);
  const used = policy.classes.map(() => 0);
  const running = policy.classes.map(() => 0);
  const waiting = policy.classes.map(() => 0);
  let preempted = 0;
  let tasks = 0;
  let firstMs: number | undefined;
  let nowMs = 0;

  // ---- slot time by class, minute by minute ----
  let minuteFrom = 0;
  let minuteUsed = policy.classes.map(() => 0);
  let allHadWork = true;
  let worst = 0;
  let sum = 0;
  let minutes = 0;
  const closeMinute = (): void => {
    const all = minuteUsed.reduce((a, b) => a + b, 0);
    if (allHadWork && all > 0 && count > 1) {
      for (const [at, { percent }] of policy.classes.entries()) {
        const off = Math.abs(minuteUsed[at]! * 100 / all - percent);
        worst = Math.max(worst, off);
        sum += off / count;
      }
      minutes++;
    }
    minuteUsed = policy.classes.map(() => 0);
    allHadWork = true;
    minuteFrom += minuteMs;
  };
  const pass = (toMs: number): void => {
    while (nowMs < toMs) {
      const until = Math.min(toMs, minuteFrom + minuteMs);
      const ms = until - nowMs;
      for (let at = 0; at < count; at++) {
        used[at]! += running[at]! * ms;
        minuteUsed[at]! += running[at]! * ms;
        if (waiting[at] === 0) allHadWork = false;
      }
      nowMs = until;
      if (nowMs === minuteFrom + minuteMs) closeMinute();
    }
  };

  const start = (): void => {
    for (const { taskId } of view.preemptions(nowMs)) {
      const one = live.get(taskId)!;
      view.vacate(taskId);
      running[one.at]!--;
      waiting[one.at]!++;
      preempted++;
      one.attempt++;
      view.enqueue({ ...one.task, again: true, queuedAtMs: nowMs });
    }
    for (let next = view.next(nowMs); next !== undefined; next = view.next(nowMs)) {
      const one = live.get(next.taskId)!;
      view.dequeue(next.taskId);
      view.occupy(next.workerId, one.task);
      waiting[one.at]!--;
      running[one.at]!++;
      if (one.attempt === 0) waits[one.at]!.push(nowMs - one.arrivedMs);
      one.startedMs = nowMs;
      ends.push({ atMs: nowMs + one.durationMs, one, attempt: one.attempt });
    }
  };
  const end = (): void => {
    const { one, attempt } = ends.pop()!;
    if (one.attempt !== attempt) return; // it was put back, and its time begins anew
    view.vacate(one.task.taskId);
    running[one.at]!--;
    live.delete(one.task.taskId);
  };

  const job = jobId("j0000000000-000000");
  for (const arriving of trace) {
    if (firstMs === undefined) nowMs = minuteFrom = firstMs = arriving.atMs;
    for (let next = ends.peek(); next !== undefined && next.atMs <= arriving.atMs; next = ends.peek()) {
      pass(next.atMs);
      end();
      start();
    }
    pass(arriving.atMs);
    const id = taskId(job, tasks++);
    const { requestor, rank, platform = {}, input = "", atMs, durationMs } = arriving;
    const task: QueuedTask = { taskId: id, requestor, rank, platform, input, again: false, queuedAtMs: atMs };
    const at = classOf(requestor);
    live.set(id, { task, at, arrivedMs: atMs, durationMs, attempt: 0, startedMs: 0 });
    waiting[at]!++;
    view.enqueue(task);
    start();
  }
  for (let next = ends.peek(); next !== undefined; next = ends.peek()) {
    pass(next.atMs);
    end();
    start();
  }

  const lastsMs = firstMs === undefined ? 0 : nowMs - firstMs;
  const allUsed = used.reduce((a, b) => a + b, 0);
  return {
    tasks,
    unplaceable: live.size,
    slots,
    lastsMs,
    utilisationPercent: lastsMs === 0 ? 0 : allUsed * 100 / (slots * lastsMs),
    classes: policy.classes.map(({ name, percent }, at) => {
      const sorted = Float64Array.from(waits[at]!).sort();
      const quantile = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
      return {
        name,
        percent,
        tasks: sorted.length,
        waitP50Ms: quantile(0.5),
        waitP95Ms: quantile(0.95),
        waitP99Ms: quantile(0.99),
        waitMaxMs: sorted.at(-1) ?? 0,
        usedPercent: allUsed === 0 ? 0 : used[at]! * 100 / allUsed,
      };
    }),
    ...(minutes === 0 ? {} : { unfairPoints: { worst, mean: sum / minutes, minutes } }),
    preempted,
  };
}
