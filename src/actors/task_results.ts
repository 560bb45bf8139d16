import {
  type ActionResultData,
  type ExecutionMetadata,
  noOutputs,
  type Timestamp,
  timestampOf,
} from "../domain/action_result.ts";
import type { Digest } from "../domain/digest.ts";
import { asFault } from "../domain/fault.ts";
import type { WorkerId } from "../domain/ids.ts";
import { isSuccess, type Outcome } from "../domain/job.ts";
import { type Cached, inputRootOf, type TaskContext } from "../machines/task.ts";
import type { Log } from "../observability/log.ts";
import { decodeActionResult, encodeActionResult } from "../protocol/reapi/action_result.ts";
import { decodeCommand, encodeAction } from "../protocol/reapi/canonical.ts";
import { type ActionCache, type ActionKey, type CachedAction, resultBytesMax } from "../snapshots/actions/actions.ts";
import { type Blobs, digestOf, readBlob } from "../snapshots/blobs/blobs.ts";
import type { ActionOutputs } from "../snapshots/trees/action_outputs.ts";
import { outputTree } from "../snapshots/trees/output_tree.ts";

export interface Found {
  readonly outcome: Outcome;
  readonly cached: Cached;
}

/** Results of tasks by what they were run of: what the scheduler asks before it queues, and tells when a task succeeded. */
export interface TaskResults {
  /** What a task is run of: the REAPI `Action` that was asked for, or that it makes. Its input is there. */
  actionOf(task: TaskContext): Digest;
  /** Undefined at once when there is none; a promise of undefined when what there was is no longer whole. */
  find(action: Digest, task: TaskContext): Promise<Found | undefined> | undefined;
  /** Keeps what came of a task, if it succeeded. One that cannot be kept is a miss later: that is logged, not thrown. */
  keep(task: TaskContext): Promise<void>;
}

/** Nothing is known and nothing kept: identical tasks in flight are run once all the same. */
export const noResults: TaskResults = { actionOf, find: () => undefined, keep: () => Promise.resolve() };

export function taskResults(
  options: { readonly actions: ActionCache; readonly blobs: Blobs; readonly log: Log },
): TaskResults {
  const { actions, blobs, log } = options;
  const keyOf = (action: Digest, task: TaskContext): ActionKey => ({ instance: task.action?.instance ?? "", action });
  /** Results on their way into the cache: whoever asks for one meanwhile waits for it, and runs nothing twice. */
  const keeping = new Map<string, Promise<void>>();
  const nameOf = ({ instance, action }: ActionKey): string => `${action} ${instance}`;

  const read = async (key: ActionKey, task: TaskContext): Promise<Found | undefined> => {
    try {
      const entry = await actions.get(key, { usedBy: task.taskId });
      if (entry === undefined) return undefined;
      const outcome = task.action === undefined
        ? await outcomeOf(entry, task.command, blobs)
        : askedOutcomeOf(decodeActionResult(entry.result), entry.result);
      if (outcome === undefined) return undefined;
      const { taskId, workerId, atMs, durationMs } = entry.made;
      return {
        outcome,
        cached: {
          ...(taskId === undefined ? {} : { taskId }),
          ...(workerId === undefined ? {} : { workerId }),
          madeAtMs: atMs,
          savedMs: durationMs,
        },
      };
    } catch (thrown) {
      log.warn("Cannot read a cached result; the task is run", { task: task.taskId, error: asFault(thrown) });
      return undefined;
    }
  };
  const put = async (key: ActionKey, task: TaskContext, outcome: Exited, by: TaskContext["attempts"][number]) => {
    const { taskId, requestor, settledAtMs } = task;
    const { startedAtMs, endedAtMs } = outcome;
    try {
      const result = task.action === undefined
        ? encodeActionResult(resultOf(outcome, by.workerId))
        : await readBlob(blobs, outcome.result!, resultBytesMax);
      await actions.put(key, result, {
        by: "job",
        taskId,
        attempt: by.attempt,
        workerId: by.workerId,
        requestor,
        atMs: settledAtMs!,
        durationMs: startedAtMs === undefined || endedAtMs === undefined ? 0 : Math.max(0, endedAtMs - startedAtMs),
      }, { replace: task.cache === "refresh" });
    } catch (thrown) {
      log.warn("Cannot keep a result for others", { task: taskId, error: asFault(thrown) });
    }
  };

  return {
    actionOf,
    find(action, task) {
      const key = keyOf(action, task);
      const coming = keeping.size === 0 ? undefined : keeping.get(nameOf(key));
      if (coming !== undefined) return coming.then(() => read(key, task));
      return actions.knows(key) ? read(key, task) : undefined;
    },
    async keep(task) {
      const { outcome } = task;
      if (outcome?.kind !== "exited" || !isSuccess(outcome)) return;
      if (task.action !== undefined && outcome.result === undefined) return;
      const by = task.attempts.find(({ ended }) => ended === undefined) ?? task.attempts.at(-1);
      if (by === undefined) return;
      const key = keyOf(actionOf(task), task);
      const name = nameOf(key);
      // One after the other, so that what was run last is kept last.
      const kept = (keeping.get(name) ?? Promise.resolve()).then(() => put(key, task, outcome, by));
      keeping.set(name, kept);
      await kept;
      if (keeping.get(name) === kept) keeping.delete(name);
    },
  };
}

function actionOf(task: TaskContext): Digest {
  if (task.action !== undefined) return task.action.digest;
  const platform = Object.entries(task.platform).map(([name, value]) => ({ name, value }));
  const { command, timeoutMs } = task;
  return digestOf(encodeAction({ command, inputRoot: inputRootOf(task)!, timeoutMs, doNotCache: false, platform }));
}

type Exited = Extract<Outcome, { kind: "exited" }>;

const msOf = ({ seconds, nanos }: Timestamp): number => seconds * 1_000 + Math.floor(nanos / 1_000_000);

/** The outputs of a task are one tree: an output folder at its root. */
function resultOf(outcome: Exited, workerId: WorkerId): ActionResultData {
  const { stdout, stderr, output, startedAtMs, endedAtMs } = outcome;
  return {
    ...noOutputs,
    outputDirectories: output === undefined ? [] : [{ path: "", rootDirectory: output, isTopologicallySorted: false }],
    exitCode: outcome.exitCode,
    ...(stdout === undefined ? {} : { stdout: stdout.digest }),
    ...(stderr === undefined ? {} : { stderr: stderr.digest }),
    execution: {
      worker: workerId,
      ...(startedAtMs === undefined ? {} : { executionStartedAt: timestampOf(startedAtMs) }),
      ...(endedAtMs === undefined ? {} : { executionCompletedAt: timestampOf(endedAtMs) }),
      auxiliary: [],
    },
  };
}

/** Of an action that was asked for: whatever form its result has is the answer. */
function askedOutcomeOf({ exitCode, stdout, stderr, execution }: ActionResultData, bytes: Uint8Array): Outcome {
  return {
    kind: "exited",
    exitCode,
    ...(stdout === undefined ? {} : { stdout: { digest: stdout, truncatedBytes: 0 } }),
    ...(stderr === undefined ? {} : { stderr: { digest: stderr, truncatedBytes: 0 } }),
    result: digestOf(bytes),
    ...timesOf(execution),
  };
}

const timesOf = (execution: ExecutionMetadata | undefined): { startedAtMs?: number; endedAtMs?: number } => ({
  ...(execution?.executionStartedAt === undefined ? {} : { startedAtMs: msOf(execution.executionStartedAt) }),
  ...(execution?.executionCompletedAt === undefined ? {} : { endedAtMs: msOf(execution.executionCompletedAt) }),
});

const commandBytesMax = 64 * 1024 * 1024;

/**
 * Of a task of a job. Workers alone are trusted with it; what they made for a client of the Remote Execution API lists
 * outputs one by one, and those that were not made are left out there: a task must have all.
 */
async function outcomeOf(
  { made, result: bytes }: CachedAction,
  command: Digest,
  blobs: Blobs,
): Promise<Outcome | undefined> {
  const result = decodeActionResult(bytes);
  const { exitCode, stdout, stderr, stdoutRaw, stderrRaw, execution } = result;
  if (made.by !== "job" || exitCode !== 0) return undefined;
  if ((stdoutRaw !== undefined && stdout === undefined) || (stderrRaw !== undefined && stderr === undefined)) {
    return undefined;
  }
  const paths = new Set(
    (Object.keys(noOutputs) as (keyof ActionOutputs)[]).flatMap((list) => result[list].map(({ path }) => path)),
  );
  const [root] = result.outputDirectories;
  let output: Digest | undefined;
  if (paths.size === 1 && root?.path === "" && root.rootDirectory !== undefined) output = root.rootDirectory;
  else {
    const { outputs } = decodeCommand(await readBlob(blobs, command, commandBytesMax));
    if (!outputs.every((path) => paths.has(path))) return undefined;
    if (outputs.length > 0) output = await outputTree(blobs, result);
  }
  return {
    kind: "exited",
    exitCode: 0,
    ...(stdout === undefined ? {} : { stdout: { digest: stdout, truncatedBytes: 0 } }),
    ...(stderr === undefined ? {} : { stderr: { digest: stderr, truncatedBytes: 0 } }),
    ...(output === undefined ? {} : { output }),
    ...timesOf(execution),
  };
}
