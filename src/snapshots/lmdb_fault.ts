import { statfsSync } from "node:fs";
import { asFault, Fault } from "../domain/fault.ts";

/** The file system that holds `dir`: how many bytes it takes more, and how many it has in all. */
export function diskOf(dir: string): { readonly freeBytes: number; readonly totalBytes: number } {
  const { bavail, blocks, bsize } = statfsSync(dir);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

/** Whether it takes so many bytes more. */
export const hasRoom = (dir: string, bytes: number): boolean => diskOf(dir).freeBytes > bytes;

/** LMDB's own code for an environment that has grown to its map (lmdb.h). */
const mapFull = -30792;
/** errno values, which LMDB passes on as numbers: no space; no quota left on Linux, and on macOS and the BSDs. */
const noSpace: readonly unknown[] = [mapFull, 28, 122, 69];
/** EIO: among others what LMDB makes of a write that found room for its beginning only. */
const inputOutput = 5;

/**
 * What LMDB threw, as a fault: no room on the disk or in the map is `NO_SPACE`.
 * A failed commit tells its cause by another promise, a little later.
 *
 * @param isFull whether the disk has no room for what was to be written; that is how the one errno that may mean it is read.
 */
export async function lmdbFault(
  thrown: unknown,
  doing: string,
  isFull: () => boolean = () => false,
): Promise<Fault> {
  const told = (thrown as { commitError?: Promise<unknown> } | null)?.commitError;
  const cause = told === undefined ? thrown : await Promise.resolve(told).catch((error: unknown) => error);
  const code = (cause as { code?: unknown } | null)?.code;
  if (noSpace.includes(code) || (code === inputOutput && isFull())) {
    return new Fault("NO_SPACE", `${doing}: ${(cause as Error).message}`, { cause });
  }
  return asFault(cause, doing);
}
