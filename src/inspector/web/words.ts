/** Figures and names as people read them. Pure. */

const two = (n: number): string => String(Math.floor(n)).padStart(2, "0");

export const duration = (ms: number): string =>
  ms < 1_000
    ? `${Math.round(ms)} ms`
    : ms < 60_000
    ? `${(Math.floor(ms / 100) / 10).toFixed(1)} s`
    : ms < 3_600_000
    ? `${Math.floor(ms / 60_000)} min ${two(ms % 60_000 / 1_000)} s`
    : ms < 48 * 3_600_000
    ? `${Math.floor(ms / 3_600_000)} h ${two(ms % 3_600_000 / 60_000)} min`
    : `${Math.floor(ms / 86_400_000)} days`;

export const bytesText = (bytes: number): string =>
  bytes < 1_000
    ? `${bytes} B`
    : bytes < 1e6
    ? `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB`
    : bytes < 1e9
    ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`
    : `${(bytes / 1e9).toFixed(1)} GB`;

export const count = (n: number): string => n.toLocaleString("en");
/** "1 task", "2 tasks". */
export const counted = (n: number, noun: string): string => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/**
 * A time of this reader's clock: "2026-11-24 13:01:35.055".
 *
 * @param nowMs given: the day is left out when it is the same one.
 * @param isExact with its milliseconds.
 */
export function clockTime(atMs: number, nowMs?: number, isExact = true): string {
  const at = new Date(atMs);
  const day = (ms: Date): string => `${ms.getFullYear()}-${two(ms.getMonth() + 1)}-${two(ms.getDate())}`;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${
    isExact ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : ""
  }`;
  return nowMs !== undefined && day(at) === day(new Date(nowMs)) ? clock : `${day(at)} ${clock}`;
}

/** An address as it is said among others: of an id the end, by which jobs of one day differ. */
export function shortName(address: string): string {
  const [kind, id, place] = address.split("/");
  if (kind === "job" && id !== undefined) return `job …${id.slice(-6)}`;
  if (kind === "task" && id !== undefined) return `task …${id.slice(-6)}/${place}`;
  if (kind === "worker" && id !== undefined) return `worker ${id}`;
  if (kind === "member" && id !== undefined) return `process ${id}`;
  return address;
}

/**
 * What somebody means by a moment: "#482" an entry; "13:42", "13:42:10.5" today, or the day before if that is still to
 * come; "2026-11-24 13:42" a day's; "5m", "30s", "2h", "1d" so long ago; "now". Undefined: nothing that can be understood.
 */
export function momentMeant(
  text: string,
  nowMs: number,
): { readonly seq: number } | { readonly atMs: number } | "now" | undefined {
  const said = text.trim().toLowerCase();
  if (said === "now" || said === "live") return "now";
  const entry = /^(?:#|entry\s*)?([0-9]{1,15})$/.exec(said)?.[1];
  if (entry !== undefined) return { seq: Number(entry) };
  const [, many, unit] = /^([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|min|h|d)(?:\s+ago)?$/.exec(said) ?? [];
  if (many !== undefined) {
    const unitMs = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }[unit!]!;
    return { atMs: Math.round(nowMs - Number(many) * unitMs) };
  }
  const [whole, year, month, day, hour, minute, second = "0"] =
    /^(?:([0-9]{4})-([0-9]{2})-([0-9]{2})[t ]+)?([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}(?:\.[0-9]{1,3})?))?$/
      .exec(said) ?? [];
  if (whole === undefined) return undefined;
  const now = new Date(nowMs);
  const at = new Date(
    year === undefined ? now.getFullYear() : Number(year),
    month === undefined ? now.getMonth() : Number(month) - 1,
    day === undefined ? now.getDate() : Number(day),
    Number(hour),
    Number(minute),
    Math.floor(Number(second)),
    Math.round(Number(second) % 1 * 1_000),
  );
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) >= 60) return undefined;
  // What only a clock said, and is still to come, was yesterday.
  if (year === undefined && at.getTime() > nowMs) at.setDate(at.getDate() - 1);
  return { atMs: at.getTime() };
}
