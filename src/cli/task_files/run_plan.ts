import type { Client } from "../../api/client.ts";
import { type Digest, isDigest, sizeOf } from "../../domain/digest.ts";
import { asFault } from "../../domain/fault.ts";
import type { JobId, TaskId } from "../../domain/ids.ts";
import { isSuccess } from "../../domain/job.ts";
import type { JobSpecInput, TaskSpecInput, TaskView } from "../../protocol/client_messages.ts";
import { type FailureReport, failureReport, pageOf } from "../failure.ts";
import { resolveSnapshot } from "../ids.ts";
import { outcomeText } from "../render.ts";
import { cachesOf, type Commits, commitsOf } from "../task_flags.ts";
import type { World } from "../world.ts";
import { holdTrees } from "./hold_trees.ts";
import type { PlannedTask } from "./plan.ts";
import type { TreeSelection } from "./select_tree.ts";

const keyBytes = 16;
const tailBytes = 4_096;
const tailLines = 20;

/** How a task of a task file ended. */
export type TaskEnd =
  /** `output` is what it made, of all its shards together. */
  | {
    readonly kind: "succeeded";
    readonly output?: Digest;
    readonly jobId: JobId;
    readonly tookMs: number;
    /** Set when nothing of it was run: how long that would have taken. */
    readonly savedMs?: number;
  }
  | {
    readonly kind: "failed";
    readonly why: string;
    readonly tookMs: number;
    /** The shard that failed first. */
    readonly report?: FailureReport;
    /** The last lines that it wrote. */
    readonly tail?: { readonly stdout: string; readonly stderr: string };
  }
  | { readonly kind: "skipped"; readonly because: string }
  | { readonly kind: "stopped" };

export type TaskState = { readonly kind: "waiting" | "preparing" | "queued" | "running" } | TaskEnd;

export interface RunPlanOptions {
  readonly world: World;
  readonly client: Client;
  /** Each after what it needs. */
  readonly plan: readonly PlannedTask[];
  /** The captured folder. */
  readonly dir: string;
  /** Of it. */
  readonly snapshot: Digest;
  readonly selection: TreeSelection;
  readonly cache: "use" | "refresh" | "off";
  readonly requestor?: string | undefined;
  readonly priority?: number | undefined;
  readonly onState: (name: string, state: TaskState) => void;
  /** Kills what runs; what waits is not begun. */
  readonly signal: AbortSignal;
}

/** Runs each task as soon as what it needs is made, all that can at once. @returns how each ended, by name. */
export async function runPlan(options: RunPlanOptions): Promise<ReadonlyMap<string, TaskEnd>> {
  const { plan, world, onState } = options;
  const ends = new Map<string, Promise<TaskEnd>>();
  const commits = commitsOf(world, options.client, options.dir, options.signal);
  const held = holdTrees({ client: options.client, clock: world.clock, signal: options.signal });
  held.add(options.snapshot);
  for (const task of plan) {
    const end = (async (): Promise<TaskEnd> => {
      onState(task.name, { kind: "waiting" });
      const made = new Map<string, Digest | undefined>();
      for (const mount of task.mounts) {
        if (!("task" in mount)) continue;
        const needed = await ends.get(mount.task)!;
        if (needed.kind === "stopped") return needed;
        if (needed.kind !== "succeeded") return { kind: "skipped", because: mount.task };
        made.set(mount.task, needed.output);
      }
      const startedAtMs = world.clock.now();
      try {
        return await runTask(options, task, made, commits, startedAtMs);
      } catch (thrown) {
        if (options.signal.aborted) return { kind: "stopped" };
        return { kind: "failed", why: asFault(thrown).message, tookMs: world.clock.now() - startedAtMs };
      }
    })();
    ends.set(task.name, end);
    void end.then((state) => {
      if (state.kind === "succeeded" && state.output !== undefined) held.add(state.output);
      onState(task.name, state);
    });
  }
  const all = new Map<string, TaskEnd>();
  try {
    for (const { name } of plan) all.set(name, await ends.get(name)!);
  } finally {
    held.stop();
  }
  return all;
}

async function runTask(
  options: RunPlanOptions,
  task: PlannedTask,
  made: ReadonlyMap<string, Digest | undefined>,
  commits: Commits,
  startedAtMs: number,
): Promise<TaskEnd> {
  const { world, client, signal, onState } = options;
  onState(task.name, { kind: "preparing" });
  const input = await inputOf(options, task, made, commits);
  if (signal.aborted) return { kind: "stopped" };
  const { jobId } = await client.submit(jobOf(options, task, input));
  onState(task.name, { kind: "queued" });
  const kill = (): void => void client.kill(jobId, "its user interrupted it").catch(() => {});
  if (signal.aborted) kill();
  else signal.addEventListener("abort", kill, { once: true });
  try {
    const views = await watched(options, task, jobId);
    const tookMs = Math.max(0, world.clock.now() - startedAtMs);
    const bad = views.find(({ outcome }) => outcome === undefined || !isSuccess(outcome));
    if (bad !== undefined) return signal.aborted ? { kind: "stopped" } : await failed(options, bad, tookMs);
    const output = await outputOf(options, task, views);
    const areCached = views.every(({ cached }) => cached !== undefined);
    return {
      kind: "succeeded",
      jobId,
      tookMs,
      ...(output === undefined ? {} : { output }),
      ...(areCached ? { savedMs: views.reduce((sum, { cached }) => sum + (cached?.savedMs ?? 0), 0) } : {}),
    };
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

type TaskInputs = Pick<TaskSpecInput, "input" | "inputs">;
/** Of the names of what is mounted, which are for faults. */
const partNameMax = 300;

/** Its part of the captured folder, and what is mounted: the gateway puts that together. */
async function inputOf(
  { client, snapshot, selection }: RunPlanOptions,
  task: PlannedTask,
  made: ReadonlyMap<string, Digest | undefined>,
  commits: Commits,
): Promise<TaskInputs> {
  const own = task.inputs === undefined ? snapshot : await selection.select(task.inputs);
  if (task.mounts.length === 0) return { input: { kind: "snapshot", snapshot: own } };
  const part = (path: string, from: string, snapshot: Digest, name: string) => ({
    path,
    snapshot,
    name: name.slice(0, partNameMax),
    ...(from === "" ? {} : { subtree: from }),
  });
  const parts = await Promise.all(task.mounts.map(async (mount) => {
    const { path, from } = mount;
    if ("task" in mount) {
      const output = made.get(mount.task);
      if (output === undefined) {
        throw new Error(
          `Cannot mount the output of "${mount.task}" at "${path}" as it must declare what it makes: its out is empty`,
        );
      }
      return part(path, from, output, `the output of "${mount.task}"`);
    }
    if ("revision" in mount) return part(path, from, await commits(mount.revision), `revision ${mount.revision}`);
    const named = isDigest(mount.snapshot) ? mount.snapshot : await resolveSnapshot(client, mount.snapshot);
    return part(path, from, named, `snapshot ${mount.snapshot}`);
  }));
  return { inputs: [part(".", "", own, "the inputs"), ...parts] };
}

function jobOf(
  { world, dir, cache, requestor, priority }: RunPlanOptions,
  task: PlannedTask,
  input: TaskInputs,
): JobSpecInput {
  const { name, argv, env, outputs, platform, timeoutMs, retries, shards } = task;
  return {
    key: world.randomHex(keyBytes),
    tag: "do",
    ...(requestor === undefined ? {} : { requestor }),
    ...(priority === undefined ? {} : { priority: priority as 0 | 1 | 2 }),
    tasks: Array.from({ length: shards }, (_, index) => ({
      name: shards === 1 ? name : `${name} ${index + 1}/${shards}`,
      argv: [...argv],
      env: shards === 1 ? { ...env } : { ...env, SCOOT_SHARD: String(index), SCOOT_SHARDS: String(shards) },
      outputs: [...outputs],
      ...input,
      platform: { ...platform },
      cache,
      ...cachesOf(task.caches, dir),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(retries === undefined ? {} : { retries }),
    })),
  };
}

async function watched(
  { client, onState }: RunPlanOptions,
  task: PlannedTask,
  jobId: JobId,
): Promise<readonly TaskView[]> {
  const views = new Map<TaskId, TaskView>();
  let isRunning = false;
  for await (const change of client.watch(jobId)) {
    if (change.kind !== "task") continue;
    views.set(change.task.taskId, change.task);
    if (change.task.state === "running" && !isRunning) {
      isRunning = true;
      onState(task.name, { kind: "running" });
    }
  }
  const all = [...views.values()];
  if (all.length === task.shards && all.every(({ state }) => state === "settled")) return all;
  return (await client.job(jobId)).tasks; // some changes are no longer kept
}

async function outputOf(
  { world, client }: RunPlanOptions,
  { name }: PlannedTask,
  views: readonly TaskView[],
): Promise<Digest | undefined> {
  const outputs = views.flatMap(({ outcome, name: shard }) =>
    outcome === undefined || outcome.kind === "skipped" || outcome.output === undefined
      ? []
      : [{ path: "", snapshot: outcome.output, name: `the output of "${shard}"` }]
  );
  if (outputs.length < 2 || new Set(outputs.map(({ snapshot }) => snapshot)).size === 1) return outputs[0]?.snapshot;
  try {
    return await (await world.trees()).mount(client.blobs, outputs);
  } catch (thrown) {
    throw new Error(`Cannot put together what the shards of "${name}" made: ${(thrown as Error).message}`);
  }
}

async function failed(
  { world, client }: RunPlanOptions,
  { taskId, outcome, state }: TaskView,
  tookMs: number,
): Promise<TaskEnd> {
  const tail = async (stream: "stdout" | "stderr"): Promise<string> => {
    const kept = outcome === undefined || outcome.kind === "skipped" ? undefined : outcome[stream];
    if (kept === undefined) return "";
    const size = sizeOf(kept.digest);
    const chunks: Uint8Array[] = [];
    for await (const chunk of client.blobs.get(kept.digest, { offset: Math.max(0, size - tailBytes) })) {
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString("utf8").trimEnd().split("\n").slice(-tailLines).join("\n");
  };
  const bare = { taskId, page: pageOf(client, taskId) };
  const isOwnEnd = outcome?.kind === "exited" || outcome?.kind === "timedOut";
  const [stdout, stderr, report] = await Promise.all([
    tail("stdout").catch(() => ""),
    tail("stderr").catch(() => ""),
    isOwnEnd ? failureReport(world, client, taskId).catch(() => bare) : bare,
  ]);
  const why = outcome === undefined ? state : outcomeText(outcome);
  return { kind: "failed", why, tookMs, report, tail: { stdout, stderr } };
}
