import { Buffer } from "node:buffer";

/**
 * Git's ignore rules (gitignore(5)), rule for rule. Git compares bytes, so names and patterns are here *byte texts*:
 * one character a byte, see {@link byteText}. `?` is one byte, a class is a set of bytes.
 */
export interface IgnoreRule {
  /** `!pattern`: what matches is kept after all. */
  readonly isNegated: boolean;
  /** `pattern/`: only folders match. */
  readonly isForFolders: boolean;
  /** A pattern without a slash is for names at any depth; another one for paths from the rule's folder. */
  readonly isForNames: boolean;
  readonly matches: (text: string) => boolean;
}

/** The rules of one file, in the order of its lines. */
export interface IgnoreRules {
  readonly rules: readonly IgnoreRule[];
  /** Length of the folder that the rules are for, as a prefix of paths: 0 for the top, else with its slash. */
  readonly baseLength: number;
}

const isAscii = (text: string): boolean => {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) >= 0x80) return false;
  return true;
};

/** A text's UTF-8 bytes, one character each; an ASCII text is its own. */
export const byteText = (text: string): string => isAscii(text) ? text : Buffer.from(text).toString("latin1");

/**
 * What these rules alone, not a folder above, say of a path; undefined when none matches.
 *
 * @param lists from the most to the least telling; the first with a matching rule decides, by its last such rule.
 * @param path byte text from the top of the repository.
 * @param nameFrom where in the path the last segment starts.
 */
export function ruleOn(
  lists: readonly IgnoreRules[],
  path: string,
  nameFrom: number,
  isFolder: boolean,
): "ignore" | "keep" | undefined {
  let name: string | undefined;
  for (const { rules, baseLength } of lists) {
    let fromBase: string | undefined;
    for (let i = rules.length - 1; i >= 0; i--) {
      const rule = rules[i]!;
      if (rule.isForFolders && !isFolder) continue;
      const text = rule.isForNames ? (name ??= path.slice(nameFrom)) : (fromBase ??= path.slice(baseLength));
      if (rule.matches(text)) return rule.isNegated ? "keep" : "ignore";
    }
  }
  return undefined;
}

/** Whether a name matches a pattern without a slash; undefined when the pattern can match nothing: "[a". */
export const compileName = (pattern: string): ((name: string) => boolean) | undefined => {
  const matches = compile(byteText(pattern), true, false);
  return matches === undefined ? undefined : (name) => matches(byteText(name));
};

/**
 * The rules of an ignore file.
 *
 * @param bytes of the file; a line may end in CR LF, the first may start with a byte order mark.
 * @param isCaseIgnored git's core.ignoreCase: ASCII letters match in either case.
 */
export function parseIgnoreRules(bytes: Uint8Array, isCaseIgnored: boolean): IgnoreRule[] {
  let text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  if (text.startsWith("\xef\xbb\xbf")) text = text.slice(3);
  const rules: IgnoreRule[] = [];
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const untilNul = line.split("\0", 1)[0]!; // git's patterns are C strings
    const rule = parseRule(
      withoutTrailingSpaces(line === untilNul ? line.replace(/\r$/, "") : untilNul),
      isCaseIgnored,
    );
    if (rule !== undefined) rules.push(rule);
  }
  return rules;
}

/** Spaces at the end do not count unless a backslash is before them; a backslash that ends the line keeps them too. */
function withoutTrailingSpaces(line: string): string {
  let end = 0;
  for (let i = 0; i < line.length; i++) {
    if (line[i] === "\\") {
      i++;
      if (i === line.length) return line;
      end = i + 1;
    } else if (line[i] !== " ") end = i + 1;
  }
  return line.slice(0, end);
}

const foldCase = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

function parseRule(line: string, isCaseIgnored: boolean): IgnoreRule | undefined {
  const isNegated = line.startsWith("!");
  let pattern = isNegated ? line.slice(1) : line;
  const isForFolders = pattern.endsWith("/");
  if (isForFolders) pattern = pattern.slice(0, -1);
  const isForNames = !pattern.includes("/");
  if (pattern.startsWith("/")) pattern = pattern.slice(1);
  if (pattern === "") return undefined;
  const matches = compile(pattern, isForNames, isCaseIgnored);
  if (matches === undefined) return undefined;
  return {
    isNegated,
    isForFolders,
    isForNames,
    matches: isCaseIgnored ? (text) => matches(foldCase(text)) : matches,
  };
}

/** A function that tells whether a text matches; undefined when none can. */
function compile(
  pattern: string,
  isForNames: boolean,
  isCaseIgnored: boolean,
): ((text: string) => boolean) | undefined {
  const special = pattern.search(/[*?[\\]/);
  const literal = (text: string): string => isCaseIgnored ? foldCase(text) : text;
  if (special < 0) {
    const whole = literal(pattern);
    return (text) => text === whole;
  }
  if (isForNames && special === 0 && pattern[0] === "*" && !/[*?[\\]/.test(pattern.slice(1))) {
    const tail = literal(pattern.slice(1));
    return (text) => text.endsWith(tail);
  }
  // Git matches what is before the first special character by itself and starts afresh after it, so that "a**/b" is
  // "a" and "**/b": a double star there counts as one at a pattern's start.
  const head = isForNames ? "" : literal(pattern.slice(0, special));
  const steps = parseGlob(pattern.slice(head.length), isCaseIgnored);
  if (steps === undefined) return undefined;
  return (text) => text.startsWith(head) && runGlob(steps, text, head.length);
}

/**
 * One step of a glob. `byte` and `set` take one byte; `star` any bytes but slashes; `anything` any bytes; `folders`
 * nothing, or any bytes up to and with a slash.
 */
type Step =
  | { readonly kind: "byte"; readonly byte: number }
  | { readonly kind: "set"; readonly set: Uint8Array }
  | { readonly kind: "star" | "anything" | "folders" | "inFolders" };

const slash = 0x2f;
const notSlash = new Uint8Array(256).fill(1);
notSlash[slash] = 0;

/** The steps of a glob; undefined when nothing can match it: an open class, an unknown one, a backslash at the end. */
function parseGlob(glob: string, isCaseIgnored: boolean): Step[] | undefined {
  const steps: Step[] = [];
  let i = 0;
  while (i < glob.length) {
    const from = i;
    const char = glob[i]!;
    if (char === "*") {
      while (glob[i] === "*") i++;
      const isWhole = i - from > 1 && (from === 0 || glob[from - 1] === "/");
      if (isWhole && glob[i] === "/") {
        steps.push({ kind: "folders" }, { kind: "inFolders" });
        i++;
      } else {
        const isAnything = isWhole && (i === glob.length || glob.startsWith("\\/", i));
        steps.push({ kind: isAnything ? "anything" : "star" });
      }
    } else if (char === "?") {
      steps.push({ kind: "set", set: notSlash });
      i++;
    } else if (char === "[") {
      const parsed = parseClass(glob, i + 1, isCaseIgnored);
      if (parsed === undefined) return undefined;
      steps.push({ kind: "set", set: parsed.set });
      i = parsed.next;
    } else {
      if (char === "\\") i++;
      if (i === glob.length) return undefined;
      const byte = isCaseIgnored ? foldCase(glob[i]!) : glob[i]!;
      steps.push({ kind: "byte", byte: byte.charCodeAt(0) });
      i++;
    }
  }
  return steps;
}

const namedClasses: Readonly<Record<string, RegExp>> = {
  alnum: /[0-9A-Za-z]/,
  alpha: /[A-Za-z]/,
  blank: /[ \t]/,
  // deno-lint-ignore no-control-regex -- that is what the class is
  cntrl: /[\x00-\x1f\x7f]/,
  digit: /[0-9]/,
  graph: /[\x21-\x7e]/,
  lower: /[a-z]/,
  print: /[\x20-\x7e]/,
  punct: /[!-/:-@[-`{-~]/,
  space: /[ \t\n\v\f\r]/,
  upper: /[A-Z]/,
  xdigit: /[0-9A-Fa-f]/,
};

/**
 * A class from after its bracket. A `]` that comes first is one of its bytes; so is a `-` at either end, and a `-`
 * after a range or a named class.
 */
function parseClass(
  glob: string,
  from: number,
  isCaseIgnored: boolean,
): { readonly set: Uint8Array; readonly next: number } | undefined {
  let i = from;
  const isNegated = glob[i] === "!" || glob[i] === "^";
  if (isNegated) i++;
  const set = new Uint8Array(256);
  /** The byte that a range may start at. */
  let before: number | undefined;
  for (let isFirst = true; isFirst || glob[i] !== "]"; isFirst = false) {
    if (i >= glob.length) return undefined;
    if (glob[i] === "-" && before !== undefined && i + 1 < glob.length && glob[i + 1] !== "]") {
      i++;
      if (glob[i] === "\\") i++;
      if (i >= glob.length) return undefined;
      const last = glob.charCodeAt(i);
      for (let byte = before; byte <= last; byte++) {
        set[byte] = 1;
        if (isCaseIgnored) set[foldCase(String.fromCharCode(byte)).charCodeAt(0)] = 1;
      }
      before = undefined;
      i++;
      continue;
    }
    if (glob[i] === "[" && glob[i + 1] === ":") {
      const close = glob.indexOf("]", i + 2);
      if (close < 0) return undefined;
      if (close > i + 2 && glob[close - 1] === ":") {
        const name = glob.slice(i + 2, close - 1);
        const isIn = Object.hasOwn(namedClasses, name) ? namedClasses[name] : undefined;
        if (isIn === undefined) return undefined;
        for (let byte = 0; byte < 256; byte++) if (isIn.test(String.fromCharCode(byte))) set[byte] = 1;
        if (isCaseIgnored && name === "upper") set.fill(1, 0x61, 0x7b);
        before = undefined;
        i = close + 1;
        continue;
      }
    }
    if (glob[i] === "\\") i++;
    if (i >= glob.length) return undefined;
    before = glob.charCodeAt(i);
    set[before] = 1;
    i++;
  }
  if (isNegated) { for (let byte = 0; byte < 256; byte++) set[byte] = 1 - set[byte]!; }
  set[slash] = 0;
  return { set, next: i + 1 };
}

/**
 * Whether the steps take all of the text from an offset on. Follows all ways at once, so the time is at most steps
 * times bytes, whatever the glob.
 */
function runGlob(steps: readonly Step[], text: string, from: number): boolean {
  let now = new Uint8Array(steps.length + 1);
  let next = new Uint8Array(steps.length + 1);
  enter(steps, now, 0);
  for (let i = from; i < text.length; i++) {
    const byte = text.charCodeAt(i);
    let isAlive = false;
    next.fill(0);
    for (let at = 0; at < steps.length; at++) {
      if (now[at] === 0) continue;
      const step = steps[at]!;
      if (step.kind === "byte" ? step.byte === byte : step.kind === "set" && step.set[byte] === 1) {
        enter(steps, next, at + 1);
      } else if (step.kind === "star" ? byte !== slash : step.kind === "anything" || step.kind === "inFolders") {
        next[at] = 1;
        if (step.kind === "inFolders") {
          if (byte === slash) enter(steps, next, at + 1);
        } else enter(steps, next, at + 1);
      } else continue;
      isAlive = true;
    }
    if (!isAlive) return false;
    [now, next] = [next, now];
  }
  return now[steps.length] === 1;
}

/** Marks a step, and those that are reached from it without a byte. */
function enter(steps: readonly Step[], marks: Uint8Array, at: number): void {
  marks[at] = 1;
  const kind = steps[at]?.kind;
  if (kind === "star" || kind === "anything") enter(steps, marks, at + 1);
  else if (kind === "folders") {
    marks[at + 1] = 1;
    enter(steps, marks, at + 2);
  }
}
