import { count, jsonLine, type Look, lookOf, paint, plain, span, type Style } from "../render.ts";
import type { World } from "../world.ts";
import { failureLines } from "../failure.ts";
import type { TaskEnd, TaskState } from "./run_plan.ts";

const linesMax = 20;
const words: Readonly<Record<TaskState["kind"], readonly [word: string, style: Style]>> = {
  waiting: ["waiting", "dim"],
  preparing: ["preparing", "dim"],
  queued: ["queued", "dim"],
  running: ["running", "cyan"],
  succeeded: ["done", "green"],
  failed: ["failed", "red"],
  skipped: ["skipped", "yellow"],
  stopped: ["stopped", "yellow"],
};

/** Shows how far tasks are: a live line each on a terminal, elsewhere a line when one ends, objects for programs. */
export interface Board {
  state(name: string, state: TaskState): void;
  /** After the last: what went wrong, and the sum. */
  end(ends: ReadonlyMap<string, TaskEnd>, tookMs: number): Promise<void>;
}

export function createBoard(world: World, isJson: boolean): Board {
  const look = lookOf(world);
  const isLive = world.stdout.isTerminal && !isJson;
  const states = new Map<string, TaskState>();
  let shownLines = 0;
  let last: Promise<void> = Promise.resolve();
  let isDrawing = false;
  const write = (text: () => string): Promise<void> => last = last.then(() => world.stdout.write(text()));
  last.catch(() => {});

  const draw = (): void => {
    if (isDrawing) return; // the states of the moment when it is written
    isDrawing = true;
    void write(() => {
      isDrawing = false;
      const lines = liveLines(look, states, world.stdout.columns);
      const up = shownLines === 0 ? "" : `\u001b[${shownLines}A`;
      shownLines = lines.length;
      return `${up}\u001b[J${lines.map((line) => `${line}\n`).join("")}`;
    }).catch(() => {});
  };

  return {
    state(name, state) {
      states.set(name, state);
      if (isLive) return draw();
      const isEnd = ["succeeded", "failed", "skipped", "stopped"].includes(state.kind);
      if (isJson) void write(() => jsonLine({ type: "task", name, ...state })).catch(() => {});
      else if (isEnd) void write(() => `${lineOf(look, name, state)}\n`).catch(() => {});
    },
    async end(ends, tookMs) {
      if (isJson) return await write(() => jsonLine({ type: "summary", tookMs, ...counts(ends) }));
      if (isLive) draw();
      await write(() => failures(look, ends) + summary(ends, tookMs));
    },
  };
}

function liveLines(look: Look, states: ReadonlyMap<string, TaskState>, columns: number): readonly string[] {
  const all = [...states];
  const isOver = ({ kind }: TaskState): boolean => kind === "succeeded" || kind === "skipped" || kind === "waiting";
  const shown = all.length <= linesMax
    ? all
    : [...all.filter(([, state]) => !isOver(state)), ...all.filter(([, state]) => isOver(state))].slice(
      0,
      linesMax - 1,
    );
  const lines = shown.map(([name, state]) => lineOf({ ...look, columns }, name, state));
  return shown.length === all.length ? lines : [...lines, `… and ${count(all.length - shown.length, "more task")}`];
}

/** "done     test  cached 12 ms, saved 31.0 s" */
function lineOf(look: Look, name: string, state: TaskState): string {
  const [word, style] = words[state.kind];
  const head = `${word.padEnd(9)} `;
  const rest = `${plain(name)}  ${plain(detailOf(state))}`.trimEnd();
  const room = look.columns - head.length - 1;
  return paint(look, style, head) + (rest.length > room ? `${rest.slice(0, Math.max(0, room - 1))}…` : rest);
}

function detailOf(state: TaskState): string {
  switch (state.kind) {
    case "succeeded":
      return state.savedMs === undefined
        ? `in ${span(state.tookMs)}`
        : `cached ${span(state.tookMs)}, saved ${span(state.savedMs)}`;
    case "failed":
      return `${state.why}, after ${span(state.tookMs)}`;
    case "skipped":
      return `it needs ${state.because}`;
    default:
      return "";
  }
}

function failures(look: Look, ends: ReadonlyMap<string, TaskEnd>): string {
  const lines: string[] = [];
  for (const [name, end] of ends) {
    if (end.kind !== "failed") continue;
    lines.push("", `${paint(look, "red", plain(name))}: ${plain(end.why)}`);
    for (const text of [end.tail?.stdout ?? "", end.tail?.stderr ?? ""]) {
      if (text !== "") lines.push(...text.split("\n").map((line) => `  | ${plain(line)}`));
    }
    if (end.report !== undefined) lines.push(...failureLines(end.report));
  }
  return lines.map((line) => `${line}\n`).join("");
}

interface Counts {
  readonly tasks: number;
  readonly cached: number;
  readonly ran: number;
  readonly failed: number;
  readonly skipped: number;
  readonly stopped: number;
  readonly savedMs: number;
}

function counts(ends: ReadonlyMap<string, TaskEnd>): Counts {
  const all = [...ends.values()];
  const of = (kind: TaskEnd["kind"]): number => all.filter((end) => end.kind === kind).length;
  const cached = all.flatMap((end) => end.kind === "succeeded" && end.savedMs !== undefined ? [end.savedMs] : []);
  return {
    tasks: all.length,
    cached: cached.length,
    ran: of("succeeded") - cached.length,
    failed: of("failed"),
    skipped: of("skipped"),
    stopped: of("stopped"),
    savedMs: cached.reduce((sum, ms) => sum + ms, 0),
  };
}

/** "3 tasks: 2 cached, 1 ran, in 1.2 s (saved 31.0 s)" */
function summary(ends: ReadonlyMap<string, TaskEnd>, tookMs: number): string {
  const { tasks, savedMs, ...kinds } = counts(ends);
  const parts = Object.entries(kinds).filter(([, n]) => n > 0).map(([kind, n]) => `${n} ${kind}`);
  const saved = savedMs === 0 ? "" : ` (saved ${span(savedMs)})`;
  return `${count(tasks, "task")}: ${parts.join(", ")}, in ${span(tookMs)}${saved}\n`;
}
