import type { SpokenLine } from "../conversation.ts";
import { clockTime, svg } from "./dom.ts";

/** A conversation as a sequence diagram; each message leads to the moment at which it was said. */
export function drawSequence(
  members: readonly string[],
  messages: readonly SpokenLine[],
  linkOf: (message: SpokenLine) => string,
): SVGElement {
  const lane = 230;
  const row = 30;
  const left = 250;
  const width = left + lane * Math.max(1, members.length - 1) + 130;
  const height = 60 + row * messages.length + 10;
  const xOf = (member: string): number => left + lane * members.indexOf(member);
  return svg(
    "svg",
    {
      class: "sequence",
      role: "group",
      "aria-label": "Messages, oldest first",
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
    },
    members.map((member) =>
      svg(
        "g",
        { class: "member" },
        svg("line", { x1: xOf(member), y1: 36, x2: xOf(member), y2: height }),
        svg("text", { x: xOf(member), y: 24, "text-anchor": "middle" }, member),
      )
    ),
    messages.map((message, index) => {
      const y = 60 + row * index;
      const [from, to] = [xOf(message.from), xOf(message.to)];
      const side = to > from ? -1 : 1;
      return svg(
        "a",
        {
          href: linkOf(message),
          class: "message",
          "aria-label": `${clockTime(message.atMs)}: ${message.from} to ${message.to}: ${message.type}`,
        },
        svg("title", {}, message.body),
        svg("text", { x: 6, y: y + 4, class: "when" }, `${message.seq} · ${clockTime(message.atMs).slice(11)}`),
        svg("line", { x1: from, y1: y, x2: to, y2: y }),
        svg("path", { d: `M${to} ${y}l${8 * side} -4v8z`, class: "head" }),
        svg("text", { x: (from + to) / 2, y: y - 5, "text-anchor": "middle" }, message.type),
      );
    }),
  );
}
