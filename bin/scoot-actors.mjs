#!/usr/bin/env node
// Starts scoot-actors with what this machine has: the compiled program where there is one, else the source on a runtime
// that reads TypeScript. Plain JavaScript, since it must run on what it finds.
import { existsSync } from "node:fs";
import nodeModule from "node:module";
import { constants, homedir } from "node:os";
import { delimiter, dirname, isAbsolute, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const compiled = join(root, "dist", "cli", "main.js");
const source = join(root, "src", "cli", "main.ts");
const isWindows = process.platform === "win32";

if (existsSync(compiled)) await runHere(compiled);
else if (
  process.versions.deno !== undefined || (nodeMajor() >= 24 && existsSync(join(root, "node_modules", "valibot")))
) await runHere(source);
else await runOnDeno();

/** In this process: nothing starts faster. */
async function runHere(script) {
  // Node keeps what it compiled for the next start, in a folder that is the user's alone, as it runs what is there.
  // Others do so themselves or not at all.
  nodeModule.enableCompileCache?.(join(cacheFolder(), "scoot-actors", "compiled"));
  await import(pathToFileURL(script).href);
}

/** Deno reads the source as it is, and installs the packages when they are not there yet. */
async function runOnDeno() {
  const { execFileSync, spawn } = await import("node:child_process"); // nobody else pays for it
  const deno = denoOnPath() ?? denoOfProject() ?? denoOfNpx(execFileSync);
  if (deno === undefined) {
    const lack =
      `Cannot run from source as that takes Deno 2, or Node 24 after "npm ci": this is Node ${process.versions.node}`;
    console.error(`scoot-actors: ${lack}, and npx could not get Deno. Or compile it once: npm ci && npm run build`);
    process.exit(1);
  }
  const child = spawn(deno, [
    "run",
    "-A",
    "--quiet",
    "--config",
    join(root, "deno.json"),
    source,
    ...process.argv.slice(2),
  ], {
    stdio: "inherit",
  });
  const forward = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of forward) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    console.error(`scoot-actors: Cannot start Deno at ${deno}: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    for (const each of forward) process.removeAllListeners(each);
    process.exitCode = 128 + (constants.signals[signal] ?? 0);
    process.kill(process.pid, signal); // end as it ended
  });
}

function denoOnPath() {
  const name = isWindows ? "deno.exe" : "deno";
  return (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name)).find((path) => existsSync(path));
}

function denoOfProject() {
  const path = join(root, "node_modules", "deno", isWindows ? "deno.exe" : "deno");
  return existsSync(path) ? path : undefined;
}

/**
 * The program itself behind npm's wrapper: a signal sent to npx, or to the wrapper, would not reach it.
 * npx fetches it once and finds it again.
 */
function denoOfNpx(execFileSync) {
  try {
    const script = "console.log(Deno.execPath())";
    const npx = isWindows ? "npx.cmd" : "npx";
    const path = execFileSync(npx, ["-y", "--loglevel=error", "deno", "eval", script], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
      shell: isWindows,
    });
    return existsSync(path.trim()) ? path.trim() : undefined;
  } catch {
    return undefined;
  }
}

function cacheFolder() {
  const given = process.env.XDG_CACHE_HOME;
  return given !== undefined && isAbsolute(given) ? given : join(homedir(), ".cache");
}

function nodeMajor() {
  return process.versions.deno === undefined ? Number(process.versions.node.split(".")[0]) : 0;
}
