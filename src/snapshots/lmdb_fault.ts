import { asFault, Fault } from "../domain/fault.ts";

/** LMDB's own code for an environment that has grown to its map (lmdb.h). */
const mapFull = -30792;
/** errno values, which LMDB passes on as numbers; the same on Linux, macOS and the BSDs. */
const enospc = 28;

/** What LMDB threw, as a fault: no room on the disk or in the map is `NO_SPACE`. */
export function lmdbFault(thrown: unknown, doing: string): Fault {
  const cause = (thrown as { commitError?: unknown } | null)?.commitError ?? thrown;
  const code = (cause as { code?: unknown } | null)?.code;
  if (code === enospc || code === mapFull) {
    return new Fault("NO_SPACE", `${doing}: ${(cause as Error).message}`, { cause: thrown });
  }
  return asFault(thrown, doing);
}
