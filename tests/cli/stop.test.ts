import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Processes } from "../../src/cli/world.ts";
import { publishReady } from "../../src/roles/ready_file.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { fakeWorld, type } from "./fakes.ts";

const pid = 4_000_000; // above what systems give out
const ready = { http: "http://127.0.0.1:9090", grpc: "grpc://127.0.0.1:9090", pid, version: "1.2.3" };

function machine(commandLine?: string) {
  const terminated: number[] = [];
  const living = new Set([pid]);
  const processes: Processes = {
    isAlive: (id) => living.has(id),
    commandLine: () => commandLine,
    terminate: (id) => void terminated.push(id),
  };
  return { processes, terminated, living };
}

describe("stop", () => {
  test.each([[undefined], ["node /x/bin/scoot-actors.mjs cluster --port 0"]])(
    "asks the cluster to end and waits until it is gone (%j)",
    async (commandLine) => {
      const { processes, terminated, living } = machine(commandLine);
      const clock = manualClock();
      const world = fakeWorld({ processes, clock });
      publishReady({ folder: world.runtimeFolder }, ready, "secret");
      const code = type(world, "stop");
      while (clock.waiting() === 0) await new Promise((resolve) => setImmediate(resolve));
      expect(terminated).toEqual([pid]);
      await clock.advance(3_000);
      expect(world.stdout.text()).toBe("");
      living.clear();
      await clock.advance(50);
      expect(await code).toBe(0);
      expect(world.stdout.text()).toBe("Stopped the cluster at http://127.0.0.1:9090 in 3.0 s.\n");
      expect(terminated).toHaveLength(1);
    },
  );

  test("takes the ready file that is named", async () => {
    const { processes, terminated, living } = machine();
    const world = fakeWorld({
      processes: { ...processes, terminate: (id) => void (terminated.push(id), living.clear()) },
    });
    publishReady(
      { folder: join(world.userDir, "other"), readyFile: join(world.userDir, "mine.json") },
      ready,
      "secret",
    );
    expect(await type(world, "stop", "--ready-file", "mine.json", "--json")).toBe(0);
    expect(JSON.parse(world.stdout.text())).toEqual({ stopped: true, pid, http: ready.http, tookMs: 0 });
    expect(terminated).toEqual([pid]);
  });

  test("takes the newest of those that run when the last one has ended", async () => {
    const { processes, terminated, living } = machine();
    const world = fakeWorld({
      processes: { ...processes, terminate: (id) => void (terminated.push(id), living.clear()) },
    });
    publishReady({ folder: world.runtimeFolder }, ready, "secret");
    const last = { ...ready, http: "http://127.0.0.1:9091", pid: pid + 1 };
    writeFileSync(join(world.runtimeFolder, "ready.json"), JSON.stringify(last));
    expect(await type(world, "stop")).toBe(0);
    expect(terminated).toEqual([pid]);
  });

  test("does nothing when none runs, or it was killed", async () => {
    const none = fakeWorld();
    expect(await type(none, "stop")).toBe(0);
    expect(none.stdout.text()).toBe("No cluster runs: there is nothing to stop.\n");
    const { processes, terminated, living } = machine();
    living.clear();
    const killed = fakeWorld({ processes });
    publishReady({ folder: killed.runtimeFolder }, ready, "secret");
    expect(await type(killed, "stop")).toBe(0);
    expect(terminated).toEqual([]);
  });

  test("never ends a process that got the number of a cluster that was killed", async () => {
    const { processes, terminated } = machine("/usr/bin/editor thesis.txt");
    const world = fakeWorld({ processes });
    publishReady({ folder: world.runtimeFolder }, ready, "secret");
    expect(await type(world, "stop")).toBe(1);
    expect(world.stderr.text()).toBe(
      `scoot-actors: Cannot stop process ${pid} as it must be a cluster: it is "/usr/bin/editor thesis.txt"\n`,
    );
    expect(terminated).toEqual([]);
  });

  test("gives up after a minute and says so", async () => {
    const { processes } = machine();
    const clock = manualClock();
    const world = fakeWorld({ processes, clock });
    publishReady({ folder: world.runtimeFolder }, ready, "secret");
    const code = type(world, "stop");
    while (clock.waiting() === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(61_000);
    expect(await code).toBe(3);
    expect(world.stderr.text()).toContain("still runs after 1 min");
  });
});
