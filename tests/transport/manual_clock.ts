import type { Clock } from "../../src/runtime/clock.ts";

/** A clock that stands still until it is advanced. */
export function manualClock(): Clock & {
  advance(ms: number): Promise<void>;
  jump(ms: number): Promise<void>;
  waiting(): number;
} {
  let nowMs = 0;
  const alarms = new Set<{ readonly atMs: number; readonly wake: () => void }>();
  return {
    now: () => nowMs,
    at(atMs, wake) {
      const alarm = { atMs, wake };
      alarms.add(alarm);
      return () => void alarms.delete(alarm);
    },
    waiting: () => alarms.size,
    /** As after a process was stopped: all that became due meanwhile is called at once, late. */
    async jump(ms) {
      nowMs += ms;
      for (const alarm of [...alarms].filter(({ atMs }) => atMs <= nowMs).sort((a, b) => a.atMs - b.atMs)) {
        if (alarms.delete(alarm)) alarm.wake();
      }
      await settle();
    },
    /** Wakes who is due, in the order of time, and lets what follows from it happen. */
    async advance(ms) {
      const untilMs = nowMs + ms;
      while (true) {
        const [next] = [...alarms].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
        if (next === undefined) break;
        alarms.delete(next);
        nowMs = Math.max(nowMs, next.atMs);
        next.wake();
        await settle();
      }
      nowMs = untilMs;
      await settle();
    },
  };
}

/** Lets all that is under way in memory happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
}
