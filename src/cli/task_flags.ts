import { basename, isAbsolute, posix, relative, resolve, sep } from "node:path";
import type { Client } from "../api/client.ts";
import type { Digest } from "../domain/digest.ts";
import { readSize } from "../domain/size.ts";
import type { JobSpecInput, TaskSpecInput } from "../protocol/client_messages.ts";
import { captureLines, revisionLine } from "./capture_line.ts";
import type { Call } from "./command.ts";
import { duration, type FlagValues, list, text, textOf, toggle, usage, whole } from "./flags.ts";
import { resolveSnapshot } from "./ids.ts";
import { progressBar } from "./progress.ts";
import { jsonLine, plain } from "./render.ts";
import type { World } from "./world.ts";

const timeoutMsMax = 30 * 24 * 3_600_000;
const nameCharactersMax = 200;

const cpusMax = 10_000;
function cpus(given: string, shown: string): number {
  const value = Number(given);
  if (/^[0-9]+(\.[0-9]+)?$/.test(given) && value > 0 && value <= cpusMax) return Math.ceil(value * 1_000);
  throw usage(`Cannot read ${shown} as it must be a number from 0.001 to ${cpusMax}: current value is "${given}"`);
}

function bytes(given: string, shown: string): number {
  const value = readSize(given);
  if (value !== undefined && value > 0 && value <= 2 ** 50) return value;
  throw usage(`Cannot read ${shown} as it must be a size such as 500M or 4G: current value is "${given}"`);
}

/** What says how one command is to run. */
export const taskFlags = {
  dir: text("PATH", "The folder to run in, captured as a snapshot by git's ignore rules"),
  snapshot: text("ID", "Run in this snapshot instead: a digest or a name"),
  revision: text(
    "REF",
    "Run in a commit of the folder's git repository instead of what lies in it: main, v1.2, a hash",
  ),
  include: list(
    "PATH",
    "Capture this too, although ignore rules or its name (.env) leave it out; relative to the folder",
  ),
  env: list("K=V", "Set a variable; K alone takes your own value. The command gets these and no others"),
  timeout: textOf("TIME", "End it after this long: 30s, 5m, 1h30m; 30m by default", duration(timeoutMsMax)),
  out: list(
    "PATH",
    "A file or folder that the command makes and that is to be kept, or a glob of such; relative to the folder",
  ),
  cache: list(
    "PATH[=NAME]",
    "A folder that the command leaves to the next run, such as target or node_modules/.cache; two of one NAME are one",
  ),
  retries: textOf("N", "Run it again up to N times when it exits other than 0", whole(0, 20)),
  "no-cache": toggle("Run it even if the same succeeded before, and do not keep what comes of it for others"),
  refresh: toggle("Run it even if the same succeeded before; what comes of it replaces what is known"),
  name: text("NAME", "What to call the task; the command itself by default"),
  platform: list("K=V", "Only a worker that has this property may run it"),
  cpu: textOf("N", "Processors that it takes of its worker, such as 2 or 0.5", cpus),
  memory: textOf("SIZE", "Memory that it takes of its worker, such as 500M or 4G", bytes),
  counter: list("NAME=N", "So many of a counter of the cluster while it runs: licences, devices"),
  requestor: text("NAME", "Who asks, for fair shares"),
  basis: text("TEXT", "A newer job of the same requestor and basis replaces an older one that has not ended"),
  tag: text("TEXT", "Groups jobs that belong together"),
  priority: textOf("0|1|2", "2 goes before 1, 1 before 0; 0 by default", whole(0, 2)),
} as const;

type TaskFlags = FlagValues<typeof taskFlags>;

/** A job of one task. @param key the same twice is one job. */
export function jobOf(
  flags: TaskFlags,
  argv: readonly string[],
  snapshot: Digest | undefined,
  outputs: readonly string[],
  env: Readonly<Record<string, string>>,
  key: string,
  dir: string,
): JobSpecInput {
  const task: TaskSpecInput = {
    name: flags.name ?? nameOf(argv),
    argv: [...argv],
    env,
    outputs: [...outputs],
    ...(snapshot === undefined ? {} : { input: { kind: "snapshot" as const, snapshot } }),
    ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout }),
    ...(flags.retries === undefined ? {} : { retries: flags.retries }),
    ...(flags.platform.length === 0 ? {} : { platform: pairs(flags.platform, "--platform") }),
    ...needsOf(flags),
    ...cachesOf(flags.cache, dir),
    ...(flags["no-cache"] ? { cache: "off" as const } : flags.refresh ? { cache: "refresh" as const } : {}),
  };
  return {
    key,
    tasks: [task],
    ...(flags.requestor === undefined ? {} : { requestor: flags.requestor }),
    ...(flags.basis === undefined ? {} : { basis: flags.basis }),
    ...(flags.tag === undefined ? {} : { tag: flags.tag }),
    ...(flags.priority === undefined ? {} : { priority: flags.priority as 0 | 1 | 2 }),
  };
}

function pairs(given: readonly string[], flag: string): Record<string, string> {
  return Object.fromEntries(given.map((each) => {
    const equals = each.indexOf("=");
    if (equals > 0) return [each.slice(0, equals), each.slice(equals + 1)];
    throw usage(`Cannot read ${flag} as it must be NAME=VALUE: current value is "${each}"`);
  }));
}

function needsOf({ cpu, memory, counter }: TaskFlags): Pick<TaskSpecInput, "needs"> {
  if (cpu === undefined && memory === undefined && counter.length === 0) return {};
  const counters = Object.entries(pairs(counter, "--counter")).map(([name, value]) =>
    [name, whole(1, 1_000_000)(value, `--counter ${name}`)] as const
  );
  return {
    needs: {
      ...(cpu === undefined ? {} : { cpuMillis: cpu }),
      ...(memory === undefined ? {} : { memoryBytes: memory }),
      ...(counters.length === 0 ? {} : { counters: Object.fromEntries(counters) }),
    },
  };
}

/** What of a folder is left to the next run: by its path and that folder's name, if no other name is given. */
export function cachesOf(given: readonly string[], dir: string): Pick<TaskSpecInput, "caches"> {
  if (given.length === 0) return {};
  return {
    caches: given.map((each) => {
      const equals = each.indexOf("=");
      const path = equals < 0 ? each : each.slice(0, equals);
      return { path, name: equals < 0 ? `${basename(dir)}/${path}`.slice(-nameCharactersMax) : each.slice(equals + 1) };
    }),
  };
}

const nameOf = (argv: readonly string[]): string => {
  const line = plain(argv.join(" ")).trim();
  return line.length > nameCharactersMax ? `${line.slice(0, nameCharactersMax - 1)}…` : line || "task";
};

/** @throws {Fault} `USAGE_INVALID` naming the one that is none. */
export function environmentOf(
  flags: TaskFlags,
  own: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const each of flags.env) {
    const equals = each.indexOf("=");
    if (equals > 0) env[each.slice(0, equals)] = each.slice(equals + 1);
    else if (equals === 0 || each === "") {
      throw usage(`Cannot read --env as it must be NAME=VALUE or NAME: current value is "${each}"`);
    } else {
      const value = own[each];
      if (value === undefined) throw usage(`Cannot take your own ${each} for --env as it must be set: it is not`);
      env[each] = value;
    }
  }
  return env;
}

/** The declared outputs, relative to the folder, as the job has them. @throws {Fault} `USAGE_INVALID` for one outside. */
export function outputsOf(flags: TaskFlags, dir: string): readonly string[] {
  return flags.out.map((given) => {
    const path = posix.normalize((isAbsolute(given) ? relative(dir, given) : given).split(sep).join("/")).replace(
      /\/$/,
      "",
    );
    if (path === "." && given !== "") {
      throw usage(`Cannot keep all of the folder as --out must name something in it: --out '*' is all that is in it`);
    }
    if (path !== ".." && !path.startsWith("../") && given !== "") return path;
    throw usage(`Cannot keep an output as --out must be a path inside of the folder: current value is "${given}"`);
  });
}

/** The folder that `--dir` says. @throws {Fault} `USAGE_INVALID` for flags that contradict each other. */
export function folderOf(flags: TaskFlags, userDir: string): string {
  if (flags["no-cache"] && flags.refresh) {
    throw usage("Cannot use --no-cache together with --refresh as what comes of it is either kept or not");
  }
  if (flags.dir !== undefined && flags.snapshot !== undefined) {
    throw usage("Cannot use --dir together with --snapshot as there must be one of them");
  }
  if (flags.snapshot !== undefined && flags.revision !== undefined) {
    throw usage("Cannot use --revision together with --snapshot as there must be one of them");
  }
  for (const other of ["snapshot", "revision"] as const) {
    if (flags[other] !== undefined && flags.include.length > 0) {
      throw usage(`Cannot use --include together with --${other} as nothing of the folder is captured then`);
    }
  }
  return resolve(userDir, flags.dir ?? ".");
}

/** Captures a folder and says so: a line for people on stderr, an object for programs on stdout. */
export async function captureFolder(
  call: Pick<Call, "world" | "isJson">,
  client: Client,
  options: { readonly dir: string; readonly include: readonly string[]; readonly signal?: AbortSignal },
): Promise<Digest> {
  const { world, isJson } = call;
  const progress = progressBar(world, "Capturing");
  let report;
  try {
    const trees = await world.trees();
    report = await trees.capture({
      ...options,
      blobs: client.blobs,
      holdsTree: (snapshot) => client.holds(snapshot, options),
      onProgress: (now) => progress.update(now),
    });
  } finally {
    await progress.clear();
  }
  if (isJson) await world.stdout.write(jsonLine({ type: "captured", ...report }));
  else await world.stderr.write(captureLines(report));
  return report.snapshot;
}

/** Captures a commit of the repository around a folder, and says so. */
async function captureCommit(
  { world, isJson }: Pick<Call, "world" | "isJson">,
  client: Client,
  revision: string,
  repository: string,
  signal: AbortSignal | undefined,
): Promise<Digest> {
  const startedAtMs = world.clock.now();
  const trees = await world.trees();
  const report = await trees.captureRevision({
    repository,
    revision,
    blobs: client.blobs,
    ...(signal === undefined ? {} : { signal }),
  });
  const tookMs = Math.max(0, world.clock.now() - startedAtMs);
  if (isJson) await world.stdout.write(jsonLine({ type: "captured", revision, ...report, tookMs }));
  else await world.stderr.write(revisionLine(revision, report, tookMs));
  return report.snapshot;
}

/** Snapshots of commits of one repository, each captured once. */
export type Commits = (revision: string) => Promise<Digest>;

/** @param repository a folder in it. */
export function commitsOf(world: World, client: Client, repository: string, signal?: AbortSignal): Commits {
  const known = new Map<string, Promise<Digest>>();
  const capture = async (revision: string): Promise<Digest> => {
    const options = { repository, revision, blobs: client.blobs, ...(signal === undefined ? {} : { signal }) };
    return (await (await world.trees()).captureRevision(options)).snapshot;
  };
  return (revision) => {
    const commit = known.get(revision) ?? capture(revision);
    known.set(revision, commit);
    return commit;
  };
}

/** Whether the command runs in what lies in the folder. */
export const isOfFolder = ({ snapshot, revision }: TaskFlags): boolean =>
  snapshot === undefined && revision === undefined;

/** What the command runs in: the named snapshot, the commit, or the captured folder. */
export async function inputOf(
  call: Pick<Call, "world" | "isJson">,
  client: Client,
  flags: TaskFlags,
  dir: string,
  signal?: AbortSignal,
): Promise<Digest> {
  if (flags.snapshot !== undefined) return await resolveSnapshot(client, flags.snapshot);
  if (flags.revision !== undefined) return await captureCommit(call, client, flags.revision, dir, signal);
  return await captureFolder(call, client, {
    dir,
    include: flags.include,
    ...(signal === undefined ? {} : { signal }),
  });
}
