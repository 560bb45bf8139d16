import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { textOf } from "../flags.ts";
import { readJobId } from "../ids.ts";
import { moment } from "../moment.ts";
import { jsonLine, plain, span } from "../render.ts";

export const jobWhy = command({
  name: "job why",
  usage: ["job why ID [--at TIME]"],
  about:
    "Says why a job and its tasks are as they are: what each waits for, who is ahead, which worker was chosen, how attempts ended. From what is saved, so it can say it for the past too.",
  examples: [
    ["job why j01k3x9q7fa-0004m2", "as it is now"],
    ["job why j01k3x9q7fa-0004m2 --at 5m", "as it was five minutes ago"],
    ["job why j01k3x9q7fa-0004m2 --at 2026-05-01T08:30:00Z", "as it was then"],
  ],
  flags: {
    at: textOf("TIME", "A moment of the past: 5m (ago), a date, or milliseconds since 1970", moment),
    ...clusterFlags,
  },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const jobId = readJobId(words[0] ?? "");
    const atMs = flags.at?.(world.clock.now());
    const why = await (await connect()).why(jobId, atMs === undefined ? {} : { atMs });
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
    if (why.more > 0) lines.push(`and ${why.more} tasks more`);
    await world.stdout.write(`${lines.join("\n")}\n`);
    return exitCodes.done;
  },
});
