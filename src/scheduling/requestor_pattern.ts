import { Fault } from "../domain/fault.ts";

/**
 * Patterns of requestors' names: the part of regular expressions that is matched in linear time, by a matcher of our own,
 * because JavaScript's goes back and tries again and can take for ever over 30 characters.
 *
 * A pattern must match the whole name. It has literals, `.`, `*`, `+`, `?`, `|`, groups `( )`, sets `[a-z_]` and `[^a-z]`,
 * and `\` before a character that means itself. `^` at its start and `$` at its end are allowed and change nothing.
 * A match costs at most the pattern's length times the name's: each character is looked at once, for all ways at once.
 */
export interface RequestorPattern {
  matches(requestor: string): boolean;
}

export const patternLengthMax = 200;
/** A longer name matches as its first characters do. */
export const requestorLengthMax = 200;
/** Groups in groups: the parser calls itself once for each. */
const depthMax = 20;

type Test = (code: number) => boolean;
/** One step of the machine: it takes a character that passes and goes on, or goes on by itself in one or two ways. */
type Step =
  | { readonly kind: "take"; readonly test: Test; next: number }
  | { readonly kind: "fork"; one: number; other: number }
  | { readonly kind: "end" };

const special = new Set([..."\\.*+?|()[]{}^$"]);

/** @throws {Fault} `REQUEST_INVALID` with the place of what is not understood. */
export function compilePattern(source: string): RequestorPattern {
  const wrong = (why: string): Fault =>
    new Fault("REQUEST_INVALID", `Cannot take the requestor pattern ${JSON.stringify(source)} as ${why}`);
  if (source.length > patternLengthMax) {
    throw new Fault(
      "REQUEST_INVALID",
      `Cannot take a requestor pattern as it must have at most ${patternLengthMax} characters: it has ${source.length}`,
    );
  }
  let end = source.length;
  if (source.endsWith("$") && !source.endsWith("\\$")) end--;
  let at = source.startsWith("^") ? 1 : 0;
  const steps: Step[] = [{ kind: "end" }];
  const add = (step: Step): number => steps.push(step) - 1;

  /** A part of a pattern, made for what comes after it: returns where it begins. */
  type Part = (next: number) => number;
  const nothing: Part = (next) => next;

  const literal = (): number => {
    let char = source[at++]!;
    if (char === "\\") {
      if (at >= end) throw wrong("it ends after a \\");
      char = source[at++]!;
      if (/[A-Za-z0-9]/.test(char)) {
        throw wrong(`\\${char} at ${at - 2} has no meaning here: only punctuation is escaped`);
      }
    }
    return char.charCodeAt(0);
  };
  const set = (): Test => {
    const from = at - 1;
    const isNot = source[at] === "^";
    if (isNot) at++;
    const ranges: (readonly [number, number])[] = [];
    while (at < end && source[at] !== "]") {
      const low = literal();
      if (source[at] === "-" && at + 1 < end && source[at + 1] !== "]") {
        at++;
        const high = literal();
        if (high < low) throw wrong(`the set at ${from} has a range that runs backwards`);
        ranges.push([low, high]);
      } else ranges.push([low, low]);
    }
    if (at >= end) throw wrong(`the set at ${from} is not closed`);
    at++;
    if (ranges.length === 0) throw wrong(`the set at ${from} is empty`);
    return (code) => ranges.some(([low, high]) => code >= low && code <= high) !== isNot;
  };
  const atom = (depth: number): Part => {
    const char = source[at]!;
    if (char === "(") {
      const from = at++;
      if (depth >= depthMax) throw wrong(`it has groups in groups more than ${depthMax} deep`);
      const inner = choice(depth + 1);
      if (at >= end || source[at] !== ")") throw wrong(`the group at ${from} is not closed`);
      at++;
      return inner;
    }
    if (char === "[") {
      at++;
      const test = set();
      return (next) => add({ kind: "take", test, next });
    }
    if (char === ".") {
      at++;
      return (next) => add({ kind: "take", test: () => true, next });
    }
    if (char !== "\\" && special.has(char)) {
      throw wrong(`${char} at ${at} is out of place: put a \\ before it to mean itself`);
    }
    const code = literal();
    return (next) => add({ kind: "take", test: (other) => other === code, next });
  };
  const repeated = (depth: number): Part => {
    let part = atom(depth);
    while (at < end && (source[at] === "*" || source[at] === "+" || source[at] === "?")) {
      const inner = part;
      const how = source[at++]!;
      part = (next) => {
        if (how === "?") return add({ kind: "fork", one: inner(next), other: next });
        const fork: Step = { kind: "fork", one: 0, other: next };
        const place = add(fork);
        fork.one = inner(place);
        return how === "*" ? place : fork.one;
      };
    }
    return part;
  };
  const sequence = (depth: number): Part => {
    const parts: Part[] = [];
    while (at < end && source[at] !== "|" && source[at] !== ")") parts.push(repeated(depth));
    return (next) => parts.reduceRight((following, part) => part(following), next);
  };
  const choice = (depth: number): Part => {
    let part = at < end ? sequence(depth) : nothing;
    while (at < end && source[at] === "|") {
      at++;
      const one = part;
      const other = sequence(depth);
      part = (next) => add({ kind: "fork", one: one(next), other: other(next) });
    }
    return part;
  };

  const whole = choice(0);
  if (at < end) throw wrong(`) at ${at} closes nothing`);
  const start = whole(0);

  /** Of the character before which a step was reached last: none is reached twice. */
  const reached = new Int32Array(steps.length);
  const reach = (from: number, when: number, found: number[]): void => {
    const open = [from];
    for (let place = open.pop(); place !== undefined; place = open.pop()) {
      if (reached[place] === when) continue;
      reached[place] = when;
      const step = steps[place]!;
      if (step.kind === "fork") open.push(step.other, step.one);
      else found.push(place);
    }
  };
  return {
    matches(requestor) {
      reached.fill(-1);
      let here: number[] = [];
      reach(start, 0, here);
      const length = Math.min(requestor.length, requestorLengthMax);
      for (let index = 0; index < length && here.length > 0; index++) {
        const code = requestor.charCodeAt(index);
        const after: number[] = [];
        for (const place of here) {
          const step = steps[place]!;
          if (step.kind === "take" && step.test(code)) reach(step.next, index + 1, after);
        }
        here = after;
      }
      return here.includes(0);
    },
  };
}
