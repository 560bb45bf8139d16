/** What operators read. One line an event; `fields` are plain values. */
export interface Log {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

const text = (fields: Readonly<Record<string, unknown>> | undefined): string =>
  fields === undefined
    ? ""
    : Object.entries(fields).map(([key, value]) =>
      ` ${key}=${
        value instanceof Error
          ? JSON.stringify(value.message)
          : typeof value === "string"
          ? JSON.stringify(value)
          : String(value)
      }`
    ).join("");

/**
 * Lines such as `2026-01-02T03:04:05.678Z scheduler warn Worker is away worker="w1"`.
 *
 * @param write takes one line without its end.
 */
export function lineLog(who: string, now: () => number, write: (line: string) => void): Log {
  const at = (level: string) => (message: string, fields?: Readonly<Record<string, unknown>>): void =>
    write(`${new Date(now()).toISOString()} ${who} ${level} ${message}${text(fields)}`);
  return { info: at("info"), warn: at("warn"), error: at("error") };
}

export const silentLog: Log = { info: () => {}, warn: () => {}, error: () => {} };
