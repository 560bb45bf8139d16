import { clockTime, duration, shortName } from "./words.ts";
import { type Child, h } from "./dom.ts";
import { linkTo } from "./place.ts";

/** What pages are put together from. */

export const link = (hash: string, ...text: readonly Child[]): HTMLElement => h("a", { href: hash }, ...text);

/** The page of an actor, by its address; a member's address is but said. */
export function placeOfActor(address: string, at?: number): string | undefined {
  if (address.startsWith("job/")) return linkTo("job", address.slice(4), { at });
  if (address.startsWith("worker/")) return linkTo("worker", address.slice(7), { at });
  return /^task\/|^scheduler$/.test(address) ? linkTo("actor", address, { at }) : undefined;
}
export function actorLink(address: string, at?: number): HTMLElement {
  const href = placeOfActor(address, at);
  const attributes = { class: "address", title: address };
  return href === undefined
    ? h("span", attributes, shortName(address))
    : h("a", { ...attributes, href }, shortName(address));
}

/** A state's name with a mark and a colour; the text alone says it. */
export const badge = (state: string): HTMLElement =>
  h("span", { class: `badge is-${state.split(".").at(-1)!.toLowerCase()}` }, state.replace(/^active\./, ""));

/** A sentence of the cluster's: the times in it as this reader's clock has them. */
export const sentence = (text: string): Child =>
  text.split(/([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,12}Z)/).map((part, place) =>
    place % 2 === 0 || Number.isNaN(Date.parse(part)) ? part : time(Date.parse(part), true)
  );

export const time = (atMs: number, isExact = false): HTMLElement =>
  h("time", { datetime: new Date(atMs).toISOString(), title: clockTime(atMs) }, clockTime(atMs, Date.now(), isExact));

export const table = (
  caption: string,
  head: readonly string[],
  rows: readonly (readonly Child[])[],
  none = "None.",
): HTMLElement =>
  h(
    "div",
    { class: "scroll card", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
      h(
        "tbody",
        {},
        rows.length === 0
          ? h("tr", {}, h("td", { colspan: head.length, class: "empty" }, none))
          : rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))),
      ),
    ),
  );

/** Small facts beside each other: a name and what it is. */
export const facts = (pairs: readonly (readonly [name: string, value: Child] | false | undefined)[]): HTMLElement =>
  h(
    "dl",
    { class: "facts" },
    pairs.map((pair) =>
      pair !== false && pair !== undefined && h("div", {}, h("dt", {}, pair[0]), h("dd", {}, pair[1]))
    ),
  );

/** @param id of its heading, by which the section is named. */
export const section = (id: string, title: Child, ...content: readonly Child[]): HTMLElement =>
  h("section", { "aria-labelledby": id, "data-key": `section-${id}` }, h("h2", { id }, title), ...content);

export const scrolls = (name: string, ...content: readonly Child[]): HTMLElement =>
  h("div", { class: "scroll card", tabindex: 0, role: "region", "aria-label": name }, ...content);

export const empty = (title: string, ...text: readonly Child[]): HTMLElement =>
  h("div", { class: "card nothing" }, h("p", {}, h("b", {}, title)), text.length > 0 && h("p", {}, ...text));

/** Choices of which one is chosen, each a link. */
export const chips = (
  name: string,
  choices: readonly { readonly href: string; readonly text: Child; readonly isChosen: boolean }[],
): HTMLElement =>
  h(
    "nav",
    { class: "chips", "aria-label": name },
    choices.map(({ href, text, isChosen }) => h("a", { href, "aria-current": isChosen && "true" }, text)),
  );

/** How far something is, in parts of several colours that stand for `parts` of `all`. */
export function progress(
  all: number,
  parts: readonly { readonly state: string; readonly count: number }[],
): HTMLElement {
  const said = parts.filter(({ count }) => count > 0).map(({ state, count }) => `${count} ${state}`).join(", ");
  return h(
    "div",
    { class: "progress", role: "img", "aria-label": `${said || "nothing settled"}, of ${all}`, title: said },
    parts.map(({ state, count }) =>
      count > 0 && h("span", { class: `is-${state}`, vars: { "--part": `${count / all * 100}%` } })
    ),
  );
}

/** How long it takes, or took; of what goes on now it goes on too. @param endMs undefined: it goes on. */
export const took = (fromMs: number, endMs: number | undefined, nowMs: number, isNow: boolean): HTMLElement =>
  h(
    "span",
    { "data-since": isNow && endMs === undefined && fromMs },
    duration(Math.max(0, (endMs ?? nowMs) - fromMs)),
  );
/** To be called each second. */
export function tick(nowMs: number): void {
  for (const one of document.querySelectorAll<HTMLElement>("[data-since]")) {
    one.textContent = duration(Math.max(0, nowMs - Number(one.dataset["since"])));
  }
}

export const formValues = (event: Event): Record<string, string> => {
  event.preventDefault();
  const entries = [...new FormData(event.target as HTMLFormElement)] as [string, string][];
  return Object.fromEntries(entries.map(([name, value]) => [name, value.trim()]).filter(([, value]) => value !== ""));
};

/** Goes to another address of the page. */
export const go = (hash: string): void => void (location.hash = hash);
