import type { Client } from "../api/client.ts";
import type { CommandData } from "../domain/command.ts";
import { type Digest, emptyDigest } from "../domain/digest.ts";
import type { Outcome } from "../domain/job.ts";
import type { TreeChange } from "../snapshots/trees/diff.ts";
import { outcomeText, plain, size, span, thousands } from "./render.ts";
import type { WholeTask } from "./tasks.ts";
import type { World } from "./world.ts";
import { sizeOf } from "../domain/digest.ts";

/** A value that two runs have otherwise; absent where one of them has none. */
interface Differing {
  readonly what: string;
  readonly before?: string;
  readonly after?: string;
}

/** What differs between two trees, as far as it is told. */
interface TreeDiff {
  readonly changes: readonly TreeChange[];
  readonly isCut: boolean;
}

/** What is run. */
export interface Runnable {
  readonly command: CommandData;
  readonly inputRoot?: Digest | undefined;
  readonly timeoutMs: number;
}

/** What differs between two of them. */
export interface RunnableDiff {
  /** Command line, variables, declared outputs, time limit, platform. */
  readonly command: readonly Differing[];
  readonly inputs: TreeDiff;
}

/** What differs between two runs: first what they were run of, then what came of them. */
export interface TaskDiff extends RunnableDiff {
  readonly before: string;
  readonly after: string;
  readonly ends: readonly Differing[];
  readonly outputs: TreeDiff;
}

const changesMax = 1_000;

/** @throws {Fault} when a tree of one of them is no longer in the store. */
export async function diffTasks(world: World, client: Client, one: WholeTask, two: WholeTask): Promise<TaskDiff> {
  return {
    before: one.task.taskId,
    after: two.task.taskId,
    ...await diffRunnables(world, client, { ...one.task, ...one }, { ...two.task, ...two }),
    ends: endDiff(one, two),
    outputs: await diffTrees(world, client, outputOf(one.task.outcome), outputOf(two.task.outcome)),
  };
}

/** @throws {Fault} when a tree of one of them is no longer in the store. */
export async function diffRunnables(
  world: World,
  client: Client,
  one: Runnable,
  two: Runnable,
): Promise<RunnableDiff> {
  return { command: commandDiff(one, two), inputs: await diffTrees(world, client, one.inputRoot, two.inputRoot) };
}

async function diffTrees(
  world: World,
  { blobs }: Client,
  before: Digest = emptyDigest,
  after: Digest = emptyDigest,
): Promise<TreeDiff> {
  const changes: TreeChange[] = [];
  for await (const change of (await world.trees()).diff(blobs, before, after)) {
    if (changes.length === changesMax) return { changes, isCut: true };
    changes.push(change);
  }
  return { changes, isCut: false };
}

const outputOf = (outcome: Outcome | undefined): Digest | undefined =>
  outcome === undefined || outcome.kind === "skipped" ? undefined : outcome.output;

function commandDiff(one: Runnable, two: Runnable): readonly Differing[] {
  const [a, b] = [one.command, two.command];
  const outputs = (of: CommandData): string =>
    [...of.outputs, ...of.outputFiles ?? [], ...of.outputDirectories ?? []].join(", ");
  const record = (properties: readonly { readonly name: string; readonly value: string }[]) =>
    Object.fromEntries(properties.map(({ name, value }) => [name, value]));
  return [
    ...differing("command", a.argv.map(quoted).join(" "), b.argv.map(quoted).join(" ")),
    ...differingRecords("", a.env, b.env),
    ...differing("declared outputs", outputs(a), outputs(b)),
    ...differing("time limit", span(one.timeoutMs), span(two.timeoutMs)),
    ...differingRecords("platform ", record(a.platform), record(b.platform)),
  ];
}

function endDiff({ task: one }: WholeTask, { task: two }: WholeTask): readonly Differing[] {
  const end = ({ outcome, state }: WholeTask["task"]): string => outcome === undefined ? state : outcomeText(outcome);
  const stream = ({ outcome }: WholeTask["task"], name: "stdout" | "stderr"): string => {
    const kept = outcome === undefined || outcome.kind === "skipped" ? undefined : outcome[name];
    return kept === undefined ? "nothing" : `${size(sizeOf(kept.digest))} ${kept.digest.slice(0, 12)}`;
  };
  const worker = ({ attempts, cached }: WholeTask["task"]): string =>
    attempts.at(-1)?.workerId ?? (cached === undefined ? "none" : `cached, by ${cached.workerId ?? "another program"}`);
  return [
    ...differing("end", end(one), end(two)),
    ...differing("stdout", stream(one, "stdout"), stream(two, "stdout")),
    ...differing("stderr", stream(one, "stderr"), stream(two, "stderr")),
    ...differing("worker", worker(one), worker(two)),
  ];
}

const differing = (what: string, before: string, after: string): readonly Differing[] =>
  before === after ? [] : [{ what, before, after }];

function differingRecords(
  prefix: string,
  one: Readonly<Record<string, string>>,
  two: Readonly<Record<string, string>>,
): readonly Differing[] {
  const names = [...new Set([...Object.keys(one), ...Object.keys(two)])].sort();
  return names.filter((name) => one[name] !== two[name]).map((name) => ({
    what: prefix + name,
    ...(one[name] === undefined ? {} : { before: one[name] }),
    ...(two[name] === undefined ? {} : { after: two[name] }),
  }));
}

/** A word of a command line, quoted for sh where it must be. */
export const quoted = (word: string): string =>
  /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;

/** Lines for people; none when nothing differs. */
export function diffLines(diff: TaskDiff, shownMax = changesMax): readonly string[] {
  const { ends, outputs } = diff;
  return [
    ...runnableDiffLines(diff, shownMax),
    ...ends.map(differingLine),
    ...treeLines("outputs", outputs, shownMax),
  ];
}

export function runnableDiffLines({ command, inputs }: RunnableDiff, shownMax = changesMax): readonly string[] {
  return [...command.map(differingLine), ...treeLines("inputs", inputs, shownMax)];
}

const differingLine = ({ what, before, after }: Differing): string =>
  before === undefined
    ? `${plain(what)}: set to ${plain(after ?? "")}`
    : after === undefined
    ? `${plain(what)}: no longer set (was ${plain(before)})`
    : `${plain(what)}: ${plain(before)} -> ${plain(after)}`;

function treeLines(what: string, { changes, isCut }: TreeDiff, shownMax: number): readonly string[] {
  if (changes.length === 0) return [];
  const shown = changes.slice(0, shownMax);
  const more = changes.length - shown.length;
  return [
    `${what}:`,
    ...shown.map((change) => `  ${changeLine(change)}`),
    ...(isCut ? [`  and more than ${thousands(more)} more`] : more > 0 ? [`  and ${thousands(more)} more`] : []),
  ];
}

/** "+ src/new.ts (1.2 kB)", "- old/", "~ a.ts (1 kB -> 2 kB)" */
function changeLine({ path, before, after }: TreeChange): string {
  const kindOf = (node: TreeChange["before"]): string =>
    node === undefined || node.kind === "directory"
      ? ""
      : node.kind === "symlink"
      ? `-> ${plain(node.target)}`
      : size(sizeOf(node.digest)) + (node.executable ? ", may be run" : "");
  const name = plain(path) + ((after ?? before)?.kind === "directory" ? "/" : "");
  const [old, now] = [kindOf(before), kindOf(after)];
  const told = (text: string): string => text === "" ? "" : ` (${text})`;
  if (before === undefined) return `+ ${name}${told(now)}`;
  if (after === undefined) return `- ${name}${told(old)}`;
  if (before.kind !== after.kind) return `~ ${name} (${before.kind} -> ${after.kind})`;
  return `~ ${name}${told(old === now ? `${now}, other content` : `${old} -> ${now}`)}`;
}
