import { type JobId, jobOfTask, workerId } from "../../domain/ids.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { duration, text, textOf, usage } from "../flags.ts";
import { count, jsonLine, moment, plain } from "../render.ts";
import { madeText } from "./cache_show.ts";

const agoMsMax = 3_650 * 86_400_000;

export const cacheRevoke = command({
  name: "cache revoke",
  usage: ["cache revoke --worker W --since TIME [FLAGS]"],
  about:
    "Takes back every result that a worker made since then, as when it turns out to have a broken compiler: such tasks run again from now on. Lists the jobs that were given one of these results (of each the newest 1,000 tasks are known); what they were given stays with them.",
  examples: [
    ["cache revoke --worker w7 --since 2h", "what it made in the last two hours"],
    ["cache revoke --worker w7 --since 2026-01-31T12:00:00Z", "what it made since then"],
  ],
  flags: {
    worker: text("W", "Whose results: a worker's id, as workers and cache list show it"),
    since: textOf("TIME", "A time ago, such as 2h, or a moment, such as 2026-01-31T12:00:00Z", readSince),
    ...clusterFlags,
  },
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson, connect }) {
    const { worker, since } = flags;
    if (worker === undefined || since === undefined) {
      throw usage(
        `Cannot revoke as both --worker and --since must be given: ${
          worker === undefined ? "--worker" : "--since"
        } is absent`,
      );
    }
    const sinceMs = since.kind === "at" ? since.atMs : Math.max(0, world.clock.now() - since.agoMs);
    const client = await connect();
    const jobs = new Map<JobId, number>();
    let revoked = 0;
    for await (const each of client.actions.revoke({ workerId: workerId(worker), sinceMs })) {
      revoked++;
      for (const task of each.usedBy) jobs.set(jobOfTask(task), (jobs.get(jobOfTask(task)) ?? 0) + 1);
      await world.stdout.write(
        isJson
          ? jsonLine(each)
          : `revoked ${each.action}, made by ${madeText(each.made)}${
            each.usedBy.length === 0 ? "" : `, given to ${count(each.usedBy.length, "task")}`
          }\n`,
      );
    }
    if (isJson) {
      const used = [...jobs].map(([jobId, tasks]) => ({ jobId, tasks }));
      await world.stdout.write(jsonLine({ type: "end", revoked, sinceMs, jobs: used }));
      return exitCodes.done;
    }
    const lines = [`${count(revoked, "result")} of ${plain(worker)} since ${moment(sinceMs)} revoked.`];
    if (jobs.size > 0) lines.push(`${count(jobs.size, "job")} used them:`);
    for (const [jobId, tasks] of jobs) lines.push(`  ${jobId}  ${count(tasks, "task")}`);
    await world.stdout.write(lines.map((line) => `${line}\n`).join(""));
    return exitCodes.done;
  },
});

type Since = { readonly kind: "ago"; readonly agoMs: number } | { readonly kind: "at"; readonly atMs: number };

function readSince(given: string, shown: string): Since {
  if (/^\d{4}-\d{2}-\d{2}/.test(given)) {
    const atMs = Date.parse(given);
    if (Number.isFinite(atMs) && atMs >= 0) return { kind: "at", atMs };
    throw usage(
      `Cannot read ${shown} as it must be a moment such as 2026-01-31T12:00:00Z: current value is "${given}"`,
    );
  }
  return { kind: "ago", agoMs: duration(agoMsMax)(given, shown) };
}
