import type { JobSpecInput } from "../../protocol/client_messages.ts";
import { type Call, clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text, toggle, usage } from "../flags.ts";
import { readJson, shown } from "../read_json.ts";
import { jsonLine } from "../render.ts";
import { commitsOf, environmentOf, folderOf, inputOf, jobOf, outputsOf, taskFlags } from "../task_flags.ts";

const keyBytes = 16;

const flags = {
  ...taskFlags,
  key: text("TEXT", "The same key twice is one job, so that a submit can be repeated; random by default"),
  "fail-fast": toggle("End the job at the first task that fails"),
  ...clusterFlags,
} as const;

export const jobSubmit = command({
  name: "job submit",
  usage: ["job submit FILE|- [FLAGS]", "job submit [--dir PATH | --snapshot ID] [FLAGS] -- COMMAND …"],
  about:
    "Hands in a job, prints its id and goes on without waiting for it. The job is a JSON file (or comes on stdin): an object with a list of tasks, each with a name, an argv, and what else docs/protocol.md says (an input may also be a revision of the repository around this folder); or it is one command that follows --. Without --dir the command starts in an empty folder.",
  examples: [
    ["job submit --dir . -- make test", "one command on this folder"],
    [
      "job submit nightly.json",
      `such as {"tasks": [{"name": "build", "argv": ["make"]}, {"name": "test", "argv": ["make", "test"], "input": {"kind": "task", "task": "build"}}]}`,
    ],
    ["job watch $(scoot-actors job submit nightly.json)", "hands it in and looks on"],
  ],
  flags,
  words: { min: 0, max: 1, rest: true },
  async run(call) {
    const { world, isJson, words: [file], rest } = call;
    if ((file === undefined) === (rest === undefined)) {
      throw usage("Cannot submit as there must be a FILE (or - for stdin), or a command after --, and not both");
    }
    if (rest?.length === 0) throw usage("Cannot submit nothing: a command must follow --");
    const job = file === undefined ? await jobOfCommand(call, rest ?? []) : await jobOfFile(call, file);
    const accepted = await (await call.connect()).submit(job);
    await world.stdout.write(isJson ? jsonLine({ type: "submitted", ...accepted }) : `${accepted.jobId}\n`);
    return exitCodes.done;
  },
});

async function jobOfCommand(call: Call<typeof flags>, argv: readonly string[]): Promise<JobSpecInput> {
  const { flags, world } = call;
  const dir = folderOf(flags, world.userDir);
  const outputs = outputsOf(flags, dir);
  const env = environmentOf(flags, world.env);
  const isEmpty = flags.dir === undefined && flags.snapshot === undefined;
  const snapshot = isEmpty ? undefined : await inputOf(call, await call.connect(), flags, dir);
  const job = jobOf(flags, argv, snapshot, outputs, env, flags.key ?? world.randomHex(keyBytes), dir);
  return flags["fail-fast"] ? { ...job, failFast: true } : job;
}

async function jobOfFile(call: Call<typeof flags>, file: string): Promise<JobSpecInput> {
  const { flags, world } = call;
  for (const [name, value] of Object.entries(flags)) {
    if (
      !(name in taskFlags) || value === undefined || value === false || (Array.isArray(value) && value.length === 0)
    ) continue;
    if (name !== "requestor" && name !== "tag" && name !== "priority") {
      throw usage(`Cannot use --${name} with a FILE as it must be said there, for each task`);
    }
  }
  const given = await readJson(world, file, "a job");
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw usage(`Cannot read a job from ${shown(file)} as it must be a JSON object with "tasks"`);
  }
  const { parseJobSpec } = await import("../../protocol/client_messages.ts");
  return parseJobSpec({
    ...await withCommits(call, given),
    key: flags.key ?? (given as { key?: unknown }).key ?? world.randomHex(keyBytes),
    ...(flags.requestor === undefined ? {} : { requestor: flags.requestor }),
    ...(flags.tag === undefined ? {} : { tag: flags.tag }),
    ...(flags.priority === undefined ? {} : { priority: flags.priority }),
    ...(flags["fail-fast"] ? { failFast: true } : {}),
  });
}

/** The job with the digests of the commits that it names as inputs: they are of the repository around this folder. */
async function withCommits(call: Call<typeof flags>, job: object): Promise<object> {
  const { tasks } = job as { readonly tasks?: unknown };
  const hasRevision = (part: unknown): part is { readonly revision: string } =>
    typeof part === "object" && part !== null && typeof (part as { revision?: unknown }).revision === "string";
  const partsOf = (task: unknown): readonly unknown[] => {
    const inputs = typeof task === "object" && task !== null ? (task as { inputs?: unknown }).inputs : undefined;
    return Array.isArray(inputs) ? inputs : [];
  };
  if (!Array.isArray(tasks) || !tasks.some((task) => partsOf(task).some(hasRevision))) return job;
  const commits = commitsOf(call.world, await call.connect(), call.world.userDir);
  return {
    ...job,
    tasks: await Promise.all(tasks.map(async (task: unknown) => {
      const parts = partsOf(task);
      if (!parts.some(hasRevision)) return task;
      const inputs = await Promise.all(parts.map(async (part) => {
        if (!hasRevision(part)) return part;
        const { revision, ...rest } = part;
        return { ...rest, snapshot: await commits(revision) };
      }));
      return { ...task as object, inputs };
    })),
  };
}
