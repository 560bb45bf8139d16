import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";

const bin = fileURLToPath(new URL("../../bin/scoot-actors.mjs", import.meta.url));
// Quiet: on a new machine Deno tells what it looks up of packages while the program runs.
const runtime = "Deno" in globalThis ? ["run", "-A", "--quiet"] : [];

/** Node writes what it compiled into the user's cache; Deno has its packages there. */
const cache = (dir: string): Record<string, string> => "Deno" in globalThis ? {} : { XDG_CACHE_HOME: dir };

interface Options {
  readonly script?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The program as a user starts it, in the runtime of the tests, knowing of no cluster. */
function start(line: readonly string[], { script = bin, cwd = temporaryFolder(), env = {} }: Options = {}) {
  const child = spawn(process.execPath, [...runtime, script, ...line], {
    cwd,
    env: { ...process.env, XDG_RUNTIME_DIR: cwd, ...cache(cwd), SCOOT_CLUSTER: "", INIT_CWD: "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const text = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (more: string) => text.stdout += more);
  child.stderr.setEncoding("utf8").on("data", (more: string) => text.stderr += more);
  const ended = once(child, "close").then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as string | null,
    ...text,
  }));
  return { child, ended };
}

describe("bin/scoot-actors.mjs", () => {
  test("prints the help whole and exits 0", async () => {
    const { code, stdout, stderr } = await start(["help"]).ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^scoot-actors runs commands/);
    expect(stdout).toMatch(/Every command that answers takes --json\.\n$/);
    expect(stdout).not.toContain("\u001b");
  });

  test("tells an unknown command in one sentence and exits 2", async () => {
    expect(await start(["rnu"]).ended).toEqual({
      code: 2,
      signal: null,
      stdout: "",
      stderr: 'scoot-actors: Cannot do "rnu": there is no such command. Did you mean "run"?\n',
    });
  });

  test("says how to start a cluster when there is none and exits 3, before it captures anything", async () => {
    expect(await start(["run", "--", "true"]).ended).toEqual({
      code: 3,
      signal: null,
      stdout: "",
      stderr:
        'scoot-actors: Cannot find a cluster: start one with "scoot-actors cluster", or name one with --cluster URL or SCOOT_CLUSTER\n',
    });
  });

  test("refuses to listen where others reach it and exits 2", async () => {
    const { code, stderr } = await start(["cluster", "--host", "0.0.0.0"]).ended;
    expect(code).toBe(2);
    expect(stderr).toMatch(/^scoot-actors: Cannot listen on 0\.0\.0\.0 as .*--allow-network/);
  });

  test("exits 141 without a word when nobody reads", async () => {
    const { child, ended } = start(["help"]);
    child.stdout.destroy();
    expect(await ended).toMatchObject({ code: 141, stderr: "" });
  });

  test("runs the compiled program rather than the source, in this process, with the user's words", async () => {
    const root = temporaryFolder();
    const script = join(root, "bin", "scoot-actors.mjs");
    mkdirSync(join(root, "dist", "cli"), { recursive: true });
    cpSync(bin, script);
    writeFileSync(join(root, "package.json"), '{"type":"module"}');
    writeFileSync(
      join(root, "dist", "cli", "main.js"),
      `console.log(JSON.stringify([process.pid, process.cwd(), process.argv.slice(2)]));
       process.exitCode = 7;`,
    );
    const cwd = temporaryFolder();
    const { child, ended } = start(["run", "--", "a b", ""], { script, cwd });
    const { code, stdout } = await ended;
    expect(code).toBe(7);
    expect(JSON.parse(stdout)).toEqual([child.pid, cwd, ["run", "--", "a b", ""]]); // so signals need no forwarding
  });
});
