import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text } from "../flags.ts";
import { parseSettings } from "../../protocol/settings.ts";
import { readJson } from "../read_json.ts";

export const schedulerSet = command({
  name: "scheduler set",
  usage: ["scheduler set FILE [--reason TEXT]"],
  about:
    "Sets how slots are divided among classes of requestors and how much is taken in, from a file of JSON: all of it, what is not given has its default. It holds at once, and over restarts. What is wrong changes nothing.",
  examples: [
    ["scheduler set settings.json --reason 'release week'", "from a file"],
    ["scheduler set - < settings.json", "from standard input"],
  ],
  flags: { reason: text("TEXT", "Why; it is kept in the history"), ...clusterFlags },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const settings = parseSettings(await readJson(world, words[0] ?? "-", "the settings"));
    await (await connect()).setSettings(settings, flags.reason ?? "its user asked for it");
    if (!isJson) await world.stdout.write("Set; it holds at once, and over restarts.\n");
    return exitCodes.done;
  },
});
