import { lstatSync, realpathSync, statSync } from "node:fs";
import { Fault } from "../../domain/fault.ts";

/**
 * Where a folder of a tree is to be in a folder where people work: itself, or what a symlink in its place leads to;
 * undefined when nothing is there yet.
 *
 * @param top absolute, without symlinks: the folder where people work.
 * @throws {Fault} `CHECKOUT_FAILED` where a file is; `PATH_INVALID` for a symlink that leads to no folder in `top`.
 */
export function folderAt(path: string, top: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined || found.isDirectory()) return found && path;
  if (!found.isSymbolicLink()) {
    throw new Fault("CHECKOUT_FAILED", `Cannot write into ${path} as it must be a folder: current value is a file`);
  }
  const real = leadsToFolder(path) ? realpathSync(path) : undefined;
  if (real !== undefined && (real === top || real.startsWith(`${top}/`))) return real;
  throw new Fault(
    "PATH_INVALID",
    `Cannot write through ${path} as it must lead to a folder in ${top}: it does not`,
  );
}

function leadsToFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  } catch {
    return false; // in a ring, or where nobody may look
  }
}

/** @throws {Fault} `CHECKOUT_FAILED` where a folder is. */
export function refuseFolder(path: string): void {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  throw new Fault("CHECKOUT_FAILED", `Cannot write ${path} as no folder must be there: there is one`);
}
