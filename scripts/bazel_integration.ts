import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { root } from "./run_program.ts";
import { runProgram, startCluster, type TestCluster } from "./support/cluster.ts";

/**
 * `deno task bazel-integration`: Debian's Bazel (bazel-bootstrap with bazel-rules-java, bazel-rules-proto and
 * bazel-skylib) builds the workspace of tests/bazel with a fresh cluster as its remote cache, then again from another
 * output base, where every action must be a hit.
 */
const bazel = "/usr/bin/bazel";
const debian = "/usr/share/bazel";
const stubs = join(root, "tests", "bazel");
const repositories = {
  rules_cc: join(stubs, "rules_cc"),
  remote_coverage_tools: join(stubs, "remote_coverage_tools"),
  rules_java: `${debian}/rules/java`,
  rules_proto: `${debian}/rules/proto`,
  bazel_skylib: `${debian}/tools/skylib`,
};

/** Of "INFO: 19 processes: 10 remote cache hit, 9 internal.": how many of each kind. */
function processesOf(output: string): ReadonlyMap<string, number> {
  const line = /INFO: \d+ process(?:es)?: ([^\n]*)\./.exec(output)?.[1] ?? "";
  return new Map([...line.matchAll(/(\d+) ([^,]+)/g)].map(([, count, kind]) => [kind!, Number(count)]));
}

async function build(
  cluster: TestCluster,
  dir: string,
  outputRoot: string,
  flags: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const overrides = Object.entries(repositories).map(([name, path]) => `--override_repository=${name}=${path}`);
  const ran = await runProgram(bazel, [
    "--batch",
    "--nohome_rc",
    `--output_user_root=${join(dir, outputRoot)}`,
    "build",
    ...overrides,
    "--symlink_prefix=/",
    "--color=no",
    `--remote_cache=${cluster.ready.grpc}`,
    ...flags,
    "//...",
  ], { cwd: join(dir, "workspace") });
  if (ran.code !== 0) throw new Error(`Bazel exited with ${ran.code}:\n${ran.stderr}\n${cluster.log()}`);
  return processesOf(ran.stderr);
}

const cases: readonly (readonly [name: string, flags: readonly string[]])[] = [
  ["the cache over gRPC", []],
  ["the cache of an instance of two segments, without the bytes", [
    "--remote_instance_name=a/b",
    "--remote_download_minimal",
  ]],
];

if (!existsSync(bazel)) {
  console.error(
    `There is no ${bazel}: apt-get install --no-install-recommends bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto bazel-skylib`,
  );
  process.exit(2);
}
const dir = mkdtempSync(join(tmpdir(), "scoot-bazel-"));
const cluster = await startCluster(["--workers", "1"]);
let failed = 0;
try {
  cpSync(join(stubs, "workspace"), join(dir, "workspace"), { recursive: true });
  for (const [place, [name, flags]] of cases.entries()) {
    const first = await build(cluster, dir, `${place}a`, flags);
    const again = await build(cluster, dir, `${place}b`, flags);
    const ran = first.get("linux-sandbox") ?? first.get("processwrapper-sandbox") ?? 0;
    const hits = again.get("remote cache hit") ?? 0;
    const others = [...again.keys()].filter((kind) => kind !== "remote cache hit" && kind !== "internal");
    const isGood = ran > 0 && hits === ran && others.length === 0;
    if (!isGood) failed++;
    console.log(
      `${isGood ? "ok    " : "failed"} ${name}: ${ran} actions run, then ${hits} hits${
        others.length > 0 ? ` and ${others.join(", ")}` : ""
      }`,
    );
  }
} finally {
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}
console.log(`${cases.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
