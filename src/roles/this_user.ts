import { statSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";

// Apart from the ready file, so that a command that needs no cluster does not load it.

/**
 * The folder of this user, by convention of the system: `$XDG_RUNTIME_DIR/scoot-actors`, else one under `temporaryDir`
 * that carries the user's id. Says only where; see `publishReady`.
 */
export function runtimeFolder(options: {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly temporaryDir: string;
  readonly uid?: number;
}): string {
  const given = options.env["XDG_RUNTIME_DIR"];
  // The variable outlives its folder in some sessions (su, containers): a cluster must start there too.
  if (given !== undefined && given.startsWith("/") && isFolder(given)) return join(given, "scoot-actors");
  return join(options.temporaryDir, `scoot-actors-${options.uid ?? userInfo().uid}`);
}

/** Whether a process has this id now. It may be another one than had it once. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code === "EPERM";
  }
}

/** Whether only this machine reaches the host: "localhost", 127.0.0.0/8, "::1". */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);

/** Whether a folder is there. */
export const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
