import { type Child, h } from "./dom.ts";

/** A question over the page, answered by a button, Escape or a click beside it; focus goes back to where it was. */
export function openDialog(
  title: string,
  content: (close: () => void) => readonly Child[],
): HTMLDialogElement {
  const before = document.activeElement as HTMLElement | null;
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }) as HTMLDialogElement;
  const close = (): void => dialog.close();
  dialog.append(h("h2", { id: "dialog-title" }, title), ...h("div", {}, content(close)).childNodes);
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export interface Question {
  readonly title: string;
  /** What follows from it. */
  readonly text: string;
  /** Of the button that does it. */
  readonly does: string;
  /** Asked for, with what is given if nothing is written. */
  readonly reason?: string;
  readonly isGrave?: boolean;
  /** Does it; what it throws is shown, and the question stays. */
  act(reason: string): Promise<void>;
}

export function confirm({ title, text, does, reason, isGrave, act }: Question): void {
  openDialog(title, (close) => {
    const wrong = h("p", { class: "wrong", role: "alert" });
    const button = h("button", { class: isGrave === true ? "grave" : "main" }, does) as HTMLButtonElement;
    const submit = async (event: Event): Promise<void> => {
      event.preventDefault();
      const given = String(new FormData(event.target as HTMLFormElement).get("reason") ?? "").trim();
      button.disabled = true;
      try {
        await act(given === "" ? reason ?? "" : given);
        close();
      } catch (error) {
        wrong.replaceChildren((error as Error).message);
        button.disabled = false;
      }
    };
    return [
      h("p", {}, text),
      h(
        "form",
        { submit: (event: Event) => void submit(event) },
        reason !== undefined &&
          h(
            "label",
            { class: "stacked" },
            "Why, for whoever asks later",
            h("input", { name: "reason", placeholder: reason, maxlength: 1_000, autofocus: true }),
          ),
        wrong,
        h("p", { class: "buttons" }, h("button", { type: "button", click: close }, "Leave it as it is"), button),
      ),
    ];
  });
}
