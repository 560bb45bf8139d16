import { parseArgs } from "node:util";
import { closestString } from "deno-std/text/closest_string.js";
import { levenshteinDistance } from "deno-std/text/levenshtein_distance.js";
import { Fault } from "../domain/fault.ts";

/** One flag of a command: how it is written, read and explained. */
export interface Flag<Value> {
  readonly kind: "text" | "list" | "switch";
  /** Stands for the value in help: "PATH". Switches have none. */
  readonly value?: string;
  readonly says: string;
  /** A one-letter form. */
  readonly short?: string;
  /** @param shown the flag as the user wrote it, for the sentence of a fault. */
  readonly read: (text: string, shown: string) => Value;
}
/** At most once; the last one counts. */
export interface TextFlag<Value> extends Flag<Value> {
  readonly kind: "text";
}
/** Any number of times. */
export interface ListFlag<Value> extends Flag<Value> {
  readonly kind: "list";
}
export interface SwitchFlag extends Flag<boolean> {
  readonly kind: "switch";
}

export type FlagTable = Readonly<Record<string, TextFlag<unknown> | ListFlag<unknown> | SwitchFlag>>;

export type FlagValues<Table extends FlagTable> = {
  readonly [Name in keyof Table]: Table[Name] extends TextFlag<infer Value> ? Value | undefined
    : Table[Name] extends ListFlag<infer Value> ? readonly Value[]
    : boolean;
};

type Reader<Value> = (text: string, shown: string) => Value;
const asGiven: Reader<string> = (text) => text;

export const text = (value: string, says: string): TextFlag<string> => ({ kind: "text", value, says, read: asGiven });
export const textOf = <Value>(value: string, says: string, read: Reader<Value>): TextFlag<Value> => ({
  kind: "text",
  value,
  says,
  read,
});
export const list = (value: string, says: string): ListFlag<string> => ({ kind: "list", value, says, read: asGiven });
export const toggle = (says: string, short?: string): SwitchFlag => ({
  kind: "switch",
  says,
  read: () => true,
  ...(short === undefined ? {} : { short }),
});

/** A whole number of a range. */
export const whole = (min: number, max: number): Reader<number> => (given, shown) => {
  const value = Number(given);
  if (/^[0-9]{1,15}$/.test(given) && value >= min && value <= max) return value;
  throw usage(`Cannot read ${shown} as it must be a whole number from ${min} to ${max}: current value is "${given}"`);
};

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const durationPattern = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/;

/** "30s", "1.5h", "1h30m", "500ms" as whole milliseconds, rounded up. @param maxMs the longest that may be asked for. */
export const duration = (maxMs: number): Reader<number> => (given, shown) => {
  let ms = 0;
  if (durationPattern.test(given)) {
    for (const [, count, unit] of given.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
      ms += Number(count) * (unitMs[unit ?? ""] ?? 0);
    }
  }
  if (ms > 0 && ms <= maxMs) return Math.ceil(ms);
  const longest = `${Math.floor(maxMs / 86_400_000)}d`;
  throw usage(
    `Cannot read ${shown} as it must be a time such as 30s, 5m or 1h30m, at most ${longest}: current value is "${given}"`,
  );
};

export const usage = (sentence: string): Fault => new Fault("USAGE_INVALID", sentence);

/** ` Did you mean "x"?` when one of the words is close to the given one; else nothing. */
export function didYouMean(
  given: string,
  words: readonly string[],
  shown: (word: string) => string = (word) => word,
): string {
  if (words.length === 0) return "";
  const begun = words.filter((word) => given.length > 2 && word.startsWith(given));
  const near = begun.length === 1 && begun[0] !== undefined ? begun[0] : closestString(given, [...words]);
  const edits = levenshteinDistance(given.toLowerCase(), near); // two letters in the wrong order are two
  const isNear = near === begun[0] || (edits <= Math.max(2, Math.floor(near.length / 3)) && edits < near.length);
  return isNear ? `. Did you mean "${shown(near)}"?` : "";
}

export interface ParsedLine<Table extends FlagTable> {
  readonly flags: FlagValues<Table>;
  /** Words that are no flags, before `--`. */
  readonly words: readonly string[];
  /** What follows `--`; undefined when there is none. */
  readonly rest: readonly string[] | undefined;
}

/**
 * Reads the words after a command's name.
 *
 * @param command its name, for the sentences.
 * @throws {Fault} `USAGE_INVALID` in one sentence.
 */
export function parseLine<const Table extends FlagTable>(
  command: string,
  table: Table,
  line: readonly string[],
): ParsedLine<Table> {
  const names = Object.keys(table);
  // parseArgs splits the words; it knows the flags, and what is wrong is told by us.
  const { tokens } = parseArgs({
    args: [...line],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(names.map((name) => {
      const flag = table[name];
      return [name, {
        type: flag?.kind === "switch" ? "boolean" as const : "string" as const,
        ...(flag?.short === undefined ? {} : { short: flag.short }),
      }];
    })),
  });
  const values: Record<string, unknown> = {};
  for (const name of names) {
    values[name] = table[name]?.kind === "list" ? [] : table[name]?.kind === "switch" ? false : undefined;
  }
  const words: string[] = [];
  let rest: string[] | undefined;
  for (const token of tokens) {
    if (token.kind === "option-terminator") rest = [];
    else if (token.kind === "positional") (rest ?? words).push(token.value);
    else {
      const flag = Object.hasOwn(table, token.name) ? table[token.name] : undefined;
      const shown = token.rawName;
      if (flag === undefined) {
        const hint = didYouMean(token.name, names, (name) => `--${name}`);
        throw usage(
          `Cannot read ${shown}: ${command} has no such flag${
            hint || `; "scoot-actors help ${command}" lists those it has`
          }`,
        );
      }
      if (flag.kind === "switch") {
        if (token.value !== undefined) {
          throw usage(`Cannot read ${shown} as it must stand alone: current value is "${token.value}"`);
        }
        values[token.name] = true;
        continue;
      }
      const { value } = token;
      if (value === undefined || (!token.inlineValue && value.startsWith("-") && value !== "-")) {
        throw usage(
          `Cannot read ${shown} as it must be followed by ${flag.value}` +
            (value === undefined
              ? ""
              : `: current value is "${value}"; one that starts with a dash is written ${shown}=${value}`),
        );
      }
      const read = flag.read(value, shown);
      if (flag.kind === "list") (values[token.name] as unknown[]).push(read);
      else values[token.name] = read;
    }
  }
  return { flags: values as FlagValues<Table>, words, rest };
}
