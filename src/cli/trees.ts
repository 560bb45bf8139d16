import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../runtime/clock.ts";
import type { Pool } from "../snapshots/pool/pool.ts";
import type { Trees, World } from "./world.ts";

const hashingThreads = 2;
/** What was read of so many folders is remembered, the least lately captured are forgotten. */
const indexesMax = 50;

// What a command does not use is not loaded: all of it takes as long as a small run.

/** Folders of this machine. */
export function localTrees({ env, clock }: { readonly env: World["env"]; readonly clock: Clock }): Trees {
  return {
    async capture({ dir, blobs, include, holdsTree, onProgress, signal }) {
      let pool: Pool | undefined;
      const startPool = async (): Promise<Pool> => {
        const { threadPool } = await import("../snapshots/pool/pool.ts");
        return pool ??= threadPool({ threads: hashingThreads });
      };
      const { capture } = await import("../snapshots/trees/capture.ts");
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
      const { checkout } = await import("../snapshots/trees/checkout.ts");
      await checkout(options);
    },
    async captureRevision(options) {
      const { captureRevision } = await import("../snapshots/trees/capture_revision.ts");
      return await captureRevision({ ...options, environment: env });
    },
    async bringBack(options) {
      const { bringBack } = await import("../snapshots/trees/checkout.ts");
      await bringBack(options);
    },
    async *diff(blobs, before, after) {
      const { diffTrees } = await import("../snapshots/trees/diff.ts");
      yield* diffTrees(blobs, before, after);
    },
    async overlay(blobs, base, top) {
      const { overlay } = await import("../snapshots/trees/compose.ts");
      return await overlay(blobs, base, top);
    },
    async mount(blobs, parts) {
      const { mountTrees } = await import("../snapshots/trees/compose.ts");
      return await mountTrees(blobs, parts);
    },
    async lookup(blobs, snapshot, path) {
      const { lookup } = await import("../snapshots/trees/read_tree.ts");
      return await lookup(blobs, snapshot, path);
    },
    async *walk(blobs, snapshot, path) {
      const { walk } = await import("../snapshots/trees/read_tree.ts");
      yield* walk(blobs, snapshot, path);
    },
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
