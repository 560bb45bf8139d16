import { workerId } from "../../domain/ids.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text } from "../flags.ts";
import { jsonLine } from "../render.ts";

export const workerReinstate = command({
  name: "worker reinstate",
  usage: ["worker reinstate ID [--reason TEXT]"],
  about: "The worker is given tasks again.",
  examples: [["worker reinstate w1 --reason 'its disk'", "says why, which workers shows"]],
  flags: { reason: text("TEXT", "Why; it is kept in the history"), ...clusterFlags },
  words: { min: 1, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const id = workerId(words[0] ?? "");
    await (await connect()).reinstate(id, flags.reason ?? "its user asked for it");
    await world.stdout.write(
      isJson ? jsonLine({ workerId: id, reinstate: true }) : `Reinstated: ${id} is given tasks again.\n`,
    );
    return exitCodes.done;
  },
});
