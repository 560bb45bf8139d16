import process from "node:process";
import { connectClient } from "../src/api/client.ts";
import { report } from "./report.ts";
import { startParts, usageOf } from "./support/parts.ts";

/**
 * 100,000 queued tasks in one scheduler: its anonymous memory while they come and after a restart, whether the last
 * submit is as fast as the first, and how soon after `kill -9` and a new start tasks are done again.
 */
const jobs = Number(process.env["BENCH_JOBS"] ?? 10_000);
const tasksPerJob = 10;
const sampled = Math.min(500, Math.floor(jobs / 4));

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const parts = await startParts();
try {
  const client = connectClient({ url: parts.gatewayUrl, token: parts.token });
  const empty = usageOf(parts.scheduler.pid).anonBytes;
  let submitted = 0;
  const submit = async (): Promise<void> => {
    const number = submitted++;
    await client.submit({
      key: `job-${number}`,
      requestor: `r${number % 5}`,
      tasks: Array.from(
        { length: tasksPerJob },
        (_, index) => ({ name: `t${index}`, argv: ["true"], cache: "off" as const }),
      ),
    });
  };
  /** One after the other, so that each is measured alone. */
  const timed = async (count: number): Promise<number[]> => {
    const took: number[] = [];
    for (let number = 0; number < count; number++) {
      const startedMs = performance.now();
      await submit();
      took.push(performance.now() - startedMs);
    }
    return took;
  };
  await timed(200); // warm
  const first = await timed(sampled);
  let peak = 0;
  const left = jobs - submitted - sampled;
  const lane = async (): Promise<void> => {
    while (submitted < jobs - sampled) await submit();
  };
  const watching = setInterval(() => peak = Math.max(peak, usageOf(parts.scheduler.pid).anonBytes), 100);
  await Promise.all(Array.from({ length: left > 0 ? 20 : 0 }, lane));
  await pause(2_000); // the collector's turn, as after any burst
  const last = await timed(sampled);
  clearInterval(watching);
  const { queued } = await client.cluster();
  if (queued !== jobs * tasksPerJob) throw new Error(`${queued} are queued`);

  await parts.scheduler.kill();
  parts.start("./noop_worker.ts", [parts.schedulerAddress, parts.token, "50"]);
  const killedMs = performance.now();
  const scheduler = await parts.restartScheduler();
  const readyMs = performance.now() - killedMs;
  while ((await client.cluster()).queued > jobs * tasksPerJob - 100) await pause(5);
  const dispatchingMs = performance.now() - killedMs;
  const restarted = usageOf(scheduler.pid);
  await client.close();
  report([
    {
      name: "anonymous memory with 100,000 queued, at its peak under load",
      value: peak / 1e6,
      unit: "MB",
      target: { atMost: 200 },
    },
    {
      name: "anonymous memory with 100,000 queued, after a restart",
      value: restarted.anonBytes / 1e6,
      unit: "MB",
      target: { atMost: 200 },
    },
    {
      name: "… for each of them, more than a new scheduler has with none",
      value: (restarted.anonBytes - empty) / (tasksPerJob * jobs),
      unit: "bytes",
      target: { atMost: 1_024 },
    },
    {
      name: "resident memory after the restart, the mapped index included",
      value: restarted.residentBytes / 1e6,
      unit: "MB",
      target: { atMost: Infinity },
    },
    {
      name: "median submit at 100,000 queued, to that at none",
      value: median(last) / median(first),
      unit: "times",
      target: { atMost: 1.2 },
    },
    {
      name: "median submit of a job of 10 at 100,000 queued",
      value: median(last),
      unit: "ms",
      target: { atMost: Infinity },
    },
    { name: "restart to ready", value: readyMs / 1_000, unit: "s", target: { atMost: 2 } },
    { name: "restart to 100 tasks done", value: dispatchingMs / 1_000, unit: "s", target: { atMost: 2 } },
  ], process.argv);
} finally {
  await parts.stop();
}
