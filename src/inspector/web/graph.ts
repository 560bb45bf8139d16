import type { TaskGraph } from "../routes.ts";
import { h, svg } from "./dom.ts";
import { depths, layered } from "./layers.ts";
import { linkTo } from "./place.ts";

/** Beyond so many tasks a drawing of each is no drawing any more: then it is told by columns. */
const drawnMax = 300;
const sizes = { nodeWidth: 168, nodeHeight: 44, gapX: 46, gapY: 14 };

type Node = TaskGraph["nodes"][number];
export const stateOf = ({ state, result }: Node): string => result ?? state;

export function drawGraph(graph: TaskGraph, at: number | undefined): SVGElement | HTMLElement {
  return graph.nodes.length > drawnMax ? columnsOf(graph, at) : treeOf(graph, at);
}

function treeOf({ nodes, edges }: TaskGraph, at: number | undefined): SVGElement {
  const ids = nodes.map(({ place }) => String(place));
  const drawn = layered(ids, edges.map(([from, to]) => ({ from: String(from), to: String(to) })), sizes);
  const nodeOf = new Map(nodes.map((node) => [String(node.place), node]));
  return svg(
    "svg",
    {
      class: "graph",
      role: "group",
      "aria-label": "Tasks; from each to those that take its output",
      viewBox: `0 0 ${drawn.width} ${drawn.height}`,
      width: drawn.width,
      height: drawn.height,
    },
    drawn.edges.map(({ from, line }) => svg("path", { class: `edge is-${stateOf(nodeOf.get(from)!)}`, d: line })),
    drawn.nodes.map(({ id, x, y }) => {
      const node = nodeOf.get(id)!;
      const state = stateOf(node);
      const says = node.isCached ? `${state}, cached` : state;
      return svg(
        "a",
        {
          class: `node is-${state}`,
          href: linkTo("actor", `task/${node.taskId}`, { at }),
        },
        svg("title", {}, `${node.name}: ${says}`),
        svg("rect", { x, y, width: sizes.nodeWidth, height: sizes.nodeHeight, rx: 8 }),
        svg("circle", { cx: x + 15, cy: y + 16, r: 4.5, class: "mark" }),
        svg("text", { x: x + 27, y: y + 20, class: "name" }, cut(node.name, 20)),
        svg("text", { x: x + 27, y: y + 35, class: "says" }, says),
      );
    }),
  );
}

export const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length - 1)}…`;

/** How many of each state in each column, of a graph that is too big to be drawn. */
function columnsOf({ nodes, edges, more }: TaskGraph, at: number | undefined): HTMLElement {
  const depth = depths(
    nodes.map(({ place }) => String(place)),
    edges.map(([from, to]) => ({ from: String(from), to: String(to) })),
  );
  const columns: Node[][] = [];
  for (const node of nodes) (columns[depth.get(String(node.place))!] ??= []).push(node);
  return h(
    "ol",
    { class: "columns-of-tasks" },
    columns.map((column, place) => {
      const counts = new Map<string, Node[]>();
      for (const node of column) counts.set(stateOf(node), [...counts.get(stateOf(node)) ?? [], node]);
      return h(
        "li",
        {},
        h("b", {}, place === 0 ? "Needs nothing" : place === 1 ? "Needs those" : `Step ${place + 1}`),
        [...counts].map(([state, those]) =>
          h(
            "a",
            { class: `badge is-${state}`, href: linkTo("actor", `task/${those[0]!.taskId}`, { at }) },
            `${those.length} ${state}`,
          )
        ),
      );
    }),
    more > 0 && h("li", { class: "faint" }, `${more.toLocaleString("en")} more tasks are not counted here`),
  );
}
