import { type AnyStateMachine, type AnyStateNode, type AnyTransitionDefinition, getMicrosteps } from "xstate";
import { jobMachine } from "../machines/job.ts";
import { schedulerMachine } from "../machines/scheduler.ts";
import { alive, type Live, type State } from "../machines/step.ts";
import { taskMachine } from "../machines/task.ts";
import { workerMachine } from "../machines/worker.ts";

/**
 * The machines as drawings, from their own definitions. States stand below each other, in the order in which they are
 * reached; what a state may hear stands in rows beside it, and from each row a line runs in a lane of its own to the state
 * that it leads to. So no two texts and no two lanes ever meet, and no position is chosen by hand.
 */
export interface Chart {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly states: readonly ChartState[];
  readonly arrows: readonly ChartArrow[];
}

export interface ChartState {
  /** "active.running"; "" is the machine itself, which has a box when it hears something in every state. */
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
  /** Where its text begins. */
  readonly x: number;
  readonly y: number;
  /** Of its line: along the row, then in its lane to the state that it leads to, and to that one's edge. */
  readonly line: readonly (readonly [x: number, y: number])[];
}

const rowHeight = 20;
const headHeight = 30;
const indent = 18;
const gap = 14;
const stateWidth = 150;
const textX = 16;
const laneWidth = 11;
const characterWidth = 6.6;

const children = (node: AnyStateNode): readonly AnyStateNode[] =>
  Object.values(node.states as Readonly<Record<string, AnyStateNode>>);
const pathOf = (node: AnyStateNode): string => node.path.join(".");
const nameOf = (thing: unknown): string =>
  typeof thing === "string"
    ? thing
    : typeof thing === "object" && thing !== null && "type" in thing
    ? String(thing.type)
    : "";

interface Heard {
  readonly event: string;
  readonly guard: string;
  readonly to: AnyStateNode | undefined;
}

function heardBy(node: AnyStateNode): readonly Heard[] {
  const all = [...(node.always ?? []), ...[...node.transitions.values()].flat()] as readonly AnyTransitionDefinition[];
  return all.filter(({ actions, target }) => actions.length > 0 || target !== undefined).map((one) => ({
    event: one.eventType,
    guard: one.guard === undefined ? "" : nameOf(one.guard),
    to: (one.target as readonly AnyStateNode[] | undefined)?.[0],
  }));
}

/** A state's siblings in the order in which they are reached from the first; those never reached come last. */
function inReach(parent: AnyStateNode): readonly AnyStateNode[] {
  const all = children(parent);
  const within = (target: AnyStateNode): AnyStateNode | undefined =>
    all.find((one) => target === one || pathOf(target).startsWith(`${pathOf(one)}.`));
  const leads = (node: AnyStateNode): readonly AnyStateNode[] =>
    [node, ...descendants(node)].flatMap(heardBy).flatMap(({ to }) => to === undefined ? [] : within(to) ?? []);
  const order: AnyStateNode[] = [];
  const visit = (node: AnyStateNode): void => {
    if (order.includes(node)) return;
    order.push(node);
    for (const next of leads(node)) if (next.type !== "final") visit(next);
  };
  const first = parent.initial.target[0] as AnyStateNode;
  visit(within(first) ?? first);
  return [...order, ...all.filter((one) => !order.includes(one))];
}
const descendants = (node: AnyStateNode): readonly AnyStateNode[] =>
  children(node).flatMap((child) => [child, ...descendants(child)]);

export function chartOf(machine: AnyStateMachine): Chart {
  const states: ChartState[] = [];
  const rows: (Heard & { readonly from: string; readonly x: number; readonly y: number })[] = [];
  const depthOf = (node: AnyStateNode): number =>
    children(node).length === 0 ? 0 : 1 + Math.max(...children(node).map(depthOf));
  const right = 10 + depthOf(machine.root) * indent + stateWidth;

  /** @returns where the next may begin. */
  const place = (node: AnyStateNode, x: number, top: number, isInitial: boolean): number => {
    const heard = heardBy(node);
    const inner = children(node);
    const at = states.length;
    let y = top + headHeight;
    for (const one of heard) {
      rows.push({ ...one, from: pathOf(node), x: right + textX, y: y + rowHeight / 2 - 6 });
      y += rowHeight;
    }
    const isOuter = inner.length > 0;
    if (isOuter) {
      const first = node.initial.target[0] as AnyStateNode;
      for (const child of inReach(node)) y = place(child, x + indent, y, child === first) + gap;
    }
    const box: ChartState = {
      path: pathOf(node),
      name: node === machine.root ? machine.id : node.key,
      description: node.description ?? "",
      isInitial,
      isFinal: node.type === "final",
      isOuter,
      x,
      y: top,
      width: right - x,
      height: Math.max(headHeight, y - top - (isOuter ? gap - 8 : 0)),
    };
    states.splice(at, 0, box);
    return box.y + box.height;
  };
  const height = place(machine.root, 10, 10, false) + 10;
  const boxOf = new Map(states.map((state) => [state.path, state]));

  const textWidth = ({ event, guard }: Heard): number =>
    ((event || "at once").length + (guard === "" ? 0 : guard.length + 3) + 2) * characterWidth;
  const laneX = right + textX + Math.max(0, ...rows.map(textWidth)) + 12;
  // Short lines have the inner lanes, and lines to one state share a lane: they lead to one place.
  const lanes = [...new Set(rows.flatMap(({ to }) => to === undefined ? [] : [pathOf(to)]))].sort((a, b) =>
    boxOf.get(a)!.y - boxOf.get(b)!.y
  );
  const arrows = rows.map(({ from, to, event, guard, x, y }): ChartArrow => {
    const label = { from, event, guard, x, y };
    if (to === undefined) return { ...label, line: [] };
    const target = boxOf.get(pathOf(to))!;
    const lane = laneX + lanes.indexOf(pathOf(to)) * laneWidth;
    const start = x + textWidth({ event, guard, to });
    const end = target.y + headHeight / 2;
    return { ...label, to: target.path, line: [[start, y], [lane, y], [lane, end], [right + 4, end]] };
  });
  return { id: machine.id, width: Math.ceil(laneX + lanes.length * laneWidth + 10), height, states, arrows };
}

const machines: Readonly<Record<string, AnyStateMachine>> = Object.fromEntries(
  [schedulerMachine, jobMachine, taskMachine, workerMachine].map((machine) => [
    machine.id,
    machine as unknown as AnyStateMachine,
  ]),
);

/** Of the machines of a scheduler's actors, by kind. */
export const charts: Readonly<Record<string, Chart>> = Object.fromEntries(
  Object.entries(machines).map(([kind, machine]) => [kind, chartOf(machine)]),
);

/** An arrow of a chart, without where it is drawn. */
export type Taken = Pick<ChartArrow, "event" | "guard" | "to" | "from">;

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
