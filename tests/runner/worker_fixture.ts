/** A worker to be killed: starts what its arguments say, writes "started" and lives on. */
import process from "node:process";
import { processRunner } from "../../src/runner/process.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { requestIn } from "./runner_contract.ts";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

const [dir = "", ...scripts] = process.argv.slice(2);
const runner = processRunner({ dir: join(dir, "records"), clock: realClock });
for (const [index, script] of scripts.entries()) {
  const folder = join(dir, `task ${index}`);
  mkdirSync(folder);
  await runner.start(requestIn(folder, ["/bin/sh", "-c", script], { id: `j/${index}` }));
}
process.stdout.write("started\n");
setInterval(() => {}, 60_000);
