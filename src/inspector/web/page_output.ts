import { ansiLine, lineStyles, type Piece } from "./ansi.ts";
import { inspect, Refusal, stream } from "./data.ts";
import { download } from "./deeds.ts";
import { h, render, widget } from "./dom.ts";
import { chips, link } from "./parts.ts";
import { linkTo } from "./place.ts";
import { lineBuffer } from "./line_buffer.ts";
import type { Page } from "./shown.ts";
import { type Rows, virtualRows } from "./virtual.ts";
import { bytesText, count, counted } from "./words.ts";

const perPage = 500;
const rowPx = 19;
/** Pages kept: beyond them the ones that were asked for first go. */
const pagesMax = 60;

/** What the page shows of a stream: lines that were asked for, or the last ones of a stream that goes on. */
interface Source {
  count(): number;
  at(line: number): string | undefined;
  /** With what comes before it, as far as colours may have been left on there. */
  bring?(from: number, to: number): Promise<void>;
}

/** Of a stream that is kept, by pages. */
function keptLines(task: string, name: "stdout" | "stderr", lines: number): Source {
  const pages = new Map<number, readonly string[] | undefined>();
  /** An answer has fewer lines than were asked for where they are long. */
  const read = async (page: number): Promise<readonly string[]> => {
    const text: string[] = [];
    const end = Math.min(lines, (page + 1) * perPage);
    for (let line = page * perPage; line < end; line = page * perPage + text.length) {
      const more = await inspect("output", { task, stream: name, line, lines: end - line });
      if (more.text.length === 0) break;
      text.push(...more.text);
    }
    return text;
  };
  return {
    count: () => lines,
    at: (line) => pages.get(Math.floor(line / perPage))?.[line % perPage],
    async bring(from, to) {
      const asked: Promise<void>[] = [];
      const first = Math.max(0, Math.floor(from / perPage) - 1);
      for (let page = first; page <= Math.floor((to - 1) / perPage); page++) {
        if (pages.has(page)) continue;
        pages.set(page, undefined);
        asked.push(
          read(page).then((text) => void pages.set(page, text), (error) => {
            pages.delete(page);
            throw error;
          }),
        );
      }
      await Promise.all(asked);
      for (const page of pages.keys()) {
        if (pages.size <= pagesMax) break;
        if (page < first || page > Math.floor(to / perPage)) pages.delete(page);
      }
    },
  };
}

/** A task's output: as it is written while it runs, whole when it has ended; of 100 MB the page has but what is seen. */
export const outputPage: Page = async ({ subject, query }, signal) => {
  const [job = "", place = "", given = "stdout"] = subject.split("/");
  const name = given === "stderr" ? "stderr" : "stdout";
  const task = `${job}/${place}`;
  const [{ last }, kept] = await Promise.all([
    inspect("bounds", {}),
    inspect("output", { task, stream: name, line: 0, lines: 1 }, signal).catch((error) => {
      if (error instanceof Refusal && error.code === "OUTPUT_MISSING") return undefined;
      throw error;
    }),
  ]);
  const wanted = query.get("line") === null ? undefined : Number(query.get("line"));
  const text = query.get("text") ?? "";
  const status = h("span", { role: "status", class: "faint" });
  const follow = h("input", { type: "checkbox", checked: true }) as HTMLInputElement;
  const hits = h("div", { class: "hits" });

  const live = lineBuffer();
  const source: Source = kept === undefined ? { count: live.count, at: live.at } : keptLines(task, name, kept.lines);
  const styles = lineStyles((line) => source.at(line - live.dropped()));
  const piecesOf = (line: number, whole: string): readonly Piece[] =>
    ansiLine(whole, styles.before(line + live.dropped())).pieces;
  const rows = (): Rows<string> => ({
    name: `${name} of task ${task}`,
    className: "output",
    count: source.count(),
    rowPx,
    viewPx: Math.max(240, innerHeight - 330),
    rowAt: source.at,
    ...(source.bring === undefined ? {} : {
      bring: async (from, to) => {
        await source.bring!(from, to);
        styles.forget();
      },
    }),
    isFollowing: kept === undefined && follow.checked,
    onScroll: (isAtEnd) => {
      if (kept === undefined && follow.checked !== isAtEnd && !isAtEnd) follow.checked = false;
    },
    wanted: wanted === undefined || Number.isNaN(wanted) ? undefined : wanted,
    draw: (whole, line) =>
      h(
        "div",
        { class: line === wanted ? "line wanted" : "line" },
        h("a", {
          class: "number",
          href: linkTo("output", subject, { query: { line: String(line), text } }),
          tabindex: -1,
        }, String(line + 1 + live.dropped())),
        h(
          "span",
          { class: "text" },
          piecesOf(line, whole).map(({ text, style }) => h("span", { class: style || undefined }, text)),
        ),
      ),
  });
  let made: ReturnType<typeof virtualRows<string>> | undefined;
  const holder = widget(`output ${subject}`, rows(), (options) => made = virtualRows(options));
  const redraw = (): void => made?.update(rows());

  async function followLive(): Promise<void> {
    status.replaceChildren("Following it as it is written …");
    try {
      for await (const chunk of stream(`/v1/jobs/${job}/tasks/${place}/${name}?follow=1`, signal)) {
        live.add(chunk);
        redraw();
      }
      status.replaceChildren(`It has ended. ${counted(live.count(), "line")} here.`);
    } catch (error) {
      if (!signal.aborted) status.replaceChildren((error as Error).message);
    }
  }
  async function find(): Promise<void> {
    if (text === "") return hits.replaceChildren();
    if (kept === undefined) {
      const found: number[] = [];
      for (let line = 0; line < live.count() && found.length < 100; line++) {
        if (live.at(line)!.includes(text)) found.push(line);
      }
      return render(hits, hitList(found.map((line) => ({ line, text: live.at(line)!.slice(0, 200) })), false));
    }
    const found = await inspect("find", { task, stream: name, text }, signal);
    render(hits, hitList(found.hits, found.next !== undefined));
  }
  const hitList = (found: readonly { readonly line: number; readonly text: string }[], isMore: boolean): HTMLElement =>
    h(
      "details",
      { open: true },
      h(
        "summary",
        {},
        found.length === 0
          ? `"${text}" is nowhere`
          : `"${text}" is on ${isMore ? "more than " : ""}${counted(found.length, "line")}`,
      ),
      h(
        "ol",
        {},
        found.map(({ line, text: around }) =>
          h(
            "li",
            {},
            h("a", {
              "href": linkTo("output", subject, { query: { line: String(line), text } }),
              "aria-current": line === wanted && "true",
            }, count(line + 1)),
            " ",
            h("code", {}, around),
          )
        ),
      ),
    );
  if (kept === undefined) {
    void followLive();
    follow.addEventListener("change", redraw);
  } else {
    status.replaceChildren(
      `${counted(kept.lines, "line")}, ${bytesText(kept.bytes)}${
        kept.truncatedBytes > 0 ? `; ${bytesText(kept.truncatedBytes)} more were written than are kept` : ""
      }`,
    );
  }
  void find().catch((error) => !signal.aborted && render(hits, h("p", { role: "alert" }, (error as Error).message)));
  return {
    title: `${name} of ${task}`,
    moment: last,
    watch: [],
    content: [
      h(
        "div",
        { class: "head" },
        h("h1", {}, "Output of ", link(linkTo("actor", `task/${task}`), task)),
        chips(
          "Stream",
          ["stdout", "stderr"].map((one) => ({
            href: linkTo("output", `${task}/${one}`),
            text: one,
            isChosen: one === name,
          })),
        ),
        h(
          "div",
          { class: "buttons" },
          link(linkTo("job", job), "Its job"),
          kept !== undefined &&
            h("button", {
              click: () => void download(`/v1/jobs/${job}/tasks/${place}/${name}`, `${job}-${place}.${name}.txt`),
            }, "Download"),
        ),
      ),
      h(
        "form",
        {
          "class": "bar",
          "role": "search",
          "aria-label": "In this output",
          submit: (event: Event) => {
            event.preventDefault();
            const wanted = String(new FormData(event.target as HTMLFormElement).get("text"));
            if (wanted === text) void find();
            else location.hash = linkTo("output", subject, { query: { text: wanted } });
          },
        },
        h("input", {
          "name": "text",
          "type": "search",
          "value": text,
          "placeholder": "Find in it",
          "aria-label": "Find in this output",
        }),
        h("button", {}, "Find"),
        kept === undefined && h("label", { class: "check" }, follow, " Follow its end"),
        status,
      ),
      hits,
      holder,
    ],
  };
};
