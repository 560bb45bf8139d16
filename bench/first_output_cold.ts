import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { cliArgs, startCluster } from "../scripts/support/cluster.ts";
import { report } from "./report.ts";

/**
 * How long until the first line of output of `run` of this project's own tree, on a cluster that was just started and has
 * nothing of it; and what a second user of the same cluster sends of the same tree.
 */
const runs = Number(process.env["BENCH_RUNS"] ?? 5);

const isBuilt = !("deno" in process.versions) && process.env["BENCH_BUILT"] === "1";
const program = isBuilt ? [fileURLToPath(new URL("../bin/scoot-actors.mjs", import.meta.url))] : cliArgs();
const project = fileURLToPath(new URL("..", import.meta.url));
/** What is no part of the project. */
const left = new Set(["node_modules", "dist", ".git"]);

interface Run {
  /** From the start of the process to its first line of output. */
  readonly firstLineMs: number;
  /** What it said was captured. */
  readonly captured: { readonly files: number; readonly sentFiles: number; readonly sentBytes: number };
}

function run(dir: string, env: NodeJS.ProcessEnv): Promise<Run> {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const command = ["run", "--json", "--refresh", "--", "sh", "-c", "echo first; ls | wc -l"];
    const child = spawn(process.execPath, [...program, ...command], {
      cwd: dir,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let firstLineMs: number | undefined;
    let said = "";
    let complaint = "";
    child.stdout.on("data", (bytes) => {
      said += bytes;
      if (firstLineMs === undefined && said.includes('"type":"stdout"')) firstLineMs = performance.now() - startedMs;
    });
    child.stderr.on("data", (bytes) => complaint += bytes);
    child.once("close", (code) => {
      if (code !== 0 || firstLineMs === undefined) {
        return reject(new Error(`run exited with ${code}: ${complaint}${said}`));
      }
      const lines = said.trim().split("\n").map((line) => JSON.parse(line) as { readonly type: string });
      const captured = lines.find(({ type }) => type === "captured") as unknown as Run["captured"];
      resolve({ firstLineMs, captured });
    });
  });
}
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

const top = mkdtempSync(join(tmpdir(), "scoot-first-output-"));
const dir = join(top, "project");
cpSync(project, dir, { recursive: true, filter: (path) => !left.has(path.slice(project.length).split("/")[0]!) });
try {
  const times: number[] = [];
  let second: Run["captured"] | undefined;
  for (let round = 0; round < runs; round++) {
    const cluster = await startCluster(["--workers", "1", "--slots", "1"]);
    const own = (user: string): NodeJS.ProcessEnv => {
      const cache = join(top, `${user}${round}`);
      mkdirSync(cache);
      return { ...cluster.env, XDG_CACHE_HOME: cache };
    };
    try {
      times.push((await run(dir, own("first"))).firstLineMs);
      second = (await run(dir, own("second"))).captured;
    } finally {
      await cluster.stop();
    }
  }
  report([
    {
      name: `first line of a cold run of this project's ${second!.files} files`,
      value: median(times),
      unit: "ms",
      target: { atMost: 3_000 },
    },
    {
      name: "bytes that a second user sends of the same tree",
      value: second!.sentBytes,
      unit: "bytes",
      target: { atMost: 0 },
    },
  ], process.argv);
} finally {
  rmSync(top, { recursive: true, force: true });
}
