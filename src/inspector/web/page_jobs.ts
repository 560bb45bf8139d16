import type { Cost, HomeBuild, HomeJob } from "../routes.ts";
import type { JobState } from "../../domain/job.ts";
import type { JobView } from "../../protocol/client_messages.ts";
import { inspect } from "./data.ts";
import { type Child, h } from "./dom.ts";
import { badge, chips, empty, link, progress, sentence, time, took } from "./parts.ts";
import { linkTo } from "./place.ts";
import type { Page } from "./shown.ts";
import { whysOf } from "./why.ts";
import { count, counted, duration } from "./words.ts";

const stateNames = ["running", "failed", "succeeded", "cancelled"] as const;
const isState = (text: string): text is JobState => (stateNames as readonly string[]).includes(text);

/** What people call a job. */
export const titleOf = ({ tag, jobId }: Pick<JobView, "tag" | "jobId">): string => tag === "" ? jobId : tag;

/** What a job cost, shortly: how long its runs had a slot, and what of it was no work. */
export const costOf = (cost: Cost | undefined): Child =>
  cost === undefined || cost.attempts + cost.cached === 0 ? h("span", { class: "faint" }, "–") : [
    h("span", { title: "From start to end of all runs together" }, duration(cost.ranMs)),
    h(
      "span",
      { class: "small" },
      [
        cost.ofTasks === undefined ? "" : `of ${counted(cost.ofTasks, "task")}`,
        cost.cpuMs > 0 ? `${duration(cost.cpuMs)} of processor` : "",
        cost.cached > 0 ? `${count(cost.cached)} cached: ${duration(cost.savedMs)} saved` : "",
      ].filter((text) => text !== "").join(", "),
    ),
  ];

const row = (key: string, ...cells: readonly Child[]): HTMLElement =>
  h("tr", { "data-key": key }, cells.map((cell, place) => h("td", { "data-name": saidNames[place] }, cell)));
/** Of the columns whose figures say nothing by themselves where a row is not below its heading. */
const saidNames = [undefined, undefined, undefined, undefined, "ran", "took", "at"];
const what = (href: string, title: string, more: Child, why: Child): Child => [
  h("p", { class: "what" }, link(href, title), " ", more),
  h("p", { class: "says" }, why),
];

function jobRow({ job, why, task, wallMs, cost }: HomeJob, at: number | undefined): HTMLElement {
  const parts = Object.entries(job.settled).map(([state, count]) => ({ state, count }));
  const done = parts.reduce((sum, { count }) => sum + count, 0);
  const isStuck = job.state === "running" && task?.state === "queued";
  return row(
    job.jobId,
    isStuck ? badge("queued") : badge(job.state),
    what(
      linkTo("job", job.jobId, { at }),
      titleOf(job),
      job.tag !== "" && h("span", { class: "id" }, job.jobId),
      sentence(why),
    ),
    [progress(job.tasks, parts), h("span", { class: "small" }, `${count(done)} of ${counted(job.tasks, "task")}`)],
    job.requestor === "" ? h("span", { class: "faint" }, "nobody by name") : job.requestor,
    costOf(cost),
    took(job.createdAtMs, job.endedAtMs, job.createdAtMs + wallMs, at === undefined),
    time(job.createdAtMs),
  );
}

function buildRow(build: HomeBuild, at: number | undefined): HTMLElement {
  const all = Object.values(build.jobs).reduce((sum, one) => sum + one, 0);
  const parts = stateNames.filter((state) => state !== "running").map((state) => ({
    state: state === "cancelled" ? "killed" : state,
    count: build.jobs[state],
  }));
  return row(
    build.requestor,
    badge(build.state),
    what(
      linkTo("jobs", "", { at, query: { requestor: build.requestor } }),
      "Build",
      h("span", { class: "id" }, build.requestor),
      sentence(build.why),
    ),
    [
      progress(all, parts),
      h("span", { class: "small" }, `${counted(all, "action")}${build.isPart ? ", or more" : ""}`),
    ],
    build.requestor.split("/")[0],
    costOf(build.cost),
    took(build.createdAtMs, build.endedAtMs, build.createdAtMs + build.wallMs, at === undefined),
    time(build.createdAtMs),
  );
}

const jobTable = (rows: readonly HTMLElement[]): HTMLElement =>
  h(
    "div",
    { class: "scroll card", tabindex: 0, role: "region", "aria-label": "Jobs" },
    h(
      "table",
      { class: "jobs" },
      h("caption", { class: "hidden" }, "Jobs and builds, the newest first"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["State", "Job, and why", "Tasks", "Requestor", "Ran", "Took", "Created"].map((text) =>
            h("th", { scope: "col" }, text)
          ),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );

const askedMax = 10;
/** Of a job of more tasks the scheduler is not asked in passing. */
const tasksMax = 100;

function withWhy(line: HomeJob, whys: ReadonlyMap<string, string> | undefined): HomeJob {
  const known = line.task === undefined ? undefined : whys?.get(line.task.taskId);
  if (known === undefined) return line;
  return { ...line, why: line.job.tasks === 1 ? known : `Task ${line.task!.name}: ${known}` };
}

/** Home: what people came for. Of one requestor, such as a build: its jobs. */
export const jobsPage: Page = async ({ query, at }) => {
  const [state = "", before = "", requestor = ""] = ["state", "before", "requestor"].map((name) =>
    query.get(name) ?? ""
  );
  const asked = { at, state: isState(state) ? state : undefined, before: before || undefined };
  const found = requestor === ""
    ? await inspect("home", asked)
    : await inspect("jobs", { ...asked, requestor }).then(({ moment, jobs, next }) => ({
      moment,
      next,
      lines: jobs.map((job): HomeJob => ({
        kind: "job",
        job,
        why: job.why,
        wallMs: Math.max(0, (job.endedAtMs ?? moment.atMs) - job.createdAtMs),
      })),
    }));
  // What waits with others may wait for something of its own, which the scheduler knows: asked of those one sees first.
  const waiting = at !== undefined
    ? []
    : found.lines.flatMap((line) =>
      line.kind === "job" && line.task?.state === "queued" && line.job.tasks <= tasksMax ? [line.job.jobId] : []
    ).slice(0, askedMax);
  const whys = waiting.length === 0 ? undefined : await whysOf(waiting, found.moment);
  const lines = found.lines.map((line) => line.kind === "job" ? withWhy(line, whys?.answer) : line);
  const to = (more: Readonly<Record<string, string | undefined>>): string =>
    linkTo("jobs", "", { at, query: { requestor, ...more } });
  return {
    title: requestor === "" ? "Jobs" : `Jobs of ${requestor}`,
    moment: found.moment,
    watch: ["job/", "task/"],
    isPart: whys?.isLate === true,
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, requestor === "" ? "Jobs" : ["Jobs of ", requestor]),
        chips("Which", [
          { href: to({}), text: "All", isChosen: state === "" },
          ...stateNames.map((one) => ({
            href: to({ state: one }),
            text: one[0]!.toUpperCase() + one.slice(1),
            isChosen: state === one,
          })),
        ]),
      ),
      lines.length > 0
        ? jobTable(lines.map((line) => line.kind === "job" ? jobRow(line, at) : buildRow(line, at)))
        : state === "" && before === "" && requestor === ""
        ? empty(
          at === undefined ? "No jobs yet." : "There were no jobs at that moment.",
          "Send one from a folder of yours: ",
          h("code", {}, "scoot-actors run -- make test"),
        )
        : empty(found.next === undefined ? `No job here is ${state || "older"}.` : "None among those looked at."),
      found.next !== undefined && h("p", { class: "more" }, link(to({ state, before: found.next }), "Older jobs")),
    ],
  };
};
