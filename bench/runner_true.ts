/** What does it cost to run /bin/true through the runner, over spawning it plainly? Prints medians in milliseconds. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { processRunner } from "../src/runner/process.ts";
import { realClock } from "../src/runtime/clock.ts";

const rounds = 100;
const dir = mkdtempSync(join(tmpdir(), "scoot-bench-"));
const runner = processRunner({ dir: join(dir, "records"), clock: realClock });

const plain = (): Promise<void> =>
  new Promise((resolve) => void spawn("/bin/true", [], { stdio: "ignore", env: {} }).on("exit", () => resolve()));

async function throughRunner(): Promise<void> {
  const running = await runner.start({
    id: "bench",
    argv: ["/bin/true"],
    env: {},
    cwd: dir,
    stdoutPath: join(dir, "stdout"),
    stderrPath: join(dir, "stderr"),
    outputBytesMax: 1_000_000,
    timeoutMs: 60_000,
    graceMs: 1_000,
  });
  await running.exit;
}

const times = { plain: [] as number[], runner: [] as number[] };
for (let round = -5; round < rounds; round++) { // taking turns, so that both see the same machine; five rounds to warm up
  for (const [name, once] of [["plain", plain], ["runner", throughRunner]] as const) {
    const startedAt = performance.now();
    await once();
    if (round >= 0) times[name].push(performance.now() - startedAt);
  }
}
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
await runner.close();
rmSync(dir, { recursive: true });
const runtime = "deno" in process.versions ? `Deno ${process.versions["deno"]}` : `Node ${process.version}`;
console.log(`${runtime}: plain ${median(times.plain).toFixed(2)}, runner ${median(times.runner).toFixed(2)}`);
