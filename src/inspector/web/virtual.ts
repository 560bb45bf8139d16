import { type Child, h, render, type Widget } from "./dom.ts";

/** The rows that are to be on the page, of however many there are. */
export interface Window {
  readonly from: number;
  /** Behind the last. */
  readonly to: number;
  /** Where the first one stands, in px. */
  readonly topPx: number;
  /** Of all of it. */
  readonly heightPx: number;
}

/** Browsers know no element higher than some 30 million px: what is longer is scrolled in larger steps. */
export const heightPxMax = 12_000_000;
const beyond = 12;
const againMs = 1_000;

/** Pure. @param scrollPx how far down one is. @param viewPx so much is seen at once. */
export function windowOf(count: number, rowPx: number, scrollPx: number, viewPx: number): Window {
  const wholePx = count * rowPx;
  const heightPx = Math.min(wholePx, heightPxMax);
  const seen = Math.ceil(viewPx / rowPx);
  const room = Math.max(1, heightPx - viewPx);
  const part = Math.min(1, Math.max(0, scrollPx / room));
  const isScaled = wholePx > heightPx;
  const first = isScaled ? Math.round(part * Math.max(0, count - seen)) : Math.floor(scrollPx / rowPx);
  const from = Math.max(0, Math.min(first, count) - beyond);
  const to = Math.min(count, first + seen + beyond);
  const topPx = isScaled ? Math.max(0, Math.min(heightPx, scrollPx) - (first - from) * rowPx) : from * rowPx;
  return { from, to, topPx, heightPx };
}

/** Where to scroll to, so that a row is at the top. */
export function scrollTo(count: number, rowPx: number, viewPx: number, row: number): number {
  const wholePx = count * rowPx;
  if (wholePx <= heightPxMax) return row * rowPx;
  return row / Math.max(1, count - Math.ceil(viewPx / rowPx)) * (heightPxMax - viewPx);
}

export interface Rows<Row> {
  readonly name: string;
  readonly count: number;
  readonly rowPx: number;
  /** Of the box in which it is scrolled. */
  readonly viewPx: number;
  readonly className?: string;
  readonly head?: Child;
  /** What is here already; undefined: it is asked for. */
  readonly rowAt: (place: number) => Row | undefined;
  readonly draw: (row: Row, place: number) => HTMLElement;
  /** Brings rows, so that `rowAt` has them. It is asked for one stretch at a time; a failure is tried again in a while. */
  readonly bring?: (from: number, to: number) => Promise<void>;
  /** Stay at its end as it grows. */
  readonly isFollowing?: boolean;
  readonly onScroll?: (isAtEnd: boolean) => void;
  /** Show this row, once. */
  readonly wanted?: number | undefined;
}

/** A list of any length of which the page has but what is seen. */
export function virtualRows<Row>(first: Rows<Row>): Widget<Rows<Row>> {
  let rows = first;
  let wanted: number | undefined;
  const body = h("div", { class: "rows", role: "presentation" });
  const room = h("div", { class: "room", role: "presentation" }, body);
  const view = h("div", { class: "view", tabindex: 0, role: "list" }, room);
  const head = h("div", { class: "rows-head", "aria-hidden": "true" });
  const element = h("div", { class: "virtual" }, head, view);
  let queued = false;
  let isBringing = false;
  let brought = "";

  function draw(): void {
    queued = false;
    const { count, rowPx, name, className = "" } = rows;
    const viewPx = Math.min(rows.viewPx, Math.max(rowPx, count * rowPx));
    element.className = `virtual ${className}`;
    view.setAttribute("aria-label", name);
    view.style.setProperty("--view", `${viewPx + 2}px`);
    const before = windowOf(count, rowPx, view.scrollTop, viewPx);
    room.style.setProperty("--height", `${before.heightPx}px`);
    if (rows.isFollowing === true) view.scrollTop = before.heightPx;
    if (rows.wanted !== undefined && rows.wanted !== wanted) {
      wanted = rows.wanted;
      view.scrollTop = scrollTo(count, rowPx, viewPx, Math.max(0, wanted - 5));
    }
    const { from, to, topPx } = windowOf(count, rowPx, view.scrollTop, viewPx);
    body.style.setProperty("--top", `${topPx}px`);
    const shown: HTMLElement[] = [];
    let missing = false;
    for (let place = from; place < to; place++) {
      const row = rows.rowAt(place);
      missing ||= row === undefined;
      const made = row === undefined
        ? h("div", { class: "line faint" }, h("span", { class: "number" }, String(place + 1)), "…")
        : rows.draw(row, place);
      made.setAttribute("role", "listitem");
      made.setAttribute("data-row", String(place));
      made.setAttribute("aria-setsize", String(count));
      made.setAttribute("aria-posinset", String(place + 1));
      made.style.setProperty("--row", `${rowPx}px`);
      shown.push(made);
    }
    render(body, shown);
    render(head, rows.head);
    if (missing) bring(from, to);
  }
  /** What was brought last and is missing still is not asked for again until there is something new. */
  function bring(from: number, to: number): void {
    if (rows.bring === undefined || isBringing || brought === `${from} ${to}`) return;
    isBringing = true;
    rows.bring(from, to).then(
      () => {
        isBringing = false;
        brought = `${from} ${to}`;
        soon();
      },
      () =>
        setTimeout(() => {
          isBringing = false;
          if (element.isConnected) soon();
        }, againMs),
    );
  }
  const soon = (): void => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  };
  view.addEventListener("scroll", () => {
    rows.onScroll?.(view.scrollTop + view.clientHeight >= view.scrollHeight - 4);
    soon();
  }, { passive: true });
  soon();
  return {
    element,
    update(next) {
      rows = next;
      brought = "";
      soon();
    },
  };
}
