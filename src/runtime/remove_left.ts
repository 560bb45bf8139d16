import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { rm, rmdir } from "node:fs/promises";

/**
 * Removes a folder with whatever commands left in it: also folders without write permission, as the caches of package
 * managers have them, and deeper ones than a path can name.
 *
 * @returns whether it is gone.
 */
export function removeLeft(dir: string): boolean {
  try {
    rmSync(dir, { recursive: true, force: true });
  } catch {
    spawnSync("/bin/sh", ["-c", 'chmod -R u+rwX -- "$1"; rm -rf -- "$1"', "sh", dir], { stdio: "ignore" });
  }
  return !existsSync(dir);
}

/** The same for what is easily removed, beside other work. What resists is left for {@link removeLeft}; it never rejects. */
export const removeBeside = (dir: string): Promise<void> => rm(dir, { recursive: true, force: true }).catch(() => {});

/** Removes a folder in which nothing is, beside other work. @returns whether that was so. */
export const removeEmpty = (dir: string): Promise<boolean> => rmdir(dir).then(() => true, () => false);
