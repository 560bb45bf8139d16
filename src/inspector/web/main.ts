import { inspect, Refusal, token } from "./data.ts";
import { session } from "./deeds.ts";
import { type Child, h, render } from "./dom.ts";
import { follow } from "./feed.ts";
import { listenToKeys, type Shortcut, showKeys } from "./keys.ts";
import { actorPage } from "./page_actor.ts";
import { actorsPage } from "./page_actors.ts";
import { conversationPage } from "./page_conversation.ts";
import { clusterPage } from "./page_cluster.ts";
import { jobPage } from "./page_job.ts";
import { jobsPage } from "./page_jobs.ts";
import { machinePage } from "./page_machine.ts";
import { outputPage } from "./page_output.ts";
import { searchPage } from "./page_search.ts";
import { snapshotPage } from "./page_snapshot.ts";
import { workerPage } from "./page_worker.ts";
import { tick } from "./parts.ts";
import { linkTo, type Place, placeOf } from "./place.ts";
import type { Page, Shown } from "./shown.ts";
import { applyTheme, theme, turnTheme } from "./theme.ts";
import { timeBar } from "./time_bar.ts";
import { clockTime } from "./words.ts";

/** The page: what the address says is asked and shown; while no moment is chosen, what is new is shown as it comes. */

const pages: Readonly<Record<string, Page>> = {
  jobs: jobsPage,
  search: searchPage,
  job: jobPage,
  output: outputPage,
  cluster: clusterPage,
  worker: workerPage,
  actors: actorsPage,
  actor: actorPage,
  machine: machinePage,
  conversation: conversationPage,
  snapshot: snapshotPage,
};
/** Of what comes in parts, and while the cluster is away. */
const partMs = 500;
const restPerLook = 3;
const againMs = 500;

const [top, trouble, main, said] = ["top", "trouble", "main", "said"].map((id) => document.getElementById(id)!) as [
  HTMLElement,
  HTMLElement,
  HTMLElement,
  HTMLElement,
];
const bar = timeBar(document.getElementById("time")!, async (atMs) => {
  const { seq } = await inspect("moment", { atMs });
  return seq;
});
let stop = new AbortController();
let saidLast = "";
/** Until it is asked again: there is one, however often the page was shown meanwhile. */
let again: ReturnType<typeof setTimeout> | undefined;
let awaySinceMs: number | undefined;
/** What is followed for the page that is shown, and until when. */
let followed: { readonly watch: string; readonly stop: AbortController } | undefined;

const here = (): Place => placeOf(location.hash);

const within: Readonly<Record<string, string>> = {
  job: "jobs",
  output: "jobs",
  search: "jobs",
  worker: "cluster",
  actor: "actors",
  machine: "actors",
};

function drawTop(): void {
  const { page, at, query } = here();
  const item = (name: string, text: string): HTMLElement =>
    h("a", {
      "href": linkTo(name, "", { at }),
      "aria-current": page === name ? "page" : within[page] === name && "true",
    }, text);
  const search = (event: Event): void => {
    event.preventDefault();
    const text = String(new FormData(event.target as HTMLFormElement).get("text")).trim();
    (document.activeElement as HTMLElement | null)?.blur(); // what is found has the focus next
    location.hash = linkTo(text === "" ? "jobs" : "search", "", { at: here().at, query: { text } });
  };
  render(
    top,
    h(
      "a",
      { class: "brand", href: linkTo("jobs", "", { at }) },
      h("img", { src: "/inspector/icon.svg", alt: "", width: 22, height: 22 }),
      "scoot-actors",
    ),
    h(
      "nav",
      { "aria-label": "Pages" },
      item("jobs", "Jobs"),
      !session.now.isSealed && item("cluster", "Cluster"),
      item("actors", "Actors"),
      item("conversation", "Conversation"),
      !session.now.isSealed && item("snapshot", "Snapshots"),
    ),
    h(
      "form",
      { "class": "find", "role": "search", "aria-label": "In the whole cluster", submit: search },
      h("input", {
        "name": "text",
        "data-key": "find",
        "type": "search",
        "placeholder": "Find a job, requestor, target or command",
        "aria-label": "Find ids, requestors, targets and commands",
        "value": page === "search" ? query.get("text") ?? "" : "",
        "aria-keyshortcuts": "/",
      }),
      h("kbd", { "aria-hidden": "true" }, "/"),
    ),
    session.now.isReadOnly && !session.now.isSealed && session.now.version !== "" &&
      h("span", { class: "badge" }, "read-only"),
    session.now.isSealed && h("span", { class: "badge" }, "a sealed job"),
    h("button", {
      class: "plain",
      title: `Colours: ${theme()}`,
      "aria-label": `Colours: ${theme()}`,
      click: () => {
        said.replaceChildren(`Colours: ${turnTheme()}`);
        drawTop();
      },
    }, { auto: "◐", light: "☀", dark: "☾" }[theme()]),
    h("button", { class: "plain", title: "Keys", "aria-label": "Keys", click: () => showKeys(shortcuts) }, "?"),
  );
}

/** @param isFresh the reader has gone to another place: what is new of the same one leaves focus and place alone. */
async function show(isFresh: boolean): Promise<void> {
  if (isFresh) {
    stop.abort();
    stop = new AbortController();
  }
  const place = here();
  const { signal } = stop;
  const fromMs = performance.now();
  drawTop();
  const page = pages[place.page];
  try {
    if (page === undefined) throw new Refusal("ROUTE_UNKNOWN", `There is no page "${place.page}".`);
    const [bounds, shown] = await Promise.all([inspect("bounds", {}), page(place, signal)]);
    if (signal.aborted) return;
    isHere();
    document.title = `${shown.title} · scoot-actors`;
    // A page that brings itself up to date is made anew, with what it holds on to.
    const isOther = main.dataset["page"] !== `${place.page}/${place.subject}` || shown.watch.length === 0;
    if (isOther) main.replaceChildren();
    render(main, ...shown.content);
    main.dataset["page"] = `${place.page}/${place.subject}`;
    bar.show({ place, bounds, ...shown });
    if (isFresh && isOther) {
      scrollTo(0, 0);
      const find = top.querySelector<HTMLInputElement>("input[name=text]")!;
      if (place.page !== "search" && find !== document.activeElement) find.value = "";
      if (document.activeElement === document.body || !document.activeElement?.closest("#time, #top")) {
        main.focus({ preventScroll: true });
      }
    }
    announce(isOther, shown);
    followNews(place.at === undefined ? shown.watch : [], shown.moment.seq);
    if (shown.isPart === true) {
      showAgain(Math.max(partMs, restPerLook * (performance.now() - fromMs)), signal);
    }
    main.dataset["shown"] = location.hash;
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Refusal && error.code === "TOKEN_INVALID") return askToken();
    if (error instanceof Refusal && error.code === "PEER_UNREACHABLE") {
      isAway();
      return showAgain(againMs, signal);
    }
    if (!(error instanceof Refusal)) console.error(error); // a mistake of this page's own
    // What was shown a moment ago is not taken away for a hiccup.
    if (!isFresh && main.dataset["page"] !== "") return;
    refuse(error as Error);
    // From there one goes on in time all the same.
    const known = await Promise.all([inspect("bounds", {}), inspect("moment", { at: place.at })]).catch(() =>
      undefined
    );
    if (known !== undefined && !signal.aborted) bar.show({ place, bounds: known[0], moment: known[1] });
  }
}

function showAgain(afterMs: number, signal: AbortSignal): void {
  clearTimeout(again);
  again = setTimeout(() => !signal.aborted && void news.come(), afterMs);
}

/** What is new is drawn one after the other; while nobody sees the page it waits. */
const news = (() => {
  let drawn: Promise<void> | undefined;
  let isMore = false;
  /** Resolves when it is on the page, or is put off. */
  async function come(): Promise<void> {
    if (document.hidden || drawn !== undefined) {
      isMore = true;
      return await drawn;
    }
    drawn = show(false);
    await drawn;
    drawn = undefined;
    if (isMore && !document.hidden) {
      isMore = false;
      await come();
    }
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && isMore) {
      isMore = false;
      void come();
    }
  });
  return { come };
})();

function followNews(watch: readonly string[], after: number): void {
  const key = watch.join(" ");
  if (followed?.watch === key && !followed.stop.signal.aborted) return;
  followed?.stop.abort();
  if (watch.length === 0) return void (followed = undefined);
  const own = new AbortController();
  followed = { watch: key, stop: own };
  follow({
    watch,
    after,
    signal: own.signal,
    onNews: async () => {
      if (!own.signal.aborted && here().at === undefined) await news.come();
    },
    onConnected: (isConnected) => {
      if (own.signal.aborted) return;
      if (!isConnected) isAway();
      else if (awaySinceMs !== undefined) void news.come();
    },
  }).catch((error) => {
    own.abort();
    if (error instanceof Refusal && error.code === "TOKEN_INVALID") askToken();
  });
}

function announce(isOther: boolean, { title, says = "" }: Shown): void {
  const text = isOther ? title : says === saidLast ? undefined : says;
  if (text !== undefined && text !== "") said.replaceChildren(text);
  saidLast = says;
}

const refuse = (error: Error): void => {
  main.dataset["page"] = "";
  render(
    main,
    h("h1", {}, "That cannot be shown"),
    h("p", { role: "alert", class: "why is-failed" }, error.message),
    h("p", {}, h("a", { href: "#/jobs" }, "All jobs"), ", or ", h("a", { href: linkHereNow() }, "this page now"), "."),
  );
};
const linkHereNow = (): string => {
  const { page, subject, query } = here();
  return linkTo(page, subject, { query: Object.fromEntries(query) });
};

/** What is shown stays; that it may be old is said, and it is asked again until the cluster answers. */
function isAway(): void {
  awaySinceMs ??= Date.now();
  render(
    trouble,
    h(
      "p",
      {},
      h("b", {}, "The cluster does not answer"),
      ` since ${
        clockTime(awaySinceMs, Date.now(), false)
      }. What you see is from before; it is asked again every half second.`,
    ),
  );
  document.body.dataset["away"] = "";
  if (main.childElementCount === 0) render(main, h("p", { class: "faint" }, "Waiting for the cluster …"));
}
function isHere(): void {
  if (awaySinceMs === undefined) return;
  awaySinceMs = undefined;
  trouble.replaceChildren();
  delete document.body.dataset["away"];
  said.replaceChildren("The cluster answers again");
}

function askToken(): void {
  bar.clear();
  main.dataset["page"] = "";
  const content: Child[] = [
    h("h1", {}, "The cluster's token, please"),
    h(
      "p",
      {},
      "It is in the file ",
      h("code", {}, "token"),
      " of the cluster's data folder, such as ",
      h("code", {}, "~/.local/state/scoot-actors/token"),
      ". This tab keeps it until it is closed.",
    ),
    h(
      "form",
      {
        class: "bar",
        submit(event: Event) {
          event.preventDefault();
          token.set(String(new FormData(event.target as HTMLFormElement).get("token")));
          void begin();
        },
      },
      h("label", {}, "Token ", h("input", { name: "token", type: "password", autocomplete: "off", required: true })),
      h("button", { class: "main" }, "Open"),
    ),
  ];
  render(main, ...content);
}

const goTo = (page: string) => (): void => void (location.hash = linkTo(page, "", { at: here().at }));
/** To the row of the page's list after or before the one that has the focus. */
const stepRow = (by: 1 | -1) => (): void => {
  const rows = [...main.querySelectorAll<HTMLElement>("tbody tr a:first-of-type, [data-row] a:first-of-type")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))]?.focus();
};
const shortcuts: readonly Shortcut[] = [
  { key: "?", does: "these keys", act: () => showKeys(shortcuts) },
  { key: "/", does: "find", act: () => top.querySelector<HTMLElement>("input[name=text]")?.focus() },
  { key: "[", does: "the step before, of what is shown", act: () => bar.press("previous") },
  { key: "]", does: "the next step of what is shown", act: () => bar.press("next") },
  { key: ",", does: "one entry back", act: () => bar.press("back") },
  { key: ".", does: "one entry forward", act: () => bar.press("forward") },
  { key: "t", does: "go to a time", act: () => bar.focusJump() },
  { key: "l", does: "hold this moment, or follow what happens", act: () => bar.press("now") },
  { key: "j", does: "the next row", act: stepRow(1) },
  { key: "k", does: "the row before", act: stepRow(-1) },
  { key: "1", does: "jobs", act: goTo("jobs") },
  { key: "2", does: "cluster", act: goTo("cluster") },
  { key: "3", does: "actors", act: goTo("actors") },
  { key: "4", does: "conversation", act: goTo("conversation") },
  { key: "5", does: "snapshots", act: goTo("snapshot") },
];

/** What may be done here is asked once; without the token it is asked again with it. */
async function begin(): Promise<void> {
  await token.borrow();
  session.now = await inspect("session", {}).catch(() => session.now);
  await show(true);
}

/** @returns whether the address brought the token; then it is there no more, and in no link that is copied. */
function takeToken(): boolean {
  const given = /^#token=([^&]+)$/.exec(location.hash)?.[1];
  if (given === undefined) return false;
  try {
    token.set(decodeURIComponent(given));
  } catch {
    token.set(given); // as it is, to be refused
  }
  history.replaceState(null, "", location.pathname);
  return true;
}

applyTheme();
takeToken();
document.querySelector(".skip")!.addEventListener("click", (event) => {
  event.preventDefault(); // what follows a # is a page here
  main.focus();
});
addEventListener("hashchange", () => void (takeToken() ? begin() : show(true)));
listenToKeys(shortcuts);
setInterval(() => awaySinceMs === undefined && here().at === undefined && tick(Date.now()), 1_000);
await begin();
