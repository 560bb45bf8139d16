/** How many entries a second a folder keeps, each durable before it is acknowledged, and what else that costs. */
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Address } from "../src/domain/ids.ts";
import { realClock } from "../src/runtime/clock.ts";
import { localStates } from "../src/snapshots/states/local.ts";
import type { Entry } from "../src/snapshots/states/states.ts";
import { type Figure, report } from "./report.ts";

const entriesTotal = 300_000;
const perCommit = 100;
const overlapping = 2;
const job = "j01k3x9q7f-4m2d";

/** One of six states of a task, about 390 bytes in the log; 600 tasks are under way at a time. */
function entryAt(seq: number): Entry {
  const task = Math.floor(seq / 3600) * 600 + (seq % 600);
  const value = ["waiting", "queued", "placed", "running", "stopping", "settled"][Math.floor(seq / 600) % 6];
  const context = { taskId: `${job}/${task}`, attempt: 1, workerId: "w1", timeoutMs: 1000, why: "its files are there" };
  return {
    seq,
    atMs: 1_760_000_000_000 + seq,
    epoch: 3,
    address: `task/${job}/${task}` as Address,
    machine: "task",
    version: 1,
    state: { status: "active", value, context, children: {} },
    cause: { id: `${seq - 1}.0`, from: "scheduler" as Address, event: { type: "task.placed", workerId: "w1" } },
    said: [{ id: `${seq}.0`, to: `job/${job}` as Address, body: { type: "job.taskChanged", task, to: value } }],
  };
}

interface Run {
  readonly perSecond: number;
  readonly bytesPerSecond: number;
  readonly cpuUs: number;
  readonly lagMs: number;
}

async function measure(commit: (entries: readonly Entry[]) => Promise<void>, end: () => Promise<number>): Promise<Run> {
  let lagMs = 0;
  let tick = performance.now();
  const timer = setInterval(() => {
    lagMs = Math.max(lagMs, performance.now() - tick - 5);
    tick = performance.now();
  }, 5);
  const cpu = process.cpuUsage();
  const start = performance.now();
  let made = 0;
  const lane = async (): Promise<void> => {
    while (made < entriesTotal) {
      const first = made;
      made += perCommit;
      await commit(Array.from({ length: perCommit }, (_, index) => entryAt(first + index + 1)));
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all(Array.from({ length: overlapping }, lane));
  const seconds = (performance.now() - start) / 1000;
  const bytes = await end();
  const { user, system } = process.cpuUsage(cpu);
  clearInterval(timer);
  return {
    perSecond: entriesTotal / seconds,
    bytesPerSecond: bytes / seconds,
    cpuUs: (user + system) / entriesTotal,
    lagMs,
  };
}

const dir = await mkdtemp(join(tmpdir(), "scoot-actors-bench-"));
try {
  const states = await localStates({ dir: join(dir, "store"), clock: realClock });
  await states.tail((to) => !to.startsWith("member/"));
  const ours = await measure((entries) => states.commit(entries), async () => {
    // The index is brought up to the end: what it costs is counted.
    for await (const _ of states.current("none/"));
    return (await states.bounds()).bytes;
  });

  const start = performance.now();
  let actors = 0;
  for await (const _ of states.cut(entriesTotal)) actors++;
  const cutPerSecond = actors / ((performance.now() - start) / 1000);
  const { bytes } = await states.bounds();
  const pruneStart = performance.now();
  await states.prune({ beforeMs: 0, bytesMax: bytes / 2 });
  const pruneBytesPerSecond = bytes / 2 / ((performance.now() - pruneStart) / 1000);
  await states.close();

  // Without us: the same bytes appended as JSON, one write and one fdatasync for each commit.
  const bare = await open(join(dir, "bare"), "a");
  let written = 0;
  let last: Promise<void> = Promise.resolve();
  const baseline = await measure((entries) =>
    last = last.then(async () => {
      const text = JSON.stringify(entries);
      written += text.length;
      await bare.write(text);
      await bare.datasync();
    }), () => Promise.resolve(written));
  await bare.close();

  const figures: Figure[] = [
    {
      name: "entries committed, durable, 2 × 100 at a time",
      value: ours.perSecond,
      unit: "entries/s",
      baseline: baseline.perSecond,
      target: { atLeast: 30_000 },
    },
    {
      name: "bytes committed",
      value: ours.bytesPerSecond / 1e6,
      unit: "MB/s",
      baseline: baseline.bytesPerSecond / 1e6,
      target: { atLeast: 10 },
    },
    {
      name: "CPU of an entry, making it and indexing it included",
      value: ours.cpuUs,
      unit: "µs",
      baseline: baseline.cpuUs,
      target: { atMost: 12 },
    },
    { name: "longest time the event loop was blocked", value: ours.lagMs, unit: "ms", target: { atMost: 50 } },
    { name: "actors read from a cut", value: cutPerSecond, unit: "actors/s", target: { atLeast: 50_000 } },
    { name: "history pruned", value: pruneBytesPerSecond / 1e6, unit: "MB/s", target: { atLeast: 20 } },
  ];
  report(figures, process.argv.slice(2));
} finally {
  await rm(dir, { recursive: true, force: true });
}
