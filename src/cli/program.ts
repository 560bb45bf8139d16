import type { Client } from "../api/client.ts";
import { asFault, Fault } from "../domain/fault.ts";
import { sleep } from "../runtime/clock.ts";
import { catalogue, type Entry } from "./catalogue.ts";
import type { Command } from "./command.ts";
import { exitCodeOf, exitCodes } from "./exit_codes.ts";
import { didYouMean, parseLine, usage } from "./flags.ts";
import { OutputClosed, type World } from "./world.ts";

/** A cluster that does not answer for so long is worth a word. */
const silenceMs = 2_000;
/** Nobody waits longer for a connection to be put down. */
const closingMs = 500;

/**
 * The whole program: reads a command line, does what it says, and tells what went wrong in one sentence.
 *
 * @param line the words after the program's name.
 * @returns the exit code. Never throws.
 */
export async function program(line: readonly string[], world: World): Promise<number> {
  let isJson = ownPart(line).includes("--json"); // until the line is understood
  let faultExitCode: number | undefined;
  try {
    const { entry, after } = find(line);
    const command = await entry.load();
    ({ faultExitCode } = command);
    if (asksForHelp(after)) {
      const { helpOf } = await import("./commands/help.ts");
      await world.stdout.write(helpOf(command, world.stdout));
      return exitCodes.done;
    }
    const { flags, words, rest } = parseLine(command.name, command.flags, after);
    isJson = (flags as { json?: boolean }).json ?? false;
    checkWords(command, words, rest);
    return await runConnected(command, { flags, words, rest, world, isJson });
  } catch (thrown) {
    if (thrown instanceof OutputClosed) return exitCodes.outputClosed;
    await world.stderr.write(isJson ? faultLine(thrown) : faultText(thrown)).catch(() => {}); // nobody left to tell
    return exitCodeOf(thrown, faultExitCode);
  }
}

type Parsed = Omit<Parameters<Command["run"]>[0], "connect">;

/** Closes the client when the command has ended, however it ended. */
async function runConnected(command: Command, parsed: Parsed): Promise<number> {
  const { world } = parsed;
  let client: Promise<Client> | undefined;
  try {
    return await command.run({ ...parsed, connect: () => client ??= connect(parsed) });
  } finally {
    const closed = client?.then((connected) => connected.close()).catch(() => {}); // what counts was said or thrown before
    await Promise.race([closed, sleep(world.clock, closingMs)]);
  }
}

async function connect({ flags, world, isJson }: Parsed): Promise<Client> {
  const { findCluster } = await import("./find_cluster.ts");
  const named = flags as { cluster?: string; "token-file"?: string };
  const target = findCluster({ cluster: named.cluster, tokenFile: named["token-file"] }, world);
  const client = await world.connect(target);
  const calm = world.clock.at(world.clock.now() + silenceMs, () => {
    if (!world.stderr.isTerminal || isJson) return;
    void world.stderr.write(`scoot-actors: waiting for the cluster at ${target.url}, which does not answer\n`).catch(
      () => {},
    );
  });
  // Asked at once, so that the way is open when the command needs it; whoever asks next hears what is wrong with it.
  void client.cluster().catch(() => {}).finally(calm);
  return client;
}

function find(line: readonly string[]): { readonly entry: Entry; readonly after: readonly string[] } {
  const [first = "help", second] = line;
  if (first === "--help" || first === "-h") return entryNamed("help", line.slice(1));
  if (first === "--version" || first === "-V") return entryNamed("version", line.slice(1));
  if (first.startsWith("-")) {
    throw usage(`Cannot read ${first} as flags must follow a command: "scoot-actors help" lists the commands`);
  }
  const names = catalogue.map(({ name }) => name);
  if (second !== undefined && names.includes(`${first} ${second}`)) {
    return entryNamed(`${first} ${second}`, line.slice(2));
  }
  if (names.includes(first)) return entryNamed(first, line.slice(1));
  const verbs = names.filter((name) => name.startsWith(`${first} `)).map((name) => name.slice(first.length + 1));
  if (verbs.length === 0) {
    const words = [...new Set(names.map((name) => name.split(" ")[0] ?? name))];
    const hint = didYouMean(first, words);
    throw usage(`Cannot do "${first}": there is no such command${hint || `; "scoot-actors help" lists them`}`);
  }
  if (second === "--help" || second === "-h") return entryNamed("help", [first]);
  if (second === undefined || second.startsWith("-")) {
    throw usage(`Cannot do "${first}" alone: it must be followed by one of ${verbs.join(", ")}`);
  }
  const hint = didYouMean(second, verbs, (verb) => `${first} ${verb}`);
  throw usage(
    `Cannot do "${first} ${second}": there is no such command${hint || `; ${first} has ${verbs.join(", ")}`}`,
  );
}

function entryNamed(
  name: string,
  after: readonly string[],
): { readonly entry: Entry; readonly after: readonly string[] } {
  const entry = catalogue.find((each) => each.name === name);
  if (entry === undefined) throw new Fault("INTERNAL", `Cannot find the command "${name}" in the catalogue`);
  return { entry, after };
}

function asksForHelp(after: readonly string[]): boolean {
  const own = ownPart(after);
  return own.includes("--help") || own.includes("-h");
}

/** Without the command that follows `--`, which has flags of its own. */
const ownPart = (line: readonly string[]): readonly string[] =>
  line.slice(0, line.includes("--") ? line.indexOf("--") : undefined);

function checkWords(command: Command, words: readonly string[], rest: readonly string[] | undefined): void {
  const { min, max, rest: takesRest = false } = command.words;
  const example = `scoot-actors ${command.usage[0] ?? command.name}`;
  const extra = words[max];
  if (extra !== undefined) {
    throw usage(
      takesRest && rest === undefined
        ? `Cannot read "${extra}" as the command to run must follow --: scoot-actors ${command.name} -- ${
          words.slice(max).join(" ")
        }`
        : `Cannot read "${extra}" as nothing more is expected there: ${example}`,
    );
  }
  if (words.length < min) throw usage(`Cannot do "${command.name}" as more must follow: ${example}`);
  if (rest !== undefined && !takesRest) {
    throw usage(`Cannot read what follows -- as ${command.name} takes no command: ${example}`);
  }
}

const faultLine = (thrown: unknown): string => {
  const { code, message } = asFault(thrown);
  return `${JSON.stringify({ type: "fault", code, message: systemText(thrown) ?? message })}\n`;
};

/** What the system refuses as a sentence; it says "ENOENT: no such file or directory, open '/a'". */
function systemText(thrown: unknown): string | undefined {
  const errno = (thrown as { code?: unknown } | null)?.code;
  if (thrown instanceof Fault || !(thrown instanceof Error) || typeof errno !== "string") return undefined;
  const [, why, call, on = ""] = /^E[A-Z0-9]+: (.+), ([a-z]+)( '.*)?$/s.exec(thrown.message) ?? [];
  return why === undefined ? thrown.message : `Cannot ${call}${on}: ${why} (${errno})`;
}

/** One sentence for what we expect, and what the system refuses; all there is for a mistake of ours. */
function faultText(thrown: unknown): string {
  if (thrown instanceof Fault) return `scoot-actors: ${thrown.message}\n`;
  const text = systemText(thrown);
  if (text !== undefined) return `scoot-actors: ${text}\n`;
  const all = thrown instanceof Error ? thrown.stack ?? thrown.message : String(thrown);
  return `scoot-actors: This is a mistake in scoot-actors itself; please report it with what follows.\n${all}\n`;
}
