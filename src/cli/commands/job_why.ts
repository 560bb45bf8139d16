import type { Client } from "../../api/client.ts";
import { type Digest, isDigest } from "../../domain/digest.ts";
import { Fault } from "../../domain/fault.ts";
import type { JobId } from "../../domain/ids.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { textOf } from "../flags.ts";
import { readJobId } from "../ids.ts";
import { moment } from "../moment.ts";
import { ranActions } from "../ran_actions.ts";
import { jsonLine, plain, span } from "../render.ts";

const jobsLookedAt = 1_000;

/** @throws {Fault} `ACTION_UNKNOWN`. */
async function lastRunOf(client: Client, action: Digest): Promise<JobId> {
  for await (const { job, task } of ranActions(client, jobsLookedAt)) {
    if (task.action?.digest === action) return job.jobId;
  }
  throw new Fault(
    "ACTION_UNKNOWN",
    `Cannot say why of action ${action} as one of the last ${jobsLookedAt} jobs must have run it: "cache show ${action}" shows a result that is kept`,
  );
}

export const jobWhy = command({
  name: "job why",
  usage: ["job why ID [--at TIME]", "job why HASH/SIZE [--at TIME]"],
  about:
    "Says why a job and its tasks are as they are: what each waits for, who is ahead, which worker was chosen, how attempts ended. From what is saved, so it can say it for the past too. HASH/SIZE is the digest of an action of Remote Execution: of the job that ran it last.",
  examples: [
    ["job why j01k3x9q7fa-0004m2", "as it is now"],
    ["job why 6f1c…/142", "of an action that Bazel asked for"],
    ["job why j01k3x9q7fa-0004m2 --at 5m", "as it was five minutes ago"],
    ["job why j01k3x9q7fa-0004m2 --at 2026-05-01T08:30:00Z", "as it was then"],
  ],
  flags: {
    at: textOf("TIME", "A moment of the past: 5m (ago), a date, or milliseconds since 1970", moment),
    ...clusterFlags,
  },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const [given = ""] = words;
    const isAction = isDigest(given);
    const known = isAction ? undefined : readJobId(given);
    const atMs = flags.at?.(world.clock.now());
    const client = await connect();
    const jobId = known ?? await lastRunOf(client, given as Digest);
    const why = await client.why(jobId, atMs === undefined ? {} : { atMs });
    if (isJson) {
      const { type: _type, ...rest } = why;
      await world.stdout.write(jsonLine(rest));
      return exitCodes.done;
    }
    const ago = (ms: number): string => `${span(Math.max(0, (atMs ?? world.clock.now()) - ms))} before`;
    const led = ({ event, from, reason, atMs: ledAtMs }: typeof why.jobCause): string =>
      plain(`${event} from ${from}, ${ago(ledAtMs)}${reason === undefined ? "" : `: ${reason}`}`);
    const lines = [
      `${jobId} ${why.job.state}${atMs === undefined ? "" : ` at ${new Date(atMs).toISOString()}`}: ${
        plain(why.job.why)
      }`,
      `  last: ${led(why.jobCause)}`,
    ];
    for (const { task, cause } of why.tasks) {
      lines.push(`${plain(task.name)} ${task.state}: ${plain(task.why)}`, `  last: ${led(cause)}`);
    }
    const [task] = why.tasks;
    if (isAction && task?.task.cached === undefined) lines.push(`why-miss ${given} says why it was no hit`);
    if (why.more > 0) lines.push(`and ${why.more} tasks more`);
    await world.stdout.write(`${lines.join("\n")}\n`);
    return exitCodes.done;
  },
});
