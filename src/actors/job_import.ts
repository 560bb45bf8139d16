import { Fault } from "../domain/fault.ts";
import {
  type Address,
  indexOfTask,
  jobAddress,
  type JobId,
  nameOf,
  schedulerAddress,
  taskAddress,
  type TaskId,
  taskId,
} from "../domain/ids.ts";
import { jobState, jobView, taskState, taskView } from "../machines/explain.ts";
import { type JobContext, jobVersion } from "../machines/job.ts";
import type { State } from "../machines/step.ts";
import { type TaskContext, taskVersion } from "../machines/task.ts";
import {
  type Answer,
  jobView as jobViewSchema,
  parsePastEntry,
  type PastEntry,
  type SchedulerRequest,
  taskView as taskViewSchema,
} from "../protocol/client_messages.ts";
import { label, name, parse, textRecord } from "../protocol/schema.ts";
import type { States } from "../snapshots/states/states.ts";
import type { Host } from "./host.ts";

export type ImportRequest = Extract<SchedulerRequest, { type: "job.import" }>;

export interface JobImportsOptions {
  readonly host: Host;
  readonly states: States;
  readonly hasSpace: () => boolean;
  /** Does it when all that was decided before in this turn is durable. */
  readonly afterSaving: (work: () => void) => void;
  /** The job is here, whole and durable. */
  readonly done: (state: State) => void;
}

/**
 * Jobs of other clusters on their way in. A job that has ended is taken in step by step, as pages come; its tasks first,
 * so that there is never a job without them. Until it is whole nobody sees it, and one that stays in pieces is removed:
 * here when its gateway leaves or something is wrong with it, by {@link Scheduler.start} after a crash.
 */
export interface JobImports {
  /**
   * Answers when the page is durable: `done` for one of several, `job.accepted` after the last, or at once when the very
   * same job is here already.
   *
   * @throws {Fault} `REQUEST_INVALID` with what is wrong with it, `NO_SPACE`; `CANCELLED` when this is not the next page
   *   of an import under way: begin it again.
   */
  take(gateway: string, request: ImportRequest): Promise<Answer>;
  /** Whether that job is on its way in. */
  has(jobId: JobId): boolean;
  /** What that gateway had begun will not go on. */
  leave(gateway: string): void;
}

/** One line: the step with which a job of 100,000 tasks begins has about half of this. */
const lineBytesMax = 64 * 1024 * 1024;

interface Import {
  readonly jobId: JobId;
  readonly gateway: string;
  readonly attempt: string;
  nextPage: number;
  /** Of the line that is not whole yet. */
  parts: Uint8Array[];
  partsBytes: number;
  /** What the job came to, as its first line says. From then on it is known that nothing of that name is here. */
  outcome: State | undefined;
  total: number;
  /** Tasks whose newest step is that they settled. */
  readonly settled: Set<number>;
  readonly written: Set<Address>;
  /** The newest step of the job itself. */
  newest: State | null | undefined;
  /** Resolves when the page under way is durable, or was refused. */
  saving: Promise<void>;
}

export function jobImports({ host, states, hasSpace, afterSaving, done }: JobImportsOptions): JobImports {
  const imports = new Map<JobId, Import>();

  const inTurn = (work: () => void): Promise<void> =>
    new Promise((resolve, reject) =>
      host.enqueue(() => {
        try {
          work();
          afterSaving(resolve);
        } catch (thrown) {
          reject(thrown);
        }
      })
    );
  const abandon = async (one: Import, why: string): Promise<void> => {
    if (imports.get(one.jobId) !== one) return;
    await one.saving;
    if (imports.get(one.jobId) !== one) return; // its last page was under way
    if (one.written.size > 0) {
      await inTurn(() => {
        for (const address of one.written) host.remove(address, schedulerAddress, why);
      });
    }
    if (imports.get(one.jobId) === one) imports.delete(one.jobId);
  };

  /** The lines that end in this page. */
  const linesOf = (one: Import, page: Uint8Array): unknown[] => {
    const lines: unknown[] = [];
    let from = 0;
    for (let end = page.indexOf(newline); end >= 0; end = page.indexOf(newline, from)) {
      lines.push(parseLine(joined([...one.parts, page.subarray(from, end)])));
      one.parts = [];
      one.partsBytes = 0;
      from = end + 1;
    }
    if (from < page.length) {
      one.parts.push(page.slice(from));
      one.partsBytes += page.length - from;
    }
    if (one.partsBytes > lineBytesMax) {
      throw refused(one.jobId, `a step of it must have at most ${lineBytesMax} bytes: it has more`);
    }
    return lines;
  };

  /** @returns whether the same job is here already. */
  const begin = async (one: Import, line: unknown): Promise<boolean> => {
    const { jobId } = one;
    const entry = parsePastEntry(line);
    checkEntry(jobId, tasksMax, entry);
    if (entry.address !== jobAddress(jobId) || entry.state === null || jobState(entry.state) === "running") {
      throw refused(jobId, "it must have ended: it was still running, or had been forgotten, when it was exported");
    }
    const here = await states.get(jobAddress(jobId));
    if (here !== undefined) {
      if (JSON.stringify(here.state) === JSON.stringify(entry.state)) return true;
      throw refused(jobId, "no other job may have its id: one is here that is not the same");
    }
    const { total } = entry.state.context as unknown as JobContext;
    if (total > tasksMax) throw refused(jobId, `it must have at most ${tasksMax} tasks: it has ${total}`);
    one.outcome = entry.state;
    one.total = total;
    return false;
  };

  /** Checks a step, and that it may come now. */
  const follow = (one: Import, line: unknown): PastEntry => {
    const { jobId, total, settled } = one;
    const entry = parsePastEntry(line);
    checkEntry(jobId, total, entry);
    if (entry.address === jobAddress(jobId)) {
      if (settled.size !== total) {
        throw refused(jobId, `all of its ${total} tasks must have settled: ${settled.size} of them have`);
      }
      one.newest = entry.state;
    } else {
      if (one.newest !== undefined) throw refused(jobId, "its tasks must come before its own steps");
      const index = indexOfTask(nameOf(entry.address) as TaskId);
      if (entry.state !== null && taskState(entry.state) === "settled") settled.add(index);
      else settled.delete(index);
    }
    return entry;
  };

  const takePage = async (one: Import, { bytes, last }: ImportRequest): Promise<Answer> => {
    const lines = linesOf(one, bytes);
    if (one.outcome === undefined && lines.length > 0 && await begin(one, lines.shift())) {
      imports.delete(one.jobId);
      return { type: "job.accepted", jobId: one.jobId, existing: true };
    }
    const entries = lines.map((line) => follow(one, line));
    if (last) {
      if (one.partsBytes > 0) throw refused(one.jobId, "its last step must be whole: it is cut off");
      if (one.outcome === undefined || JSON.stringify(one.newest) !== JSON.stringify(one.outcome)) {
        throw refused(one.jobId, "its steps must lead to what it came to: they do not");
      }
    }
    if (entries.length > 0) {
      await inTurn(() => {
        for (const entry of entries) {
          one.written.add(entry.address);
          host.adopt(entry);
        }
      });
    }
    if (!last) return { type: "done" };
    imports.delete(one.jobId);
    done(one.outcome!);
    return { type: "job.accepted", jobId: one.jobId, existing: false };
  };

  return {
    async take(gateway, request) {
      const { jobId, attempt, page } = request;
      if (page === 0 && imports.get(jobId)?.attempt !== attempt) {
        if (!hasSpace()) {
          throw new Fault(
            "NO_SPACE",
            "Cannot import a job as less than 5 % of the disk is free: free some, then import it again",
          );
        }
        for (let other = imports.get(jobId); other !== undefined; other = imports.get(jobId)) {
          await abandon(other, "Its import was begun again");
        }
        imports.set(jobId, {
          jobId,
          gateway,
          attempt,
          nextPage: 0,
          parts: [],
          partsBytes: 0,
          outcome: undefined,
          total: 0,
          settled: new Set(),
          written: new Set(),
          newest: undefined,
          saving: Promise.resolve(),
        });
      }
      const one = imports.get(jobId);
      if (one === undefined || one.attempt !== attempt || page > one.nextPage) {
        throw new Fault("CANCELLED", `Cannot go on with the import of job ${jobId}: it must begin again`);
      }
      if (page < one.nextPage) { // asked twice
        await one.saving;
        return { type: "done" };
      }
      one.nextPage++;
      const taken = takePage(one, request);
      one.saving = taken.then(() => {}, () => {});
      try {
        return await taken;
      } catch (thrown) {
        await abandon(one, "Something was wrong with its import");
        throw thrown;
      }
    },
    has: (jobId) => imports.get(jobId)?.outcome !== undefined,
    leave(gateway) {
      for (const one of [...imports.values()]) {
        if (one.gateway === gateway) void abandon(one, "Its gateway left before it was imported");
      }
    },
  };
}

const newline = 0x0a;
const tasksMax = 100_000;
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** @param why "it must be so: it is otherwise". */
const refused = (jobId: JobId, why: string): Fault =>
  new Fault("REQUEST_INVALID", `Cannot import job ${jobId} as ${why}`);

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function parseLine(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch (cause) {
    throw new Fault("REQUEST_INVALID", `Cannot read a step of a job as it must be JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * A step that strangers made: whatever is shown of it must have its shape, as must what the scheduler itself reads.
 *
 * @param total how many tasks the job has.
 */
function checkEntry(jobId: JobId, total: number, entry: PastEntry): void {
  const { address, machine, version } = entry;
  const isJob = address === jobAddress(jobId);
  const index = isJob ? 0 : indexOfTask(nameOf(address) as TaskId);
  if (!isJob && !(index < total && address === taskAddress(taskId(jobId, index)))) {
    throw refused(jobId, `it must be of itself and its ${total} tasks alone: ${JSON.stringify(address)} is neither`);
  }
  if (machine !== (isJob ? "job" : "task")) {
    throw refused(jobId, `${address} must be a ${isJob ? "job" : "task"}: current value is ${JSON.stringify(machine)}`);
  }
  const known = isJob ? jobVersion : taskVersion;
  if (version !== known) {
    throw refused(
      jobId,
      `a state of its ${machine} must have version ${known}, which this cluster knows: it has ${version}` +
        (version > known ? ", and was made by a newer one" : ""),
    );
  }
  checkState(jobId, entry);
}

/** @throws {Fault} `REQUEST_INVALID` for a state that is not of that job or one of its tasks. */
export function checkState(jobId: JobId, { address, state }: Pick<PastEntry, "address" | "state">): void {
  if (state === null) return;
  const isJob = address === jobAddress(jobId);
  const index = isJob ? 0 : indexOfTask(nameOf(address) as TaskId);
  const shown = view(jobId, () => isJob ? jobView(state) : taskView(state));
  if (isJob) {
    const { key, failFast, cancelled, jobId: own } = state.context as unknown as JobContext;
    parse(jobViewSchema, `job ${jobId}`, shown);
    parse(name(200), `the key of job ${jobId}`, key);
    if (own !== jobId || typeof failFast !== "boolean" || typeof cancelled !== "boolean") throw shapeless(jobId);
  } else {
    const { requestor, platform, taskId: own } = state.context as unknown as TaskContext;
    parse(taskViewSchema, `task ${jobId}/${index}`, shown);
    parse(label(200), `the requestor of task ${jobId}/${index}`, requestor);
    parse(textRecord(64, 200), `the platform of task ${jobId}/${index}`, platform);
    if (own !== taskId(jobId, index)) throw shapeless(jobId);
  }
}

const shapeless = (jobId: JobId): Fault =>
  refused(jobId, "its states must be those of a job and its tasks: one is not");

function view<View>(jobId: JobId, compute: () => View): View {
  try {
    return compute();
  } catch { // it met something of another shape
    throw shapeless(jobId);
  }
}
