import type { JobView } from "../../protocol/client_messages.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { didYouMean, textOf, usage, whole } from "../flags.ts";
import { jsonLine, lookOf, paintState, plain, span, table } from "../render.ts";

const states = ["running", "succeeded", "failed", "cancelled"] as const;
const pageMax = 1_000;
const limitDefault = 20;

export const jobList = command({
  name: "job list",
  usage: ["job list [FLAGS]"],
  about: "Shows the jobs of the cluster, the newest first, with how far each is.",
  examples: [
    ["job list", `the last ${limitDefault}`],
    ["job list --state running", "those that have not ended"],
    ["job list --limit 1000 --json", "more of them, for a program"],
  ],
  flags: {
    state: textOf("STATE", `Only those that are ${states.join(", ")}`, (given, shown) => {
      const state = states.find((each) => each === given);
      if (state !== undefined) return state;
      throw usage(
        `Cannot read ${shown} as it must be one of ${states.join(", ")}: current value is "${given}"${
          didYouMean(given, states)
        }`,
      );
    }),
    limit: textOf("N", `At most so many; ${limitDefault} by default`, whole(1, 1_000_000)),
    ...clusterFlags,
  },
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson, connect }) {
    const client = await connect();
    const look = lookOf(world);
    const rows: string[][] = [];
    let left = flags.limit ?? limitDefault;
    let before: JobView["jobId"] | undefined;
    while (left > 0) {
      const limit = Math.min(left, pageMax);
      const page = await client.jobs({
        limit,
        ...(before === undefined ? {} : { before }),
        ...(flags.state === undefined ? {} : { state: flags.state }),
      });
      for (const job of page) {
        if (isJson) await world.stdout.write(jsonLine(job));
        else {rows.push([
            job.jobId,
            paintState(look, job.state),
            tasksOf(job),
            ago(world.clock.now(), job),
            plain(job.requestor),
            plain(job.tag),
            plain(job.why),
          ]);}
      }
      if (page.length < limit) break;
      left -= page.length;
      before = page.at(-1)?.jobId;
    }
    if (isJson) return exitCodes.done;
    await world.stdout.write(
      rows.length === 0
        ? "There are no such jobs.\n"
        : table(look, ["JOB", "STATE", "TASKS", "WHEN", "REQUESTOR", "TAG", "WHY"], rows),
    );
    return exitCodes.done;
  },
});

/** How many settled of how many. */
export const tasksOf = ({ settled, tasks }: JobView): string =>
  `${settled.succeeded + settled.failed + settled.skipped + settled.killed}/${tasks}`;

const ago = (nowMs: number, job: JobView): string => `${span(Math.max(0, nowMs - job.createdAtMs))} ago`;
