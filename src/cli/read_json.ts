import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { usage } from "./flags.ts";
import type { World } from "./world.ts";

/** A job of 20,000 tasks is about 4 MB. */
const fileBytesMax = 256 * 1024 * 1024;

export const shown = (file: string): string => file === "-" ? "stdin" : file;

/** What a file of JSON holds, or standard input for "-". @param what names it in a fault: "a job". */
export async function readJson(world: World, file: string, what: string): Promise<unknown> {
  const text = file === "-" ? await readAll(world.stdin, what) : readFileSync(resolve(world.userDir, file), "utf8");
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw usage(`Cannot read ${what} from ${shown(file)} as it must be JSON: ${(cause as Error).message}`);
  }
}

async function readAll(chunks: AsyncIterable<Uint8Array>, what: string): Promise<string> {
  const all: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > fileBytesMax) {
      throw usage(`Cannot read ${what} from stdin as it must be at most ${fileBytesMax} bytes: there are more`);
    }
    all.push(chunk);
  }
  return Buffer.concat(all).toString("utf8");
}
