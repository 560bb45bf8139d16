import type { Client } from "../../api/client.ts";
import { isFault } from "../../domain/fault.ts";
import type { Outcome } from "../../domain/job.ts";
import { type JobId, type TaskId, taskId } from "../../domain/ids.ts";
import type { TaskView } from "../../protocol/client_messages.ts";
import { type Call, clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { toggle, usage } from "../flags.ts";
import { type Interrupts, watchInterrupts } from "../interrupts.ts";
import { cachedText, jsonLine, plain, size, span } from "../render.ts";
import type { Since } from "../../snapshots/trees/changed_since.ts";
import { environmentOf, folderOf, inputOf, isOfFolder, jobOf, outputsOf, taskFlags } from "../task_flags.ts";
import { OutputClosed, type World } from "../world.ts";

const keyBytes = 16;
/** A command that has not begun after this long is worth a word. */
const waitingMs = 2_000;

const flags = {
  ...taskFlags,
  "no-download": toggle("Leave what --out names in the cluster; it can be had with snapshot checkout"),
  ...clusterFlags,
} as const;
type RunCall = Call<typeof flags>;

export const run = command({
  name: "run",
  usage: ["run [--dir PATH] [--snapshot ID | --revision REF] [FLAGS] -- COMMAND …"],
  about:
    "Captures a folder (this one by default), runs a command in a copy of it on a worker, shows what it writes while it writes it, and exits as it exits. What succeeded before on the same files is not run again: its output is shown. Ctrl-C ends the command, a second one leaves at once. If the cluster restarts meanwhile, this waits and goes on. Ignored files, .git and .env* stay here.",
  examples: [
    ["run -- make test", "runs it on what is in this folder now"],
    [
      "run --dir ../app --env NODE_ENV=test --env PATH -- npm test",
      "another folder; one variable set, one taken from yours",
    ],
    ["run --out dist --timeout 10m -- sh -c 'npm ci && npm run build'", "brings dist back into the folder"],
    ["run --cache target -- cargo test", "target stays for the next run, which builds what has changed since"],
    ["run --no-cache -- make test", "runs it even if it succeeded on the very same files before"],
    ["run --snapshot release -- ls -l", "in a snapshot that was given a name"],
    ["run --revision main -- make test", "on what is committed, whatever lies in this folder"],
  ],
  flags,
  words: { min: 0, max: 0, rest: true },
  faultExitCode: exitCodes.fault,
  async run(call) {
    const interrupts = watchInterrupts(call.world);
    try {
      return await Promise.race([runToEnd(call, interrupts), interrupts.leave]);
    } finally {
      interrupts.close();
    }
  },
});

async function runToEnd(call: RunCall, interrupts: Interrupts): Promise<number> {
  const { flags, world, rest: argv = [] } = call;
  if (argv.length === 0) {
    throw usage("Cannot run nothing: the command must follow --, as in: scoot-actors run -- make test");
  }
  const dir = folderOf(flags, world.userDir);
  const outputs = outputsOf(flags, dir);
  const env = environmentOf(flags, world.env);
  const client = await call.connect();
  let jobId: JobId;
  let submittedAtMs: number;
  let since: Since = { atMs: world.clock.now() };
  try {
    const snapshot = await inputOf(call, client, flags, dir, interrupts.first);
    if (interrupts.first.aborted) return interrupts.exitCode();
    if (isOfFolder(flags)) since = { ...since, inputs: snapshot };
    submittedAtMs = world.clock.now();
    ({ jobId } = await client.submit(jobOf(flags, argv, snapshot, outputs, env, world.randomHex(keyBytes), dir)));
  } catch (thrown) {
    if (interrupts.first.aborted && !(thrown instanceof OutputClosed)) return interrupts.exitCode();
    throw thrown;
  }
  if (call.isJson) await world.stdout.write(jsonLine({ type: "submitted", jobId }));
  const end = await followToEnd(call, client, jobId, interrupts);
  if (end === undefined) return exitCodes.outputClosed;
  const { outcome, cached } = end;
  if (cached !== undefined) {
    const tookMs = Math.max(0, world.clock.now() - submittedAtMs);
    if (call.isJson) await world.stdout.write(jsonLine({ type: "cached", tookMs, ...cached }));
    else await tell(world, `cached ${span(tookMs)}, ${cachedText(cached)}`);
  }
  if (call.isJson) await world.stdout.write(jsonLine({ type: "ended", outcome }));
  const code = await tellEnd(call, outcome, interrupts, env);
  let isBack = true;
  if (!flags["no-download"] && outputs.length > 0 && outcome.kind !== "skipped" && outcome.output !== undefined) {
    const { bringBack } = await import("../bring_back.ts");
    isBack = await bringBack(call, client, {
      snapshot: outcome.output,
      dir: flags.snapshot === undefined ? dir : world.userDir,
      since,
      what: outputs.map(plain).join(", "),
      told: { outputs },
    });
  }
  const isOwnEnd = outcome.kind === "exited" || outcome.kind === "timedOut";
  if (isOwnEnd && code !== exitCodes.done && !interrupts.first.aborted) await tellFailure(call, client, jobId, code);
  return isBack || code !== exitCodes.done ? code : exitCodes.fault;
}

/** What helps to understand a failure. That it cannot be had is no failure of its own. */
async function tellFailure(call: RunCall, client: Client, jobId: JobId, code: number): Promise<void> {
  const { world, isJson } = call;
  const { failureLines, failureReport, pageOf } = await import("../failure.ts");
  const task = taskId(jobId, 0);
  const report = await failureReport(world, client, task).catch(() => ({ taskId: task, page: pageOf(client, task) }));
  if (isJson) return await world.stdout.write(jsonLine({ type: "failure", exitCode: code, ...report }));
  for (const line of [`exit code ${code}`, ...failureLines(report)]) await tell(world, line);
}

interface End {
  readonly outcome: Outcome;
  /** Whose result it is, when it was not run. */
  readonly cached?: TaskView["cached"];
}

/** Shows both streams while they grow. @returns how the task ended; undefined when nobody reads our output any more. */
async function followToEnd(
  call: RunCall,
  client: Client,
  jobId: JobId,
  interrupts: Interrupts,
): Promise<End | undefined> {
  const task = taskId(jobId, 0);
  const stopped = new AbortController();
  const kill = (reason: string): Promise<void> =>
    client.kill(jobId, reason).catch((thrown: unknown) =>
      tell(call.world, `the job ${jobId} could not be killed: ${(thrown as Error).message}`)
    );
  const onInterrupt = (): void => void kill("its user interrupted it");
  if (interrupts.first.aborted) onInterrupt();
  else interrupts.first.addEventListener("abort", onInterrupt, { once: true });
  try {
    const [end] = await Promise.all([
      endOf(call, client, jobId, stopped.signal),
      show(call, client, task, "stdout", stopped.signal),
      show(call, client, task, "stderr", stopped.signal),
    ]);
    return end;
  } catch (thrown) {
    if (!(thrown instanceof OutputClosed)) {
      // It was accepted: that we see nothing of it ends it nowhere.
      if (isFault(thrown, "PEER_UNREACHABLE") && !call.isJson) {
        await tell(call.world, `the job goes on all the same: scoot-actors job watch ${jobId}`);
      }
      throw thrown;
    }
    await kill("nobody reads its output any more"); // as the signal SIGPIPE ends a command that runs here
    return undefined;
  } finally {
    stopped.abort();
    interrupts.first.removeEventListener("abort", onInterrupt);
  }
}

async function show(
  call: RunCall,
  client: Client,
  task: TaskId,
  stream: "stdout" | "stderr",
  signal: AbortSignal,
): Promise<void> {
  const { world, isJson } = call;
  let offset = 0;
  const onAttempt = (): void => void (offset = 0);
  for await (const chunk of client.follow(task, stream, { signal, onAttempt })) {
    if (isJson) await world.stdout.write(jsonLine({ type: stream, offset, ...asJson(chunk) }));
    else await world[stream].write(chunk);
    offset += chunk.length;
  }
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Text where the chunk is text, so that people can read along; else the very bytes. */
function asJson(chunk: Uint8Array): { readonly text: string } | { readonly base64: string } {
  try {
    return { text: strictUtf8.decode(chunk) };
  } catch {
    return { base64: Buffer.from(chunk).toString("base64") };
  }
}

async function endOf(call: RunCall, client: Client, jobId: JobId, signal: AbortSignal): Promise<End> {
  const { world } = call;
  let latest: TaskView | undefined;
  const isToldWaiting = world.stderr.isTerminal && !call.isJson;
  const calm = world.clock.at(world.clock.now() + waitingMs, () => {
    if (
      isToldWaiting && latest !== undefined && latest.attempts.every(({ startedAtMs }) => startedAtMs === undefined)
    ) {
      void tell(world, `waiting: ${latest.why}`);
    }
  });
  try {
    for await (const change of client.watch(jobId, { signal })) {
      if (change.kind !== "task") continue;
      await tellUnmet(call, latest, change.task);
      await tellAttempt(call, latest, change.task);
      latest = change.task;
      const { outcome, cached } = latest;
      if (outcome !== undefined && latest.state === "settled") return { outcome, cached };
    }
  } finally {
    calm();
  }
  // The watch ended with the job, so the end is known; some of its changes may be no longer kept.
  const { tasks } = await client.job(jobId);
  const { outcome, cached } = tasks[0] ?? {};
  if (outcome === undefined) throw new Error(`the job ${jobId} ended without an outcome of its task`);
  return { outcome, cached };
}

const attemptReasons = {
  first: "it was placed",
  retry: "it did not succeed before",
  workerLost: "its worker was lost",
  workerFailed: "its worker failed at its part",
  memory: "it needed more memory than it was given",
  preempted: "another class had its share back",
  drained: "it was put back when the cluster stopped",
} as const;

/** That no worker could ever run it is told once: it may wait for long. */
async function tellUnmet({ world, isJson }: RunCall, before: TaskView | undefined, now: TaskView): Promise<void> {
  if (now.unmet === undefined || before?.unmet !== undefined) return;
  if (isJson) await world.stdout.write(jsonLine({ type: "unmet", ...now.unmet }));
  else await tell(world, `waiting: ${plain(now.why)}`);
}

/** That a command runs another time explains output that comes twice. */
async function tellAttempt({ world, isJson }: RunCall, before: TaskView | undefined, now: TaskView): Promise<void> {
  const attempt = now.attempts.at(-1);
  if (attempt === undefined || attempt.attempt === 1 || now.attempts.length === before?.attempts.length) return;
  const { reason, workerId } = attempt;
  if (isJson) await world.stdout.write(jsonLine({ type: "attempt", attempt: attempt.attempt, reason, workerId }));
  else await tell(world, `attempt ${attempt.attempt} on ${plain(workerId)}: ${attemptReasons[reason]}`);
}

/** Says what the exit code alone does not. @returns the exit code. */
async function tellEnd(
  call: RunCall,
  outcome: Outcome,
  interrupts: Interrupts,
  env: Readonly<Record<string, string>>,
): Promise<number> {
  const { world } = call;
  const isInterrupted = interrupts.first.aborted;
  const say = async (sentence: string): Promise<void> => {
    if (!call.isJson) await tell(world, sentence);
  };
  for (const stream of ["stdout", "stderr"] as const) {
    const kept = outcome.kind === "skipped" ? undefined : outcome[stream];
    if (kept !== undefined && kept.truncatedBytes > 0) {
      await say(`${stream} was cut: ${size(kept.truncatedBytes)} more were written and not kept`);
    }
  }
  switch (outcome.kind) {
    case "exited":
      if (isInterrupted) return interrupts.exitCode();
      if (outcome.signal !== undefined) await say(`the command was ended by ${outcome.signal}`);
      return outcome.exitCode;
    case "timedOut":
      await say(`the command was ended as it ran longer than ${span(outcome.timeoutMs)} (see --timeout)`);
      return isInterrupted ? interrupts.exitCode() : exitCodes.timedOut;
    case "killed":
      if (isInterrupted) return interrupts.exitCode();
      await say(`the job was killed: ${plain(outcome.reason)}`);
      return exitCodes.killed;
    case "skipped":
      await say(`the command was not run: ${plain(outcome.reason)}`);
      return exitCodes.fault;
    case "failed": {
      if (isInterrupted) return interrupts.exitCode();
      const isLost = outcome.fault.code === "COMMAND_NOT_STARTED" && env["PATH"] === undefined;
      await say(plain(outcome.fault.message) + (isLost ? "; --env PATH gives it your own search path" : ""));
      return exitCodes.fault;
    }
  }
}

const tell = (world: World, sentence: string): Promise<void> => world.stderr.write(`scoot-actors: ${sentence}\n`);
