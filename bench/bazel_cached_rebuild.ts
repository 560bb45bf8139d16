/**
 * What a fully cached rebuild of the C++ workspace of tests/bazel takes with our cluster, by remote execution and by the
 * remote cache alone, beside the same Bazel with its own `--disk_cache`; in turn, with as many jobs. Each has a server of
 * its own, which is warm, and an empty output base. Where there is no Bazel, nothing is measured.
 */
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { bazel4, overridesOf, processesOf, stubs } from "../scripts/support/bazel.ts";
import { runProgram, startCluster } from "../scripts/support/cluster.ts";
import { type Figure, report } from "./report.ts";

const runs = Number(process.env["BENCH_RUNS"] ?? 9);

if (!existsSync(bazel4.program)) {
  console.error(`There is no ${bazel4.program}: nothing is measured`);
  process.exit(0);
}

const dir = mkdtempSync(join(tmpdir(), "scoot-bazel-rebuild-"));
const cluster = await startCluster(["--workers", "2"]);
const kinds = {
  disk: [`--disk_cache=${join(dir, "cache")}`],
  cache: [`--remote_cache=${cluster.ready.grpc}`, "--remote_instance_name=cache"],
  execution: [`--remote_executor=${cluster.ready.grpc}`, "--remote_instance_name=execution"],
} as const;
type Kind = keyof typeof kinds;

async function bazel(kind: Kind, ...args: string[]): Promise<string> {
  const ran = await runProgram(bazel4.program, [
    "--nohome_rc",
    "--max_idle_secs=600",
    `--output_user_root=${join(dir, `root-${kind}`)}`,
    ...args,
  ], { cwd: join(dir, kind) });
  if (ran.code !== 0) throw new Error(`bazel ${args[0]} exited with ${ran.code}: ${ran.stderr}`);
  return ran.stderr;
}
const build = (kind: Kind): Promise<string> =>
  bazel(
    kind,
    "build",
    ...overridesOf(bazel4),
    "--symlink_prefix=/",
    "--color=no",
    "--curses=no",
    "--jobs=32",
    ...kinds[kind],
    "//...",
  );

/** @returns how long it took, in ms. */
async function rebuild(kind: Kind): Promise<number> {
  await bazel(kind, "clean");
  const beganMs = performance.now();
  const output = await build(kind);
  const tookMs = performance.now() - beganMs;
  const others = [...processesOf(output).keys()].filter((it) =>
    !["internal", "disk cache hit", "remote cache hit"].includes(it)
  );
  if (others.length > 0) throw new Error(`With ${kind}, not all are hits: ${output}`);
  return tookMs;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

const names = Object.keys(kinds) as Kind[];
const tookMs: Record<Kind, number[]> = { disk: [], cache: [], execution: [] };
try {
  for (const kind of names) {
    cpSync(join(stubs, "remote"), join(dir, kind), { recursive: true });
    await build(kind);
    await rebuild(kind);
  }
  for (let run = 0; run < runs; run++) for (const kind of names) tookMs[kind].push(await rebuild(kind));
} finally {
  for (const kind of names) if (existsSync(join(dir, `root-${kind}`))) await bazel(kind, "shutdown");
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}

const baseline = median(tookMs.disk);
const figures: Figure[] = [
  { name: "cached rebuild by remote execution", value: median(tookMs.execution) },
  { name: "cached rebuild by the remote cache", value: median(tookMs.cache) },
].map((figure) => ({ ...figure, baseline, unit: "ms", target: { atMost: baseline * 1.3 } }));
report(figures, process.argv.slice(2));
