import type { ActorPage, MessageLine, StepLine } from "../actors.ts";
import type { Chart } from "../charts.ts";
import type { ActionStory, Routes } from "../routes.ts";
import { inspect } from "./data.ts";
import { mayAct, runAgain } from "./deeds.ts";
import { drawChart, wayText } from "./chart.ts";
import { type Child, h } from "./dom.ts";
import { chartMermaid, exportButtons } from "./export.ts";
import { machines } from "./machines.ts";
import { actorLink, badge, facts, link, scrolls, section, sentence, table, time } from "./parts.ts";
import { endOf } from "./page_job.ts";
import { linkTo } from "./place.ts";
import { drawSequence } from "./sequence.ts";
import type { Page } from "./shown.ts";
import { tailOf, tailView } from "./tail.ts";
import { whyOf } from "./why.ts";
import { clockTime, duration } from "./words.ts";

const messagesShown = 8;
const childrenShown = 20;

/** One actor at a moment: why, its machine, what led here, what it knows, and every step before. */
export const actorPage: Page = async ({ subject, at }, signal) => {
  const [actor, past, all] = await Promise.all([
    inspect("actor", { address: subject, at }),
    inspect("history", { address: subject, at }),
    machines(),
  ]);
  const partners = partnersOf(subject, past.steps);
  const [spoken, story, whys, children] = await Promise.all([
    inspect("conversation", { with: [subject, ...partners], at: actor.moment.seq }),
    actor.kind === "task" ? inspect("action", { task: subject.slice(5), at }).catch(() => undefined) : undefined,
    // Of a task that waits the scheduler says more than its own state does.
    actor.state === "queued" ? whyOf(subject.split("/")[1]!, actor.moment, at === undefined) : undefined,
    actor.kind === "job"
      ? inspect("actors", { kind: "task", job: subject.slice(4), at: actor.moment.seq, limit: childrenShown })
      : undefined,
  ]);
  signal.throwIfAborted();
  const ended = endedAs(actor);
  const failed = actor.kind === "task" && ended === "failed" ? subject.slice(5) : undefined;
  const tail = failed === undefined ? undefined : await tailOf(failed);
  signal.throwIfAborted();
  const why = whys?.answer?.get(subject.slice(5)) ?? actor.why;
  const chart = all[actor.kind];
  const messages = spoken.messages.filter(({ from, to }) => from === subject || to === subject).slice(-messagesShown);
  const heard = new Set([subject, ...messages.flatMap(({ from, to }) => [from, to])]);
  const members = [...partners.filter((one) => heard.has(one)), subject];
  // The one that is looked at stands in the middle of those that it speaks with.
  members.splice(Math.floor((members.length - 1) / 2), 0, members.pop()!);
  const drawn = chart !== undefined && drawChart(chart, { state: actor.state, taken: actor.step.taken });
  return {
    title: `${story?.name ?? subject}: ${ended}`,
    moment: actor.moment,
    watch: [subject],
    says: `${story?.name ?? subject} is ${ended}. ${why}`,
    isPart: whys?.isLate === true || tail?.isLate === true,
    previousSeq: actor.previousSeq,
    nextSeq: actor.nextSeq,
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, story?.name ?? subject, " ", badge(ended)),
        h("div", { class: "buttons" }, linksOf(subject, actor, [subject, ...partners], at)),
      ),
      h(
        "div",
        { class: `why is-${ended.split(".").at(-1)}` },
        h("p", { class: "sentence" }, sentence(why)),
        failed !== undefined && tailView(failed, tail?.answer),
      ),
      facts([
        ["Actor", h("code", { class: "id" }, subject)],
        ["In this state since", time(actor.atMs, true)],
        actor.requestor !== undefined && ["Requestor", actor.requestor || "nobody by name"],
        wakesAt(actor),
        partners.length > 0 &&
        ["Speaks with", partners.map((one, place) => [place > 0 && ", ", actorLink(one, at)])],
        ...storyFacts(story, actor.why),
      ]),
      h(
        "div",
        { class: "columns" },
        section(
          "chart",
          [
            "Where it is ",
            chart !== undefined && h(
              "span",
              { class: "buttons inline" },
              exportButtons(
                `${subject.replaceAll("/", "-")}-chart`,
                () => document.querySelector<SVGElement>("svg.chart"),
                () => chartMermaid(chart),
              ),
            ),
          ],
          chart !== undefined &&
            scrolls("Chart", drawn),
          chart !== undefined && hears(chart, actor.state),
        ),
        h(
          "div",
          {},
          section(
            "step",
            "What led here",
            h(
              "div",
              { class: "card step" },
              h(
                "p",
                { class: "from-to" },
                actor.step.before === actor.state ? ["stayed", badge(actor.state)] : [
                  actor.step.before === undefined ? h("span", { class: "faint" }, "born") : badge(actor.step.before),
                  h("span", { "aria-label": "became" }, "→"),
                  badge(actor.state),
                ],
                h("span", { class: "faint" }, `entry ${actor.seq}, `, time(actor.atMs, true)),
              ),
              actor.step.reason !== undefined && h("p", { class: "reason" }, sentence(actor.step.reason)),
            ),
            messages.length > 0 && scrolls(
              "Sequence diagram",
              drawSequence(members, messages, {
                markedSeq: actor.seq,
                widthPx: besidesPx(drawn),
                linkOf: (message) => linkTo("actor", subject, { at: message.heardSeq ?? message.seq }),
              }),
            ),
          ),
          actor.unheard.length > 0 && section(
            "unheard",
            "Said to it, and not heard yet",
            h(
              "ul",
              { class: "card step plain" },
              actor.unheard.map((one) =>
                h("li", {}, [
                  messageOf(one, true, actor.moment.seq),
                  h(
                    "p",
                    { class: "small" },
                    link(linkTo("actor", subject, { at: one.heardSeq }), "When it heard it →"),
                  ),
                ])
              ),
            ),
          ),
          section("detail", "This step", h("div", { class: "card step" }, stepView(actor.step))),
        ),
      ),
      story?.program !== undefined && section("program", "What it runs", programView(story.program)),
      story?.kept !== undefined && section("kept", "Its result, as it is kept now", keptView(story.kept, subject)),
      children !== undefined && section("children", "Whom it made", childrenTable(subject.slice(4), children, at)),
      section("history", "Every step, the newest first", historyTable(subject, past.steps, actor.seq)),
      past.next !== undefined &&
      h("p", { class: "more" }, link(linkTo("actor", subject, { at: past.next }), "Older steps")),
      section(
        "context",
        "What it knows",
        table(
          "Context",
          ["Name", "Value"],
          actor.context.filter(({ value }) => value !== "").map((
            { key, value },
          ) => [h("code", { class: "nowrap" }, key), valueOf(key, value)]),
        ),
      ),
    ],
  };
};

function childrenTable(jobId: string, { actors, next }: Routes["actors"]["answer"], at: number | undefined): Child {
  return [
    table(
      "Tasks",
      ["Task", "State", "Why"],
      actors.map((one) => [
        link(linkTo("actor", one.address, { at }), one.label ?? one.address),
        badge(one.state),
        sentence(one.why),
      ]),
      "They have not heard of it yet.",
    ),
    next !== undefined &&
    h("p", { class: "more" }, link(linkTo("actors", "", { at, query: { kind: "task", job: jobId } }), "All its tasks")),
  ];
}

/** A machine's only delay: the moment at which it hears `clock.reached`, unless it hears of something else before. */
function wakesAt({ context }: ActorPage): readonly [string, Child] | undefined {
  const value = context.find(({ key }) => key === "wakeAtMs")?.value ?? "";
  return /^[0-9]{12,14}$/.test(value) ? ["Is woken at", time(Number(value), true)] : undefined;
}

/** Its state; of a task that is over how it ended. */
function endedAs({ kind, state, context }: ActorPage): string {
  if (kind !== "task" || state !== "settled") return state;
  try {
    const outcome = JSON.parse(context.find(({ key }) => key === "outcome")?.value ?? "");
    return endOf({ state, outcome });
  } catch {
    return state; // what was too long was cut off
  }
}

/** The room that there is beside a chart, or below it where the window is narrow. */
function besidesPx(chart: SVGElement | false): number {
  const { clientWidth } = document.documentElement;
  const whole = Math.min(1_452, clientWidth - 48);
  if (chart === false || clientWidth <= 1_060) return whole;
  return whole - Number(chart.getAttribute("width")) - 50;
}

/** Those that it spoke with most, at most four. */
function partnersOf(subject: string, steps: readonly StepLine[]): readonly string[] {
  const counts = new Map<string, number>();
  for (const { event, said } of steps) {
    for (const one of [event.from, ...said.map(({ to }) => to)]) {
      if (one !== subject && /^(scheduler$|(job|task|worker|member)\/)/.test(one)) {
        counts.set(one, (counts.get(one) ?? 0) + 1);
      }
    }
  }
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([one]) => one);
}

function linksOf(subject: string, { kind }: ActorPage, members: readonly string[], at: number | undefined): Child {
  const [, id = "", place] = subject.split("/");
  const button = (href: string, text: string): HTMLElement => h("a", { class: "button", href }, text);
  return [
    kind === "task" && [
      button(linkTo("job", id, { at }), "Its job"),
      button(linkTo("output", `${id}/${place}/stdout`), "Output"),
      mayAct(at) && h("button", { click: () => runAgain(id, `task ${place} of ${id}`, Number(place)) }, "Run again"),
    ],
    kind === "job" && button(linkTo("job", id, { at }), "The job"),
    kind === "worker" && button(linkTo("worker", id, { at }), "The worker"),
    button(linkTo("conversation", "", { at, query: { with: members.join(",") } }), "Conversation"),
    button(linkTo("machine", kind, { at }), `All ${kind}s`),
  ];
}

function storyFacts(story: ActionStory | undefined, said: string): readonly (readonly [string, Child] | false)[] {
  if (story === undefined) return [];
  const { inputRoot, output, why } = story;
  const tree = (digest: string): HTMLElement => link(linkTo("snapshot", digest), `${digest.slice(0, 10)}…`);
  return [
    inputRoot !== undefined && ["Input", tree(inputRoot)],
    output !== undefined && ["Output", [
      tree(output),
      inputRoot !== undefined &&
      [" · ", link(linkTo("snapshot", output, { query: { against: inputRoot } }), "against its input")],
    ]],
    why !== said && ["Cache", sentence(why)],
    story.timeoutMs > 0 && ["Time limit", duration(story.timeoutMs)],
  ];
}

/** The cache's story of an action: whose run it is, who was spared one, and whether it was ever seen to end otherwise. */
function keptView(
  { made, exitCode, useCount, usedAtMs, usedBy, differed }: NonNullable<ActionStory["kept"]>,
  subject: string,
): Child {
  const maker = (by: typeof made): Child => [
    by.taskId === undefined
      ? by.by === "upload" ? "a client, which uploaded it" : "a task"
      : `task/${by.taskId}` === subject
      ? "this task"
      : actorLink(`task/${by.taskId}`),
    by.workerId !== undefined && [" on ", actorLink(`worker/${by.workerId}`)],
    " at ",
    time(by.atMs),
    `, in ${duration(by.durationMs)}`,
  ];
  return [
    differed !== undefined && h(
      "div",
      { class: "why is-failed" },
      h(
        "p",
        {},
        `The same action was seen to end otherwise ${
          differed.count === 1 ? "once" : `${differed.count} times`
        }, last with exit code ${differed.exitCode} by `,
        maker(differed.made),
        ": it is not deterministic.",
      ),
    ),
    facts([
      ["Made by", maker(made)],
      ["Exit code", String(exitCode)],
      ["Used", useCount === 0 ? "by nobody else yet" : [`${useCount} times, last at `, time(usedAtMs)]],
      usedBy.length > 0 &&
      ["Used by", usedBy.slice(-10).map((task, place) => [place > 0 && ", ", actorLink(`task/${task}`)])],
    ]),
  ];
}

function programView({ argv, env, outputs, platform, workingDirectory }: NonNullable<ActionStory["program"]>): Child {
  return [
    h("pre", { class: "card command", tabindex: 0, "aria-label": "Command" }, argv.map(quoted).join(" ")),
    facts([
      outputs.length > 0 && ["Outputs", h("code", {}, outputs.join(", "))],
      workingDirectory !== "" && ["In", h("code", {}, workingDirectory)],
      platform.length > 0 && ["Needs", platform.map(({ name, value }) => `${name}=${value}`).join(", ")],
      Object.keys(env).length > 0 &&
      ["Environment", h("code", {}, Object.entries(env).map(([name, value]) => `${name}=${value}`).join(" "))],
    ]),
  ];
}
const quoted = (word: string): string => /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** What the machine would hear where it is. */
function hears({ arrows }: Chart, state: string): Child {
  const here = arrows.filter(({ from }) => from === "" || state === from || state.startsWith(`${from}.`));
  if (here.length === 0) return h("p", { class: "faint" }, "Nothing moves it any more.");
  return h(
    "details",
    {},
    h("summary", {}, `What it would hear in ${state} (${here.length})`),
    h(
      "ul",
      { class: "hears" },
      here.map((arrow) =>
        h(
          "li",
          {},
          h("code", {}, wayText(arrow)),
          h("span", { class: "faint" }, arrow.to === undefined ? "it stays" : `→ ${arrow.to}`),
        )
      ),
    ),
  );
}

/** @param isHeard by this actor; else said by it. */
const messageOf = (message: MessageLine, isHeard: boolean, seq: number): Child => [
  h(
    "p",
    { class: "message-line" },
    h("code", {}, message.type || "its birth"),
    isHeard ? ` from ` : ` to `,
    actorLink(isHeard ? message.from : message.to, seq),
  ),
  message.body !== "" &&
  h("details", {}, h("summary", {}, "what it says"), h("pre", { class: "body" }, pretty(message.body))),
];

/** JSON on lines of its own; what was cut off stays as it is. */
function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function stepView(step: StepLine): Child {
  return [
    h("h3", {}, "It heard"),
    messageOf(step.event, true, step.seq),
    step.before !== undefined && step.changes.length > 0 && [
      h("h3", {}, "What changed in what it knows"),
      h("ul", { class: "changes" }, step.changes.map(change)),
    ],
    step.said.length > 0 && [
      h("h3", {}, "It said"),
      h("ul", { class: "plain" }, step.said.map((message) => h("li", {}, messageOf(message, false, step.seq)))),
    ],
  ];
}
/** A value as JSON; of a time also what a clock showed. */
const valueOf = (key: string, value: string): Child =>
  key.endsWith("AtMs") && /^[0-9]{12,14}$/.test(value)
    ? [time(Number(value), true), h("span", { class: "id" }, ` ${value}`)]
    : h("code", { class: "value" }, value);
const change = ({ key, before, after }: StepLine["changes"][number]): HTMLElement =>
  h(
    "li",
    {},
    h("code", { class: "name" }, key),
    before !== undefined && h("del", {}, valueOf(key, before)),
    after !== undefined && h("ins", {}, valueOf(key, after)),
  );

function historyTable(subject: string, steps: readonly StepLine[], seq: number): HTMLElement {
  return table(
    "History",
    ["Entry", "When", "Heard", "State", "What changed", "Reason"],
    steps.map((step) => [
      h(
        "a",
        { href: linkTo("actor", subject, { at: step.seq }), "aria-current": step.seq === seq && "true" },
        String(step.seq),
      ),
      h("span", { class: "nowrap" }, clockTime(step.atMs, Date.now())),
      [
        h("code", {}, step.event.type || "its birth"),
        h("span", { class: "faint" }, " from "),
        actorLink(step.event.from, step.seq),
      ],
      h(
        "span",
        { class: "nowrap" },
        step.before !== undefined && step.before !== step.after ? [badge(step.before), " → "] : "",
        step.after === undefined ? "gone" : badge(step.after),
      ),
      step.changes.map(({ key }) => key).join(", "),
      step.reason ?? "",
    ]),
  );
}
