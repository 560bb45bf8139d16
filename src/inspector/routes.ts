/**
 * What is asked under /v1/inspect/ and what is answered, as both sides have it: the server and the page in the browser.
 * Types alone. Every answer is bounded, however much there is; `next`, where there is one, begins the next page.
 */
import type { Digest } from "../domain/digest.ts";
import type { JobId, TaskId, WorkerId } from "../domain/ids.ts";
import type { JobState, TaskState } from "../domain/job.ts";
import type { Node } from "../domain/node.ts";
import type { JobView } from "../protocol/client_messages.ts";
import type { ActorLine, ActorPage, StepLine } from "./actors.ts";
import type { Chart } from "./charts.ts";
import type { SpokenLine } from "./conversation.ts";
import type { JobPage } from "./jobs.ts";
import type { Bounds, Moment } from "./moments.ts";
import type { Made } from "../snapshots/actions/actions.ts";
import type { Overview } from "./overview.ts";

/** A moment: just after an entry, or what was the newest entry at a time; neither: now. */
export interface AtMoment {
  readonly at?: number | undefined;
  readonly atMs?: number | undefined;
}
export type At<Answer> = Answer & { readonly moment: Moment };

type Stream = "stdout" | "stderr";

/** Each route by its name: `GET /v1/inspect/home?…`. */
export interface Routes {
  readonly session: { readonly asked: unknown; readonly answer: Session };
  readonly bounds: { readonly asked: unknown; readonly answer: Bounds };
  /** The moment that a time or an entry means; one that is not kept is the nearest that is. */
  readonly moment: { readonly asked: AtMoment; readonly answer: Moment };
  readonly charts: { readonly asked: unknown; readonly answer: Readonly<Record<string, Chart>> };
  readonly home: {
    readonly asked: AtMoment & {
      readonly state?: JobState | undefined;
      readonly before?: string | undefined;
      /** 50; at most 200. */
      readonly limit?: number | undefined;
    };
    readonly answer: At<Home>;
  };
  readonly search: {
    readonly asked: AtMoment & {
      readonly text: string;
      readonly before?: string | undefined;
      /** 50; at most 200. */
      readonly limit?: number | undefined;
    };
    readonly answer: At<Found>;
  };
  readonly overview: { readonly asked: AtMoment; readonly answer: At<Overview> };
  readonly rates: {
    readonly asked: AtMoment & {
      /** Looked back so far from the moment; 10 min by default, at most a day. */
      readonly spanMs?: number | undefined;
      /** 60; at most 240. */
      readonly points?: number | undefined;
    };
    readonly answer: At<Rates>;
  };
  readonly jobs: {
    readonly asked: AtMoment & {
      readonly state?: JobState | undefined;
      readonly text?: string | undefined;
      /** Exactly. */
      readonly requestor?: string | undefined;
      readonly before?: string | undefined;
      readonly limit?: number | undefined;
    };
    readonly answer: At<{ readonly jobs: readonly JobView[]; readonly next?: JobId }>;
  };
  readonly job: {
    readonly asked: AtMoment & { readonly id: string; readonly from?: number | undefined };
    readonly answer: At<JobPage>;
  };
  readonly graph: { readonly asked: AtMoment & { readonly id: string }; readonly answer: At<TaskGraph> };
  readonly timeline: {
    readonly asked: AtMoment & { readonly id: string; readonly from?: number | undefined };
    readonly answer: At<TaskTimeline>;
  };
  readonly actors: {
    readonly asked: AtMoment & {
      readonly kind: string;
      readonly job?: string | undefined;
      readonly state?: string | undefined;
      readonly requestor?: string | undefined;
      /** In a job's tag or a task's name; upper and lower case are the same. */
      readonly label?: string | undefined;
      readonly after?: string | undefined;
      readonly limit?: number | undefined;
    };
    readonly answer: At<{ readonly actors: readonly ActorLine[]; readonly next?: string }>;
  };
  readonly actor: { readonly asked: AtMoment & { readonly address: string }; readonly answer: At<ActorPage> };
  readonly history: {
    readonly asked: AtMoment & { readonly address: string; readonly limit?: number | undefined };
    readonly answer: At<{ readonly steps: readonly StepLine[]; readonly next?: number }>;
  };
  readonly conversation: {
    readonly asked: AtMoment & { readonly with: readonly string[]; readonly limit?: number | undefined };
    readonly answer: At<{ readonly messages: readonly SpokenLine[]; readonly next?: number }>;
  };
  /** Lines of a stream that is kept. Of a task that runs: follow `/v1/jobs/J/tasks/N/stdout?follow=1` instead. */
  readonly output: {
    readonly asked: AtMoment & {
      readonly task: string;
      readonly stream: Stream;
      /** The first line wanted, from 0; 0 by default. */
      readonly line?: number | undefined;
      /** 500; at most 2,000. */
      readonly lines?: number | undefined;
    };
    readonly answer: At<OutputPage>;
  };
  readonly find: {
    readonly asked: AtMoment & {
      readonly task: string;
      readonly stream: Stream;
      /** Where it has no capital, a capital letter of ASCII is found by its small one. */
      readonly text: string;
      /** From this line on; 0 by default. */
      readonly line?: number | undefined;
      /** 100; at most 500. */
      readonly limit?: number | undefined;
    };
    readonly answer: At<OutputHits>;
  };
  readonly action: { readonly asked: AtMoment & { readonly task: string }; readonly answer: At<ActionStory> };
  readonly tree: {
    readonly asked: {
      readonly snapshot: string;
      /** "" is the root. */
      readonly path?: string | undefined;
      /** Of a directory: so many entries are passed over. */
      readonly from?: number | undefined;
      /** 500; at most 2,000. */
      readonly limit?: number | undefined;
    };
    readonly answer: TreePage;
  };
  readonly diff: {
    readonly asked: {
      readonly before: string;
      readonly after: string;
      /** So many changes are passed over: `next` of the page before. */
      readonly from?: number | undefined;
      readonly limit?: number | undefined;
    };
    readonly answer: TreeDiff;
  };
}

/** Who looks, and at what. */
export interface Session {
  /** No buttons: whatever changes something is refused. */
  readonly isReadOnly: boolean;
  /** A job's file that is open without a cluster: nothing of it changes any more, and there is nothing to follow. */
  readonly isSealed: boolean;
  readonly version: string;
}

// ---- home ------------------------------------------------------------------------------------------------------------

/** What a job took, as far as its tasks that were looked at say. */
export interface Cost {
  /** Processor time of all runs, as far as it was measured. */
  readonly cpuMs: number;
  /** From start to end of all runs together; of those that go on, up to the moment. */
  readonly ranMs: number;
  /** Attempts that were made. */
  readonly attempts: number;
  /** Tasks that were given the result of another run, and what that run had taken. */
  readonly cached: number;
  readonly savedMs: number;
  /** Tasks looked at, when not all were. */
  readonly ofTasks?: number;
}

export interface HomeJob {
  readonly kind: "job";
  readonly job: JobView;
  /** Why it is as it is, in one sentence: of the task that tells most, if one does. */
  readonly why: string;
  /** The task that tells most. */
  readonly task?: { readonly taskId: TaskId; readonly name: string; readonly state: TaskState };
  /** From its creation to its end, or to the moment. */
  readonly wallMs: number;
  /** Absent: there was too much to look at in one answer; the job's own page has it. */
  readonly cost?: Cost;
}

/** What one build of a Remote Execution client asked for: each action is a job, and here they are one line. */
export interface HomeBuild {
  readonly kind: "build";
  /** "bazel/<id of the build>": its jobs are those of this requestor. */
  readonly requestor: string;
  readonly state: JobState;
  readonly why: string;
  readonly createdAtMs: number;
  readonly endedAtMs?: number;
  readonly wallMs: number;
  readonly jobs: Readonly<Record<JobState, number>>;
  /** Its newest job that is telling: one that failed, else one that runs, else the newest. */
  readonly jobId: JobId;
  readonly cost?: Cost;
  /** It may have older jobs than those looked at. */
  readonly isPart: boolean;
}

export interface Home {
  /** The newest first. */
  readonly lines: readonly (HomeJob | HomeBuild)[];
  readonly next?: JobId;
}

/** Where a search text was found. */
export interface Hit {
  readonly jobId: JobId;
  /** Absent: the job itself. */
  readonly taskId?: TaskId;
  readonly state: JobState | TaskState;
  readonly name: string;
  /** In which of its texts. */
  readonly in: "id" | "requestor" | "basis" | "tag" | "target" | "command" | "why";
  /** That text, around what was found. */
  readonly text: string;
}

export interface Found {
  /** Of the newest jobs first. */
  readonly hits: readonly Hit[];
  /** So much was looked at; older jobs follow. */
  readonly next?: JobId;
}

// ---- a job -----------------------------------------------------------------------------------------------------------

export interface TaskGraph {
  /** In the order of the job, the first 2,000. */
  readonly nodes: readonly {
    readonly place: number;
    readonly taskId: TaskId;
    readonly name: string;
    readonly state: TaskState;
    /** Of one that has settled. */
    readonly result?: "succeeded" | "failed" | "skipped" | "killed";
    readonly isCached: boolean;
  }[];
  /** From a task to one that takes its output, by places; both are among the nodes. */
  readonly edges: readonly (readonly [from: number, to: number])[];
  /** Tasks beyond those. */
  readonly more: number;
}

export interface Span {
  readonly name: "queued" | "checkout" | "run" | "capture";
  readonly fromMs: number;
  readonly toMs: number;
  /** Of those that are with a worker. */
  readonly attempt?: number;
  readonly workerId?: WorkerId;
  /** "attempt 1 on w1: run" */
  readonly says: string;
}

export interface TaskTimeline {
  /** In the order of the job, at most 500 from the place asked for. */
  readonly rows: readonly {
    readonly taskId: TaskId;
    readonly name: string;
    readonly state: TaskState;
    readonly spans: readonly Span[];
  }[];
  readonly next?: number;
}

export interface OutputPage {
  /** Of the stream as it is kept. */
  readonly bytes: number;
  readonly lines: number;
  /** Written beyond what is kept. */
  readonly truncatedBytes: number;
  /** The number of the first line here. */
  readonly line: number;
  /** Without their ends; of a long one the first 4,096 characters. At most 1 MiB in all. */
  readonly text: readonly string[];
}

export interface OutputHits {
  readonly hits: readonly {
    readonly line: number;
    /** The line around it, at most 240 characters, and where in that it begins. */
    readonly text: string;
    readonly column: number;
  }[];
  /** The line from which to look on. */
  readonly next?: number;
}

// ---- actions and snapshots -------------------------------------------------------------------------------------------

/** What a task is made of, and how its action stands in the cache. */
export interface ActionStory {
  readonly taskId: TaskId;
  readonly name: string;
  readonly command: Digest;
  /** Absent: it is not in the store any more, or longer than 1 MiB. */
  readonly program?: {
    readonly argv: readonly string[];
    readonly env: Readonly<Record<string, string>>;
    readonly outputs: readonly string[];
    readonly platform: readonly { readonly name: string; readonly value: string }[];
    readonly workingDirectory: string;
  };
  /** Absent while the task that makes it has not ended. */
  readonly inputRoot?: Digest;
  /** The snapshot of what it made. */
  readonly output?: Digest;
  readonly timeoutMs: number;
  /** Absent without an input. */
  readonly action?: Digest;
  readonly instance: string;
  /** Whether a known result would do for it. */
  readonly use: "use" | "refresh" | "off";
  /** One sentence: whether it was run, and why. */
  readonly why: string;
  /** What the cache holds of it now, whatever the moment. */
  readonly kept?: {
    readonly made: Made;
    readonly exitCode: number;
    readonly useCount: number;
    readonly usedAtMs: number;
    /** The newest 100, oldest first. */
    readonly usedBy: readonly TaskId[];
    /** The same action was seen to end otherwise too. */
    readonly differed?: { readonly count: number; readonly exitCode: number; readonly made: Made };
  };
}

/** A node, with the bytes of a file. */
export type TreeNode = Node & { readonly bytes?: number };

export type TreePage =
  | {
    readonly kind: "directory";
    readonly digest: Digest;
    /** Directories first, then files and symlinks, each by name. */
    readonly entries: readonly TreeNode[];
    /** The `from` of the next page. */
    readonly next?: number;
  }
  | {
    readonly kind: "file";
    readonly digest: Digest;
    readonly bytes: number;
    readonly executable: boolean;
    /** Its first 256 KiB; absent: it is no text. All of it: `/v1/snapshots/HASH/SIZE/PATH`. */
    readonly text?: string;
  }
  | { readonly kind: "symlink"; readonly target: string };

export interface TreeDiff {
  readonly changes: readonly { readonly path: string; readonly before?: TreeNode; readonly after?: TreeNode }[];
  readonly next?: number;
}

// ---- rates -----------------------------------------------------------------------------------------------------------

/** What happened in a stretch of time, and how it stood at its end. */
export interface Rate {
  readonly toMs: number;
  /** Tasks that were placed, and that settled after having been with a worker. */
  readonly placed: number;
  readonly settled: number;
  readonly queued: number;
  /** With a worker. */
  readonly running: number;
}

export interface Latency {
  /** Of how many. */
  readonly count: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
}

export interface Rates {
  /** False while what has happened is being counted for the first time: ask again. */
  readonly isCounted: boolean;
  readonly stepMs: number;
  /** Oldest first. What came before the history that is counted is left out. */
  readonly points: readonly Rate[];
  /** From queued to with a worker, and from there to settled, of those that both happened in that time. */
  readonly wait: Latency;
  readonly run: Latency;
}

// ---- the feed --------------------------------------------------------------------------------------------------------

/**
 * The answer to `GET /v1/inspect/feed`, which comes when something of what is watched has changed, or after 25 s without:
 *
 *     ?watch=job/ID&watch=task/ID/&after=SEQ
 *
 * `watch` is an address, or the beginning of addresses, ending in "/"; "" is everything. Up to 32 of them. `after` is the
 * moment that the page shows, then `last.seq` of the answer before.
 */
export interface News {
  /** The newest moment. */
  readonly last: Moment;
  /** What is watched and has changed; all of it, when it is not known which. None: nothing has, ask again. */
  readonly changed: readonly string[];
}
