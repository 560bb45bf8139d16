import { createReadStream, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Client } from "../../api/client.ts";
import { parseTraceTask } from "../../protocol/trace.ts";
import { seededRandom } from "../../runtime/random.ts";
import { type Fleet, type Forecast, forecast as forecastOf, type TraceTask } from "../../scheduling/forecast.ts";
import { checkPolicy, defaultPolicy, type Policy } from "../../scheduling/policy.ts";
import { type Synthetic, syntheticTrace } from "../../scheduling/synthetic.ts";
import { clusterFlags, command } from "../command.ts";
import { exitCodes } from "../exit_codes.ts";
import { duration, text, textOf, usage, whole } from "../flags.ts";
import { readJson } from "../read_json.ts";
import { jsonLine, lookOf, span, table } from "../render.ts";
import type { World } from "../world.ts";

const flags = {
  trace: text("FILE", "A line of JSON for each task: atMs, requestor, rank, durationMs; in the order of atMs"),
  synthetic: text(
    "K=V,…",
    "Made-up work instead: tasks=500000,hours=24,duration=30s,requestors=ci:3+dev:1 (name:part), seed=1",
  ),
  record: text("FILE", "Write the trace of what this cluster still knows of, and do no more"),
  workers: textOf("N", "Workers of the fleet; 10 by default", whole(1, 100_000)),
  slots: textOf("N", "Tasks that each runs at once; 1 by default", whole(1, 1_024)),
  policy: text("FILE", "Settings as scheduler get prints them; one class for all by default"),
  against: text("FILE", "Other settings, to compare with"),
  "against-workers": textOf("N", "Another number of workers, to compare with", whole(1, 100_000)),
  ...clusterFlags,
} as const;

/** Scoot's simulator: what a fleet and a policy make of a day's work, by the code that schedules. */
export const forecast = command({
  name: "forecast",
  usage: [
    "forecast --trace FILE|--synthetic K=V,… [--workers N] [--policy FILE] [--against FILE]",
    "forecast --record FILE",
  ],
  about:
    "Runs the scheduler's own decisions on virtual time, over a trace of tasks or made-up work, and prints how long each class waits, how busy the fleet is and how fair; and the difference that another policy or fleet makes. Tasks take as long as the trace says; there are no failures.",
  examples: [
    ["forecast --record day.jsonl", "what this cluster ran, as a trace"],
    ["forecast --trace day.jsonl --workers 40 --against-workers 60", "what 20 more workers would bring"],
    [
      "forecast --synthetic tasks=100000,hours=24,duration=1m --workers 100 --policy new.json",
      "a policy on made-up work",
    ],
  ],
  flags,
  words: { min: 0, max: 0 },
  async run({ flags, world, isJson, connect }) {
    if (flags.record !== undefined) {
      const tasks = await record(await connect(), resolve(world.userDir, flags.record));
      await world.stdout.write(isJson ? jsonLine({ recorded: tasks }) : `Wrote ${tasks} tasks to ${flags.record}.\n`);
      return exitCodes.done;
    }
    if ((flags.trace === undefined) === (flags.synthetic === undefined)) {
      throw usage("Cannot forecast as there must be a --trace FILE or --synthetic work, and not both");
    }
    const trace = flags.trace === undefined
      ? readSynthetic(flags.synthetic!)
      : await readTrace(resolve(world.userDir, flags.trace), flags.trace);
    const policy = await readPolicy(world, flags.policy);
    const fleet: Fleet = { workers: flags.workers ?? 10, slots: flags.slots ?? 1 };
    const runs: [string, Fleet, Policy][] = [["as given", fleet, policy]];
    if (flags.against !== undefined) {
      runs.push([`with ${flags.against}`, fleet, await readPolicy(world, flags.against)]);
    }
    const others = flags["against-workers"];
    if (others !== undefined) runs.push([`with ${others} workers`, { ...fleet, workers: others }, policy]);
    const look = lookOf(world);
    for (const [what, of, by] of runs) {
      const found = forecastOf(trace(), of, by);
      await world.stdout.write(isJson ? jsonLine({ what, ...found }) : `${shown(what, found, look)}\n`);
    }
    return exitCodes.done;
  },
});

function shown(what: string, found: Forecast, look: Parameters<typeof table>[0]): string {
  const { tasks, slots, lastsMs, utilisationPercent, unfairPoints, unplaceable, preempted } = found;
  const rows = found.classes.map((one) => [
    one.name,
    `${one.percent} %`,
    `${one.usedPercent.toFixed(1)} %`,
    String(one.tasks),
    ...[one.waitP50Ms, one.waitP95Ms, one.waitP99Ms, one.waitMaxMs].map((ms) => span(ms)),
  ]);
  const fair = unfairPoints === undefined
    ? "no minute in which all classes had work"
    : `shares off by ${unfairPoints.mean.toFixed(1)} points on average, ${
      unfairPoints.worst.toFixed(1)
    } at the worst, in ${unfairPoints.minutes} minutes in which all classes had work`;
  return `${what}: ${tasks} tasks on ${slots} slots in ${span(lastsMs)}, ${
    utilisationPercent.toFixed(1)
  } % busy; ${fair}${preempted > 0 ? `; ${preempted} put back` : ""}${
    unplaceable > 0 ? `; ${unplaceable} that no worker can run` : ""
  }\n${table(look, ["CLASS", "SHARE", "USED", "TASKS", "WAIT P50", "P95", "P99", "MAX"], rows)}`;
}

async function readPolicy(world: World, file: string | undefined): Promise<Policy> {
  if (file === undefined) return defaultPolicy;
  const { parseSettings } = await import("../../protocol/settings.ts");
  return checkPolicy(parseSettings(await readJson(world, file, "settings")).policy);
}

async function readTrace(path: string, name: string): Promise<() => readonly TraceTask[]> {
  const tasks: TraceTask[] = [];
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    if (line.trim() === "") continue;
    const task = parseTraceTask(line, `line ${tasks.length + 1} of ${name}`);
    if (task.atMs < (tasks.at(-1)?.atMs ?? 0)) {
      throw usage(
        `Cannot read line ${tasks.length + 1} of ${name} as atMs must not fall: current value is ${task.atMs}`,
      );
    }
    tasks.push(task);
  }
  return () => tasks;
}

function readSynthetic(given: string): () => Iterable<TraceTask> {
  const fields: Record<string, string> = {};
  for (const part of given.split(",")) {
    const [name = "", ...value] = part.split("=");
    if (!["tasks", "hours", "duration", "requestors", "seed"].includes(name)) {
      throw usage(
        `Cannot read --synthetic as its fields must be tasks, hours, duration, requestors or seed: current value is "${name}"`,
      );
    }
    fields[name] = value.join("=");
  }
  const requestors = (fields["requestors"] ?? "everybody:1").split("+").map((one) => {
    const [name = "", part = "1"] = one.split(":");
    return { name, part: whole(1, 1_000)(part, "the part of a requestor"), rank: 2 };
  });
  const work: Synthetic = {
    tasks: whole(1, 10_000_000)(fields["tasks"] ?? "10000", "tasks of --synthetic"),
    hours: whole(1, 10_000)(fields["hours"] ?? "24", "hours of --synthetic"),
    durationMs: duration(24 * 3_600_000)(fields["duration"] ?? "30s", "duration of --synthetic"),
    requestors,
  };
  const seed = whole(0, 2 ** 31)(fields["seed"] ?? "1", "seed of --synthetic");
  return () => {
    const random = seededRandom(seed);
    return syntheticTrace(work, () => random.integer(2 ** 30) / 2 ** 30);
  };
}

/** Tasks that were run, by when they became queued. What the cluster has forgotten is not in it. */
async function record(client: Client, path: string): Promise<number> {
  const tasks: TraceTask[] = [];
  let before: Awaited<ReturnType<Client["jobs"]>>[number]["jobId"] | undefined;
  for (;;) {
    const page = await client.jobs({ limit: 1_000, ...(before === undefined ? {} : { before }) });
    for (const { jobId, requestor, priority } of page) {
      for (const task of (await client.job(jobId)).tasks) {
        const { outcome, queuedAtMs, attempts } = task;
        if (outcome === undefined || outcome.kind === "skipped" || task.cached !== undefined) continue;
        const { startedAtMs, endedAtMs } = outcome;
        if (startedAtMs === undefined || endedAtMs === undefined || queuedAtMs === undefined) continue;
        const placedAtMs = attempts.at(-1)?.placedAtMs ?? startedAtMs;
        tasks.push({
          atMs: queuedAtMs,
          requestor,
          rank: 2 - priority,
          durationMs: Math.max(1, endedAtMs - placedAtMs),
        });
      }
    }
    before = page.at(-1)?.jobId;
    if (page.length < 1_000) break;
  }
  tasks.sort((a, b) => a.atMs - b.atMs);
  // Nothing that is there is written over: EEXIST is told by its path.
  writeFileSync(path, tasks.map((task) => `${JSON.stringify(task)}\n`).join(""), { flag: "wx" });
  return tasks.length;
}
