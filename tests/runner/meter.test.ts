import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createMeter, type Metered } from "../../src/runner/meter.ts";
import { processInfo } from "../../src/runner/proc.ts";
import { processRunner } from "../../src/runner/process.ts";
import type { Runner, Usage } from "../../src/runner/runner.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import { requestIn, temporaryFolder } from "./runner_contract.ts";

const megabyte = 1024 * 1024;
/** Its last process holds so much, and all of them wait for a file named "go". */
const holds = (bytes: number): readonly string[] => [
  "/bin/sh",
  "-c",
  `{ head -c ${bytes} /dev/zero; until [ -e go ]; do sleep 0.02; done; } | tail -c ${bytes} > /dev/null`,
];

describe("what a command uses", () => {
  let dir = "";
  let runner: Runner;
  beforeEach(() => {
    dir = temporaryFolder();
    runner = processRunner({ dir: join(dir, "records"), clock: realClock });
  });
  afterEach(async () => {
    await runner.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** Reads again and again, each time as if a second had passed, until the reading is as wanted. */
  async function readUntil(
    pid: number,
    isGood: (usage: Usage) => boolean,
    memoryBytesMax?: number,
  ): Promise<{ readonly usage: Usage; readonly exceeded: readonly number[] }> {
    let nowMs = 0;
    const meter = createMeter({ now: () => nowMs, at: () => () => {} });
    const exceeded: number[] = [];
    const command: Metered = {
      pid,
      startedAtMs: 0,
      ...(memoryBytesMax === undefined ? {} : { memoryBytesMax }),
      onMemoryExceeded: (bytes) => void exceeded.push(bytes),
    };
    for (const endsAtMs = realClock.now() + 10_000; realClock.now() < endsAtMs;) {
      nowMs += 1_000;
      meter.read([command]);
      const usage = meter.usageOf(command);
      if (usage !== undefined && isGood(usage)) return { usage, exceeded };
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error("waited ten seconds in vain for a reading");
  }

  test("is the memory of all its processes together", async () => {
    const { pid } = await runner.start(requestIn(dir, holds(100 * megabyte)));
    const { usage, exceeded } = await readUntil(pid, (it) => it.peakMemoryBytes >= 100 * megabyte);
    expect(usage.peakMemoryBytes).toBeLessThan(250 * megabyte); // tail may keep its blocks twice while it turns them
    expect(exceeded).toEqual([]);
  });

  test("counts who left its session", async () => {
    const script = holds(50 * megabyte)[2]!;
    const { pid } = await runner.start(requestIn(dir, ["/bin/sh", "-c", 'setsid sh -c "$0" & wait', script]));
    expect((await readUntil(pid, (it) => it.peakMemoryBytes >= 50 * megabyte)).usage).toBeDefined();
  });

  test("is the processor time of all its processes, that of those which are over included", async () => {
    const burn = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done";
    const script = `sh -c '${burn}'; until [ -e go ]; do sleep 0.02; done`;
    const { pid } = await runner.start(requestIn(dir, ["/bin/sh", "-c", script]));
    const { usage } = await readUntil(pid, (it) => it.cpuMs >= 20);
    expect((await readUntil(pid, (it) => it.cpuMs >= usage.cpuMs)).usage.cpuMs).toBeGreaterThanOrEqual(20);
  });

  test("is told to be too much while it is, and pages that processes share are no reason", async () => {
    const { pid } = await runner.start(requestIn(dir, holds(50 * megabyte)));
    const { exceeded } = await readUntil(pid, (it) => it.peakMemoryBytes >= 50 * megabyte, 40 * megabyte);
    expect(exceeded.every((bytes) => bytes > 40 * megabyte)).toBe(true);
    expect(exceeded.length).toBeGreaterThan(0);
    writeFileSync(join(dir, "go"), "");
  });

  test("is not looked for before 200 ms, and nothing is known of a command that is over by then", async () => {
    let nowMs = 1_000;
    const clock: Clock = { now: () => nowMs, at: () => () => {} };
    const meter = createMeter(clock);
    const command: Metered = { pid: 1, startedAtMs: 1_000, onMemoryExceeded: () => {} };
    nowMs = 1_199;
    meter.read([command]);
    expect(meter.usageOf(command)).toBeUndefined();
    const exit = await (await runner.start(requestIn(dir, ["true"], { memoryBytesMax: 1 }))).exit;
    expect(exit).toMatchObject({ kind: "exited", exitCode: 0 });
    expect(exit).not.toHaveProperty("usage");
  });

  test("ends it when it is more than it may, with all its processes and what it used", async () => {
    const memoryBytesMax = 30 * megabyte;
    const running = await runner.start(requestIn(dir, holds(80 * megabyte), { memoryBytesMax }));
    const exit = await running.exit;
    expect(exit).toMatchObject({ kind: "memoryExceeded", memoryBytesMax });
    expect(exit.kind === "memoryExceeded" && exit.memoryBytes).toBeGreaterThan(memoryBytesMax);
    expect(exit.usage?.peakMemoryBytes).toBeGreaterThan(memoryBytesMax);
    expect(processInfo(running.pid)).toBeUndefined();
  });
});
