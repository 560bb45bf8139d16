import { Fault } from "./fault.ts";

/** A task as far as its place in the job's graph goes. */
export interface GraphTask {
  readonly name: string;
  /** Names of the tasks whose outputs it is made of. */
  readonly needs: readonly string[];
}

/** Of a cycle, so many names are told. */
const namesToldMax = 10;

/**
 * Checks that names differ, that what is needed are tasks of the job and that no task waits for itself. Each task is
 * walked once, however many need it.
 *
 * @throws {Fault} `JOB_INVALID` with the names.
 */
export function checkGraph(tasks: readonly GraphTask[]): void {
  const byName = new Map<string, GraphTask>();
  for (const task of tasks) {
    if (byName.has(task.name)) throw invalid(`two of its tasks are called "${task.name}": names must differ`);
    byName.set(task.name, task);
  }
  const walked = new Set<string>();
  for (const start of tasks) {
    /** From the start on, each with how many of its needs were looked at. */
    const path: { readonly task: GraphTask; looked: number }[] = [];
    const onPath = new Set<string>();
    const enter = (task: GraphTask): void => {
      path.push({ task, looked: 0 });
      onPath.add(task.name);
    };
    if (!walked.has(start.name)) enter(start);
    for (let at = path.at(-1); at !== undefined; at = path.at(-1)) {
      const { task } = at;
      const need = task.needs[at.looked++];
      if (need === undefined) {
        walked.add(task.name);
        onPath.delete(task.name);
        path.pop();
        continue;
      }
      const next = byName.get(need);
      if (next === undefined) {
        throw invalid(`task "${task.name}" takes the output of "${need}", which is no task of the job`);
      }
      if (onPath.has(need)) {
        throw invalid(`its tasks wait for each other: ${cycleOf(path.map((one) => one.task.name), need)}`);
      }
      if (!walked.has(need)) enter(next);
    }
  }
}

function cycleOf(walked: readonly string[], again: string): string {
  const cycle = walked.slice(walked.indexOf(again));
  const told = cycle.length > namesToldMax ? [...cycle.slice(0, namesToldMax), "…"] : cycle;
  return [...told, again].join(" → ");
}

const invalid = (why: string): Fault => new Fault("JOB_INVALID", `Cannot accept the job as ${why}`);
