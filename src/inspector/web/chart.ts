import type { Chart, ChartState, Taken } from "../charts.ts";
import { svg } from "./dom.ts";

/** What of a machine is lit. */
export interface Lit {
  /** "active.running": it and what it is within. */
  readonly state?: string;
  /** The arrows that led there. */
  readonly taken?: readonly Taken[];
  /** How many actors are in each state. */
  readonly counts?: ReadonlyMap<string, number>;
}

const isWithin = (state: string, outer: string): boolean => state === outer || state.startsWith(`${outer}.`);

export function drawChart({ id, width, height, states, arrows }: Chart, lit: Lit = {}): SVGElement {
  const isActive = ({ path }: ChartState): boolean =>
    path !== "" && lit.state !== undefined && isWithin(lit.state, path);
  const box = (state: ChartState): SVGElement => {
    const { path, name, description, isInitial, isFinal, isOuter, x, y, width, height } = state;
    const count = lit.counts?.get(path);
    return svg(
      "g",
      { class: `state${isActive(state) ? " lit" : ""}${isOuter ? " outer" : ""}` },
      svg("title", {}, `${path || id}${isActive(state) ? " (now)" : ""}. ${description}`),
      svg("rect", { x, y, width, height, rx: 7 }),
      isFinal && svg("rect", { x: x + 3, y: y + 3, width: width - 6, height: height - 6, rx: 5 }),
      isInitial && svg("circle", { cx: x + 10, cy: y + 15, r: 3.5, class: "initial" }),
      svg("text", { x: x + 18, y: y + 20 }, count === undefined ? name : `${name}: ${count}`),
    );
  };
  const isTaken = ({ from, to, event, guard }: Taken): boolean =>
    lit.taken?.some((one) => one.from === from && one.to === to && one.event === event && one.guard === guard) === true;
  return svg(
    "svg",
    {
      class: "chart",
      role: "img",
      "aria-label": `Chart of the machine ${id}${lit.state === undefined ? "" : `, in ${lit.state}`}`,
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      xmlns: "http://www.w3.org/2000/svg",
    },
    states.filter((state) => state.path !== "" || arrows.some(({ from }) => from === "")).map(box),
    // What was taken is drawn over the others.
    [...arrows].sort((a, b) => Number(isTaken(a)) - Number(isTaken(b))).map((arrow) => {
      const { from, to, event, guard, x, y, line } = arrow;
      const [end] = line.slice(-1);
      return svg(
        "g",
        { class: `arrow${isTaken(arrow) ? " taken" : ""}` },
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
        line.length > 0 && svg("polyline", { points: line.map((point) => point.join(",")).join(" ") }),
        end !== undefined && svg("path", { d: `M${end[0]} ${end[1]}l7 -3.5v7z`, class: "head" }),
      );
    }),
  );
}
