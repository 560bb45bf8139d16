import type { Command } from "./command.ts";

/** A verb and where it is; only the one that was typed is loaded, so that it starts fast. */
export interface Entry {
  readonly name: string;
  /** A line in the list of commands. */
  readonly does: string;
  readonly group:
    | "Run"
    | "Jobs"
    | "Results that are kept"
    | "Snapshots"
    | "Cluster"
    | "Roles, for clusters of several machines"
    | "Help";
  // deno-lint-ignore no-explicit-any
  load(): Promise<Command<any>>;
}

export const catalogue: readonly Entry[] = [
  {
    name: "run",
    group: "Run",
    does: "Run a command on a snapshot of a folder, as if it ran here",
    load: async () => (await import("./commands/run.ts")).run,
  },

  {
    name: "do",
    group: "Run",
    does: "Run tasks of a task file, with all that they need",
    load: async () => (await import("./commands/do.ts")).doTasks,
  },
  {
    name: "job submit",
    group: "Jobs",
    does: "Hand in a job and go on",
    load: async () => (await import("./commands/job_submit.ts")).jobSubmit,
  },
  {
    name: "job list",
    group: "Jobs",
    does: "The jobs, the newest first",
    load: async () => (await import("./commands/job_list.ts")).jobList,
  },
  {
    name: "job why",
    group: "Jobs",
    does: "Why a job and its tasks are as they are, or were",
    load: async () => (await import("./commands/job_why.ts")).jobWhy,
  },
  {
    name: "job status",
    group: "Jobs",
    does: "A job and its tasks, each with why it is as it is",
    load: async () => (await import("./commands/job_status.ts")).jobStatus,
  },
  {
    name: "job watch",
    group: "Jobs",
    does: "Everything that happens to a job, until it ends",
    load: async () => (await import("./commands/job_watch.ts")).jobWatch,
  },
  {
    name: "job logs",
    group: "Jobs",
    does: "What a job's tasks write",
    load: async () => (await import("./commands/job_logs.ts")).jobLogs,
  },
  {
    name: "job kill",
    group: "Jobs",
    does: "End a job now",
    load: async () => (await import("./commands/job_kill.ts")).jobKill,
  },
  {
    name: "job export",
    group: "Jobs",
    does: "All that is kept of a job, as one file",
    load: async () => (await import("./commands/job_export.ts")).jobExport,
  },
  {
    name: "job import",
    group: "Jobs",
    does: "Take in the file of a job of another cluster",
    load: async () => (await import("./commands/job_import.ts")).jobImport,
  },

  {
    name: "diff",
    group: "Jobs",
    does: "What differs between two runs",
    load: async () => (await import("./commands/diff.ts")).diff,
  },
  {
    name: "shell",
    group: "Jobs",
    does: "Your shell in the files and environment of a task",
    load: async () => (await import("./commands/shell.ts")).shell,
  },
  {
    name: "rerun",
    group: "Jobs",
    does: "Run a task again, as often as you like, to find out whether it is flaky",
    load: async () => (await import("./commands/rerun.ts")).rerun,
  },

  {
    name: "cache show",
    group: "Results that are kept",
    does: "All that is known of one: who made it, who was given it",
    load: async () => (await import("./commands/cache_show.ts")).cacheShow,
  },
  {
    name: "why-miss",
    group: "Results that are kept",
    does: "Why something that Bazel builds was not cached",
    load: async () => (await import("./commands/why_miss.ts")).whyMiss,
  },
  {
    name: "cache list",
    group: "Results that are kept",
    does: "What succeeded before and is not run again",
    load: async () => (await import("./commands/cache_list.ts")).cacheList,
  },
  {
    name: "cache revoke",
    group: "Results that are kept",
    does: "Take back what a worker made",
    load: async () => (await import("./commands/cache_revoke.ts")).cacheRevoke,
  },

  {
    name: "snapshot capture",
    group: "Snapshots",
    does: "Keep a folder as a snapshot",
    load: async () => (await import("./commands/snapshot_capture.ts")).snapshotCapture,
  },
  {
    name: "snapshot checkout",
    group: "Snapshots",
    does: "Write a snapshot into a new folder",
    load: async () => (await import("./commands/snapshot_checkout.ts")).snapshotCheckout,
  },
  {
    name: "snapshot ls",
    group: "Snapshots",
    does: "What is in a snapshot",
    load: async () => (await import("./commands/snapshot_ls.ts")).snapshotLs,
  },
  {
    name: "snapshot cat",
    group: "Snapshots",
    does: "One file of a snapshot",
    load: async () => (await import("./commands/snapshot_cat.ts")).snapshotCat,
  },
  {
    name: "snapshot name",
    group: "Snapshots",
    does: "Give a snapshot a name, or see the names",
    load: async () => (await import("./commands/snapshot_name.ts")).snapshotName,
  },

  {
    name: "cluster",
    group: "Cluster",
    does: "Start a durable cluster on this machine",
    load: async () => (await import("./commands/cluster.ts")).cluster,
  },
  {
    name: "inspect",
    group: "Cluster",
    does: "The page on which it is seen, or the job in a file",
    load: async () => (await import("./commands/inspect.ts")).inspect,
  },
  {
    name: "workers",
    group: "Cluster",
    does: "The workers and how busy they are",
    load: async () => (await import("./commands/workers.ts")).workers,
  },
  {
    name: "worker offline",
    group: "Cluster",
    does: "Give a worker nothing more",
    load: async () => (await import("./commands/worker_offline.ts")).workerOffline,
  },
  {
    name: "worker reinstate",
    group: "Cluster",
    does: "Give it tasks again",
    load: async () => (await import("./commands/worker_reinstate.ts")).workerReinstate,
  },
  {
    name: "forecast",
    group: "Cluster",
    does: "What another fleet or policy would make of a day's work",
    load: async () => (await import("./commands/forecast.ts")).forecast,
  },
  {
    name: "scheduler get",
    group: "Cluster",
    does: "How slots are divided, and what is taken in",
    load: async () => (await import("./commands/scheduler_get.ts")).schedulerGet,
  },
  {
    name: "scheduler set",
    group: "Cluster",
    does: "Set that",
    load: async () => (await import("./commands/scheduler_set.ts")).schedulerSet,
  },
  {
    name: "doctor",
    group: "Cluster",
    does: "What this machine lacks for a cluster, and what follows",
    load: async () => (await import("./commands/doctor.ts")).doctor,
  },
  {
    name: "df",
    group: "Cluster",
    does: "What the store takes of its budget",
    load: async () => (await import("./commands/df.ts")).df,
  },
  {
    name: "gc",
    group: "Cluster",
    does: "Bring the store within its budget now",
    load: async () => (await import("./commands/gc.ts")).gc,
  },
  {
    name: "stop",
    group: "Cluster",
    does: "Stop the cluster of this machine",
    load: async () => (await import("./commands/stop.ts")).stop,
  },

  {
    name: "scheduler",
    group: "Roles, for clusters of several machines",
    does: "Start a scheduler alone",
    load: async () => (await import("./commands/scheduler.ts")).scheduler,
  },
  {
    name: "worker",
    group: "Roles, for clusters of several machines",
    does: "Start a worker alone",
    load: async () => (await import("./commands/worker.ts")).worker,
  },
  {
    name: "gateway",
    group: "Roles, for clusters of several machines",
    does: "Start a gateway alone",
    load: async () => (await import("./commands/gateway.ts")).gateway,
  },
  {
    name: "door",
    group: "Roles, for clusters of several machines",
    does: "Start a gateway behind a door that outlives it",
    load: async () => (await import("./commands/door.ts")).door,
  },

  {
    name: "bazelrc",
    group: "Cluster",
    does: "The flags with which Bazel uses the cluster",
    load: async () => (await import("./commands/bazelrc.ts")).bazelrc,
  },
  {
    name: "conformance",
    group: "Cluster",
    does: "Try a Remote Execution server against a checklist",
    load: async () => (await import("./commands/conformance.ts")).conformance,
  },

  {
    name: "help",
    group: "Help",
    does: "This list, or all about one command",
    load: async () => (await import("./commands/help.ts")).help,
  },
  {
    name: "version",
    group: "Help",
    does: "The version of this program",
    load: async () => (await import("./commands/version.ts")).version,
  },
];
