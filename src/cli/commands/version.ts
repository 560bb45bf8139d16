import { productVersion, protocolVersion } from "../../protocol/version.ts";
import { command, jsonFlag } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { jsonLine } from "../render.ts";

export const version = command({
  name: "version",
  usage: ["version [--json]"],
  about: "Says which version of this program you have, and what runs it.",
  examples: [["version", "such as: scoot-actors 1.2.3 (protocol 1, node 24.1.0)"]],
  flags: jsonFlag,
  words: { min: 0, max: 0 },
  async run({ world, isJson }) {
    const { deno, node } = process.versions;
    const runtime = deno === undefined ? `node ${node}` : `deno ${deno}`;
    await world.stdout.write(
      isJson
        ? jsonLine({ version: productVersion, protocol: protocolVersion, runtime })
        : `scoot-actors ${productVersion} (protocol ${protocolVersion}, ${runtime})\n`,
    );
    return exitCodes.done;
  },
});
