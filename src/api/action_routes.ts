import type { ActionResultData } from "../domain/action_result.ts";
import type { Digest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import { jobOfTask, type TaskId } from "../domain/ids.ts";
import type { TaskView } from "../protocol/client_messages.ts";
import { decodeActionResult } from "../protocol/reapi/action_result.ts";
import { decodeCommand, encodeAction } from "../protocol/reapi/canonical.ts";
import type { ActionCache, ActionEntry, ActionKey, Revoked } from "../snapshots/actions/actions.ts";
import { type Blobs, digestOf, readBlob } from "../snapshots/blobs/blobs.ts";
import type { Gateway } from "./gateway.ts";
import { unexpected } from "./gateway.ts";
import type { ActionSummary, ActionView } from "./http_actions.ts";

const commandBytesMax = 64 * 1024 * 1024;

export const unknownAction = (what: string): Fault =>
  new Fault(
    "ACTION_UNKNOWN",
    `Cannot find a kept result of ${what}: none was kept (only what exited 0 is), or it was revoked, or its outputs are gone`,
  );

export function summaryOf({ key, made, useCount, usedAtMs, differed }: ActionEntry): ActionSummary {
  return { ...key, made: { ...made }, useCount, usedAtMs, differedCount: differed?.count ?? 0 };
}

export function viewOf(entry: ActionEntry): ActionView {
  const { result, usedBy, differed } = entry;
  return {
    ...summaryOf(entry),
    result: shownResult(result),
    usedBy: [...usedBy],
    ...(differed === undefined ? {} : {
      differed: { count: differed.count, result: shownResult(differed.result), made: { ...differed.made } },
    }),
  };
}

function shownResult(bytes: Uint8Array): ActionView["result"] {
  const data: ActionResultData = decodeActionResult(bytes);
  const { exitCode, stdout, stderr, outputFiles, outputDirectories } = data;
  const symlinks = [...data.outputSymlinks, ...data.outputFileSymlinks, ...data.outputDirectorySymlinks];
  return {
    exitCode,
    ...(stdout === undefined ? {} : { stdout }),
    ...(stderr === undefined ? {} : { stderr }),
    outputs: [
      ...outputFiles.map(({ path, digest, executable }) => ({ kind: "file" as const, path, digest, executable })),
      ...outputDirectories.map(({ path, rootDirectory, tree }) => ({
        kind: "directory" as const,
        path,
        ...(rootDirectory === undefined ? {} : { digest: rootDirectory }),
        ...(tree === undefined ? {} : { tree }),
      })),
      ...symlinks.map(({ path, target }) => ({ kind: "symlink" as const, path, target })),
    ],
  };
}

/**
 * What is kept of a task's action: what it made or was given, as far as that is still the one that is kept.
 *
 * @throws {Fault} `ACTION_UNKNOWN`, `JOB_UNKNOWN`, `TASK_UNKNOWN`.
 */
export async function entryOfTask(
  { gateway, blobs, actions }: { readonly gateway: Gateway; readonly blobs: Blobs; readonly actions: ActionCache },
  id: TaskId,
): Promise<ActionEntry> {
  const { command, inputRoot, timeoutMs } = await taskOf(gateway, id);
  if (inputRoot === undefined) throw unknownAction(`task ${id}, whose input is not made yet`);
  const { platform } = decodeCommand(await readBlob(blobs, command, commandBytesMax));
  const action = digestOf(encodeAction({ command, inputRoot, timeoutMs, doNotCache: false, platform }));
  const entry = await actions.show({ instance: "", action });
  if (entry === undefined) throw unknownAction(`task ${id} (action ${action})`);
  return entry;
}

async function taskOf(gateway: Gateway, id: TaskId): Promise<TaskView> {
  const tasksFrom = Number(id.slice(id.indexOf("/") + 1));
  const answer = await gateway.ask({ type: "job.get", jobId: jobOfTask(id), tasksFrom });
  if (answer.type !== "job.view") throw unexpected(answer);
  const task = answer.tasks[0];
  if (task?.taskId === id) return task;
  throw new Fault("TASK_UNKNOWN", `Cannot find task ${id}: its job has ${answer.job.tasks}`);
}

/** A page of what is kept, and where the next one begins. */
export async function pageOf(
  actions: ActionCache,
  options: { readonly limit: number; readonly after?: ActionKey },
): Promise<{ readonly actions: readonly ActionSummary[]; readonly next?: ActionKey }> {
  const found: ActionSummary[] = [];
  for await (const entry of actions.list(options)) found.push(summaryOf(entry));
  const last = found.at(-1);
  return {
    actions: found,
    ...(last === undefined || found.length < options.limit
      ? {}
      : { next: { instance: last.instance, action: last.action as Digest } }),
  };
}

/**
 * One JSON object a line while it goes on, and a last one that says how many: without it the answer was cut off.
 *
 * @param told what a fault in the middle is told as.
 */
export async function* revokedLines(
  revoked: AsyncIterable<Revoked>,
  told: (thrown: unknown) => { readonly code: string; readonly message: string },
): AsyncGenerator<Uint8Array> {
  const line = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value)}\n`);
  let count = 0;
  try {
    for await (const { key, made, usedBy } of revoked) {
      yield line({ type: "revoked", ...key, made, usedBy });
      count++;
    }
    yield line({ type: "end", count });
  } catch (thrown) {
    yield line({ type: "fault", ...told(thrown) });
  }
}
