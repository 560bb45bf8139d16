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
