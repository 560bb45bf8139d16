import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../runtime/clock.ts";
import type { Pool } from "../snapshots/pool/pool.ts";
import { capture } from "../snapshots/trees/capture.ts";
import { bringBack, checkout } from "../snapshots/trees/checkout.ts";
import { mountTrees, overlay } from "../snapshots/trees/compose.ts";
import { diffTrees } from "../snapshots/trees/diff.ts";
import { lookup, walk } from "../snapshots/trees/read_tree.ts";
import type { Trees, World } from "./world.ts";

const hashingThreads = 2;
/** What was read of so many folders is remembered, the least lately captured are forgotten. */
const indexesMax = 50;

/** Folders of this machine. */
export function localTrees({ env, clock }: { readonly env: World["env"]; readonly clock: Clock }): Trees {
  return {
    async capture({ dir, blobs, include, holdsTree, onProgress, signal }) {
      let pool: Pool | undefined;
      const startPool = async (): Promise<Pool> => {
        const { threadPool } = await import("../snapshots/pool/pool.ts");
        return pool ??= threadPool({ threads: hashingThreads });
      };
      const indexPath = indexOf(env, dir);
      try {
        return await capture({
          dir,
          blobs,
          include,
          holdsTree,
          clock,
          environment: env,
          hashFile: async (path) => await (await startPool()).hashFile(path),
          ...(indexPath === undefined ? {} : { indexPath }),
          ...(onProgress === undefined ? {} : { onProgress }),
          ...(signal === undefined ? {} : { signal }),
        });
      } finally {
        await pool?.close();
      }
    },
    async checkout(options) {
      await checkout(options);
    },
    async bringBack(options) {
      await bringBack(options);
    },
    diff: diffTrees,
    overlay,
    mount: mountTrees,
    lookup,
    walk,
  };
}

/** What this program keeps of its user: only what makes it faster. */
export function cacheFolder(env: World["env"]): string {
  const cache = env["XDG_CACHE_HOME"];
  const caches = cache !== undefined && cache.startsWith("/") ? cache : join(env["HOME"] ?? homedir(), ".cache");
  return join(caches, "scoot-actors");
}

/** Where what was read of a folder is remembered, in the user's cache; undefined where there can be none. */
function indexOf(env: World["env"], dir: string): string | undefined {
  const folder = join(cacheFolder(env), "captures");
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const name = createHash("sha256").update(dir).digest("hex").slice(0, 32);
    forget(folder, name);
    return join(folder, name);
  } catch {
    return undefined; // a read-only home makes captures slower, not impossible
  }
}

function forget(folder: string, keep: string): void {
  const others = readdirSync(folder).filter((name) => name !== keep);
  if (others.length < indexesMax) return;
  const byAge = others.map((name) => ({ name, atMs: statSync(join(folder, name)).mtimeMs })).sort((a, b) =>
    a.atMs - b.atMs
  );
  for (const { name } of byAge.slice(0, others.length - indexesMax + 1)) rmSync(join(folder, name), { force: true });
}
