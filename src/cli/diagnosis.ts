import { size } from "./render.ts";

/** What doctor looks at: facts of this machine, undefined where the system does not tell. */
export interface Facts {
  readonly runtime: { readonly name: "Node" | "Deno"; readonly version: string };
  readonly version: string;
  readonly isRoot: boolean;
  readonly dataDir: string;
  readonly disk: { readonly freeBytes: number; readonly totalBytes: number; readonly isMemory: boolean } | undefined;
  readonly openFilesMax: number | undefined;
  readonly processesMax: number | undefined;
  /** Folders that may be watched at once, by all of this user's programs. */
  readonly watchesMax: number | undefined;
  readonly userNamespacesMax: number | undefined;
  readonly hasCgroups: boolean;
  readonly hasShell: boolean;
  /** Whether somebody listens at the port that a cluster takes by default. */
  readonly isPortTaken: boolean;
  readonly nowMs: number;
  /** The newest cluster of this user, if it answers: its version, how its workers isolate, how far its clock is ahead. */
  readonly cluster:
    | {
      readonly url: string;
      readonly version: string;
      readonly isolations: readonly string[];
      readonly clockAheadMs: number | undefined;
    }
    | { readonly fault: string }
    | undefined;
}

/** One thing that was looked at: `bad` keeps a cluster from working, `warn` is worth knowing. */
export interface Finding {
  readonly level: "ok" | "warn" | "bad";
  readonly what: string;
  /** What is, what follows, what to do: a sentence or two. */
  readonly says: string;
}

export const defaultPort = 9_090;
const spaceMin = 0.05;
const openFilesMin = 4_096;
const processesMin = 1_024;
const watchesMin = 8_192;
const clockMs = 5_000;
/** This program was not there before; a clock that says so is wrong. */
const earliestMs = Date.UTC(2025, 0, 1);

export function diagnose(facts: Facts): readonly Finding[] {
  return [
    runtime(facts),
    isolation(facts),
    disk(facts),
    ...limits(facts),
    clock(facts),
    port(facts),
    shell(facts),
    cluster(facts),
  ];
}

const finding = (level: Finding["level"], what: string, says: string): Finding => ({ level, what, says });

function runtime({ runtime: { name, version } }: Facts): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (name === "Deno" || major >= 24) return finding("ok", "runtime", `${name} ${version}`);
  if (major > 20 || (major === 20 && minor >= 15)) {
    return finding(
      "warn",
      "runtime",
      `${name} ${version}: task files in TypeScript cannot be read; Node 24 can, or write scoot.js`,
    );
  }
  return finding("bad", "runtime", `${name} ${version} is too old: it must be at least 20.15; install Node 24`);
}

function isolation({ isRoot, userNamespacesMax, hasCgroups, cluster }: Facts): Finding {
  const used = cluster !== undefined && "isolations" in cluster ? cluster.isolations : [];
  if (used.length > 0 && used.every((each) => !each.startsWith("none"))) {
    return finding("ok", "isolation", [...new Set(used)].join("; "));
  }
  const missing = [
    ...(userNamespacesMax === 0 || userNamespacesMax === undefined ? ["user namespaces"] : []),
    ...(hasCgroups ? [] : ["cgroups v2"]),
  ];
  const system = missing.length === 0
    ? "the system has what isolation needs (user namespaces, cgroups v2)"
    : `the system lacks ${missing.join(" and ")}`;
  return finding(
    "warn",
    "isolation",
    `none: tasks can read and write all that you can${
      isRoot ? ", and you are root: start clusters as another user" : ""
    }; ${system}`,
  );
}

function disk({ disk, dataDir }: Facts): Finding {
  if (disk === undefined) return finding("warn", "disk", `how full the disk of ${dataDir} is cannot be told`);
  const { freeBytes, totalBytes, isMemory } = disk;
  const part = totalBytes === 0 ? 1 : freeBytes / totalBytes;
  const free = `${size(freeBytes)} (${Math.floor(part * 100)} %) free for ${dataDir}`;
  if (part < spaceMin) return finding("bad", "disk", `${free}: nothing new is accepted below 5 %; free some`);
  if (isMemory) {
    return finding(
      "warn",
      "disk",
      `${free}, which is in memory: what is kept there is gone after a restart of the machine; choose another with --data`,
    );
  }
  return part < 2 * spaceMin
    ? finding("warn", "disk", `${free}: nothing new will be accepted below 5 %`)
    : finding("ok", "disk", free);
}

function limits({ openFilesMax, processesMax, watchesMax }: Facts): readonly Finding[] {
  const judge = (what: string, value: number | undefined, min: number, follows: string): Finding =>
    value === undefined
      ? finding("ok", what, "no limit is known")
      : value < min
      ? finding("warn", what, `${value}, which is less than ${min}: ${follows}`)
      : finding("ok", what, value === Infinity ? "unlimited" : String(value));
  return [
    judge(
      "open files",
      openFilesMax,
      openFilesMin,
      "many clients or workers at once are refused; raise it with ulimit -n",
    ),
    judge("processes", processesMax, processesMin, "tasks that start many fail; raise it with ulimit -u"),
    judge(
      "watches",
      watchesMax,
      watchesMin,
      "do --watch misses changes in large folders; raise fs.inotify.max_user_watches",
    ),
  ];
}

function clock({ nowMs, cluster }: Facts): Finding {
  const now = new Date(nowMs).toISOString();
  if (nowMs < earliestMs) {
    return finding("bad", "clock", `${now} is in the past: times of jobs and ages of results are wrong; set the clock`);
  }
  const ahead = cluster !== undefined && "clockAheadMs" in cluster ? cluster.clockAheadMs : undefined;
  if (ahead !== undefined && Math.abs(ahead) > clockMs) {
    return finding(
      "warn",
      "clock",
      `the cluster's is ${Math.round(Math.abs(ahead) / 1_000)} s ${
        ahead > 0 ? "ahead" : "behind"
      }: times that are shown are off by that; synchronise both`,
    );
  }
  return finding("ok", "clock", now);
}

function port({ isPortTaken, cluster }: Facts): Finding {
  const isOurs = cluster !== undefined && "url" in cluster && cluster.url.endsWith(`:${defaultPort}`);
  if (!isPortTaken) return finding("ok", "port", `${defaultPort} is free for a cluster`);
  return isOurs
    ? finding("ok", "port", `${defaultPort} is your cluster's`)
    : finding("warn", "port", `${defaultPort} is taken by another program: start a cluster with --port`);
}

const shell = ({ hasShell }: Facts): Finding =>
  hasShell
    ? finding("ok", "shell", "/bin/sh")
    : finding("bad", "shell", "/bin/sh is not there: no task can be started; install one");

function cluster({ cluster, version }: Facts): Finding {
  if (cluster === undefined) return finding("ok", "cluster", "none runs here; scoot-actors cluster starts one");
  if ("fault" in cluster) return finding("warn", "cluster", cluster.fault);
  return cluster.version === version ? finding("ok", "cluster", `${cluster.url}, version ${version}`) : finding(
    "warn",
    "cluster",
    `${cluster.url} has version ${cluster.version}, this is ${version}: start it again with this one`,
  );
}
