import process from "node:process";
import { connectClient } from "../src/api/client.ts";
import { report } from "./report.ts";
import { startParts, usageOf } from "./support/parts.ts";

/**
 * How many tasks that do nothing the cluster carries a second: scheduler, gateway, simulated worker and client are
 * processes of their own over TCP, jobs of 10 tasks, 100 of them open, commits on disk, retention running.
 */
const seconds = Number(process.env["BENCH_SECONDS"] ?? 60);
const tasksPerJob = 10;
const open = 100;
const slots = 200;

const parts = await startParts();
try {
  const worker = parts.start("./noop_worker.ts", [parts.schedulerAddress, parts.token, String(slots)]);
  const client = connectClient({ url: parts.gatewayUrl, token: parts.token });
  let jobs = 0;
  let isOver = false;
  const lane = async (number: number): Promise<void> => {
    for (let turn = 0; !isOver; turn++) {
      const tasks = Array.from(
        { length: tasksPerJob },
        (_, index) => ({ name: `t${index}`, argv: ["true"], cache: "off" as const }),
      );
      const { jobId } = await client.submit({ key: `${number}-${turn}`, requestor: `r${number % 5}`, tasks });
      for await (const change of client.watch(jobId, { tasks: false })) {
        if (change.kind === "job" && change.job.state === "failed") throw new Error(change.job.why);
      }
      jobs++;
    }
  };
  const lanes = Array.from({ length: open }, (_, number) => lane(number));
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  await pause(3_000); // warm
  const look = () => ({
    atMs: performance.now(),
    jobs,
    scheduler: usageOf(parts.scheduler.pid),
    gateway: usageOf(parts.gateway.pid),
    worker: usageOf(worker.pid),
    client: process.cpuUsage(),
  });
  const samples = [look()];
  const endMs = performance.now() + seconds * 1_000;
  while (performance.now() < endMs) {
    await pause(5_000);
    samples.push(look());
  }
  isOver = true;
  const first = samples[0]!;
  const last = samples.at(-1)!;
  const took = (last.atMs - first.atMs) / 1_000;
  const tasks = (last.jobs - first.jobs) * tasksPerJob;
  const rates = samples.slice(1).map((sample, index) =>
    ((sample.jobs - samples[index]!.jobs) * tasksPerJob * 1_000) / (sample.atMs - samples[index]!.atMs)
  );
  await Promise.all(lanes);
  await client.close();
  const written = last.scheduler.writtenBytes - first.scheduler.writtenBytes;
  report([
    {
      name: `no-op tasks a second, over ${Math.round(took)} s`,
      value: tasks / took,
      unit: "tasks/s",
      target: { atLeast: 5_000 },
    },
    {
      name: "no-op tasks a second, in the slowest 5 s",
      value: Math.min(...rates),
      unit: "tasks/s",
      target: { atLeast: 0 },
    },
    {
      name: "written to disk by the scheduler",
      value: written / took / 1e6,
      unit: "MB/s",
      target: { atMost: Infinity },
    },
    {
      name: "CPU of the scheduler a task",
      value: ((last.scheduler.cpuSeconds - first.scheduler.cpuSeconds) * 1e6) / tasks,
      unit: "µs",
      target: { atMost: Infinity },
    },
    {
      name: "CPU of the gateway a task",
      value: ((last.gateway.cpuSeconds - first.gateway.cpuSeconds) * 1e6) / tasks,
      unit: "µs",
      target: { atMost: Infinity },
    },
    {
      name: "CPU of the simulated worker a task",
      value: ((last.worker.cpuSeconds - first.worker.cpuSeconds) * 1e6) / tasks,
      unit: "µs",
      target: { atMost: Infinity },
    },
    {
      name: "CPU of the client a task",
      value: (last.client.user + last.client.system - first.client.user - first.client.system) / tasks,
      unit: "µs",
      target: { atMost: Infinity },
    },
    {
      name: "anonymous memory of the scheduler at the end",
      value: last.scheduler.anonBytes / 1e6,
      unit: "MB",
      target: { atMost: Infinity },
    },
  ], process.argv);
} finally {
  await parts.stop();
}
