import type { ActionResultData } from "../../../src/domain/action_result.ts";
import type { Digest } from "../../../src/domain/digest.ts";
import { type TaskId, workerId } from "../../../src/domain/ids.ts";
import { encodeActionResult } from "../../../src/protocol/reapi/action_result.ts";
import type { ActionKey, Made } from "../../../src/snapshots/actions/actions.ts";
import { digestOf } from "../../../src/snapshots/blobs/blobs.ts";

export const actionOf = (n: number): Digest => digestOf(Buffer.from(`action ${n}`));
export const keyOf = (n: number, instance = ""): ActionKey => ({ instance, action: actionOf(n) });
export const resultOf = (data: Partial<ActionResultData> = {}): Uint8Array =>
  encodeActionResult({
    outputFiles: [],
    outputDirectories: [],
    outputSymlinks: [],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode: 0,
    ...data,
  });
export const made = (atMs = 1000, worker = "w1"): Made => ({
  by: "job",
  taskId: "j1/0" as TaskId,
  attempt: 1,
  workerId: workerId(worker),
  requestor: "ann",
  atMs,
  durationMs: 31_000,
});
