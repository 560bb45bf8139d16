import type { TaskTimeline } from "../routes.ts";
import { type Child, h } from "./dom.ts";
import { linkTo } from "./place.ts";
import { duration } from "./words.ts";

/** Where the time of each task went. */

const steps = [1, 2, 5];
const unitsMs = [1, 10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 36_000_000, 86_400_000];

/** Marks on an axis, at most `most`, at round times from its beginning. Pure. */
export function ticksOf(spanMs: number, most: number): readonly number[] {
  const all = unitsMs.flatMap((unit) => steps.map((step) => unit * step)).sort((a, b) => a - b);
  const stepMs = all.find((step) => spanMs / step <= most) ?? Math.ceil(spanMs / most);
  return Array.from({ length: Math.floor(spanMs / stepMs) + 1 }, (_, place) => place * stepMs);
}

export function drawTimeline({ rows }: TaskTimeline, nowMs: number, at: number | undefined): Child {
  const spans = rows.flatMap((row) => row.spans);
  if (spans.length === 0) return h("p", { class: "faint" }, "Nothing has begun.");
  const fromMs = spans.reduce((least, { fromMs }) => Math.min(least, fromMs), Infinity);
  const toMs = spans.reduce((most, { toMs }) => Math.max(most, toMs), fromMs + 1);
  const part = (ms: number): number => (ms - fromMs) / (toMs - fromMs) * 100;
  return h(
    "div",
    { class: "card timeline" },
    h(
      "div",
      { class: "legend" },
      (["queued", "checkout", "run", "capture"] as const).map((name) =>
        h("span", { class: "key" }, h("i", { class: `span-${name}` }), name)
      ),
      h("span", { class: "faint" }, `${duration(toMs - fromMs)} in all${nowMs <= toMs ? ", so far" : ""}`),
    ),
    h(
      "div",
      { class: "lines", tabindex: 0, role: "list", "aria-label": "Where the time of each task went" },
      h(
        "div",
        { class: "axis", "aria-hidden": "true" },
        h("span"),
        h(
          "div",
          { class: "track" },
          ticksOf(toMs - fromMs, 8).filter((ms) => part(fromMs + ms) < 94).map((ms) =>
            h("span", { vars: { "--start": `${part(fromMs + ms)}%` } }, ms === 0 ? "0" : duration(ms))
          ),
        ),
      ),
      rows.map(({ taskId, name, spans }) =>
        h(
          "div",
          { class: "line", role: "listitem" },
          h("a", { href: linkTo("actor", `task/${taskId}`, { at }), title: name }, name),
          h(
            "div",
            {
              class: "track",
              role: "img",
              "aria-label": spans.map(({ says, fromMs, toMs }) => `${says}: ${duration(toMs - fromMs)}`).join("; ") ||
                "nothing yet",
            },
            spans.map(({ name, fromMs, toMs, says }) =>
              h("span", {
                class: `span-${name}`,
                title: `${says}: ${duration(toMs - fromMs)}`,
                vars: { "--start": `${part(fromMs)}%`, "--width": `${part(toMs) - part(fromMs)}%` },
              })
            ),
          ),
        )
      ),
    ),
  );
}
