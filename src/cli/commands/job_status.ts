import type { JobView, TaskView } from "../../protocol/client_messages.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { readTaskRef } from "../ids.ts";
import {
  cachedText,
  count,
  jsonLine,
  type Look,
  lookOf,
  outcomeText,
  paint,
  paintState,
  plain,
  span,
  table,
} from "../render.ts";
import { Fault } from "../../domain/fault.ts";

const rowsMax = 200;

export const jobStatus = command({
  name: "job status",
  usage: ["job status ID[/N] [FLAGS]"],
  about:
    "Shows a job and its tasks: how far each is and why, where it ran, how it ended. With /N one task, every attempt of it.",
  examples: [
    ["job status j01k3x9q7fa-0004m2", "the job and its tasks"],
    ["job status j01k3x9q7fa-0004m2/0", "its first task, with all attempts"],
  ],
  flags: clusterFlags,
  words: { min: 1, max: 1 },
  async run({ words, world, isJson, connect }) {
    const { jobId, index } = readTaskRef(words[0] ?? "");
    const { job, tasks } = await (await connect()).job(jobId);
    const look = lookOf(world);
    const now = world.clock.now();
    if (index === undefined) {
      await world.stdout.write(isJson ? jsonLine({ job, tasks }) : jobText(look, now, job, tasks));
      return exitCodes.done;
    }
    const task = tasks[index];
    if (task === undefined) {
      throw new Fault(
        "TASK_UNKNOWN",
        `Cannot find task ${words[0]} as the job must have it: it has ${count(tasks.length, "task")}`,
      );
    }
    await world.stdout.write(isJson ? jsonLine(task) : taskText(look, now, task));
    return exitCodes.done;
  },
});

function jobText(look: Look, nowMs: number, job: JobView, tasks: readonly TaskView[]): string {
  const { succeeded, failed, skipped, killed } = job.settled;
  const ends = Object.entries({ succeeded, failed, skipped, killed }).filter(([, n]) => n > 0).map(([kind, n]) =>
    `${n} ${kind}`
  );
  const took = span(Math.max(0, (job.endedAtMs ?? nowMs) - job.createdAtMs));
  const who = [
    job.requestor === "" ? "" : `for ${plain(job.requestor)}`,
    job.tag === "" ? "" : `tag ${plain(job.tag)}`,
    `priority ${job.priority}`,
  ];
  const shown = tasks.slice(0, rowsMax);
  const rows = shown.map((task) => {
    const last = task.attempts.at(-1);
    return [
      task.taskId.slice(task.taskId.indexOf("/")),
      plain(task.name).slice(0, 40),
      paintState(look, endOf(task)),
      String(task.attempts.length),
      last === undefined ? task.cached === undefined ? "" : "(cached)" : plain(last.workerId),
      plain(task.why),
    ];
  });
  return [
    `${paint(look, "bold", job.jobId)} ${paintState(look, job.state)} ${
      job.endedAtMs === undefined ? "for" : "after"
    } ${took}: ${plain(job.why)}\n`,
    `${count(job.tasks, "task")}${ends.length === 0 ? "" : `: ${ends.join(", ")}`}; ${
      who.filter((each) => each !== "").join(", ")
    }\n\n`,
    table(look, ["TASK", "NAME", "STATE", "TRIES", "WORKER", "WHY"], rows),
    tasks.length > rowsMax ? `… and ${count(tasks.length - rowsMax, "more task")}; --json shows all.\n` : "",
  ].join("");
}

/** The word of the end where there is one, else of the state. */
function endOf(task: TaskView): string {
  const { outcome } = task;
  if (outcome === undefined) return task.state;
  if (outcome.kind === "exited") return outcome.exitCode === 0 ? "succeeded" : "failed";
  return outcome.kind;
}

function taskText(look: Look, nowMs: number, task: TaskView): string {
  const { outcome } = task;
  const lines = [
    `${paint(look, "bold", task.taskId)} ${paintState(look, endOf(task))}: ${plain(task.why)}`,
    `name      ${plain(task.name)}`,
    `command   ${task.command}`,
    ...(task.inputRoot === undefined ? [] : [`input     ${task.inputRoot}`]),
    `time      at most ${span(task.timeoutMs)}`,
    ...(outcome === undefined ? [] : [`end       ${plain(outcomeText(outcome))}`]),
    ...(task.cached === undefined ? [] : [`cached    ${cachedText(task.cached)}`]),
  ];
  if (outcome !== undefined && outcome.kind !== "skipped") {
    if (outcome.output !== undefined) lines.push(`output    ${outcome.output}`);
    for (const stream of ["stdout", "stderr"] as const) {
      if (outcome[stream] !== undefined) lines.push(`${stream}    ${outcome[stream].digest}`);
    }
  }
  const rows = task.attempts.map((attempt) => [
    String(attempt.attempt),
    attempt.reason,
    plain(attempt.workerId),
    `${span(Math.max(0, nowMs - attempt.placedAtMs))} ago`,
    plain(attempt.ended ?? ""),
    plain(attempt.why),
  ]);
  const attempts = rows.length === 0
    ? ""
    : `\n${table(look, ["TRY", "REASON", "WORKER", "PLACED", "ENDED", "WHY THERE"], rows)}`;
  return `${lines.join("\n")}\n${attempts}`;
}
