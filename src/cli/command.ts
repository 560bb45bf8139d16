import type { Client } from "../api/client.ts";
import { type FlagTable, type FlagValues, text, toggle } from "./flags.ts";
import type { World } from "./world.ts";

/** One verb: what help says of it, what may follow it, what it does. */
export interface Command<Table extends FlagTable = FlagTable> {
  /** "job submit" */
  readonly name: string;
  /** After the program's name: "job submit FILE|-". */
  readonly usage: readonly string[];
  /** What it is for, in a sentence or a few. */
  readonly about: string;
  /** Lines as one types them, after the program's name, each with what it does. Help shows them first. */
  readonly examples: readonly (readonly [line: string, does: string])[];
  readonly flags: Table;
  /** How many words may come before `--`, and whether `--` and what follows it may. */
  readonly words: { readonly min: number; readonly max: number; readonly rest?: boolean };
  /** @returns the exit code. @throws {Fault} told in one sentence; `faultExitCode` or the usual code follows. */
  run(call: Call<Table>): Promise<number>;
  /** What a fault of no special kind exits with; 1 if not given. */
  readonly faultExitCode?: number;
}

/** What a command is given. */
export interface Call<Table extends FlagTable = FlagTable> {
  readonly flags: FlagValues<Table>;
  readonly words: readonly string[];
  readonly rest: readonly string[] | undefined;
  readonly world: World;
  /** Whether a program reads along: one JSON object a line on stdout. */
  readonly isJson: boolean;
  /** The cluster that flags, environment or this machine name. It is closed when the command has ended. */
  connect(): Promise<Client>;
}

export const jsonFlag = { json: toggle("Write for programs: one JSON object a line") } as const;

/** What every command has that talks with a cluster. */
export const clusterFlags = {
  cluster: text(
    "URL",
    "The cluster to use, such as http://127.0.0.1:9090 (SCOOT_CLUSTER); otherwise the one you started last on this machine",
  ),
  "token-file": text(
    "FILE",
    "Where its token lies (SCOOT_TOKEN_FILE, or the token itself in SCOOT_TOKEN); not needed for your own on this machine",
  ),
  ...jsonFlag,
} as const;

/** Keeps the types of the flags, which a plain annotation would lose. */
export const command = <const Table extends FlagTable>(definition: Command<Table>): Command<Table> => definition;
