import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { checkBoundaries } from "./check_boundaries.ts";
import { checkDocs } from "./check_docs.ts";
import { checkLocks } from "./check_locks.ts";
import { checkDrawings } from "./draw_machines.ts";
import { root, runProgram, runScript } from "./run_program.ts";
import { closingLine, failsOnSkip, runTests, type TestTotals } from "./test.ts";

/**
 * The whole gate (`deno task ok`). Every step is made, whatever came of those before; the closing line counts the steps
 * and the tests together. `deno task ok --no-tests` leaves the tests out.
 *
 * A step answers with what is wrong, a line each; nothing when all is well.
 */
type Step = readonly [name: string, check: () => Promise<readonly string[]> | readonly string[]];

/** Files of the repository as git knows them, with new ones that are not ignored. */
const files = (): readonly string[] =>
  execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
    .split("\n")
    .filter((path) => path !== "");

async function deno(...args: string[]): Promise<readonly string[]> {
  const { code, output } = await runProgram(process.execPath, args);
  return code === 0 ? [] : [output.trimEnd()];
}

async function types(): Promise<readonly string[]> {
  const { code, output } = await runScript("node_modules/typescript/bin/tsc", ["--noEmit", "--pretty", "false"]);
  return code === 0 ? [] : [output.trimEnd()];
}

/** What is never left in a source: a reminder is an issue, not a comment. Written so that this file passes. */
const unwantedWords = /\b(TO[D]O|FIX[M]E|X[X]X|HAC[K])\b/;

function unwanted(): readonly string[] {
  return files().filter((path) => /\.(ts|mjs|js|md|proto|json|sh|css|html)$/.test(path) && !/lock/.test(path)).flatMap(
    (path) => {
      let text: string;
      try {
        text = readFileSync(join(root, path), "utf8");
      } catch {
        return []; // removed and not yet committed
      }
      return text.split("\n").flatMap((line, index) => {
        const found = unwantedWords.exec(line);
        return found === null ? [] : [`${path}:${index + 1} says ${found[0]}`];
      });
    },
  );
}

const steps: readonly Step[] = [
  ["format", () => deno("fmt", "--check")],
  ["lint", () => deno("lint", "--compact")],
  ["types", types],
  ["who imports whom", () => checkBoundaries(files())],
  ["lockfiles", checkLocks],
  ["drawings", checkDrawings],
  ["documents", () => checkDocs(files())],
  ["unwanted words", unwanted],
];

let passed = 0;
const failed: string[] = [];
for (const [name, check] of steps) {
  const began = performance.now();
  let problems: readonly string[];
  try {
    problems = await check();
  } catch (error) {
    problems = [`it could not be done: ${(error as Error).stack ?? error}`];
  }
  const took = `${((performance.now() - began) / 1_000).toFixed(1)} s`;
  console.log(`${problems.length === 0 ? "ok    " : "failed"} ${name} (${took})`);
  for (const problem of problems) console.log(problem.replace(/^/gm, "    "));
  if (problems.length === 0) passed++;
  else failed.push(name);
}

let tests: TestTotals = { passed: 0, failed: 0, skipped: 0 };
if (!process.argv.includes("--no-tests")) {
  const began = performance.now();
  tests = await runTests([]);
  const isOk = tests.failed === 0;
  console.log(`${isOk ? "ok    " : "failed"} tests (${((performance.now() - began) / 1_000).toFixed(1)} s)`);
}
for (const name of failed) console.log(`failed: the step "${name}"`);
const total = { passed: passed + tests.passed, failed: failed.length + tests.failed, skipped: tests.skipped };
const isGood = total.failed === 0 && (total.skipped === 0 || !failsOnSkip);
if (total.failed === 0 && !isGood) console.log("A skipped test is a failure here (FAIL_ON_SKIP=1).");
console.log(closingLine(total));
process.exitCode = isGood ? 0 : 1;
