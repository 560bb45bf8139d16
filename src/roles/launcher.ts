import { readFileSync } from "node:fs";
import { basename } from "node:path";
import process from "node:process";
import type { Clock } from "../runtime/clock.ts";

interface Ancestor {
  readonly pid: number;
  readonly startTime: string;
}

const checkEveryMs = 500;
/** Programs that start another one and wait for it: `npx -y deno task cluster` is a chain of them. */
const launchers = /^(npx|npm|node|deno|sh|dash|bash|env)$/;

/** From /proc: name, parent, and the start time that tells a process from a later one of the same id. */
function look(pid: number): (Ancestor & { readonly parent: number; readonly command: readonly string[] }) | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const command = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0").filter((word) => word !== "");
    return { pid, parent: Number(fields[1]), startTime: fields[19] ?? "", command };
  } catch {
    return undefined;
  }
}

/** A shell counts only when it was given its one command: a person's shell is no launcher, and may be closed by hangup. */
function isLauncher(command: readonly string[]): boolean {
  const first = command[0] ?? "";
  // npm renames its process to its whole command line, which may hold paths.
  if (/^np[mx] /.test(first)) return true;
  const program = basename(first).replace(/^-/, "");
  if (!launchers.test(program)) return false;
  return !/^(sh|dash|bash)$/.test(program) || command.includes("-c");
}

function chain(): Ancestor[] {
  const ancestors: Ancestor[] = [];
  for (let pid = process.ppid; pid > 1 && ancestors.length < 10;) {
    const found = look(pid);
    if (found === undefined || (ancestors.length > 0 && !isLauncher(found.command))) break;
    ancestors.push(found);
    if (!isLauncher(found.command)) break;
    pid = found.parent;
  }
  return ancestors;
}

/**
 * Calls back once when a program that started this one is gone: the parent, and above it the launchers in a row. A signal
 * to npx does not reach what it started, so its end has to be noticed. Without /proc nothing is noticed.
 *
 * @returns what ends the watch.
 */
export function onLauncherLost(clock: Clock, callback: () => void): () => void {
  const ancestors = chain();
  let cancel = (): void => {};
  const check = (): void => {
    if (ancestors.some(({ pid, startTime }) => look(pid)?.startTime !== startTime)) return callback();
    cancel = clock.at(clock.now() + checkEveryMs, check);
  };
  if (ancestors.length > 0) check();
  return () => cancel();
}
