import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type Bazel, bazel4, overridesOf, ownRepositories, processesOf, stubs } from "./support/bazel.ts";
import { processesWith, runProgram, scoot, startCluster, until } from "./support/cluster.ts";

/**
 * `deno task bazel-integration`: two Bazels build the workspaces of tests/bazel with a fresh cluster, as its remote cache
 * and by remote execution, through what goes wrong in builds and in clusters. Debian's 4.2.3 must be there
 * (bazel-bootstrap, bazel-platforms, bazel-rules-java, bazel-rules-proto, bazel-skylib); upstream's 2.1.0 comes from npm,
 * and where it cannot be had its cases are skipped. Words choose cases by their names.
 */

/** For a case that cannot be tried here. */
class Skipped extends Error {}

/** @throws {Skipped} where the registry cannot be reached. */
async function bazel2(): Promise<Bazel> {
  const to = join(dir, "bazel2");
  mkdirSync(to, { recursive: true });
  const program = join(to, "package", "bazel-2.1.0-linux-x86_64");
  if (!existsSync(program)) {
    const packed = await runProgram("npm", ["pack", "--silent", "@bazel/bazel-linux_x64@2.1.0"], { cwd: to })
      .catch((thrown: Error) => ({ code: 1, stdout: "", stderr: thrown.message }));
    if (packed.code !== 0) throw new Skipped(`npm has no Bazel 2.1.0: ${packed.stderr.trim().split("\n")[0]}`);
    const unpacked = await runProgram("tar", ["xzf", packed.stdout.trim()], { cwd: to });
    if (unpacked.code !== 0) throw new Error(`Cannot unpack it: ${unpacked.stderr}`);
    chmodSync(program, 0o755);
  }
  return { program, repositories: { ...ownRepositories, rules_java: join(stubs, "rules_java") } };
}

interface BazelRan {
  readonly code: number | null;
  readonly output: string;
}

const shared = ["--symlink_prefix=/", "--color=no", "--curses=no"];

/** @param during called while it runs, with all that it has said so far. */
function runBazel(
  workspace: string,
  outputRoot: string,
  args: readonly string[],
  during: (output: string, child: ChildProcess) => void = () => {},
  bazel: Bazel = bazel4,
): Promise<BazelRan> {
  const [verb, ...flags] = args;
  const child = spawn(bazel.program, [
    "--batch",
    "--nohome_rc",
    `--output_user_root=${join(dir, outputRoot)}`,
    verb!,
    ...overridesOf(bazel),
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

function expectThat(isSo: boolean, why: string, ran?: BazelRan): void {
  if (!isSo) throw new Error(ran === undefined ? why : `${why}; Bazel exited with ${ran.code}:\n${ran.output}`);
}

const nothing = (): void => {};

const asCache = async (
  outputRoot: string,
  flags: readonly string[],
  url = cluster.ready.grpc,
  bazel = bazel4,
): Promise<string> => {
  const args = ["build", `--remote_cache=${url}`, ...flags, "//..."];
  const first = await runBazel("workspace", `${outputRoot}a`, args, nothing, bazel);
  const again = await runBazel("workspace", `${outputRoot}b`, args, nothing, bazel);
  for (const ran of [first, again]) expectThat(ran.code === 0, "it must succeed", ran);
  const kinds = processesOf(first.output);
  const ran = kinds.get("linux-sandbox") ?? kinds.get("processwrapper-sandbox") ?? 0;
  // What could not be kept is told by the build that made it.
  const warned = first.output.split("\n").filter((line) => line.startsWith("WARNING:"));
  return `${ran} actions run, then ${hitsOf({ ...again, output: [...warned, again.output].join("\n") }, ran)} hits`;
};

/** All of them, and nothing else. */
function hitsOf(ran: BazelRan, of: number): number {
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
  "the cache over HTTP"() {
    const url = new URL(cluster.ready.http);
    return asCache("http", ["--remote_instance_name=h"], `http://bazel:${cluster.token}@${url.host}/h`);
  },
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
  async "what runs at the client's, and is kept here"() {
    const args = ["build", `--remote_executor=${cluster.ready.grpc}`, "//:at_home"];
    const strategies = ["--spawn_strategy=remote,local", "--genrule_strategy=remote,local"];
    const first = await runBazel("remote", "5", [...args, ...strategies]);
    expectThat(first.code === 0 && processesOf(first.output).get("local") === 1, "it must run there", first);
    const again = await runBazel("remote", "6", [...args, ...strategies]);
    return `1 action run, then ${hitsOf(again, 1)} hit`;
  },
  async "the flags that bazelrc prints"() {
    const rc = join(dir, "workspace", ".bazelrc");
    const build = async (outputRoot: string, ...flags: string[]): Promise<BazelRan> => {
      const printed = await scoot(cluster, ["bazelrc", "--instance", "rc", ...flags]);
      if (printed.code !== 0) throw new Error(`bazelrc exited with ${printed.code}: ${printed.stderr}`);
      writeFileSync(rc, printed.stdout);
      const ran = await runBazel("workspace", outputRoot, ["build", "//:said"]);
      expectThat(ran.code === 0, "it must succeed", ran);
      return ran;
    };
    try {
      const readOnly = await build("rc1", "--read-only");
      const own = processesOf(readOnly.output).get("linux-sandbox") ??
        processesOf(readOnly.output).get("processwrapper-sandbox") ?? 0;
      expectThat(own > 0, "with --read-only it must run", readOnly);
      const remote = processesOf((await build("rc2")).output).get("remote") ?? 0;
      expectThat(remote === own, `${remote} of ${own} must be executed: nothing was sent before`);
      return `${own} actions run at home, ${remote} here, then ${hitsOf(await build("rc3", "--cache-only"), own)} hits`;
    } finally {
      rmSync(rc, { force: true });
    }
  },
  async "what the workspace downloads, by the cluster"() {
    const content = Buffer.alloc(300_000, "what lies there\n");
    let asked = 0;
    const web = createServer((_, response) => {
      asked++;
      response.end(content);
    });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    try {
      const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/archive`;
      const sha256 = createHash("sha256").update(content).digest("hex");
      const file = (name: string, sum: string): string =>
        `http_file(name = "${name}", urls = ["${url}"], sha256 = "${sum}")`;
      const load = 'load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_file")';
      const rule = (name: string, of: string): string =>
        `genrule(name = "${name}", srcs = ["@${of}//file"], outs = ["${name}.txt"], cmd = "cp $< $@")`;
      mkdirSync(join(dir, "downloads"));
      const files = [load, file("right", sha256), file("wrong", "0".repeat(64)), ""];
      writeFileSync(join(dir, "downloads", "WORKSPACE"), files.join("\n"));
      writeFileSync(join(dir, "downloads", "BUILD"), [rule("good", "right"), rule("bad", "wrong"), ""].join("\n"));
      const flags = ["--experimental_remote_downloader", "--remote_cache"].map((flag) =>
        `${flag}=${cluster.ready.grpc}`
      );
      const build = (root: string, target: string): Promise<BazelRan> =>
        runBazel("downloads", root, ["build", ...flags, "--repository_cache=", target]);
      for (const root of ["dl1", "dl2"]) {
        const ran = await build(root, "//:good");
        expectThat(ran.code === 0 && asked === 1, `it must succeed, and be fetched once: it was ${asked} times`, ran);
      }
      const bad = await build("dl1", "//:bad");
      expectThat(bad.code === 1 && /must have the checksum/.test(bad.output), "another checksum must be refused", bad);
      return "it is fetched once, for two builds; what has another checksum is refused";
    } finally {
      web.close();
    }
  },
  async "why something was not cached"() {
    const source = join(dir, "remote", "greet.cc");
    writeFileSync(source, `${readFileSync(source, "utf8")}// changed\n`);
    const ran = await runBazel("remote", "1", remotely("build", "--action_env=NEW=1", "//:greet"));
    expectThat(ran.code === 0, "it must succeed", ran);
    const why = await scoot(cluster, ["why-miss", "//:greet"]);
    expectThat(why.code === 0 && /~ greet\.cc/.test(why.stdout), `it must name the file: ${why.stdout}${why.stderr}`);
    return "the file that was changed";
  },
  async "Bazel 2.1.0: execution, and again from another output base"() {
    const bazel = await bazel2();
    const args = ["--remote_instance_name=two", "--jobs=50", "//..."];
    const first = await runBazel("remote", "21a", [...remotely("test"), ...args], nothing, bazel);
    expectThat(first.code === 0 && /1 test passes/.test(first.output), "it must succeed", first);
    const ran = processesOf(first.output).get("remote") ?? 0;
    const again = await runBazel("remote", "21b", [...remotely("test"), ...args], nothing, bazel);
    expectThat(again.code === 0, "it must succeed", again);
    return `${ran} actions run, then ${hitsOf(again, ran)} hits`;
  },
  async "Bazel 2.1.0: the cache over gRPC"() {
    return await asCache("21cache", ["--remote_instance_name=two"], cluster.ready.grpc, await bazel2());
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

if (!existsSync(bazel4.program)) {
  console.error(
    `There is no ${bazel4.program}: apt-get install --no-install-recommends bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto bazel-skylib`,
  );
  process.exit(2);
}
const only = process.argv.slice(2);
const dir = mkdtempSync(join(tmpdir(), "scoot-bazel-"));
const cluster = await startCluster(["--workers", "2"]);
const totals = { passed: 0, failed: 0, skipped: 0 };
try {
  for (const name of ["workspace", "remote"]) cpSync(join(stubs, name), join(dir, name), { recursive: true });
  for (const [name, run] of Object.entries(cases)) {
    if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
    try {
      console.log(`ok      ${name}: ${await run()}`);
      totals.passed++;
    } catch (thrown) {
      if (thrown instanceof Skipped) {
        totals.skipped++;
        console.log(`skipped ${name}: ${thrown.message}`);
        continue;
      }
      totals.failed++;
      console.log(`failed  ${name}: ${(thrown as Error).message}\n${cluster.log()}`);
    }
  }
} finally {
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed === 0 ? 0 : 1;
