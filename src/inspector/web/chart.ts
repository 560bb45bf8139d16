import type { Chart, ChartArrow, ChartState, ChartWay, Taken } from "../charts.ts";
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

const isAlong = ({ from, to }: ChartWay, arrow: ChartArrow): boolean => arrow.from === from && arrow.to === to;

/** The name of an event on its machine's chart: without the machine's own. */
const shortEvent = ({ id }: Chart, { event }: ChartArrow): string =>
  event === "" ? "at once" : event.startsWith(`${id}.`) ? event.slice(id.length + 1) : event;

export const wayText = ({ event, guard }: Pick<ChartArrow, "event" | "guard">): string =>
  `${event || "at once"}${guard === "" ? "" : ` if ${guard}`}`;

/** The states of a machine and the ways between them, with their events; what was taken is lit. */
export function drawChart(chart: Chart, lit: Lit = {}): SVGElement {
  const { id, width, height, states, ways } = chart;
  const taken = (way: ChartWay): boolean => lit.taken?.some((arrow) => isAlong(way, arrow)) === true;
  // What it heard and stayed where it was leads along no way: it stands in the state.
  const stayed = lit.taken?.find(({ from, to }) => to === undefined || to === from);
  return svg(
    "svg",
    {
      class: "chart",
      role: lit.linkOf === undefined ? "img" : "group",
      "aria-label": `Chart of the machine ${id}${lit.state === undefined ? "" : `, in ${lit.state}`}${
        lit.taken === undefined || lit.taken.length === 0 ? "" : `, by ${lit.taken.map(wayText).join(", then ")}`
      }`,
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
    },
    states.map((state) => drawState(chart, state, lit, stayed)),
    ways.toSorted((a, b) => Number(taken(a)) - Number(taken(b))).map((way) => drawWay(chart, way, lit)),
  );
}

function drawState(chart: Chart, state: ChartState, lit: Lit, stayed: Taken | undefined): SVGElement {
  const { path, name, description, isInitial, isFinal, isOuter, x, y, width, height } = state;
  const isLit = lit.state !== undefined && isWithin(lit.state, path);
  const isHere = path === lit.state && stayed !== undefined;
  const count = lit.counts?.get(path);
  const middle = isOuter ? y + 18 : y + height / 2 + (isHere ? -2.5 : 4.5);
  const href = isOuter || path === "" ? undefined : lit.linkOf?.(path);
  return svg(
    href === undefined ? "g" : "a",
    {
      class: `state${isLit ? " lit" : ""}${isOuter ? " outer" : ""}${isFinal ? " final" : ""}${
        path === "" ? " anywhere" : ""
      }`,
      href,
    },
    svg("title", {}, `${path || "In any state"}${isLit ? " (it is here)" : ""}. ${description}`),
    svg("rect", { x, y, width, height, rx: 8 }),
    isFinal && svg("rect", { x: x + 3, y: y + 3, width: width - 6, height: height - 6, rx: 5, class: "inner" }),
    isInitial && svg("circle", { cx: x + 14, cy: middle - 4.5, r: 3.5, class: "initial" }),
    svg("text", { x: x + (isInitial ? 25 : 12), y: middle }, name),
    isHere && svg("text", { x: x + 12, y: middle + 14, class: "stayed" }, `↻ ${cut(shortEvent(chart, stayed), 16)}`),
    count !== undefined && count > 0 &&
      svg("text", { x: x + width - 10, y: middle, class: "count", "text-anchor": "end" }, count.toLocaleString("en")),
  );
}

function drawWay(chart: Chart, way: ChartWay, lit: Lit): SVGElement {
  const taken = lit.taken?.filter((arrow) => isAlong(way, arrow)) ?? [];
  const says = chart.arrows.filter((arrow) => isAlong(way, arrow)).map(wayText).join(", ");
  const now = new Set(taken.map((arrow) => shortEvent(chart, arrow)));
  return svg(
    "g",
    { class: `way${taken.length > 0 ? " taken" : ""}` },
    svg("title", {}, `${way.from || "any state"} → ${way.to}: ${taken.map(wayText).join(", then ") || says}`),
    svg("path", { d: lineOf(way.line), class: "touch" }),
    svg("path", { d: lineOf(way.line), class: "line" }),
    svg("path", { class: "head", d: headOf(way.line) }),
    way.texts.map(({ text, x, y }) => svg("text", { x, y, class: now.has(text) && "now" }, text)),
  );
}

type Point = readonly [x: number, y: number];
const bow = 6;

/** Its corners are round. */
function lineOf(points: readonly Point[]): string {
  const towards = ([x, y]: Point, [toX, toY]: Point): Point => {
    const length = Math.hypot(toX - x, toY - y);
    const part = length === 0 ? 0 : Math.min(bow, length / 2) / length;
    return [x + (toX - x) * part, y + (toY - y) * part];
  };
  return points.map((point, place) => {
    const [before, after] = [points[place - 1], points[place + 1]];
    if (before === undefined) return `M${point.join(" ")}`;
    if (after === undefined) return `L${point.join(" ")}`;
    return `L${towards(point, before).join(" ")}Q${point.join(" ")} ${towards(point, after).join(" ")}`;
  }).join("");
}

/** At its end, in the direction of its last part. */
function headOf(points: readonly Point[]): string {
  const [[fromX, fromY], [x, y]] = points.slice(-2) as [Point, Point];
  if (fromX === x) return y > fromY ? `M${x} ${y}l-4.500 -8h9z` : `M${x} ${y}l-4.500 8h9z`;
  return x > fromX ? `M${x} ${y}l-8 -4.500v9z` : `M${x} ${y}l8 -4.500v9z`;
}
