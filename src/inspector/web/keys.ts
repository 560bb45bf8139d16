import { openDialog } from "./dialog.ts";
import { h } from "./dom.ts";

/** What a key does; they are off while something is written, and for whoever turned them off. */
export interface Shortcut {
  readonly key: string;
  readonly does: string;
  act(): void;
}

const offKey = "scoot-actors.keys";
const areOff = (): boolean => localStorage.getItem(offKey) === "off";
const isWritten = (target: EventTarget | null): boolean =>
  target instanceof Element &&
  target.closest("input:not([type=range]):not([type=checkbox]), select, textarea, dialog") !== null;

export function listenToKeys(shortcuts: readonly Shortcut[]): void {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isWritten(event.target)) return;
    if (areOff() && event.key !== "?") return;
    const found = shortcuts.find(({ key }) => key === event.key);
    if (found === undefined) return;
    event.preventDefault();
    found.act();
  });
}

export function showKeys(shortcuts: readonly Shortcut[]): void {
  openDialog("Keys", (close) => [
    h(
      "dl",
      { class: "keys" },
      shortcuts.map(({ key, does }) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, does))),
      h("div", {}, h("dt", {}, h("kbd", {}, "Tab")), h("dd", {}, "the next control; Enter takes it")),
    ),
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "checkbox",
        checked: !areOff(),
        change: (event: Event) =>
          localStorage.setItem(offKey, (event.target as HTMLInputElement).checked ? "on" : "off"),
      }),
      " Single keys do this",
    ),
    h("p", { class: "buttons" }, h("button", { click: close, autofocus: true }, "Close")),
  ]);
}
