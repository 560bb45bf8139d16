import type { CommandData } from "../domain/command.ts";
import { isFault } from "../domain/fault.ts";
import { explainTask } from "../machines/explain.ts";
import type { State } from "../machines/step.ts";
import { inputRootOf, type TaskContext } from "../machines/task.ts";
import { decodeActionResult } from "../protocol/reapi/action_result.ts";
import { decodeCommand, encodeAction } from "../protocol/reapi/canonical.ts";
import type { ActionCache, ActionEntry } from "../snapshots/actions/actions.ts";
import { type Blobs, digestOf, readBlob } from "../snapshots/blobs/blobs.ts";
import type { ActionStory } from "./routes.ts";

const commandBytesMax = 1024 * 1024;
const usersMax = 100;

/** What a task is made of, and what the cache holds of its action now. */
export async function actionStory(
  state: State,
  { blobs, actions }: { readonly blobs: Blobs; readonly actions: ActionCache | undefined },
): Promise<ActionStory> {
  const task = state.context as TaskContext;
  const { taskId, name, command, timeoutMs, outcome } = task;
  const program = await readCommand(blobs, task);
  const inputRoot = inputRootOf(task);
  // What a client asked for by its digest is known by that; of the others the digest follows from what they are made of.
  const action = task.action?.digest ??
    (program === undefined || inputRoot === undefined
      ? undefined
      : digestOf(encodeAction({ command, inputRoot, timeoutMs, doNotCache: false, platform: program.platform })));
  const instance = task.action?.instance ?? "";
  const entry = action === undefined ? undefined : await actions?.show({ instance, action });
  const output = outcome === undefined || outcome.kind === "skipped" ? undefined : outcome.output;
  return {
    taskId,
    name,
    command,
    ...(program === undefined ? {} : {
      program: {
        argv: program.argv,
        env: program.env,
        outputs: [...program.outputs, ...program.outputFiles ?? [], ...program.outputDirectories ?? []],
        platform: program.platform,
        workingDirectory: program.workingDirectory,
      },
    }),
    ...(inputRoot === undefined ? {} : { inputRoot }),
    ...(output === undefined ? {} : { output }),
    timeoutMs,
    ...(action === undefined ? {} : { action }),
    instance,
    use: task.cache,
    why: explainTask(state),
    ...(entry === undefined ? {} : { kept: keptOf(entry) }),
  };
}

/** Undefined: it is not there any more, or too long to be shown. */
async function readCommand(blobs: Blobs, { command }: TaskContext): Promise<CommandData | undefined> {
  try {
    return decodeCommand(await readBlob(blobs, command, commandBytesMax));
  } catch (error) {
    if (isFault(error, "BLOB_MISSING") || isFault(error, "REQUEST_INVALID")) return undefined;
    throw error;
  }
}

function keptOf({ made, result, useCount, usedAtMs, usedBy, differed }: ActionEntry): NonNullable<ActionStory["kept"]> {
  const exitCodeOf = (bytes: Uint8Array): number => decodeActionResult(bytes).exitCode;
  return {
    made: { ...made },
    exitCode: exitCodeOf(result),
    useCount,
    usedAtMs,
    usedBy: usedBy.slice(-usersMax),
    ...(differed === undefined
      ? {}
      : { differed: { count: differed.count, exitCode: exitCodeOf(differed.result), made: { ...differed.made } } }),
  };
}
