import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Ran, scoot, startCluster, type TestCluster, until } from "./support/cluster.ts";

/**
 * `deno task recovery`: kills the scheduler with SIGKILL at 20 points while one task runs and others wait, and shows that
 * nobody notices: each waiting `run` exits 0 with its whole output, and every task ran once by the marks it left.
 */

/** Ms after the first task has begun. */
const timed = [0, 5, 10, 20, 40, 60, 90, 120, 160, 200, 260, 330, 410, 500];
/** At a commit: before it, or between it and what is said. */
const atCommit = [
  "before:job.create",
  "after:job.create",
  "before:task.placed",
  "after:task.placed",
  "before:task.ended",
  "after:task.ended",
];

const lines = 5;
/** @param go a file without which it does not go on after it has begun. */
const script = (marks: string, name: string, go?: string): string =>
  `echo begin ${name} >> ${marks}; ${go === undefined ? "" : `until [ -e ${go} ]; do sleep 0.01; done; `}for i in ${
    Array.from({ length: lines }, (_, index) => index + 1).join(" ")
  }; do echo ${name} line $i; sleep 0.1; done; echo end ${name} >> ${marks}`;
const expected = (name: string): string =>
  Array.from({ length: lines }, (_, index) => `${name} line ${index + 1}\n`).join("");

/** @returns what is wrong. */
async function check(point: string): Promise<string[]> {
  const dir = mkdtempSync(join(tmpdir(), "scoot-recovery-"));
  const marks = join(dir, "marks");
  const dieMark = join(dir, "died");
  writeFileSync(marks, "");
  const isTimed = !point.includes(":");
  const cluster = await startCluster(
    ["--workers", "1", "--slots", "1"],
    isTimed ? {} : {
      entry: fileURLToPath(new URL("./support/dying_cluster.ts", import.meta.url)),
      env: { DIE_AT: point, DIE_MARK: dieMark },
    },
  );
  const wrong: string[] = [];
  try {
    const begun = (name: string): boolean => readFileSync(marks, "utf8").includes(`begin ${name}\n`);
    const run = (name: string, go?: string): Promise<Ran> =>
      scoot(cluster, ["run", "--dir", dir, "--", "sh", "-c", script(marks, name, go)]);
    const go = join(dir, "go");
    const first = run("first", go);
    await until("the first task to begin", () => begun("first"));
    const pid = cluster.pids("scheduler")[0]!;
    const second = run("second"); // one slot: it waits in the queue
    await until("the second job to be queued", async () => await queued(cluster) === 1);
    writeFileSync(go, "");
    let third: Promise<Ran>;
    if (isTimed) {
      await until("the moment", waited(Number(point)));
      process.kill(pid, "SIGKILL");
      third = run("third"); // and one is submitted while it is away
    } else {
      writeFileSync(`${dieMark}.armed`, "");
      third = run("third");
    }
    for (const [name, ran] of [["first", await first], ["second", await second], ["third", await third]] as const) {
      if (ran.code !== 0) wrong.push(`run ${name} exited with ${ran.code}: ${ran.stderr}`);
      if (ran.stdout !== expected(name)) wrong.push(`run ${name} printed ${JSON.stringify(ran.stdout)}`);
      for (const mark of ["begin", "end"]) {
        const count = readFileSync(marks, "utf8").split("\n").filter((line) => line === `${mark} ${name}`).length;
        if (count !== 1) wrong.push(`task ${name} left the mark "${mark}" ${count} times`);
      }
    }
    const now = cluster.pids("scheduler");
    if (now.length !== 1 || now[0] === pid) {
      wrong.push(`the scheduler was not killed and started again (${pid}, now ${now.join(", ")})`);
    }
  } finally {
    const code = await cluster.stop().catch((thrown) => void wrong.push(String(thrown)));
    if (code !== 0) wrong.push(`the cluster exited with ${code}:\n${cluster.log()}`);
    rmSync(dir, { recursive: true, force: true });
  }
  return wrong;
}

const waited = (ms: number) => {
  const endMs = performance.now() + ms;
  return () => performance.now() >= endMs;
};

async function queued(cluster: TestCluster): Promise<number> {
  const answer = await fetch(`${cluster.ready.http}/v1/cluster`, {
    headers: { authorization: `Bearer ${cluster.token}` },
  });
  return (await answer.json() as { queued: number }).queued;
}

const chosen = process.argv.slice(2);
let failed = 0;
let passed = 0;
for (const point of chosen.length > 0 ? chosen : [...timed.map(String), ...atCommit]) {
  const startedMs = performance.now();
  const wrong = await check(point);
  const name = point.includes(":")
    ? `killed ${point.replace(":", " the commit of ")}`
    : `killed ${point} ms after a task began`;
  console.log(
    `${wrong.length === 0 ? "ok  " : "FAIL"} ${name} (${((performance.now() - startedMs) / 1_000).toFixed(1)} s)`,
  );
  for (const what of wrong) console.log(`       ${what}`);
  if (wrong.length === 0) passed++;
  else failed++;
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
