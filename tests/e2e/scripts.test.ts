import process from "node:process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runProgram, runtimeArgs } from "../../scripts/support/cluster.ts";
import { has } from "../support/machine.ts";

/** The checks that are scripts of their own, each with fresh clusters: a user may run them by name. */
const passes = async (name: string): Promise<void> => {
  const script = fileURLToPath(new URL(`../../scripts/${name}.ts`, import.meta.url));
  // As from a terminal: without the channel to vitest, that children inherit of this process on Deno.
  const closed = 'exec "$@" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-';
  const { code, stdout, stderr } = await runProgram("sh", [
    "-c",
    closed,
    "sh",
    process.execPath,
    ...runtimeArgs(script),
  ]);
  const closing = stdout.trim().split("\n").at(-1);
  if (code !== 0 || !/^[1-9]\d* passed, 0 failed$/.test(closing ?? "")) {
    expect.fail(`scripts/${name}.ts exited with ${code}:\n${stdout}${stderr}`);
  }
};

test("random jobs end as their commands say (scripts/smoke.ts)", () => passes("smoke"), 120_000);

test(
  "nobody notices that the scheduler is killed, at 20 points (scripts/recovery.ts)",
  () => passes("recovery"),
  600_000,
);

test.skipIf(!["git", "gcc", "make"].every((name) => has(name as "git")))(
  "the command line does what it says, on real source trees (scripts/integration.ts)",
  () => passes("integration"),
  300_000,
);
