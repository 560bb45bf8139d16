import { resolve } from "node:path";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { list, text } from "../flags.ts";
import { captureFolder } from "../task_flags.ts";
import { moveName } from "./snapshot_name.ts";

export const snapshotCapture = command({
  name: "snapshot capture",
  usage: ["snapshot capture [DIR] [FLAGS]"],
  about:
    "Keeps a folder (this one by default) in the cluster and prints the id of the snapshot. What git ignores, .git and .env* are left out; a line on stderr says what was sent and what not.",
  examples: [
    ["snapshot capture", "this folder"],
    ["snapshot capture ../app --name release", "another one, with a name"],
    ["snapshot capture --include .env.test", "with a file that would be left out"],
  ],
  flags: {
    name: text("NAME", "Give it this name, which may point elsewhere now"),
    include: list(
      "PATH",
      "Take this too, although ignore rules or its name (.env) leave it out; relative to the folder",
    ),
    ...clusterFlags,
  },
  words: { min: 0, max: 1 },
  async run({ flags, words, world, isJson, connect }) {
    const client = await connect();
    const snapshot = await captureFolder({ world, isJson }, client, {
      dir: resolve(world.userDir, words[0] ?? "."),
      include: flags.include,
    });
    if (flags.name !== undefined) await moveName(client, flags.name, snapshot);
    if (!isJson) await world.stdout.write(`${snapshot}\n`);
    return exitCodes.done;
  },
});
