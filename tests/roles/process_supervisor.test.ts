import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../src/observability/log.ts";
import { type ChildSpec, type ProcessSupervisor, superviseProcesses } from "../../src/roles/process_supervisor.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import type { Random } from "../../src/runtime/random.ts";
import { eventually, isRunning, runModule } from "./support.ts";

const noChance: Random = { integer: () => 0 };
const module = new URL("./child_fixture.ts", import.meta.url);

describe("superviseProcesses()", () => {
  let dir = "";
  let supervisor: ProcessSupervisor | undefined;
  let givenUp: string[] = [];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "scoot-supervisor-"));
    givenUp = [];
  });
  afterEach(async () => {
    await supervisor?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const supervise = (clock: Clock, stopMs = 10_000): ProcessSupervisor =>
    supervisor = superviseProcesses({
      clock,
      random: noChance,
      log: silentLog,
      stopMs,
      onGivenUp: (name, why) => givenUp.push(`${name}: ${why}`),
    });
  const spec = (args: readonly string[], override: Partial<ChildSpec> = {}): ChildSpec => ({
    name: "child",
    module,
    args,
    env: { ...process.env, GREETING: "hello" },
    channel: false,
    ...override,
  });
  const said = (file: string): string[] =>
    existsSync(join(dir, file)) ? readFileSync(join(dir, file), "utf8").split("\n").slice(0, -1) : [];

  test("starts a child with its arguments and environment, in a session of its own", async () => {
    const child = supervise(realClock).start(spec([`say ${join(dir, "said")}`, "stay"]));
    const lines = await eventually("the child has spoken", () => said("said").length > 0 && said("said"));
    expect(lines).toEqual([`${child.pid} hello`]);
    expect(readFileSync(`/proc/${child.pid}/stat`, "latin1").split(") ")[1]?.split(" ")[3]).toBe(`${child.pid}`);
  });

  test("starts a child again when it is killed, and tells who wants to know of the new process", async () => {
    const pids: (number | undefined)[] = [];
    const child = supervise(realClock).start(spec(["stay"], { onStarted: ({ pid }) => pids.push(pid) }));
    const first = child.pid ?? 0;
    process.kill(first, "SIGKILL");
    const second = await eventually(
      "there is another process",
      () => child.pid !== undefined && child.pid !== first && child.pid,
    );
    expect(child.restarts).toBe(1);
    expect(pids).toEqual([first, second]);
  });

  test(
    "restarts at once, then after 100 ms, 200 ms and so on up to 5 s, and gives up what dies too often",
    async () => {
      const delays: number[] = [];
      const clock: Clock = {
        now: () => 1_000_000,
        at: (atMs, wake) => {
          delays.push(atMs - 1_000_000);
          return realClock.at(0, wake);
        },
      };
      supervise(clock).start(spec(["exit 3"]));
      await eventually("it is given up", () => givenUp.length > 0);
      expect(givenUp).toEqual(["child: it exited with 3"]);
      expect(delays).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
    },
    30_000,
  );

  test("forgets earlier deaths of a child that has lived for 30 s", async () => {
    let nowMs = 1_000_000;
    const waits: number[] = [];
    const clock: Clock = {
      now: () => nowMs,
      at: (atMs, wake) => {
        waits.push(atMs - nowMs);
        return realClock.at(0, wake);
      },
    };
    const child = supervise(clock).start(spec(["stay"]));
    const killAndWait = async (): Promise<void> => {
      const pid = await eventually("it runs", () => child.pid);
      process.kill(pid, "SIGKILL");
      await eventually("it runs again", () => child.pid !== undefined && child.pid !== pid);
    };
    await killAndWait();
    await killAndWait();
    nowMs += 30_000;
    await killAndWait();
    expect(waits).toEqual([100]);
    expect(child.restarts).toBe(3);
  });

  test("stops its children one after the other, the last started first", async () => {
    const supervisor = supervise(realClock);
    const args = [`on-term-say ${join(dir, "stops")}`, `say ${join(dir, "said")}`, "stay"];
    const first = supervisor.start(spec(args, { name: "first" }));
    const second = supervisor.start(spec(args, { name: "second", channel: true }));
    const pids = [second.pid, first.pid];
    await eventually("both listen", () => said("said").length === 2);
    await supervisor.stop();
    expect(said("stops")).toEqual(pids.map((pid) => `${pid} stopped`));
    expect(pids.map(isRunning)).toEqual([false, false]);
    expect([first.pid, first.restarts, second.pid, second.restarts]).toEqual([undefined, 0, undefined, 0]);
  });

  test("kills a child that does not stop in time", async () => {
    const child = supervise(realClock, 50).start(spec(["ignore SIGTERM", `say ${join(dir, "said")}`, "stay"]));
    await eventually("it ignores", () => said("said").length === 1);
    const { pid } = child;
    await child.stop();
    expect(isRunning(pid)).toBe(false);
  });

  test("can be stopped while a child waits to be started again", async () => {
    let cancelled = 0;
    const clock: Clock = { now: () => 0, at: () => () => void cancelled++ };
    const child = supervise(clock).start(spec(["exit 1"]));
    await eventually("it has been started twice and waits", () => child.restarts === 1 && child.pid === undefined);
    await child.stop();
    expect(cancelled).toBeGreaterThan(0);
  });

  test("children of a supervisor that is killed stop by themselves, with a channel and without", async () => {
    const { command, args } = runModule(new URL("./supervisor_fixture.ts", import.meta.url));
    const steps = ["die-with-parent", `say ${join(dir, "said")}`, "stay"];
    const parent: ChildProcess = spawn(command, [...args, ...steps], { stdio: "ignore" });
    const lines = await eventually("both children run", () => said("said").length === 2 && said("said"));
    const pids = lines.map((line) => Number.parseInt(line, 10));
    expect(pids.every(isRunning)).toBe(true);
    parent.kill("SIGKILL");
    await eventually("both are gone", () => !pids.some(isRunning));
  }, 30_000);
});
