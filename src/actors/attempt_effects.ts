import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { CommandData } from "../domain/command.ts";
import { type Digest, emptyDigest } from "../domain/digest.ts";
import { asFault, Fault, faultData } from "../domain/fault.ts";
import { indexOfTask, jobOfTask, type TaskId } from "../domain/ids.ts";
import type { Leavings, Outcome, Output } from "../domain/job.ts";
import type { AttemptInput } from "../machines/attempt.ts";
import type { Log } from "../observability/log.ts";
import { decodeCommand, encodeAction } from "../protocol/reapi/canonical.ts";
import type { Exit, Runner, Running } from "../runner/runner.ts";
import type { Clock } from "../runtime/clock.ts";
import { removeBeside, removeLeft } from "../runtime/remove_left.ts";
import { type Blobs, digestOf, readBlob } from "../snapshots/blobs/blobs.ts";
import { fileBytes, hashFile } from "../snapshots/blobs/object_file.ts";
import { checkout } from "../snapshots/trees/checkout.ts";
import { captureOutputs, capturePresentOutputs } from "../snapshots/trees/outputs.ts";
import type { Effects, ReportEffect } from "./worker_actor.ts";

export interface AttemptEffectsOptions {
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
}

/** Where an attempt keeps its things. */
export interface AttemptPlaces {
  readonly dir: string;
  /** The working folder: the input snapshot, then what the command makes of it. */
  readonly root: string;
  readonly home: string;
  readonly stdout: string;
  readonly stderr: string;
}

export function placesOf(dir: string, taskId: TaskId, attempt: number): AttemptPlaces {
  const own = join(dir, `${jobOfTask(taskId)}-${indexOfTask(taskId)}-${attempt}`);
  return {
    dir: own,
    root: join(own, "root"),
    home: join(own, "home"),
    stdout: join(own, "stdout"),
    stderr: join(own, "stderr"),
  };
}

const commandBytesMax = 64 * 1024 * 1024;

/** Checkout, run, capture: what a worker does for an attempt, on this machine. Each is done at most once at a time. */
export function attemptEffects(options: AttemptEffectsOptions): Effects {
  const { blobs, runner, clock, log, report } = options;
  const remove = (dir: string): void => {
    // Nobody uses its place again.
    if (!removeLeft(dir)) log.warn("Cannot remove what a task left", { dir });
  };
  remove(options.dir);
  mkdirSync(options.dir, { recursive: true });
  interface Live {
    readonly abort: AbortController;
    running?: Running;
    stopReason?: string;
    exit?: Exit;
    command?: CommandData;
    /** Its working folder goes as soon as it was captured: a task that filled the disk leaves room for its result. */
    emptying?: Promise<void>;
  }
  const live = new Map<string, Live>();
  const keyOf = (taskId: TaskId, attempt: number): string => `${taskId}#${attempt}`;

  const run = async (one: Live, input: AttemptInput): Promise<void> => {
    const { taskId, attempt } = input;
    const places = placesOf(options.dir, taskId, attempt);
    mkdirSync(places.home, { recursive: true });
    const command = decodeCommand(await readBlob(blobs, input.command, commandBytesMax));
    one.command = command;
    await checkout({ snapshot: input.inputRoot, dir: places.root, blobs, signal: one.abort.signal });
    await blobs.put(...actionOf(input, command));
    const cwd = join(places.root, command.workingDirectory);
    one.running = await runner.start({
      id: keyOf(taskId, attempt),
      argv: command.argv,
      env: { PATH: options.path, HOME: places.home, ...command.env },
      cwd,
      stdoutPath: places.stdout,
      stderrPath: places.stderr,
      outputBytesMax: options.outputBytesMax,
      timeoutMs: input.timeoutMs,
      graceMs: options.graceMs,
    });
    report(taskId, attempt, { type: "attempt.started", atMs: clock.now() });
    if (one.stopReason !== undefined) one.running.stop(one.stopReason);
    const exit = await one.running.exit;
    one.exit = exit;
    report(taskId, attempt, { type: "attempt.finished", ending: endingOf(exit, input.timeoutMs) });
  };

  const keepStream = async (path: string, truncatedBytes: number): Promise<Output> => ({
    digest: statSync(path).size === 0
      ? emptyDigest
      : options.putFile === undefined
      ? await putFileAsStream(blobs, path)
      : await options.putFile(path),
    truncatedBytes,
  });

  const capture = async (one: Live, taskId: TaskId, attempt: number, ending: Outcome): Promise<void> => {
    const places = placesOf(options.dir, taskId, attempt);
    const exit = one.exit!;
    const leavings: Leavings = {
      stdout: await keepStream(places.stdout, exit.stdoutTruncatedBytes),
      stderr: await keepStream(places.stderr, exit.stderrTruncatedBytes),
      startedAtMs: exit.startedAtMs,
      endedAtMs: exit.endedAtMs,
    };
    try {
      const output = await keepOutputs(join(places.root, one.command!.workingDirectory), one.command!, ending);
      report(taskId, attempt, {
        type: "attempt.captured",
        leavings: output === undefined ? leavings : { ...leavings, output },
      });
    } catch (thrown) {
      report(taskId, attempt, {
        type: "attempt.captured",
        leavings,
        fault: faultData(asFault(thrown, `Cannot capture the outputs of ${taskId}`)),
      });
    }
  };
  /** Of a command that failed, whatever of its outputs is there; of one that succeeded, all of them or a fault. */
  const keepOutputs = async (dir: string, command: CommandData, ending: Outcome): Promise<Digest | undefined> => {
    if (command.outputs.length === 0) return undefined;
    if (ending.kind === "exited" && ending.exitCode === 0) {
      return await captureOutputs({ dir, paths: command.outputs, blobs, clock });
    }
    return await capturePresentOutputs({ dir, paths: command.outputs, blobs, clock });
  };

  return {
    run(input) {
      const { taskId, attempt } = input;
      const one: Live = { abort: new AbortController() };
      live.set(keyOf(taskId, attempt), one);
      run(one, input).catch((thrown) => {
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
        const { root, home } = placesOf(options.dir, taskId, attempt);
        one.emptying = Promise.all([removeBeside(root), removeBeside(home)]).then(() => {}); // the rest is left to clean()
      }).catch((thrown) =>
        report(taskId, attempt, {
          type: "attempt.failed",
          fault: faultData(asFault(thrown, `Cannot keep the streams of ${taskId}`)),
        })
      );
    },
    clean(taskId, attempt) {
      const key = keyOf(taskId, attempt);
      const emptied = live.get(key)?.emptying;
      live.delete(key);
      const { dir } = placesOf(options.dir, taskId, attempt);
      if (emptied === undefined) remove(dir);
      else void emptied.then(() => remove(dir));
    },
  };
}

function endingOf(exit: Exit, timeoutMs: number): Outcome {
  switch (exit.kind) {
    case "exited":
      return { kind: "exited", exitCode: exit.exitCode, ...(exit.signal === undefined ? {} : { signal: exit.signal }) };
    case "timedOut":
      return { kind: "timedOut", timeoutMs };
    case "stopped":
      return { kind: "killed", reason: exit.reason };
  }
}

/** The task as REAPI's `Action`: one digest for one piece of work, whichever door it came by. */
function actionOf({ command, inputRoot, timeoutMs }: AttemptInput, { platform }: CommandData): [Digest, Uint8Array] {
  const bytes = encodeAction({ command, inputRoot, timeoutMs, doNotCache: false, platform });
  return [digestOf(bytes), bytes];
}

async function putFileAsStream(blobs: Blobs, path: string): Promise<Digest> {
  const digest = await hashFile(path);
  await blobs.put(digest, fileBytes(path));
  return digest;
}
