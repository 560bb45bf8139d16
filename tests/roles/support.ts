import { readFileSync } from "node:fs";
import { realClock } from "../../src/runtime/clock.ts";
import { fileURLToPath } from "node:url";
import process from "node:process";

/** Waits until the check gives something, at most twenty seconds. */
export async function eventually<T>(what: string, check: () => T | undefined | false): Promise<T> {
  for (const endsAtMs = realClock.now() + 20_000; realClock.now() < endsAtMs;) {
    const found = check();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`waited twenty seconds in vain until ${what}`);
}

/** Whether a process runs: one that only waits to be reaped does not. */
export function isRunning(pid: number | undefined): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

/** What runs a module under the runtime of this test. */
export const runModule = (module: URL): { readonly command: string; readonly args: readonly string[] } => ({
  command: process.execPath,
  args: [...("deno" in process.versions ? ["run", "-A"] : []), fileURLToPath(module)],
});
