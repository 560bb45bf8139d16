/** A piece of a line in one style: classes of the style sheet. */
export interface Piece {
  readonly text: string;
  readonly style: string;
}

/** What a line begins with: what the one before it left on. */
export interface Style {
  readonly isBold: boolean;
  readonly isFaint: boolean;
  readonly isUnderlined: boolean;
  readonly isSwapped: boolean;
  readonly colour: string;
  readonly ground: string;
}

export const plain: Style = {
  isBold: false,
  isFaint: false,
  isUnderlined: false,
  isSwapped: false,
  colour: "",
  ground: "",
};

const colours = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"] as const;

function applied(style: Style, codes: readonly number[]): Style {
  let next = style;
  for (let place = 0; place < codes.length; place++) {
    const code = codes[place]!;
    if (code === 0) next = plain;
    else if (code === 1) next = { ...next, isBold: true };
    else if (code === 2) next = { ...next, isFaint: true };
    else if (code === 4) next = { ...next, isUnderlined: true };
    else if (code === 7) next = { ...next, isSwapped: true };
    else if (code === 22) next = { ...next, isBold: false, isFaint: false };
    else if (code === 24) next = { ...next, isUnderlined: false };
    else if (code === 27) next = { ...next, isSwapped: false };
    else if (code >= 30 && code <= 37) next = { ...next, colour: colours[code - 30]! };
    else if (code >= 90 && code <= 97) next = { ...next, colour: colours[code - 90]! };
    else if (code === 39) next = { ...next, colour: "" };
    else if (code >= 40 && code <= 47) next = { ...next, ground: colours[code - 40]! };
    else if (code >= 100 && code <= 107) next = { ...next, ground: colours[code - 100]! };
    else if (code === 49) next = { ...next, ground: "" };
    else if (code === 38 || code === 48) {
      // One of 256: the first 16 are the named ones; what has no name is as it is without. Or three bytes of RGB.
      const [way, index = -1] = [codes[place + 1], codes[place + 2]];
      const named = way === 5 && index < 16 && index >= 0 ? colours[index % 8]! : "";
      next = code === 38 ? { ...next, colour: named } : { ...next, ground: named };
      place += way === 5 ? 2 : way === 2 ? 4 : 0;
    }
  }
  return next;
}

const classesOf = ({ isBold, isFaint, isUnderlined, isSwapped, colour, ground }: Style): string =>
  [
    isBold && "ansi-bold",
    isFaint && "ansi-faint",
    isUnderlined && "ansi-underlined",
    isSwapped && "ansi-swapped",
    colour !== "" && `ansi-${colour}`,
    ground !== "" && `ansi-on-${ground}`,
  ].filter(Boolean).join(" ");

/**
 * A sequence that tells a terminal something: ESC [ … with a letter; a text of ESC ], P, X, ^ or _ up to BEL or ESC \, such
 * as where a link leads; ESC with what stands between it and its letter, such as a choice of letters.
 */
const control =
  // deno-lint-ignore no-control-regex -- it is what terminals are told by
  /\u001b(?:\[([0-?]*)[ -/]*([@-~]?)|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]+[0-~]?|[^[\]PX^_]|$)/g;

/**
 * A line with ANSI colours as pieces; other control sequences are left out, and of what a carriage return writes over the
 * last is shown, as on a terminal.
 *
 * @param style with which it begins. @returns the style with which the next line begins.
 */
export function ansiLine(
  line: string,
  style: Style = plain,
): { readonly pieces: readonly Piece[]; readonly style: Style } {
  const whole = line.replace(/\r+$/, "");
  const shown = whole.slice(whole.lastIndexOf("\r") + 1);
  const pieces: Piece[] = [];
  let now = style;
  let last = 0;
  const say = (to: number): void => {
    if (to > last) pieces.push({ text: shown.slice(last, to), style: classesOf(now) });
  };
  for (const match of shown.matchAll(control)) {
    say(match.index);
    last = match.index + match[0].length;
    if (match[2] === "m") now = applied(now, (match[1] || "0").split(";").map(Number));
  }
  say(shown.length);
  return { pieces, style: now };
}

/** So many lines before it are looked at for what they left on, when a line is jumped to. */
const lookedBack = 1_000;
const stylesMax = 100_000;

/**
 * What lines begin with, whichever is asked for: what those before it, as far as they are here, left on.
 *
 * @param at a line, from 0; undefined: it is not here.
 */
export function lineStyles(at: (line: number) => string | undefined) {
  const known = new Map<number, Style>();
  return {
    before(line: number): Style {
      let from = line;
      while (from > 0 && line - from < lookedBack && !known.has(from) && at(from - 1) !== undefined) from--;
      let style = known.get(from) ?? plain;
      if (known.size > stylesMax) known.clear();
      for (; from < line; from++) known.set(from + 1, style = ansiLine(at(from)!, style).style);
      return style;
    },
    /** More lines are here. */
    forget: (): void => known.clear(),
  };
}
