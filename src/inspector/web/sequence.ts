import type { SpokenLine } from "../conversation.ts";
import { svg } from "./dom.ts";
import { cut } from "./graph.ts";
import { clockTime, shortName } from "./words.ts";

export interface SequenceOptions {
  readonly linkOf: (message: SpokenLine) => string;
  /** Messages of this entry are marked. */
  readonly markedSeq?: number | undefined;
  /** It is at most so wide, if its lanes have room. */
  readonly widthPx?: number;
}

/** What tells one from another stays when there is little room: its id, and not what kind it is. */
export function headName(member: string, length: number): string {
  const name = shortName(member);
  return cut(name.length <= length ? name : name.slice(name.indexOf(" ") + 1), length);
}

const row = 34;
const headHeight = 46;
const whenWidth = 104;

/** A conversation as a sequence diagram; each message leads to the moment at which it was said. */
export function drawSequence(
  members: readonly string[],
  messages: readonly SpokenLine[],
  { linkOf, markedSeq, widthPx = 1_180 }: SequenceOptions,
): SVGElement {
  const lane = Math.max(102, Math.min(260, (widthPx - whenWidth - 140) / Math.max(1, members.length - 1)));
  const boxWidth = Math.min(132, lane - 8);
  const first = whenWidth + 66;
  const width = first + lane * Math.max(1, members.length - 1) + 74;
  const height = headHeight + row * messages.length + 18;
  const xOf = (member: string): number => first + lane * members.indexOf(member);
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
        svg("title", {}, member),
        svg("line", { x1: xOf(member), y1: headHeight - 10, x2: xOf(member), y2: height - 6 }),
        svg("rect", { x: xOf(member) - boxWidth / 2, y: 6, width: boxWidth, height: 28, rx: 7 }),
        svg(
          "text",
          { x: xOf(member), y: 25, "text-anchor": "middle" },
          headName(member, Math.floor((boxWidth - 6) / 7.4)),
        ),
      )
    ),
    messages.map((message, index) => {
      const y = headHeight + 24 + row * index;
      const [from, to] = [xOf(message.from), xOf(message.to)];
      const side = to > from ? -1 : 1;
      const isSelf = from === to;
      return svg(
        "a",
        {
          href: linkOf(message),
          class: `message${
            markedSeq !== undefined && (message.seq === markedSeq || message.heardSeq === markedSeq) ? " marked" : ""
          }`,
        },
        svg(
          "title",
          {},
          `${clockTime(message.atMs, message.atMs)} ${
            message.type || "is born"
          }, from ${message.from} to ${message.to}, entry ${message.seq}`,
        ),
        svg("rect", { x: 0, y: y - row / 2 - 5, width, height: row, class: "row" }),
        svg("text", { x: 10, y: y + 4, class: "when" }, clockTime(message.atMs, message.atMs)),
        isSelf
          ? svg("path", { d: `M${from} ${y - 6}h26v10h-20`, class: "line" })
          : svg("path", { d: `M${from} ${y}L${to + 7 * side} ${y}`, class: "line" }),
        svg("path", {
          d: isSelf ? `M${from + 1} ${y + 4}l8 -4v8z` : `M${to + side} ${y}l${8 * side} -4.500v9z`,
          class: "head",
        }),
        svg(
          "text",
          isSelf ? { x: from + 32, y: y + 3 } : { x: (from + to) / 2, y: y - 6, "text-anchor": "middle" },
          message.type || "is born",
        ),
      );
    }),
  );
}
