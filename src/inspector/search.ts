import type { Digest } from "../domain/digest.ts";
import { type JobId, taskAddress, type TaskId } from "../domain/ids.ts";
import { explainJob, explainTask, jobState, taskState } from "../machines/explain.ts";
import type { JobContext } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import { decodeCommand } from "../protocol/reapi/canonical.ts";
import type { Clock } from "../runtime/clock.ts";
import { type Blobs, readBlob } from "../snapshots/blobs/blobs.ts";
import type { States } from "../snapshots/states/states.ts";
import { tasksOf } from "./job_tasks.ts";
import { newestJobs } from "./jobs.ts";
import type { Found, Hit } from "./routes.ts";

/** Looked at for one page: so many jobs, tasks and commands that were not known yet; or for so long. */
const jobsMax = 2_000;
const tasksMax = 5_000;
const commandsMax = 1_000;
const lookMs = 400;
const tasksPerJobMax = 2_000;
/** Of one job so many hits are told. */
const hitsPerJobMax = 20;
const commandBytesMax = 64 * 1024;
const commandCharactersMax = 2_000;
/** Texts of so many commands are kept. */
const keptMax = 10_000;
const aroundCharacters = 60;

/** The texts of commands, each read once. */
export function commandTexts(blobs: Blobs) {
  const kept = new Map<Digest, string>();
  return {
    has: (digest: Digest): boolean => kept.has(digest),
    /** "" for one that cannot be read. */
    async of(digest: Digest): Promise<string> {
      const known = kept.get(digest);
      if (known !== undefined) return known;
      let text = "";
      try {
        const { argv } = decodeCommand(await readBlob(blobs, digest, commandBytesMax));
        text = argv.join(" ").slice(0, commandCharactersMax);
      } catch {
        // gone from the store, or too long: what it says is not found
      }
      kept.set(digest, text);
      if (kept.size > keptMax) kept.delete(kept.keys().next().value!);
      return text;
    },
  };
}

export interface SearchOptions {
  readonly states: States;
  readonly commands: ReturnType<typeof commandTexts>;
  readonly clock: Clock;
  readonly seq: number;
  readonly text: string;
  readonly before?: JobId | undefined;
  readonly limit: number;
}

/**
 * Jobs and tasks that have a text in their id, requestor, basis, tag, name (of a Remote Execution client: the target),
 * command or reason, of the newest jobs first; capitals and small letters are the same. A page may be short, or empty,
 * though more follows: so much was looked at.
 */
export async function search(options: SearchOptions): Promise<Found> {
  const { states, commands, clock, seq, before, limit } = options;
  const wanted = options.text.trim().toLowerCase();
  const hits: Hit[] = [];
  if (wanted === "") return { hits };
  if (before === undefined && /^j[0-9a-z]{10}-[0-9a-z]{6}\/[0-9]+$/.test(wanted)) {
    // A task's own id, wherever its job is.
    const entry = await states.get(taskAddress(wanted as TaskId), seq);
    if (entry !== undefined) return { hits: [taskHit(entry.state as State, "id", wanted)] };
  }
  const startedAtMs = clock.now();
  let jobs = 0;
  let tasks = 0;
  let read = 0;
  for await (const entry of newestJobs(states, seq, before)) {
    const job = entry.state as State;
    const context = job.context as JobContext;
    const found = inTexts(wanted, [
      ["id", context.jobId],
      ["requestor", context.requestor],
      ["basis", context.basis ?? ""],
      ["tag", context.tag],
      ["why", explainJob(job)],
    ]);
    if (found !== undefined) {
      hits.push({ jobId: context.jobId, state: jobState(job), name: context.tag || context.jobId, ...found });
    }
    let hitsHere = 0;
    const of = { total: context.total, limit: tasksPerJobMax };
    for (const { state, task } of await tasksOf(states, context.jobId, seq, of)) {
      tasks++;
      if (hitsHere >= hitsPerJobMax) continue;
      const isNew = !commands.has(task.command);
      if (isNew) read++;
      const command = !isNew || read <= commandsMax ? await commands.of(task.command) : "";
      // Of a job's one task the name is often the job's tag.
      const name = task.name === context.tag ? "" : task.name;
      const hit = inTexts(wanted, [["target", name], ["command", command], ["why", explainTask(state)]]);
      if (hit === undefined) continue;
      hits.push(taskHit(state, hit.in, hit.text));
      hitsHere++;
    }
    const isEnough = hits.length >= limit || ++jobs >= jobsMax || tasks >= tasksMax || read >= commandsMax ||
      clock.now() - startedAtMs > lookMs;
    if (isEnough) return { hits, next: context.jobId };
  }
  return { hits };
}

function taskHit(state: State, where: Hit["in"], text: string): Hit {
  const { taskId, name } = state.context as { readonly taskId: TaskId; readonly name: string };
  const jobId = taskId.slice(0, taskId.indexOf("/")) as JobId;
  return { jobId, taskId, state: taskState(state), name, in: where, text };
}

function inTexts(
  wanted: string,
  texts: readonly (readonly [Hit["in"], string])[],
): Pick<Hit, "in" | "text"> | undefined {
  for (const [where, text] of texts) {
    const at = text.toLowerCase().indexOf(wanted);
    if (at < 0) continue;
    const [from, to] = [Math.max(0, at - aroundCharacters), at + wanted.length + aroundCharacters];
    return {
      in: where,
      text: `${from > 0 ? "…" : ""}${text.slice(from, to)}${to < text.length ? "…" : ""}`,
    };
  }
  return undefined;
}
