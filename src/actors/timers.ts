import { BinaryHeap } from "deno-std/data_structures/binary_heap.js";
import type { Clock } from "../runtime/clock.ts";

/** Deadlines are kept in buckets of this length; an actor is woken at the end of its bucket. */
const bucketMs = 250;

/**
 * Who is to be woken when. A deadline is a fact in an actor's context; this is the one heap of them in a host.
 * Setting, moving and taking back cost O(1) but for a new bucket: most deadlines are taken back, never reached.
 *
 * @param wake called with those that are due, once for each time set, at most 250 ms late.
 */
export function timers<Key>(clock: Clock, wake: (due: readonly Key[], atMs: number) => void) {
  const buckets = new Map<number, Set<Key>>();
  const order = new BinaryHeap<number>((a, b) => a - b);
  const at = new Map<Key, number>();
  let armedFor = Infinity;
  let disarm = (): void => {};
  let closed = false;

  const arm = (): void => {
    const first = order.peek() ?? Infinity;
    if (closed || first === armedFor) return;
    disarm();
    armedFor = first;
    disarm = first === Infinity ? () => {} : clock.at(first * bucketMs, ring);
  };
  const ring = (): void => {
    armedFor = Infinity;
    const atMs = clock.now();
    const due: Key[] = [];
    for (let first = order.peek(); first !== undefined && first * bucketMs <= atMs; first = order.peek()) {
      order.pop();
      for (const key of buckets.get(first) ?? []) {
        at.delete(key);
        due.push(key);
      }
      buckets.delete(first);
    }
    arm();
    if (due.length > 0) wake(due, atMs);
  };
  const clear = (key: Key): void => {
    const bucket = at.get(key);
    if (bucket === undefined) return;
    at.delete(key);
    buckets.get(bucket)?.delete(key); // an empty bucket stays until its time: its place in the heap is taken once
  };
  return {
    /** @param atMs epoch ms; undefined takes the deadline back. */
    set(key: Key, atMs: number | undefined): void {
      if (atMs === undefined) return clear(key);
      const bucket = Math.ceil(atMs / bucketMs);
      if (at.get(key) === bucket) return;
      clear(key);
      at.set(key, bucket);
      const keys = buckets.get(bucket);
      if (keys === undefined) {
        buckets.set(bucket, new Set([key]));
        order.push(bucket);
        arm();
      } else keys.add(key);
    },
    close(): void {
      closed = true;
      disarm();
    },
  };
}
