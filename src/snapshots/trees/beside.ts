import { hash } from "node:crypto";
import { readdirSync, rmSync } from "node:fs";
import { basename, dirname } from "node:path";

const names = /^\.scoot-[0-9a-f]{16}\.([1-9]\d{0,9})\.tmp$/;

/** Where this process writes what is to replace a file where people work. Of one length, whatever the name's. */
export const beside = (path: string): string =>
  `${dirname(path)}/.scoot-${hash("sha256", basename(path), "hex").slice(0, 16)}.${process.pid}.tmp`;

/** Whether a name is one of those. */
export const isBeside = (name: string): boolean => name.startsWith(".scoot-") && names.test(name);

/** Takes away what processes left there that were killed while they wrote. */
export function removeLeftBeside(dir: string): void {
  for (const name of readdirSync(dir)) {
    const pid = isBeside(name) ? names.exec(name)?.[1] : undefined;
    if (pid !== undefined && !isRunning(Number(pid))) rmSync(`${dir}/${name}`, { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"; // another user's
  }
}
