import type { Client } from "../api/client.ts";
import type { Digest } from "../domain/digest.ts";
import { isFault } from "../domain/fault.ts";
import type { Since } from "../snapshots/trees/changed_since.ts";
import type { Call } from "./command.ts";
import { jsonLine } from "./render.ts";

export interface BroughtBack {
  readonly snapshot: Digest;
  /** Where the command's inputs came from. */
  readonly dir: string;
  /** What its user changed since is left alone. */
  readonly since: Since;
  /** For people: "dist, coverage". */
  readonly what: string;
  /** For programs. */
  readonly told: Readonly<Record<string, unknown>>;
}

/**
 * Brings what a task made back into a folder, and says so: all of it, or nothing when something there was changed since
 * the task was sent. The sentence then tells which, and where the outputs are.
 *
 * @returns whether it is back. @throws {Fault} for what else keeps it from being written.
 */
export async function bringBack(
  { world, isJson }: Pick<Call, "world" | "isJson">,
  client: Client,
  { snapshot, dir, since, what, told }: BroughtBack,
): Promise<boolean> {
  try {
    await (await world.trees()).bringBack({ snapshot, dir, since, blobs: client.blobs });
  } catch (thrown) {
    if (!isFault(thrown, "OUTPUT_CHANGED")) throw thrown;
    const { code, message } = thrown;
    if (isJson) await world.stdout.write(jsonLine({ type: "leftAlone", ...told, snapshot, dir, code, message }));
    else {
      await world.stderr.write(
        `scoot-actors: ${message}; or have all of it with: scoot-actors snapshot checkout ${snapshot} FOLDER\n`,
      );
    }
    return false;
  }
  if (isJson) await world.stdout.write(jsonLine({ type: "broughtBack", ...told, snapshot, dir }));
  else await world.stderr.write(`scoot-actors: brought back ${what}\n`);
  return true;
}
