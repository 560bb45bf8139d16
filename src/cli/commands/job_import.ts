import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { asFault } from "../../domain/fault.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { jsonLine, plain } from "../render.ts";

export const jobImport = command({
  name: "job import",
  usage: ["job import FILE|- [FLAGS]"],
  about:
    "Takes in a job that job export wrote, from this cluster or another. It keeps its id; job list, status, watch and logs show it as any job that has ended. A file that is harmed is refused, and nothing of its job is shown.",
  examples: [
    ["job import broken.scootjob", "and prints the job's id"],
    ["job import - < broken.scootjob", "the same"],
  ],
  flags: clusterFlags,
  words: { min: 1, max: 1 },
  async run({ words: [file = ""], world, isJson, connect }) {
    const source = file === "-" ? world.stdin : fileOf(resolve(world.userDir, file));
    const { jobId, existing } = await (await connect()).importJob(source);
    await world.stdout.write(isJson ? jsonLine({ jobId, existing }) : `${jobId}\n`);
    if (existing && !isJson) await world.stderr.write("scoot-actors: it was here already\n");
    return exitCodes.done;
  },
});

const chunkBytes = 256 * 1024;

/** Read anew by each reader, so that a lost connection costs nothing. */
const fileOf = (path: string): AsyncIterable<Uint8Array> => ({
  async *[Symbol.asyncIterator]() {
    try {
      const file = await open(path);
      try {
        for (;;) {
          const { bytesRead, buffer } = await file.read(new Uint8Array(chunkBytes), 0, chunkBytes);
          if (bytesRead === 0) return;
          yield buffer.subarray(0, bytesRead);
        }
      } finally {
        await file.close();
      }
    } catch (thrown) {
      throw asFault(thrown, `Cannot read ${plain(path)}`);
    }
  },
});
