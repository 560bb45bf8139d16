import { catalogue, type Entry } from "../catalogue.ts";
import { type Command, command, jsonFlag } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { didYouMean, type FlagTable, usage } from "../flags.ts";
import { jsonLine, paint } from "../render.ts";
import type { Sink } from "../world.ts";

const lineCharacters = 100;

export const help = command({
  name: "help",
  usage: ["help [COMMAND]"],
  about: "Shows the commands, or all about one of them.",
  examples: [
    ["help", "lists the commands"],
    ["help run", "all about run"],
    ["run --help", "the same"],
  ],
  flags: jsonFlag,
  words: { min: 0, max: 2 },
  async run({ words, world, isJson }) {
    const name = words.join(" ");
    if (name === "") {
      const text = isJson
        ? catalogue.map(({ name, does, group }) => jsonLine({ name, does, group })).join("")
        : overview(colouredFor(world));
      await world.stdout.write(text);
      return exitCodes.done;
    }
    const entries = catalogue.filter((entry) => entry.name === name || entry.name.startsWith(`${name} `));
    if (entries.length === 0) {
      const hint = didYouMean(name, catalogue.map((entry) => entry.name));
      throw usage(`Cannot explain "${name}": there is no such command${hint || `; "scoot-actors help" lists them`}`);
    }
    for (const [index, entry] of entries.entries()) {
      const it = await entry.load();
      if (isJson) await world.stdout.write(jsonLine(asData(it)));
      else await world.stdout.write((index === 0 ? "" : "\n") + helpOf(it, colouredFor(world)));
    }
    return exitCodes.done;
  },
});

const colouredFor = (
  world: { readonly stdout: Sink; readonly env: Readonly<Record<string, string | undefined>> },
): Sink => (world.env["NO_COLOR"] ?? "") === "" ? world.stdout : { ...world.stdout, isTerminal: false };

/** All about one command: what to type first, then why, then every flag. */
export function helpOf(it: Command, stdout: Sink): string {
  const look = { colours: stdout.isTerminal };
  const head = (text: string): string => `\n${paint(look, "bold", text)}\n`;
  const lines = it.examples.map(([line, does]) => `  ${paint(look, "dim", `# ${does}`)}\n  scoot-actors ${line}\n`);
  const flags = flagRows(it.flags);
  const width = Math.max(0, ...flags.map(([shown]) => shown.length));
  return [
    wrap(it.about, ""),
    head("Examples"),
    lines.join("\n"),
    head("Usage"),
    ...it.usage.map((line) => `  scoot-actors ${line}\n`),
    ...(flags.length === 0 ? [] : [head("Flags")]),
    ...flags.map(([shown, says]) => `  ${shown.padEnd(width)}  ${wrap(says, " ".repeat(width + 4)).trimStart()}`),
  ].join("");
}

function flagRows(table: FlagTable): readonly (readonly [string, string])[] {
  return Object.entries(table).map(([name, flag]) => {
    const short = flag.short === undefined ? "" : `-${flag.short}, `;
    const value = flag.value === undefined ? "" : ` ${flag.value}`;
    return [`${short}--${name}${value}${flag.kind === "list" ? " …" : ""}`, flag.says] as const;
  });
}

const asData = ({ name, usage, about, examples, flags }: Command): unknown => ({
  name,
  usage,
  about,
  examples: examples.map(([line, does]) => ({ line, does })),
  flags: Object.entries(flags).map(([flag, { kind, value, says, short }]) => ({ flag, kind, value, short, says })),
});

function overview(stdout: Sink): string {
  const look = { colours: stdout.isTerminal };
  const head = (text: string): string => `\n${paint(look, "bold", text)}\n`;
  const width = Math.max(...catalogue.map(({ name }) => name.length));
  const groups = [...new Set(catalogue.map(({ group }) => group))];
  const row = ({ name, does }: Entry): string => `  ${name.padEnd(width)}  ${does}\n`;
  return [
    "scoot-actors runs commands on snapshots of folders, on the machines that you give it.\n",
    head("Start here"),
    "  scoot-actors cluster                 # in one terminal: a durable cluster on this machine\n",
    "  scoot-actors run -- make test        # in another: your command, on a snapshot of this folder\n",
    ...groups.flatMap((group) => [head(group), ...catalogue.filter((entry) => entry.group === group).map(row)]),
    head("Exit codes"),
    "  0    done; of run: the command exited 0\n",
    "  1    the job did not succeed, or what was asked cannot be done\n",
    "  2    what was typed cannot be used, or the port or data folder is taken\n",
    "  3    no cluster was found, or it does not answer or let us in\n",
    "  run exits with the code of its command, or 124 when that took too long, 125 when we failed at our part,\n",
    "  130 after Ctrl-C, 137 when somebody else killed it, 128 + n when signal n ended it.\n",
    `\nAll about one command: scoot-actors help COMMAND. Every command that answers takes --json.\n`,
  ].join("");
}

/** Lines of at most {@link lineCharacters}, each after `indent`; ends with a line end. */
function wrap(text: string, indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > lineCharacters) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((each) => `${indent}${each}\n`).join("");
}
