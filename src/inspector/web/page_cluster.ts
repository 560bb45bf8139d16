import type { Overview, WorkerLine } from "../overview.ts";
import type { Rate, Rates } from "../routes.ts";
import { inspect } from "./data.ts";
import { type Child, h, svg } from "./dom.ts";
import { empty, link, section, sentence, table } from "./parts.ts";
import { linkTo } from "./place.ts";
import type { Page } from "./shown.ts";
import { count, counted, duration } from "./words.ts";

/** More workers than this are drawn small. */
const largeMax = 24;

/** The whole cluster: who works at what, who waits, and how fast it goes. */
export const clusterPage: Page = async ({ at }) => {
  const [found, rates] = await Promise.all([
    inspect("overview", { at }),
    inspect("rates", { at }).catch(() => undefined).then((rates) => rates?.isCounted === true ? rates : undefined),
  ]);
  const { scheduler, workers, slots, requestors, isCounted, moreWorkers } = found;
  const queued = found.states["task/queued"] ?? 0;
  return {
    title: "Cluster",
    moment: found.moment,
    isPart: !isCounted || rates === undefined,
    watch: ["scheduler", "worker/", "task/", "job/"],
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, "Cluster"),
        scheduler !== undefined && h("p", { class: "faint" }, sentence(scheduler.why)),
        h(
          "div",
          { class: "buttons" },
          h("a", { class: "button", href: linkTo("actor", "scheduler", { at }) }, "The scheduler"),
        ),
      ),
      h(
        "div",
        { class: "tiles" },
        tile(
          "Slots taken",
          isCounted ? [count(slots.busy), h("small", {}, ` of ${count(slots.all)}`)] : "…",
          rates?.points,
          ({ running }) => running,
        ),
        tile("Tasks queued", isCounted ? count(queued) : "…", rates?.points, ({ queued }) => queued),
        tile(
          "Placed a second",
          rates === undefined ? "…" : perSecond(rates, ({ placed }) => placed),
          rates?.points,
          ({ placed }) => placed,
        ),
        tile(
          "Settled a second",
          rates === undefined ? "…" : perSecond(rates, ({ settled }) => settled),
          rates?.points,
          ({ settled }) => settled,
        ),
        tile("Wait for a slot", rates === undefined ? "…" : latency(rates.wait)),
        tile("Run", rates === undefined ? "…" : latency(rates.run)),
      ),
      section("shares", "Whose turn it is", shares(found)),
      section(
        "workers",
        [counted(workers.length + moreWorkers, "worker"), " ", h("span", { class: "faint" }, workerSummary(workers))],
        workers.length === 0
          ? empty("No worker is connected.", "Tasks wait until one is: ", h("code", {}, "scoot-actors worker"))
          : h(
            "ul",
            { class: workers.length > largeMax ? "workers small" : "workers" },
            workers.map((worker) => workerTile(worker, isCounted, workers.length > largeMax, at)),
          ),
        moreWorkers > 0 && h("p", { class: "faint" }, `${count(moreWorkers)} more are not shown.`),
      ),
      requestors.length > 0 &&
      section(
        "requestors",
        "Who waits, and who works",
        table(
          "Requestors",
          ["Requestor", "Queued", "With a worker"],
          requestors.map((one) => [
            link(linkTo("jobs", "", { at, query: { requestor: one.name } }), one.name || "nobody by name"),
            count(one.queued),
            count(one.running),
          ]),
        ),
      ),
    ],
  };
};

const perSecond = ({ points, stepMs }: Rates, of: (rate: Rate) => number): string => {
  const last = points.slice(-6);
  const each = last.reduce((sum, rate) => sum + of(rate), 0) / Math.max(1, last.length * stepMs / 1_000);
  return each >= 100 ? count(Math.round(each)) : each.toFixed(each >= 10 ? 0 : 1);
};
const latency = ({ count: of, p50Ms, p95Ms }: Rates["wait"]): Child =>
  of === 0 ? h("span", { class: "faint" }, "none lately") : [
    duration(p50Ms),
    h("small", {}, " median"),
    h(
      "p",
      { class: "more-of-it", title: `Of ${counted(of, "task")}` },
      `95 % in ${duration(p95Ms)}`,
    ),
  ];

function tile(name: string, value: Child, points: readonly Rate[] = [], of?: (rate: Rate) => number): HTMLElement {
  return h(
    "div",
    { class: "tile card" },
    h("p", { class: "name" }, name),
    h("div", { class: "value" }, value),
    of !== undefined && points.length > 1 && spark(points.map(of)),
  );
}

/** A line of how it went. */
function spark(values: readonly number[]): SVGElement {
  const most = Math.max(1, ...values);
  const [width, height] = [160, 30];
  const points = values.map((value, place) =>
    `${(place / (values.length - 1) * width).toFixed(1)} ${(height - 2 - value / most * (height - 4)).toFixed(1)}`
  );
  return svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "area", d: `M0 ${height}L${points.join("L")}L${width} ${height}z` }),
    svg("path", { class: "line", d: `M${points.join("L")}` }),
  );
}

/** Classes: what of the slots is theirs, what they have, and who of them waits. */
function shares({ classes, slots, isCounted }: Overview): HTMLElement {
  const all = Math.max(1, slots.all);
  return h(
    "div",
    { class: "card shares", role: "list", "aria-label": "Classes" },
    classes.map(({ name, percent, queued, running, owed }) => {
      return h(
        "div",
        { class: "share", role: "listitem" },
        h("b", {}, name),
        h(
          "div",
          {
            class: `gauge${running > owed ? " over" : ""}`,
            role: "img",
            "aria-label": isCounted ? `${running} of ${all} slots used, ${owed.toFixed(1)} owed` : "being counted",
            vars: !isCounted ? { "--used": "0%", "--owed": "0%" } : {
              "--used": `${Math.min(100, running / all * 100)}%`,
              "--owed": `${Math.min(100, owed / all * 100)}%`,
            },
          },
          h("span", { class: "used" }),
          h("span", { class: "owed" }),
        ),
        h(
          "span",
          {},
          h("b", {}, isCounted ? count(running) : "…"),
          ` used, ${isCounted ? owed.toFixed(owed % 1 === 0 ? 0 : 1) : "…"} owed (${percent} %)`,
        ),
        h(
          "span",
          { class: queued > 0 ? "badge is-queued" : "badge" },
          isCounted ? `${count(queued)} queued` : "being counted",
        ),
      );
    }),
  );
}

function workerSummary(workers: readonly WorkerLine[]): string {
  const counts = new Map<string, number>();
  for (const { state, offline, flaky } of workers) {
    const key = offline !== undefined ? "set aside" : flaky !== undefined ? "flaky" : state;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].map(([state, one]) => `${count(one)} ${state}`).join(", ");
}

export const asideOf = ({ state, offline, flaky }: WorkerLine): string =>
  offline !== undefined ? "offline" : flaky !== undefined ? "flaky" : state;

function workerTile(worker: WorkerLine, isCounted: boolean, isSmall: boolean, at: number | undefined): HTMLElement {
  const { workerId, slots, why } = worker;
  const aside = asideOf(worker);
  const busy = isCounted ? `${worker.busy} of ${counted(slots, "slot")} taken` : counted(slots, "slot");
  return h(
    "li",
    { "data-key": workerId },
    h(
      "a",
      { href: linkTo("worker", workerId, { at }), class: `worker is-${aside}`, title: `${workerId}: ${busy}. ${why}` },
      h("span", { class: "name" }, workerId),
      aside !== "present" && h("span", { class: `badge is-${aside}` }, aside),
      h(
        "span",
        { class: "slots", role: "img", "aria-label": busy },
        Array.from(
          { length: Math.min(64, Math.max(slots, worker.busy)) },
          (_, place) => h("i", { class: isCounted && place < worker.busy ? "busy" : undefined }),
        ),
      ),
      !isSmall && h("span", { class: "small" }, busy),
    ),
  );
}
