import process from "node:process";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { jobId, type TaskId, taskId, workerId } from "../src/domain/ids.ts";
import { seededRandom } from "../src/runtime/random.ts";
import { type QueuedTask, schedulingView } from "../src/scheduling/plan.ts";
import { defaultPolicy } from "../src/scheduling/policy.ts";
import { type Figure, report } from "./report.ts";
import { usageOf } from "./support/parts.ts";

/**
 * What does a decision cost when much waits? 10,000 workers that are all busy, and tasks of 50 requestors, four classes,
 * three ranks, several platforms and sizes in the queue. A decision: a task ends (vacate), and another takes its
 * place (next, dequeue, occupy). And what does a queued task cost in memory?
 */
const workers = Number(process.env["BENCH_WORKERS"] ?? 10_000);
const sizes = [1_000, 10_000, 100_000, Number(process.env["BENCH_QUEUED"] ?? 1_000_000)];
const decisions = 50_000;

const policies = {
  "four classes": {
    ...defaultPolicy,
    classes: [
      { name: "ci", percent: 40, floor: 100 },
      { name: "land", percent: 30, floor: 0 },
      { name: "developers", percent: 20, floor: 0 },
      { name: "rest", percent: 10, floor: 0 },
    ],
    requestors: [
      { pattern: "r.*[012]", class: "ci" },
      { pattern: "r.*[345]", class: "land" },
      { pattern: "r.*[67]", class: "developers" },
    ],
    counters: { licence: 100 },
  },
  "one class": defaultPolicy,
};

if (process.versions["deno"] === undefined) setFlagsFromString("--expose-gc");
const collect = (): void => {
  if (process.versions["deno"] === undefined) (runInNewContext("gc") as () => void)();
};
const platforms = [{}, {}, {}, {}, { os: "linux" }, { os: "linux" }, { os: "linux", gpu: "a" }, {
  os: "linux",
  gpu: "b",
}];
const gigabyte = 2 ** 30;

function tasks(seed: number, tasksPerJob = 100): () => QueuedTask {
  const random = seededRandom(seed);
  let job = 0;
  let index = tasksPerJob;
  let shared: Omit<QueuedTask, "taskId">;
  return () => {
    if (index === tasksPerJob) {
      index = 0;
      job++;
      const memory = random.integer(10);
      shared = {
        requestor: `r${random.integer(50)}`,
        rank: random.integer(3),
        platform: platforms[random.integer(platforms.length)]!,
        input: `input of job ${job}`,
        again: false,
        queuedAtMs: job,
        ...(memory < 4 ? { needs: { memoryBytes: (1 + memory) * gigabyte, cpuMillis: 1_000 } } : {}),
      };
    }
    return { ...shared, taskId: taskId(jobId(`j${String(job).padStart(10, "0")}-000000`), index++) };
  };
}

function withWorkers(policy: typeof defaultPolicy): ReturnType<typeof schedulingView> {
  const view = schedulingView(policy);
  for (let at = 0; at < workers; at++) {
    view.setWorker({
      workerId: workerId(`w${at}`),
      slots: 2,
      platform: at % 10 === 0 ? { os: "linux", gpu: at % 20 === 0 ? "a" : "b" } : at % 3 === 0 ? {} : { os: "linux" },
      cpuMillis: 4_000,
      memoryBytes: 8 * gigabyte,
    });
  }
  return view;
}

/** Of each decision, that of what ended before included, sorted, in microseconds. */
function costs(queued: number, policy: typeof defaultPolicy, tasksPerJob?: number): Float64Array {
  const random = seededRandom(1);
  const make = tasks(2, tasksPerJob);
  const view = withWorkers(policy);
  const known = new Map<TaskId, QueuedTask>();
  const running: TaskId[] = [];
  let nowMs = queued;
  const fill = (): void => {
    while (view.queued < queued) {
      const task = make();
      known.set(task.taskId, task);
      view.enqueue(task);
    }
  };
  /** How long it took, in microseconds; the task itself is found by whoever keeps it. */
  const place = (): { readonly goesOn: boolean; readonly tookUs: number } => {
    const startedAtMs = performance.now();
    const next = view.next(nowMs);
    const decidedAtMs = performance.now();
    if (next === undefined) return { goesOn: false, tookUs: (decidedAtMs - startedAtMs) * 1_000 };
    const task = known.get(next.taskId)!;
    running.push(next.taskId);
    const goesOnAtMs = performance.now();
    view.dequeue(next.taskId);
    view.occupy(next.workerId, task);
    return { goesOn: true, tookUs: (performance.now() - goesOnAtMs + decidedAtMs - startedAtMs) * 1_000 };
  };
  // All workers are to be busy, however little waits.
  for (let before = -1; before < running.length;) {
    before = running.length;
    fill();
    while (place().goesOn);
  }
  fill();
  const took: number[] = [];
  let passed = 0;
  while (took.length < decisions) {
    nowMs += random.integer(3);
    const which = random.integer(running.length);
    const ended = running[which]!;
    running[which] = running.at(-1)!;
    running.pop();
    const startedAtMs = performance.now();
    view.vacate(ended);
    let before = (performance.now() - startedAtMs) * 1_000;
    for (let goesOn = true; goesOn;) {
      const placed = place();
      goesOn = placed.goesOn;
      if (passed++ >= 10_000) took.push(before + placed.tookUs);
      before = 0;
    }
    known.delete(ended);
    fill();
  }
  return Float64Array.from(took).sort();
}

/** Of all that a queued task costs in the view, its id included. */
function bytesOfEach(queued: number, policy: typeof defaultPolicy): number {
  const make = tasks(3);
  const view = withWorkers(policy);
  collect();
  const before = usageOf(process.pid).anonBytes;
  for (let at = 0; at < queued; at++) view.enqueue(make());
  collect();
  return (usageOf(process.pid).anonBytes - before) / view.queued;
}

/** A task from its arrival to its end on an idle cluster, in microseconds. */
function wholeTask(policy: typeof defaultPolicy): number {
  const view = withWorkers(policy);
  const make = tasks(4);
  const rounds = 200_000;
  let startedAtMs = 0;
  for (let at = -20_000; at < rounds; at++) {
    if (at === 0) startedAtMs = performance.now();
    const task = make();
    view.enqueue(task);
    const next = view.next(at)!;
    view.dequeue(next.taskId);
    view.occupy(next.workerId, task);
    view.vacate(next.taskId);
  }
  return (performance.now() - startedAtMs) * 1_000 / rounds;
}

const at = (sorted: Float64Array, part: number): number => sorted[Math.floor(sorted.length * part)]!;
const figures: Figure[] = [];
figures.push({
  name: "memory of a queued task",
  value: bytesOfEach(sizes.at(-1)!, policies["four classes"]),
  unit: "bytes",
  target: { atMost: 1_024 },
});
for (const [name, policy] of Object.entries(policies)) {
  figures.push({ name: `a task all told, ${name}`, value: wholeTask(policy), unit: "µs", target: { atMost: 10 } });
  for (const size of sizes) {
    const sorted = costs(size, policy);
    figures.push(
      { name: `decision, ${name}, ${size} queued, p50`, value: at(sorted, 0.5), unit: "µs", target: { atMost: 50 } },
      { name: `decision, ${name}, ${size} queued, p99`, value: at(sorted, 0.99), unit: "µs", target: { atMost: 50 } },
    );
  }
}
// Of as many jobs, so that they differ in the number of their tasks alone, and not in what is wanted.
const [fewest, most] = [sizes[0]!, sizes.at(-1)!].map((size) => costs(size, policies["four classes"], size / 1_000));
figures.push({
  name: `decision, p50 at ${sizes.at(-1)} queued, to that at ${sizes[0]}, of 1,000 jobs each`,
  value: at(most!, 0.5) / at(fewest!, 0.5),
  unit: "times",
  target: { atMost: Math.log(sizes.at(-1)!) / Math.log(sizes[0]!) },
});
report(figures, process.argv);
