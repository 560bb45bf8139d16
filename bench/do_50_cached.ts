import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { cliArgs, runProgram, startCluster } from "../scripts/support/cluster.ts";
import { report } from "./report.ts";

/** How long does `do` take, as a whole process, for a graph of 50 tasks whose results are all known? */
const runs = Number(process.env["BENCH_RUNS"] ?? 9);
const tasks = 50;

const isBuilt = !("deno" in process.versions) && process.env["BENCH_BUILT"] === "1";
const program = isBuilt ? [fileURLToPath(new URL("../bin/scoot-actors.mjs", import.meta.url))] : cliArgs();

const top = mkdtempSync(join(tmpdir(), "scoot-do-cached-"));
const dir = join(top, "project");
mkdirSync(join(dir, "src"), { recursive: true });
const definitions = Array.from({ length: tasks }, (_, number) => {
  writeFileSync(join(dir, "src", `${number}.txt`), `source ${number}\n`);
  // Each but the first needs one before it: seven tasks deep.
  const needed = number === 0 ? {} : { mount: { before: { task: `t${(number - 1) >> 1}`, from: "made" } } };
  const run = `mkdir made && cat src/${number}.txt > made/it`;
  return [`t${number}`, { inputs: [`src/${number}.txt`], run, out: ["made"], ...needed }] as const;
});
writeFileSync(join(dir, "scoot.json"), JSON.stringify(Object.fromEntries(definitions)));
const cluster = await startCluster(["--workers", "1", "--slots", "2"]);
const env = { ...cluster.env, XDG_CACHE_HOME: join(top, "cache") };
try {
  const names = definitions.map(([name]) => name);
  const once = async (kind: string): Promise<number> => {
    const startedMs = performance.now();
    const { code, stdout, stderr } = await runProgram(process.execPath, [...program, "do", ...names], {
      cwd: dir,
      env,
    });
    const tookMs = performance.now() - startedMs;
    if (code !== 0 || !stdout.includes(`${tasks} tasks: ${tasks} ${kind}`)) throw new Error(`${stdout}${stderr}`);
    return tookMs;
  };
  await once("ran");
  await once("cached");
  const times: number[] = [];
  for (let round = 0; round < runs; round++) times.push(await once("cached"));
  report([{
    name: `do of a graph of ${tasks} tasks that are all cached`,
    value: times.toSorted((a, b) => a - b)[times.length >> 1]!,
    unit: "ms",
    target: { atMost: 1_000 },
  }], process.argv);
} finally {
  await cluster.stop();
  rmSync(top, { recursive: true, force: true });
}
