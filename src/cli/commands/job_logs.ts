import type { Client } from "../../api/client.ts";
import { Fault } from "../../domain/fault.ts";
import type { TaskId } from "../../domain/ids.ts";
import type { Clock } from "../../runtime/clock.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { toggle } from "../flags.ts";
import { readTaskRef } from "../ids.ts";
import { count, jsonLine, lookOf, paint, plain } from "../render.ts";

/** Without --follow, a stream that brings nothing for so long has brought what there is: as many times the way there and back. */
const quietMsMin = 500;
const quietWays = 10;

export const jobLogs = command({
  name: "job logs",
  usage: ["job logs ID[/N] [-f] [--stderr] [FLAGS]"],
  about:
    "Prints what tasks wrote, byte for byte: of one task (ID/N), or of all one after the other, each under its name when there are several. Of a task that runs, what there is now; with -f all of it until it ends.",
  examples: [
    ["job logs j01k3x9q7fa-0004m2", "stdout of its tasks"],
    ["job logs -f j01k3x9q7fa-0004m2/0", "of the first one, while it grows"],
    ["job logs --stderr j01k3x9q7fa-0004m2/0", "stderr instead"],
  ],
  flags: {
    follow: toggle("Stay until the task has ended", "f"),
    stderr: toggle("Standard error instead of standard output"),
    ...clusterFlags,
  },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const { jobId, index } = readTaskRef(words[0] ?? "");
    const client = await connect();
    const askedAtMs = world.clock.now();
    const { tasks: all } = await client.job(jobId);
    const quietMs = Math.max(quietMsMin, quietWays * (world.clock.now() - askedAtMs));
    const tasks = index === undefined ? all : all.slice(index, index + 1);
    if (tasks.length === 0) {
      throw new Fault(
        "TASK_UNKNOWN",
        `Cannot find task ${words[0]} as the job must have it: it has ${count(all.length, "task")}`,
      );
    }
    const stream = flags.stderr ? "stderr" : "stdout";
    for (const [place, task] of tasks.entries()) {
      if (tasks.length > 1 && !isJson) {
        const head = `==> ${task.taskId} ${plain(task.name)} <==`;
        await world.stdout.write(`${place === 0 ? "" : "\n"}${paint(lookOf(world), "bold", head)}\n`);
      }
      const isWhole = flags.follow || task.state === "settled";
      let offset = 0;
      for await (
        const chunk of isWhole
          ? client.follow(task.taskId, stream)
          : soFar(client, task.taskId, stream, world.clock, quietMs)
      ) {
        await world.stdout.write(
          isJson
            ? jsonLine({ taskId: task.taskId, stream, offset, base64: Buffer.from(chunk).toString("base64") })
            : chunk,
        );
        offset += chunk.length;
      }
    }
    return exitCodes.done;
  },
});

/** What a stream has now. */
async function* soFar(
  client: Client,
  taskId: TaskId,
  stream: "stdout" | "stderr",
  clock: Clock,
  quietMs: number,
): AsyncIterable<Uint8Array> {
  const quiet = new AbortController();
  const arm = (): () => void => clock.at(clock.now() + quietMs, () => quiet.abort());
  let disarm = arm();
  try {
    for await (const chunk of client.follow(taskId, stream, { signal: quiet.signal })) {
      disarm();
      yield chunk;
      disarm = arm();
    }
  } catch (thrown) {
    if (!quiet.signal.aborted) throw thrown;
  } finally {
    disarm();
  }
}
