/** A piece of a stream in one style: classes of the style sheet. */
export interface Piece {
  readonly text: string;
  readonly style: string;
}

const colours = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"] as const;

/**
 * Splits text with ANSI colours into pieces; other control sequences are left out. A sequence that is cut by the end of a
 * chunk is kept for the next one.
 */
export function ansi(): (chunk: string) => readonly Piece[] {
  let isBold = false;
  let colour = "";
  let rest = "";
  const apply = (code: number): void => {
    if (code === 0) [isBold, colour] = [false, ""];
    else if (code === 1) isBold = true;
    else if (code === 22) isBold = false;
    else if (code === 39) colour = "";
    else if (code >= 30 && code <= 37) colour = colours[code - 30]!;
    else if (code >= 90 && code <= 97) colour = colours[code - 90]!;
  };
  const style = (): string => [isBold ? "ansi-bold" : "", colour === "" ? "" : `ansi-${colour}`].join(" ").trim();
  return (chunk) => {
    const text = rest + chunk;
    // deno-lint-ignore no-control-regex -- it is what terminals are told by
    const cut = /\u001b(\[[0-9;?]{0,40})?$/.exec(text)?.index ?? text.length;
    rest = text.slice(cut);
    const pieces: Piece[] = [];
    let last = 0;
    const say = (to: number): void => {
      if (to > last) pieces.push({ text: text.slice(last, to), style: style() });
    };
    // deno-lint-ignore no-control-regex -- it is what terminals are told by
    for (const match of text.slice(0, cut).matchAll(/\u001b(?:\[([0-9;?]*)([@-~])|[^[])/g)) {
      say(match.index);
      last = match.index + match[0].length;
      if (match[2] === "m") { for (const code of (match[1] || "0").split(";")) apply(Number(code)); }
    }
    say(cut);
    return pieces;
  };
}
