import { format as formatBytes } from "deno-std/fmt/bytes.js";
import type { Outcome } from "../domain/job.ts";
import type { TaskView } from "../protocol/client_messages.ts";
import type { World } from "./world.ts";

/** Text for people. Programs get JSON: see {@link jsonLine}. */

/** One object, one line. */
export const jsonLine = (value: unknown): string => `${JSON.stringify(value)}\n`;

export interface Look {
  /** Colours only where a person sees them: on a terminal, without NO_COLOR (no-color.org), unless TERM is "dumb". */
  readonly colours: boolean;
  readonly columns: number;
}

export const lookOf = (world: Pick<World, "env" | "stdout">): Look => ({
  colours: world.stdout.isTerminal && (world.env["NO_COLOR"] ?? "") === "" && world.env["TERM"] !== "dumb",
  columns: world.stdout.isTerminal ? world.stdout.columns : Number.POSITIVE_INFINITY,
});

const codes = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;
export type Style = keyof typeof codes;

export const paint = (look: Pick<Look, "colours">, style: Style, text: string): string =>
  look.colours ? `\u001b[${codes[style][0]}m${text}\u001b[${codes[style][1]}m` : text;

const stateStyles: Readonly<Record<string, Style>> = {
  succeeded: "green",
  failed: "red",
  cancelled: "yellow",
  running: "cyan",
  stopping: "yellow",
  present: "green",
  absent: "yellow",
  lost: "red",
  offline: "yellow",
  paused: "yellow",
  flaky: "red",
};
export const paintState = (look: Pick<Look, "colours">, state: string): string => {
  const style = stateStyles[state];
  return style === undefined ? state : paint(look, style, state);
};

// deno-lint-ignore no-control-regex
const controls = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** Text of others, such that it can neither steer the terminal nor break the line. */
export const plain = (text: string): string =>
  text.replace(controls, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);

// deno-lint-ignore no-control-regex
const painted = /\u001b\[\d+m/g;
const widthOf = (cell: string): number => [...cell.replace(painted, "")].length;

/**
 * Columns under their names, numbers of spaces as needed; the last column is cut at the edge of a terminal.
 *
 * @param rows cells may be painted, and must have no line ends.
 */
export function table(look: Look, heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heads.map((head) => paint(look, "dim", head)), ...rows];
  const widths = heads.map((_, column) => Math.max(...all.map((row) => widthOf(row[column] ?? ""))));
  const last = heads.length - 1;
  const lastWidth = Math.max(10, look.columns - widths.slice(0, last).reduce((sum, width) => sum + width + 2, 0));
  return all.map((row) => {
    const cells = heads.map((_, column) => {
      const cell = row[column] ?? "";
      if (column < last) return cell + " ".repeat((widths[column] ?? 0) - widthOf(cell) + 2);
      return widthOf(cell) > lastWidth ? `${[...cell.replace(painted, "")].slice(0, lastWidth - 1).join("")}…` : cell;
    });
    return `${cells.join("").trimEnd()}\n`;
  }).join("");
}

/** "1.34 MB" */
export const size = (bytes: number): string => formatBytes(bytes);

/** "20,000". By hand, since the first use of a locale takes longer than a whole small run (25 ms). */
export const thousands = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

/** "1 file", "20,000 files" */
export const count = (n: number, noun: string): string => `${thousands(n)} ${noun}${n === 1 ? "" : "s"}`;

/** The two largest units: "850 ms", "1.2 s", "3 min 5 s", "2 h 10 min", "3 d 4 h". */
export function span(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const s = Math.round(ms / 1_000);
  if (s < 3_600) return pair(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86_400) return pair(Math.floor(s / 3_600), "h", Math.floor(s % 3_600 / 60), "min");
  return pair(Math.floor(s / 86_400), "d", Math.floor(s % 86_400 / 3_600), "h");
}
const pair = (large: number, largeUnit: string, small: number, smallUnit: string): string =>
  small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;

/** How a task ended, in a few words: "exited 0", "timed out after 30.0 s". */
export function outcomeText(outcome: Outcome): string {
  switch (outcome.kind) {
    case "exited":
      return outcome.signal === undefined ? `exited ${outcome.exitCode}` : `ended by ${outcome.signal}`;
    case "timedOut":
      return `timed out after ${span(outcome.timeoutMs)}`;
    case "killed":
      return `killed: ${outcome.reason}`;
    case "skipped":
      return `skipped: ${outcome.reason}`;
    case "failed":
      return `failed by us: ${outcome.fault.message}`;
  }
}

/** Whose result a task was given: "saved 31 s, first run by j01k3x9q7fa-0004m2/0 at 2026-01-31 12:00:00 UTC". */
export function cachedText({ taskId, madeAtMs, savedMs }: NonNullable<TaskView["cached"]>): string {
  const first = taskId === undefined ? "first run by another program" : `first run by ${taskId}`;
  return `saved ${span(savedMs)}, ${first} at ${moment(madeAtMs)}`;
}

/** "2026-01-31 12:00:00 UTC" */
export const moment = (atMs: number): string => `${new Date(atMs).toISOString().slice(0, 19).replace("T", " ")} UTC`;
