import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { root } from "./run_program.ts";
import { processesWith, startCluster, until } from "./support/cluster.ts";

/**
 * `deno task bazel-integration`: Debian's Bazel (bazel-bootstrap with bazel-rules-java, bazel-rules-proto and
 * bazel-skylib) builds the workspaces of tests/bazel with a fresh cluster: as its remote cache, and by remote execution,
 * through what goes wrong in builds and in clusters.
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

interface Ran {
  readonly code: number | null;
  readonly output: string;
}

const shared = ["--symlink_prefix=/", "--color=no", "--curses=no"];
const overrides = Object.entries(repositories).map(([name, path]) => `--override_repository=${name}=${path}`);

/** @param during called while it runs, with all that it has said so far. */
function runBazel(
  workspace: string,
  outputRoot: string,
  args: readonly string[],
  during: (output: string, child: ChildProcess) => void = () => {},
): Promise<Ran> {
  const [verb, ...flags] = args;
  const child = spawn(bazel, [
    "--batch",
    "--nohome_rc",
    `--output_user_root=${join(dir, outputRoot)}`,
    verb!,
    ...overrides,
    ...shared,
    ...flags,
  ], { cwd: join(dir, workspace), stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      during(output, child);
    });
  }
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}

function expectThat(isSo: boolean, why: string, ran?: Ran): void {
  if (!isSo) throw new Error(ran === undefined ? why : `${why}; Bazel exited with ${ran.code}:\n${ran.output}`);
}

const asCache = async (outputRoot: string, flags: readonly string[]): Promise<string> => {
  const args = ["build", `--remote_cache=${cluster.ready.grpc}`, ...flags, "//..."];
  const first = await runBazel("workspace", `${outputRoot}a`, args);
  const again = await runBazel("workspace", `${outputRoot}b`, args);
  for (const ran of [first, again]) expectThat(ran.code === 0, "it must succeed", ran);
  const kinds = processesOf(first.output);
  const ran = kinds.get("linux-sandbox") ?? kinds.get("processwrapper-sandbox") ?? 0;
  return `${ran} actions run, then ${hitsOf(again, ran)} hits`;
};

/** All of them, and nothing else. */
function hitsOf(ran: Ran, of: number): number {
  const kinds = processesOf(ran.output);
  const hits = kinds.get("remote cache hit") ?? 0;
  const others = [...kinds.keys()].filter((kind) => kind !== "remote cache hit" && kind !== "internal");
  expectThat(of > 0 && hits === of && others.length === 0, `${hits} of ${of} must be hits`, ran);
  return hits;
}

const remotely = (...args: string[]): string[] => [
  ...args,
  `--remote_executor=${cluster.ready.grpc}`,
  "--spawn_strategy=remote",
  "--genrule_strategy=remote",
];

/** Whether a command with that in its command line runs on this machine. */
const isRunning = (text: string): boolean => processesWith(text, "genrule-setup").length > 0;

const cases: Readonly<Record<string, () => Promise<string>>> = {
  "the cache over gRPC": () => asCache("cache", []),
  "the cache of an instance of two segments, without the bytes": () =>
    asCache("instance", ["--remote_instance_name=a/b", "--remote_download_minimal"]),
  async "execution of 100 actions at a time, and again from another output base"() {
    const first = await runBazel("remote", "1", remotely("test", "--jobs=100", "//..."));
    expectThat(first.code === 0, "it must succeed", first);
    const ran = processesOf(first.output).get("remote") ?? 0;
    const again = await runBazel("remote", "2", remotely("test", "//..."));
    expectThat(again.code === 0, "it must succeed", again);
    return `${ran} actions run, then ${hitsOf(again, ran)} hits`;
  },
  async "execution without the bytes"() {
    // This Bazel refuses symlinks then.
    const flags = ["--remote_instance_name=c", "--remote_download_minimal", "--", "//...", "-//:link"];
    const ran = await runBazel("remote", "3", [...remotely("test"), ...flags]);
    expectThat(ran.code === 0, "it must succeed", ran);
    return `${processesOf(ran.output).get("remote") ?? 0} actions run`;
  },
  async "an action that fails, twice"() {
    for (let times = 0; times < 2; times++) {
      const ran = await runBazel("remote", "1", remotely("build", "//:failing"));
      expectThat(ran.code === 1, "it must exit with 1", ran);
      expectThat(/\(Exit 3\)/.test(ran.output) && /out of luck/.test(ran.output), "it must say why", ran);
    }
    return "each time it is run, and says why";
  },
  async "a test that takes too long"() {
    const ran = await runBazel("remote", "1", remotely("test", "--test_timeout=2", "//:too_long_test"));
    expectThat(ran.code === 3 && /TIMEOUT in/.test(ran.output), "it must exit with 3 for a time-out", ran);
    return "it is ended, and told as that";
  },
  async "Ctrl-C"() {
    let isSent = false;
    const ran = await runBazel(
      "remote",
      "1",
      remotely("build", "--show_progress_rate_limit=0.1", "//:slow"),
      (_, child) => {
        if (isSent || !isRunning("slow.txt")) return;
        isSent = true;
        child.kill("SIGINT");
      },
    );
    expectThat(ran.code !== 0 && isSent && /build interrupted/.test(ran.output), "it must be interrupted", ran);
    await until("the end of what nobody waits for", () => !isRunning("slow.txt"), 60_000);
    return "the action is ended when its client has left";
  },
  async "kill -9 of the scheduler and the gateway in mid-build"() {
    const left = [["scheduler"], ["gateway"], ["scheduler", "gateway"]] as ("scheduler" | "gateway")[][];
    const ran = await runBazel("remote", "4", remotely("build", "//:step12"), (output) => {
      const steps = [...output.matchAll(/:step(\d+)/g)].map(([, step]) => Number(step)).filter((step) => step < 12);
      if (left.length === 0 || Math.max(0, ...steps) < 2 + 3 * (3 - left.length)) return;
      for (const pid of left.shift()!.flatMap((role) => cluster.pids(role))) process.kill(pid, "SIGKILL");
    });
    expectThat(ran.code === 0 && left.length === 0, `it must succeed, with ${left.length} kills left`, ran);
    return `${processesOf(ran.output).get("remote") ?? 0} actions run, and nobody noticed`;
  },
};

if (!existsSync(bazel)) {
  console.error(
    `There is no ${bazel}: apt-get install --no-install-recommends bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto bazel-skylib`,
  );
  process.exit(2);
}
const dir = mkdtempSync(join(tmpdir(), "scoot-bazel-"));
const cluster = await startCluster(["--workers", "2"]);
let failed = 0;
try {
  for (const name of ["workspace", "remote"]) cpSync(join(stubs, name), join(dir, name), { recursive: true });
  for (const [name, run] of Object.entries(cases)) {
    try {
      console.log(`ok     ${name}: ${await run()}`);
    } catch (thrown) {
      failed++;
      console.log(`failed ${name}: ${(thrown as Error).message}\n${cluster.log()}`);
    }
  }
} finally {
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}
console.log(`${Object.keys(cases).length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
