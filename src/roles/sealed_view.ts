import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Gateway } from "../api/gateway.ts";
import { httpServer } from "../api/http.ts";
import { checkState } from "../actors/job_import.ts";
import { asFault, Fault, isFault } from "../domain/fault.ts";
import { type Address, jobAddress, type JobId, kindOf, nameOf, taskAddress, taskId } from "../domain/ids.ts";
import { pagePolicy } from "../inspector/files.ts";
import { createInspector } from "../inspector/server.ts";
import { jobView, taskView } from "../machines/explain.ts";
import type { State } from "../machines/step.ts";
import { type Answer, parsePastEntry } from "../protocol/client_messages.ts";
import { jobId as jobIdSchema, parse, taskId as taskIdSchema } from "../protocol/schema.ts";
import { realClock } from "../runtime/clock.ts";
import { randomHex } from "../runtime/random.ts";
import { memoryActions } from "../snapshots/actions/memory.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import { localBlobs } from "../snapshots/blobs/local.ts";
import { treeKeeper } from "../snapshots/lease.ts";
import { memoryRefs } from "../snapshots/refs/memory.ts";
import { memoryStates } from "../snapshots/states/memory.ts";
import { importSealed, readTree } from "../snapshots/states/seal.ts";
import type { Entry, States } from "../snapshots/states/states.ts";
import { viewTokenOf } from "../transport/secret.ts";
import { listenFault } from "./door.ts";
import { stderrLog } from "./machine.ts";

/** A job's file that is open: the page of the inspector over it, and nothing that runs. */
export interface SealedView {
  /** The page, with what opens it. */
  readonly address: string;
  readonly jobId: JobId;
  close(): Promise<void>;
}

export interface SealedViewOptions {
  /** What `job export` wrote. */
  readonly file: string;
  /** Empty, for the blobs that are in the file; removed by whoever made it. */
  readonly dir: string;
  /** 0: one that is free. */
  readonly port: number;
}

const host = "127.0.0.1";
/** Of a page of a job's tasks. */
const tasksPerPage = 500;

/**
 * Opens a job's file without a cluster, at a port of this machine. Who has the address may look at what is in the file.
 *
 * @throws {Fault} `REQUEST_INVALID` for a file that is none, harmed, or not of one whole job; `NO_SPACE`, `PORT_BUSY`.
 */
export async function viewSealed({ file, dir, port }: SealedViewOptions): Promise<SealedView> {
  const blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
  const { states, jobId } = await statesIn(file, blobs).catch(async (thrown) => {
    await blobs.close();
    throw thrown;
  });
  const token = randomHex(32); // nobody is told of it: what may look is
  const inspector = createInspector({
    states: () => Promise.resolve(states),
    clock: realClock,
    blobs,
    isSealed: true,
  });
  const server = httpServer({
    gateway: sealedGateway(states, jobId, file),
    blobs,
    trees: treeKeeper({ blobs, clock: realClock, rememberMs: 0 }),
    names: memoryRefs(),
    actions: memoryActions({ blobs, clock: realClock }),
    token,
    clock: realClock,
    log: stderrLog("inspect"),
    inspector: { ...inspector, policy: pagePolicy },
    acceptUpgrade: (_, socket) => void socket.destroy(),
  });
  const close = async (): Promise<void> => {
    inspector.close();
    server.close();
    server.closeAllConnections();
    await states.close();
    await blobs.close();
  };
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => reject(listenFault(host, port, cause)));
    server.listen({ host, port }, resolve);
  }).catch(async (thrown) => {
    await close();
    throw thrown;
  });
  const { port: bound } = server.address() as AddressInfo;
  return {
    address: `http://${host}:${bound}/#token=${viewTokenOf(token)}`,
    jobId,
    close,
  };
}

/** The steps in a file, as states that can be looked at. */
async function statesIn(file: string, blobs: Blobs): Promise<{ readonly states: States; readonly jobId: JobId }> {
  const refuse = (why: string, cause?: unknown): Fault =>
    new Fault("REQUEST_INVALID", `Cannot open ${file} as ${why}`, { cause });
  const entries: Entry[] = [];
  try {
    if (!(await stat(file)).isFile()) throw refuse("it must be a file that job export wrote");
    const root = await importSealed({ stream: createReadStream(file), blobs });
    for await (const entry of (await readTree({ blobs, root })).entries) {
      const { seq, epoch, ...past } = entry;
      entries.push({ ...parsePastEntry(past), seq, epoch } as Entry);
    }
  } catch (thrown) {
    // Neither is a store of ours harmed, nor was one made by a newer version.
    if (isFault(thrown, "STORE_CORRUPT") || isFault(thrown, "STORE_NEWER")) throw refuse(thrown.message, thrown);
    throw asFault(thrown, `Cannot open ${file}`);
  }
  const addresses = [...new Set(entries.map(({ address }) => address))];
  const jobs = addresses.filter((address) => kindOf(address) === "job");
  const jobId = jobs.length === 1 ? nameOf(jobs[0]!) as JobId : undefined;
  if (jobId === undefined) throw refuse(`it must hold one job: it holds ${jobs.length}`);
  parse(jobIdSchema, "the job's id", jobId);
  for (const address of addresses) {
    if (address === jobAddress(jobId)) continue;
    parse(taskIdSchema, "a task's id", nameOf(address));
    if (!address.startsWith(`task/${jobId}/`)) throw refuse(`all in it must be of job ${jobId}: ${address} is not`);
  }
  if (new Set(entries.map(({ seq }) => seq)).size < entries.length) {
    throw refuse("each of its steps must have a number of its own: two have the same");
  }
  for (const { address, state } of entries) {
    try {
      checkState(jobId, { address, state: state as State | null });
    } catch (cause) {
      throw refuse("its states must be those of a job and its tasks: one is not", cause);
    }
  }
  const states = memoryStates();
  await states.commit(closed(entries));
  return { states, jobId };
}

/**
 * Entries numbered from 1 without gaps, in their order: each is a moment. Messages from within keep who said them; those
 * of actors that are not here are known by their type alone.
 */
function closed(entries: readonly Entry[]): readonly Entry[] {
  const sorted = [...entries].sort((a, b) => a.seq - b.seq);
  const numbers = new Map(sorted.map(({ seq }, index) => [seq, index + 1]));
  const renamed = (id: string): string => {
    const [, seq, place] = /^([0-9]+)\.([0-9]+)$/.exec(id) ?? [];
    return seq === undefined ? id : `${numbers.get(Number(seq)) ?? 0}.${place}`;
  };
  return sorted.map((entry) => ({
    ...entry,
    seq: numbers.get(entry.seq)!,
    cause: { ...entry.cause, id: renamed(entry.cause.id) },
    said: entry.said.map((message) => ({ ...message, id: renamed(message.id) })),
  }));
}

/** Answers what can be told of a job that has ended; there is nobody to do anything. */
function sealedGateway(states: States, sealed: JobId, file: string): Gateway {
  const nobody = (): never => {
    throw new Fault("READ_ONLY", `Cannot do that as this is the file of a job, and no cluster: ${sealed} has ended`);
  };
  const stateOf = async (address: Address): Promise<State | undefined> =>
    (await states.get(address))?.state as State | undefined;
  const needSealed = async (jobId: JobId): Promise<State> => {
    const state = jobId === sealed ? await stateOf(jobAddress(jobId)) : undefined;
    if (state !== undefined) return state;
    throw new Fault("JOB_UNKNOWN", `Cannot find job ${jobId}: this is the file of ${sealed}`);
  };
  return {
    attachScheduler: nobody,
    attachClient: nobody,
    attachWorker: nobody,
    submit: async () => await Promise.resolve(nobody()),
    accept: async () => await Promise.resolve(nobody()),
    acceptTask: async () => await Promise.resolve(nobody()),
    async ask(question): Promise<Answer> {
      if (question.type === "job.list") return { type: "job.views", jobs: [jobView(await needSealed(sealed))] };
      if (question.type !== "job.get") return nobody();
      const { jobId, tasksFrom = 0 } = question;
      const job = jobView(await needSealed(jobId));
      const end = Math.min(job.tasks, tasksFrom + tasksPerPage);
      const tasks = [];
      for (let place = tasksFrom; place < end; place++) {
        const state = await stateOf(taskAddress(taskId(jobId, place)));
        if (state !== undefined) tasks.push(taskView(state));
      }
      const { lastSeq } = await states.bounds();
      return { type: "job.view", seq: lastSeq, job, tasks, ...(end < job.tasks ? { next: end } : {}) };
    },
    watch: nobody,
    watchTask: nobody,
    follow: nobody,
    async *exportJob(jobId) {
      await needSealed(jobId);
      yield* createReadStream(file);
    },
    importJob: async () => await Promise.resolve(nobody()),
    leases: nobody,
    needSpace: nobody,
    hasScheduler: false,
    close: () => {},
  };
}
