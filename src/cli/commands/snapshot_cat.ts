import { Fault } from "../../domain/fault.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { resolveSnapshot } from "../ids.ts";
import { jsonLine } from "../render.ts";

export const snapshotCat = command({
  name: "snapshot cat",
  usage: ["snapshot cat ID PATH [FLAGS]"],
  about: "Prints one file of a snapshot, byte for byte.",
  examples: [
    ["snapshot cat release package.json", "by the snapshot's name"],
    ["snapshot cat release logo.png > logo.png", "any bytes"],
  ],
  flags: clusterFlags,
  words: { min: 2, max: 2 },
  async run({ words: [id = "", path = ""], world, isJson, connect }) {
    const client = await connect();
    const snapshot = await resolveSnapshot(client, id);
    const node = await (await world.trees()).lookup(client.blobs, snapshot, path);
    if (node.kind !== "file") {
      throw new Fault(
        "PATH_INVALID",
        `Cannot print "${path}" as it must be a file: current value is a ${node.kind}${
          node.kind === "symlink" ? ` to "${node.target}"` : ""
        }`,
      );
    }
    let offset = 0;
    for await (const chunk of client.blobs.get(node.digest)) {
      await world.stdout.write(
        isJson ? jsonLine({ path, offset, base64: Buffer.from(chunk).toString("base64") }) : chunk,
      );
      offset += chunk.length;
    }
    return exitCodes.done;
  },
});
