import type { Bounds } from "../moments.ts";
import { ask, Refusal, token } from "./data.ts";
import { type Child, clockTime, h } from "./dom.ts";
import {
  actorsPage,
  actorView,
  clusterPage,
  conversationPage,
  jobsPage,
  jobView,
  outputPage,
  type Shown,
} from "./pages.ts";
import { linkTo, type Place, placeOf } from "./place.ts";

/** The page: what the address says is asked and shown; while no moment is chosen, what is new is shown as it comes. */

const pages: Readonly<Record<string, (place: Place, signal: AbortSignal) => Promise<Shown>>> = {
  jobs: jobsPage,
  job: jobView,
  output: outputPage,
  actors: actorsPage,
  actor: actorView,
  cluster: clusterPage,
  conversation: conversationPage,
};
const lookMs = 500;

const main = document.getElementById("main")!;
const bar = document.getElementById("time")!;
const nav = document.getElementById("nav")!;
let stop = new AbortController();
let bounds: Bounds | undefined;
/** Of the last entry that is on the page. */
let shownSeq = -1;

const here = (): Place => placeOf(location.hash);
const addressAt = (at: number | undefined): string => {
  const { page, subject, query } = here();
  return linkTo(page, subject, { at, query: Object.fromEntries(query) });
};

function drawNav(): void {
  const { page, at } = here();
  const item = (name: string, text: string): HTMLElement =>
    h("a", { href: linkTo(name, "", { at }), "aria-current": name === page && "page" }, text);
  nav.replaceChildren(
    h("b", {}, "scoot-actors"),
    item("jobs", "Jobs"),
    item("cluster", "Cluster"),
    item("actors", "Actors"),
    item("conversation", "Conversation"),
  );
}

function drawTime({ moment, previousSeq, nextSeq }: Shown): void {
  const { first, last } = bounds!;
  const { at } = here();
  const focused = (document.activeElement as HTMLElement | null)?.dataset["control"];
  const label = h("output", { for: "moment" }, momentText(moment, at === undefined));
  const step = (control: string, name: string, seq: number | undefined, title: string): HTMLElement =>
    h("button", {
      "data-control": control,
      title,
      "aria-label": title,
      disabled: seq === undefined || seq < first.seq || seq > last.seq,
      click: () => void (location.hash = addressAt(seq)),
    }, name);
  const slider = h("input", {
    "id": "moment",
    "data-control": "slider",
    "type": "range",
    "min": first.seq,
    "max": last.seq,
    "value": moment.seq,
    "aria-label": "Moment, as the number of an entry",
    "aria-valuetext": `Entry ${moment.seq}, ${clockTime(moment.atMs)}`,
    "input": () => label.replaceChildren(`Entry ${slider.value}`),
    "change": () => void (location.hash = addressAt(Number(slider.value))),
  }) as HTMLInputElement;
  bar.replaceChildren(
    step("previous", "|◀", previousSeq, "The step before, of what is shown"),
    step("back", "◀", moment.seq - 1, "One entry back"),
    slider,
    step("forward", "▶", moment.seq + 1, "One entry forward"),
    step("next", "▶|", nextSeq, "The next step of what is shown"),
    h("button", {
      "data-control": "now",
      "aria-pressed": at === undefined ? "true" : "false",
      click: () => void (location.hash = addressAt(at === undefined ? moment.seq : undefined)),
    }, at === undefined ? "Live" : "Go to now"),
    label,
  );
  if (focused !== undefined) bar.querySelector<HTMLElement>(`[data-control="${focused}"]`)?.focus();
}
const momentText = ({ seq, atMs }: { seq: number; atMs: number }, isNow: boolean): string =>
  `${isNow ? "Now: entry" : "Entry"} ${seq}, ${clockTime(atMs)}`;

/** @param isFresh the reader has gone to another place: what is new of the same one leaves focus and place alone. */
async function show(isFresh: boolean): Promise<void> {
  if (isFresh) {
    stop.abort();
    stop = new AbortController();
  }
  const place = here();
  const { signal } = stop;
  drawNav();
  const render = pages[place.page];
  try {
    if (render === undefined) throw new Refusal("ROUTE_UNKNOWN", `There is no page "${place.page}".`);
    const [found, shown] = await Promise.all([ask<Bounds>("/v1/inspect/bounds"), render(place, signal)]);
    if (signal.aborted) return;
    bounds = found;
    shownSeq = shown.moment.seq;
    document.title = `${shown.title} · scoot-actors`;
    const focused = (document.activeElement as HTMLAnchorElement | null)?.getAttribute("href");
    replace(shown.content);
    drawTime(shown);
    if (isFresh && !bar.contains(document.activeElement)) main.focus({ preventScroll: true });
    else if (focused) main.querySelector<HTMLElement>(`a[href="${CSS.escape(focused)}"]`)?.focus();
    if (shown.isPart) setTimeout(() => !signal.aborted && void show(false), lookMs);
    main.dataset["shown"] = location.hash;
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Refusal && error.code === "TOKEN_INVALID") return askToken();
    if (isFresh || !(error instanceof Refusal && error.code === "PEER_UNREACHABLE")) refuse(error as Error);
  }
}

const replace = (content: readonly Child[]): void => main.replaceChildren(...h("div", {}, content).childNodes);
const refuse = (error: Error): void =>
  replace([h("h1", {}, "That cannot be shown"), h("p", { role: "alert", class: "why" }, error.message)]);

function askToken(): void {
  bar.replaceChildren();
  replace([
    h("h1", {}, "The cluster's token, please"),
    h(
      "p",
      {},
      "It is in the file ",
      h("code", {}, "token"),
      " of the cluster's data folder, such as ~/.local/state/scoot-actors/token. This browser keeps it.",
    ),
    h(
      "form",
      {
        class: "bar",
        submit(event: Event) {
          event.preventDefault();
          token.set(String(new FormData(event.target as HTMLFormElement).get("token")));
          void show(true);
        },
      },
      h("label", {}, "Token ", h("input", { name: "token", type: "password", autocomplete: "off", required: true })),
      h("button", {}, "Open"),
    ),
  ]);
}

/** What a reader is in the middle of is left alone. */
const isBusy = (): boolean =>
  document.hidden || main.querySelector("input:focus, select:focus, details[open]") !== null ||
  main.querySelector("[data-busy]") !== null || String(getSelection()) !== "";

async function look(): Promise<void> {
  const { at, page } = here();
  try {
    if (at === undefined && page !== "output" && token.get() !== "" && !isBusy()) {
      const { last } = await ask<Bounds>("/v1/inspect/bounds");
      if (last.seq !== shownSeq && here().at === undefined && !isBusy()) await show(false);
    }
  } catch {
    // away, or the token is asked for: the next look tells
  }
  setTimeout(() => void look(), lookMs);
}

const given = /^#token=([^&]+)$/.exec(location.hash)?.[1];
if (given !== undefined) {
  token.set(decodeURIComponent(given));
  history.replaceState(null, "", location.pathname); // so that it is in no link that is copied
}
addEventListener("hashchange", () => void show(true));
await show(true);
void look();
