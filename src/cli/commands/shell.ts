import { rmSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../domain/fault.ts";
import { type Call, clusterFlags, command } from "../command.ts";
import { toggle, usage } from "../flags.ts";
import { progressBar } from "../progress.ts";
import { plain } from "../render.ts";
import { quoted } from "../task_diff.ts";
import { readTask, type WholeTask } from "../tasks.ts";

/** Of the user's own variables, those that a shell needs of its terminal. */
const terminalNames = ["TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE"] as const;
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const flags = {
  after: toggle("With what it made laid over its files"),
  keep: toggle("Leave the folder when the shell has ended"),
  ...clusterFlags,
} as const;

export const shell = command({
  name: "shell",
  usage: ["shell J[/N] [--after] [--keep] [-- COMMAND …]"],
  about:
    "Writes the very files that a task ran on into a new folder of this machine, and opens your shell there with the task's environment: nothing of yours but what the terminal needs, and PATH and HOME where the task has none. The folder goes when the shell ends. Exits as the shell does.",
  examples: [
    ["shell j01k3x9q7fa-0004m2", "as it was before its first task ran"],
    ["shell j01k3x9q7fa-0004m2/3 --after", "as its fourth task left it"],
    ["shell j01k3x9q7fa-0004m2 -- make test", "one command instead of a shell"],
  ],
  flags,
  words: { min: 1, max: 1, rest: true },
  async run(call) {
    const { flags, words: [ref = ""], rest, world, connect } = call;
    if (rest?.length === 0) throw usage("Cannot run nothing: a command must follow --");
    const task = await readTask(await connect(), ref);
    const dir = world.temporaryFolder();
    try {
      await fill(call, task, join(dir, "tree"));
      const { command } = task;
      const env = environment(call, command.env, dir);
      const argv = rest ?? [world.env["SHELL"] || "/bin/sh"];
      if (!call.isJson) await world.stderr.write(greeting(call, task, dir, env));
      const off = world.onSignal(() => {}); // Ctrl-C is the shell's
      try {
        return await world.runHere({ argv, env, dir: join(dir, "tree", command.workingDirectory) });
      } catch (thrown) {
        throw new Fault("COMMAND_NOT_STARTED", `Cannot run ${plain(argv[0] ?? "")}: ${(thrown as Error).message}`, {
          cause: thrown,
        });
      } finally {
        off();
      }
    } finally {
      if (!flags.keep) rmSync(dir, { recursive: true, force: true });
    }
  },
});

type ShellCall = Call<typeof flags>;

async function fill({ flags, world, connect }: ShellCall, { task }: WholeTask, dir: string): Promise<void> {
  const { taskId, inputRoot, outcome } = task;
  if (inputRoot === undefined) {
    throw new Fault(
      "OUTPUT_MISSING",
      `Cannot open a shell in task ${taskId} as its input must be there: it is made by a task that has not ended`,
    );
  }
  const client = await connect();
  const trees = await world.trees();
  let snapshot = inputRoot;
  if (flags.after) {
    if (outcome === undefined) {
      throw new Fault(
        "OUTPUT_MISSING",
        `Cannot show what task ${taskId} made as it must have ended: it is ${task.state}`,
      );
    }
    const output = outcome.kind === "skipped" ? undefined : outcome.output;
    if (output !== undefined) snapshot = await trees.overlay(client.blobs, inputRoot, output);
    else {await world.stderr.write(
        `scoot-actors: nothing that it made was kept: it declared no outputs, or made none\n`,
      );}
  }
  const progress = progressBar(world, "Checking out");
  try {
    await trees.checkout({ snapshot, dir, blobs: client.blobs, onProgress: (now) => progress.update(now) });
  } finally {
    await progress.clear();
  }
}

function environment(
  { world }: ShellCall,
  declared: Readonly<Record<string, string>>,
  home: string,
): Record<string, string> {
  const terminal = terminalNames.flatMap((name) => {
    const value = world.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { PATH: defaultPath, HOME: home, ...Object.fromEntries(terminal), ...declared };
}

function greeting(
  { flags, rest }: ShellCall,
  { task, command }: WholeTask,
  dir: string,
  env: Readonly<Record<string, string>>,
): string {
  const added = Object.keys(env).filter((name) => !Object.hasOwn(command.env, name));
  const lines = [
    `${flags.after ? "after" : "before"} ${task.taskId}, in ${join(dir, "tree")}${
      flags.keep ? "" : ", which goes when this ends"
    }`,
    ...(added.length === 0 ? [] : [`added to its environment: ${added.join(" ")}`]),
    ...(rest === undefined ? [`its command: ${plain(command.argv.map(quoted).join(" "))}`] : []),
  ];
  return lines.map((line) => `scoot-actors: ${line}\n`).join("");
}
