import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { textOf, whole } from "../flags.ts";
import { jsonLine, lookOf, moment, plain, span, table } from "../render.ts";

const limitDefault = 100;

export const cacheList = command({
  name: "cache list",
  usage: ["cache list [FLAGS]"],
  about:
    "Shows the results that the cluster keeps, by action: what succeeded before on the same inputs is not run again.",
  examples: [
    ["cache list", `the first ${limitDefault}`],
    ["cache list --limit 1000000 --json", "all of them, for a program"],
  ],
  flags: {
    limit: textOf("N", `At most so many; ${limitDefault} by default`, whole(1, 1_000_000_000)),
    ...clusterFlags,
  },
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson, connect }) {
    const kept = (await connect()).actions.list({ limit: flags.limit ?? limitDefault });
    const rows: string[][] = [];
    for await (const each of kept) {
      if (isJson) await world.stdout.write(jsonLine(each));
      else {
        const { action, instance, made, useCount, differedCount } = each;
        rows.push([
          action,
          plain(instance),
          made.taskId ?? "(uploaded)",
          plain(made.workerId ?? ""),
          moment(made.atMs),
          span(made.durationMs),
          String(useCount),
          differedCount === 0 ? "" : `flaky: ended otherwise ${differedCount}×`,
        ]);
      }
    }
    if (isJson) return exitCodes.done;
    const heads = ["ACTION", "INSTANCE", "MADE BY", "WORKER", "AT", "TOOK", "USED", ""];
    await world.stdout.write(rows.length === 0 ? "No result is kept.\n" : table(lookOf(world), heads, rows));
    return exitCodes.done;
  },
});
