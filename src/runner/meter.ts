import type { Clock } from "../runtime/clock.ts";
import { allProcesses, type ProcessInfo, proportionalBytes, residentBytes } from "./proc.ts";
import type { Usage } from "./runner.ts";

/** The shortest time between two readings of the same command, and before the first one. */
const periodMs = 200;
/** A reading may take this part of the time until the next: on a machine with very many processes they come more seldom. */
const costPart = 50;

/** A command whose use is measured. */
export interface Metered {
  /** Of its leader, which made the session of the same number. */
  readonly pid: number;
  readonly startedAtMs: number;
  readonly memoryBytesMax?: number;
  /** It holds more than it may, as of this reading. */
  onMemoryExceeded(memoryBytes: number): void;
}

/**
 * Reads what running commands use, all of them in one look over /proc.
 *
 * - A command's processes are those of its session and whoever descends from one of them.
 * - Memory is the sum of what each holds, the greatest of all readings, and at least the peak of any one process as the
 *   system knows it. Pages that processes share count once for each; before a command is said to hold more than it may,
 *   that is corrected, where the system tells.
 * - Processor time is that of all which live or were waited for by one that lives.
 *
 * It is sampling: what begins and ends between two readings, and what happens after the last one, is missed. A command
 * that is over before the first one, 200 ms after its start, has no use at all and cost nothing.
 */
export interface Meter {
  /** Takes a reading of those that are due. To be called often; what is not due costs nothing. */
  read(commands: Iterable<Metered>): void;
  /** Undefined when no reading was taken. */
  usageOf(command: Metered): Usage | undefined;
}

export function createMeter(clock: Clock): Meter {
  const usages = new WeakMap<Metered, Usage>();
  let nextAtMs = 0;
  return {
    read(commands) {
      const nowMs = clock.now();
      if (nowMs < nextAtMs) return;
      const due = new Map<number, Metered>();
      for (const command of commands) if (nowMs - command.startedAtMs >= periodMs) due.set(command.pid, command);
      if (due.size === 0) return;
      for (const [command, members] of membersOf(due)) {
        const { usage, heldBytes } = measure(members, usages.get(command));
        usages.set(command, usage);
        const { memoryBytesMax } = command;
        if (memoryBytesMax === undefined || heldBytes <= memoryBytesMax) continue;
        const trueBytes = withoutSharing(members) ?? heldBytes;
        if (trueBytes > memoryBytesMax) command.onMemoryExceeded(trueBytes);
      }
      nextAtMs = Math.max(nowMs + periodMs, clock.now() + costPart * (clock.now() - nowMs));
    },
    usageOf: (command) => usages.get(command),
  };
}

function membersOf(commands: ReadonlyMap<number, Metered>): Map<Metered, ProcessInfo[]> {
  const processes = new Map(allProcesses().map((info) => [info.pid, info]));
  const members = new Map<Metered, ProcessInfo[]>();
  for (const info of processes.values()) {
    let at: ProcessInfo | undefined = info;
    // Numbers may be given out anew while one looks, so the way up need not end by itself.
    for (let steps = 0; at !== undefined && !commands.has(at.session) && steps < 100; steps++) {
      at = processes.get(at.parent);
    }
    const command = at === undefined ? undefined : commands.get(at.session);
    if (command === undefined) continue;
    const found = members.get(command);
    if (found === undefined) members.set(command, [info]);
    else found.push(info);
  }
  return members;
}

function measure(
  members: readonly ProcessInfo[],
  before: Usage | undefined,
): { readonly usage: Usage; readonly heldBytes: number } {
  let heldBytes = 0;
  let peakMemoryBytes = before?.peakMemoryBytes ?? 0;
  let cpuMs = 0;
  for (const { pid, cpuMs: ownMs } of members) {
    cpuMs += ownMs;
    const resident = residentBytes(pid);
    if (resident === undefined) continue;
    heldBytes += resident.now;
    peakMemoryBytes = Math.max(peakMemoryBytes, resident.peak);
  }
  return {
    usage: { peakMemoryBytes: Math.max(peakMemoryBytes, heldBytes), cpuMs: Math.max(before?.cpuMs ?? 0, cpuMs) },
    heldBytes,
  };
}

function withoutSharing(members: readonly ProcessInfo[]): number | undefined {
  if (members.length === 1) return undefined;
  let sum = 0;
  for (const { pid } of members) {
    const bytes = proportionalBytes(pid);
    if (bytes === undefined) return undefined;
    sum += bytes;
  }
  return sum;
}
