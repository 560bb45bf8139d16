import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { cliArgs, startCluster } from "../scripts/support/cluster.ts";
import { realClock, sleep } from "../src/runtime/clock.ts";
import { makeTree } from "./capture_20000_files.ts";
import { type Figure, report } from "./report.ts";

/**
 * `run -- true` in a folder of 20,000 files that was captured before, as a whole process against a cluster on this
 * machine, beside a process of the same runtime that only looks at each of those files; in turn. Once as a task that is
 * run, once as one whose result is known.
 */
const runs = Number(process.env["BENCH_RUNS"] ?? 15);
/** Files younger than this are read again by the next capture. */
const settledMs = 2500;

const isDeno = "deno" in process.versions;
const isBuilt = !isDeno && process.env["BENCH_BUILT"] === "1";
const program = isBuilt ? [fileURLToPath(new URL("../bin/scoot-actors.mjs", import.meta.url))] : cliArgs();

/** What anybody who looks whether files have changed must do at least. */
const walk = `const { lstatSync, readdirSync } = require("node:fs");
(function walk(dir) {
  for (const name of readdirSync(dir)) {
    const path = dir + "/" + name;
    if (lstatSync(path).isDirectory()) walk(path);
  }
})(".");`;
const plain = isDeno ? ["eval", "--ext=cjs", walk] : ["-e", walk];

const top = mkdtempSync(join(tmpdir(), "scoot-run-warm-"));
const dir = join(top, "tree");
makeTree(dir);
const cluster = await startCluster(["--workers", "1", "--slots", "1"]);
const env = { ...cluster.env, XDG_CACHE_HOME: join(top, "cache") };
mkdirSync(env.XDG_CACHE_HOME);

/** Of a process that must end well. */
function timed(args: readonly string[]): Promise<number> {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: dir, env, stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (bytes) => said += bytes);
    child.once("close", (code) => {
      if (code === 0) resolve(performance.now() - startedMs);
      else reject(new Error(`${args.join(" ")} exited with ${code}: ${said}`));
    });
  });
}
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

try {
  const run = (): Promise<number> => timed([...program, "run", "--no-cache", "--", "true"]);
  const hit = (): Promise<number> => timed([...program, "run", "--", "true"]);
  await hit();
  await sleep(realClock, settledMs);
  for (let round = 0; round < 3; round++) await run(); // writes what the next one knows
  await hit();
  const times = { plain: [] as number[], run: [] as number[], hit: [] as number[] };
  for (let round = 0; round < runs; round++) {
    times.plain.push(await timed(plain));
    times.run.push(await run());
    times.hit.push(await hit());
  }
  const baseline = median(times.plain);
  const figure = (name: string, value: number): Figure => ({
    name,
    value,
    unit: "ms",
    baseline,
    target: { atMost: Math.round(4 * baseline) },
  });
  report([
    figure("run -- true in a warm tree of 20,000 files, beside a stat walk", median(times.run)),
    figure("the same when its result is known", median(times.hit)),
  ], process.argv);
} finally {
  await cluster.stop();
  rmSync(top, { recursive: true, force: true });
}
