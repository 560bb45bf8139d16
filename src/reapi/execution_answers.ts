import { timestampOf } from "../domain/action_result.ts";
import { type Digest, hashOf, sizeOf } from "../domain/digest.ts";
import { Fault, isFault } from "../domain/fault.ts";
import type { AskedAction } from "../domain/job.ts";
import type { TaskView } from "../protocol/client_messages.ts";
import { decodeActionResult, encodeActionResult } from "../protocol/reapi/action_result.ts";
import type { MessageOf } from "../protocol/reapi/codec.ts";
import {
  executeOperationMetadata,
  executeResponse,
  type operation,
  preconditionFailure,
  retryInfo,
  stages,
} from "../protocol/reapi/messages.ts";
import { type ActionCache, resultBytesMax } from "../snapshots/actions/actions.ts";
import { type Blobs, isMissing, readBlob, writeBlob } from "../snapshots/blobs/blobs.ts";
import { absentOf } from "../snapshots/actions/complete.ts";
import { missingInputs } from "./asked_action.ts";
import { statusOf } from "./calls.ts";
import { toWire } from "./content_addressable_storage.ts";

/** Tasks as the API's operations. */

export type Operation = MessageOf<typeof operation>;
export type ExecuteResponse = Partial<MessageOf<typeof executeResponse>>;

const reapiType = "type.googleapis.com/build.bazel.remote.execution.v2.";
const rpcType = "type.googleapis.com/google.rpc.";
/** `google.rpc.Code`. */
const codes = { cancelled: 1, deadlineExceeded: 4, failedPrecondition: 9, unavailable: 14 } as const;
/** Clients that know it do not try again what ran too long. */
const timedOutText = "execution timeout exceeded";
/** Answers go in one message. */
const messageMax = 4_000;
/** A wait for a worker that is worth a word. */
const longWaitMs = 10_000;

/** An operation that goes on. Without a task: it was accepted at that time, and waits. */
export function goingOn(name: string, action: Digest, acceptedAtMs: number, task: TaskView | undefined): Operation {
  const isRunning = task?.state === "running" || task?.state === "stopping";
  const by = task?.attempts.at(-1);
  const metadata = executeOperationMetadata.encode({
    stage: isRunning ? stages.executing : stages.queued,
    actionDigest: toWire(action),
    ...(isRunning ? streamsOf(name) : {}),
    partialExecutionMetadata: {
      worker: isRunning && by !== undefined ? by.workerId : "",
      queuedTimestamp: timestampOf(task?.queuedAtMs ?? acceptedAtMs),
      executionStartTimestamp: isRunning && by?.startedAtMs !== undefined ? timestampOf(by.startedAtMs) : undefined,
    },
  });
  return {
    name,
    metadata: { typeUrl: `${reapiType}ExecuteOperationMetadata`, value: metadata },
    done: false,
    error: undefined,
    response: undefined,
  };
}

/** Of an operation that runs, by its name: names of what it writes, to be read while it does. */
function streamsOf(name: string): { readonly stdoutStreamName: string; readonly stderrStreamName: string } {
  const at = name.lastIndexOf("operations/");
  const [, jobId] = name.slice(at).split("/");
  const stream = `${name.slice(0, at)}logstreams/${jobId}`;
  return { stdoutStreamName: `${stream}.stdout`, stderrStreamName: `${stream}.stderr` };
}

export function ended(name: string, action: Digest, response: ExecuteResponse): Operation {
  const metadata = executeOperationMetadata.encode({ stage: stages.completed, actionDigest: toWire(action) });
  return {
    name,
    metadata: { typeUrl: `${reapiType}ExecuteOperationMetadata`, value: metadata },
    done: true,
    error: undefined,
    response: { typeUrl: `${reapiType}ExecuteResponse`, value: executeResponse.encode(response) },
  };
}

export const cachedResponse = (result: Uint8Array): ExecuteResponse => ({ result, cachedResult: true });

export const cancelledResponse = (why: string): ExecuteResponse => ({
  status: { code: codes.cancelled, message: why, details: [] },
  message: why,
});

/** What makes clients send these blobs, and ask again. */
export const missingResponse = (missing: readonly Digest[]): ExecuteResponse => ({
  status: {
    code: codes.failedPrecondition,
    message: `Cannot run the action as ${missing.length} of its blobs ${missing.length === 1 ? "is" : "are"} not here`,
    details: [{
      typeUrl: `${rpcType}PreconditionFailure`,
      value: preconditionFailure.encode({
        violations: missing.map((digest) => ({
          type: "MISSING",
          subject: `blobs/${hashOf(digest)}/${sizeOf(digest)}`,
        })),
      }),
    }],
  },
});

const againResponse = (why: string, message: string): ExecuteResponse => ({
  status: {
    code: codes.unavailable,
    message: why,
    details: [{ typeUrl: `${rpcType}RetryInfo`, value: retryInfo.encode({ retryDelay: { seconds: 1, nanos: 0 } }) }],
  },
  message,
});

/**
 * What people are told of a task: why it failed, if it did; what it waited for, if that was long; where more is shown.
 * Clients print it for actions that failed.
 */
function messageOf({ outcome, why, queuedAtMs, attempts }: TaskView, page: string): string {
  const isFine = outcome?.kind === "exited" && outcome.exitCode === 0;
  const [first] = attempts;
  const waitedMs = queuedAtMs === undefined || first?.startedAtMs === undefined ? 0 : first.startedAtMs - queuedAtMs;
  return [
    isFine ? "" : why,
    waitedMs < longWaitMs ? "" : `It was queued for ${Math.round(waitedMs / 1_000)} s: ${first!.why}`,
    page,
  ].filter((part) => part !== "").join(" ").slice(0, messageMax);
}

interface Stores {
  readonly blobs: Blobs;
  readonly actions: ActionCache;
}

/** What came of a task that has settled. @param page the address at which people see it. */
export async function responseOf(
  task: TaskView,
  asked: AskedAction,
  page: string,
  { blobs, actions, isPast }: Stores & { readonly isPast: boolean },
  signal: AbortSignal,
): Promise<ExecuteResponse> {
  const { outcome } = task;
  /** Undefined when it is gone, or something that it names is. */
  const resultHere = async (): Promise<Uint8Array | undefined> => {
    const result = await resultOf(task, asked, { blobs, actions }, signal);
    if (result === undefined || !isPast) return result;
    return (await absentOf(blobs, decodeActionResult(result), signal)).length === 0 ? result : undefined;
  };
  const message = messageOf(task, page);
  switch (outcome?.kind) {
    case "exited": {
      const result = await resultHere();
      if (result === undefined) return againResponse("The result of the action is no longer here", message);
      return {
        result,
        cachedResult: task.cached !== undefined,
        message,
        ...(outcome.exitCode === 0 ? {} : { serverLogs: await logsOf(task, blobs) }),
      };
    }
    case "timedOut": {
      const result = await resultHere();
      const status = { code: codes.deadlineExceeded, message: timedOutText, details: [] };
      return { ...(result === undefined ? {} : { result }), status, message, serverLogs: await logsOf(task, blobs) };
    }
    case "failed": {
      const { code, message: text } = outcome.fault;
      if (code === "BLOB_MISSING" || code === "SNAPSHOT_UNKNOWN") {
        const missing = await missingInputs(blobs, task.inputRoot!, signal);
        if (await isMissing(blobs, task.command)) missing.push(task.command);
        return missing.length > 0 ? { ...missingResponse(missing), message } : againResponse(text, message);
      }
      const fault = new Fault(code, text);
      const serverLogs = await logsOf(task, blobs);
      if (fault.meaning.grpc === "UNAVAILABLE") return { ...againResponse(text, message), serverLogs };
      return { status: { ...statusOf(fault), details: [] }, message, serverLogs };
    }
    default:
      return cancelledResponse(message);
  }
}

/** Of a task that waits for what no worker has: its client is told, and not left to wait for ever. */
export function unmetResponse(task: TaskView, page: string): ExecuteResponse | undefined {
  if (task.state !== "queued" || task.unmet === undefined) return undefined;
  const { lacks, nearest } = task.unmet;
  const lacking = lacks.length === 0 ? "all that it asks for in one worker" : lacks.join(", ");
  const near = nearest === undefined || nearest.has.length === 0
    ? ""
    : `; ${nearest.workerId}, which comes nearest, has ${nearest.has.join(", ")}`;
  const fault = new Fault(
    "TASK_UNPLACEABLE",
    `Cannot run the action as no worker that is here could ever run it: none has ${lacking}${near}`,
  );
  const message = `${fault.message}. ${page}`.slice(0, messageMax);
  return { status: { ...statusOf(fault), details: [] }, message };
}

/** The worker's `ActionResult`, with the time at which it was queued here. */
async function resultOf(
  { outcome, queuedAtMs, cached }: TaskView,
  { instance, digest }: AskedAction,
  { blobs, actions }: Stores,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  if (outcome === undefined || outcome.kind === "skipped" || outcome.result === undefined) return undefined;
  let bytes: Uint8Array | undefined;
  try {
    bytes = await readBlob(blobs, outcome.result, resultBytesMax, { signal });
  } catch (thrown) {
    if (!isFault(thrown, "BLOB_MISSING")) throw thrown;
    bytes = (await actions.get({ instance, action: digest }, { signal }))?.result;
  }
  if (bytes === undefined || cached !== undefined || queuedAtMs === undefined) return bytes;
  const result = decodeActionResult(bytes);
  if (result.execution === undefined) return bytes;
  return encodeActionResult({ ...result, execution: { ...result.execution, queuedAt: timestampOf(queuedAtMs) } });
}

/** Why it is as it is, attempt by attempt: what a client shows of an action that failed. None where there is no room for it. */
async function logsOf({ taskId, why, attempts }: TaskView, blobs: Blobs) {
  const lines = attempts.map(({ attempt, reason, workerId, why: placed, ended: end }) =>
    `Attempt ${attempt} (${reason}) on ${workerId}: ${placed}${end === undefined ? "" : ` ${end}`}`
  );
  const text = [`Task ${taskId}: ${why}`, ...lines, ""].join("\n");
  const digest = await writeBlob(blobs, new TextEncoder().encode(text)).catch((thrown) => {
    if (!isFault(thrown, "NO_SPACE")) throw thrown;
  });
  return digest === undefined ? [] : [{ key: "attempts", value: { digest: toWire(digest), humanReadable: true } }];
}
