import { decodeActionResult } from "../protocol/reapi/action_result.ts";
import { decodeCommand, decodeDirectory, decodeTree, encodeAction } from "../protocol/reapi/canonical.ts";
import { type Digest, emptyDigest } from "../domain/digest.ts";
import { asFault, Fault, isFault } from "../domain/fault.ts";
import { type JobId, nameOf } from "../domain/ids.ts";
import {
  type Answer,
  importPageBytesMax,
  type PastEntry,
  type SchedulerRequest,
  type TaskView,
} from "../protocol/client_messages.ts";
import { jobId as jobIdSchema, parse } from "../protocol/schema.ts";
import { randomHex } from "../runtime/random.ts";
import { resultBytesMax } from "../snapshots/actions/actions.ts";
import { type Blobs, digestOf, readBlob } from "../snapshots/blobs/blobs.ts";
import type { Entry } from "../snapshots/states/states.ts";
import { readDirectory } from "../snapshots/trees/read_tree.ts";

/** Jobs as files: all that is kept of one, with the blobs that it names. */
export interface SealedJobs {
  /**
   * The file of a job that has ended, in chunks.
   *
   * @param job.seq of its newest entry: nothing is sealed before that is seen.
   * @throws {Fault} `REQUEST_INVALID` where the states of the scheduler cannot be read.
   */
  seal(job: { readonly jobId: JobId; readonly seq: number; readonly digests: ReadonlySet<Digest> }): AsyncIterable<
    Uint8Array
  >;
  /**
   * Takes in a file that anyone may have made: afterwards its blobs are in the store.
   *
   * @returns the entries in it, which can be read again and again.
   * @throws {Fault} `REQUEST_INVALID` for anything but a whole and unharmed file, `NO_SPACE`.
   */
  open(stream: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Entry>>;
}

type Ask = (request: Extract<SchedulerRequest, { type: "job.get" | "job.import" }>) => Promise<Answer>;

export interface JobFilesOptions {
  readonly sealed: SealedJobs;
  readonly blobs: Blobs;
  readonly ask: Ask;
}

/** Jobs on their way to and from files. */
export interface JobFiles {
  /** @throws {Fault} `JOB_UNKNOWN`, `REQUEST_INVALID` for a job that still runs, and as {@link SealedJobs.seal} does. */
  export(jobId: JobId): AsyncIterable<Uint8Array>;
  /** @throws {Fault} as {@link SealedJobs.open} does, and `REQUEST_INVALID` for a job that cannot be here. */
  import(stream: AsyncIterable<Uint8Array>): Promise<{ readonly jobId: JobId; readonly existing: boolean }>;
}

/** Names of so many blobs are held, some 200 bytes each. */
const blobsMax = 500_000;
const treeBytesMax = 64 * 1024 * 1024;
const commandBytesMax = 16 * 1024 * 1024;
/** A page is the work of one turn of the scheduler. */
const pageBytes = Math.min(256 * 1024, importPageBytesMax);
/** An import begins again when the scheduler has lost its beginning. */
const attemptsMax = 5;

export function jobFiles({ sealed, blobs, ask }: JobFilesOptions): JobFiles {
  /** One at a time is handed over, so that the scheduler holds little. */
  let handingOver: Promise<unknown> = Promise.resolve();
  return {
    async *export(jobId) {
      const { seq, digests } = await blobsOf(jobId, blobs, ask);
      yield* sealed.seal({ jobId, seq, digests });
    },
    async import(stream) {
      const entries = await sealed.open(stream);
      const handedOver = handingOver.then(() => handOver(entries, ask));
      handingOver = handedOver.catch(() => {});
      return await handedOver;
    },
  };
}

// ---- out -----------------------------------------------------------------------------------------------------------

/** What belongs to a job that has ended: commands, actions, inputs, streams and outputs of its tasks. */
async function blobsOf(jobId: JobId, blobs: Blobs, ask: Ask) {
  const digests = new Set<Digest>();
  const actions = new Set<Digest>();
  const add = (digest: Digest): boolean => {
    if (digest === emptyDigest || digests.has(digest)) return false;
    if (digests.size >= blobsMax) {
      throw new Fault(
        "REQUEST_INVALID",
        `Cannot export job ${jobId} as it must name at most ${blobsMax} blobs: it has more`,
      );
    }
    digests.add(digest);
    return true;
  };
  const addTree = async (root: Digest): Promise<void> => {
    const folders = [root];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      if (!add(folder)) continue;
      for (const node of await orNone(readDirectory(blobs, folder)) ?? []) {
        if (node.kind === "directory") folders.push(node.digest);
        else if (node.kind === "file") add(node.digest);
      }
    }
  };
  /** The ActionResult of an action that a client asked for, with all that it refers to. */
  const addResult = async (digest: Digest): Promise<void> => {
    if (!add(digest)) return;
    const result = await orNone(readBlob(blobs, digest, resultBytesMax).then(decodeActionResult));
    if (result === undefined) return;
    for (const file of result.outputFiles) add(file.digest);
    for (const stream of [result.stdout, result.stderr]) if (stream !== undefined) add(stream);
    for (const { tree, rootDirectory } of result.outputDirectories) {
      if (rootDirectory !== undefined) await addTree(rootDirectory);
      if (tree === undefined || !add(tree)) continue;
      const folders = await orNone(
        readBlob(blobs, tree, treeBytesMax).then((bytes) => {
          const { root, children } = decodeTree(bytes);
          return [root, ...children].map((each) => decodeDirectory(each));
        }),
      );
      for (const node of (folders ?? []).flat()) if (node.kind === "file") add(node.digest);
    }
  };
  let seq = 0;
  for (let from: number | undefined = 0; from !== undefined;) {
    const answer: Answer = await ask({ type: "job.get", jobId, tasksFrom: from });
    if (answer.type !== "job.view") {
      throw new Fault("INTERNAL", `Cannot export job ${jobId}: a ${answer.type} was told`);
    }
    if (answer.job.state === "running") {
      throw new Fault("REQUEST_INVALID", `Cannot export job ${jobId} as it must have ended: it still runs`);
    }
    seq = answer.seq;
    for (const task of answer.tasks) {
      add(task.command);
      const action = await actionOf(task, blobs);
      if (action !== undefined) actions.add(action);
      if (task.inputRoot !== undefined) await addTree(task.inputRoot);
      const { outcome } = task;
      if (outcome === undefined || outcome.kind === "skipped") continue;
      if (outcome.stdout !== undefined) add(outcome.stdout.digest);
      if (outcome.stderr !== undefined) add(outcome.stderr.digest);
      if (outcome.output !== undefined) await addTree(outcome.output);
      if (outcome.result !== undefined) await addResult(outcome.result);
    }
    from = answer.next;
  }
  // The action of a task whose input is another's output was never stored: it is not absent, it never was.
  const missing = await blobs.missing(actions);
  for (const action of actions) if (!missing.has(action)) add(action);
  return { seq, digests };
}

/** @returns undefined for what is absent, or is not what it should be: then it refers to nothing. */
async function orNone<Value>(reading: Promise<Value>): Promise<Value | undefined> {
  try {
    return await reading;
  } catch (thrown) {
    const isNone = (["BLOB_MISSING", "TREE_INVALID", "PATH_INVALID", "REQUEST_INVALID"] as const).some((code) =>
      isFault(thrown, code)
    );
    if (isNone) return undefined;
    throw thrown;
  }
}

async function actionOf(
  { command, inputRoot, timeoutMs, action }: TaskView,
  blobs: Blobs,
): Promise<Digest | undefined> {
  if (action !== undefined) return action.digest;
  if (inputRoot === undefined) return undefined;
  try {
    const { platform } = decodeCommand(await readBlob(blobs, command, commandBytesMax));
    return digestOf(encodeAction({ command, inputRoot, timeoutMs, doNotCache: false, platform }));
  } catch (thrown) {
    if (asFault(thrown).code === "INTERNAL") throw thrown;
    return undefined; // the command has gone, or is none
  }
}

// ---- in ------------------------------------------------------------------------------------------------------------

async function handOver(entries: AsyncIterable<Entry>, ask: Ask) {
  const { jobId, newest } = await newestOf(entries);
  for (let tries = 1;; tries++) {
    try {
      return await sendPages(jobId, pagesOf(linesOf(jobId, newest, entries)), ask);
    } catch (thrown) {
      if (!isFault(thrown, "CANCELLED") || tries === attemptsMax) throw thrown;
    }
  }
}

/** The one job that the entries are about. */
async function newestOf(entries: AsyncIterable<Entry>): Promise<{ readonly jobId: JobId; readonly newest: Entry }> {
  let newest: Entry | undefined;
  for await (const entry of entries) {
    if (!entry.address.startsWith("job/")) continue;
    if (newest !== undefined && newest.address !== entry.address) {
      throw new Fault("REQUEST_INVALID", "Cannot import the file as it must hold one job: it holds several");
    }
    newest = entry;
  }
  if (newest === undefined) {
    throw new Fault("REQUEST_INVALID", "Cannot import the file as it must hold a job: it holds none");
  }
  return { jobId: parse(jobIdSchema, "the job's id", nameOf(newest.address)), newest };
}

async function sendPages(
  jobId: JobId,
  pages: AsyncIterable<{ readonly bytes: Uint8Array; readonly last: boolean }>,
  ask: Ask,
): Promise<{ readonly jobId: JobId; readonly existing: boolean }> {
  const attempt = randomHex(8);
  let page = 0;
  for await (const { bytes, last } of pages) {
    const answer = await ask({ type: "job.import", jobId, attempt, page: page++, bytes, last });
    if (answer.type === "job.accepted") return { jobId: answer.jobId, existing: answer.existing };
  }
  throw new Fault("INTERNAL", `Cannot import job ${jobId}: the scheduler took it, and did not say so`);
}

async function* linesOf(jobId: JobId, newest: Entry, entries: AsyncIterable<Entry>): AsyncGenerator<Uint8Array> {
  const line = (entry: Entry): Uint8Array => utf8.encode(`${JSON.stringify(pastOf(entry))}\n`);
  const own = `job/${jobId}`;
  yield line(newest);
  for await (const entry of entries) if (entry.address !== own) yield line(entry);
  for await (const entry of entries) if (entry.address === own) yield line(entry);
}

function pastOf({ atMs, address, machine, version, state, cause, said, reason }: Entry): PastEntry {
  return {
    atMs,
    address,
    machine,
    version,
    state: (state ?? null) as PastEntry["state"],
    cause: { id: cause.id, from: cause.from, event: cause.event ?? null },
    said: said.map(({ id, to, body }) => ({ id, to, body: body ?? null })),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** Cut anywhere. */
async function* pagesOf(lines: AsyncIterable<Uint8Array>) {
  const page = new Uint8Array(pageBytes);
  let filled = 0;
  for await (const line of lines) {
    for (let at = 0; at < line.length;) {
      if (filled === pageBytes) {
        yield { bytes: page.slice(), last: false };
        filled = 0;
      }
      const part = line.subarray(at, at + pageBytes - filled);
      page.set(part, filled);
      filled += part.length;
      at += part.length;
    }
  }
  yield { bytes: page.slice(0, filled), last: true };
}

const utf8 = new TextEncoder();
