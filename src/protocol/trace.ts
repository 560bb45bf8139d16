import * as v from "valibot";
import { Fault } from "../domain/fault.ts";
import { label, parse, textRecord, whole } from "./schema.ts";

const traceTask = v.strictObject({
  atMs: whole(0),
  requestor: v.optional(label(200), ""),
  rank: v.optional(whole(0, 1_000), 2),
  durationMs: whole(1),
  platform: v.exactOptional(textRecord(64, 200)),
  input: v.exactOptional(v.string()),
});

/**
 * A task of a trace that a forecast reads: a line of JSON.
 *
 * @param what names it in a fault: "line 3 of day.jsonl".
 * @throws {Fault} `REQUEST_INVALID`
 */
export function parseTraceTask(line: string, what: string): v.InferOutput<typeof traceTask> {
  let given: unknown;
  try {
    given = JSON.parse(line);
  } catch (cause) {
    throw new Fault("REQUEST_INVALID", `Cannot read ${what} as it must be JSON: ${(cause as Error).message}`);
  }
  return parse(traceTask, what, given);
}
