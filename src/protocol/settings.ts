import * as v from "valibot";
import { name, parse, whole } from "./schema.ts";

/**
 * What an operator may set while the cluster runs: how slots are divided, and how much is taken in. Here is the form
 * alone; whether percentages add up and classes exist is for `checkPolicy`.
 */
const policy = v.strictObject({
  classes: v.pipe(
    v.array(v.strictObject({ name: name(100), percent: v.number(), floor: v.optional(whole(0), 0) })),
    v.minLength(1),
    v.maxLength(64),
  ),
  requestors: v.pipe(
    v.array(v.strictObject({ pattern: v.pipe(v.string(), v.maxLength(200)), class: name(100) })),
    v.maxLength(200),
  ),
  ageingMs: v.optional(whole(0), 900_000),
  reserveAfterMs: v.optional(whole(0), 60_000),
  counters: v.optional(v.record(name(100), whole(0)), {}),
  throttles: v.optional(
    v.pipe(
      v.array(v.strictObject({ pattern: v.pipe(v.string(), v.maxLength(200)), running: whole(0) })),
      v.maxLength(200),
    ),
    [],
  ),
  unmetAfterMs: v.optional(whole(0), 60_000),
  failUnmetAfterMs: v.exactOptional(whole(0)),
  rebalance: v.exactOptional(v.strictObject({ minimumMs: whole(0), threshold: v.pipe(v.number(), v.minValue(0)) })),
});

/** What one more job may not exceed. */
const limits = v.strictObject({
  /** Jobs of one requestor that have not ended. */
  jobsPerRequestor: v.optional(whole(1, 1_000_000), 10_000),
  /** Requestors who have such jobs. */
  requestors: v.optional(whole(1, 1_000_000), 10_000),
  tasksPerJob: v.optional(whole(1, 20_000), 20_000),
});

export const settings = v.strictObject({ policy, limits: v.optional(limits, {}) });

export type Settings = v.InferOutput<typeof settings>;
/** As one writes them: what has a default may be left out. */
export type SettingsInput = v.InferInput<typeof settings>;
export type Limits = Settings["limits"];

/** @throws {Fault} `REQUEST_INVALID` */
export const parseSettings = (input: unknown): Settings => parse(settings, "the settings", input);
