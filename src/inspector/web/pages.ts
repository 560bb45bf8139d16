import type { ActorLine, ActorPage, MessageLine, StepLine } from "../actors.ts";
import type { Chart } from "../charts.ts";
import type { SpokenLine } from "../conversation.ts";
import type { JobPage, TaskLine } from "../jobs.ts";
import type { Moment } from "../moments.ts";
import type { Overview } from "../overview.ts";
import type { JobView, JobWhy } from "../../protocol/client_messages.ts";
import { ansi } from "./ansi.ts";
import { drawChart } from "./chart.ts";
import { ask, stream } from "./data.ts";
import { badge, type Child, clockTime, duration, h, svg, table, time } from "./dom.ts";
import { linkTo, type Place } from "./place.ts";
import { drawSequence } from "./sequence.ts";

/** What a page shows, and the moment that it shows. */
export interface Shown {
  readonly title: string;
  readonly content: readonly Child[];
  readonly moment: Moment;
  /** More of it comes: it is asked again. */
  readonly isPart?: boolean;
  /** Entries at which the subject changed, on both sides of the moment. */
  readonly previousSeq?: number | undefined;
  readonly nextSeq?: number | undefined;
}

type At<Answer> = Answer & { readonly moment: Moment };

const charts = (): Promise<Readonly<Record<string, Chart>>> => kept ??= ask("/v1/inspect/charts");
let kept: Promise<Readonly<Record<string, Chart>>> | undefined;

/** Goes to another address of the same page. */
const go = (hash: string): void => void (location.hash = hash);
const formValues = (event: Event): Record<string, string> => {
  event.preventDefault();
  const entries = [...new FormData(event.target as HTMLFormElement)] as [string, string][];
  return Object.fromEntries(entries.map(([name, value]) => [name, value.trim()]).filter(([, value]) => value !== ""));
};
const link = (hash: string, ...text: readonly Child[]): HTMLElement => h("a", { href: hash }, ...text);
const actorLink = (address: string, at?: number): HTMLElement => {
  if (address.startsWith("job/")) return link(linkTo("job", address.slice(4), { at }), address);
  return /^(task|worker)\/|^scheduler$/.test(address)
    ? link(linkTo("actor", address, { at }), address)
    : h("span", {}, address);
};

// ---- jobs ------------------------------------------------------------------------------------------------------------

const jobPattern = /^j[0-9a-z]{10}-[0-9a-z]{6}$/;

export async function jobsPage({ query, at }: Place): Promise<Shown> {
  const [text, state, before] = ["text", "state", "before"].map((name) => query.get(name) ?? "");
  const found = await ask<At<{ jobs: readonly JobView[]; next?: string }>>("/v1/inspect/jobs", {
    at,
    text,
    state,
    before,
  });
  const search = (event: Event): void => {
    const values = formValues(event);
    const word = values["text"] ?? "";
    if (jobPattern.test(word)) return go(linkTo("job", word, { at }));
    if (jobPattern.test(word.split("/")[0]!)) return go(linkTo("actor", `task/${word}`, { at }));
    go(linkTo("jobs", "", { at, query: values }));
  };
  const option = (value: string, name: string): HTMLElement => h("option", { value, selected: value === state }, name);
  return {
    title: "Jobs",
    moment: found.moment,
    content: [
      h("h1", {}, "Jobs"),
      h(
        "form",
        { submit: search, role: "search", class: "bar" },
        h(
          "label",
          {},
          "Search ",
          h("input", { name: "text", type: "search", value: text, placeholder: "id, requestor, tag, reason" }),
        ),
        h(
          "label",
          {},
          "State ",
          h(
            "select",
            { name: "state" },
            option("", "any"),
            ["running", "failed", "succeeded", "cancelled"].map((one) => option(one, one)),
          ),
        ),
        h("button", {}, "Search"),
      ),
      table(
        "Jobs, the newest first",
        ["Job", "State", "Why", "Requestor", "Tasks", "Created", "Took"],
        found.jobs.map((job) => [
          link(linkTo("job", job.jobId, { at }), job.jobId),
          badge(job.state),
          job.why,
          [job.requestor, job.tag === "" ? "" : ` · ${job.tag}`],
          String(job.tasks),
          time(job.createdAtMs),
          duration((job.endedAtMs ?? Math.max(found.moment.atMs, job.createdAtMs)) - job.createdAtMs),
        ]),
      ),
      found.next !== undefined &&
      h(
        "p",
        {},
        link(linkTo("jobs", "", { at, query: { text: text!, state: state!, before: found.next } }), "Older jobs"),
      ),
    ],
  };
}

/** What the scheduler says of tasks that wait, which takes the whole queue of that moment: it comes when it comes. */
async function fillWhy(
  jobId: string,
  moment: Moment,
  isNow: boolean,
  cells: ReadonlyMap<string, HTMLElement>,
): Promise<void> {
  try {
    const why = await ask<JobWhy>(`/v1/jobs/${jobId}/why`, isNow ? {} : { at: moment.atMs });
    for (const { task } of why.tasks) {
      if (task.state !== "queued") continue;
      for (const key of [task.taskId, ""]) {
        cells.get(key)?.replaceChildren(key === "" ? `Task ${task.name}: ${task.why}` : task.why);
      }
    }
  } catch {
    // what the states themselves say stands there already
  }
}

export async function jobView({ subject, query, at }: Place, signal: AbortSignal): Promise<Shown> {
  const found = await ask<At<JobPage>>("/v1/inspect/job", { id: subject, at, from: query.get("from") ?? undefined });
  const { job, cause, tasks, moment } = found;
  const cells = new Map<string, HTMLElement>();
  const stuck = tasks.find(({ state }) => state === "queued");
  const headline = h("p", { class: "why" });
  if (stuck !== undefined) cells.set("", headline);
  const failed = tasks.find(({ state, outcome }) =>
    state === "settled" && !(outcome?.kind === "exited" && outcome.exitCode === 0)
  );
  const telling = stuck ?? failed ?? tasks.find(({ state }) => state === "running" || state === "placed");
  headline.append(telling === undefined ? job.why : `Task ${telling.name}: ${telling.why}`);
  const rows = tasks.map((task): Child[] => {
    const why = h("span", {}, task.why);
    cells.set(task.taskId, why);
    return [
      actorLink(`task/${task.taskId}`, at),
      task.name,
      badge(task.state),
      why,
      task.attempts.at(-1)?.workerId ?? "",
      String(task.attempts.length),
      [
        link(linkTo("output", `${task.taskId}/stdout`), "stdout"),
        " ",
        link(linkTo("output", `${task.taskId}/stderr`), "stderr"),
      ],
    ];
  });
  if (stuck !== undefined) void fillWhy(subject, moment, at === undefined, cells);
  signal.throwIfAborted();
  const members = ["scheduler", `job/${subject}`, ...tasks.slice(0, 3).map(({ taskId }) => `task/${taskId}`)];
  return {
    title: `Job ${subject}`,
    moment,
    previousSeq: cause.seq < moment.seq ? cause.seq : undefined,
    content: [
      h("h1", {}, "Job ", subject, " ", badge(job.state)),
      headline,
      h(
        "p",
        {},
        job.why,
        " Asked for by ",
        h("b", {}, job.requestor || "nobody by name"),
        " at ",
        time(job.createdAtMs),
        ".",
      ),
      h(
        "p",
        { class: "bar" },
        link(linkTo("actor", `job/${subject}`, { at }), "Chart and history"),
        " ",
        link(conversationLink(members, at), "Conversation"),
      ),
      table("Tasks", ["Task", "Name", "State", "Why", "Worker", "Attempts", "Output"], rows),
      found.next !== undefined &&
      h("p", {}, link(linkTo("job", subject, { at, query: { from: String(found.next) } }), "More tasks")),
      h("h2", {}, "Timeline"),
      timelineOf(tasks, at === undefined ? Math.max(Date.now(), moment.atMs) : moment.atMs),
    ],
  };
}

interface Span {
  readonly name: "queued" | "checkout" | "run" | "capture" | "attempt";
  readonly fromMs: number;
  readonly toMs: number;
  readonly says: string;
}

/** What a task's time went to, from what its state says. */
function spansOf(task: TaskLine, nowMs: number): readonly Span[] {
  const spans: Span[] = [];
  if (task.queuedAtMs === undefined) return spans;
  let fromMs = task.queuedAtMs;
  for (const [place, attempt] of task.attempts.entries()) {
    spans.push({ name: "queued", fromMs, toMs: attempt.placedAtMs, says: "queued" });
    const next = task.attempts[place + 1];
    const outcome = next === undefined && task.outcome !== undefined && task.outcome.kind !== "skipped"
      ? task.outcome
      : undefined;
    const endMs = next === undefined
      ? task.settledAtMs ?? (attempt.ended === undefined ? nowMs : attempt.startedAtMs ?? attempt.placedAtMs)
      : next.placedAtMs;
    const startedMs = outcome?.startedAtMs ?? attempt.startedAtMs;
    const by = `attempt ${attempt.attempt} on ${attempt.workerId}`;
    if (startedMs === undefined) {
      spans.push({ name: "attempt", fromMs: attempt.placedAtMs, toMs: endMs, says: `${by}, not started` });
    } else {
      const ranMs = outcome?.endedAtMs ?? endMs;
      spans.push({ name: "checkout", fromMs: attempt.placedAtMs, toMs: startedMs, says: `${by}: checkout` });
      spans.push({
        name: "run",
        fromMs: startedMs,
        toMs: ranMs,
        says: `${by}: run${attempt.ended === undefined ? "" : `, ended: ${attempt.ended}`}`,
      });
      if (outcome?.endedAtMs !== undefined) {
        spans.push({ name: "capture", fromMs: ranMs, toMs: endMs, says: `${by}: capture` });
      }
    }
    fromMs = endMs;
  }
  if (task.attempts.length === 0 && task.state === "queued") {
    spans.push({ name: "queued", fromMs, toMs: nowMs, says: "queued" });
  }
  return spans.map((span) => ({ ...span, toMs: Math.max(span.fromMs, span.toMs) }));
}

function timelineOf(tasks: readonly TaskLine[], nowMs: number): Child {
  const all = tasks.map((task) => ({ task, spans: spansOf(task, nowMs) })).filter(({ spans }) => spans.length > 0);
  if (all.length === 0) return h("p", { class: "faint" }, "Nothing has begun.");
  const fromMs = Math.min(...all.flatMap(({ spans }) => spans.map((span) => span.fromMs)));
  const toMs = Math.max(fromMs + 1, ...all.flatMap(({ spans }) => spans.map((span) => span.toMs)));
  const [left, width, row] = [180, 700, 24];
  const xOf = (ms: number): number => left + (ms - fromMs) / (toMs - fromMs) * width;
  return [
    h(
      "p",
      { class: "legend" },
      ["queued", "checkout", "run", "capture"].map((name) => h("span", { class: `key span-${name}` }, name)),
      ` ${duration(toMs - fromMs)} in all`,
    ),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Timeline" },
      svg(
        "svg",
        {
          class: "timeline",
          role: "img",
          "aria-label": "Where the time of each task went",
          viewBox: `0 0 ${left + width + 20} ${all.length * row + 10}`,
          width: left + width + 20,
          height: all.length * row + 10,
        },
        all.map(({ task, spans }, index) =>
          svg(
            "g",
            {},
            svg("text", { x: 6, y: index * row + 20 }, task.name.slice(0, 24)),
            spans.map(({ name, fromMs, toMs, says }) =>
              svg("rect", {
                class: `span-${name}`,
                x: xOf(fromMs),
                y: index * row + 6,
                width: Math.max(1, xOf(toMs) - xOf(fromMs)),
                height: row - 7,
              }, svg("title", {}, `${says}: ${duration(toMs - fromMs)}`))
            ),
          )
        ),
      ),
    ),
  ];
}

// ---- output ----------------------------------------------------------------------------------------------------------

const outputCharactersMax = 2_000_000;

export async function outputPage({ subject }: Place, signal: AbortSignal): Promise<Shown> {
  const [job, task, name] = subject.split("/");
  const { last } = await ask<{ last: Moment }>("/v1/inspect/bounds");
  const view = h("pre", { class: "output", tabindex: 0, role: "log", "aria-label": `${name} of task ${job}/${task}` });
  const status = h("p", { role: "status" }, "Following.");
  const follow = h("input", { type: "checkbox", checked: true }) as HTMLInputElement;
  const read = async (): Promise<void> => {
    const split = ansi();
    let shown = 0;
    try {
      for await (const chunk of stream(`/v1/jobs/${job}/tasks/${task}/${name}?follow=1`, signal)) {
        const pieces = split(chunk).map(({ text, style }) => h("span", { class: style || undefined }, text));
        view.append(...pieces);
        shown += chunk.length;
        // Of an endless stream the newest is kept on the page; the command line has all of it.
        while (shown > outputCharactersMax && view.firstChild !== null) {
          shown -= view.firstChild.textContent!.length;
          view.firstChild.remove();
        }
        if (follow.checked) view.scrollTop = view.scrollHeight;
      }
      status.replaceChildren("That is all of it.");
    } catch (error) {
      if (!signal.aborted) status.replaceChildren((error as Error).message);
    }
  };
  void read();
  return {
    title: `${name} of ${job}/${task}`,
    moment: last,
    content: [
      h("h1", {}, `${name} of `, actorLink(`task/${job}/${task}`)),
      h("p", { class: "bar" }, h("label", {}, follow, " Follow its end"), " ", link(linkTo("job", job), "Its job")),
      status,
      view,
    ],
  };
}

// ---- actors ----------------------------------------------------------------------------------------------------------

const conversationLink = (members: readonly string[], at: number | undefined): string =>
  linkTo("conversation", "", { at, query: { with: members.join(",") } });

const messageOf = ({ from, to, type, body }: MessageLine, at?: number): Child => [
  h("b", {}, type || "it was born"),
  " from ",
  actorLink(from, at),
  " to ",
  actorLink(to, at),
  body !== "" && h("details", {}, h("summary", {}, "what it says"), h("pre", {}, body)),
];

const stepView = (step: StepLine): Child => [
  step.reason !== undefined && h("p", { class: "reason" }, step.reason),
  h("p", {}, "Heard ", messageOf(step.event, step.seq)),
  table(
    "What changed",
    ["In its context", "Before", "After"],
    step.changes.map(({ key, before, after }) => [key, h("code", {}, before ?? "—"), h("code", {}, after ?? "—")]),
  ),
  step.said.length > 0 &&
  [h("h3", {}, "Said"), h("ul", {}, step.said.map((message) => h("li", {}, messageOf(message, step.seq))))],
];

export async function actorView({ subject, at }: Place): Promise<Shown> {
  const [actor, past, all] = await Promise.all([
    ask<At<ActorPage>>("/v1/inspect/actor", { address: subject, at }),
    ask<{ steps: readonly StepLine[]; next?: number }>("/v1/inspect/history", { address: subject, at }),
    charts(),
  ]);
  const chart = all[actor.kind];
  const job = actor.kind === "task" ? subject.split("/")[1] : undefined;
  const partners = new Set(
    [subject, ...past.steps.flatMap(({ event, said }) => [event.from, ...said.map(({ to }) => to)])]
      .filter((one) => /^(scheduler$|job\/|task\/|worker\/|member\/)/.test(one)),
  );
  return {
    title: subject,
    moment: actor.moment,
    previousSeq: actor.previousSeq,
    nextSeq: actor.nextSeq,
    content: [
      h("h1", {}, subject, " ", badge(actor.state)),
      h("p", { class: "why" }, actor.why),
      h(
        "p",
        { class: "bar" },
        job !== undefined && link(linkTo("job", job, { at }), `Its job ${job}`),
        " ",
        link(conversationLink([...partners].slice(0, 6), at), "Conversation"),
      ),
      h(
        "div",
        { class: "columns" },
        h(
          "section",
          { "aria-label": "Chart" },
          chart !== undefined &&
            h(
              "div",
              { class: "scroll", tabindex: 0, role: "region", "aria-label": "Chart" },
              drawChart(chart, { state: actor.state, taken: actor.step.taken }),
            ),
        ),
        h(
          "section",
          {},
          h("h2", {}, `The step that led here: entry ${actor.seq}`),
          h("p", {}, time(actor.atMs), " ", badge(actor.step.before ?? "born"), " → ", badge(actor.state)),
          stepView(actor.step),
        ),
      ),
      table("Context", ["What it knows", "Value"], actor.context.map(({ key, value }) => [key, h("code", {}, value)])),
      table(
        "History, the newest first",
        ["Entry", "When", "Heard", "Before", "After", "Reason"],
        past.steps.map((
          step,
        ) => [
          link(linkTo("actor", subject, { at: step.seq }), String(step.seq)),
          time(step.atMs),
          [step.event.type, " from ", step.event.from],
          step.before ?? "",
          step.after ?? "gone",
          step.reason ?? "",
        ]),
      ),
      past.next !== undefined && h("p", {}, link(linkTo("actor", subject, { at: past.next }), "Older steps")),
    ],
  };
}

const kinds = ["task", "job", "worker", "scheduler"] as const;

export async function actorsPage({ query, at }: Place): Promise<Shown> {
  const values = Object.fromEntries(
    ["kind", "job", "state", "requestor", "after"].map((name) => [name, query.get(name) ?? ""]),
  );
  const kind = values["kind"] || "task";
  const found = await ask<At<{ actors: readonly ActorLine[]; next?: string }>>("/v1/inspect/actors", {
    ...values,
    kind,
    at,
  });
  const field = (name: string, title: string): HTMLElement =>
    h("label", {}, `${title} `, h("input", { name, value: values[name] }));
  return {
    title: "Actors",
    moment: found.moment,
    content: [
      h("h1", {}, "Actors"),
      h(
        "form",
        { class: "bar", submit: (event: Event) => go(linkTo("actors", "", { at, query: formValues(event) })) },
        h(
          "label",
          {},
          "Kind ",
          h("select", { name: "kind" }, kinds.map((one) => h("option", { selected: one === kind }, one))),
        ),
        field("job", "Job"),
        field("state", "State"),
        field("requestor", "Requestor"),
        h("button", {}, "Find"),
      ),
      table(
        "Actors",
        ["Actor", "State", "Why", "Since"],
        found.actors.map((
          one,
        ) => [link(linkTo("actor", one.address, { at }), one.address), badge(one.state), one.why, time(one.atMs)]),
      ),
      found.next !== undefined &&
      h(
        "p",
        {},
        link(
          linkTo("actors", "", {
            at,
            query: Object.fromEntries(
              Object.entries({ ...values, kind, after: found.next }).filter(([, value]) => value !== ""),
            ),
          }),
          "More actors",
        ),
      ),
    ],
  };
}

// ---- the cluster -----------------------------------------------------------------------------------------------------

export async function clusterPage({ at }: Place): Promise<Shown> {
  const [found, all] = await Promise.all([ask<At<Overview>>("/v1/inspect/overview", { at }), charts()]);
  const { scheduler, workers, slots, classes, requestors, states, isCounted } = found;
  const countsOf = (kind: string): Map<string, number> =>
    new Map(
      Object.entries(states).filter(([key]) => key.startsWith(`${kind}/`)).map((
        [key, count],
      ) => [key.slice(kind.length + 1), count]),
    );
  return {
    title: "Cluster",
    moment: found.moment,
    isPart: !isCounted,
    content: [
      h("h1", {}, "Cluster"),
      scheduler !== undefined &&
      h(
        "p",
        { class: "why" },
        scheduler.why,
        isCounted ? ` ${slots.busy} of ${slots.all} slots are taken.` : " Its tasks are being counted.",
      ),
      h("h2", {}, "Workers and their slots"),
      h(
        "ul",
        { class: "workers" },
        workers.map((worker) =>
          h(
            "li",
            {},
            link(linkTo("actor", `worker/${worker.workerId}`, { at }), worker.workerId),
            " ",
            badge(worker.state),
            h("p", {}, worker.why),
            isCounted && h(
              "ul",
              { class: "slots", "aria-label": `Slots of ${worker.workerId}` },
              Array.from({ length: Math.max(worker.slots, worker.tasks.length) }, (_, place) => {
                const task = worker.tasks[place];
                return task === undefined
                  ? h("li", { class: "free" }, "free")
                  : h("li", { class: "busy" }, link(linkTo("actor", `task/${task}`, { at }), task));
              }),
            ),
          )
        ),
      ),
      table(
        "Queue by class",
        ["Class", "Share of slots", "Queued", "With a worker"],
        classes.map((one) => [one.name, `${one.percent} %`, String(one.queued), String(one.running)]),
      ),
      table(
        "Requestors",
        ["Requestor", "Queued", "With a worker"],
        requestors.map((one) => [one.name || "nobody by name", String(one.queued), String(one.running)]),
      ),
      h("h2", {}, "The machines, with how many actors are in each state"),
      h(
        "div",
        { class: "charts" },
        Object.entries(all).map(([kind, chart]) =>
          h(
            "figure",
            {},
            h("figcaption", {}, link(linkTo("actors", "", { at, query: { kind } }), kind)),
            h(
              "div",
              { class: "scroll", tabindex: 0, role: "region", "aria-label": `Chart of ${kind}` },
              drawChart(chart, { counts: countsOf(kind) }),
            ),
          )
        ),
      ),
    ],
  };
}

export async function conversationPage({ query, at }: Place): Promise<Shown> {
  const members = (query.get("with") ?? "scheduler").split(",").map((one) => one.trim()).filter((one) => one !== "");
  const type = query.get("type") ?? "";
  const found = await ask<At<{ messages: readonly SpokenLine[]; next?: number }>>("/v1/inspect/conversation", {
    at,
    with: members,
  });
  const shown = found.messages.filter((message) => message.type.includes(type));
  return {
    title: "Conversation",
    moment: found.moment,
    content: [
      h("h1", {}, "Conversation"),
      h(
        "form",
        { class: "bar", submit: (event: Event) => go(linkTo("conversation", "", { at, query: formValues(event) })) },
        h("label", {}, "Between ", h("input", { name: "with", value: members.join(","), size: 70 })),
        h("label", {}, "Of type ", h("input", { name: "type", value: type })),
        h("button", {}, "Show"),
      ),
      h(
        "p",
        {},
        `${shown.length} messages up to ${clockTime(found.moment.atMs)}. Choose one to see the state of who said it.`,
      ),
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Sequence diagram" },
        drawSequence(
          members,
          shown,
          (message) =>
            linkTo("actor", message.from.startsWith("member/") ? message.to : message.from, { at: message.seq }),
        ),
      ),
      found.next !== undefined &&
      h(
        "p",
        {},
        link(linkTo("conversation", "", { at: found.next, query: { with: members.join(",") } }), "Older messages"),
      ),
    ],
  };
}
