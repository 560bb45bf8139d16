import { resolve } from "node:path";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { resolveSnapshot } from "../ids.ts";
import { progressBar } from "../progress.ts";
import { jsonLine, plain } from "../render.ts";

export const snapshotCheckout = command({
  name: "snapshot checkout",
  usage: ["snapshot checkout ID DIR [FLAGS]"],
  about: "Writes a snapshot into a folder, which must be empty or not be there yet.",
  examples: [
    ["snapshot checkout release ./release", "by its name"],
    ["snapshot checkout $(scoot-actors snapshot capture) /tmp/copy", "a copy of this folder without what is ignored"],
  ],
  flags: clusterFlags,
  words: { min: 2, max: 2 },
  async run({ words: [id = "", given = ""], world, isJson, connect }) {
    const client = await connect();
    const snapshot = await resolveSnapshot(client, id);
    const dir = resolve(world.userDir, given);
    const progress = progressBar(world, "Writing");
    try {
      await (await world.trees()).checkout({
        snapshot,
        dir,
        blobs: client.blobs,
        onProgress: (now) => progress.update(now),
      });
    } finally {
      await progress.clear();
    }
    await world.stdout.write(isJson ? jsonLine({ snapshot, dir }) : `${plain(dir)}\n`);
    return exitCodes.done;
  },
});
