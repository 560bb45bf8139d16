import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import process from "node:process";

/** A process as Linux shows it in /proc/PID/stat. */
export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  /** Clock ticks since the machine booted: with the pid it names a process for as long as the machine is up. */
  readonly startTicks: string;
  /** User and system time, that of children that it waited for included. */
  readonly cpuMs: number;
  /** Has ended and only waits for its parent to ask how. */
  readonly isDead: boolean;
}

/** The process with this pid, or undefined when there is none (or this system has no /proc). */
export function processInfo(pid: number): ProcessInfo | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The name stands in parentheses and may hold spaces, parentheses and line ends: what follows the last one is safe.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    pid,
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    startTicks: fields[19] ?? "",
    // In hundredths of a second on every Linux, whatever its kernel counts in.
    cpuMs: 10 * (Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14])),
    isDead: fields[0] === "Z" || fields[0] === "X",
  };
}

/**
 * The living processes that may have been started after `pid` was, `pid` itself left out.
 *
 * @param isRecent whether `pid` was started so lately that the system cannot have given out all numbers since. Then only
 * the numbers behind it are looked at, and when little was started since, little is read.
 */
export function processesSince(pid: number, isRecent: boolean): ProcessInfo[] {
  const last = isRecent ? lastPid() : undefined;
  if (last === pid) return [];
  const found: ProcessInfo[] = [];
  const add = (candidate: number): void => {
    const info = processInfo(candidate);
    if (info !== undefined && !info.isDead) found.push(info);
  };
  if (last !== undefined && last > pid && last - pid <= 32) {
    for (let candidate = pid + 1; candidate <= last; candidate++) add(candidate);
    return found;
  }
  const isOrdered = last !== undefined && last > pid; // else the counter has passed its end meanwhile
  for (const name of pidNames()) {
    const candidate = Number(name);
    if (candidate !== pid && (!isOrdered || candidate > pid)) add(candidate);
  }
  return found;
}

/** All processes of this machine that have not ended; none where there is no /proc. */
export function allProcesses(): ProcessInfo[] {
  const found: ProcessInfo[] = [];
  for (const name of pidNames()) {
    const info = processInfo(Number(name));
    if (info !== undefined && !info.isDead) found.push(info);
  }
  return found;
}

/** What a process holds in memory, now and at its peak: pages that it shares with others count whole. */
export function residentBytes(pid: number): { readonly now: number; readonly peak: number } | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const bytesOf = (field: RegExp): number => 1_024 * Number(field.exec(status)?.[1] ?? 0);
    return { now: bytesOf(/^VmRSS:\s*(\d+) kB$/m), peak: bytesOf(/^VmHWM:\s*(\d+) kB$/m) };
  } catch {
    return undefined; // Gone meanwhile.
  }
}

/** As {@link residentBytes} now, but of a page that several processes share each has its part. Dearer: it walks all pages. */
export function proportionalBytes(pid: number): number | undefined {
  try {
    const kilobytes = /^Pss:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1];
    return kilobytes === undefined ? undefined : 1_024 * Number(kilobytes);
  } catch {
    return undefined; // Gone meanwhile, another user's, or a system without.
  }
}

/** Whether descriptor 1 or 2 of the process is one of these files, opened for writing. */
export function writesTo(pid: number, paths: readonly string[]): boolean {
  for (const fd of [1, 2]) {
    try {
      if (!paths.includes(readlinkSync(`/proc/${pid}/fd/${fd}`))) continue;
      // The last octal digit of the flags is 1 for O_WRONLY, 2 for O_RDWR: who only reads a task's output is not of the task.
      if (/^flags:\s*[0-7]*[12]$/m.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1"))) return true;
    } catch {
      // Gone meanwhile, closed, or another user's: not ours.
    }
  }
  return false;
}

/** New at each boot of the machine: a pid and start time of another boot name nothing. Empty where there is no /proc. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return "";
  }
}

/** The pid given out last: the fifth field of /proc/loadavg. */
function lastPid(): number | undefined {
  try {
    return Number(readFileSync("/proc/loadavg", "latin1").trim().split(" ")[4]);
  } catch {
    return undefined;
  }
}

function pidNames(): string[] {
  try {
    return readdirSync("/proc").filter((name) => name >= "1" && name < ":");
  } catch {
    return [];
  }
}

/** O_CLOEXEC, as Linux has it on all machines that Node and Deno run on. */
const closeOnExec = 0o2000000;

/**
 * The descriptors from 3 to 9 that children get unasked, in order. Deno's children inherit what Deno itself inherited,
 * its IPC channel among it; Node hides its own.
 */
export function inheritedDescriptors(): readonly number[] {
  if (!("deno" in process.versions)) return [];
  return [3, 4, 5, 6, 7, 8, 9].filter((fd) => {
    try {
      const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1] ?? "";
      return (Number.parseInt(flags, 8) & closeOnExec) === 0;
    } catch {
      return false; // Not open.
    }
  });
}
