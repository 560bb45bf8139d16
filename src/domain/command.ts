import type { Digest } from "./digest.ts";

/** A name and a value. Lists of them may name a thing twice (platform properties), so they are no records. */
export interface Property {
  readonly name: string;
  readonly value: string;
}

/** What is run, as REAPI's `Command` has it. */
export interface CommandData {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Paths whose kind is found out afterwards (`output_paths`), relative to the working directory. A set. */
  readonly outputs: readonly string[];
  /** The form before v2.1, which counts only when `outputs` is empty. Sets. */
  readonly outputFiles?: readonly string[];
  readonly outputDirectories?: readonly string[];
  /** How folders are to be told: as a `Tree`, by default, as their `Directory`, or as both (REAPI's OutputDirectoryFormat). */
  readonly directoryFormat?: "directory" | "both";
  /** Where clients before v2.2 put what the action's platform says since. */
  readonly platform: readonly Property[];
  /** Relative to the input root; "" is the root itself. */
  readonly workingDirectory: string;
}

/** A command with its inputs, as REAPI's `Action` has it: what the action cache knows a result by. */
export interface ActionData {
  readonly command: Digest;
  readonly inputRoot: Digest;
  /** Time the command may run, whole ms; absent: as long as the server lets it. */
  readonly timeoutMs?: number;
  readonly doNotCache: boolean;
  /** Sets results of otherwise equal actions apart; absent and empty are the same. */
  readonly salt?: Uint8Array;
  readonly platform: readonly Property[];
}
