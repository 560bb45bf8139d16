import * as v from "valibot";
import type { Digest } from "../domain/digest.ts";
import { Fault } from "../domain/fault.ts";
import type { JobId, TaskId, WorkerId } from "../domain/ids.ts";
import type {
  Answer,
  ClientRequest,
  ClusterView,
  JobSpecInput,
  JobView,
  JobWhy,
  TaskView,
  WorkerView,
} from "../protocol/client_messages.ts";
import { parseAnswer } from "../protocol/client_messages.ts";
import { jobId as jobIdSchema, parse } from "../protocol/schema.ts";
import { parseSettings, type Settings, type SettingsInput } from "../protocol/settings.ts";
import { protocolVersion } from "../protocol/version.ts";
import { type Clock, realClock } from "../runtime/clock.ts";
import { type Random, randomHex, realRandom } from "../runtime/random.ts";
import type { Blobs } from "../snapshots/blobs/blobs.ts";
import type { Refs } from "../snapshots/refs/refs.ts";
import { keepDialing } from "../transport/redial.ts";
import type { Connection, DialOptions } from "../transport/transport.ts";
import { feed } from "./feed.ts";
import { type Actions, httpActions } from "./http_actions.ts";
import { canRestart, httpBlobs } from "./http_blobs.ts";
import { httpCalls } from "./http_calls.ts";
import { httpNames } from "./http_names.ts";
import { httpStore, type Store } from "./http_store.ts";
import { createLink } from "./link.ts";
import { watchJob, type WatchOptions } from "./watch.ts";

export type { WatchOptions };

/** A change of a job or of one of its tasks, in the order of `seq`. */
export type Change =
  | { readonly kind: "job"; readonly seq: number; readonly atMs: number; readonly job: JobView }
  | { readonly kind: "task"; readonly seq: number; readonly atMs: number; readonly task: TaskView };

export interface FollowOptions {
  /** In the stream of the attempt that is the newest when following begins. */
  readonly offset?: number;
  /**
   * Called before the first byte of another attempt than the one before: its stream begins anew. What the earlier one
   * wrote has been given, as far as it was heard.
   */
  readonly onAttempt?: (attempt: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * A cluster, as programs use it; the CLI is one. Connects when first used, and again whenever the connection ends: a
 * request that was cut is asked again (a submit by its key, so that it stays one job), a watch and a followed stream go on
 * where they were.
 */
export interface Client {
  /** Of the cluster's door, without a path: "http://127.0.0.1:9090". */
  readonly url: string;
  /** @throws {Fault} `JOB_INVALID` or `REQUEST_INVALID` with what is wrong, `NO_SPACE`, `DRAINING`. */
  submit(job: JobSpecInput): Promise<{ readonly jobId: JobId; readonly existing: boolean }>;
  /** @throws {Fault} `JOB_UNKNOWN`. */
  job(jobId: JobId): Promise<{ readonly job: JobView; readonly tasks: readonly TaskView[] }>;
  /** The newest first; `before` pages on. */
  jobs(
    options?: { readonly limit?: number; readonly before?: JobId; readonly state?: JobView["state"] },
  ): Promise<readonly JobView[]>;
  /** Resolves when the kill is decided; the job ends when its running tasks have. Killing an ended job does nothing. */
  kill(jobId: JobId, reason: string): Promise<void>;
  /** Every change, past ones first; ends after the job's last. @throws {Fault} `JOB_UNKNOWN`, `CANCELLED`. */
  watch(jobId: JobId, options?: WatchOptions): AsyncIterable<Change>;
  /** The bytes of a task's stream from `offset` on, live; ends when the task has settled and all was given. */
  follow(
    taskId: TaskId,
    stream: "stdout" | "stderr",
    options?: FollowOptions,
  ): AsyncIterable<Uint8Array>;
  /**
   * A job that has ended, with its history and all blobs that it names, as a file for {@link Client.importJob}.
   *
   * @throws {Fault} `JOB_UNKNOWN`; `REQUEST_INVALID` for a job that still runs; `PEER_UNREACHABLE` when it was cut off.
   */
  exportJob(jobId: JobId, options?: { readonly signal?: AbortSignal }): AsyncIterable<Uint8Array>;
  /**
   * Takes such a file into this cluster, where the job keeps its id and can be read as any that has ended.
   *
   * @param file chunks of any size; what can be read only once is not sent again when the connection is lost.
   * @returns `existing`: it was here already.
   * @throws {Fault} `REQUEST_INVALID` for a file that is harmed, or made by a newer version, or of a job that cannot be
   *   here: nothing is seen of it then; `NO_SPACE`.
   */
  importJob(
    file: AsyncIterable<Uint8Array>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<{ readonly jobId: JobId; readonly existing: boolean }>;
  /** Why the job and its tasks are as they are, or were at a time. @throws {Fault} `JOB_UNKNOWN`, `REQUEST_INVALID` */
  why(jobId: JobId, options?: { readonly atMs?: number }): Promise<JobWhy>;
  workers(): Promise<readonly WorkerView[]>;
  /** The worker is given nothing more until it is reinstated. @throws {Fault} `WORKER_UNKNOWN` */
  offline(workerId: WorkerId, reason: string): Promise<void>;
  reinstate(workerId: WorkerId, reason: string): Promise<void>;
  settings(): Promise<Settings>;
  /** All of them at once: what is not given has its default. @throws {Fault} `REQUEST_INVALID` naming limit and value. */
  setSettings(settings: SettingsInput, reason: string): Promise<void>;
  cluster(): Promise<ClusterView>;
  /** The cluster's blob store, over HTTP; small blobs travel in batches. */
  readonly blobs: Blobs;
  /** Results that are kept, over HTTP. */
  readonly actions: Actions;
  /** What the store takes, and what would go. */
  readonly store: Store;
  /** Named snapshots. */
  readonly names: Refs;
  /**
   * Whether the cluster has all of a snapshot, every folder and file, which then stays for the guaranteed age. One
   * question, cheap where it was asked of much the same not long ago. What is no tree it has not.
   */
  holds(snapshot: Digest, options?: { readonly signal?: AbortSignal }): Promise<boolean>;
  close(): Promise<void>;
}

export interface ClientOptions {
  /** Of the cluster's door: "http://127.0.0.1:9090". */
  readonly url: string;
  readonly token?: string;
  /**
   * Whether to speak the cluster's protocol over TCP at once, which starts sooner than a WebSocket does. For a cluster
   * whose own port the URL names; where something that speaks HTTP alone answers, a WebSocket is used after all.
   * False by default.
   */
  readonly isDirect?: boolean;
  /** How long everything waits while the cluster cannot be reached, before it fails with `PEER_UNREACHABLE`; 45,000 ms by default. */
  readonly waitMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** Requests without an answer at once. */
const requestsMax = 100_000;
/** Bytes of one followed stream that wait for their reader. */
const followBytesMax = 4 * 1024 * 1024;

/**
 * A client of the cluster at `url`. It connects when first used. The process does not end by itself before
 * {@link Client.close}.
 *
 * @throws {Fault} `USAGE_INVALID` for a URL that is none.
 */
export function connectClient(options: ClientOptions): Client {
  const { clock = realClock, random = realRandom, waitMs = 45_000, token } = options;
  const url = originOf(options.url);
  const advice = `Look whether the cluster at ${url} runs, and what its log says.`;
  const link = createLink<ClientRequest>({
    clock,
    parse: parseAnswer,
    peer: "the cluster",
    advice,
    waitMs,
    requestsMax,
  });
  const calls = httpCalls({ url, token, clock, random, waitMs, advice });
  const blobs = httpBlobs(calls);
  const stopping = new AbortController();
  let dialing: Promise<void> | undefined;

  const connect = (): void => {
    if (dialing !== undefined) return;
    let isDirect = options.isDirect === true && url.startsWith("http://");
    const hello = {
      protocol: "scoot-actors",
      version: protocolVersion,
      role: "client",
      memberId: `client-${randomHex(6)}`,
      incarnation: randomHex(8),
      ...(token === undefined ? {} : { token }),
    } as const;
    dialing = keepDialing({
      dial: (signal) => (isDirect ? dialTcp : dialWebSocket)(url, clock, { hello, signal }),
      onConnection: link.attach,
      // A wrong token or version is not cured by waiting.
      onTrouble(fault) {
        if (isDirect && (fault.code === "FRAME_TOO_LONG" || fault.code === "FRAME_INVALID")) isDirect = false;
        else if (fault.meaning.retry === "never") link.fail(fault);
      },
      clock,
      random,
      signal: stopping.signal,
    });
  };
  const ask = async <Type extends Answer["type"]>(
    type: Type,
    request: ClientRequest,
  ): Promise<Extract<Answer, { type: Type }>> => {
    connect();
    const answer = await link.ask(request);
    if (answer.type === type) return answer as Extract<Answer, { type: Type }>;
    throw new Fault(
      "INTERNAL",
      `Cannot read the cluster's answer as it must be a ${type}: current value is a ${answer.type}`,
    );
  };

  return {
    url,
    async submit(job) {
      const { jobId, existing } = await ask("job.accepted", {
        type: "job.submit",
        job: job as Extract<ClientRequest, { type: "job.submit" }>["job"],
      });
      return { jobId, existing };
    },
    async job(jobId) {
      let page = await ask("job.view", { type: "job.get", jobId });
      const tasks = [...page.tasks];
      while (page.next !== undefined) {
        page = await ask("job.view", { type: "job.get", jobId, tasksFrom: page.next });
        tasks.push(...page.tasks);
      }
      return { job: page.job, tasks };
    },
    async jobs({ limit = 100, before, state } = {}) {
      const { jobs } = await ask("job.views", {
        type: "job.list",
        limit,
        ...(before === undefined ? {} : { before }),
        ...(state === undefined ? {} : { state }),
      });
      return jobs;
    },
    async kill(jobId, reason) {
      await ask("done", { type: "job.kill", jobId, reason });
    },
    watch(jobId, watchOptions) {
      connect();
      return watchJob(link, jobId, watchOptions);
    },
    follow(taskId, stream, { offset = 0, onAttempt, signal } = {}) {
      connect();
      let position = offset;
      let attempt: number | undefined;
      const chunks = feed<{ readonly bytes: Uint8Array; readonly attempt: number; readonly isNew: boolean }>({
        weightMax: followBytesMax,
        onFull: () => subscribed.pause(),
        onEmpty: () => subscribed.resume(),
        onClose: () => subscribed.close(),
        signal,
      });
      const subscribed = link.subscribe({
        begin: (follow) => ({
          type: "output.follow",
          follow,
          taskId,
          stream,
          offset: position,
          ...(attempt === undefined ? {} : { attempt }),
        }),
        stop: (follow) => ({ type: "output.stop", follow }),
        hear(push) {
          if (push.type === "output.end") {
            return chunks.end(push.fault === undefined ? undefined : new Fault(push.fault.code, push.fault.message));
          }
          if (push.type !== "output.chunk") return;
          const isNew = attempt !== undefined && push.attempt !== attempt;
          attempt = push.attempt;
          position = push.offset + push.bytes.length;
          chunks.put({ bytes: push.bytes, attempt, isNew }, push.bytes.length);
        },
        failed: chunks.end,
      });
      return (async function* () {
        for await (const chunk of chunks) {
          if (chunk.isNew) onAttempt?.(chunk.attempt);
          yield chunk.bytes;
        }
      })();
    },
    async *exportJob(jobId, { signal } = {}) {
      const incoming = await calls.send({ method: "GET", path: `/v1/jobs/${jobId}/export`, signal });
      try {
        for await (const chunk of incoming) yield new Uint8Array(chunk as Uint8Array);
        if (!incoming.complete) throw new Error("it was cut off");
      } catch (thrown) {
        signal?.throwIfAborted();
        throw new Fault("PEER_UNREACHABLE", `Cannot read the file of job ${jobId}: ${(thrown as Error).message}`, {
          cause: thrown,
        });
      } finally {
        incoming.destroy();
      }
    },
    async importJob(file, { signal } = {}) {
      const answer = await calls.json({
        method: "POST",
        path: "/v1/jobs/import",
        type: "application/octet-stream",
        body: () => file,
        mayRepeat: () => canRestart(file),
        signal,
      });
      return parse(imported, "an answer", answer);
    },
    why: async (jobId, { atMs } = {}) =>
      await ask("job.why", { type: "job.why", jobId, ...(atMs === undefined ? {} : { atMs }) }),
    async offline(workerId, reason) {
      await ask("done", { type: "worker.offline", workerId, reason });
    },
    async reinstate(workerId, reason) {
      await ask("done", { type: "worker.reinstate", workerId, reason });
    },
    settings: async () => (await ask("settings.view", { type: "settings.get" })).settings,
    async setSettings(given, reason) {
      await ask("done", { type: "settings.set", settings: parseSettings(given), reason });
    },
    workers: async () => (await ask("worker.views", { type: "worker.list" })).workers,
    cluster: async () => (await ask("cluster.view", { type: "cluster.get" })).cluster,
    blobs,
    actions: httpActions(calls),
    names: httpNames(calls),
    holds: async (snapshot, { signal } = {}) =>
      parse(held, "an answer", await calls.json({ method: "GET", path: `/v1/held/${snapshot}`, signal })).held,
    store: httpStore(calls),
    async close() {
      stopping.abort();
      link.close();
      await blobs.close();
      calls.close();
      await dialing;
    },
  };
}

const held = v.object({ held: v.boolean() });
const imported = v.object({ jobId: jobIdSchema, existing: v.boolean() });

// Only what is used is loaded: either takes as long as a small run.

async function dialTcp(url: string, clock: Clock, options: DialOptions): Promise<Connection> {
  const { tcpTransport } = await import("../transport/tcp.ts");
  const { hostname, port } = new URL(url);
  return await tcpTransport({ clock }).dial(`tcp://${hostname}:${port || 80}`, options);
}

async function dialWebSocket(url: string, clock: Clock, options: DialOptions): Promise<Connection> {
  const { webSocketTransport } = await import("../transport/websocket.ts");
  return await webSocketTransport({ clock }).dial(`${url.replace(/^http/, "ws")}/v1/connect`, options);
}

function originOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^https?:$/.test(url.protocol)) return url.origin;
  throw new Fault(
    "USAGE_INVALID",
    `Cannot connect as the URL must be such as http://127.0.0.1:9090: current value is "${text.slice(0, 200)}"`,
  );
}
