import type { Client } from "../../api/client.ts";
import { Fault } from "../../domain/fault.ts";
import type { JobId } from "../../domain/ids.ts";
import type { Outcome } from "../../domain/job.ts";
import type { JobSpecInput, TaskView } from "../../protocol/client_messages.ts";
import { type Call, clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { textOf, whole } from "../flags.ts";
import { watchInterrupts } from "../interrupts.ts";
import { count, jsonLine, outcomeText, plain, span } from "../render.ts";
import { readTask, type WholeTask } from "../tasks.ts";

const timesMax = 1_000;
const keyBytes = 16;
const nameCharactersMax = 190;

const flags = {
  times: textOf(
    "N",
    `So many times, at most ${timesMax}, as many at once as there are slots; 1 by default`,
    whole(1, timesMax),
  ),
  ...clusterFlags,
} as const;

export const rerun = command({
  name: "rerun",
  usage: ["rerun J[/N] [--times N] [FLAGS]"],
  about:
    "Runs a task again on the very same files, whatever is known of it, and says whether it ended as before. One action with two outcomes is proof that it is flaky: both are named. Exits 0 if every run exited 0 with the same outputs, 1 if not. With --times 1 what comes of it replaces the kept result.",
  examples: [
    ["rerun j01k3x9q7fa-0004m2", "once more"],
    ["rerun j01k3x9q7fa-0004m2/3 --times 50", "finds out whether its fourth task is flaky"],
  ],
  flags,
  words: { min: 1, max: 1 },
  async run(call) {
    const { flags, words: [ref = ""], world, isJson, connect } = call;
    const interrupts = watchInterrupts(world);
    try {
      const client = await connect();
      const original = await readTask(client, ref);
      const times = flags.times ?? 1;
      const startedAtMs = world.clock.now();
      const { jobId } = await client.submit(jobOf(original, times, world.randomHex(keyBytes)));
      if (isJson) await world.stdout.write(jsonLine({ type: "submitted", jobId }));
      const kill = (): void => void client.kill(jobId, "its user interrupted it").catch(() => {});
      if (interrupts.first.aborted) kill();
      else interrupts.first.addEventListener("abort", kill, { once: true });
      const end = await Promise.race([watched(call, client, jobId, times), interrupts.leave]);
      if (typeof end === "number") return end;
      if (interrupts.first.aborted) return interrupts.exitCode();
      return await report(call, original, end, world.clock.now() - startedAtMs);
    } finally {
      interrupts.close();
    }
  },
});

type RerunCall = Call<typeof flags>;

/** @throws {Fault} `OUTPUT_MISSING` for a task whose input is not made. */
function jobOf({ job, task, command }: WholeTask, times: number, key: string): JobSpecInput {
  const { taskId, name, inputRoot, timeoutMs, needs, caches, output } = task;
  if (inputRoot === undefined) {
    throw new Fault(
      "OUTPUT_MISSING",
      `Cannot run task ${taskId} again as its input must be there: it is made by a task that did not succeed`,
    );
  }
  const platform = Object.fromEntries(command.platform.map(({ name, value }) => [name, value]));
  return {
    key,
    requestor: job.requestor,
    tag: job.tag,
    priority: job.priority,
    tasks: Array.from({ length: times }, (_, index) => ({
      name: times === 1 ? name : `${name.slice(0, nameCharactersMax)} #${index + 1}`,
      argv: [...command.argv],
      env: { ...command.env },
      outputs: [...command.outputs],
      input: { kind: "snapshot" as const, snapshot: inputRoot },
      timeoutMs,
      platform,
      ...(needs === undefined ? {} : { needs }),
      ...(caches === undefined ? {} : { caches }),
      ...(output === undefined ? {} : { output }),
      cache: times === 1 ? "refresh" as const : "off" as const,
    })),
  };
}

/** The tasks as they ended. */
async function watched(
  { world, isJson }: RerunCall,
  client: Client,
  jobId: JobId,
  times: number,
): Promise<readonly TaskView[]> {
  const ended = new Map<string, TaskView>();
  for await (const change of client.watch(jobId)) {
    if (change.kind !== "task" || change.task.state !== "settled") continue;
    ended.set(change.task.taskId, change.task);
    if (isJson) {
      await world.stdout.write(jsonLine({ type: "ended", taskId: change.task.taskId, outcome: change.task.outcome }));
    } else if (world.stderr.isTerminal) await world.stderr.write(`\r${ended.size} of ${times}`);
  }
  if (!isJson && world.stderr.isTerminal) await world.stderr.write("\r\u001b[K");
  return ended.size === times ? [...ended.values()] : (await client.job(jobId)).tasks;
}

/** Runs that ended alike. */
interface Alike {
  readonly how: string;
  readonly isGood: boolean;
  readonly outcome: Outcome;
  readonly tasks: string[];
}

async function report(
  { world, isJson }: RerunCall,
  original: WholeTask,
  tasks: readonly TaskView[],
  tookMs: number,
): Promise<number> {
  const groups = new Map<string, Alike>();
  const odd: TaskView[] = [];
  for (const task of [original.task, ...tasks]) {
    const { outcome } = task;
    // Only the command's own end says something of the action.
    if (outcome?.kind !== "exited" && outcome?.kind !== "timedOut") {
      if (task !== original.task) odd.push(task);
      continue;
    }
    const isGood = outcome.kind === "exited" && outcome.exitCode === 0 && outcome.signal === undefined;
    const key = `${outcomeText(outcome)} ${isGood ? outcome.output ?? "" : ""}`;
    const group = groups.get(key) ?? { how: outcomeText(outcome), isGood, outcome, tasks: [] };
    groups.set(key, group);
    group.tasks.push(task.taskId);
  }
  const all = [...groups.values()];
  const hows = new Set(all.map(({ how }) => how));
  const [first, second] = all;
  const verdict = hows.size > 1 ? "flaky" : all.length > 1 ? "unreproducible" : "same";
  const isGood = verdict === "same" && odd.length === 0 && first?.isGood === true;
  const code = isGood ? exitCodes.done : exitCodes.failed;
  const { command, inputRoot } = original.task;
  if (isJson) {
    const outcomes = all.map(({ how, outcome, tasks }) => ({ how, outcome, tasks }));
    await world.stdout.write(jsonLine({ type: "rerun", verdict, command, inputRoot, outcomes, uncounted: odd.length }));
    return code;
  }
  const how = (group: Alike): string => `${group.how}${verdict === "unreproducible" ? ", other outputs" : ""}`;
  const lines = [
    `${count(tasks.length, "run")} in ${span(tookMs)}${
      verdict === "same" && first !== undefined ? `: as before, ${first.how}` : ""
    }`,
  ];
  if (verdict !== "same") {
    lines.push(
      verdict === "flaky"
        ? `FLAKY: one action, ${all.length} outcomes (command ${command}, input ${inputRoot})`
        : `NOT REPRODUCIBLE: one action, ${all.length} outputs (command ${command}, input ${inputRoot})`,
      ...all.map((group) => `  ${how(group)}: ${count(group.tasks.length, "time")}, such as ${group.tasks[0]}`),
      `see: scoot-actors diff ${first?.tasks[0]} ${second?.tasks[0]}`,
    );
  }
  lines.push(
    ...odd.map((task) =>
      `not counted: ${task.taskId} ${task.outcome === undefined ? task.state : plain(outcomeText(task.outcome))}`
    ),
  );
  await world.stdout.write(lines.map((line) => `${line}\n`).join(""));
  return code;
}
