import type { Bounds, Moment } from "../moments.ts";
import { type Child, h, render, svg } from "./dom.ts";
import { linkTo, type Place } from "./place.ts";
import { clockTime, momentMeant } from "./words.ts";

/** What of the page's moment is shown at its foot, where one goes back and forth. */
export interface TimeShown {
  readonly place: Place;
  readonly bounds: Bounds;
  readonly moment: Moment;
  /** Entries at which what is shown changed, on both sides of the moment. */
  readonly previousSeq?: number | undefined;
  readonly nextSeq?: number | undefined;
}

const dragMs = 120;

const arrow = (path: string): SVGElement =>
  svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, svg("path", { d: path }));
const icons = {
  previous: "M3 3h2v10H3zM13 3v10L6 8z",
  back: "M11.500 3v10L4.500 8z",
  forward: "M4.500 3v10l7-5z",
  next: "M11 3h2v10h-2zM3 3v10l7-5z",
};

export const addressAt = ({ page, subject, query }: Place, at: number | undefined): string =>
  linkTo(page, subject, { at, query: Object.fromEntries(query) });

/** @param seqAt the entry at a time. */
export function timeBar(bar: HTMLElement, seqAt: (atMs: number) => Promise<number>) {
  let shown: TimeShown | undefined;
  let dragged: ReturnType<typeof setTimeout> | undefined;
  const bounded = (seq: number): number => Math.min(shown!.bounds.last.seq, Math.max(shown!.bounds.first.seq, seq));
  const goTo = (at: number | undefined): void => void (location.hash = addressAt(shown!.place, at));

  function drag(slider: HTMLInputElement, isEnd: boolean): void {
    clearTimeout(dragged);
    const hash = addressAt(shown!.place, Number(slider.value));
    // While it is dragged the page follows, without a place in the browser's history for each stop.
    if (isEnd) {
      if (location.hash === hash) return;
      return void (location.hash = hash);
    }
    bar.querySelector("output")!.replaceChildren(`Entry ${slider.value}`);
    dragged = setTimeout(() => location.replace(hash), dragMs);
  }

  async function jump(event: Event): Promise<void> {
    event.preventDefault();
    const box = bar.querySelector<HTMLInputElement>("input[name=when]")!;
    const meant = momentMeant(box.value, Date.now());
    box.setCustomValidity(meant === undefined ? 'Such as "13:42", "2026-11-24 13:42", "5m" ago, "#482" or "now"' : "");
    if (meant === undefined) return void box.reportValidity();
    try {
      const at = meant === "now" ? undefined : "seq" in meant ? meant.seq : await seqAt(meant.atMs);
      box.value = "";
      box.blur();
      goTo(at === undefined ? undefined : bounded(at));
    } catch (error) {
      box.setCustomValidity((error as Error).message);
      box.reportValidity();
    }
  }

  /** The address of what is seen now, which stays what it is. */
  async function copyLink(button: HTMLElement): Promise<void> {
    const { place, moment } = shown!;
    const address = `${location.origin}${location.pathname}${addressAt(place, place.at ?? moment.seq)}`;
    try {
      await navigator.clipboard.writeText(address);
      button.replaceChildren("Copied");
    } catch {
      goTo(moment.seq); // where a page may not write to the clipboard, the address bar has it
      return;
    }
    setTimeout(() => button.replaceChildren("Copy link"), 1_500);
  }

  const step = (name: keyof typeof icons, seq: number | undefined, says: string): HTMLElement =>
    h("button", {
      "data-key": name,
      class: "step",
      title: says,
      "aria-label": says,
      disabled: seq === undefined || seq < shown!.bounds.first.seq || seq > shown!.bounds.last.seq,
      click: () => goTo(seq),
    }, arrow(icons[name]));

  function draw(): void {
    const { place: { at }, bounds: { first, last }, moment, previousSeq, nextSeq } = shown!;
    const isNow = at === undefined;
    document.body.dataset["when"] = isNow ? "now" : "past";
    const says = `Entry ${moment.seq}, ${clockTime(moment.atMs)}`;
    const part = (moment.seq - first.seq) / Math.max(1, last.seq - first.seq);
    const content: Child[] = [
      h(
        "div",
        { class: "steps", role: "group", "aria-label": "Steps" },
        step("previous", previousSeq, "The step before, of what is shown"),
        step("back", moment.seq - 1, "One entry back"),
        step("forward", isNow ? undefined : moment.seq + 1, "One entry forward"),
        step("next", nextSeq, "The next step of what is shown"),
      ),
      h("input", {
        "id": "moment",
        "data-key": "slider",
        "type": "range",
        "min": first.seq,
        "max": last.seq,
        "value": moment.seq,
        "vars": { "--part": `${part * 100}%` },
        "aria-label": "Moment, as the number of an entry",
        "aria-valuetext": says,
        "title": `Kept: from entry ${first.seq}, ${clockTime(first.atMs)}, to entry ${last.seq}, ${
          clockTime(last.atMs)
        }`,
        "input": (event: Event) => drag(event.target as HTMLInputElement, false),
        "change": (event: Event) => drag(event.target as HTMLInputElement, true),
      }),
      h(
        "output",
        { for: "moment" },
        isNow
          ? [
            h("b", {}, "Now"),
            h("span", { class: "faint" }, ` · last entry ${moment.seq}, ${clockTime(moment.atMs, Date.now())}`),
          ]
          : [
            "As it was at ",
            h("b", {}, clockTime(moment.atMs, Date.now())),
            h("span", { class: "faint" }, ` · entry ${moment.seq}`),
          ],
      ),
      h(
        "form",
        { class: "jump", submit: (event: Event) => void jump(event) },
        h("input", {
          "name": "when",
          "data-key": "when",
          "placeholder": "13:42, 5m, #482",
          "aria-label": "Go to a moment: a time, how long ago, or an entry",
          "autocomplete": "off",
          "size": 16,
          "input": (event: Event) => (event.target as HTMLInputElement).setCustomValidity(""),
        }),
      ),
      h("button", {
        "data-key": "link",
        "title": "Copy a link to this page at this moment",
        "click": (event: Event) => void copyLink(event.currentTarget as HTMLElement),
      }, "Copy link"),
      h(
        "button",
        {
          "data-key": "now",
          "class": isNow ? "live" : "main",
          "aria-pressed": isNow ? "true" : "false",
          "title": isNow ? "Hold this moment" : "Follow what happens",
          "click": () => goTo(isNow ? moment.seq : undefined),
        },
        h("span", { class: "dot" }),
        isNow ? "Live" : "Go to now",
      ),
    ];
    render(bar, ...content);
    const slider = bar.querySelector<HTMLInputElement>("#moment")!;
    if (slider !== document.activeElement || !slider.matches(":active")) slider.value = String(moment.seq);
  }

  return {
    show(next: TimeShown): void {
      shown = next;
      draw();
    },
    clear(): void {
      shown = undefined;
      bar.replaceChildren();
    },
    /** As the buttons do. */
    press(name: "previous" | "back" | "forward" | "next" | "now"): void {
      bar.querySelector<HTMLButtonElement>(`[data-key="${name}"]:not(:disabled)`)?.click();
    },
    focusJump: (): void => bar.querySelector<HTMLInputElement>("input[name=when]")?.focus(),
  };
}
