import { existsSync, mkdirSync, readFileSync, renameSync, statSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import type { CommandData } from "../domain/command.ts";
import { type Digest, emptyDigest } from "../domain/digest.ts";
import { asFault, Fault, type FaultData, faultData, isFault } from "../domain/fault.ts";
import { indexOfTask, jobOfTask, type TaskId, type WorkerId } from "../domain/ids.ts";
import { isSuccess, type Leavings, type Outcome } from "../domain/job.ts";
import type { AttemptInput, KeptFolderSpec } from "../machines/attempt.ts";
import type { Log } from "../observability/log.ts";
import { decodeCommand, encodeAction } from "../protocol/reapi/canonical.ts";
import type { Exit, Runner, Running } from "../runner/runner.ts";
import type { Clock } from "../runtime/clock.ts";
import { removeBeside, removeEmpty, removeLeft } from "../runtime/remove_left.ts";
import { type Blobs, digestOf, readBlob } from "../snapshots/blobs/blobs.ts";
import { fileBytes, hashFile } from "../snapshots/blobs/object_file.ts";
import { checkout, checkoutMtimeSeconds } from "../snapshots/trees/checkout.ts";
import { keptFolderPlace, keptTimes, makeFolders, takeKeptFolder } from "../snapshots/trees/kept_folder.ts";
import type { FoundFolder, KeptFolders } from "../snapshots/trees/kept_folders.ts";
import { captureOutputs, capturePresentOutputs, checkOutputs } from "../snapshots/trees/outputs.ts";
import { segmentsOf } from "../snapshots/trees/read_tree.ts";
import { type LaidFolder, type SpareFolders, spareFolders } from "../snapshots/trees/spare_folders.ts";
import { type KeptStream, rawBytesMax, storeActionResult } from "./action_result.ts";
import type { Effects, ReportEffect } from "./worker_actor.ts";

export interface AttemptEffectsOptions {
  readonly workerId: WorkerId;
  /** Each attempt has a folder in it while it lasts. Emptied at the start. */
  readonly dir: string;
  /** Where tasks without one get their PATH from. */
  readonly path: string;
  readonly blobs: Blobs;
  /** The store's own way to take a file; without, it is put as a stream. */
  readonly putFile?: (path: string) => Promise<Digest>;
  readonly runner: Runner;
  readonly clock: Clock;
  readonly log: Log;
  /** Of each stream that is kept. */
  readonly outputBytesMax: number;
  readonly graceMs: number;
  readonly report: ReportEffect;
  /** What tasks leave to those after them. */
  readonly keptFolders: KeptFolders;
  /** Working folders that wait for the next task which has most of what is in them; none unless given. */
  readonly folders?: SpareFolders;
}

/** Where an attempt keeps its things: beside each other, as each folder more costs what making and removing one does. */
export interface AttemptPlaces {
  /** The working folder: the input snapshot, then what the command makes of it. */
  readonly root: string;
  readonly home: string;
  readonly stdout: string;
  readonly stderr: string;
}

export function placesOf(dir: string, taskId: TaskId, attempt: number): AttemptPlaces {
  const own = join(dir, `${jobOfTask(taskId)}-${indexOfTask(taskId)}-${attempt}`);
  return {
    root: own,
    home: `${own}.home`,
    stdout: `${own}.stdout`,
    stderr: `${own}.stderr`,
  };
}

const commandBytesMax = 64 * 1024 * 1024;
/** A command that is over sooner is told of once, as ended: that it began would cost two more saves and messages. */
const tellStartAfterMs = 10;
/** A kept folder of which the store lacks something, or that is none. */
const lostCodes = ["BLOB_MISSING", "SNAPSHOT_UNKNOWN", "TREE_INVALID"] as const;

/** Checkout, run, capture: what a worker does for an attempt, on this machine. Each is done at most once at a time. */
export function attemptEffects(options: AttemptEffectsOptions): Effects {
  const { blobs, runner, clock, log, report } = options;
  const remove = (dir: string): void => {
    // Nobody uses its place again.
    if (!removeLeft(dir)) log.warn("Cannot remove what a task left", { dir });
  };
  // What an earlier life left may be large: it goes beside the first tasks.
  const left = `${options.dir}.left`;
  remove(left);
  if (existsSync(options.dir)) renameSync(options.dir, left);
  void removeBeside(left);
  mkdirSync(options.dir, { recursive: true });
  const folders = options.folders ?? spareFolders({ dir: join(options.dir, "spare"), clock, foldersMax: 0 });
  interface Live {
    readonly abort: AbortController;
    /** Its inputs, laid out. */
    folder?: LaidFolder;
    input?: AttemptInput;
    running?: Running;
    stopReason?: string;
    exit?: Exit;
    command?: CommandData;
    /** When its inputs were there. */
    fetchedAtMs?: number;
    /** Its own, in which the command finds itself at home; only of tasks of this project's own. */
    home?: string;
    /**
     * Its folders go as soon as they were captured: a task that filled the disk leaves room for its result. Whether
     * they are known to be gone.
     */
    emptying?: Promise<boolean>;
  }
  const live = new Map<string, Live>();
  const keyOf = (taskId: TaskId, attempt: number): string => `${taskId}#${attempt}`;

  const run = async (one: Live, input: AttemptInput): Promise<void> => {
    const { taskId, attempt } = input;
    const places = placesOf(options.dir, taskId, attempt);
    const command = decodeCommand(await readBlob(blobs, input.command, commandBytesMax));
    one.input = input;
    one.command = command;
    const epoch = epochOf(command.env);
    const top = await layInputs(one, input, places.root, epoch * 1000);
    one.fetchedAtMs = clock.now();
    if (input.action === undefined) {
      mkdirSync(places.home);
      one.home = places.home;
      await blobs.put(...actionOf(input, command));
    }
    const cwd = makeFolders(top, command.workingDirectory);
    makeOutputFolders(cwd, command, input.action === undefined);
    one.running = await runner.start({
      id: keyOf(taskId, attempt),
      argv: command.argv,
      env: input.action === undefined
        ? { PATH: options.path, HOME: places.home, SOURCE_DATE_EPOCH: `${epoch}`, ...command.env }
        : command.env, // exactly as it was declared
      cwd,
      stdoutPath: places.stdout,
      stderrPath: places.stderr,
      outputBytesMax: options.outputBytesMax,
      timeoutMs: input.timeoutMs,
      graceMs: options.graceMs,
      ...(input.memoryBytesMax === undefined ? {} : { memoryBytesMax: input.memoryBytesMax }),
    });
    const atMs = one.running.startedAtMs;
    const cancelTelling = clock.at(
      atMs + tellStartAfterMs,
      () => report(taskId, attempt, { type: "attempt.started", atMs }),
    );
    if (one.stopReason !== undefined) one.running.stop(one.stopReason);
    const exit = await one.running.exit;
    cancelTelling();
    one.exit = exit;
    report(taskId, attempt, { type: "attempt.finished", ending: endingOf(exit, input.timeoutMs) });
  };

  /** Checks out the inputs and what is kept beside them, with times of change that fit each other. @returns the folder, without symlinks. */
  const layInputs = async (
    one: Live,
    { inputRoot, caches = [] }: AttemptInput,
    root: string,
    mtimeMs: number,
  ): Promise<string> => {
    const { signal } = one.abort;
    const found: (FoundFolder & KeptFolderSpec)[] = [];
    for (const spec of caches) {
      const kept = await options.keptFolders.find(spec);
      if (kept !== undefined) found.push({ ...spec, ...kept });
    }
    const { inputsMs, keptMs, changedMs } = keptTimes(mtimeMs);
    const { dir: top } = one.folder = await folders.checkout({
      snapshot: inputRoot,
      dir: root,
      blobs,
      signal,
      mtimeMs: inputsMs,
      ...(found.length === 0 ? {} : { changed: { since: found.map(({ madeFor }) => madeFor), mtimeMs: changedMs } }),
    });
    for (const { path } of caches) {
      const dir = keptFolderPlace(top, path); // refused in the first run as in those after it
      const kept = found.find((one) => one.path === path);
      if (kept === undefined) continue;
      try {
        await checkout({ snapshot: kept.content, dir, blobs, signal, mtimeMs: keptMs });
      } catch (thrown) {
        if (!lostCodes.some((code) => isFault(thrown, code))) throw thrown;
        // What is lost costs the work of making it anew, and no more.
        log.warn("Cannot lay out a kept folder; the task starts without it", { ...kept, error: asFault(thrown) });
        remove(dir);
        await options.keptFolders.forget(kept, kept);
      }
    }
    return top;
  };

  /** Keeps folders for the next run. The task's result does not depend on that. */
  const keepFolders = async (root: string, { inputRoot, caches = [] }: AttemptInput): Promise<void> => {
    for (const spec of caches) {
      try {
        const content = await takeKeptFolder({ top: root, path: spec.path, blobs, clock });
        if (content !== undefined) await options.keptFolders.keep(spec, { content, madeFor: inputRoot });
      } catch (thrown) {
        log.warn("Cannot keep a folder for the next run", { ...spec, error: asFault(thrown) });
      }
    }
  };

  /** A stream's name in the store, in which a short one, whose bytes come with it, is to be put yet. */
  const readStream = async (path: string, truncatedBytes: number): Promise<KeptStream> => {
    const { size } = statSync(path);
    if (size === 0) return { output: { digest: emptyDigest, truncatedBytes } };
    if (size > rawBytesMax) {
      const digest = options.putFile === undefined ? await putFileAsStream(blobs, path) : await options.putFile(path);
      return { output: { digest, truncatedBytes } };
    }
    const raw = readFileSync(path);
    return { output: { digest: digestOf(raw), truncatedBytes }, raw };
  };

  const capture = async (one: Live, taskId: TaskId, attempt: number, ending: Outcome): Promise<void> => {
    const places = placesOf(options.dir, taskId, attempt);
    const exit = one.exit!;
    const stdout = await readStream(places.stdout, exit.stdoutTruncatedBytes);
    const stderr = await readStream(places.stderr, exit.stderrTruncatedBytes);
    // With what the task made: what is put at once is saved at once.
    const kept = Promise.all(
      [stdout, stderr].map(({ output, raw }) => raw === undefined ? undefined : blobs.put(output.digest, raw)),
    );
    kept.catch(() => {}); // It is waited for below.
    const leavings: Leavings = {
      stdout: stdout.output,
      stderr: stderr.output,
      startedAtMs: exit.startedAtMs,
      endedAtMs: exit.endedAtMs,
      ...(exit.usage === undefined ? {} : { usage: exit.usage }),
    };
    let made: Pick<Leavings, "output" | "result"> & { readonly fault?: FaultData };
    try {
      made = await keepMade(one, places, ending, exit, stdout, stderr);
    } catch (thrown) {
      made = { fault: faultData(asFault(thrown, `Cannot capture the outputs of ${taskId}`)) };
    }
    await kept;
    const { fault, ...digests } = made;
    report(taskId, attempt, {
      type: "attempt.captured",
      leavings: { ...leavings, ...digests },
      ...(fault === undefined ? {} : { fault }),
    });
  };
  /** Stores what the task made beside its streams. */
  const keepMade = async (
    { input, command, fetchedAtMs }: Live,
    places: AttemptPlaces,
    ending: Outcome,
    exit: Exit,
    stdout: KeptStream,
    stderr: KeptStream,
  ): Promise<Pick<Leavings, "output" | "result">> => {
    if (isSuccess(ending)) await keepFolders(places.root, input!);
    const dir = join(places.root, command!.workingDirectory);
    if (input!.action === undefined) {
      const output = await keepOutputs(dir, command!, ending);
      return output === undefined ? {} : { output };
    }
    const result = await storeActionResult({
      workerId: options.workerId,
      root: places.root,
      dir,
      command: command!,
      ending,
      exit,
      stdout,
      stderr,
      beganAtMs: input!.atMs,
      fetchedAtMs: fetchedAtMs!,
      blobs,
      clock,
    });
    return { result };
  };
  /** Most commands leave an empty folder: that one goes at once, and not while others wait for the disk. */
  const leaveFolder = async (folder: LaidFolder): Promise<boolean> => {
    const isGone = await removeEmpty(folder.dir);
    if (isGone) folders.forget(folder);
    else await folders.leave(folder);
    return isGone;
  };
  const leaveHome = async (home: string): Promise<boolean> => {
    const isGone = await removeEmpty(home);
    if (!isGone) await removeBeside(home);
    return isGone;
  };
  /** Of a command that failed, whatever of its outputs is there; of one that succeeded, all of them or a fault. */
  const keepOutputs = async (dir: string, command: CommandData, ending: Outcome): Promise<Digest | undefined> => {
    if (command.outputs.length === 0) return undefined;
    if (isSuccess(ending)) {
      return await captureOutputs({ dir, paths: command.outputs, blobs, clock });
    }
    return await capturePresentOutputs({ dir, paths: command.outputs, blobs, clock });
  };

  return {
    run(input) {
      const { taskId, attempt } = input;
      const one: Live = { abort: new AbortController() };
      live.set(keyOf(taskId, attempt), one);
      run(one, input).catch(async (thrown) => {
        // What was laid out goes at once: a task that filled the disk leaves room to say so.
        if (one.running === undefined) await removeBeside(placesOf(options.dir, taskId, attempt).root);
        const fault = one.stopReason !== undefined
          ? new Fault("CANCELLED", one.stopReason)
          : asFault(thrown, `Cannot run ${taskId}`);
        if (fault.code === "INTERNAL") log.error("An attempt could not be run", { task: taskId, error: fault });
        report(taskId, attempt, { type: "attempt.failed", fault: faultData(fault) });
      });
    },
    stop(taskId, attempt, reason) {
      const one = live.get(keyOf(taskId, attempt));
      if (one === undefined) return;
      one.stopReason ??= reason;
      if (one.running === undefined) one.abort.abort(new Fault("CANCELLED", reason));
      else one.running.stop(reason);
    },
    capture({ taskId, attempt, ending }) {
      const one = live.get(keyOf(taskId, attempt));
      if (one === undefined) return;
      capture(one, taskId, attempt, ending).finally(() => {
        const { folder, home } = one;
        delete one.folder;
        const emptying = [leaveFolder(folder!), ...(home === undefined ? [] : [leaveHome(home)])];
        one.emptying = Promise.all(emptying).then((all) => all.every((isGone) => isGone)); // else it is left to clean()
      }).catch((thrown) =>
        report(taskId, attempt, {
          type: "attempt.failed",
          fault: faultData(asFault(thrown, `Cannot keep the streams of ${taskId}`)),
        })
      );
    },
    clean(taskId, attempt) {
      const key = keyOf(taskId, attempt);
      const { emptying: emptied, folder } = live.get(key) ?? {};
      live.delete(key);
      if (folder !== undefined) folders.forget(folder);
      const { root, home, stdout, stderr } = placesOf(options.dir, taskId, attempt);
      for (const stream of [stdout, stderr]) if (!isUnlinked(stream)) remove(stream);
      const removeFolders = (areGone: boolean): void => areGone ? undefined : [root, home].forEach(remove);
      if (emptied === undefined) removeFolders(false);
      else void emptied.then(removeFolders);
    },
  };
}

function isUnlinked(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch {
    return false;
  }
}

/** What the command is told that files were made at, in seconds: its own word, or one for all. */
function epochOf(env: CommandData["env"]): number {
  const declared = env["SOURCE_DATE_EPOCH"];
  return declared !== undefined && /^[0-9]{1,10}$/.test(declared) ? Number(declared) : checkoutMtimeSeconds;
}

/** Folders that outputs are to be written into are there before the command runs, as REAPI has it. */
function makeOutputFolders(
  cwd: string,
  { outputs, outputFiles = [], outputDirectories = [] }: CommandData,
  mayBeGlobs: boolean,
): void {
  if (mayBeGlobs) checkOutputs(outputs);
  for (const path of outputs.length > 0 ? outputs : [...outputFiles, ...outputDirectories]) {
    const segments = segmentsOf(path).slice(0, -1);
    const glob = mayBeGlobs ? segments.findIndex((segment) => /[*?[]/.test(segment)) : -1;
    makeFolders(cwd, (glob < 0 ? segments : segments.slice(0, glob)).join("/"));
  }
}

function endingOf(exit: Exit, timeoutMs: number): Outcome {
  switch (exit.kind) {
    case "exited":
      return { kind: "exited", exitCode: exit.exitCode, ...(exit.signal === undefined ? {} : { signal: exit.signal }) };
    case "timedOut":
      return { kind: "timedOut", timeoutMs };
    case "stopped":
      return { kind: "killed", reason: exit.reason };
    case "memoryExceeded":
      return { kind: "failed", fault: memoryFault(exit.memoryBytes, exit.memoryBytesMax) };
  }
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0)} MB`;

const memoryFault = (bytes: number, bytesMax: number): FaultData => ({
  code: "MEMORY_EXCEEDED",
  message: `Cannot finish it as it may hold ${megabytes(bytesMax)} of memory, as its task said it needs: it held ${
    megabytes(bytes)
  }`,
});

/** The task as REAPI's `Action`: one digest for one piece of work, whichever door it came by. */
function actionOf({ command, inputRoot, timeoutMs }: AttemptInput, { platform }: CommandData): [Digest, Uint8Array] {
  const bytes = encodeAction({ command, inputRoot, timeoutMs, doNotCache: false, platform });
  return [digestOf(bytes), bytes];
}

/** A file that is opened when its first byte is wanted: a store that has the bytes wants none. */
async function* bytesOf(path: string): AsyncGenerator<Uint8Array> {
  yield* fileBytes(path);
}

async function putFileAsStream(blobs: Blobs, path: string): Promise<Digest> {
  const digest = await hashFile(path);
  await blobs.put(digest, bytesOf(path));
  return digest;
}
