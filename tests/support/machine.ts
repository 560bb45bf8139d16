import { spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";

/**
 * What a machine may lack, by name, so that a test which needs it can be skipped there:
 *
 * @example test.skipIf(!has("bwrap"))("a task sees its inputs alone", …)
 */
export type Facility = keyof typeof probes;

/** Where a program is found in PATH. */
export function programPath(name: string): string | undefined {
  for (const dir of (process.env["PATH"] ?? "").split(delimiter)) {
    if (dir === "") continue;
    const path = join(dir, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not in this folder
    }
  }
  return undefined;
}

const succeeds = (program: string, ...args: string[]): boolean =>
  spawnSync(program, args, { stdio: "ignore", timeout: 20_000 }).status === 0;

/** Whether this user may mount a file system: tests of a full disk mount a small one. */
function mayMount(): boolean {
  const dir = mkdtempSync(join(tmpdir(), "scoot-actors-mount-"));
  try {
    if (!succeeds("mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", dir)) return false;
    return succeeds("umount", dir);
  } finally {
    rmdirSync(dir);
  }
}

const probes = {
  git: () => programPath("git") !== undefined,
  gcc: () => programPath("gcc") !== undefined,
  make: () => programPath("make") !== undefined,
  setpriv: () => succeeds("setpriv", "--pdeathsig", "KILL", "true"),
  /** Not only there: allowed to make namespaces. */
  bwrap: () => succeeds("bwrap", "--ro-bind", "/", "/", "--die-with-parent", "--unshare-all", "true"),
  mount: mayMount,
  chromium: () => programPath("chromium") !== undefined,
  /** Debian's bazel-bootstrap. */
  bazel: () => programPath("bazel") !== undefined,
  npm: () => programPath("npm") !== undefined,
};

const known = new Map<Facility, boolean>();

/** Whether this machine has it. Found out once in a process. */
export function has(facility: Facility): boolean {
  const before = known.get(facility);
  if (before !== undefined) return before;
  const found = probes[facility]();
  known.set(facility, found);
  return found;
}

/** Of "nobody", on every Linux. */
const nobody = 65_534;

/** Does it as somebody who may not do everything, also when the tests run as root. */
export async function asOrdinaryUser<Result>(work: () => Promise<Result>): Promise<Result> {
  if (process.geteuid?.() !== 0) return await work();
  process.seteuid!(nobody);
  try {
    return await work();
  } finally {
    process.seteuid!(0);
  }
}
