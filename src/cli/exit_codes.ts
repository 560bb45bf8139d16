import { asFault, type FaultCode } from "../domain/fault.ts";

/** What this program's exit codes mean; the same list is in `help`. */
export const exitCodes = {
  done: 0,
  /** A job did not succeed, or a request could not be met. */
  failed: 1,
  /** What was typed, or the port or data folder that a cluster was to take, cannot be used. */
  usage: 2,
  /** No cluster was found, or it does not answer. */
  noCluster: 3,
  /** `run`: the command ran longer than it may (as timeout(1) has it). */
  timedOut: 124,
  /** `run`: we failed at our part; the command's own end is not known or it never ran. */
  fault: 125,
  /** The user pressed Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
  /** `run`: somebody else killed the job: 128 + SIGKILL. */
  killed: 137,
  /** Whoever read our output is gone: 128 + SIGPIPE. */
  outputClosed: 141,
} as const;

const usageCodes: ReadonlySet<FaultCode> = new Set(["USAGE_INVALID", "BIND_REFUSED", "PORT_BUSY", "STORE_LOCKED"]);
const unreachableCodes: ReadonlySet<FaultCode> = new Set([
  "PEER_UNREACHABLE",
  "PEER_SILENT",
  "TOKEN_INVALID",
  "VERSION_MISMATCH",
]);

/** @param otherwise what a fault of no special kind means to the command at hand. */
export function exitCodeOf(thrown: unknown, otherwise: number = exitCodes.failed): number {
  const { code } = asFault(thrown);
  if (usageCodes.has(code)) return exitCodes.usage;
  return unreachableCodes.has(code) ? exitCodes.noCluster : otherwise;
}
