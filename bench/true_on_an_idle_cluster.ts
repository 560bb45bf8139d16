import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { connectClient } from "../src/api/client.ts";
import { startCluster } from "../scripts/support/cluster.ts";
import { report } from "./report.ts";

/**
 * `/bin/true` on an idle local cluster by the typed client over the socket, from submit to the job's end, against the plain
 * spawn of it from the same runtime, in turn.
 */
const runs = Number(process.env["BENCH_RUNS"] ?? 200);

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** As a task is started: its streams are files. */
function plain(): Promise<number> {
  const startedMs = performance.now();
  return new Promise((resolve) => {
    const fd = openSync(join(dir, "out"), "w");
    spawn("/bin/true", [], { stdio: ["ignore", fd, fd] }).once("exit", () => {
      closeSync(fd);
      resolve(performance.now() - startedMs);
    });
  });
}

const dir = mkdtempSync(join(tmpdir(), "scoot-true-"));
const cluster = await startCluster(["--workers", "1", "--slots", "1"]);
const client = connectClient({ url: cluster.ready.http, token: cluster.token });
try {
  const ours = async (number: number): Promise<number> => {
    const startedMs = performance.now();
    const { jobId } = await client.submit({
      key: `true-${number}`,
      tasks: [{ name: "true", argv: ["/bin/true"], cache: "off" as const }],
    });
    for await (const change of client.watch(jobId, { tasks: false })) {
      if (change.kind === "job" && change.job.state === "failed") throw new Error(change.job.why);
    }
    return performance.now() - startedMs;
  };
  for (let number = 0; number < 20; number++) await ours(-number - 1);
  const took: number[] = [];
  const spawns: number[] = [];
  for (let number = 0; number < runs; number++) {
    spawns.push(await plain());
    took.push(await ours(number));
  }
  const percentile = (values: readonly number[], share: number): number =>
    [...values].sort((a, b) => a - b)[Math.floor(values.length * share)]!;
  report([
    {
      name: "median of /bin/true through the cluster, less that of the plain spawn",
      value: median(took) - median(spawns),
      unit: "ms",
      target: { atMost: 5 },
    },
    {
      name: "median of /bin/true through the cluster",
      value: median(took),
      unit: "ms",
      baseline: median(spawns),
      target: { atMost: Infinity },
    },
    {
      name: "95th percentile of it",
      value: percentile(took, 0.95),
      unit: "ms",
      baseline: percentile(spawns, 0.95),
      target: { atMost: Infinity },
    },
  ], process.argv);
} finally {
  await client.close();
  await cluster.stop();
  rmSync(dir, { recursive: true });
}
