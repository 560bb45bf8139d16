import { workerId } from "../../domain/ids.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text } from "../flags.ts";
import { jsonLine } from "../render.ts";

export const workerOffline = command({
  name: "worker offline",
  usage: ["worker offline ID [--reason TEXT]"],
  about: "The worker is given nothing more until it is reinstated, also after restarts; what it runs goes on.",
  examples: [["worker offline w1 --reason 'its disk'", "says why, which workers shows"]],
  flags: { reason: text("TEXT", "Why; it is kept in the history"), ...clusterFlags },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const id = workerId(words[0] ?? "");
    await (await connect()).offline(id, flags.reason ?? "its user asked for it");
    await world.stdout.write(
      isJson
        ? jsonLine({ workerId: id, offline: true })
        : `Offline: ${id} is given nothing more until worker reinstate ${id}.\n`,
    );
    return exitCodes.done;
  },
});
