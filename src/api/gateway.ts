import type { Digest } from "../domain/digest.ts";
import { emptyDigest } from "../domain/digest.ts";
import { asFault, Fault, type FaultData, faultData } from "../domain/fault.ts";
import { checkGraph } from "../domain/graph.ts";
import type { JobId, TaskId } from "../domain/ids.ts";
import type { Log } from "../observability/log.ts";
import {
  type Answer,
  type ClientRequest,
  type EncodedJob,
  type JobSpec,
  parseFromClient,
  parseToPassOn,
  type Push,
  requestIdOf,
  type SchedulerRequest,
  type TaskSpec,
  type TaskView,
} from "../protocol/client_messages.ts";
import { encodeAction, encodeCommand, segmentFlaw } from "../protocol/reapi/canonical.ts";
import type { Clock } from "../runtime/clock.ts";
import { type Blobs, digestOf } from "../snapshots/blobs/blobs.ts";
import type { TreeKeeper } from "../snapshots/lease.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { checkOutputs } from "../snapshots/trees/outputs.ts";
import type { Connection } from "../transport/transport.ts";
import type { Change } from "./client.ts";
import { cachesOf } from "./caches.ts";
import { type EncodedInput, encodeInput, tasksNeededBy } from "./inputs.ts";
import { jobFiles, type SealedJobs } from "./job_files.ts";
import { createLink } from "./link.ts";
import { createOutputs, type FollowRequest, type OutputPiece } from "./output.ts";
import { makeTrees } from "./tree_maker.ts";
import { type Accepted, acceptTask, readTask, watchJob, type WatchOptions } from "./watch.ts";

export interface GatewayOptions {
  readonly blobs: Blobs;
  /** Of the same store: the inputs of what is accepted are whole, and stay. */
  readonly trees: TreeKeeper;
  /** Snapshots by name. */
  readonly names: Pick<Refs, "get">;
  readonly sealed: SealedJobs;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether there is room on the disk for new work. */
  readonly hasSpace: () => boolean;
  /** Whether the store is over its budget though nothing of it may go; never, if absent. */
  readonly isFull?: () => boolean;
  /** How long requests wait while the scheduler is away; 45,000 ms by default. */
  readonly waitMs?: number;
}

export type Lease = Extract<Answer, { type: "task.leases" }>["leases"][number];

/** What a client's request may be that is answered once. */
export type Question = Extract<
  ClientRequest,
  {
    type:
      | "job.get"
      | "job.list"
      | "job.kill"
      | "job.why"
      | "worker.list"
      | "worker.offline"
      | "worker.reinstate"
      | "cluster.get"
      | "settings.get"
      | "settings.set";
  }
>;

/**
 * Where clients come in: checks what they send, stores what tasks are made of, asks the scheduler, passes on what it says
 * and what tasks write. It keeps nothing: kill it, and clients go on with the next one where they stood.
 */
export interface Gateway {
  /** The newest connection is spoken on; what waited for one is asked now. */
  attachScheduler(connection: Connection): void;
  /** A client's connection, from any transport. Call, as the others, in the turn in which it was handed over. */
  attachClient(connection: Connection): void;
  /** A worker's connection, for the output of what it runs. */
  attachWorker(connection: Connection): void;

  /**
   * @throws {Fault} `JOB_INVALID`, `PATH_INVALID` (an output outside of the task's folder), `SNAPSHOT_UNKNOWN` naming the
   *   input that is not in the store, `NO_SPACE`, `DRAINING`, `PEER_UNREACHABLE`.
   */
  submit(job: JobSpec): Promise<{ readonly jobId: JobId; readonly existing: boolean }>;
  /**
   * A job whose commands are stored already. The same key twice is one job.
   *
   * @throws {Fault} `JOB_INVALID`, `NO_SPACE`, `LIMIT_EXCEEDED`, `DRAINING`, `PEER_UNREACHABLE`.
   */
  accept(job: EncodedJob): Promise<{ readonly jobId: JobId; readonly existing: boolean }>;
  /**
   * The same, of one task, which is read from then on. Goes on over restarts of the scheduler.
   *
   * @param signal ends the reading; the job goes on.
   */
  acceptTask(job: EncodedJob, signal: AbortSignal): Promise<Accepted>;
  /** @throws {Fault} what the scheduler answers with, `PEER_UNREACHABLE`. */
  ask(question: Question): Promise<Answer>;
  /** Every change of the job, past ones first; ends after its last. Goes on over restarts of the scheduler. */
  watch(jobId: JobId, options?: WatchOptions): AsyncIterable<Change>;
  /** One task as it is, then that it runs, and its end, which is the last. Goes on over restarts of the scheduler. */
  watchTask(taskId: TaskId, signal?: AbortSignal): AsyncIterable<TaskView>;
  follow(request: FollowRequest, signal?: AbortSignal): AsyncIterable<OutputPiece>;
  /**
   * A job that has ended, with all that it is made of, as a file.
   *
   * @throws {Fault} `JOB_UNKNOWN`; `REQUEST_INVALID` for a job that still runs, and where its history cannot be read.
   */
  exportJob(jobId: JobId): AsyncIterable<Uint8Array>;
  /**
   * Takes in such a file. The same one twice is one job.
   *
   * @throws {Fault} `REQUEST_INVALID` for a file that is harmed or of another version, and for a job that cannot be here:
   *   nothing is seen of it then; `NO_SPACE`.
   */
  importJob(stream: AsyncIterable<Uint8Array>): Promise<{ readonly jobId: JobId; readonly existing: boolean }>;
  /** What must not be collected, as the scheduler knows of it. @throws {Fault} `PEER_UNREACHABLE` */
  leases(): AsyncIterable<Lease>;
  /** @throws {Fault} `NO_SPACE`. */
  needSpace(what: string): void;
  readonly hasScheduler: boolean;
  /** Ends all connections; what waits fails with `CANCELLED`. */
  close(): void;
}

/** Requests that wait for the scheduler, of all clients. */
const requestsMax = 20_000;
/** Of one client: at more, nothing further is read from it. */
const requestsPerClientMax = 500;
const watchesPerClientMax = 1_000;
const followsPerClientMax = 200;
/** Pushes to a client wait while so much has not left. */
const unsentBytesMax = 1024 * 1024;

export function createGateway(options: GatewayOptions): Gateway {
  const { blobs, trees, clock, log } = options;
  const scheduler = createLink<SchedulerRequest>({
    clock,
    parse: parseToPassOn,
    peer: "the scheduler",
    advice: "It restarts by itself when it can: see what its log says, then try again.",
    waitMs: options.waitMs ?? 45_000,
    requestsMax,
  });
  const endTrees = makeTrees({ scheduler, blobs, trees, clock, log });
  const outputs = createOutputs({ scheduler, blobs });
  const files = jobFiles({ sealed: options.sealed, blobs, ask: scheduler.ask });
  const clients = new Set<Connection>();

  const needSpace = (what: string): void => {
    if (!options.hasSpace()) {
      throw new Fault(
        "NO_SPACE",
        `Cannot take ${what} as at least 5 % of the disk must be free: free some, then try again`,
      );
    }
    if (options.isFull?.() === true) {
      const advice = "name less, give it more (cluster --max-size), or try again later";
      throw new Fault(
        "NO_SPACE",
        `Cannot take ${what} as the store must be within its budget, and nothing of it may go yet: ${advice}`,
      );
    }
  };

  /** The job as the scheduler takes it, with the blobs that its tasks are made of in the store. */
  const encode = async (job: JobSpec): Promise<EncodedJob> => {
    const made = new Map<Digest, Uint8Array>();
    const make = (bytes: Uint8Array): Digest => {
      const digest = digestOf(bytes);
      made.set(digest, bytes);
      return digest;
    };
    /** Many tasks of a job have one input. */
    const known = new Map<string, EncodedInput>();
    const inputOf = async (task: TaskSpec): Promise<EncodedInput> => {
      const key = JSON.stringify([task.input, task.inputs]);
      const input = known.get(key) ?? await encodeInput(task, { blobs, trees, names: options.names });
      known.set(key, input);
      return input;
    };
    const tasks: EncodedJob["tasks"] = [];
    for (const task of job.tasks) {
      const { argv, env, outputs, inputs: _inputs, ...rest } = task;
      const caches = cachesOf(task);
      const properties = Object.entries(task.platform).map(([name, value]) => ({ name, value }));
      for (const path of outputs) checkOutput(task.name, path);
      const command = make(encodeCommand({ argv, env, outputs, platform: properties, workingDirectory: "" }));
      const input = await inputOf(task);
      if (input.kind === "empty" || input.kind === "snapshot") {
        const inputRoot = input.kind === "snapshot" ? input.snapshot : emptyDigest;
        make(encodeAction({ command, inputRoot, timeoutMs: task.timeoutMs, doNotCache: false, platform: properties }));
      }
      tasks.push({ ...rest, ...caches, input, command });
    }
    const missing = await blobs.missing(new Set(made.keys()));
    await Promise.all([...made].map(([digest, bytes]) => missing.has(digest) ? blobs.put(digest, bytes) : undefined));
    return { ...job, tasks };
  };

  const gateway: Gateway = {
    attachScheduler: scheduler.attach,
    attachWorker: outputs.attachWorker,
    attachClient(connection) {
      clients.add(connection);
      void connection.closed.then(() => clients.delete(connection));
      serveClient(gateway, connection, clock, log);
    },
    async submit(job) {
      checkGraph(job.tasks.map((task) => ({ name: task.name, needs: tasksNeededBy(task) })));
      needSpace("a job");
      return await gateway.accept(await encode(job));
    },
    async accept(job) {
      needSpace("a job");
      const answer = await scheduler.ask({ type: "job.accept", job });
      if (answer.type !== "job.accepted") throw unexpected(answer);
      return { jobId: answer.jobId, existing: answer.existing };
    },
    async acceptTask(job, signal) {
      needSpace("a job");
      return await acceptTask(scheduler, job, signal);
    },
    ask: scheduler.ask,
    watch: (jobId, watchOptions) => watchJob(scheduler, jobId, watchOptions),
    watchTask: (taskId, signal) => readTask(scheduler, taskId, signal),
    follow: outputs.follow,
    exportJob: files.export,
    async importJob(stream) {
      needSpace("a job");
      return await files.import(stream);
    },
    async *leases() {
      let after: string | undefined;
      do {
        const answer = await scheduler.ask({ type: "task.leases", ...(after === undefined ? {} : { after }) });
        if (answer.type !== "task.leases") throw unexpected(answer);
        yield* answer.leases;
        after = answer.next;
      } while (after !== undefined);
    },
    needSpace,
    get hasScheduler() {
      return scheduler.isConnected;
    },
    close() {
      endTrees();
      scheduler.close();
      for (const connection of clients) connection.close();
    },
  };
  return gateway;
}

/** One client's conversation with the gateway. */
function serveClient(gateway: Gateway, connection: Connection, clock: Clock, log: Log): void {
  let isGone = false;
  const watches = new Map<number, AbortController>();
  const follows = new Map<number, AbortController>();
  let open = 0;
  let resume = (): void => {};
  void connection.closed.then(() => {
    isGone = true;
    for (const stop of [...watches.values(), ...follows.values()]) stop.abort();
  });

  const send = (body: Answer | Push, re?: number): void =>
    connection.send({ ...(re === undefined ? {} : { re }), sentAtMs: clock.now(), body });
  const told = (thrown: unknown): FaultData => {
    const fault = asFault(thrown);
    if (fault.code !== "INTERNAL") return bounded(fault);
    log.error("Cannot answer a client", { error: fault });
    return { code: "INTERNAL", message: "Cannot answer: see the gateway's log" };
  };
  const answer = (re: number, body: Answer): void => {
    try {
      send(body, re);
    } catch (thrown) {
      send({ type: "fault", fault: told(thrown) }, re); // too long for a frame
    }
  };

  /** Passes on what comes, as fast as the client takes it, until it ends, is stopped, or the client has gone. */
  const passOn = async <Item>(
    streams: Map<number, AbortController>,
    id: number,
    open: (signal: AbortSignal) => AsyncIterable<Item>,
    give: (item: Item) => void,
    end: (fault?: FaultData) => void,
  ): Promise<void> => {
    const stop = new AbortController();
    if (isGone) return;
    streams.set(id, stop);
    try {
      for await (const item of open(stop.signal)) {
        give(item);
        if (connection.bufferedBytes > unsentBytesMax) await connection.drained();
      }
      end();
    } catch (thrown) {
      if (!stop.signal.aborted) end(told(thrown));
    } finally {
      if (streams.get(id) === stop) streams.delete(id);
    }
  };
  const admit = (streams: Map<number, AbortController>, id: number, max: number, what: string): void => {
    if (streams.has(id)) {
      throw new Fault("REQUEST_INVALID", `Cannot begin ${what} ${id} as its number must be new: it is in use`);
    }
    if (streams.size >= max) {
      throw new Fault("REQUEST_INVALID", `Cannot begin ${what} as a client may have ${max}: so many are open`);
    }
  };
  const watch = ({ watch: id, jobId, afterSeq, tasks }: Extract<ClientRequest, { type: "job.watch" }>): void => {
    const give = (change: Change): void => {
      const { seq, atMs } = change;
      send(
        change.kind === "job"
          ? { type: "job.changed", watch: id, seq, atMs, job: change.job }
          : { type: "task.changed", watch: id, seq, atMs, task: change.task },
      );
    };
    void passOn(
      watches,
      id,
      (signal) => gateway.watch(jobId, { afterSeq, tasks, signal }),
      give,
      (fault) => send({ type: "watch.end", watch: id, ...(fault === undefined ? {} : { fault }) }),
    );
  };
  const follow = (id: number, request: FollowRequest): void => {
    let end = { offset: request.offset, truncatedBytes: 0, why: "" };
    const give = (piece: OutputPiece): void => {
      if (piece.kind === "end") end = { offset: piece.offset, truncatedBytes: piece.truncatedBytes, why: piece.why };
      else send({ type: "output.chunk", follow: id, attempt: piece.attempt, offset: piece.offset, bytes: piece.bytes });
    };
    void passOn(
      follows,
      id,
      (signal) => gateway.follow(request, signal),
      give,
      (fault) => send({ type: "output.end", follow: id, ...end, ...(fault === undefined ? {} : { fault }) }),
    );
  };

  const handle = async (request: ClientRequest): Promise<Answer> => {
    switch (request.type) {
      case "job.submit":
        return { type: "job.accepted", ...await gateway.submit(request.job) };
      case "job.watch":
        admit(watches, request.watch, watchesPerClientMax, "watch");
        watch(request);
        return { type: "done" };
      case "job.unwatch":
        watches.get(request.watch)?.abort();
        return { type: "done" };
      case "output.follow":
        admit(follows, request.follow, followsPerClientMax, "follow");
        follow(request.follow, request);
        return { type: "done" };
      case "output.stop":
        follows.get(request.follow)?.abort();
        return { type: "done" };
      default:
        return await gateway.ask(request);
    }
  };

  connection.onMessage((input) => {
    const id = requestIdOf(input);
    // Without an id nobody could be answered: then the connection ends with the fault.
    if (id === undefined) {
      parseFromClient(input);
      throw new Fault("REQUEST_INVALID", "Cannot take a message as a request must have an id");
    }
    let request: ClientRequest;
    try {
      request = parseFromClient(input).body;
    } catch (thrown) {
      return answer(id, { type: "fault", fault: told(thrown) });
    }
    open++;
    void handle(request).then(
      (body) => answer(id, body),
      (thrown) => answer(id, { type: "fault", fault: told(thrown) }),
    ).finally(() => {
      if (open-- === requestsPerClientMax) resume();
    });
    return open < requestsPerClientMax ? undefined : new Promise<void>((resolve) => resume = resolve);
  });
}

/** A fault's message as the protocol bounds it. */
const bounded = (fault: Fault): FaultData => ({ ...faultData(fault), message: fault.message.slice(0, 10_000) });

/** @throws {Fault} `PATH_INVALID` for a path or glob that cannot lead to something inside of the task's folder. */
function checkOutput(task: string, path: string): void {
  const refuse = (must: string): never => {
    throw new Fault(
      "PATH_INVALID",
      `Cannot accept the job as an output of task "${task}" must ${must}: current value is "${path.slice(0, 200)}"`,
    );
  };
  if (path.startsWith("/")) refuse("be relative to its folder");
  for (const segment of path.split("/")) {
    if (segment === "" || segment === ".") continue;
    const flaw = segmentFlaw(segment);
    if (flaw !== undefined) refuse(segment === ".." ? "stay inside of its folder" : `be a path whose names ${flaw}`);
  }
  try {
    checkOutputs([path]);
  } catch {
    refuse("match something"); // what else it could be is told above
  }
}

export const unexpected = (answer: Answer): Fault =>
  new Fault("INTERNAL", `Cannot read the scheduler's answer: it is a ${answer.type}`);
