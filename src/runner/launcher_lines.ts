import type { Readable } from "node:stream";
import type { FaultData } from "../domain/fault.ts";
import type { Launch, LeaderEnd } from "./launch.ts";

/** What a runner and the process that starts its commands say to each other: one line of JSON each. */
export interface ToStarter {
  /** Of the launch, by which the answers name it. */
  readonly number: number;
  readonly launch: Launch;
}

/**
 * First that it started or why not; in the first case, later, how it ended. Of a command that was over soon both are
 * told at once.
 */
export type FromStarter =
  | {
    readonly number: number;
    readonly pid: number;
    readonly startedAtMs: number;
    readonly paths: readonly string[];
    readonly end?: LeaderEnd;
  }
  | { readonly number: number; readonly fault: FaultData }
  | { readonly number: number; readonly end: LeaderEnd };

export function linesOf(stream: Readable, hear: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    lines.forEach(hear);
  });
}
