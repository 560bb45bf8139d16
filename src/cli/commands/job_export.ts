import { existsSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { resolve } from "node:path";
import type { Client } from "../../api/client.ts";
import { asFault } from "../../domain/fault.ts";
import type { JobId } from "../../domain/ids.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { toggle, usage } from "../flags.ts";
import { readJobId } from "../ids.ts";
import { jsonLine, plain, size } from "../render.ts";

export const jobExport = command({
  name: "job export",
  usage: ["job export ID FILE|- [FLAGS]"],
  about:
    "Writes all that is kept of a job which has ended into one file: its history, the inputs and outputs of its tasks, what they wrote. job import takes it into another cluster.",
  examples: [
    ["job export j01k3x9q7fa-0004m2 broken.scootjob", "to keep it, or to send it to somebody"],
    ["job export j01k3x9q7fa-0004m2 - | ssh other scoot-actors job import -", "from one machine to another"],
  ],
  flags: { force: toggle("Replace the file if it is there already", "f"), ...clusterFlags },
  words: { min: 2, max: 2 },
  async run({ flags, words: [id = "", file = ""], world, isJson, connect }) {
    const jobId = readJobId(id);
    if (file === "-") {
      if (isJson) throw usage("Cannot write JSON as the file goes to stdout: name a FILE, or leave out --json");
      for await (const chunk of (await connect()).exportJob(jobId)) await world.stdout.write(chunk);
      return exitCodes.done;
    }
    const path = resolve(world.userDir, file);
    if (!flags.force && existsSync(path)) {
      throw usage(`Cannot write ${plain(file)} as it must not be there yet: it is. Replace it with --force`);
    }
    const bytes = await writeWhole(await connect(), jobId, path, `${path}.${world.randomHex(4)}.part`);
    await world.stdout.write(
      isJson ? jsonLine({ jobId, file: path, bytes }) : `Wrote ${jobId} to ${plain(file)}, ${size(bytes)}\n`,
    );
    return exitCodes.done;
  },
});

/** Beside it first: the file is there when it is whole. */
async function writeWhole(client: Client, jobId: JobId, path: string, part: string): Promise<number> {
  let file: FileHandle;
  try {
    file = await open(part, "wx", 0o600); // what tasks were given and wrote is for whoever asked
  } catch (thrown) {
    throw asFault(thrown, `Cannot write ${plain(path)}`);
  }
  try {
    let bytes = 0;
    try {
      for await (const chunk of client.exportJob(jobId)) {
        await file.writeFile(chunk);
        bytes += chunk.length;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
    return bytes;
  } catch (thrown) {
    await rm(part, { force: true });
    throw asFault(thrown, `Cannot write ${plain(path)}`);
  }
}
