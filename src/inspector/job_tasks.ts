import { type Address, indexOfTask, type JobId, taskAddress, type TaskId, taskId } from "../domain/ids.ts";
import type { State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { Entry, States } from "../snapshots/states/states.ts";

/** A task as it was saved, at a moment. */
export interface SavedTask {
  readonly state: State;
  readonly task: TaskContext;
  readonly place: number;
}

/** Of a job with at most so many tasks, each is asked for by itself: a cut costs more. */
const fewTasks = 16;

/**
 * Tasks of a job in a cut, in the order of the job, the first `limit` of those that the cut gives. Those of a job that is
 * long over may be forgotten, and are missing.
 *
 * @param total how many it has.
 */
export async function tasksOf(
  states: States,
  jobId: JobId,
  seq: number,
  { total, limit }: { readonly total: number; readonly limit: number },
): Promise<SavedTask[]> {
  if (total <= fewTasks) {
    const addresses = Array.from({ length: total }, (_, place) => taskAddress(taskId(jobId, place)));
    const entries = await Promise.all(addresses.map((address) => states.get(address, seq)));
    return entries.filter((entry) => entry !== undefined).map(savedTask);
  }
  const tasks: SavedTask[] = [];
  for await (const entry of states.cut(seq, `task/${jobId}/`)) {
    tasks.push(savedTask(entry));
    if (tasks.length >= limit) break;
  }
  return tasks.sort((a, b) => a.place - b.place);
}

const savedTask = ({ address, state }: Entry): SavedTask => ({
  state: state as State,
  task: (state as State).context as TaskContext,
  place: placeOf(address),
});

const placeOf = (address: Address): number => indexOfTask(address.slice("task/".length) as TaskId);

/** Places in the job of the tasks whose output it takes: of its one source, or of the parts that it is mounted of. */
export function sourcesOf({ source }: TaskContext): readonly number[] {
  const { parts = [source] } = source as { readonly parts?: readonly object[] };
  return [...new Set(parts.flatMap((part) => "index" in part ? [part.index as number] : []))];
}
