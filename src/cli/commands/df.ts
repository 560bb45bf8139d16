import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { count, jsonLine, size, span } from "../render.ts";

export const df = command({
  name: "df",
  usage: ["df"],
  about:
    "Says what the cluster's store takes of its budget (cluster --max-size), and for how long what was stored or asked for is sure to stay.",
  examples: [["df", "in a few lines"]],
  flags: clusterFlags,
  words: { min: 0, max: 0 },
  async run({ world, isJson, connect }) {
    const usage = await (await connect()).store.usage();
    if (isJson) {
      await world.stdout.write(jsonLine(usage));
      return exitCodes.done;
    }
    const { blobs, actions, statesBytes, bytes, maxBytes, limitBytes, freeBytes, guaranteedAgeMs, isFull } = usage;
    const lines = [
      `${size(bytes)} of ${size(maxBytes)}${
        limitBytes < maxBytes ? `, of which the disk allows ${size(limitBytes)}` : ""
      }: ` +
      `${count(blobs.count, "blob")} ${size(blobs.bytes)}, ${count(actions.entries, "kept result")} ${
        size(actions.bytes)
      }, states and history ${size(statesBytes)}`,
      `The disk has ${size(freeBytes)} left.`,
      `What was stored, asked for or answered stays at least ${
        span(guaranteedAgeMs)
      }; what is named, queued or running stays.`,
      ...(isFull
        ? ["Full: nothing may go, so new work is refused. Name less, give it more (--max-size), or wait."]
        : []),
    ];
    await world.stdout.write(`${lines.join("\n")}\n`);
    return exitCodes.done;
  },
});
