import { parseSettings } from "../../src/protocol/settings.ts";
import { join } from "node:path";
import type { Change, Client } from "../../src/api/client.ts";
import type { ActionView } from "../../src/api/http_actions.ts";
import { Fault, type FaultCode } from "../../src/domain/fault.ts";
import { type JobId, jobId, taskId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import { emptyDigest } from "../../src/domain/digest.ts";
import type { Facts } from "../../src/cli/diagnosis.ts";
import { program } from "../../src/cli/program.ts";
import { localTrees } from "../../src/cli/trees.ts";
import { OutputClosed, type Sink, type Target, type World } from "../../src/cli/world.ts";
import type { ClusterView, JobSpecInput, JobView, TaskView, WorkerView } from "../../src/protocol/client_messages.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { treeKeeper } from "../../src/snapshots/lease.ts";
import { memoryRefs } from "../../src/snapshots/refs/memory.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";

export const fakeJobId = jobId("j01k3x9q7fa-0004m2");

export interface FakeSink extends Sink {
  readonly bytes: () => Uint8Array;
  readonly text: () => string;
  /** From now on nobody reads. */
  close(): void;
  /** Resolves when the text holds this. */
  holds(part: string): Promise<void>;
}

export function fakeSink(options: { readonly isTerminal?: boolean; readonly columns?: number } = {}): FakeSink {
  const chunks: Uint8Array[] = [];
  const waiting = new Set<() => void>();
  let isClosed = false;
  const text = (): string => Buffer.concat(chunks).toString("utf8");
  return {
    isTerminal: options.isTerminal ?? false,
    columns: options.columns ?? 80,
    bytes: () => Buffer.concat(chunks),
    text,
    close: () => void (isClosed = true),
    write(given) {
      if (isClosed) return Promise.reject(new OutputClosed());
      chunks.push(typeof given === "string" ? Buffer.from(given) : given.slice());
      for (const look of waiting) look();
      return Promise.resolve();
    },
    holds: (part) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!text().includes(part)) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
  };
}

/** A list that grows, read by any number of readers from its start, to its end. */
function growing<Item>() {
  const items: Item[] = [];
  const waiting = new Set<() => void>();
  let isEnded = false;
  const wake = (): void => {
    for (const each of [...waiting]) each();
  };
  return {
    push(item: Item): void {
      items.push(item);
      wake();
    },
    end(): void {
      isEnded = true;
      wake();
    },
    async *read(signal?: AbortSignal): AsyncGenerator<Item> {
      for (let at = 0;; at++) {
        while (at >= items.length && !isEnded) {
          signal?.throwIfAborted();
          await new Promise<void>((resolve) => {
            const done = (): void => {
              waiting.delete(done);
              signal?.removeEventListener("abort", done);
              resolve();
            };
            waiting.add(done);
            signal?.addEventListener("abort", done);
          });
        }
        if (at >= items.length) return;
        yield items[at]!;
      }
    },
  };
}

const fakeUsage = {
  maxBytes: 20e9,
  limitBytes: 20e9,
  bytes: 5e9,
  blobs: { count: 10, bytes: 4e9 },
  actions: { entries: 2, bytes: 1_000 },
  statesBytes: 1e9,
  freeBytes: 80e9,
  guaranteedAgeMs: 3_600_000,
  isFull: false,
};

export const fakeSettings = { policy: { classes: [{ name: "all", percent: 100 }], requestors: [] } };

/** A cluster of one job, moved by the test. */
export interface FakeCluster {
  readonly client: Client;
  /** What was asked, in order: "submit", "kill: reason", "close". */
  readonly calls: readonly string[];
  /** What a job's file is, chunk by chunk; a fault breaks it off there. */
  readonly exported: (string | Fault)[];
  readonly submitted: () => JobSpecInput | undefined;
  write(stream: "stdout" | "stderr", bytes: string | Uint8Array): void;
  /** Ends the task and its job. */
  settle(outcome: Outcome): void;
  /** Every kill ends the task, as a worker does; off for one that takes its time. */
  killsEnd: boolean;
  /** The next submit fails so. */
  refuse(code: FaultCode, message: string): void;
  /** Every watch fails with it. */
  lose(code: FaultCode, message: string): void;
  /** From now on it does not answer whoever connects. */
  silence(): void;
  speak(): void;
  task(change: Partial<TaskView>): void;
  readonly jobs: JobView[];
  readonly workers: WorkerView[];
  /** Results that it keeps. */
  readonly kept: ActionView[];
}

const clusterView: ClusterView = {
  version: "1.2.3",
  epoch: 1,
  state: "open",
  startedAtMs: 0,
  workers: 0,
  slots: 0,
  busy: 0,
  queued: 0,
  jobs: 0,
};

export function fakeCluster(): FakeCluster {
  const calls: string[] = [];
  const exported: (string | Fault)[] = ["a sealed ", "job"];
  const changes = growing<Change>();
  const streams = { stdout: growing<Uint8Array>(), stderr: growing<Uint8Array>() };
  const blobs = memoryBlobs();
  const names = memoryRefs();
  const jobs: JobView[] = [];
  const workers: WorkerView[] = [];
  const kept: ActionView[] = [];
  let submitted: JobSpecInput | undefined;
  let refusal: Fault | undefined;
  let loss: Fault | undefined;
  let answer: () => void = () => {};
  let greeting: Promise<ClusterView> = Promise.resolve(clusterView);
  let seq = 0;
  let job: JobView = {
    jobId: fakeJobId,
    state: "running",
    requestor: "",
    tag: "",
    priority: 0,
    createdAtMs: 0,
    tasks: 1,
    settled: { succeeded: 0, failed: 0, skipped: 0, killed: 0 },
    why: "its task runs",
  };
  let task: TaskView = {
    taskId: taskId(fakeJobId, 0),
    name: "fake",
    state: "queued",
    command: emptyDigest,
    timeoutMs: 1_800_000,
    attempts: [],
    why: "no worker has a free slot",
  };
  const known = (id: JobId): void => {
    if (id !== fakeJobId) throw new Fault("JOB_UNKNOWN", `Cannot find job ${id}: this cluster does not have it`);
  };
  const self: FakeCluster = {
    calls,
    exported,
    jobs,
    workers,
    kept,
    killsEnd: true,
    submitted: () => submitted,
    silence() {
      greeting = new Promise((resolve) => answer = () => resolve(clusterView));
    },
    speak: () => answer(),
    refuse: (code, message) => void (refusal = new Fault(code, message)),
    lose: (code, message) => void (loss = new Fault(code, message)),
    write: (stream, bytes) => streams[stream].push(typeof bytes === "string" ? Buffer.from(bytes) : bytes),
    task(change) {
      task = { ...task, ...change };
      changes.push({ kind: "task", seq: ++seq, atMs: seq, task });
    },
    settle(outcome) {
      self.task({ state: "settled", outcome, why: "it ended" });
      const isDone = outcome.kind === "exited" && outcome.exitCode === 0;
      job = {
        ...job,
        state: isDone ? "succeeded" : outcome.kind === "killed" ? "cancelled" : "failed",
        why: "its task ended",
      };
      changes.push({ kind: "job", seq: ++seq, atMs: seq, job });
      changes.end();
      streams.stdout.end();
      streams.stderr.end();
    },
    client: {
      url: "http://127.0.0.1:9090",
      blobs,
      names,
      holds: async (snapshot) => {
        calls.push("holds");
        return (await treeKeeper({ blobs, clock: realClock, rememberMs: 0 }).keep(snapshot)).length === 0;
      },
      store: {
        usage: () => Promise.resolve(fakeUsage),
        collect: ({ dryRun = false } = {}) => {
          calls.push(`collect: ${dryRun}`);
          return Promise.resolve({
            isDryRun: dryRun,
            before: fakeUsage,
            after: fakeUsage,
            goes: { count: 3, bytes: 4_096, newestUseAtMs: 1_735_689_600_000 },
            results: 1,
            orphans: { count: 0, bytes: 0 },
            stays: [{ why: "named", count: 7, bytes: 1_000 }],
            unreadTrees: 0,
            tookMs: 1,
          });
        },
      },
      actions: {
        async show(of) {
          const found = kept.find((each) =>
            "task" in of ? each.made.taskId === of.task || each.usedBy.includes(of.task) : each.action === of.action
          );
          if (found === undefined) throw new Fault("ACTION_UNKNOWN", "Cannot find a kept result");
          return await Promise.resolve(found);
        },
        async *list({ limit } = {}) {
          yield* await Promise.resolve(kept.slice(0, limit));
        },
        async *revoke({ workerId, sinceMs }) {
          await Promise.resolve();
          for (const each of [...kept]) {
            if (each.made.workerId !== workerId || each.made.atMs < sinceMs) continue;
            kept.splice(kept.indexOf(each), 1);
            const { instance, action, made, usedBy } = each;
            yield { type: "revoked", instance, action, made, usedBy };
          }
        },
      },
      submit(given) {
        calls.push("submit");
        if (refusal !== undefined) return Promise.reject(refusal);
        submitted = given;
        return Promise.resolve({ jobId: fakeJobId, existing: false });
      },
      async job(id) {
        known(id);
        return await Promise.resolve({ job, tasks: [task] });
      },
      jobs: ({ limit = 20, before, state } = {}) => {
        const from = before === undefined ? 0 : jobs.findIndex((each) => each.jobId === before) + 1;
        return Promise.resolve(
          jobs.slice(from).filter((each) => state === undefined || each.state === state).slice(0, limit),
        );
      },
      async kill(id, reason) {
        known(id);
        calls.push(`kill: ${reason}`);
        if (self.killsEnd) self.settle({ kind: "killed", reason });
        await Promise.resolve();
      },
      async why(id, { atMs } = {}) {
        known(id);
        calls.push(`why: ${atMs}`);
        const job = await this.job(id);
        const cause = { seq: 7, atMs: 0, event: "task.placed", from: "scheduler", reason: "w1 is the only worker" };
        return {
          type: "job.why",
          seq: 9,
          atMs: 0,
          job: job.job,
          jobCause: { seq: 1, atMs: 0, event: "job.create", from: "member/gateway" },
          tasks: job.tasks.map((task) => ({ task, cause })),
          more: 2,
        };
      },
      async offline(workerId, reason) {
        calls.push(`offline ${workerId}: ${reason}`);
        await Promise.resolve();
      },
      async reinstate(workerId, reason) {
        calls.push(`reinstate ${workerId}: ${reason}`);
        await Promise.resolve();
      },
      settings: () => Promise.resolve(parseSettings(fakeSettings)),
      async setSettings(settings, reason) {
        calls.push(`set: ${reason}: ${JSON.stringify(settings.limits)}`);
        await Promise.resolve();
      },
      async *watch(id, { signal } = {}) {
        known(id);
        if (loss !== undefined) throw loss;
        yield* changes.read(signal);
      },
      async *follow(_, stream, { signal } = {}) {
        yield* streams[stream].read(signal);
      },
      async *exportJob(id) {
        known(id);
        for (const part of exported) {
          if (part instanceof Fault) throw part;
          yield Buffer.from(part);
        }
        await Promise.resolve();
      },
      async importJob(file) {
        const parts: Uint8Array[] = [];
        for await (const part of file) parts.push(part);
        calls.push(`import: ${Buffer.concat(parts)}`);
        if (refusal !== undefined) throw refusal;
        return { jobId: fakeJobId, existing: calls.filter((call) => call.startsWith("import")).length > 1 };
      },
      workers: () => Promise.resolve(workers),
      cluster: () => greeting,
      close() {
        calls.push("close");
        return Promise.resolve();
      },
    },
  };
  return self;
}

export interface FakeWorld extends World {
  readonly stdout: FakeSink;
  readonly stderr: FakeSink;
  /** As the system does. */
  signal(name: "SIGINT" | "SIGTERM" | "SIGHUP"): void;
  readonly targets: Target[];
  /** What was run in its terminal. */
  readonly ran: Parameters<World["runHere"]>[0][];
}

export interface FakeWorldOptions {
  readonly cluster?: FakeCluster;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly isTerminal?: boolean;
  readonly userDir?: string;
  readonly clock?: World["clock"];
  readonly processes?: World["processes"];
  readonly facts?: Facts;
  readonly watchFolder?: World["watchFolder"];
  /** What running a program does; exits 0 by default. */
  readonly runHere?: World["runHere"];
}

/** A machine that lacks nothing but isolation. */
export const fakeFacts: Facts = {
  runtime: { name: "Node", version: "24.1.0" },
  version: "1.2.3",
  isRoot: false,
  dataDir: "/data",
  disk: { freeBytes: 50e9, totalBytes: 100e9, isMemory: false },
  openFilesMax: 1_048_576,
  processesMax: Infinity,
  watchesMax: 100_000,
  userNamespacesMax: 10_000,
  hasCgroups: true,
  hasShell: true,
  isPortTaken: false,
  nowMs: Date.UTC(2026, 0, 31, 12),
  cluster: undefined,
};

/** A world whose cluster is found at once, and whose folders are real but the test's own. */
export function fakeWorld(options: FakeWorldOptions = {}): FakeWorld {
  const home = temporaryFolder();
  const cluster = options.cluster ?? fakeCluster();
  const listeners = new Set<(signal: "SIGINT" | "SIGTERM" | "SIGHUP") => void>();
  const env = {
    SCOOT_CLUSTER: "http://127.0.0.1:9090",
    XDG_CACHE_HOME: join(home, "cache"),
    HOME: home,
    ...options.env,
  };
  const targets: Target[] = [];
  const ran: Parameters<World["runHere"]>[0][] = [];
  let chance = 0;
  return {
    env,
    targets,
    ran,
    temporaryFolder,
    facts: () => Promise.resolve(options.facts ?? fakeFacts),
    watchFolder: options.watchFolder ?? (() => () => {}),
    async runHere(program) {
      ran.push(program);
      return await options.runHere?.(program) ?? 0;
    },
    userDir: options.userDir ?? home,
    stdout: fakeSink(options),
    stderr: fakeSink(options),
    stdin: (async function* () {
      await Promise.resolve();
      yield Buffer.from(options.stdin ?? "");
    })(),
    clock: options.clock ?? manualClock(),
    runtimeFolder: join(home, "run"),
    processes: options.processes ?? { isAlive: () => false, commandLine: () => undefined, terminate: () => {} },
    randomHex: (bytes) => String(++chance).padStart(bytes * 2, "0"),
    onSignal(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    signal(name) {
      for (const listener of listeners) listener(name);
    },
    connect(target) {
      targets.push(target);
      return Promise.resolve(cluster.client);
    },
    trees: () => Promise.resolve(localTrees({ env, clock: realClock })),
  };
}

/** Types a line. */
export const type = (world: World, ...line: readonly string[]): Promise<number> => program(line, world);
