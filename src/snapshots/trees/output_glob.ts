import { Fault } from "../../domain/fault.ts";
import { compileName } from "./git_ignore.ts";
import { segmentsOf } from "./read_tree.ts";

/** A glob for paths: gitignore's patterns, segment by segment, matched from a folder on. */
export interface Glob {
  readonly text: string;
  readonly start: readonly number[];
  /** What takes a segment's name; `any` takes any number of segments. */
  readonly steps: readonly (((name: string) => boolean) | "any")[];
}

/** A glob, and the steps that may come next at a folder. */
export interface GlobPlace {
  readonly glob: Glob;
  readonly at: readonly number[];
}

/** @throws {Fault} `PATH_INVALID` for a glob that leads outside, or that can match nothing: "[a". */
export function compileGlob(text: string): Glob {
  const steps: (((name: string) => boolean) | "any")[] = [];
  for (const segment of segmentsOf(text)) {
    if (segment === "**") {
      if (steps.at(-1) !== "any") steps.push("any");
      continue;
    }
    const matches = compileName(segment);
    if (matches === undefined) {
      throw new Fault("PATH_INVALID", `Cannot use a glob as it must match something: current value is "${text}"`);
    }
    steps.push(matches);
  }
  if (steps.at(-1) === "any") steps.push(() => true); // all that is in a folder, not the folder
  return { text, steps, start: reached(steps, [0]) };
}

/** The places themselves, and those that are reached from them by no segment. */
function reached(steps: Glob["steps"], places: readonly number[]): number[] {
  const all = new Set<number>();
  for (const place of places) {
    all.add(place);
    if (steps[place] === "any") all.add(place + 1);
  }
  return [...all];
}

/** Where globs stand one segment further, as far as something can still match, and which of them end there. */
export function placesBelow(
  places: readonly GlobPlace[],
  name: string,
): { readonly places: readonly GlobPlace[]; readonly ended: readonly Glob[] } {
  const further: GlobPlace[] = [];
  const ended: Glob[] = [];
  for (const { glob, at } of places) {
    const { steps } = glob;
    const next: number[] = [];
    for (const place of at) {
      const step = steps[place];
      if (step === "any") next.push(place);
      else if (step?.(name)) next.push(place + 1);
    }
    const all = reached(steps, next);
    if (all.includes(steps.length)) ended.push(glob);
    const open = all.filter((place) => place < steps.length);
    if (open.length > 0) further.push({ glob, at: open });
  }
  return { places: further, ended };
}
