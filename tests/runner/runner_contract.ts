import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Runner, RunRequest } from "../../src/runner/runner.ts";
import { isFault } from "../../src/domain/fault.ts";

/** The same commands in the tongue of each runner. */
export interface Dialect {
  /** Writes both lines, then exits with the code. */
  readonly says: (stdout: string, stderr: string, exitCode: number) => readonly string[];
  readonly sleeps: (ms: number) => readonly string[];
  readonly cannotStart: readonly string[];
}

/** A request for a command in `dir` with room for everything; what a test is about is overridden. */
export const requestIn = (dir: string, argv: readonly string[], override: Partial<RunRequest> = {}): RunRequest => ({
  id: "j1/0#1",
  argv,
  env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
  cwd: dir,
  stdoutPath: join(dir, "stdout"),
  stderrPath: join(dir, "stderr"),
  outputBytesMax: 1_000_000,
  timeoutMs: 60_000,
  graceMs: 60_000,
  ...override,
});

export const temporaryFolder = (): string => realpathSync(mkdtempSync(join(tmpdir(), "scoot-runner-")));

/** What every runner promises. */
export function runnerContract(name: string, makeRunner: (dir: string) => Runner, dialect: Dialect): void {
  describe(`${name} keeps the promises of a runner:`, () => {
    let dir = "";
    let runner: Runner;
    beforeEach(() => {
      dir = temporaryFolder();
      runner = makeRunner(join(dir, "records"));
    });
    afterEach(async () => {
      await runner.close();
      rmSync(dir, { recursive: true, force: true });
    });

    test("a command's exit code and streams are kept", async () => {
      const running = await runner.start(requestIn(dir, dialect.says("out", "err", 7)));
      const exit = await running.exit;
      expect(exit).toMatchObject({ kind: "exited", exitCode: 7, stdoutTruncatedBytes: 0, stderrTruncatedBytes: 0 });
      expect(exit).not.toHaveProperty("signal");
      expect(exit.endedAtMs).toBeGreaterThanOrEqual(exit.startedAtMs);
      expect(readFileSync(join(dir, "stdout"), "utf8")).toBe("out\n");
      expect(readFileSync(join(dir, "stderr"), "utf8")).toBe("err\n");
    });

    test("output files are made anew", async () => {
      writeFileSync(join(dir, "stdout"), "of an earlier attempt, and longer");
      await (await runner.start(requestIn(dir, dialect.says("out", "err", 0)))).exit;
      expect(readFileSync(join(dir, "stdout"), "utf8")).toBe("out\n");
    });

    test("output beyond the limit is cut and counted, for each stream by itself", async () => {
      const running = await runner.start(requestIn(dir, dialect.says("0123456789", "ok", 0), { outputBytesMax: 4 }));
      expect(await running.exit).toMatchObject({ kind: "exited", stdoutTruncatedBytes: 7, stderrTruncatedBytes: 0 });
      expect(readFileSync(join(dir, "stdout"), "utf8")).toBe("0123");
      expect(readFileSync(join(dir, "stderr"), "utf8")).toBe("ok\n");
    });

    test("a command that outlives its time limit is ended", async () => {
      const running = await runner.start(requestIn(dir, dialect.sleeps(600_000), { timeoutMs: 20 }));
      const exit = await running.exit;
      expect(exit.kind).toBe("timedOut");
      expect(exit.endedAtMs - exit.startedAtMs).toBeGreaterThanOrEqual(20);
    });

    test("a stopped command ends with the first reason that was given", async () => {
      const running = await runner.start(requestIn(dir, dialect.sleeps(600_000)));
      running.stop("the job was cancelled");
      running.stop("again");
      expect(await running.exit).toMatchObject({ kind: "stopped", reason: "the job was cancelled" });
    });

    test("a stop after the end changes nothing", async () => {
      const running = await runner.start(requestIn(dir, dialect.says("out", "err", 0)));
      const exit = await running.exit;
      running.stop("too late");
      expect(await running.exit).toEqual(exit);
    });

    test("commands run side by side, and an id is free again when its command has ended", async () => {
      const first = await runner.start(requestIn(dir, dialect.sleeps(600_000), { id: "a" }));
      const second = await runner.start(requestIn(dir, dialect.says("out", "err", 3), {
        id: "b",
        stdoutPath: join(dir, "stdout b"),
        stderrPath: join(dir, "stderr b"),
      }));
      expect(await second.exit).toMatchObject({ exitCode: 3 });
      first.stop("enough");
      await first.exit;
      const third = await runner.start(requestIn(dir, dialect.says("out", "err", 4), { id: "a" }));
      expect(await third.exit).toMatchObject({ exitCode: 4 });
    });

    test("what cannot be started is COMMAND_NOT_STARTED, and its id stays free", async () => {
      const refusal = await runner.start(requestIn(dir, dialect.cannotStart)).catch((thrown: unknown) => thrown);
      expect(isFault(refusal, "COMMAND_NOT_STARTED")).toBe(true);
      const running = await runner.start(requestIn(dir, dialect.says("out", "err", 0)));
      expect(await running.exit).toMatchObject({ exitCode: 0 });
    });

    test("close() stops what runs", async () => {
      const running = await runner.start(requestIn(dir, dialect.sleeps(600_000)));
      await runner.close();
      expect(await running.exit).toMatchObject({ kind: "stopped", reason: "the runner was closed" });
    });

    test("nothing is left over when all commands have ended", async () => {
      await (await runner.start(requestIn(dir, dialect.says("out", "err", 0)))).exit;
      expect(await runner.killLeftovers()).toBe(0);
    });
  });
}
