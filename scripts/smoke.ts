import process from "node:process";
import { connectClient } from "../src/api/client.ts";
import type { JobSpecInput } from "../src/protocol/client_messages.ts";
import { realClock } from "../src/runtime/clock.ts";
import { type Random, seededRandom } from "../src/runtime/random.ts";
import { capture } from "../src/snapshots/trees/capture.ts";
import { lookup } from "../src/snapshots/trees/read_tree.ts";
import { readBlob } from "../src/snapshots/blobs/blobs.ts";
import { startCluster } from "./support/cluster.ts";

/**
 * `deno task smoke [JOBS [SEED]]`: random jobs on a fresh local cluster: sleeps, outputs, exit codes, failures, chains and
 * kills; each must end as its commands say, with the output that they print.
 */
const jobs = Number(process.argv[2] ?? 40);
const seed = Number(process.argv[3] ?? 1);

interface PlannedTask {
  readonly spec: JobSpecInput["tasks"][number];
  /** What it must come to, if it runs to its end. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly file: string | undefined;
}

function planTask(random: Random, index: number, before: readonly PlannedTask[]): PlannedTask {
  const name = `t${index}`;
  const sleepMs = random.integer(200);
  const exitCode = random.integer(5) === 0 ? 1 + random.integer(100) : 0;
  const withFile = random.integer(2) === 0;
  const word = `word-${random.integer(1e6)}`;
  const source = random.integer(3) === 0 ? before[random.integer(Math.max(1, before.length))] : undefined;
  const parent = source?.file !== undefined ? source : undefined;
  const commands = [
    `sleep ${(sleepMs / 1_000).toFixed(3)}`,
    `echo ${word}`,
    `echo ${word} >&2`,
    ...(parent === undefined ? [] : ["cat made/file"]),
    ...(withFile ? ["mkdir -p made", `echo ${word} > made/file`] : []),
    `exit ${exitCode}`,
  ];
  return {
    spec: {
      name,
      argv: ["sh", "-c", commands.join("; ")],
      input: parent === undefined ? { kind: "empty" } : { kind: "task", task: parent.spec.name },
      outputs: withFile ? ["made"] : [],
    },
    exitCode,
    stdout: `${word}\n${parent === undefined ? "" : parent.file}`,
    file: withFile ? `${word}\n` : undefined,
  };
}

const random = seededRandom(seed);
const cluster = await startCluster(["--workers", "2", "--slots", "2"]);
const client = connectClient({ url: cluster.ready.http, token: cluster.token });
const wrong: string[] = [];
let passed = 0;

async function one(number: number): Promise<void> {
  const tasks: PlannedTask[] = [];
  for (let index = 0, count = 1 + random.integer(4); index < count; index++) tasks.push(planTask(random, index, tasks));
  const kill = random.integer(10) === 0;
  const { jobId } = await client.submit({
    key: `smoke-${seed}-${number}`,
    requestor: `smoke-${number % 3}`,
    tasks: tasks.map((task) => task.spec),
  });
  if (kill) await client.kill(jobId, "the smoke test said so");
  for await (const _ of client.watch(jobId)) { /* until it has ended */ }
  const found = await client.job(jobId);
  const problems: string[] = [];
  const say = (text: string): void => void problems.push(`job ${number} (${jobId}): ${text}`);
  if (kill && found.job.state === "running") say("was killed and runs");
  for (const [index, { outcome, taskId }] of found.tasks.entries()) {
    const planned = tasks[index]!;
    if (outcome === undefined) say(`task ${index} has no outcome`);
    else if (outcome.kind === "exited") {
      if (outcome.exitCode !== planned.exitCode) {
        say(`task ${index} exited with ${outcome.exitCode}, not ${planned.exitCode}`);
      }
      const stdout = new TextDecoder().decode(await readBlob(client.blobs, outcome.stdout!.digest, 1e6));
      if (stdout !== planned.stdout) {
        say(`task ${index} printed ${JSON.stringify(stdout)}, not ${JSON.stringify(planned.stdout)}`);
      }
      let followed = "";
      for await (const bytes of client.follow(taskId, "stdout")) followed += new TextDecoder().decode(bytes);
      if (followed !== planned.stdout) say(`task ${index} followed is ${JSON.stringify(followed)}`);
      if (planned.file !== undefined) {
        const node = await lookup(client.blobs, outcome.output!, "made/file");
        const text = node.kind === "file"
          ? new TextDecoder().decode(await readBlob(client.blobs, node.digest, 1e6))
          : node.kind;
        if (text !== planned.file) say(`task ${index} made ${JSON.stringify(text)}`);
      }
    } else if (outcome.kind === "skipped") {
      const parent = planned.spec.input?.kind === "task"
        ? found.tasks[Number(planned.spec.input.task.slice(1))]
        : undefined;
      if (parent?.outcome?.kind === "exited" && parent.outcome.exitCode === 0) {
        say(`task ${index} was skipped though its input is there`);
      }
    } else if (outcome.kind !== "killed" || !kill) say(`task ${index} ${found.tasks[index]!.why}`);
  }
  wrong.push(...problems);
  if (problems.length === 0) passed++;
}

try {
  // A snapshot as input, once: what is captured is what the command sees.
  const report = await capture({
    dir: new URL("../src/domain", import.meta.url).pathname,
    blobs: client.blobs,
    clock: realClock,
  });
  const { jobId } = await client.submit({
    key: `smoke-${seed}-input`,
    tasks: [{ name: "ls", argv: ["ls"], input: { kind: "snapshot", snapshot: report.snapshot } }],
  });
  for await (const _ of client.watch(jobId)) { /* until it has ended */ }
  if ((await client.job(jobId)).job.state !== "succeeded") wrong.push("the job with a snapshot did not succeed");
  else passed++;
  await Promise.all(Array.from({ length: jobs }, (_, number) => one(number)));
} catch (thrown) {
  wrong.push(String((thrown as Error).stack));
} finally {
  await client.close();
  const code = await cluster.stop();
  if (code !== 0) wrong.push(`the cluster exited with ${code}:\n${cluster.log()}`);
}
for (const what of wrong) console.log(what);
console.log(`${passed} passed, ${wrong.length} failed`);
process.exit(wrong.length === 0 ? 0 : 1);
