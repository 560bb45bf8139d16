import type { Address, JobId, TaskId } from "../domain/ids.ts";
import { indexOfTask } from "../domain/ids.ts";
import type { State } from "../machines/step.ts";
import type { TaskContext } from "../machines/task.ts";
import type { States } from "../snapshots/states/states.ts";

/** A task as it was saved, at a moment. */
export interface SavedTask {
  readonly state: State;
  readonly task: TaskContext;
  readonly place: number;
}

/**
 * Tasks of a job in a cut, in the order of the job, the first `limit` of those that the cut gives. Those of a job that is
 * long over may be forgotten, and are missing.
 */
export async function tasksOf(states: States, jobId: JobId, seq: number, limit: number): Promise<SavedTask[]> {
  const tasks: SavedTask[] = [];
  for await (const { address, state } of states.cut(seq, `task/${jobId}/`)) {
    tasks.push({
      state: state as State,
      task: (state as State).context as TaskContext,
      place: placeOf(address),
    });
    if (tasks.length >= limit) break;
  }
  return tasks.sort((a, b) => a.place - b.place);
}

const placeOf = (address: Address): number => indexOfTask(address.slice("task/".length) as TaskId);

/** Places in the job of the tasks whose output it takes: of its one source, or of the parts that it is mounted of. */
export function sourcesOf({ source }: TaskContext): readonly number[] {
  const { parts = [source] } = source as { readonly parts?: readonly object[] };
  return [...new Set(parts.flatMap((part) => "index" in part ? [part.index as number] : []))];
}
