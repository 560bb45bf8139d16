import * as v from "valibot";
import { type Digest, isDigest } from "../domain/digest.ts";
import { Fault, type FaultCode, faults } from "../domain/fault.ts";
import type { JobId, TaskId, WorkerId } from "../domain/ids.ts";

/** The pieces that messages are made of. A schema and its type are one thing; types are inferred, never written beside. */

// deno-lint-ignore no-control-regex -- those are what is refused
const noControl = /^[^\u0000-\u001f\u007f]*$/;

/** Text for people and for names: 1 to `max` characters, no control characters. */
export const name = (max: number) => v.pipe(v.string(), v.minLength(1), v.maxLength(max), v.regex(noControl));
/** Like {@link name}, and may be empty. */
export const label = (max: number) => v.pipe(v.string(), v.maxLength(max), v.regex(noControl));
/** Any text without NUL: arguments, environment values, paths, targets. */
export const cText = (max: number) =>
  v.pipe(v.string(), v.maxLength(max), v.check((text) => !text.includes("\0"), "must hold no NUL"));
/** Folders that a task keeps from run to run, at most. */
export const cachesMax = 8;
export const whole = (min: number, max = Number.MAX_SAFE_INTEGER) =>
  v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max));

export const digest = v.custom<Digest>(
  (input) => typeof input === "string" && isDigest(input),
  "must be a digest: 64 lower-case hex digits, a slash, a size",
);
export const jobId = v.custom<JobId>(
  (input) => typeof input === "string" && /^j[0-9a-z]{10}-[0-9a-z]{6}$/.test(input),
  "must be a job id such as j01k3x9q7fa-0004m2",
);
export const taskId = v.custom<TaskId>(
  (input) => typeof input === "string" && /^j[0-9a-z]{10}-[0-9a-z]{6}\/(0|[1-9][0-9]{0,6})$/.test(input),
  "must be a task id such as j01k3x9q7fa-0004m2/0",
);
export const workerId = v.custom<WorkerId>(
  (input) => typeof input === "string" && /^[A-Za-z0-9._-]{1,64}$/.test(input),
  "must be 1 to 64 of A-Z a-z 0-9 . _ -",
);
export const bytes = v.custom<Uint8Array>((input) => input instanceof Uint8Array, "must be bytes");
export const faultCode = v.custom<FaultCode>(
  (input) => typeof input === "string" && Object.hasOwn(faults, input),
  "must be a code of the fault table",
);
export const fault = v.strictObject({ code: faultCode, message: v.pipe(v.string(), v.maxLength(10_000)) });

/** Names that valibot's records leave out without a word, as JavaScript objects have them of their own. */
const unspeakable = ["__proto__", "prototype", "constructor"];

/** A record with bounded count and bounded names and values. */
export const textRecord = (entriesMax: number, valueMax: number) =>
  v.pipe(
    v.custom<Record<string, string>>(
      (input) => input instanceof Object && !unspeakable.some((name) => Object.hasOwn(input, name)),
      `must be an object, and name none of ${unspeakable.join(", ")}`,
    ),
    v.record(v.pipe(cText(1_000), v.minLength(1)), cText(valueMax)),
    v.check((record) => Object.keys(record).length <= entriesMax, `must have at most ${entriesMax} entries`),
  );

export const askedAction = v.strictObject({ instance: label(256), digest });

const output = v.strictObject({ digest, truncatedBytes: whole(0) });
const leavings = {
  stdout: v.exactOptional(output),
  stderr: v.exactOptional(output),
  output: v.exactOptional(digest),
  result: v.exactOptional(digest),
  startedAtMs: v.exactOptional(whole(0)),
  endedAtMs: v.exactOptional(whole(0)),
  usage: v.exactOptional(v.strictObject({ peakMemoryBytes: whole(0), cpuMs: whole(0) })),
};
export const outcome = v.variant("kind", [
  v.strictObject({
    kind: v.literal("exited"),
    exitCode: whole(0, 255),
    signal: v.exactOptional(name(20)),
    ...leavings,
  }),
  v.strictObject({ kind: v.literal("timedOut"), timeoutMs: whole(0), ...leavings }),
  v.strictObject({ kind: v.literal("killed"), reason: label(1_000), ...leavings }),
  v.strictObject({ kind: v.literal("skipped"), because: taskId, reason: v.pipe(v.string(), v.maxLength(10_000)) }),
  v.strictObject({ kind: v.literal("failed"), fault, ...leavings }),
]);

/** Where in the input: printable, and no longer than a sentence bears, though names in it are a stranger's. */
const pathMax = 200;
// deno-lint-ignore no-control-regex -- those are what is to be seen
const control = /[\u0000-\u001f\u007f]/g;
const printable = (path: string): string => {
  const code = (char: string): string => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
  const shown = path.slice(0, pathMax).replaceAll(control, code);
  return path.length > pathMax ? `${shown}…` : shown;
};

/**
 * Checks once, at the wire. What passes has the schema's type; what does not is told in one sentence.
 *
 * @param what names the thing in the sentence: "a job", "a message from a worker".
 * @throws {Fault} `REQUEST_INVALID` naming the path, what it must be and what it is.
 */
export function parse<const Schema extends v.GenericSchema>(
  schema: Schema,
  what: string,
  input: unknown,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, input, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = printable(v.getDotPath(issue) ?? "it");
  throw new Fault("REQUEST_INVALID", `Cannot read ${what} as ${path} is wrong: ${issue.message.slice(0, 500)}`);
}
