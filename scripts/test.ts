import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { root, runScript } from "./run_program.ts";

/**
 * Runs the tests with vitest, on the runtime that runs this script (`deno task test`, or `node scripts/test.ts`).
 * Names what failed and what was skipped, and ends with the line `N passed, N failed, N skipped`.
 *
 *     deno task test [PATH…] [--FLAG=VALUE of vitest…]
 *
 * A test that needs what a machine may lack is skipped there (tests/support/machine.ts). With FAIL_ON_SKIP=1, which is
 * for machines that lack nothing, a skipped test makes the run fail.
 */
export interface TestTotals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What we read of the report that vitest's `json` reporter writes. */
interface Report {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

export const failsOnSkip = process.env["FAIL_ON_SKIP"] === "1";

export const closingLine = ({ passed, failed, skipped }: TestTotals): string =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;

/** Runs the tests under those paths, all by default, and prints the names of those that failed or were skipped. */
export async function runTests(args: readonly string[]): Promise<TestTotals> {
  const dir = mkdtempSync(join(tmpdir(), "scoot-actors-test-"));
  try {
    const file = join(dir, "report.json");
    const { code } = await runScript(
      "node_modules/vitest/vitest.mjs",
      ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, ...args],
      { show: true },
    );
    return totals(file, code);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const firstLine = (text: string): string => text.trim().split("\n", 1)[0] ?? "";

function totals(file: string, code: number): TestTotals {
  let report: Report;
  try {
    report = JSON.parse(readFileSync(file, "utf8")) as Report;
  } catch (error) {
    console.log(`vitest ended with code ${code} and left no report: ${(error as Error).message}`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const failed: string[] = [];
  const skipped: string[] = [];
  let passed = 0;
  for (const { name, status, message, assertionResults } of report.testResults) {
    const path = relative(root, name);
    for (const test of assertionResults) {
      if (test.status === "passed") passed++;
      else (test.status === "failed" ? failed : skipped).push(`${path} ${test.fullName}`);
    }
    const hasFailedTest = assertionResults.some((test) => test.status === "failed");
    if (status === "failed" && !hasFailedTest) failed.push(`${path} could not be run: ${firstLine(message)}`);
  }
  if (code !== 0 && failed.length === 0) failed.push(`vitest ended with code ${code}: an error outside of any test`);
  if (passed + failed.length === 0) failed.push("no test was run");
  for (const name of skipped) console.log(`skipped: ${name}`);
  for (const name of failed) console.log(`failed: ${name}`);
  return { passed, failed: failed.length, skipped: skipped.length };
}

if (import.meta.main) {
  const result = await runTests(process.argv.slice(2));
  const isGood = result.failed === 0 && (result.skipped === 0 || !failsOnSkip);
  if (result.failed === 0 && !isGood) console.log("A skipped test is a failure here (FAIL_ON_SKIP=1).");
  console.log(closingLine(result));
  process.exitCode = isGood ? 0 : 1;
}
