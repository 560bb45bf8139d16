import type { Client } from "../../api/client.ts";
import type { Digest } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { resolveSnapshot } from "../ids.ts";
import { jsonLine, lookOf, plain, table } from "../render.ts";

/** How often a name is tried that others move at the same time. */
const triesMax = 10;

export const snapshotName = command({
  name: "snapshot name",
  usage: ["snapshot name", "snapshot name NAME [ID] [FLAGS]"],
  about:
    "Gives a snapshot a name, or moves the name to it; says what a name points to; or lists all names. What has a name is kept.",
  examples: [
    ["snapshot name release $(scoot-actors snapshot capture)", "this folder, from now on release"],
    ["snapshot name release", "the id behind the name"],
    ["snapshot name", "all names"],
  ],
  flags: clusterFlags,
  words: { min: 0, max: 2 },
  async run({ words: [name, id], world, isJson, connect }) {
    const client = await connect();
    if (name === undefined) {
      const rows: string[][] = [];
      for await (const [each, snapshot] of client.names.list("")) {
        if (isJson) await world.stdout.write(jsonLine({ name: each, snapshot }));
        else rows.push([plain(each), snapshot]);
      }
      if (!isJson) {
        await world.stdout.write(
          rows.length === 0 ? "No snapshot has a name.\n" : table(lookOf(world), ["NAME", "SNAPSHOT"], rows),
        );
      }
      return exitCodes.done;
    }
    const snapshot = id === undefined ? await client.names.get(name) : await resolveSnapshot(client, id);
    if (snapshot === undefined) {
      throw new Fault("REF_UNKNOWN", `Cannot find the name "${name}": no snapshot was given it`);
    }
    if (id !== undefined) await moveName(client, name, snapshot as Digest);
    await world.stdout.write(isJson ? jsonLine({ name, snapshot }) : `${snapshot}\n`);
    return exitCodes.done;
  },
});

/** Points the name there, wherever it pointed before. @throws {Fault} `REF_CONFLICT` when others keep moving it. */
export async function moveName(client: Client, name: string, snapshot: Digest): Promise<void> {
  for (let tries = 1;; tries++) {
    const present = await client.names.get(name);
    if (present === snapshot) return;
    try {
      return await client.names.compareAndSet(name, present, snapshot);
    } catch (thrown) {
      if (!isFault(thrown, "REF_CONFLICT") || tries === triesMax) throw thrown;
    }
  }
}
