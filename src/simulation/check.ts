import { jobOfTask, nameOf, type TaskId } from "../domain/ids.ts";
import { attemptsHaveCauses } from "./check_causes.ts";
import { costIsBounded, placesAreFair } from "./check_places.ts";
import { pathOf, type State } from "../machines/step.ts";
import { inputRootOf, type TaskContext } from "../machines/task.ts";
import type { Entry } from "../snapshots/states/states.ts";
import { isPossible, pretendedExit } from "./workload.ts";
import type { History } from "./world.ts";

/** What must never happen and what must have happened, by the guarantee that says so. One sentence a violation. */
export function violations(history: History): string[] {
  return [
    ...acceptedMeansKept(history),
    ...noWorkTwice(history),
    ...attemptsHaveCauses(history),
    ...placesAreFair(history),
    ...costIsBounded(history),
    ...resultsAreTrue(history),
    ...resultsAreShared(history),
  ];
}

/** G1: what was acknowledged is there, and ends when all is calm. */
function* acceptedMeansKept({ jobs }: History): Iterable<string> {
  for (const { planned, jobId, view } of jobs) {
    if (jobId === undefined) yield `G1: ${planned.job.key} was never accepted, though all was calm at the end`;
    else if (view === undefined) yield `G1: ${planned.job.key} was acknowledged as ${jobId}, and is gone`;
    else if (view.state === "running") yield `G1: ${planned.job.key} never ended: ${view.why}`;
    else {
      const { succeeded, failed, skipped, killed } = view.settled;
      if (succeeded + failed + skipped + killed !== view.tasks) {
        yield `G1: ${planned.job.key} is ${view.state} with ${JSON.stringify(view.settled)} of ${view.tasks} tasks`;
      }
    }
  }
}

/** G2: no attempt runs twice, none is made after the task settled. */
function* noWorkTwice({ marks, entries }: History): Iterable<string> {
  const ran = new Map<string, string>();
  for (const { taskId, attempt, workerId } of marks) {
    const key = `${taskId}#${attempt}`;
    const other = ran.get(key);
    if (other !== undefined) yield `G2: attempt ${key} ran on ${other} and again on ${workerId}`;
    ran.set(key, workerId);
  }
  const last = new Map<TaskId, { settled: boolean; attempt: number }>();
  for (const entry of tasksOf(entries)) {
    const taskId = nameOf(entry.address) as TaskId;
    const state = entry.state as State;
    const { attempt } = state.context as TaskContext;
    const settled = pathOf(state.value) === "settled";
    const before = last.get(taskId);
    if (before?.settled === true) {
      yield `G2: ${taskId} changed after it settled: ${(entry.cause.event as { type: string }).type}`;
    }
    if (before !== undefined && attempt > before.attempt + 1) {
      yield `G2: ${taskId} went from attempt ${before.attempt} to ${attempt}`;
    }
    last.set(taskId, { settled, attempt });
  }
  for (const { taskId, attempt } of marks) {
    if ((last.get(taskId)?.attempt ?? 0) < attempt) {
      yield `G2: attempt ${taskId}#${attempt} ran, and nothing on disk says that it was made`;
    }
  }
}

function* tasksOf(entries: readonly Entry[]): Iterable<Entry> {
  for (const entry of entries) if (entry.machine === "task" && entry.state !== null) yield entry;
}

/** A result is the command's own; nothing is killed or skipped without somebody having asked, or failed by us too easily. */
function* resultsAreTrue({ jobs }: History): Iterable<string> {
  for (const { planned, view, tasks } of jobs) {
    if (view === undefined || view.state === "running") continue;
    const mayBeKilled = planned.killAtMs !== undefined || planned.job.failFast;
    for (const [at, { taskId, outcome, command, attempts, cached }] of tasks.entries()) {
      if (Object.keys(planned.job.tasks[at]!.platform).length > 0 && attempts.length > 0) {
        yield `${taskId} was given to a worker, and asks for what none has`;
      }
      if (outcome === undefined) yield `${taskId} has no outcome in an ended job`;
      else if (outcome.kind === "exited" && outcome.exitCode !== pretendedExit(command)) {
        yield `${taskId} exited with ${outcome.exitCode}, its command with ${pretendedExit(command)}`;
      } else if (outcome.kind === "killed" && !mayBeKilled) {
        yield `${taskId} of ${jobOfTask(taskId)} was killed and nobody asked: ${outcome.reason}`;
      } else if (outcome.kind === "failed" && outcome.fault.code === "TASK_UNPLACEABLE") {
        if (isPossible(planned.job.tasks[at]!)) {
          yield `${taskId} was not run, and any worker could have run it: ${outcome.fault.message}`;
        }
      } else if (outcome.kind === "failed" && attempts.length < 6) {
        yield `${taskId} failed by us: ${outcome.fault.message}`;
      } else if (outcome.kind === "exited" && attempts.length === 0 && cached === undefined) {
        yield `${taskId} exited without an attempt`;
      }
    }
  }
}

interface Result {
  readonly taskId: TaskId;
  readonly outcome?: object | undefined;
}

/** A result that is shared is that of a run of the same command, and of identical tasks in flight one runs. */
function* resultsAreShared({ jobs, marks, entries }: History): Iterable<string> {
  const tasks = new Map(jobs.flatMap((job) => job.tasks.map((task) => [task.taskId, task] as const)));
  /** What one wants laid over its inputs is another tree than what was made. */
  const wantsFull = new Set(
    jobs.flatMap(({ planned, tasks }) => tasks.filter((_, at) => planned.job.tasks[at]!.output === "full"))
      .map(({ taskId }) => taskId),
  );
  const hasSameResult = (...both: readonly Result[]): boolean => {
    const isLaidOver = both.some(({ taskId }) => wantsFull.has(taskId));
    const [a, b] = both.map(({ outcome }) => JSON.stringify(isLaidOver ? { ...outcome, output: "" } : outcome));
    return a === b;
  };
  const hasRun = new Set(marks.map(({ taskId }) => taskId));
  for (const { taskId, cached, command, outcome } of tasks.values()) {
    if (cached?.taskId === undefined) continue;
    const from = tasks.get(cached.taskId);
    if (from?.command !== command) yield `${taskId} has the result of ${cached.taskId}, which is another command`;
    else if (!hasRun.has(cached.taskId)) yield `${taskId} has the result of ${cached.taskId}, which never ran`;
    else if (!hasSameResult(from, { taskId, outcome })) {
      yield `${taskId} has another result than ${cached.taskId}, whose it is said to be`;
    }
  }
  const onWorker = new Map<string, TaskId>();
  const gaveWay = new Set<TaskId>();
  for (const entry of tasksOf(entries)) {
    const state = entry.state as State;
    const task = state.context as TaskContext;
    if (task.cache !== "use") continue;
    const input = inputRootOf(task);
    if (input === undefined) continue;
    const key = JSON.stringify([task.command, input, task.timeoutMs, task.platform]);
    const other = onWorker.get(key);
    const path = pathOf(state.value);
    if (task.unmet !== undefined) gaveWay.add(task.taskId);
    if (path.startsWith("active") || path === "stopping") {
      // One that was given up and came back runs beside its successor, as does what its worker took up again, and one
      // that gave way as nobody could run it, once somebody has come who can: whichever of the two is placed first.
      const isFirst = task.attempt === 1 && !gaveWay.has(task.taskId) &&
        (entry.cause.event as { type: string }).type === "task.placed";
      if (other !== undefined && other !== task.taskId && isFirst && !gaveWay.has(other)) {
        yield `${task.taskId} was placed while ${other}, which is the same, was with a worker`;
      }
      onWorker.set(key, task.taskId);
    } else if (other === task.taskId) onWorker.delete(key);
  }
}
