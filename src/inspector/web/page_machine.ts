import { inspect, Refusal } from "./data.ts";
import { drawChart } from "./chart.ts";
import { h } from "./dom.ts";
import { chartMermaid, exportButtons } from "./export.ts";
import { machines } from "./machines.ts";
import { chips, scrolls, section, table } from "./parts.ts";
import { linkTo } from "./place.ts";
import type { Page } from "./shown.ts";
import { count } from "./words.ts";

/** Of the states of one kind of actor, how many are in each. */
export const countsOf = (states: Readonly<Record<string, number>>, kind: string): Map<string, number> =>
  new Map(
    Object.entries(states).filter(([key]) => key.startsWith(`${kind}/`)).map(([key, count]) => [
      key.slice(kind.length + 1),
      count,
    ]),
  );

/** A machine, and how many actors are where on it. */
export const machinePage: Page = async ({ subject, at }) => {
  const [all, found] = await Promise.all([machines(), inspect("overview", { at })]);
  const chart = all[subject];
  if (chart === undefined) throw new Refusal("ROUTE_UNKNOWN", `There is no machine "${subject}".`);
  const counts = countsOf(found.states, subject);
  const whole = [...counts.values()].reduce((sum, one) => sum + one, 0);
  return {
    title: `Machine ${subject}`,
    moment: found.moment,
    isPart: !found.isCounted,
    watch: subject === "scheduler" ? ["scheduler"] : [`${subject}/`],
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, `The ${subject} machine`),
        chips(
          "Machine",
          Object.keys(all).map((kind) => ({
            href: linkTo("machine", kind, { at }),
            text: kind,
            isChosen: kind === subject,
          })),
        ),
        h(
          "div",
          { class: "buttons" },
          exportButtons(
            `${subject}-machine`,
            () => document.querySelector<SVGElement>("svg.chart"),
            () => chartMermaid(chart),
          ),
        ),
      ),
      h(
        "div",
        { class: "columns" },
        section(
          "chart",
          found.isCounted ? `${count(whole)} ${subject}${whole === 1 ? "" : "s"}, by state` : "By state: being counted",
          scrolls(
            "Chart",
            drawChart(chart, {
              counts,
              linkOf: (state) => linkTo("actors", "", { at, query: { kind: subject, state } }),
            }),
          ),
          subject === "task" &&
            h("p", { class: "faint" }, "Tasks that have settled are not counted: there is no end to those."),
        ),
        section(
          "states",
          "What the states mean",
          table(
            "States",
            ["State", "Meaning"],
            chart.states.filter(({ path }) => path !== "").map((
              { path, description },
            ) => [h("code", { class: "nowrap" }, path), description]),
          ),
        ),
      ),
      section(
        "whole",
        "All that it hears",
        h("p", { class: "faint" }, "Of several for one event, the first whose guard holds is taken."),
        table(
          "All that the machine hears",
          ["In", "Hears", "If", "Becomes"],
          chart.arrows.map(({ from, event, guard, to }) => [
            h("code", { class: "nowrap" }, from || "any state"),
            event === "" ? h("span", { class: "faint" }, "at once") : h("code", {}, event),
            h("code", {}, guard),
            to === undefined || to === from
              ? h("span", { class: "faint" }, "it stays")
              : h("code", { class: "nowrap" }, to),
          ]),
        ),
      ),
    ],
  };
};
