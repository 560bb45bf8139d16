import type { Hit } from "../routes.ts";
import { inspect } from "./data.ts";
import { type Child, h } from "./dom.ts";
import { badge, empty, go, link, table } from "./parts.ts";
import { linkTo } from "./place.ts";
import type { Page } from "./shown.ts";

const jobPattern = /^j[0-9a-z]{10}-[0-9a-z]{6}$/;

/** Ids, requestors, targets and commands, wherever a text is found in them. A whole id leads to what it names. */
export const searchPage: Page = async ({ query, at }) => {
  const text = query.get("text") ?? "";
  const [id = "", place] = text.replace(/^(job|task)\//, "").split("/");
  if (jobPattern.test(id)) {
    history.replaceState(null, "", location.pathname);
    go(place === undefined ? linkTo("job", id, { at }) : linkTo("actor", `task/${id}/${place}`, { at }));
  }
  const found = await inspect("search", { at, text, before: query.get("before") || undefined });
  return {
    title: `Search: ${text}`,
    moment: found.moment,
    // What is new is among the newest jobs, which the first page looks at.
    watch: query.get("before") === null ? ["job/"] : [],
    content: [
      h("h1", {}, "Found: ", h("q", {}, text)),
      found.hits.length === 0
        ? empty(
          found.next === undefined ? "Nothing has it." : "Nothing among the jobs looked at.",
          "Ids, requestors, bases, tags, targets, names and commands of tasks, and reasons are looked at.",
        )
        : table(
          "Found",
          ["State", "What", "In", "Text"],
          found.hits.map((hit) => [badge(hit.state), hitLink(hit, at), hit.in, marked(hit.text, text)]),
        ),
      found.next !== undefined &&
      h(
        "p",
        { class: "more" },
        link(linkTo("search", "", { at, query: { text, before: found.next } }), "Look among older jobs"),
      ),
    ],
  };
};

const hitLink = ({ jobId, taskId, name }: Hit, at: number | undefined): Child =>
  taskId === undefined
    ? link(linkTo("job", jobId, { at }), name || jobId)
    : [link(linkTo("actor", `task/${taskId}`, { at }), name), h("span", { class: "id" }, taskId)];

/** A text with what was looked for in it marked. */
export function marked(text: string, wanted: string): Child {
  const at = wanted === "" ? -1 : text.toLowerCase().indexOf(wanted.toLowerCase());
  if (at < 0) return text;
  return [text.slice(0, at), h("mark", {}, text.slice(at, at + wanted.length)), text.slice(at + wanted.length)];
}
