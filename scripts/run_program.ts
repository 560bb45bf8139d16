import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The root of this checkout; every program that the scripts start runs there. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** What ends a program that does not end by itself: long over what any step takes on a slow machine. */
const programMsMax = 30 * 60_000;

export interface ProgramEnd {
  readonly code: number;
  /** Standard output and standard error as they came; empty when they went to this program's own. */
  readonly output: string;
}

/**
 * Runs a program to its end.
 *
 * @param options.show whether it writes to our own output; what it writes is collected otherwise.
 */
export function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly show?: boolean; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<ProgramEnd> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, ...(process.stdout.isTTY ? {} : { NO_COLOR: "1" }), ...options.env },
      stdio: options.show === true ? "inherit" : ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let overdue = false;
    const limit = setTimeout(() => {
      overdue = true;
      child.kill("SIGKILL");
    }, programMsMax);
    child.stdout?.setEncoding("utf8").on("data", (text: string) => output += text);
    child.stderr?.setEncoding("utf8").on("data", (text: string) => output += text);
    child.on("error", (error) => {
      clearTimeout(limit);
      resolve({ code: 127, output: `Cannot start ${program}: ${error.message}` });
    });
    child.on("close", (code) => {
      clearTimeout(limit);
      if (overdue) output += `\n${program} ran longer than ${programMsMax / 60_000} minutes and was killed`;
      resolve({ code: code ?? 1, output });
    });
  });
}

/** The arguments with which the runtime that runs us runs a script: Deno asks for permissions, Node does not. */
const scriptArguments: readonly string[] = "deno" in process.versions ? ["run", "-A"] : [];

/** Runs a script on the runtime that runs us. */
export const runScript = (
  script: string,
  args: readonly string[],
  options: Parameters<typeof runProgram>[2] = {},
): Promise<ProgramEnd> => runProgram(process.execPath, [...scriptArguments, script, ...args], options);
