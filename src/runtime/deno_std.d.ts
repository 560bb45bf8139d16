// The npm package deno-std has no types of its own: these are the parts that we use.

declare module "deno-std/data_structures/binary_heap.js" {
  export class BinaryHeap<T> {
    constructor(compare?: (a: T, b: T) => number);
    readonly length: number;
    peek(): T | undefined;
    pop(): T | undefined;
    push(...values: T[]): number;
    isEmpty(): boolean;
  }
}

declare module "deno-std/text/closest_string.js" {
  /** Of at least one word, the one that takes the fewest edits. */
  export function closestString(givenWord: string, possibleWords: readonly string[]): string;
}

declare module "deno-std/text/levenshtein_distance.js" {
  export function levenshteinDistance(one: string, other: string): number;
}

declare module "deno-std/fmt/bytes.js" {
  /** "1.34 MB"; throws for a number that is not finite. */
  export function format(bytes: number): string;
}
