import { nameOf, type TaskId } from "../domain/ids.ts";
import type { SchedulerContext } from "../machines/scheduler.ts";
import { pathOf, type State } from "../machines/step.ts";
import { inputRootOf, type TaskContext } from "../machines/task.ts";
import { isSetAside, type WorkerContext } from "../machines/worker.ts";
import { sharesOf } from "../scheduling/fairness.ts";
import { classifier, defaultPolicy, type Policy, throttler } from "../scheduling/policy.ts";
import { encodeEntry } from "../snapshots/states/entry_codec.ts";
import { isPossible } from "./workload.ts";
import type { History } from "./world.ts";

/**
 * Fairness (all workers of a simulation can run all tasks): whoever is given a slot is of a class that has not its whole
 * share, or no class that waits lacks a slot of its own; within the class it is of the most urgent rank that waits, and of
 * those a requestor with the fewest running tasks, unless it has waited from one period of ageing into another. No
 * requestor is given more than its throttle lets it run, and no worker more than it has slots for.
 */
export function* placesAreFair({ entries, slotsOfEach }: History): Iterable<string> {
  // A task that has a twin may wait for the twin's result and not for a slot.
  const isShared = sharedTasks(entries);
  const queued = new Map<TaskId, TaskContext>();
  const twins = new Map<TaskId, TaskContext>();
  const setAside = new Set<string>();
  const placed = new Map<TaskId, TaskContext>();
  /** Workers that are given tasks, and their slots. */
  const slotsOf = new Map<string, number>();
  let policy = defaultPolicy;
  let classOf = classifier(policy);
  let runningMaxOf = throttler(policy);
  for (const entry of entries) {
    if (entry.machine === "scheduler" && entry.state !== null) {
      const { settings } = (entry.state as State).context as SchedulerContext;
      policy = settings.policy;
      classOf = classifier(policy);
      runningMaxOf = throttler(policy);
    }
    if (entry.machine === "worker") {
      const worker = (entry.state as State | null)?.context as WorkerContext | undefined;
      if (worker !== undefined) {
        if (isSetAside(worker)) setAside.add(worker.workerId);
        else setAside.delete(worker.workerId);
      }
      const isGiven = worker !== undefined && !isSetAside(worker) && pathOf((entry.state as State).value) === "present";
      if (isGiven) slotsOf.set(nameOf(entry.address), worker.slots);
      else slotsOf.delete(nameOf(entry.address));
    }
    if (entry.machine !== "task" || entry.state === null) continue;
    const state = entry.state as State;
    const task = state.context as TaskContext;
    const taskId = nameOf(entry.address) as TaskId;
    const runningOf = (requestor: string): number => {
      let count = 0;
      for (const other of placed.values()) if (other.requestor === requestor) count++;
      return count;
    };
    const event = entry.cause.event as { readonly type: string; readonly atMs: number };
    if (event.type === "task.placed") {
      const own = runningOf(task.requestor);
      const ownClass = classOf(task.requestor);
      if (own >= runningMaxOf(task.requestor)) {
        yield `Fairness: ${taskId} of ${task.requestor}, who may run ${runningMaxOf(task.requestor)}, is one more`;
      }
      const mayWait = (requestor: string): boolean => runningOf(requestor) < runningMaxOf(requestor);
      const countsOf = (tasks: Iterable<TaskContext>): number[] => {
        const counts = policy.classes.map(() => 0);
        for (const { requestor } of tasks) counts[classOf(requestor)]!++;
        return counts;
      };
      const sure = [...queued.values()].filter(({ requestor }) => mayWait(requestor));
      const running = countsOf(placed.values());
      const waiting = countsOf(sure);
      // For floors, those that wait for a twin's result may wait for a slot as well.
      const most = countsOf([...sure, ...[...twins.values()].filter(({ requestor }) => mayWait(requestor))]);
      if (!queued.has(taskId) && !twins.has(taskId)) most[ownClass]!++;
      const slots = [...slotsOf.values()].reduce((sum, each) => sum + each, 0);
      for (const [at, { name }] of policy.classes.entries()) {
        if (waiting[at] === 0) continue;
        const isPassedOver = [waiting, most].every((counts) => {
          const shares = sharesNow(policy, slots, running, counts);
          return shares[at]! - running[at]! >= 1 && running[ownClass]! >= shares[ownClass]!;
        });
        if (!isPassedOver) continue;
        yield `Fairness: ${taskId} of class ${
          policy.classes[ownClass]!.name
        }, which has its share, went ahead of class ${name} (${running[at]} of ${slots} slots)`;
      }
      const isYoung = periodOf(task.queuedAtMs) === periodOf(event.atMs);
      for (const [other, { priority, requestor }] of isYoung ? queued : []) {
        if (classOf(requestor) !== ownClass || !mayWait(requestor)) continue;
        if (priority > task.priority) yield `Fairness: ${taskId} went ahead of ${other}, which is more urgent`;
        else if (priority === task.priority && runningOf(requestor) < own) {
          yield `Fairness: ${taskId} of ${task.requestor} (${own} running) went ahead of ${other} of ${requestor} (${
            runningOf(requestor)
          })`;
        }
      }
      const { workerId } = task.attempts.at(-1)!;
      if (setAside.has(workerId)) yield `${taskId} was given to ${workerId}, which is set aside`;
      const there = [...placed.values()].filter((other) => other.attempts.at(-1)!.workerId === workerId).length;
      if (there >= slotsOfEach) yield `${taskId} was given to ${workerId}, which has ${there} tasks already`;
    }
    queued.delete(taskId);
    twins.delete(taskId);
    placed.delete(taskId);
    const path = pathOf(state.value);
    if (path === "queued" && isPossible(task)) (isShared(task) ? twins : queued).set(taskId, task);
    else if (path.startsWith("active") || path === "stopping") placed.set(taskId, task);
  }
}

const sharesNow = (
  { classes }: Policy,
  slots: number,
  running: readonly number[],
  waiting: readonly number[],
): readonly number[] =>
  sharesOf(
    slots,
    classes.map(({ percent, floor }, at) => ({
      percent,
      floor,
      running: running[at]!,
      waiting: waiting[at]!,
      owed: 0,
    })),
  );

const periodOf = (atMs: number): number => Math.floor(atMs / defaultPolicy.ageingMs);

/** Whether there is another task of the same action, as far as results are shared. */
function sharedTasks(entries: History["entries"]): (task: TaskContext) => boolean {
  const tasksOf = new Map<string, Set<TaskId>>();
  const keyOf = (task: TaskContext): string => `${task.command} ${inputRootOf(task)}`;
  for (const { machine, state } of entries) {
    if (machine !== "task" || state === null) continue;
    const task = (state as State).context as TaskContext;
    const those = tasksOf.get(keyOf(task));
    if (those === undefined) tasksOf.set(keyOf(task), new Set([task.taskId]));
    else those.add(task.taskId);
  }
  return (task) => task.cache === "use" && tasksOf.get(keyOf(task))!.size > 1;
}

/** Of one entry of a task: what it is born with, and what each attempt adds. */
const entryBytesMax = 2_000;
const attemptBytesMax = 600;
/** What each tree adds that is mounted into its inputs: itself, and what it came to. */
const partBytesMax = 300;
/** Entries of a task beside those of its attempts and inputs: born, its two trees, told to stop, settled. */
const entriesMax = 8;
const entriesOfAttemptMax = 4;

/** G8: what is written for a task depends on what happens to it, and not on how many others there are. */
export function* costIsBounded({ entries, schedulerStarts }: History): Iterable<string> {
  const counts = new Map<TaskId, { entries: number; attempts: number; parts: number }>();
  for (const entry of entries) {
    if (entry.machine !== "task" || entry.state === null) continue;
    const { attempts, dependents, source } = (entry.state as State).context as TaskContext;
    const parts = source.kind === "mounted" ? source.parts.length : 0;
    const bytes = encodeEntry(entry).length;
    const bytesMax = entryBytesMax + attemptBytesMax * (attempts.length + dependents.length) + partBytesMax * parts;
    if (bytes > bytesMax) {
      yield `G8: entry ${entry.seq} of ${entry.address} has ${bytes} bytes, and should have ${bytesMax}`;
    }
    const taskId = nameOf(entry.address) as TaskId;
    const count = counts.get(taskId) ?? { entries: 0, attempts: 0, parts };
    counts.set(taskId, { entries: count.entries + 1, attempts: attempts.length, parts });
  }
  for (const [taskId, { entries: made, attempts, parts }] of counts) {
    const max = entriesMax + entriesOfAttemptMax * attempts + parts + schedulerStarts;
    if (made > max) {
      yield `G8: ${made} entries were written for ${taskId} of ${attempts} attempts, and should be ${max}`;
    }
  }
}
