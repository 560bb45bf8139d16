import { size, span, thousands } from "./render.ts";
import type { TreeProgress, World } from "./world.ts";

const everyMs = 100;
const barCharacters = 20;
const blockCharacters = 5;

export interface Progress {
  update(progress: TreeProgress): void;
  /** Leaves no trace on the line. */
  clear(): Promise<void>;
}

/**
 * Shows on a terminal that something moves and how far it is; elsewhere nothing. How much there will be is not known
 * before a tree was walked, so the bar moves to and fro.
 *
 * @param doing what is done, such as "Capturing".
 */
export function progressBar(world: Pick<World, "stderr" | "clock">, doing: string): Progress {
  const { stderr, clock } = world;
  const startedAtMs = clock.now();
  let shownAtMs = startedAtMs; // what is done at once shows nothing
  let isShown = false;
  let written: Promise<void> = Promise.resolve();
  const show = (line: string): void => {
    written = stderr.write(`\r${line}\u001b[K`).catch(() => {}); // a bar that nobody sees is no reason to fail
  };
  return {
    update({ files, bytes }) {
      const now = clock.now();
      if (!stderr.isTerminal || now - shownAtMs < everyMs) return;
      shownAtMs = now;
      isShown = true;
      const done = `${doing} ${bar((now - startedAtMs) / everyMs)} ${thousands(files)} files, ${size(bytes)}, ${
        span(now - startedAtMs)
      }`;
      show(done.slice(0, stderr.columns - 1));
    },
    async clear() {
      if (isShown) show("");
      await written;
    },
  };
}

/** @param step counts on; the block is back where it was after twice the free width. */
function bar(step: number): string {
  const free = barCharacters - blockCharacters;
  const phase = Math.floor(step) % (2 * free);
  const left = phase <= free ? phase : 2 * free - phase;
  return `[${" ".repeat(left)}${"█".repeat(blockCharacters)}${" ".repeat(free - left)}]`;
}
