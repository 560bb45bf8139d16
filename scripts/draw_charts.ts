import elk, { type ElkExtendedEdge, type ElkNode } from "elkjs/lib/elk.bundled.js";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AnyStateMachine, AnyStateNode, AnyTransitionDefinition } from "xstate";
import { nameOf, pathOf } from "../src/inspector/chart_nodes.ts";
import type { Chart, ChartArrow, ChartState, ChartWay } from "../src/inspector/charts.ts";
import { jobMachine } from "../src/machines/job.ts";
import { schedulerMachine } from "../src/machines/scheduler.ts";
import { taskMachine } from "../src/machines/task.ts";
import { workerMachine } from "../src/machines/worker.ts";
import { root } from "./run_program.ts";

/**
 * Lays out the charts of the inspector's page from the machines' own definitions, by ELK, and keeps them in the
 * repository: the page and the gateway have the positions, and not the 1.6 MB that find them. Part of `deno task machines`.
 */
const file = "src/inspector/charts_drawn.ts";
const machines: readonly AnyStateMachine[] = [schedulerMachine, jobMachine, taskMachine, workerMachine];

const stateWidth = 138;
const stateHeight = 38;
const characterWidth = 6.7;
const lineHeight = 14;
const margin = 10;

/** Layers from above to below; each arrow has room for the names of its events beside it. */
const layout: Readonly<Record<string, string>> = {
  "elk.algorithm": "layered",
  "elk.direction": "DOWN",
  "elk.hierarchyHandling": "INCLUDE_CHILDREN",
  "elk.edgeRouting": "ORTHOGONAL",
  "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.layered.edgeLabels.sideSelection": "ALWAYS_DOWN",
  "elk.layered.thoroughness": "80",
  "elk.layered.spacing.nodeNodeBetweenLayers": "13",
  "elk.layered.spacing.edgeNodeBetweenLayers": "11",
  "elk.layered.spacing.edgeEdgeBetweenLayers": "8",
  "elk.spacing.nodeNode": "14",
  "elk.spacing.edgeEdge": "9",
  "elk.spacing.edgeNode": "9",
  "elk.spacing.edgeLabel": "3",
  "elk.spacing.labelLabel": "0",
};
const outer = { "elk.padding": "[top=28,left=10,bottom=10,right=10]" };

export const children = (node: AnyStateNode): readonly AnyStateNode[] =>
  Object.values(node.states as Readonly<Record<string, AnyStateNode>>).sort((a, b) => a.order - b.order);
export const descendants = (node: AnyStateNode): readonly AnyStateNode[] =>
  children(node).flatMap((child) => [child, ...descendants(child)]);

function arrowsOf(node: AnyStateNode): readonly ChartArrow[] {
  const all = [...(node.always ?? []), ...[...node.transitions.values()].flat()] as readonly AnyTransitionDefinition[];
  return all.filter(({ actions, target }) => actions.length > 0 || target !== undefined).map((one) => {
    const to = (one.target as readonly AnyStateNode[] | undefined)?.[0];
    return {
      from: pathOf(node),
      ...(to === undefined ? {} : { to: pathOf(to) }),
      event: one.eventType,
      guard: one.guard === undefined ? "" : nameOf(one.guard),
    };
  });
}

/** "placed" of a task's own "task.placed"; an arrow without an event is taken at once. */
const textOf = (machine: AnyStateMachine, { event }: ChartArrow): string =>
  event === "" ? "at once" : event.startsWith(`${machine.id}.`) ? event.slice(machine.id.length + 1) : event;

async function chartOf(machine: AnyStateMachine): Promise<Chart> {
  const states = descendants(machine.root);
  const arrows = [machine.root, ...states].flatMap(arrowsOf);
  const between = new Map<string, ChartArrow[]>();
  for (const arrow of arrows) {
    if (arrow.to === undefined || arrow.to === arrow.from) continue;
    const key = `${arrow.from} → ${arrow.to}`;
    between.set(key, [...between.get(key) ?? [], arrow]);
  }
  const ways = [...between.values()];
  const nodeOf = (node: AnyStateNode): ElkNode =>
    children(node).length === 0
      ? { id: pathOf(node), width: stateWidth, height: stateHeight }
      : { id: pathOf(node), layoutOptions: outer, children: children(node).map(nodeOf) };
  const hasAnywhere = ways.some(([first]) => first!.from === "");
  const found: ElkNode = await new elk.default().layout({
    id: "all",
    layoutOptions: layout,
    children: [
      // What is heard in every state comes from a box that stands for them all.
      ...(hasAnywhere ? [{ id: "anywhere", width: stateWidth, height: 26 }] : []),
      ...children(machine.root).map(nodeOf),
    ],
    edges: ways.map((those, place) => ({
      id: String(place),
      sources: [those[0]!.from || "anywhere"],
      targets: [those[0]!.to!],
      labels: [...new Set(those.map((arrow) => textOf(machine, arrow)))].map((text) => ({
        text,
        width: Math.ceil(text.length * characterWidth),
        height: lineHeight,
      })),
    })),
  });

  const round = (value: number): number => Math.round(value + margin);
  const at = new Map<string, { readonly x: number; readonly y: number; readonly node: ElkNode }>();
  const edges: ElkExtendedEdge[] = [];
  const visit = (node: ElkNode, x: number, y: number): void => {
    const here = { x: x + (node.x ?? 0), y: y + (node.y ?? 0), node };
    at.set(node.id, here);
    edges.push(...node.edges ?? []);
    for (const child of node.children ?? []) visit(child, here.x, here.y);
  };
  visit(found, 0, 0);
  const boxOf = (id: string) => {
    const { x, y, node } = at.get(id)!;
    const [left, top] = [round(x), round(y)];
    return { x: left, y: top, width: round(x + node.width!) - left, height: round(y + node.height!) - top };
  };
  const wayOf = (edge: ElkExtendedEdge): ChartWay => {
    const [first] = ways[Number(edge.id)]!;
    const { x, y } = at.get((edge as { readonly container?: string }).container ?? "all")!;
    const section = edge.sections![0]!;
    const points = [section.startPoint, ...section.bendPoints ?? [], section.endPoint];
    return {
      from: first!.from,
      to: first!.to!,
      line: points.map((point) => [round(x + point.x), round(y + point.y)] as const),
      texts: (edge.labels ?? []).map(({ text, x: left, y: top }) => ({
        text: text!,
        x: round(x + left!),
        y: round(y + top! + lineHeight - 4),
      })),
    };
  };
  const initial = new Set(
    [machine.root, ...states].filter((node) => children(node).length > 0).map((node) =>
      pathOf((node.initial.target as readonly AnyStateNode[])[0]!)
    ),
  );
  return {
    id: machine.id,
    width: round(found.width!) + margin,
    height: round(found.height!) + margin,
    states: [
      ...(hasAnywhere
        ? [{
          path: "",
          name: "in any state",
          description: "",
          isInitial: false,
          isFinal: false,
          isOuter: false,
          ...boxOf("anywhere"),
        }]
        : []),
      ...states.map((node): ChartState => ({
        path: pathOf(node),
        name: node.key,
        description: node.description ?? "",
        isInitial: initial.has(pathOf(node)),
        isFinal: node.type === "final",
        isOuter: children(node).length > 0,
        ...boxOf(pathOf(node)),
      })),
    ],
    arrows,
    ways: edges.sort((a, b) => Number(a.id) - Number(b.id)).map(wayOf),
  };
}

async function textOfAll(): Promise<string> {
  const charts = await Promise.all(machines.map(chartOf));
  const list = (name: string, items: readonly unknown[]): string =>
    `    ${name}: [\n${items.map((item) => `      ${JSON.stringify(item)},\n`).join("")}    ],\n`;
  return `// Made by \`deno task machines\` from src/machines/.
import type { Chart } from "./charts.ts";

export const drawn: Readonly<Record<string, Chart>> = {
${
    charts.map(({ id, width, height, states, arrows, ways }) =>
      `  ${id}: {\n    id: "${id}",\n    width: ${width},\n    height: ${height},\n${list("states", states)}${
        list("arrows", arrows)
      }${list("ways", ways)}  },\n`
    ).join("")
  }};
`;
}

export const drawCharts = async (): Promise<void> => writeFileSync(join(root, file), await textOfAll());

export async function checkCharts(): Promise<readonly string[]> {
  return readFileSync(join(root, file), "utf8") === await textOfAll()
    ? []
    : [`${file} is not what the machines are: run deno task machines`];
}
