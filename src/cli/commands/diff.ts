import type { Client } from "../../api/client.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { readTaskRef } from "../ids.ts";
import { jsonLine, plain } from "../render.ts";
import { diffLines, diffTasks, type TaskDiff } from "../task_diff.ts";
import { commandOf, readTask, type WholeTask } from "../tasks.ts";

export const diff = command({
  name: "diff",
  usage: ["diff J1[/N] J2[/N] [FLAGS]"],
  about:
    "Shows what differs between two runs: command, environment and input files first, then how they ended and their outputs. Of jobs with several tasks, those of one name are compared. Exits 0 if nothing differs, 1 if something does.",
  examples: [
    ["diff j01k3x9q7fa-0004m2 j01k3x9q7fa-0004m9", "the last good run and the one that failed"],
    ["diff j01k3x9q7fa-0004m2/1 j01k3x9q7fa-0004m2/2", "two tasks of one job"],
  ],
  flags: clusterFlags,
  words: { min: 2, max: 2 },
  async run({ words, world, isJson, connect }) {
    const [one = "", two = ""] = words;
    const isWhole = [one, two].every((ref) => readTaskRef(ref).index === undefined);
    const client = await connect();
    const pairs = isWhole ? await pairsOf(client, one, two) : undefined;
    const both = pairs?.both ?? [[await readTask(client, one), await readTask(client, two)] as const];
    const diffs: TaskDiff[] = [];
    for (const [before, after] of both) diffs.push(await diffTasks(world, client, before, after));
    const alone = pairs?.alone ?? [];
    if (isJson) {
      for (const each of diffs) await world.stdout.write(jsonLine({ type: "diff", ...each }));
      for (const each of alone) await world.stdout.write(jsonLine({ type: "alone", ...each }));
    }
    const lines = diffs.flatMap((each, index) => {
      const told = diffLines(each);
      const head = `${each.before} -> ${each.after}${
        both.length > 1 ? ` ${plain(both[index]?.[1].task.name ?? "")}` : ""
      }:`;
      return told.length === 0 ? [] : [head, ...told.map((line) => `  ${line}`)];
    });
    lines.push(...alone.map(({ taskId, name }) => `only in one: ${taskId} ${plain(name)}`));
    if (!isJson) {
      const text = lines.length === 0 ? ["Nothing differs."] : lines;
      await world.stdout.write(text.map((line) => `${line}\n`).join(""));
    }
    return lines.length === 0 ? exitCodes.done : exitCodes.failed;
  },
});

type Alone = { readonly taskId: string; readonly name: string };

/** The tasks of two jobs, by name; jobs of one task each are about the same whatever it is called. */
async function pairsOf(
  client: Client,
  one: string,
  two: string,
): Promise<{ readonly both: readonly (readonly [WholeTask, WholeTask])[]; readonly alone: readonly Alone[] }> {
  const [a, b] = await Promise.all([one, two].map((ref) => client.job(readTaskRef(ref).jobId)));
  const whole = async (of: typeof a, index: number): Promise<WholeTask> => {
    const task = of!.tasks[index]!;
    return { job: of!.job, task, command: await commandOf(client, task) };
  };
  if (a!.tasks.length === 1 && b!.tasks.length === 1) {
    return { both: [[await whole(a, 0), await whole(b, 0)]], alone: [] };
  }
  const places = new Map(b!.tasks.map(({ name }, index) => [name, index]));
  const both: (readonly [WholeTask, WholeTask])[] = [];
  const alone: Alone[] = [];
  for (const [index, { name, taskId }] of a!.tasks.entries()) {
    const place = places.get(name);
    places.delete(name);
    if (place === undefined) alone.push({ taskId, name });
    else both.push([await whole(a, index), await whole(b, place)]);
  }
  for (const place of places.values()) {
    const { taskId, name } = b!.tasks[place]!;
    alone.push({ taskId, name });
  }
  return { both, alone };
}
