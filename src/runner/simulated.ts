import { appendFileSync, rmSync } from "node:fs";
import { Buffer } from "node:buffer";
import { asFault, Fault } from "../domain/fault.ts";
import { invariant } from "../domain/invariant.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Exit, Runner, Running, RunRequest } from "./runner.ts";

/** The first argument of every simulated command. */
export const simulatedCommand = "#! sim";

type Step =
  | { readonly kind: "complete"; readonly exitCode: number }
  | { readonly kind: "sleep"; readonly ms: number }
  | { readonly kind: "memory"; readonly bytes: number }
  | { readonly kind: "stdout" | "stderr"; readonly text: string };

/**
 * Pretends to run commands, by the script in their arguments: nothing is started, and time passes on the given clock.
 * For simulations, and for benches of everything around a command.
 *
 * `argv[0]` is "#! sim"; each further argument is a step: `sleep MS`, `memory BYTES`
 * (holds so much from then on), `stdout TEXT`, `stderr TEXT` (followed by a line
 * end), `complete N` (exit code 0–255, ends the command). A script without `complete` exits 0. A stream to which nothing is
 * written has no file.
 *
 * @example argv: ["#! sim", "stdout hello", "sleep 100", "complete 3"]
 */
export function simulatedRunner({ clock }: { readonly clock: Clock }): Runner {
  const commands = new Map<string, Running>();
  let pid = 0;
  let isClosed = false;
  return {
    isolation: "none: tasks are simulated, nothing is run",
    async start(request) {
      invariant(!isClosed, "nothing is started on a closed runner");
      invariant(!commands.has(request.id), `no two commands run as ${request.id}`);
      const command = perform(request, parseScript(request.argv), ++pid, clock);
      commands.set(request.id, command);
      command.exit.then(() => commands.delete(request.id));
      return await Promise.resolve(command);
    },
    killLeftovers: () => Promise.resolve(0),
    async close() {
      isClosed = true;
      for (const command of commands.values()) command.stop("the runner was closed");
      await Promise.all([...commands.values()].map((command) => command.exit));
    },
  };
}

/** @throws {Fault} `COMMAND_NOT_STARTED` naming the step that is not understood. */
function parseScript([command, ...texts]: readonly string[]): Step[] {
  if (command !== simulatedCommand) {
    throw new Fault(
      "COMMAND_NOT_STARTED",
      `Cannot start a simulated command as its first argument must be "${simulatedCommand}": current value is ${
        JSON.stringify(command)
      }`,
    );
  }
  return texts.map((text) => {
    const [, kind, rest = ""] = /^(complete|sleep|memory|stdout|stderr) ([^]*)$/.exec(text) ?? [];
    if (kind === "stdout" || kind === "stderr") return { kind, text: `${rest}\n` };
    const number = /^\d{1,15}$/.test(rest) ? Number(rest) : NaN;
    if (kind === "sleep" && number < 1e9) return { kind, ms: number };
    if (kind === "memory" && number >= 0) return { kind, bytes: number };
    if (kind === "complete" && number <= 255) return { kind, exitCode: number };
    throw new Fault(
      "COMMAND_NOT_STARTED",
      `Cannot start a simulated command as a step must be "complete 0–255", "sleep MS", "memory BYTES", ` +
        `"stdout TEXT" or "stderr TEXT": current value is ${JSON.stringify(text.slice(0, 200))}`,
    );
  });
}

function perform(request: RunRequest, steps: readonly Step[], pid: number, clock: Clock): Running {
  const startedAtMs = clock.now();
  const deadlineAtMs = startedAtMs + request.timeoutMs;
  const written = { stdout: 0, stderr: 0 };
  let settle: (exit: Exit) => void = () => {};
  let peakMemoryBytes: number | undefined;
  let isOver = false;
  let cancelTimer = (): void => {};
  const exit = new Promise<Exit>((resolve) => settle = resolve);

  type How = { kind: "exited"; exitCode: number } | { kind: "timedOut" } | { kind: "stopped"; reason: string } | {
    kind: "memoryExceeded";
    memoryBytes: number;
    memoryBytesMax: number;
  };
  function end(how: How): void {
    if (isOver) return;
    isOver = true;
    cancelTimer();
    settle({
      ...how,
      startedAtMs,
      endedAtMs: clock.now(),
      stdoutTruncatedBytes: Math.max(0, written.stdout - request.outputBytesMax),
      stderrTruncatedBytes: Math.max(0, written.stderr - request.outputBytesMax),
      ...(peakMemoryBytes === undefined ? {} : { usage: { peakMemoryBytes, cpuMs: 0 } }),
    });
  }

  function write(stream: "stdout" | "stderr", text: string): void {
    const bytes = Buffer.from(text);
    const path = stream === "stdout" ? request.stdoutPath : request.stderrPath;
    try {
      if (written[stream] === 0) rmSync(path, { force: true });
      appendFileSync(path, bytes.subarray(0, Math.max(0, request.outputBytesMax - written[stream])));
    } catch (thrown) {
      return end({ kind: "stopped", reason: asFault(thrown, `its output could not be written to ${path}`).message });
    }
    written[stream] += bytes.length;
  }

  function proceed(from: number): void {
    for (let index = from; index < steps.length && !isOver; index++) {
      const step = steps[index];
      switch (step?.kind) {
        case "complete":
          return end({ kind: "exited", exitCode: step.exitCode });
        case "stdout":
        case "stderr":
          write(step.kind, step.text);
          break;
        case "memory":
          peakMemoryBytes = Math.max(peakMemoryBytes ?? 0, step.bytes);
          if (request.memoryBytesMax !== undefined && step.bytes > request.memoryBytesMax) {
            return end({
              kind: "memoryExceeded",
              memoryBytes: step.bytes,
              memoryBytesMax: request.memoryBytesMax,
            });
          }
          break;
        case "sleep": {
          const wakeAtMs = clock.now() + step.ms;
          cancelTimer = wakeAtMs <= deadlineAtMs
            ? clock.at(wakeAtMs, () => proceed(index + 1))
            : clock.at(deadlineAtMs, () => end({ kind: "timedOut" }));
          return;
        }
      }
    }
    end({ kind: "exited", exitCode: 0 });
  }

  proceed(0);
  return { pid, startedAtMs, exit, stop: (reason) => end({ kind: "stopped", reason }) };
}
