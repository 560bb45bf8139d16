import type { ActorLine } from "../actors.ts";
import { inspect } from "./data.ts";
import { h } from "./dom.ts";
import { badge, chips, formValues, go, link, placeOfActor, table, time } from "./parts.ts";
import { linkTo } from "./place.ts";
import type { Page } from "./shown.ts";

const kinds = ["task", "job", "worker", "scheduler"] as const;

/** Actors found by what they are. */
export const actorsPage: Page = async ({ query, at }) => {
  const values = Object.fromEntries(
    ["kind", "job", "state", "requestor", "label", "after"].map((name) => [name, query.get(name) || undefined]),
  );
  const kind = values["kind"] ?? "task";
  const found = await inspect("actors", { ...values, kind, at });
  const field = (name: string, title: string, hint: string): HTMLElement =>
    h("label", {}, `${title} `, h("input", { name, value: values[name] ?? "", placeholder: hint, size: 22 }));
  return {
    title: "Actors",
    moment: found.moment,
    watch: kind === "scheduler" ? [kind] : [`${kind}/`],
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, "Actors"),
        chips(
          "Kind",
          kinds.map((one) => ({
            href: linkTo("actors", "", { at, query: { kind: one } }),
            text: one === "scheduler" ? "Scheduler" : `${one[0]!.toUpperCase()}${one.slice(1)}s`,
            isChosen: one === kind,
          })),
        ),
        h(
          "div",
          { class: "buttons" },
          h("a", { class: "button", href: linkTo("machine", kind, { at }) }, "Chart with counts"),
        ),
      ),
      h(
        "form",
        {
          class: "bar",
          submit: (event: Event) => {
            const given = formValues(event);
            // A whole address leads to its actor.
            const whole = placeOfActor(given["id"] ?? "", at);
            if (whole !== undefined) return go(linkTo("actor", given["id"], { at }));
            go(linkTo("actors", "", { at, query: { ...given, kind } }));
          },
        },
        h("label", {}, "Address ", h("input", { name: "id", placeholder: "task/j01…/0", size: 28 })),
        kind === "task" && field("job", "Job", "j01…"),
        field("state", "State", kind === "task" ? "active.running" : ""),
        (kind === "task" || kind === "job") && [
          field("requestor", "Requestor", "exactly"),
          field("label", kind === "job" ? "Tag" : "Name", "some of it"),
        ],
        h("button", {}, "Find"),
      ),
      table(
        "Actors",
        ["Actor", "State", "Why", "Requestor", "Since"],
        found.actors.map((one: ActorLine) => [
          [
            link(linkTo("actor", one.address, { at }), one.address),
            one.label !== undefined && h("span", { class: "small" }, ` ${one.label}`),
          ],
          badge(one.state),
          one.why,
          one.requestor ?? "",
          time(one.atMs),
        ]),
        found.next === undefined ? "There is no such actor at this moment." : "None among those looked at.",
      ),
      found.next !== undefined &&
      h(
        "p",
        { class: "more" },
        link(linkTo("actors", "", { at, query: { ...values, kind, after: found.next } }), "More actors"),
      ),
    ],
  };
};
