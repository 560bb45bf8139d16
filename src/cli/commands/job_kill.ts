import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text } from "../flags.ts";
import { readJobId } from "../ids.ts";
import { jsonLine } from "../render.ts";

export const jobKill = command({
  name: "job kill",
  usage: ["job kill ID [--reason TEXT]"],
  about:
    "Ends a job: what waits is not run, what runs gets SIGTERM and, a moment later, SIGKILL. A job that has ended stays as it is.",
  examples: [
    ["job kill j01k3x9q7fa-0004m2", "ends it"],
    ["job kill j01k3x9q7fa-0004m2 --reason 'wrong branch'", "and says why, which job status shows"],
  ],
  flags: { reason: text("TEXT", "Why; it is kept with the job"), ...clusterFlags },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const jobId = readJobId(words[0] ?? "");
    await (await connect()).kill(jobId, flags.reason ?? "its user asked for it");
    await world.stdout.write(
      isJson ? jsonLine({ jobId, killed: true }) : `Killed ${jobId}; it ends when its running tasks have.\n`,
    );
    return exitCodes.done;
  },
});
