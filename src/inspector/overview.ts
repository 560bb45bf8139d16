import { type Address, nameOf, type WorkerId } from "../domain/ids.ts";
import { workerView } from "../machines/explain.ts";
import type { SchedulerContext } from "../machines/scheduler.ts";
import type { State } from "../machines/step.ts";
import type { WorkerContext } from "../machines/worker.ts";
import type { WorkerView } from "../protocol/client_messages.ts";
import { targetsOf } from "../scheduling/fairness.ts";
import { classifier } from "../scheduling/policy.ts";
import type { States } from "../snapshots/states/states.ts";
import { explainActor } from "./sentences.ts";
import { type Tally, tally } from "./tally.ts";

export interface WorkerLine extends WorkerView {
  readonly why: string;
  /** Of the tasks that it has, as many as fit: `busy` says how many there are. */
  readonly tasks: readonly string[];
}

export interface ClassLine {
  readonly name: string;
  /** Its part of all slots. */
  readonly percent: number;
  readonly queued: number;
  /** Slots that its tasks have. */
  readonly running: number;
  /** Slots that it should have by its percentage and floor, as it stands now. */
  readonly owed: number;
}

/** The whole cluster at a moment. */
export interface Overview {
  /** False while the tasks are counted for the first time, which takes seconds where there are many: ask again. */
  readonly isCounted: boolean;
  readonly scheduler?: { readonly state: string; readonly epoch: number; readonly why: string };
  readonly workers: readonly WorkerLine[];
  /** Beyond those listed. */
  readonly moreWorkers: number;
  readonly slots: { readonly all: number; readonly busy: number };
  readonly classes: readonly ClassLine[];
  /** Those with the most tasks queued or running. */
  readonly requestors: readonly { readonly name: string; readonly queued: number; readonly running: number }[];
  /** How many actors are in each state: "task/queued". */
  readonly states: Readonly<Record<string, number>>;
}

const workersMax = 1_000;
const requestorsMax = 20;
/** Named in all; of each worker at least one, when it has one. */
const tasksNamedMax = 4_000;
const tasksPerWorkerMax = 100;

/** @param counted undefined: not yet. */
export async function overview(states: States, seq: number, counted: Tally | undefined): Promise<Overview> {
  const counts = counted ?? tally();
  const held = new Map<string, Address[]>();
  for (const [task, worker] of counts.onWorker) {
    const those = held.get(worker);
    if (those === undefined) held.set(worker, [task]);
    else those.push(task);
  }
  const workers: WorkerLine[] = [];
  let moreWorkers = 0;
  let slots = 0;
  const perWorkerMax = Math.max(1, Math.min(tasksPerWorkerMax, Math.floor(tasksNamedMax / Math.max(1, held.size))));
  for await (const { address, state } of states.cut(seq, "worker/")) {
    const { workerId, slots: own } = (state as State).context as WorkerContext & { readonly workerId: WorkerId };
    const tasks = held.get(workerId) ?? [];
    if ((state as State).value === "present") slots += own;
    if (workers.length === workersMax) moreWorkers++;
    else {
      workers.push({
        ...workerView(state as State, tasks.length),
        why: explainActor(address, state as State),
        tasks: tasks.slice(0, perWorkerMax).map(nameOf),
      });
    }
  }
  const scheduler = await states.get("scheduler" as Address, seq);
  const all = [...counts.requestors].map(([name, count]) => ({ name, ...count }));
  return {
    isCounted: counted !== undefined,
    ...(scheduler === undefined ? {} : {
      scheduler: {
        state: String((scheduler.state as State).value),
        epoch: ((scheduler.state as State).context as SchedulerContext).epoch,
        why: explainActor(scheduler.address, scheduler.state as State),
      },
    }),
    workers,
    moreWorkers,
    slots: { all: slots, busy: counts.onWorker.size },
    classes: scheduler === undefined
      ? []
      : classesOf((scheduler.state as State).context as SchedulerContext, all, slots),
    requestors: all.sort((a, b) => b.queued + b.running - a.queued - a.running).slice(0, requestorsMax),
    states: Object.fromEntries(counts.states),
  };
}

function classesOf(
  { settings: { policy } }: SchedulerContext,
  requestors: readonly { readonly name: string; readonly queued: number; readonly running: number }[],
  slots: number,
): readonly ClassLine[] {
  const classOf = classifier(policy);
  const lines = policy.classes.map(({ name, percent }) => ({ name, percent, queued: 0, running: 0 }));
  for (const { name, queued, running } of requestors) {
    const line = lines[classOf(name)]!;
    line.queued += queued;
    line.running += running;
  }
  const loads = lines.map(({ percent, queued, running }, at) => ({
    percent,
    floor: policy.classes[at]!.floor,
    running,
    waiting: queued,
    owed: 0,
  }));
  const targets = targetsOf(slots, loads);
  return lines.map((line, at) => ({ ...line, owed: targets[at]! }));
}
