import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "../../api/client.ts";
import type { Digest } from "../../domain/digest.ts";
import { bringBack } from "../bring_back.ts";
import { type Call, clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text, textOf, toggle, usage, whole } from "../flags.ts";
import { type Interrupts, watchInterrupts } from "../interrupts.ts";
import { jsonLine, lookOf, plain, table } from "../render.ts";
import { captureFolder } from "../task_flags.ts";
import { createBoard } from "../task_files/board.ts";
import { loadTaskFile, type TaskFile } from "../task_files/load.ts";
import { type PlannedTask, planOf } from "../task_files/plan.ts";
import { runPlan } from "../task_files/run_plan.ts";
import { selectionOf } from "../task_files/select_tree.ts";
import { quoted } from "../task_diff.ts";

const namesMax = 1_000;

const flags = {
  list: toggle("Show the tasks instead"),
  watch: toggle("Stay, and do it again whenever a file changes"),
  download: toggle("Bring what the named tasks make back into the folder"),
  "no-cache": toggle("Run all of it even if the same succeeded before, and do not keep what comes of it for others"),
  refresh: toggle("Run all of it even if the same succeeded before; what comes of it replaces what is known"),
  requestor: text("NAME", "Who asks, for fair shares"),
  priority: textOf("0|1|2", "2 goes before 1, 1 before 0; 0 by default", whole(0, 2)),
  ...clusterFlags,
} as const;
type DoCall = Call<typeof flags>;

export const doTasks = command({
  name: "do",
  usage: ["do NAME … [FLAGS]", "do --list"],
  about:
    "Runs tasks that scoot.ts, scoot.js or scoot.json of this folder or one above says, with all that they need: as much as can be at once, and nothing that succeeded before on the same files. Exits 0 if all succeeded, 1 if not. docs/tasks.md tells how such a file is written.",
  examples: [
    ["do test", "the task called test, and what it needs"],
    ["do lint test --watch", "two of them, again whenever a file changes"],
    ["do build --download", "brings what build makes back into the folder"],
    ["do --list", "what there is"],
  ],
  flags,
  words: { min: 0, max: namesMax },
  async run(call) {
    const { flags, words, world } = call;
    if (flags["no-cache"] && flags.refresh) {
      throw usage("Cannot use --no-cache together with --refresh as what comes of it is either kept or not");
    }
    const file = await loadTaskFile(world.userDir);
    if (flags.list) return await list(call, file);
    if (words.length === 0) {
      throw usage(`Cannot do nothing: the name of a task must follow; there are ${[...file.tasks.keys()].join(", ")}`);
    }
    const interrupts = watchInterrupts(world);
    try {
      const plan = planOf(file.tasks, words);
      return await Promise.race([
        flags.watch ? again(call, interrupts, file) : once(call, interrupts, file, plan).then(({ code }) => code),
        interrupts.leave,
      ]);
    } finally {
      interrupts.close();
    }
  },
});

interface Done {
  readonly code: number;
  readonly snapshot: Digest;
}

/** @param but the snapshot of which nothing is to be done: it was done. */
async function once(
  call: DoCall,
  interrupts: Interrupts,
  file: TaskFile,
  plan: readonly PlannedTask[],
  but?: Digest,
): Promise<Done> {
  const { flags, words, world, isJson } = call;
  const client = await call.connect();
  const startedAtMs = world.clock.now(); // before anything of the folder is read
  const snapshot = await captureInputs(call, client, file, plan, interrupts.first);
  if (snapshot === but) return { code: exitCodes.done, snapshot };
  const board = createBoard(world, isJson);
  const ends = await runPlan({
    world,
    client,
    plan,
    dir: file.dir,
    snapshot,
    selection: selectionOf(client.blobs, snapshot),
    cache: flags["no-cache"] ? "off" : flags.refresh ? "refresh" : "use",
    requestor: flags.requestor,
    priority: flags.priority,
    onState: (name, state) => board.state(name, state),
    signal: interrupts.first,
  });
  await board.end(ends, Math.max(0, world.clock.now() - startedAtMs));
  let isGood = [...ends.values()].every(({ kind }) => kind === "succeeded");
  for (const name of flags.download ? words : []) {
    const end = ends.get(name);
    if (end?.kind !== "succeeded" || end.output === undefined) continue;
    const isBack = await bringBack(call, client, {
      snapshot: end.output,
      dir: file.dir,
      since: { atMs: startedAtMs, inputs: snapshot },
      what: `what ${plain(name)} made`,
      told: { name },
    });
    isGood &&= isBack;
  }
  return {
    code: interrupts.first.aborted ? interrupts.exitCode() : isGood ? exitCodes.done : exitCodes.failed,
    snapshot,
  };
}

/** The folder as it is now; inputs that are named in full are in it whatever ignore rules say. */
async function captureInputs(
  call: DoCall,
  client: Client,
  { dir }: TaskFile,
  plan: readonly PlannedTask[],
  signal: AbortSignal,
): Promise<Digest> {
  const named = plan.flatMap(({ inputs = [] }) => inputs).filter((input) => !/[*?[]/.test(input));
  const include = [...new Set(named)].filter((input) => existsSync(join(dir, input)));
  return await captureFolder(call, client, { dir, include, signal });
}

async function again(call: DoCall, interrupts: Interrupts, first: TaskFile): Promise<number> {
  const { world, words, isJson } = call;
  let changed = (): void => {};
  let isChanged = true;
  const stop = world.watchFolder(first.dir, () => {
    isChanged = true;
    changed();
  });
  let done: Digest | undefined;
  let file = first;
  try {
    for (;;) {
      while (!isChanged && !interrupts.first.aborted) {
        await new Promise<void>((resolve) => {
          changed = resolve;
          interrupts.first.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      if (interrupts.first.aborted) return interrupts.exitCode();
      isChanged = false;
      try {
        file = await loadTaskFile(first.dir);
        const { snapshot } = await once(call, interrupts, file, planOf(file.tasks, words), done);
        if (snapshot !== done && !isJson && !interrupts.first.aborted) {
          await world.stderr.write("scoot-actors: waiting for a file to change\n");
        }
        done = snapshot;
      } catch (thrown) {
        if (interrupts.first.aborted) return interrupts.exitCode();
        await world.stderr.write(`scoot-actors: ${(thrown as Error).message}\n`); // it may be right after the next change
      }
    }
  } finally {
    stop();
  }
}

async function list({ world, isJson }: DoCall, file: TaskFile): Promise<number> {
  const names = [...file.tasks.keys()];
  const plan = new Map(planOf(file.tasks, names).map((task) => [task.name, task]));
  if (isJson) {
    for (const name of names) await world.stdout.write(jsonLine(plan.get(name)));
    return exitCodes.done;
  }
  const rows = names.map((name) => {
    const { mounts, argv, outputs, shards } = plan.get(name)!;
    const line = argv[0] === "sh" && argv[1] === "-c" && argv.length === 3 ? argv[2] ?? "" : argv.map(quoted).join(" ");
    return [
      plain(name) + (shards > 1 ? ` ×${shards}` : ""),
      plain([...new Set(mounts.flatMap((mount) => "task" in mount ? [mount.task] : []))].join(" ")),
      plain(outputs.join(" ")),
      plain(line),
    ];
  });
  await world.stdout.write(table(lookOf(world), ["TASK", "NEEDS", "MAKES", "RUNS"], rows));
  return exitCodes.done;
}
