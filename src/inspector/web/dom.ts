/** The page's whole view layer: elements made from data, text always as text, and what is there brought up to date. */

export type Child = Node | string | number | undefined | false | readonly Child[];
export type Attributes = Readonly<Record<string, unknown>>;
type Listener = (event: Event) => void;

const svgSpace = "http://www.w3.org/2000/svg";
const listeners = new WeakMap<EventTarget, Map<string, Listener>>();
const dispatch: Listener = (event) => listeners.get(event.currentTarget!)?.get(event.type)?.(event);

function listen(element: Element, name: string, listener: Listener): void {
  let own = listeners.get(element);
  if (own === undefined) listeners.set(element, own = new Map());
  if (!own.has(name)) element.addEventListener(name, dispatch);
  own.set(name, listener);
}

function fill(element: Element, attributes: Attributes, children: readonly Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") listen(element, name, value as Listener);
    else if (name === "vars") {
      // By script: the page's policy lets no attribute "style" through.
      for (const [key, text] of Object.entries(value as Record<string, string | number>)) {
        (element as HTMLElement).style.setProperty(key, String(text));
      }
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  const add = (child: Child): void => {
    if (child === undefined || child === false) return;
    if (Array.isArray(child)) child.forEach(add);
    else element.append(child instanceof Node ? child : String(child));
  };
  children.forEach(add);
}

/**
 * An element. An attribute that is a function listens to the event of its name; `vars` are custom properties of its style;
 * `data-key` makes it the same one when its list is shown again in another order.
 */
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

/** What has a life of its own on the page, such as a list that is scrolled: it is told what is new, and not made anew. */
export interface Widget<Options> {
  readonly element: HTMLElement;
  update(options: Options): void;
}

interface Place {
  readonly options: unknown;
  readonly make: (options: never) => Widget<never>;
}
const places = new WeakMap<Element, Place>();
const mounted = new WeakMap<Element, Widget<never>>();

/** @param key of what it shows: another key is another widget. */
export function widget<Options>(
  key: string,
  options: Options,
  make: (options: Options) => Widget<Options>,
): HTMLElement {
  const holder = h("div", { "data-widget": key });
  places.set(holder, { options, make });
  return holder;
}

function mount(root: Node): void {
  if (!(root instanceof Element)) return;
  const holders = [...root.querySelectorAll("[data-widget]")];
  if (root.hasAttribute("data-widget")) holders.push(root);
  for (const holder of holders) {
    const place = places.get(holder);
    if (place === undefined || mounted.has(holder)) continue;
    const made = place.make(place.options as never);
    mounted.set(holder, made);
    holder.append(made.element);
  }
}

const keyOf = (node: Node): string | undefined =>
  node instanceof Element ? node.getAttribute("data-key") ?? node.getAttribute("data-widget") ?? undefined : undefined;

/** What a reader does to an element himself stays as he left it. */
const isReaders = (element: Element, name: string): boolean =>
  (name === "open" && element.localName === "details") || (name === "value" && element === document.activeElement);

function patchElement(old: Element, next: Element): void {
  const place = places.get(next);
  if (place !== undefined) return mounted.get(old)?.update(place.options as never);
  const given = old.getAttribute("value");
  for (const { name } of [...old.attributes]) {
    if (name !== "style" && !next.hasAttribute(name) && !isReaders(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (name !== "style" && old.getAttribute(name) !== value && !isReaders(old, name)) old.setAttribute(name, value);
  }
  const value = next.getAttribute("value");
  if (old instanceof HTMLInputElement && value !== given && !isReaders(old, "value")) old.value = value ?? "";
  const [was, is] = [(old as HTMLElement).style, (next as HTMLElement).style];
  if (was.cssText !== is.cssText) was.cssText = is.cssText;
  const wanted = listeners.get(next);
  for (const [name, listener] of wanted ?? []) listen(old, name, listener);
  for (const name of listeners.get(old)?.keys() ?? []) if (wanted?.has(name) !== true) listen(old, name, () => {});
  patch(old, [...next.childNodes]);
}

const isSame = (old: Node, next: Node): boolean =>
  old.nodeType === next.nodeType && old.nodeName === next.nodeName && keyOf(old) === keyOf(next);

/**
 * Makes the children of an element be as given. What is of the same kind and key stays the same element: so focus, places
 * to which one has scrolled, selections and opened details outlive what is new.
 */
export function patch(parent: Element, children: readonly Node[]): void {
  const keyed = new Map<string, Node>();
  for (const child of parent.childNodes) {
    const key = keyOf(child);
    if (key !== undefined) keyed.set(key, child);
  }
  let at: Node | null = parent.firstChild;
  const removeAt = (): void => {
    const gone: Node = at!;
    at = gone.nextSibling;
    parent.removeChild(gone);
  };
  /** Without a key: the next one of its kind, before any that has one. */
  const nextLike = (next: Node): Node | null => {
    let old = at;
    while (old !== null && keyOf(old) === undefined && !isSame(old, next)) old = old.nextSibling;
    return old;
  };
  for (const next of children) {
    const key = keyOf(next);
    const old = key === undefined ? nextLike(next) : keyed.get(key) ?? null;
    if (old === null || !isSame(old, next)) {
      parent.insertBefore(next, at);
      mount(next);
      continue;
    }
    if (key === undefined) { while (at !== old) removeAt(); }
    if (old === at) at = at!.nextSibling;
    else parent.insertBefore(old, at);
    if (old instanceof Element) patchElement(old, next as Element);
    else if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
  }
  while (at !== null) removeAt();
}

/** {@link patch} with what pages are made of. */
export const render = (parent: Element, ...content: readonly Child[]): void =>
  patch(parent, [...h("div", {}, ...content).childNodes]);
