/** The page's whole view layer: elements made from data, text always as text. */

export type Child = Node | string | number | undefined | false | readonly Child[];
type Attributes = Readonly<Record<string, unknown>>;

const svgSpace = "http://www.w3.org/2000/svg";

function fill(element: Element, attributes: Attributes, children: readonly Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  const add = (child: Child): void => {
    if (child === undefined || child === false) return;
    if (Array.isArray(child)) child.forEach(add);
    else element.append(child instanceof Node ? child : String(child));
  };
  children.forEach(add);
}

/** An element. An attribute that is a function listens to the event of its name. */
export function h(tag: string, attributes: Attributes = {}, ...children: readonly Child[]): HTMLElement {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

export function svg(tag: string, attributes: Attributes = {}, ...children: readonly Child[]): SVGElement {
  const element = document.createElementNS(svgSpace, tag);
  fill(element, attributes, children);
  return element as SVGElement;
}

export const table = (
  caption: string,
  head: readonly string[],
  rows: readonly (readonly Child[])[],
): HTMLElement =>
  h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
      h(
        "tbody",
        {},
        rows.length === 0
          ? h("tr", {}, h("td", { colspan: head.length, class: "faint" }, "None."))
          : rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))),
      ),
    ),
  );

/** A state's name, with a mark and a colour; the text alone says it. */
export const badge = (state: string): HTMLElement =>
  h("span", { class: `badge is-${state.split(".").at(-1)!.toLowerCase()}` }, state);

export const duration = (ms: number): string =>
  ms < 1_000
    ? `${Math.round(ms)} ms`
    : ms < 60_000
    ? `${(ms / 1_000).toFixed(1)} s`
    : ms < 3_600_000
    ? `${Math.floor(ms / 60_000)} min ${Math.round(ms % 60_000 / 1_000)} s`
    : `${(ms / 3_600_000).toFixed(1)} h`;

export const clockTime = (atMs: number): string => {
  const at = new Date(atMs);
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${
    two(at.getMinutes())
  }:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
};
export const time = (atMs: number): HTMLElement =>
  h("time", { datetime: new Date(atMs).toISOString() }, clockTime(atMs));
