import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { simulatedRunner } from "../../src/runner/simulated.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import { requestIn, runnerContract, temporaryFolder } from "./runner_contract.ts";

runnerContract("simulatedRunner()", () => simulatedRunner({ clock: realClock }), {
  says: (stdout, stderr, exitCode) => ["#! sim", `stdout ${stdout}`, `stderr ${stderr}`, `complete ${exitCode}`],
  sleeps: (ms) => ["#! sim", `sleep ${ms}`],
  cannotStart: ["/bin/true"],
});

describe("simulatedRunner()", () => {
  let dir = "";
  beforeEach(() => void (dir = temporaryFolder()));
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test("spends its time on the given clock alone", async () => {
    const wakes: { atMs: number; wake: () => void }[] = [];
    let nowMs = 1_000;
    const clock: Clock = {
      now: () => nowMs,
      at: (atMs, wake) => {
        wakes.push({ atMs, wake });
        return () => {};
      },
    };
    const running = await simulatedRunner({ clock }).start(requestIn(dir, ["#! sim", "sleep 50000", "complete 5"]));
    expect(wakes.map((it) => it.atMs)).toEqual([51_000]);
    nowMs = 51_000;
    wakes[0]?.wake();
    expect(await running.exit).toMatchObject({ exitCode: 5, startedAtMs: 1_000, endedAtMs: 51_000 });
  });

  test("holds what its script says, and no more than it may", async () => {
    const run = async (memoryBytesMax?: number) => {
      const argv = ["#! sim", "memory 500", "memory 300", "complete 0"];
      const limit = memoryBytesMax === undefined ? {} : { memoryBytesMax };
      return await (await simulatedRunner({ clock: realClock }).start(requestIn(dir, argv, limit))).exit;
    };
    const usage = { peakMemoryBytes: 500, cpuMs: 0 };
    expect(await run()).toMatchObject({ kind: "exited", exitCode: 0, usage });
    expect(await run(500)).toMatchObject({ kind: "exited", usage });
    expect(await run(499)).toMatchObject({ kind: "memoryExceeded", memoryBytes: 500, memoryBytesMax: 499, usage });
  });

  test("makes no file for a stream that nothing is written to, and runs no step after complete", async () => {
    const argv = ["#! sim", "sleep 1", "complete 0", "stdout never"];
    const running = await simulatedRunner({ clock: realClock }).start(requestIn(dir, argv));
    expect(await running.exit).toMatchObject({ kind: "exited", exitCode: 0 });
    expect(existsSync(join(dir, "stdout"))).toBe(false);
  });

  test.each([
    "complete",
    "complete x",
    "complete 256",
    "sleep -1",
    "sleep 1e9",
    "sleep 1000000000",
    "memory -1",
    "dance 1",
    "",
  ])(
    "refuses the step %j before it starts",
    async (step) => {
      const start = simulatedRunner({ clock: realClock }).start(requestIn(dir, ["#! sim", "stdout hello", step]));
      await expect(start).rejects.toMatchObject({ code: "COMMAND_NOT_STARTED" });
      expect(existsSync(join(dir, "stdout"))).toBe(false);
    },
  );
});
