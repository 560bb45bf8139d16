import { timestampOf } from "../domain/action_result.ts";
import type { CommandData } from "../domain/command.ts";
import { type Digest, sizeOf } from "../domain/digest.ts";
import type { WorkerId } from "../domain/ids.ts";
import type { Outcome, Output } from "../domain/job.ts";
import { encodeActionResult } from "../protocol/reapi/action_result.ts";
import type { Exit } from "../runner/runner.ts";
import type { Clock } from "../runtime/clock.ts";
import { type Blobs, writeBlob } from "../snapshots/blobs/blobs.ts";
import { captureActionOutputs } from "../snapshots/trees/action_outputs.ts";

/** A stream as a result tells of it. */
export interface KeptStream {
  readonly output: Output;
  /** All its bytes, when they are few and not none. */
  readonly raw?: Uint8Array;
}

export interface AskedRun {
  readonly workerId: WorkerId;
  /** Of all inputs. */
  readonly root: string;
  /** Where the command ran. */
  readonly dir: string;
  readonly command: CommandData;
  readonly ending: Outcome;
  readonly exit: Exit;
  readonly stdout: KeptStream;
  readonly stderr: KeptStream;
  /** When the worker began with it, and when its inputs were there. */
  readonly beganAtMs: number;
  readonly fetchedAtMs: number;
  readonly blobs: Blobs;
  readonly clock: Clock;
}

/** Streams up to this size are in the result itself, beside their digests. */
export const rawBytesMax = 16 * 1024;
/** As of `timeout(1)`: a command that was ended has no exit code of its own. */
const endedCode = 124;

/** What came of an action that a client asked for, as its `ActionResult`. @returns its digest; it is in the store. */
export async function storeActionResult(run: AskedRun): Promise<Digest> {
  const { blobs, clock, exit, ending } = run;
  const captureAtMs = clock.now();
  const { directoryFormat } = run.command;
  const outputs = await captureActionOutputs({
    ...run,
    ...(directoryFormat === undefined ? {} : { format: directoryFormat }),
  });
  const nowMs = clock.now();
  return await writeBlob(
    blobs,
    encodeActionResult({
      ...outputs,
      exitCode: ending.kind === "exited" ? ending.exitCode : endedCode,
      ...stream("stdout", run.stdout),
      ...stream("stderr", run.stderr),
      execution: {
        worker: run.workerId,
        workerStartedAt: timestampOf(run.beganAtMs),
        inputFetchStartedAt: timestampOf(run.beganAtMs),
        inputFetchCompletedAt: timestampOf(run.fetchedAtMs),
        executionStartedAt: timestampOf(exit.startedAtMs),
        executionCompletedAt: timestampOf(exit.endedAtMs),
        outputUploadStartedAt: timestampOf(captureAtMs),
        outputUploadCompletedAt: timestampOf(nowMs),
        workerCompletedAt: timestampOf(nowMs),
        auxiliary: [],
      },
    }),
  );
}

const stream = <const Name extends "stdout" | "stderr">(name: Name, { output: { digest }, raw }: KeptStream) =>
  sizeOf(digest) === 0 ? {} : { [name]: digest, ...(raw === undefined ? {} : { [`${name}Raw`]: raw }) };
