import { duration, usage } from "./flags.ts";

const agoMsMax = 365 * 24 * 3_600_000;
const ago = duration(agoMsMax);

/** Reads a moment of the past: "5m" ago, a date of ISO 8601, or milliseconds since 1970. What it is depends on now. */
export function moment(text: string, shown: string): (nowMs: number) => number {
  if (/^[0-9]{11,15}$/.test(text)) return () => Number(text);
  if (/^[0-9]{4}-/.test(text)) {
    const atMs = Date.parse(text);
    if (Number.isFinite(atMs) && atMs >= 0) return () => atMs;
    throw usage(
      `Cannot read ${shown} as it must be a time ago such as 5m, or a date such as 2026-05-01T08:30:00Z: current value is "${text}"`,
    );
  }
  const ms = ago(text, shown);
  return (nowMs) => nowMs - ms;
}
