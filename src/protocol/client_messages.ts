import * as v from "valibot";
import type { Address } from "../domain/ids.ts";
import {
  askedAction,
  bytes,
  cachesMax,
  cText,
  digest,
  fault,
  jobId,
  label,
  name,
  outcome,
  parse,
  taskId,
  textRecord,
  whole,
  workerId,
} from "./schema.ts";
import { settings } from "./settings.ts";

/**
 * What clients ask and hear: the CLI, the typed client and the HTTP door of a gateway, and the gateway of its
 * scheduler. Every request has an answer; a watch also has pushes. See docs/protocol.md for the CDDL.
 */

/** A sentence of ours: it may quote what a task or a system call said, so it is any text. */
const sentence = v.pipe(v.string(), v.maxLength(20_000));

const taskInput = [
  v.strictObject({ kind: v.literal("empty") }),
  v.strictObject({ kind: v.literal("snapshot"), snapshot: digest }),
  v.strictObject({ kind: v.literal("task"), task: name(200) }),
] as const;

const namedPath = v.pipe(cText(4_096), v.minLength(1));
/** Trees that are mounted into one. */
const partsMax = 100;

/** A snapshot by digest or name, or the output of a task of the job, or what is at `subtree` of it, and where it is mounted. */
const inputPart = v.pipe(
  v.strictObject({
    path: v.optional(cText(4_096), "."),
    snapshot: v.exactOptional(name(512)),
    task: v.exactOptional(name(200)),
    /** How people know it, for faults; without, by its name or digest, or as the output of the task. */
    name: v.exactOptional(name(300)),
    subtree: v.exactOptional(namedPath),
  }),
  v.check(({ snapshot, task }) => (snapshot === undefined) !== (task === undefined), "must have a snapshot or a task"),
);

/** An {@link inputPart} as the scheduler has it. */
const mountedPart = v.pipe(
  v.strictObject({
    path: cText(4_096),
    /** For faults: "the output of task "deps"". */
    name: sentence,
    snapshot: v.exactOptional(digest),
    task: v.exactOptional(name(200)),
    subtree: v.exactOptional(namedPath),
  }),
  v.check(({ snapshot, task }) => (snapshot === undefined) !== (task === undefined), "must have a snapshot or a task"),
);

const commonTask = {
  name: name(200),
  timeoutMs: v.optional(whole(1, 30 * 24 * 3_600_000), 30 * 60_000),
  retries: v.optional(whole(0, 20), 0),
  platform: v.optional(textRecord(64, 200), {}),
  /** What it takes of its worker and of the cluster's counters while it runs. Absent: nothing but a slot. */
  needs: v.exactOptional(v.strictObject({
    /** Thousandths of a processor. */
    cpuMillis: v.exactOptional(whole(0, 10_000_000)),
    memoryBytes: v.exactOptional(whole(0)),
    counters: v.exactOptional(v.pipe(
      v.record(name(100), whole(1, 1_000_000)),
      v.check((counters) => Object.keys(counters).length <= 20, "must name at most 20 counters"),
    )),
  })),
  /**
   * `use`: a result that is known is the result; `refresh`: it is run, and what comes of it replaces what is known;
   * `off`: it is run, and what comes of it is not kept.
   */
  cache: v.optional(v.picklist(["use", "refresh", "off"]), "use"),
  /**
   * Folders that it leaves to the next task that names them: their paths in its folder, and names among those of its
   * requestor. What comes of it is known by what it was run of, and these are not part of that.
   */
  caches: v.exactOptional(
    v.pipe(v.array(v.strictObject({ path: namedPath, name: name(200) })), v.maxLength(cachesMax)),
  ),
  /** Of one that succeeded: what it made alone (`only`, if absent), or its inputs with what it made laid over them. */
  output: v.exactOptional(v.picklist(["only", "full"])),
};

const taskFields = v.strictObject({
  ...commonTask,
  input: v.optional(v.variant("kind", taskInput), { kind: "empty" }),
  /** Instead of `input`: trees that are mounted into one. */
  inputs: v.exactOptional(v.pipe(v.array(inputPart), v.maxLength(partsMax))),
  argv: v.pipe(
    v.array(cText(1_000_000)),
    v.minLength(1),
    v.maxLength(100_000),
    v.check((argv) => argv[0] !== "", "must start with a command"),
  ),
  env: v.optional(textRecord(10_000, 1_000_000), {}),
  outputs: v.optional(v.pipe(v.array(namedPath), v.maxLength(10_000)), []),
});
export const taskSpec = v.pipe(
  taskFields,
  v.check(({ input, inputs }) => inputs === undefined || input.kind === "empty", "must have input or inputs, not both"),
);

const commonJob = {
  key: name(200),
  requestor: v.optional(label(200), ""),
  /** A newer job of the same requestor and basis replaces an older one that has not ended. "": it replaces none. */
  basis: v.optional(label(200), ""),
  tag: v.optional(label(200), ""),
  priority: v.optional(v.picklist([0, 1, 2]), 0),
  failFast: v.optional(v.boolean(), false),
};
/** What a job says to its tasks is saved in one step, which may not be longer than a store takes. */
const tasksMax = 20_000;
const tooManyTasks = `a job has at most ${tasksMax} tasks: make several jobs of it`;

/** A job as a client sends it. Absent fields have the defaults given here. */
export const jobSpec = v.strictObject({
  ...commonJob,
  tasks: v.pipe(v.array(taskSpec), v.minLength(1), v.maxLength(tasksMax, tooManyTasks)),
});

/** A job as the gateway hands it to the scheduler: each command is a stored REAPI `Command`. */
export const encodedJob = v.strictObject({
  ...commonJob,
  tasks: v.pipe(
    v.array(v.strictObject({
      ...commonTask,
      input: v.variant("kind", [
        ...taskInput,
        v.strictObject({
          kind: v.literal("mounted"),
          parts: v.pipe(v.array(mountedPart), v.minLength(1), v.maxLength(partsMax)),
        }),
      ]),
      command: digest,
      /** When a client of the Remote Execution API asked for it. */
      action: v.exactOptional(askedAction),
    })),
    v.minLength(1),
    v.maxLength(tasksMax, tooManyTasks),
  ),
});

const sharedRequests = [
  /** Its tasks come in pages: `tasksFrom` is the place of the first one wanted. */
  v.strictObject({ type: v.literal("job.get"), jobId, tasksFrom: v.exactOptional(whole(0)) }),
  v.strictObject({
    type: v.literal("job.list"),
    limit: whole(1, 1_000),
    before: v.exactOptional(jobId),
    state: v.exactOptional(v.picklist(["running", "succeeded", "failed", "cancelled"])),
  }),
  v.strictObject({ type: v.literal("job.kill"), jobId, reason: label(1_000) }),
  /** Why the job and its tasks are as they are, or were at a time that is still kept. */
  v.strictObject({ type: v.literal("job.why"), jobId, atMs: v.exactOptional(whole(0)) }),
  /** Every change of the job and its tasks after entry `afterSeq`, past ones first. `tasks: false`: of the job alone. */
  v.strictObject({
    type: v.literal("job.watch"),
    jobId,
    watch: whole(1),
    afterSeq: whole(0),
    tasks: v.exactOptional(v.boolean()),
  }),
  v.strictObject({ type: v.literal("job.unwatch"), watch: whole(1) }),
  v.strictObject({ type: v.literal("worker.list") }),
  /** It is given nothing more until it is reinstated; what it runs goes on. */
  v.strictObject({ type: v.literal("worker.offline"), workerId, reason: label(1_000) }),
  v.strictObject({ type: v.literal("worker.reinstate"), workerId, reason: label(1_000) }),
  v.strictObject({ type: v.literal("settings.get") }),
  /** All of them: what is not given has its default. */
  v.strictObject({ type: v.literal("settings.set"), settings, reason: label(1_000) }),
  v.strictObject({ type: v.literal("cluster.get") }),
] as const;

/** Of one `job.import`. */
export const importPageBytesMax = 1024 * 1024;

export const schedulerRequest = v.variant("type", [
  ...sharedRequests,
  /** `watch`: of a new job with one task, from then on as `task.watch` with `latest`. */
  v.strictObject({ type: v.literal("job.accept"), job: encodedJob, watch: v.exactOptional(whole(1)) }),
  /** As `job.watch`, of one task: for whoever follows its output. */
  v.strictObject({
    type: v.literal("task.watch"),
    taskId,
    watch: whole(1),
    afterSeq: whole(0),
    /** For who waits: how it is now, if that came after entry `afterSeq`; that it runs, soon; its end, which is the last. */
    latest: v.exactOptional(v.literal(true)),
  }),
  /** The gateway makes the trees that tasks want: it is told of each, until `job.unwatch`. */
  v.strictObject({ type: v.literal("tree.serve"), watch: whole(1) }),
  v.strictObject({ type: v.literal("tree.made"), taskId, of: v.picklist(["inputs", "output"]), tree: digest }),
  v.strictObject({ type: v.literal("tree.failed"), taskId, of: v.picklist(["inputs", "output"]), fault }),
  v.strictObject({ type: v.literal("cluster.drain"), why: label(200) }),
  /** What tasks that have not settled are made of: what must not be collected. In pages, by address. */
  v.strictObject({ type: v.literal("task.leases"), after: v.exactOptional(v.pipe(v.string(), v.maxLength(255))) }),
  /**
   * A page of a job of another cluster. All pages together are lines of JSON in UTF-8, cut anywhere; each line is a
   * {@link pastEntry}: the job's newest one, which says what is to come; then all of its tasks'; then all of its own.
   */
  v.strictObject({
    type: v.literal("job.import"),
    jobId,
    /** Chosen anew by the gateway each time that it begins with the first page. */
    attempt: name(40),
    page: whole(0),
    bytes: v.pipe(bytes, v.check((page) => page.length <= importPageBytesMax, "must be a page, and is longer")),
    last: v.boolean(),
  }),
]);

export const clientRequest = v.variant("type", [
  ...sharedRequests,
  v.strictObject({ type: v.literal("job.submit"), job: jobSpec }),
  /**
   * The stream of a task's newest attempt from a byte on, live while it runs. `attempt` is the one that `offset` counts
   * in: when another one is the newest, its stream comes from its first byte. Absent: whichever is the newest.
   */
  v.strictObject({
    type: v.literal("output.follow"),
    follow: whole(1),
    taskId,
    stream: v.picklist(["stdout", "stderr"]),
    offset: whole(0),
    attempt: v.exactOptional(whole(1)),
  }),
  v.strictObject({ type: v.literal("output.stop"), follow: whole(1) }),
]);

const attempt = v.strictObject({
  attempt: whole(1),
  reason: v.picklist(["first", "retry", "workerLost", "workerFailed", "memory", "preempted", "drained"]),
  workerId,
  placedAtMs: whole(0),
  why: sentence,
  startedAtMs: v.exactOptional(whole(0)),
  ended: v.exactOptional(sentence),
  givenUp: v.exactOptional(v.boolean()),
});

/** Whose run a result is that was not run for. */
const cached = v.strictObject({
  /** The task that was run, unless a client ran the action by itself and said what came of it. */
  taskId: v.exactOptional(taskId),
  workerId: v.exactOptional(workerId),
  /** When that result was made. */
  madeAtMs: whole(0),
  /** How long the command took then. */
  savedMs: whole(0),
});

/** What led an actor into its state. */
const cause = v.strictObject({
  seq: whole(1),
  atMs: whole(0),
  /** The type of what it heard. */
  event: v.string(),
  from: v.string(),
  reason: v.exactOptional(sentence),
});

export const jobView = v.strictObject({
  jobId,
  basis: v.exactOptional(label(200)),
  state: v.picklist(["running", "succeeded", "failed", "cancelled"]),
  requestor: label(200),
  tag: label(200),
  priority: v.picklist([0, 1, 2]),
  createdAtMs: whole(0),
  endedAtMs: v.exactOptional(whole(0)),
  tasks: whole(1),
  /** How many tasks settled, by kind; `succeeded` are those that exited 0. */
  settled: v.strictObject({ succeeded: whole(0), failed: whole(0), skipped: whole(0), killed: whole(0) }),
  why: sentence,
});

export const taskView = v.strictObject({
  taskId,
  name: name(200),
  state: v.picklist(["waiting", "queued", "placed", "running", "stopping", "settled"]),
  command: digest,
  inputRoot: v.exactOptional(digest),
  action: v.exactOptional(askedAction),
  timeoutMs: whole(0),
  /** As its job asked for it, where it said something of these. */
  needs: commonTask.needs,
  caches: commonTask.caches,
  output: commonTask.output,
  attempts: v.array(attempt),
  queuedAtMs: v.exactOptional(whole(0)),
  outcome: v.exactOptional(outcome),
  /** Set when the outcome is that of another run of the same action. */
  cached: v.exactOptional(cached),
  /** What its newest attempt was expected to take, by what tasks of the same name and platform took. */
  estimate: v.exactOptional(v.strictObject({ durationMs: whole(0), peakMemoryBytes: v.exactOptional(whole(0)) })),
  /**
   * Queued, and told that no worker that takes tasks could ever run it: what none of them has, as `name=value` (none: it is
   * there, but not together), and the one that comes nearest with what it has instead. Gone once one could.
   */
  unmet: v.exactOptional(v.strictObject({
    lacks: v.array(v.string()),
    nearest: v.exactOptional(v.strictObject({ workerId, has: v.array(v.string()) })),
    toldAtMs: whole(0),
  })),
  /** Why it is as it is, as a sentence. */
  why: sentence,
});

export const workerView = v.strictObject({
  workerId,
  state: v.picklist(["present", "absent", "lost"]),
  slots: whole(0),
  busy: whole(0),
  platform: textRecord(64, 200),
  /** What it has for the needs of tasks: its part of its machine. Absent: as much as is asked for. */
  cpuMillis: v.exactOptional(whole(0)),
  memoryBytes: v.exactOptional(whole(0)),
  isolation: label(200),
  sinceMs: whole(0),
  /** Set aside: it is given nothing. */
  offline: v.exactOptional(v.strictObject({ reason: label(1_000), atMs: whole(0) })),
  /** Why it is given nothing for now, in its own words: its disk is full. */
  paused: v.exactOptional(label(200)),
  /** It failed at what others succeed at: it is tried again then. */
  flaky: v.exactOptional(v.strictObject({ why: sentence, untilMs: whole(0) })),
});

export const clusterView = v.strictObject({
  version: name(40),
  epoch: whole(1),
  state: v.picklist(["open", "draining"]),
  startedAtMs: whole(0),
  workers: whole(0),
  slots: whole(0),
  busy: whole(0),
  queued: whole(0),
  jobs: whole(0),
});

export const answer = v.variant("type", [
  v.strictObject({ type: v.literal("job.accepted"), jobId, existing: v.boolean() }),
  /** `seq`: of the job's newest change. `next`: the place of the next task, when there are more than these. */
  v.strictObject({
    type: v.literal("job.view"),
    seq: whole(1),
    job: jobView,
    tasks: v.array(taskView),
    next: v.exactOptional(whole(1)),
  }),
  v.strictObject({
    type: v.literal("job.why"),
    /** The moment: after this entry, of all that are saved. */
    seq: whole(1),
    atMs: whole(0),
    job: jobView,
    jobCause: cause,
    /** Those that matter most first: running, queued, failed, waiting; at most 100. */
    tasks: v.array(v.strictObject({ task: taskView, cause })),
    /** How many more there are. */
    more: whole(0),
  }),
  v.strictObject({ type: v.literal("job.views"), jobs: v.array(jobView) }),
  v.strictObject({ type: v.literal("worker.views"), workers: v.array(workerView) }),
  v.strictObject({ type: v.literal("cluster.view"), cluster: clusterView }),
  v.strictObject({ type: v.literal("settings.view"), settings }),
  v.strictObject({
    type: v.literal("task.leases"),
    leases: v.array(
      v.strictObject({
        state: v.picklist(["queued", "running"]),
        command: digest,
        inputs: v.array(digest),
        action: v.exactOptional(digest),
      }),
    ),
    /** Where the next page begins, when there is one. */
    next: v.exactOptional(v.string()),
  }),
  v.strictObject({ type: v.literal("done") }),
  v.strictObject({ type: v.literal("fault"), fault }),
]);

export const push = v.variant("type", [
  v.strictObject({ type: v.literal("job.changed"), watch: whole(1), seq: whole(1), atMs: whole(0), job: jobView }),
  v.strictObject({ type: v.literal("task.changed"), watch: whole(1), seq: whole(1), atMs: whole(0), task: taskView }),
  /** From a scheduler to one of its gateways: make it, then say `tree.made` or `tree.failed`. */
  v.strictObject({
    type: v.literal("tree.wanted"),
    watch: whole(1),
    taskId,
    tree: v.variant("of", [
      v.strictObject({
        of: v.literal("inputs"),
        parts: v.pipe(
          v.array(v.strictObject({
            path: cText(4_096),
            subtree: v.exactOptional(namedPath),
            name: sentence,
            snapshot: digest,
          })),
          v.readonly(),
        ),
      }),
      v.strictObject({ of: v.literal("output"), base: digest, top: digest }),
    ]),
  }),
  /** Nothing more comes of a watch: the job (or the task) has ended and its last change was sent, or a fault. */
  v.strictObject({ type: v.literal("watch.end"), watch: whole(1), fault: v.exactOptional(fault) }),
  /** A chunk of another attempt than the last one's begins that attempt's stream, at offset 0. */
  v.strictObject({ type: v.literal("output.chunk"), follow: whole(1), attempt: whole(1), offset: whole(0), bytes }),
  /** All was given up to `offset`, and the task has settled; or a fault. */
  v.strictObject({
    type: v.literal("output.end"),
    follow: whole(1),
    offset: whole(0),
    truncatedBytes: whole(0),
    why: sentence,
    fault: v.exactOptional(fault),
  }),
]);

const address = v.pipe(v.string(), v.maxLength(255), v.transform((text) => text as Address));
const messageId = v.pipe(v.string(), v.maxLength(1_000));

/** A saved step of an actor of another cluster, with the numbers that it had there. */
const pastEntry = v.strictObject({
  atMs: whole(0),
  address,
  machine: name(40),
  version: whole(0),
  /** Null: the actor was forgotten. */
  state: v.nullable(v.strictObject({ value: v.unknown(), context: v.looseObject({}) })),
  cause: v.strictObject({ id: messageId, from: address, event: v.unknown() }),
  said: v.array(v.strictObject({ id: messageId, to: address, body: v.unknown() })),
  reason: v.exactOptional(v.pipe(v.string(), v.maxLength(20_000))),
});

const envelope = <const Body extends v.GenericSchema>(body: Body) =>
  v.strictObject({ id: v.exactOptional(whole(1)), re: v.exactOptional(whole(1)), sentAtMs: whole(0), body });
const fromClientEnvelope = envelope(clientRequest);
const fromGatewayEnvelope = envelope(schedulerRequest);
const answerEnvelope = v.strictObject({
  re: v.exactOptional(whole(1)),
  sentAtMs: whole(0),
  body: v.variant("type", [answer, push]),
});
const passedOnEnvelope = v.strictObject({
  re: v.exactOptional(whole(1)),
  sentAtMs: whole(0),
  body: v.looseObject({ type: v.string() }),
});

export type TaskSpec = v.InferOutput<typeof taskSpec>;
export type TaskSpecInput = v.InferInput<typeof taskSpec>;
/** A job as one writes it: what has a default may be left out. */
export type JobSpecInput = v.InferInput<typeof jobSpec>;
export type JobSpec = v.InferOutput<typeof jobSpec>;
export type EncodedJob = v.InferOutput<typeof encodedJob>;
export type SchedulerRequest = v.InferOutput<typeof schedulerRequest>;
export type ClientRequest = v.InferOutput<typeof clientRequest>;
export type JobView = v.InferOutput<typeof jobView>;
export type TaskView = v.InferOutput<typeof taskView>;
export type WorkerView = v.InferOutput<typeof workerView>;
export type ClusterView = v.InferOutput<typeof clusterView>;
export type Answer = v.InferOutput<typeof answer>;
export type JobWhy = Extract<Answer, { type: "job.why" }>;
export type Push = v.InferOutput<typeof push>;
export type PastEntry = v.InferOutput<typeof pastEntry>;

export const parseJobSpec = (input: unknown): JobSpec => parse(jobSpec, "a job", input);
export const parsePastEntry = (input: unknown): PastEntry => parse(pastEntry, "a step of a job", input);
export const parseFromClient = (input: unknown) => parse(fromClientEnvelope, "a client's message", input);
export const parseFromGateway = (input: unknown) => parse(fromGatewayEnvelope, "a gateway's message", input);
/** The number of a request that may be no request; undefined when it has none. */
export const requestIdOf = (input: unknown): number | undefined => {
  const id = typeof input === "object" && input !== null ? (input as { readonly id?: unknown }).id : undefined;
  return Number.isSafeInteger(id) && (id as number) > 0 ? id as number : undefined;
};
/** Requests carry `id`; answers carry it as `re`; pushes carry neither. */
export const parseAnswer = (input: unknown) => parse(answerEnvelope, "an answer", input);
/**
 * An answer or push as a gateway hears it from its scheduler, of the same cluster and version: it passes them on, and
 * the client checks them. 30 times quicker than {@link parseAnswer}.
 */
export const parseToPassOn = (input: unknown): { readonly re?: number; readonly body: Answer | Push } =>
  parse(passedOnEnvelope, "a scheduler's message", input) as { readonly re?: number; readonly body: Answer | Push };
