/** The last lines of a stream that goes on; of more than it holds the oldest are let go. */
export interface LineBuffer {
  /** @param chunk of any size; a line may span several. */
  add(chunk: string): void;
  /** Lines held, the one that is being written among them. */
  count(): number;
  /** From 0, the oldest that is held. */
  at(place: number): string | undefined;
  /** Lines that were let go. */
  dropped(): number;
}

const linesMax = 50_000;
/** A line is cut there: a page cannot show more of it. */
const charactersMax = 4_096;

export function lineBuffer(most = linesMax): LineBuffer {
  let lines: string[] = [];
  let last = "";
  let dropped = 0;
  return {
    add(chunk) {
      const parts = (last + chunk).split("\n");
      last = parts.pop()!;
      if (last.length > 2 * charactersMax) last = last.slice(0, charactersMax);
      for (const part of parts) lines.push(part.slice(0, charactersMax));
      if (lines.length <= most + most / 10) return;
      dropped += lines.length - most;
      lines = lines.slice(-most);
    },
    count: () => lines.length + (last === "" ? 0 : 1),
    at: (place) => place === lines.length && last !== "" ? last.slice(0, charactersMax) : lines[place],
    dropped: () => dropped,
  };
}
