import * as v from "valibot";
import {
  askedAction,
  bytes,
  cachesMax,
  cText,
  digest,
  label,
  name,
  outcome,
  parse,
  taskId,
  textRecord,
  whole,
  workerId,
} from "./schema.ts";

/**
 * What a worker and its scheduler say to each other: states, so that the next message repairs a lost one (idea 4).
 * The worker says which attempts it holds; the scheduler answers which it should hold.
 */

/** More than a worker has slots: results that are not acknowledged yet are among them. */
const attemptsMax = 20_000;

/** One attempt as the worker has it. `ended` carries the result and is repeated until it is acknowledged. */
const heldAttempt = v.variant("stage", [
  v.strictObject({ stage: v.literal("held"), taskId, attempt: whole(1) }),
  v.strictObject({ stage: v.literal("running"), taskId, attempt: whole(1), startedAtMs: whole(0) }),
  v.strictObject({ stage: v.literal("ended"), taskId, attempt: whole(1), outcome }),
  v.strictObject({ stage: v.literal("returned"), taskId, attempt: whole(1), why: label(1_000) }),
]);

const description = v.strictObject({
  workerId,
  incarnation: name(64),
  slots: whole(1, 10_000),
  platform: textRecord(64, 200),
  isolation: label(200),
  /** What it has for the needs of tasks. Absent: as much as is asked for. */
  cpuMillis: v.exactOptional(whole(1)),
  memoryBytes: v.exactOptional(whole(1)),
  /** Why it is to be given nothing for now. */
  paused: v.exactOptional(label(200)),
});

export const fromWorker = v.variant("type", [
  /** All that the worker holds. Sent on connecting and every few seconds. */
  v.strictObject({
    type: v.literal("worker.sync"),
    number: whole(1),
    worker: description,
    attempts: v.pipe(v.array(heldAttempt), v.maxLength(attemptsMax)),
  }),
  /** What changed since. */
  v.strictObject({
    type: v.literal("worker.report"),
    number: whole(1),
    attempts: v.pipe(v.array(heldAttempt), v.maxLength(attemptsMax)),
  }),
]);

const assignment = v.strictObject({
  taskId,
  attempt: whole(1),
  /** A REAPI `Command`. */
  command: digest,
  /** The input root, a REAPI `Directory`. */
  inputRoot: digest,
  timeoutMs: whole(0),
  /** What its processes may hold together: when they hold more, the attempt fails with MEMORY_EXCEEDED. */
  memoryBytesMax: v.exactOptional(whole(1)),
  /** Folders that its task leaves to the next one of its requestor. */
  caches: v.exactOptional(v.pipe(
    v.array(v.strictObject({ path: cText(4_096), requestor: label(200), name: name(200) })),
    v.maxLength(cachesMax),
    v.readonly(),
  )),
  action: v.exactOptional(askedAction),
});

const attemptKey = v.strictObject({ taskId, attempt: whole(1) });

export const toWorker = v.strictObject({
  type: v.literal("worker.should"),
  /** A worker ignores an epoch below the highest that it has seen, and a number not above the last of its epoch. */
  epoch: whole(1),
  number: whole(1),
  /** Whether `hold` and `drop` are all there is; what is in neither is then to be let go without a result. */
  full: v.boolean(),
  hold: v.array(assignment),
  drop: v.array(v.strictObject({ taskId, attempt: whole(1), reason: label(1_000) })),
  acknowledged: v.array(attemptKey),
});

/** Between gateway and worker: the bytes of a running attempt's streams, which never pass the scheduler. */
export const toWorkerFromGateway = v.variant("type", [
  v.strictObject({
    type: v.literal("output.follow"),
    follow: whole(1),
    taskId,
    attempt: whole(1),
    stream: v.picklist(["stdout", "stderr"]),
    offset: whole(0),
  }),
  v.strictObject({ type: v.literal("output.stop"), follow: whole(1) }),
]);
export const fromWorkerToGateway = v.variant("type", [
  v.strictObject({ type: v.literal("output.chunk"), follow: whole(1), offset: whole(0), bytes }),
  /** The stream is complete up to `offset`, or is not (any more) with this worker. */
  v.strictObject({ type: v.literal("output.end"), follow: whole(1), offset: whole(0), why: cText(1_000) }),
]);

export type HeldAttempt = v.InferOutput<typeof heldAttempt>;
export type FromWorker = v.InferOutput<typeof fromWorker>;
export type Assignment = v.InferOutput<typeof assignment>;
export type ToWorker = v.InferOutput<typeof toWorker>;
export type ToWorkerFromGateway = v.InferOutput<typeof toWorkerFromGateway>;
export type FromWorkerToGateway = v.InferOutput<typeof fromWorkerToGateway>;

export const parseFromWorker = (input: unknown): FromWorker => parse(fromWorker, "a worker's message", input);
export const parseToWorker = (input: unknown): ToWorker => parse(toWorker, "a scheduler's message", input);
export const parseToWorkerFromGateway = (input: unknown): ToWorkerFromGateway =>
  parse(toWorkerFromGateway, "a gateway's message", input);
export const parseFromWorkerToGateway = (input: unknown): FromWorkerToGateway =>
  parse(fromWorkerToGateway, "a worker's message", input);
