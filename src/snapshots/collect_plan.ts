/** Which of the blobs that may go do go, decided from when they were used and how large they are. */

/** What may go, by use: memory is bounded by time, not by blobs. */
export interface UseTimes {
  add(usedAtMs: number, bytes: number): void;
  readonly count: number;
  readonly bytes: number;
  /** The least recently used of it, as few as free that many bytes; all when it is not enough. */
  cut(needBytes: number): Cut;
}

export interface Cut {
  /** All that was used before this goes: epoch ms. */
  readonly beforeMs: number;
  /** Of what was used from there on but before this, in any order, what frees so many bytes. */
  readonly untilMs: number;
  readonly untilBytes: number;
}

/** Uses this near to each other are not told apart. */
const stepMs = 10_000;

export function useTimes(): UseTimes {
  const steps = new Map<number, number>();
  let count = 0;
  let bytes = 0;
  return {
    add(usedAtMs, size) {
      const step = Math.floor(usedAtMs / stepMs);
      steps.set(step, (steps.get(step) ?? 0) + size);
      count++;
      bytes += size;
    },
    get count() {
      return count;
    },
    get bytes() {
      return bytes;
    },
    cut(needBytes) {
      let freed = 0;
      let endMs = 0;
      if (needBytes <= 0) return { beforeMs: endMs, untilMs: endMs, untilBytes: 0 };
      for (const [step, size] of [...steps].sort(([a], [b]) => a - b)) {
        const startMs = step * stepMs;
        endMs = startMs + stepMs;
        if (freed + size >= needBytes) return { beforeMs: startMs, untilMs: endMs, untilBytes: needBytes - freed };
        freed += size;
      }
      return { beforeMs: endMs, untilMs: endMs, untilBytes: 0 };
    },
  };
}
