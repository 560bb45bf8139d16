import type { StepLine } from "../actors.ts";
import { inspect } from "./data.ts";
import { h } from "./dom.ts";
import { exportButtons, sequenceMermaid } from "./export.ts";
import { chips, empty, formValues, go, link, scrolls } from "./parts.ts";
import { linkTo } from "./place.ts";
import { drawSequence } from "./sequence.ts";
import type { Page } from "./shown.ts";
import { counted, shortName } from "./words.ts";

/** What chosen actors said to each other up to a moment, as a sequence diagram. */
export const conversationPage: Page = async ({ query, at }) => {
  const members = [...new Set((query.get("with") ?? "scheduler").split(/[\s,]+/).filter((one) => one !== ""))];
  const type = query.get("type") ?? "";
  const [found, others] = await Promise.all([inspect("conversation", { at, with: members }), othersOf(members, at)]);
  const shown = found.messages.filter((message) => type === "" || message.type === type);
  const types = new Map<string, number>();
  for (const message of found.messages) types.set(message.type, (types.get(message.type) ?? 0) + 1);
  const to = (more: Readonly<Record<string, string>>, when = at): string =>
    linkTo("conversation", "", { at: when, query: { with: members.join(","), ...more } });
  return {
    title: "Conversation",
    moment: found.moment,
    watch: members.filter((one) => !one.startsWith("member/")),
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, "Conversation"),
        h(
          "div",
          { class: "buttons" },
          exportButtons(
            "conversation",
            () => document.querySelector<SVGElement>("svg.sequence"),
            () => sequenceMermaid(members, shown),
          ),
        ),
      ),
      h(
        "form",
        { class: "bar", submit: (event: Event) => go(linkTo("conversation", "", { at, query: formValues(event) })) },
        h(
          "label",
          { class: "wide" },
          "Between ",
          h("input", {
            name: "with",
            value: members.join(", "),
            placeholder: "scheduler, job/j01…, task/j01…/0, member/w1",
          }),
        ),
        h("button", {}, "Show"),
      ),
      h(
        "p",
        { class: "members" },
        members.length > 1 &&
          members.map((one) =>
            h(
              "a",
              {
                class: "button small",
                title: `Leave ${one} out`,
                href: linkTo("conversation", "", {
                  at,
                  query: { with: members.filter((other) => other !== one).join(",") },
                }),
              },
              `− ${shortName(one)}`,
            )
          ),
        others.map((one) =>
          h(
            "a",
            {
              class: "button small",
              title: `Show ${one} too`,
              href: linkTo("conversation", "", { at, query: { with: [...members, one].join(",") } }),
            },
            `+ ${shortName(one)}`,
          )
        ),
      ),
      types.size > 1 && chips("Of type", [
        { href: to({}), text: "Every type", isChosen: type === "" },
        ...[...types].sort((a, b) => b[1] - a[1]).slice(0, 12).map(([one, count]) => ({
          href: to({ type: one }),
          text: [one, h("span", { class: "faint" }, ` ${count}`)],
          isChosen: one === type,
        })),
      ]),
      shown.length === 0
        ? empty(
          "Nothing was said between these up to this moment.",
          members.length === 1 ? "Add the address of who it speaks with, such as task/j01…/0 or member/w1." : "",
        )
        : [
          h(
            "p",
            { class: "faint" },
            `${counted(shown.length, "message")}, oldest first. Each leads to the state that it brought about.`,
          ),
          scrolls(
            "Sequence diagram",
            drawSequence(members, shown, {
              linkOf: ({ from, to, seq, heardSeq }) =>
                from.startsWith("member/") || heardSeq !== undefined
                  ? linkTo("actor", to, { at: heardSeq ?? seq })
                  : linkTo("actor", from, { at: seq }),
            }),
          ),
        ],
      found.next !== undefined && h("p", { class: "more" }, link(to({ type }, found.next), "Older messages")),
    ],
  };
};

/** Whom those that are shown spoke with lately and who is not shown, those that were spoken with most first. */
async function othersOf(members: readonly string[], at: number | undefined): Promise<readonly string[]> {
  const asked = members.filter((one) => !one.startsWith("member/")).slice(0, membersAsked);
  const pasts = await Promise.all(
    asked.map((address) =>
      inspect("history", { address, at, limit: 20 }).then(({ steps }) => steps, () => [] as readonly StepLine[])
    ),
  );
  const counts = new Map<string, number>();
  for (const { event, said } of pasts.flat()) {
    for (const one of [event.from, ...said.map(({ to }) => to)]) {
      if (!members.includes(one) && isAddress.test(one)) counts.set(one, (counts.get(one) ?? 0) + 1);
    }
  }
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, othersMax).map(([one]) => one);
}

const membersAsked = 4;
const othersMax = 8;
const isAddress = /^(scheduler$|(job|task|worker|member)\/)/;
