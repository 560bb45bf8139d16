import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { jsonLine } from "../render.ts";

export const schedulerGet = command({
  name: "scheduler get",
  usage: ["scheduler get"],
  about:
    "Shows what is set: classes of requestors with their percentages, patterns, floors, counters, limits. In the form that scheduler set reads.",
  examples: [["scheduler get > settings.json", "to change it and hand it to scheduler set"]],
  flags: clusterFlags,
  words: { min: 0, max: 0 },
  async run({ world, isJson, connect }) {
    const settings = await (await connect()).settings();
    await world.stdout.write(isJson ? jsonLine(settings) : `${JSON.stringify(settings, undefined, 2)}\n`);
    return exitCodes.done;
  },
});
