import { type AnyStateMachine, type AnyStateNode, type AnyTransitionDefinition, getMicrosteps } from "xstate";
import { jobMachine } from "../machines/job.ts";
import { schedulerMachine } from "../machines/scheduler.ts";
import { alive, type Live, type State } from "../machines/step.ts";
import { nameOf, pathOf } from "./chart_nodes.ts";
import { drawn } from "./charts_drawn.ts";
import { taskMachine } from "../machines/task.ts";
import { workerMachine } from "../machines/worker.ts";

/**
 * The machines as drawings, from their own definitions: a box for each state, and between two states one line, with the
 * events that lead along it. Where all of it stands was found when the package was made (charts_drawn.ts).
 */
export interface Chart {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly states: readonly ChartState[];
  /** All that is heard, in the order of the definition: of several for one event the first whose guard holds is taken. */
  readonly arrows: readonly ChartArrow[];
  readonly ways: readonly ChartWay[];
}

export interface ChartState {
  /** "active.running"; "" is any state, which has a box when something that is heard in every state leads elsewhere. */
  readonly path: string;
  readonly name: string;
  readonly description: string;
  readonly isInitial: boolean;
  readonly isFinal: boolean;
  /** Has states within. */
  readonly isOuter: boolean;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface ChartArrow {
  readonly from: string;
  /** Absent: it stays where it is. */
  readonly to?: string;
  /** "" is taken at once. */
  readonly event: string;
  readonly guard: string;
}

/** All arrows from one state to another one. */
export interface ChartWay {
  readonly from: string;
  readonly to: string;
  /** From the edge of a box to that of the other, each part straight down or across. */
  readonly line: readonly (readonly [x: number, y: number])[];
  /** Its events, each with where its text begins; the machine's own name before them is left out. */
  readonly texts: readonly { readonly text: string; readonly x: number; readonly y: number }[];
}

const machines: Readonly<Record<string, AnyStateMachine>> = Object.fromEntries(
  [schedulerMachine, jobMachine, taskMachine, workerMachine].map((machine) => [
    machine.id,
    machine as unknown as AnyStateMachine,
  ]),
);

/** Of the machines of a scheduler's actors, by kind. */
export const charts = drawn;

/** An arrow of a chart that was taken. */
export type Taken = ChartArrow;

/**
 * The arrows that a machine took upon an event, found by the machine itself: its guards are asked anew. First that of the
 * event, then those that were taken at once.
 *
 * @param before where it was; undefined: it was born, and took none.
 */
export function takenBy(kind: string, before: State | undefined, event: { readonly type: string }): readonly Taken[] {
  const machine = machines[kind];
  if (machine === undefined || before === undefined) return [];
  const was = alive(machine, before);
  const found = machine.getTransitionData(was, event) as readonly AnyTransitionDefinition[];
  const taken = found.map(takenOf);
  const steps = getMicrosteps(machine, was, event as never).map(([snapshot]) => snapshot as Live);
  for (const [place, next] of steps.slice(1).entries()) {
    const arrows = (steps[place]!._nodes as readonly AnyStateNode[]).flatMap((node) => node.always ?? []);
    const arrow = (arrows as readonly AnyTransitionDefinition[]).find(({ target }) =>
      target !== undefined && next._nodes.includes((target as readonly AnyStateNode[])[0]!)
    );
    if (arrow !== undefined) taken.push(takenOf(arrow));
  }
  return taken;
}

function takenOf({ source, target, eventType, guard }: AnyTransitionDefinition): Taken {
  const to = (target as readonly AnyStateNode[] | undefined)?.[0];
  return {
    from: pathOf(source),
    ...(to === undefined ? {} : { to: pathOf(to) }),
    event: eventType,
    guard: guard === undefined ? "" : nameOf(guard),
  };
}
