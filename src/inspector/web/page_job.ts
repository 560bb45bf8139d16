import type { TaskLine } from "../jobs.ts";
import type { Cost, TaskGraph, TaskTimeline } from "../routes.ts";
import type { JobView } from "../../protocol/client_messages.ts";
import { inspect } from "./data.ts";
import { download, killJob, mayAct, runAgain } from "./deeds.ts";
import { type Child, h, widget } from "./dom.ts";
import { exportButtons, graphMermaid } from "./export.ts";
import { drawGraph } from "./graph.ts";
import { late } from "./late.ts";
import { actorLink, badge, facts, link, progress, scrolls, section, sentence, time, took } from "./parts.ts";
import { linkTo } from "./place.ts";
import { titleOf } from "./page_jobs.ts";
import type { Page } from "./shown.ts";
import { tailOf, tailView } from "./tail.ts";
import { drawTimeline } from "./timeline.ts";
import { type Rows, virtualRows } from "./virtual.ts";
import { whyOf } from "./why.ts";
import { counted, duration } from "./words.ts";

const perPage = 100;

const isBad = ({ state, outcome }: TaskLine): boolean =>
  state === "settled" && !(outcome?.kind === "exited" && outcome.exitCode === 0);
/** What a settled task is called: how it ended. */
export const endOf = ({ state, outcome }: Pick<TaskLine, "state" | "outcome">): string => {
  if (state !== "settled" || outcome === undefined) return state;
  if (outcome.kind === "exited") return outcome.exitCode === 0 ? "succeeded" : "failed";
  return outcome.kind === "killed" || outcome.kind === "skipped" ? outcome.kind : "failed";
};

/** The task that says most of how the job is: of one that goes on what it waits for, of one that ended what went wrong. */
function tellingOf(job: JobView, tasks: readonly TaskLine[]): TaskLine | undefined {
  const first = (...states: readonly string[]): TaskLine | undefined =>
    tasks.find(({ state }) => states.includes(state));
  if (job.state === "running") return first("queued") ?? first("running", "placed", "stopping") ?? tasks.find(isBad);
  if (job.state === "failed") {
    return tasks.find((task) => isBad(task) && task.outcome?.kind !== "skipped" && task.outcome?.kind !== "killed") ??
      tasks.find(isBad);
  }
  return undefined;
}

/** In its job: of one that is long over some are forgotten. */
const placeOf = ({ taskId }: TaskLine): number => Number(taskId.slice(taskId.indexOf("/") + 1));

const costText = ({ ranMs, cpuMs, cached, savedMs, attempts }: Cost): string =>
  [
    `${duration(ranMs)} on workers`,
    cpuMs > 0 ? `${duration(cpuMs)} of processor` : "",
    counted(attempts, "attempt"),
    cached > 0 ? `${cached} cached, ${duration(savedMs)} saved` : "",
  ].filter((text) => text !== "").join(" · ");

/** The tasks of the job on the page, by place, as far as they were asked for. */
let known: { readonly key: string; readonly tasks: Map<number, TaskLine>; readonly asked: Set<number> } | undefined;

const lateGraph = late<TaskGraph>();
const lateTimeline = late<TaskTimeline>();

export const jobPage: Page = async ({ subject, at }, signal) => {
  const [found, bounds] = await Promise.all([
    inspect("job", { id: subject, at }, signal),
    inspect("bounds", {}, signal),
  ]);
  const { job, cause, tasks, moment } = found;
  const telling = tellingOf(job, tasks);
  const isNow = at === undefined;
  const waits = tasks.some(({ state }) => state === "queued");
  const ofNow = `${subject} ${at ?? "now"}`;
  // Of a job of many tasks these take a while: the page is there before them.
  const [whys, graphs, timelines] = await Promise.all([
    waits ? whyOf(subject, moment, isNow) : { answer: new Map<string, string>(), isLate: false },
    lateGraph(ofNow, String(moment.seq), () => inspect("graph", { id: subject, at })),
    lateTimeline(ofNow, String(moment.seq), () => inspect("timeline", { id: subject, at })),
  ]);
  const [graph, timeline] = [graphs.answer, timelines.answer];
  const failed = telling !== undefined && endOf(telling) === "failed" ? telling.taskId : undefined;
  const tail = failed === undefined ? undefined : await tailOf(failed);
  signal.throwIfAborted();
  const nowMs = isNow ? Math.max(Date.now(), moment.atMs) : moment.atMs;
  const says = telling === undefined ? job.why : whys.answer?.get(telling.taskId) ?? telling.why;
  const key = `${subject} ${moment.seq}`;
  if (known?.key !== key) known = { key, tasks: new Map(), asked: new Set([0]) };
  tasks.forEach((task) => known!.tasks.set(placeOf(task), task));
  const title = titleOf(job);
  const state = job.state === "running" && telling?.state === "queued" ? "queued" : job.state;
  const parts = Object.entries(job.settled).map(([state, count]) => ({ state, count }));
  const members = ["scheduler", `job/${subject}`, ...tasks.slice(0, 3).map(({ taskId }) => `task/${taskId}`)];
  const cost = found.cost;
  return {
    title: `${title}: ${state}`,
    moment,
    watch: [`job/${subject}`, `task/${subject}/`, ...waits ? ["task/", "worker/"] : []],
    says: `${title} is ${state}. ${says}`,
    previousSeq: cause.seq < moment.seq ? cause.seq : undefined,
    isPart: whys.isLate || graphs.isLate || timelines.isLate || tail?.isLate === true,
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, title, " ", badge(state)),
        h(
          "div",
          { class: "buttons" },
          mayAct(at) && job.state === "running" &&
            h("button", { class: "grave", click: () => killJob(subject, title) }, "Kill"),
          mayAct(at) && h("button", { click: () => runAgain(subject, title) }, "Run again"),
          h("a", { class: "button", href: linkTo("actor", `job/${subject}`, { at }) }, "Chart and history"),
          h(
            "a",
            { class: "button", href: linkTo("conversation", "", { at, query: { with: members.join(",") } }) },
            "Conversation",
          ),
          job.state !== "running" && isNow &&
            h("button", {
              title: "All that is kept of this job, as one file that another cluster or the command line opens",
              click: (event: Event) => void keepSealed(subject, event.target as HTMLButtonElement),
            }, "Sealed file"),
        ),
      ),
      h(
        "div",
        { class: `why is-${state}` },
        h(
          "p",
          { class: "sentence" },
          telling !== undefined && job.tasks > 1 && [h("b", {}, telling.name), ": "],
          sentence(says),
        ),
        telling !== undefined && h(
          "p",
          { class: "decision" },
          "So since ",
          time(telling.cause.atMs, true),
          ", when it heard ",
          h("code", {}, telling.cause.event),
          " from ",
          actorLink(telling.cause.from, telling.cause.seq),
          ". ",
          telling.cause.seq >= bounds.first.seq
            ? link(linkTo("actor", `task/${telling.taskId}`, { at: telling.cause.seq }), "Go to that moment →")
            : `That moment is not kept any more: history begins with entry ${bounds.first.seq}.`,
        ),
        failed !== undefined && tailView(failed, tail?.answer),
      ),
      facts([
        ["Job", h("code", { class: "id" }, subject)],
        ["Requestor", job.requestor || h("span", { class: "faint" }, "nobody by name")],
        ["Created", time(job.createdAtMs)],
        [job.endedAtMs === undefined ? "Takes so far" : "Took", took(job.createdAtMs, job.endedAtMs, nowMs, isNow)],
        cost !== undefined && ["Cost", cost.attempts + cost.cached === 0 ? "nothing yet" : costText(cost)],
        ["Tasks", [
          progress(job.tasks, parts),
          h("span", { class: "small" }, telling === undefined ? `${job.tasks} settled` : job.why),
        ]],
      ]),
      graph !== undefined && graph.edges.length > 0 && section(
        "graph",
        [
          "What needs what ",
          h(
            "span",
            { class: "buttons inline" },
            exportButtons(
              `${subject}-tasks`,
              () => document.querySelector<SVGElement>("svg.graph"),
              () => graphMermaid(graph),
            ),
          ),
        ],
        scrolls("Task graph", drawGraph(graph, at)),
      ),
      timeline !== undefined && section("timeline", "Where the time went", drawTimeline(timeline, nowMs, at)),
      section("tasks", counted(job.tasks, "task"), taskRows(subject, job, known, at, whys.answer)),
    ],
  };
};

async function keepSealed(jobId: string, button: HTMLButtonElement): Promise<void> {
  button.disabled = true;
  try {
    await download(`/v1/jobs/${jobId}/export`, `${jobId}.scootjob`);
  } catch (error) {
    button.after(h("span", { class: "wrong", role: "alert" }, (error as Error).message));
  }
  button.disabled = false;
}

function taskRows(
  jobId: string,
  job: JobView,
  known: { readonly tasks: Map<number, TaskLine>; readonly asked: Set<number> },
  at: number | undefined,
  whys: ReadonlyMap<string, string> | undefined,
): HTMLElement {
  const rows: Rows<TaskLine> = {
    name: "Tasks",
    className: "tasks card",
    count: job.tasks,
    rowPx: 44,
    viewPx: 528,
    head: h(
      "div",
      { class: "task-row" },
      ["State", "Task", "Why", "Worker", "Output"].map((text) => h("span", {}, text)),
    ),
    rowAt: (place) => known.tasks.get(place),
    async bring(from, to) {
      const pages: Promise<void>[] = [];
      for (let page = Math.floor(from / perPage); page <= Math.floor((to - 1) / perPage); page++) {
        if (known.asked.has(page)) continue;
        known.asked.add(page);
        pages.push(
          inspect("job", { id: jobId, from: page * perPage, at }).then(({ tasks }) =>
            tasks.forEach((task) => void known.tasks.set(placeOf(task), task))
          ).catch((error) => {
            known.asked.delete(page);
            throw error;
          }),
        );
      }
      await Promise.all(pages);
    },
    draw: (task) => taskRow(task, whys?.get(task.taskId) ?? task.why, at),
  };
  return widget(`tasks ${jobId}`, rows, virtualRows<TaskLine>);
}

function taskRow(task: TaskLine, why: string, at: number | undefined): HTMLElement {
  const { taskId, name, attempts } = task;
  const last = attempts.at(-1);
  const cells: readonly Child[] = [
    badge(endOf(task)),
    link(linkTo("actor", `task/${taskId}`, { at }), name),
    h("span", { class: "says", title: why }, why),
    last === undefined ? "" : [
      link(linkTo("worker", last.workerId, { at }), last.workerId),
      attempts.length > 1 && h("span", { class: "small" }, ` ${attempts.length} attempts`),
    ],
    attempts.length === 0 && task.cached === undefined ? "" : [
      link(linkTo("output", `${taskId}/stdout`), "stdout"),
      " ",
      link(linkTo("output", `${taskId}/stderr`), "stderr"),
    ],
  ];
  return h("div", { class: "task-row" }, cells.map((cell) => h("span", {}, cell)));
}
