import type { Client } from "../../api/client.ts";
import type { ActionData, CommandData } from "../../domain/command.ts";
import { type Digest, isDigest } from "../../domain/digest.ts";
import { Fault, isFault } from "../../domain/fault.ts";
import type { TaskView } from "../../protocol/client_messages.ts";
import { decodeAction, decodeCommand } from "../../protocol/reapi/canonical.ts";
import { readBlob } from "../../snapshots/blobs/blobs.ts";
import { type Call, clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { text, textOf, usage, whole } from "../flags.ts";
import { jsonLine, moment, outcomeText, plain } from "../render.ts";
import { ranActions } from "../ran_actions.ts";
import { diffRunnables, type RunnableDiff, runnableDiffLines } from "../task_diff.ts";

const actionBytesMax = 1024 * 1024;
const commandBytesMax = 64 * 1024 * 1024;
const limitDefault = 1_000;
/** Of one output so many earlier actions are compared, the newest first. */
const comparedMax = 5;
const shownMax = 50;

const flags = {
  limit: textOf(
    "N",
    `Look at so many jobs and so many kept results, the newest first; ${limitDefault} by default`,
    whole(1, 1_000_000),
  ),
  instance: text("NAME", "Only of this instance; of all by default"),
  ...clusterFlags,
} as const;
type WhyMissCall = Call<typeof flags>;

export const whyMiss = command({
  name: "why-miss",
  usage: ["why-miss //PACKAGE:TARGET [FLAGS]", "why-miss HASH/SIZE [FLAGS]"],
  about:
    "Says why the last build of something was not answered from the cache: of each of its actions, the nearest earlier one that is known, and what differs in command, environment and inputs. Newer clients say for which target an action is; of others, those count whose outputs are in the target's package and have its name. HASH/SIZE is an action's digest.",
  examples: [
    ["why-miss //app:server", "what changed since it was built before"],
    ["why-miss 6f1c…/142", "of one action"],
  ],
  flags,
  words: { min: 1, max: 1 },
  async run(call) {
    const { words: [given = ""], world, isJson, connect } = call;
    const client = await connect();
    const wanted = await wantedOf(client, given);
    const groups = new Map<string, Known[]>();
    for await (const known of knownOf(call, client, wanted)) {
      const group = groups.get(known.key);
      if (group === undefined) groups.set(known.key, [known]);
      else group.push(known);
    }
    if (groups.size === 0) {
      throw new Fault(
        "ACTION_UNKNOWN",
        `Cannot find an action of ${given} as it must be among the last that ran or were kept: build it, or look further back with --limit`,
      );
    }
    const answers: Answer[] = [];
    for (const [key, found] of groups) answers.push(await answerOf(call, client, key, upTo(wanted, found)));
    if (isJson) { for (const answer of answers) await world.stdout.write(jsonLine({ type: "miss", ...answer })); }
    else await world.stdout.write(answers.flatMap(linesOf).map((line) => `${line}\n`).join(""));
    return exitCodes.done;
  },
});

/** What is asked about. */
type Wanted =
  | { readonly kind: "target"; readonly label: string; readonly package: string; readonly name: string }
  /** Of one action: those that make the same are compared with it. */
  | { readonly kind: "output"; readonly key: string; readonly action: Digest };

async function wantedOf(client: Client, given: string): Promise<Wanted> {
  if (isDigest(given)) {
    const read = await readAction(client, given);
    if (read !== undefined) return { kind: "output", key: keyOf(read.command), action: given };
    throw new Fault("ACTION_UNKNOWN", `Cannot read action ${given} as it and its command must be in the store`);
  }
  const [, folder, name] = /^@?\/\/([^:\s]*)(?::([^:\s]+))?$/.exec(given) ?? [];
  if (folder === undefined || (folder === "" && name === undefined)) {
    throw usage(`Cannot tell of "${given}" as it must be a target such as //app:server, or an action's digest`);
  }
  const own = name ?? folder.split("/").at(-1)!;
  return { kind: "target", label: `//${folder}:${own}`, package: folder, name: own };
}

/** An action that ran here, or whose result a client sent. */
interface Known {
  /** What it makes: the same for runs of the same action of a build. */
  readonly key: string;
  readonly digest: Digest;
  readonly action: ActionData;
  readonly command: CommandData;
  readonly atMs: number;
  /** Mnemonic and target, as far as its client said. */
  readonly tag: string;
  readonly task?: TaskView;
}

const outputsOf = (command: CommandData): readonly string[] =>
  command.outputs.length > 0 ? command.outputs : [...command.outputFiles ?? [], ...command.outputDirectories ?? []];

/** The first output, whatever the configuration that it is built in. */
const keyOf = (command: CommandData): string =>
  ([...outputsOf(command)].sort()[0] ?? command.argv.join(" ").slice(0, 200)).replace(/^bazel-out\/[^/]+\//, "");

/** @returns undefined for what is no longer in the store, or no action. */
async function readAction(
  client: Client,
  digest: Digest,
): Promise<{ readonly action: ActionData; readonly command: CommandData } | undefined> {
  try {
    const action = decodeAction(await readBlob(client.blobs, digest, actionBytesMax));
    return { action, command: decodeCommand(await readBlob(client.blobs, action.command, commandBytesMax)) };
  } catch (thrown) {
    if (isFault(thrown, "BLOB_MISSING") || isFault(thrown, "REQUEST_INVALID")) return undefined;
    throw thrown;
  }
}

function isWanted(wanted: Wanted, command: CommandData, tag: string): boolean {
  if (wanted.kind === "output") return keyOf(command) === wanted.key;
  const said = tag.split(" ").find((word) => word.includes("//"));
  if (said !== undefined) return said.replace(/^@*(?=\/\/)/, "") === wanted.label;
  const folder = wanted.package === "" ? "" : `${wanted.package}/`;
  return outputsOf(command).some((path) => {
    const below = /^bazel-out\/[^/]+\/(?:bin|genfiles|testlogs)\/(.*)$/.exec(path)?.[1];
    return below !== undefined && below.startsWith(folder) && below.slice(folder.length).includes(wanted.name);
  });
}

/** The newest first, each kind. */
async function* knownOf({ flags }: WhyMissCall, client: Client, wanted: Wanted): AsyncGenerator<Known> {
  const limit = flags.limit ?? limitDefault;
  const isOf = (instance: string): boolean => flags.instance === undefined || flags.instance === instance;
  const ran = new Set<Digest>();
  const mayBe = ({ tag }: { readonly tag: string }): boolean =>
    wanted.kind !== "target" || !tag.includes("//") || tag.includes(wanted.label);
  for await (const { job, task } of ranActions(client, limit, mayBe)) {
    if (!isOf(task.action!.instance)) continue;
    const { digest } = task.action!;
    const read = await readAction(client, digest);
    if (read === undefined || !isWanted(wanted, read.command, job.tag)) continue;
    ran.add(digest);
    yield { ...read, key: keyOf(read.command), digest, atMs: job.createdAtMs, tag: job.tag, task };
  }
  for await (const { action: digest, instance, made } of client.actions.list({ limit })) {
    if (made.taskId !== undefined || ran.has(digest) || !isOf(instance)) continue;
    const read = await readAction(client, digest);
    if (read === undefined || !isWanted(wanted, read.command, "")) continue;
    yield { ...read, key: keyOf(read.command), digest, atMs: made.atMs, tag: "" };
  }
}

interface Answer {
  readonly output: string;
  readonly tag: string;
  readonly action: Digest;
  readonly atMs: number;
  readonly taskId?: string;
  /** Why, where it is not a difference. */
  readonly why?: string;
  readonly nearest?: { readonly action: Digest; readonly atMs: number; readonly taskId?: string };
  readonly diff?: RunnableDiff;
}

/** The newest first, from the one on that is asked about. */
function upTo(wanted: Wanted, found: readonly Known[]): readonly Known[] {
  const sorted = found.toSorted((a, b) => b.atMs - a.atMs);
  const at = wanted.kind === "target" ? 0 : sorted.findIndex(({ digest }) => digest === wanted.action);
  return sorted.slice(Math.max(0, at));
}

async function answerOf(
  { world }: WhyMissCall,
  client: Client,
  output: string,
  found: readonly Known[],
): Promise<Answer> {
  const [last, ...earlier] = found;
  const { digest, atMs, tag, task, action } = last!;
  const base = {
    output,
    tag,
    action: digest,
    atMs,
    ...(task === undefined ? {} : { taskId: task.taskId }),
  };
  if (action.doNotCache) return { ...base, why: "its client asked that it be never cached" };
  if (task?.cached !== undefined) return { ...base, why: "it was no miss: it was given the result of an earlier run" };
  const same = earlier.find((each) => each.digest === digest);
  if (same !== undefined) return { ...base, why: whyAgain(same) };
  let nearest: { readonly known: Known; readonly diff: RunnableDiff; readonly weight: number } | undefined;
  for (const known of earlier.slice(0, comparedMax)) {
    const diff = await diffRunnables(world, client, runnableOf(known), runnableOf(last!)).catch((thrown) => {
      if (isFault(thrown, "BLOB_MISSING") || isFault(thrown, "SNAPSHOT_UNKNOWN")) return undefined; // its inputs are gone
      throw thrown;
    });
    if (diff === undefined) continue;
    const weight = diff.command.length + diff.inputs.changes.length;
    if (nearest === undefined || weight < nearest.weight) nearest = { known, diff, weight };
  }
  if (nearest === undefined) {
    return { ...base, why: "nothing earlier of it is known here: it is new, or what was known of it has gone" };
  }
  const { known, diff } = nearest;
  return {
    ...base,
    nearest: {
      action: known.digest,
      atMs: known.atMs,
      ...(known.task === undefined ? {} : { taskId: known.task.taskId }),
    },
    diff,
    ...(nearest.weight > 0 ? {} : { why: "only the salt or the form of the action differs" }),
  };
}

const runnableOf = ({ action, command }: Known) => ({
  command,
  inputRoot: action.inputRoot,
  timeoutMs: action.timeoutMs ?? 0,
});

/** Of the very same action, which was known. */
function whyAgain({ task }: Known): string {
  const { outcome, taskId } = task ?? {};
  const isGood = outcome?.kind === "exited" && outcome.exitCode === 0 && outcome.signal === undefined;
  if (task !== undefined && outcome !== undefined && !isGood) {
    return `the same action ran before as ${taskId} and ${outcomeText(outcome)}: what fails is not kept`;
  }
  return `the same action is known${
    taskId === undefined ? "" : ` from ${taskId}`
  }: its client asked for a new run, or what it made has gone`;
}

function linesOf({ output, tag, action, atMs, taskId, why, nearest, diff }: Answer): readonly string[] {
  const by = (of: { readonly taskId?: string; readonly action: Digest }): string =>
    of.taskId ?? `action ${of.action.slice(0, 12)}`;
  return [
    `${plain(output)}${tag === "" ? "" : ` (${plain(tag)})`}: ${
      by({ action, ...(taskId === undefined ? {} : { taskId }) })
    } at ${moment(atMs)}`,
    ...(nearest === undefined ? [] : [`  nearest: ${by(nearest)} at ${moment(nearest.atMs)}; since then`]),
    ...(diff === undefined ? [] : runnableDiffLines(diff, shownMax).map((line) => `  ${line}`)),
    ...(why === undefined ? [] : [`  ${plain(why)}`]),
  ];
}
