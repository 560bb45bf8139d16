import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/**
 * `deno task bench [NAME…] [--json] [--deno-only]`: runs the benches whose names hold one of the words, all by default, on
 * Node 24, by which the targets are judged, and then on Deno. Exits with 1 when a target was missed on Node.
 */
const dir = fileURLToPath(new URL("../bench", import.meta.url));
const words = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const flags = process.argv.slice(2).filter((word) => word.startsWith("--"));
const names = readdirSync(dir).filter((name) => name.endsWith(".ts") && name !== "report.ts").map((name) =>
  basename(name, ".ts")
);
const chosen = names.filter((name) => words.length === 0 || words.some((word) => name.includes(word)));
if (chosen.length === 0) {
  console.error(`There is no bench called ${words.join(", ")}: there are ${names.join(", ")}`);
  process.exit(2);
}

const node = (() => {
  const own = spawnSync("node", ["--version"], { encoding: "utf8" });
  return /^v(2[4-9]|[3-9]\d)\./.test(own.stdout ?? "") ? ["node"] : ["npx", "-y", "node@24"];
})();
const runtimes = flags.includes("--deno-only") ? [["deno", "run", "-A"]] : [node, ["deno", "run", "-A"]];
// Node runs the built program, as its users do.
if (runtimes.length > 1) {
  spawnSync("npm", ["run", "--silent", "build"], { cwd: join(dir, ".."), stdio: ["ignore", "ignore", "inherit"] });
}
let missed = false;
for (const name of chosen) {
  if (!flags.includes("--json")) console.log(`\n${name}`);
  for (const [program, ...args] of runtimes) {
    const ran = spawnSync(program === "deno" ? process.execPath : program!, [
      ...args,
      join(dir, `${name}.ts`),
      ...flags.filter((flag) => flag === "--json"),
    ], {
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, ...(program === "deno" ? {} : { BENCH_BUILT: "1" }) },
    });
    if (ran.status !== 0 && program !== "deno") missed = true;
  }
}
process.exit(missed ? 1 : 0);
