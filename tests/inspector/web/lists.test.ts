import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ansiLine, lineStyles, plain } from "../../../src/inspector/web/ansi.ts";
import { lineBuffer } from "../../../src/inspector/web/line_buffer.ts";
import { heightPxMax, scrollTo, windowOf } from "../../../src/inspector/web/virtual.ts";

test("of any list, scrolled anywhere, the page has the rows that are seen, and not many more", () => {
  fc.assert(
    fc.property(
      fc.nat(3_000_000),
      fc.integer({ min: 10, max: 60 }),
      fc.integer({ min: 100, max: 1_500 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (count, rowPx, viewPx, part) => {
        const { heightPx } = windowOf(count, rowPx, 0, viewPx);
        expect(heightPx).toBeLessThanOrEqual(heightPxMax);
        const scrollPx = Math.max(0, heightPx - viewPx) * part;
        const { from, to, topPx } = windowOf(count, rowPx, scrollPx, viewPx);
        expect(to - from).toBeLessThanOrEqual(Math.ceil(viewPx / rowPx) + 26);
        if (count === 0) return;
        expect(topPx).toBeLessThanOrEqual(scrollPx);
        // What is drawn covers all that is seen, or reaches the end.
        expect(to === count || topPx + (to - from) * rowPx >= scrollPx + viewPx - 1).toBe(true);
      },
    ),
  );
});

test("the last row can be reached, and so can any other by its number", () => {
  for (const count of [5, 20_000, 2_000_000]) {
    const end = windowOf(count, 19, windowOf(count, 19, 0, 500).heightPx - 500, 500);
    expect(end.to).toBe(count);
    const row = Math.floor(count * 0.7);
    const { from, to } = windowOf(count, 19, scrollTo(count, 19, 500, row), 500);
    expect(row).toBeGreaterThanOrEqual(from);
    expect(row).toBeLessThan(to);
  }
});

test("a stream's last lines are held, however its chunks are cut, and no more than so many", () => {
  fc.assert(fc.property(fc.array(fc.string({ maxLength: 30 })), fc.integer({ min: 1, max: 9 }), (lines, step) => {
    const text = lines.map((line) => line.replaceAll("\n", " ")).join("\n");
    const buffer = lineBuffer(1_000);
    for (let at = 0; at < text.length; at += step) buffer.add(text.slice(at, at + step));
    const wanted = text.split("\n");
    if (wanted.at(-1) === "") wanted.pop();
    expect(Array.from({ length: buffer.count() }, (_, place) => buffer.at(place))).toEqual(wanted);
  }));
  const small = lineBuffer(100);
  for (let line = 0; line < 1_000; line++) small.add(`${line}\n`);
  expect(small.count()).toBeLessThanOrEqual(110);
  expect(small.at(small.count() - 1)).toBe("999");
  expect(small.dropped() + small.count()).toBe(1_000);
});

test("colours are read, carried to the next line, and nothing else of a terminal is shown", () => {
  const first = ansiLine("a\u001b[1;32mgreen\u001b[0m \u001b[2Kb \u001b[41mon red");
  expect(first.pieces).toEqual([
    { text: "a", style: "" },
    { text: "green", style: "ansi-bold ansi-green" },
    { text: " ", style: "" },
    { text: "b ", style: "" },
    { text: "on red", style: "ansi-on-red" },
  ]);
  expect(ansiLine("still", first.style).pieces).toEqual([{ text: "still", style: "ansi-on-red" }]);
  expect(ansiLine("\u001b[38;5;1mred\u001b[38;2;1;2;3mplain").pieces.map(({ style }) => style)).toEqual([
    "ansi-red",
    "",
  ]);
  expect(ansiLine("10 %\r20 %\r30 %\r").pieces).toEqual([{ text: "30 %", style: "" }]);
  expect(ansiLine("\u001b]0;title\u0007shown\u001b[3").pieces).toEqual([{ text: "shown", style: "" }]);
  // As compilers and `ls --hyperlink` write a link, and terminfo the end of a style.
  expect(
    ansiLine("\u001b]8;;file:///a\u001b\\a.c\u001b]8;;\u001b\\:1: \u001b[4:3merror\u001b(B\u001b[m, and more").pieces,
  )
    .toEqual(["a.c", ":1: ", "error", ", and more"].map((text) => ({ text, style: "" })));
});

test("no text makes a line's reader stumble, and what is plain comes through whole", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    const { pieces } = ansiLine(text);
    if (!text.includes("\u001b") && !text.includes("\r")) expect(pieces.map((piece) => piece.text).join("")).toBe(text);
  }));
  expect(ansiLine("", plain).pieces).toEqual([]);
});

test("a line that is jumped to has the colours that lines before it left on, as far as they are here", () => {
  const lines = Array.from(
    { length: 5_000 },
    (_, line) => line === 2_100 ? "\u001b[31mred from here on" : `line ${line}`,
  );
  const here = new Set<number>();
  const styles = lineStyles((line) => here.has(line) ? lines[line] : undefined);
  expect(styles.before(2_200)).toEqual(plain);
  for (let line = 2_000; line < 2_500; line++) here.add(line);
  styles.forget();
  expect(styles.before(2_200).colour).toBe("red");
  expect(styles.before(2_100).colour).toBe("");
  expect(styles.before(2_101).colour).toBe("red");
  expect(styles.before(2_499).colour).toBe("red");
});
