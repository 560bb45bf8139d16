import { ansiLine, plain } from "./ansi.ts";
import { inspect } from "./data.ts";
import { type Child, h } from "./dom.ts";
import { late } from "./late.ts";
import { link } from "./parts.ts";
import { linkTo } from "./place.ts";

const linesMax = 6;

/** The end of what a task wrote, of stderr if it wrote there. */
interface Tail {
  readonly stream: "stdout" | "stderr";
  readonly lines: readonly string[];
}

const tails = late<Tail | undefined>();

/** Of a task that has failed; its output may be long, so that it comes when it is there. */
export const tailOf = (taskId: string) =>
  tails(taskId, "", async () => {
    try {
      for (const stream of ["stderr", "stdout"] as const) {
        const { lines } = await inspect("output", { task: taskId, stream, lines: 1 });
        if (lines === 0) continue;
        const { text } = await inspect("output", {
          task: taskId,
          stream,
          line: Math.max(0, lines - linesMax),
          lines: linesMax,
        });
        return { stream, lines: text };
      }
    } catch {
      // It is not kept any more: the sentence stands alone.
    }
    return undefined;
  });

export const tailView = (taskId: string, tail: Tail | undefined): Child =>
  tail !== undefined && h(
    "div",
    { class: "tail" },
    h(
      "pre",
      { tabindex: 0, "aria-label": `The end of its ${tail.stream}` },
      tail.lines.map((line) => [
        ansiLine(line, plain).pieces.map(({ text, style }) => h("span", { class: style || undefined }, text)),
        "\n",
      ]),
    ),
    h("p", { class: "small" }, link(linkTo("output", `${taskId}/${tail.stream}`), `All of its ${tail.stream} →`)),
  );
