import type { Chart, ChartArrow, Taken } from "../charts.ts";
import { type Box, compactOf, type Way } from "./compact.ts";
import { svg } from "./dom.ts";
import { cut } from "./graph.ts";

/** What of a machine is lit. */
export interface Lit {
  /** "active.running": it and what it is within. */
  readonly state?: string | undefined;
  /** The arrows that led there. */
  readonly taken?: readonly Taken[];
  /** How many actors are in each state. */
  readonly counts?: ReadonlyMap<string, number>;
  /** Where a state leads to when it is chosen. */
  readonly linkOf?: (state: string) => string;
}

const isWithin = (state: string, outer: string): boolean =>
  outer !== "" && (state === outer || state.startsWith(`${outer}.`));

const isTaken = (lit: Lit, { from, to, event, guard }: Taken): boolean =>
  lit.taken?.some((one) => one.from === from && one.to === to && one.event === event && one.guard === guard) === true;

export const wayText = ({ event, guard }: Pick<ChartArrow, "event" | "guard">): string =>
  `${event || "at once"}${guard === "" ? "" : ` if ${guard}`}`;

/** The states of a machine and the ways between them; what was taken is named. */
export function drawChart(chart: Chart, lit: Lit = {}): SVGElement {
  const { width, height, boxes, ways } = compactOf(chart);
  const taken = (way: Way): boolean => way.arrows.some((arrow) => isTaken(lit, arrow));
  // The name of a way that was taken stands beside its lane.
  const room = ways.some((way) => way.head.to === "left" && taken(way)) ? 150 : 8;
  return svg(
    "svg",
    {
      class: "chart",
      role: lit.linkOf === undefined ? "img" : "group",
      "aria-label": `Chart of the machine ${chart.id}${lit.state === undefined ? "" : `, in ${lit.state}`}`,
      viewBox: `0 0 ${width + room} ${height}`,
      width: width + room,
      height,
    },
    boxes.map((box) => drawBox(chart, box, lit)),
    ways.toSorted((a, b) => Number(taken(a)) - Number(taken(b))).map((way) => drawWay(way, taken(way), lit)),
  );
}

function drawBox({ id }: Chart, { state, x, y, width, height }: Box, lit: Lit): SVGElement {
  const { path, name, description, isInitial, isFinal, isOuter } = state;
  const isLit = lit.state !== undefined && isWithin(lit.state, path);
  const count = lit.counts?.get(path);
  const middle = isOuter ? y + 19 : y + height / 2 + 4.5;
  const textX = x + (isInitial ? 30 : 16);
  const href = isOuter ? undefined : lit.linkOf?.(path);
  return svg(
    href === undefined ? "g" : "a",
    {
      class: `state${isLit ? " lit" : ""}${isOuter ? " outer" : ""}${isFinal ? " final" : ""}`,
      href,
    },
    svg("title", {}, `${path || id}${isLit ? " (it is here)" : ""}. ${description}`),
    svg("rect", { x, y, width, height, rx: 9 }),
    isFinal && svg("rect", { x: x + 3, y: y + 3, width: width - 6, height: height - 6, rx: 6, class: "inner" }),
    isInitial && svg("circle", { cx: x + 17, cy: middle - 4.5, r: 4, class: "initial" }),
    svg("text", { x: textX, y: middle }, path === "" ? "in any state" : name),
    count !== undefined && count > 0 &&
      svg("text", { x: x + width - 14, y: middle, class: "count", "text-anchor": "end" }, count.toLocaleString("en")),
  );
}

function drawWay({ from, to, arrows, line, head, text }: Way, isNow: boolean, lit: Lit): SVGElement {
  const named = isNow ? arrows.filter((arrow) => isTaken(lit, arrow)) : arrows;
  const says = named.map(wayText).join(", ");
  const short = cut(
    named.length > 1 ? `${named[0]!.event || "at once"} +${named.length - 1}` : named[0]!.event || "at once",
    26,
  );
  const label = isNow || head.to === "down";
  return svg(
    "g",
    { class: `way${isNow ? " taken" : ""}` },
    svg("title", {}, `${from || "any state"} → ${to}: ${says}`),
    svg("path", { d: line, class: "touch" }),
    svg("path", { d: line, class: "line" }),
    svg("path", {
      class: "head",
      d: head.to === "down" ? `M${head.x} ${head.y}l-4.500 -8h9z` : `M${head.x} ${head.y}l8 -4.500v9z`,
    }),
    label && svg("text", { x: text.x, y: text.y }, short),
  );
}

/** Every event and guard of a machine, in rows beside its states: for whoever wants to read all of it. */
export function drawWhole({ id, width, height, states, arrows }: Chart): SVGElement {
  return svg(
    "svg",
    {
      class: "chart whole",
      role: "img",
      "aria-label": `All that the machine ${id} hears`,
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
    },
    states.filter((state) => state.path !== "" || arrows.some(({ from }) => from === "")).map((state) =>
      svg(
        "g",
        { class: `state${state.isOuter ? " outer" : ""}` },
        svg("title", {}, `${state.path || id}. ${state.description}`),
        svg("rect", { x: state.x, y: state.y, width: state.width, height: state.height, rx: 8 }),
        state.isInitial && svg("circle", { cx: state.x + 11, cy: state.y + 15, r: 3.5, class: "initial" }),
        svg("text", { x: state.x + 20, y: state.y + 20 }, state.name),
      )
    ),
    arrows.map(({ from, to, event, guard, x, y, line }) => {
      const end = line.at(-1);
      return svg(
        "g",
        { class: "way" },
        svg(
          "title",
          {},
          `${from || "in any state"}: ${event || "at once"} ${to === undefined ? "stays" : `leads to ${to}`}`,
        ),
        svg(
          "text",
          { x, y: y + 4 },
          `${event || "at once"}${guard === "" ? "" : ` [${guard}]`}${to === undefined ? " ↻" : ""}`,
        ),
        line.length > 0 && svg("polyline", { class: "line", points: line.map((point) => point.join(",")).join(" ") }),
        end !== undefined && svg("path", { d: `M${end[0]} ${end[1]}l7 -3.500v7z`, class: "head" }),
      );
    }),
  );
}
