import process from "node:process";
import { connectClient } from "../src/api/client.ts";
import type { At, News, Routes } from "../src/inspector/routes.ts";
import { restMs } from "../src/inspector/web/pace.ts";
import { report } from "./report.ts";
import { startParts, usageOf } from "./support/parts.ts";

/**
 * How late a page in the browser knows of what the scheduler has decided, and what pages that follow cost the cluster:
 * scheduler, gateway, simulated worker and client are processes of their own; the page is played by this one, which asks as
 * the page does. Turns without a follower, with a job's page and with the cluster's alternate in one run.
 */
const turns = Number(process.env["BENCH_TURNS"] ?? 4);
const secondsPerTurn = Number(process.env["BENCH_SECONDS"] ?? 8);
const changesWanted = Number(process.env["BENCH_CHANGES"] ?? 200);
const open = 100;
const tasksPerJob = 10;

const parts = await startParts({ sharesData: true });
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const ask = async <Name extends keyof Routes>(name: Name, query: string): Promise<Routes[Name]["answer"]> => {
  const response = await fetch(`${parts.gatewayUrl}/v1/inspect/${name}?${query}`, {
    headers: { authorization: `Bearer ${parts.token}` },
  });
  if (!response.ok) throw new Error(await response.text());
  return await response.json();
};
const newsAfter = async (watch: string, seq: number, signal: AbortSignal): Promise<News> => {
  const response = await fetch(`${parts.gatewayUrl}/v1/inspect/feed?watch=${watch}&after=${seq}`, {
    headers: { authorization: `Bearer ${parts.token}` },
    signal,
  });
  if (!response.ok) throw new Error(await response.text());
  return await response.json();
};

/** A page that follows: news, a look, a rest, until it is told to end. */
async function page(
  watch: string,
  look: (news: News) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  let { last: { seq } } = await ask("bounds", "");
  let lookedAtMs = performance.now();
  try {
    while (!signal.aborted) {
      const news = await newsAfter(watch, seq, signal);
      const entries = news.last.seq - seq;
      seq = news.last.seq;
      if (news.changed.length === 0) continue;
      const beganMs = performance.now();
      const entriesPerSecond = entries * 1_000 / Math.max(1, beganMs - lookedAtMs);
      lookedAtMs = beganMs;
      await look(news);
      await pause(restMs(performance.now() - beganMs, entriesPerSecond));
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
const middle = (values: readonly number[], share = 0.5): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? NaN;

try {
  const worker = parts.start("./noop_worker.ts", [parts.schedulerAddress, parts.token, "200"]);
  const client = connectClient({ url: parts.gatewayUrl, token: parts.token });
  const tasks = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ name: `t${index}`, argv: ["true"], cache: "off" as const }));
  const runJob = async (key: string): Promise<void> => {
    const { jobId } = await client.submit({ key, requestor: `r${key.length % 5}`, tasks: tasks(tasksPerJob) });
    for await (const _ of client.watch(jobId, { tasks: false }));
  };

  // How late: on a cluster that does little, something happens now and then.
  await runJob("first");
  const late: number[] = [];
  const stopLooking = new AbortController();
  const shown = new Map<string, number>();
  const looking = page("task/", async () => {
    const { jobs } = await ask("jobs", "limit=3");
    for (const { jobId } of jobs) {
      const { tasks } = await ask("job", `id=${jobId}`) as At<Routes["job"]["answer"]>;
      const nowMs = Date.now();
      for (const { taskId, cause } of tasks) {
        if ((shown.get(taskId) ?? 0) >= cause.seq) continue;
        shown.set(taskId, cause.seq);
        late.push(nowMs - cause.atMs);
      }
    }
  }, stopLooking.signal);
  for (let number = 0; number < changesWanted; number++) {
    const { jobId } = await client.submit({ key: `late-${number}`, tasks: tasks(1) });
    for await (const _ of client.watch(jobId, { tasks: false }));
    await pause(50 + number * 37 % 500);
  }
  await pause(500);
  stopLooking.abort();
  await looking;

  // What it costs.
  let jobs = 0;
  let isOver = false;
  const lanes = Array.from({ length: open }, async (_, lane) => {
    for (let turn = 0; !isOver; turn++, jobs++) await runJob(`cost-${lane}-${turn}`);
  });
  await pause(3_000); // warm
  const none = () => ({ cpu: 0, tasks: 0, looks: 0, tookMs: 0 });
  const spent = { alone: none(), job: none(), cluster: none() };
  const cpu = (): number => usageOf(parts.scheduler.pid).cpuSeconds + usageOf(parts.gateway.pid).cpuSeconds;
  await Promise.all([ask("overview", ""), ask("rates", "")]); // what is counted once is not what following costs
  await pause(1_000);
  for (let turn = 0; turn < turns * 3; turn++) {
    const what = (["alone", "job", "cluster"] as const)[turn % 3]!;
    const sum = spent[what];
    const stop = new AbortController();
    const { jobs: newest } = await ask("jobs", "limit=1");
    let jobId = newest[0]!.jobId;
    const looks = {
      // The page of a job, and of the next when that has ended.
      async job() {
        const { job } = await ask("job", `id=${jobId}`) as At<Routes["job"]["answer"]>;
        if (job.state !== "running") jobId = (await ask("jobs", "limit=1")).jobs[0]!.jobId;
      },
      async cluster() {
        await Promise.all([ask("overview", ""), ask("rates", "")]);
      },
    };
    if (what === "cluster") await looks.cluster(); // what came while nobody looked is read once, when it is opened
    const following = what === "alone" ? Promise.resolve() : page("task/", async () => {
      const beganMs = performance.now();
      await looks[what]();
      sum.tookMs += performance.now() - beganMs;
      sum.looks++;
    }, stop.signal);
    const before = { cpu: cpu(), jobs };
    await pause(secondsPerTurn * 1_000);
    sum.cpu += cpu() - before.cpu;
    sum.tasks += (jobs - before.jobs) * tasksPerJob;
    stop.abort();
    await following;
  }
  isOver = true;
  await Promise.all(lanes);
  await client.close();
  await worker.kill();
  const per10000 = ({ cpu, tasks }: typeof spent.alone): number => cpu / tasks * 10_000;
  const alone = per10000(spent.alone);
  report([
    {
      name: `from a state's entry to its page's answer, median of ${late.length}`,
      value: middle(late),
      unit: "ms",
      target: { atMost: 200 },
    },
    { name: "the same, 95 of 100", value: middle(late, 0.95), unit: "ms", target: { atMost: Infinity } },
    ...(["job", "cluster"] as const).flatMap((what) => {
      const { looks, tookMs } = spent[what];
      return [
        {
          name: `CPU of scheduler and gateway for 10,000 no-op tasks, while a ${what}'s page follows`,
          value: per10000(spent[what]),
          unit: "s",
          baseline: alone,
          target: { atMost: alone * 1.05 },
        },
        {
          name: `looks of the ${what}'s page a second`,
          value: looks / (turns * secondsPerTurn),
          unit: "looks/s",
          target: { atLeast: 0 },
        },
        {
          name: `one look of the ${what}'s page`,
          value: tookMs / Math.max(1, looks),
          unit: "ms",
          target: { atMost: Infinity },
        },
      ];
    }),
  ], process.argv);
} finally {
  await parts.stop();
}
