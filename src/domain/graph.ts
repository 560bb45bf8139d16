import { Fault } from "./fault.ts";

/** A task as far as its place in the job's graph goes. */
export interface GraphTask {
  readonly name: string;
  readonly input: { readonly kind: "task"; readonly task: string } | { readonly kind: "empty" | "snapshot" };
}

/** Of a cycle, so many names are told. */
const namesToldMax = 10;

/**
 * Checks that names differ, that inputs are tasks of the job and that no task waits for itself. Each task has at most one
 * input, so walking up from each finds every cycle; what was walked is not walked again.
 *
 * @throws {Fault} `JOB_INVALID` with the names.
 */
export function checkGraph(tasks: readonly GraphTask[]): void {
  const byName = new Map<string, GraphTask>();
  for (const task of tasks) {
    if (byName.has(task.name)) throw invalid(`two of its tasks are called "${task.name}": names must differ`);
    byName.set(task.name, task);
  }
  const ends = new Set<string>();
  for (const start of tasks) {
    const walked = new Set<string>();
    for (let task = start; !ends.has(task.name);) {
      if (walked.has(task.name)) throw invalid(`its tasks wait for each other: ${cycleOf([...walked], task.name)}`);
      walked.add(task.name);
      if (task.input.kind !== "task") break;
      const next = byName.get(task.input.task);
      if (next === undefined) {
        throw invalid(`task "${task.name}" takes the output of "${task.input.task}", which is no task of the job`);
      }
      task = next;
    }
    for (const name of walked) ends.add(name);
  }
}

function cycleOf(walked: readonly string[], again: string): string {
  const cycle = walked.slice(walked.indexOf(again));
  const told = cycle.length > namesToldMax ? [...cycle.slice(0, namesToldMax), "…"] : cycle;
  return [...told, again].join(" → ");
}

const invalid = (why: string): Fault => new Fault("JOB_INVALID", `Cannot accept the job as ${why}`);
