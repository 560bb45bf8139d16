import type { Change } from "../../api/client.ts";
import type { JobView } from "../../protocol/client_messages.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { readJobId } from "../ids.ts";
import { cachedText, jsonLine, type Look, lookOf, paint, paintState, plain } from "../render.ts";
import { tasksOf } from "./job_list.ts";

export const jobWatch = command({
  name: "job watch",
  usage: ["job watch ID [FLAGS]"],
  about:
    "Shows every change of a job and its tasks, past ones first, until the job has ended. Exits 0 if it succeeded, 1 if not. If the cluster restarts meanwhile, this waits and goes on.",
  examples: [
    ["job watch j01k3x9q7fa-0004m2", "a line for each change"],
    ["job watch j01k3x9q7fa-0004m2 --json", "an object a line, for programs"],
  ],
  flags: clusterFlags,
  words: { min: 1, max: 1 },
  async run({ words, world, isJson, connect }) {
    const jobId = readJobId(words[0] ?? "");
    const client = await connect();
    const look = lookOf(world);
    let job: JobView | undefined;
    for await (const change of client.watch(jobId)) {
      if (change.kind === "job") ({ job } = change);
      await world.stdout.write(isJson ? jsonLine(change) : changeLine(look, change));
    }
    job ??= (await client.job(jobId)).job;
    return job.state === "succeeded" ? exitCodes.done : exitCodes.failed;
  },
});

function changeLine(look: Look, change: Change): string {
  const time = paint(look, "dim", new Date(change.atMs).toISOString().slice(11, 23));
  if (change.kind === "job") {
    const { job } = change;
    return `${time}  ${paintState(look, job.state)}  ${tasksOf(job)} tasks  ${plain(job.why)}\n`;
  }
  const { task } = change;
  return `${time}  /${task.taskId.slice(task.taskId.indexOf("/") + 1)} ${plain(task.name)}  ${
    paintState(look, task.state)
  }  ${plain(task.why)}${task.cached === undefined ? "" : `; cached, ${cachedText(task.cached)}`}\n`;
}
