import { expect, test } from "vitest";
import { createWorker } from "../../src/actors/worker_actor.ts";
import type { Fault } from "../../src/domain/fault.ts";
import { workerId } from "../../src/domain/ids.ts";
import { silentLog } from "../../src/observability/log.ts";
import type { ToWorker } from "../../src/protocol/worker_messages.ts";
import { newLife, virtualTime } from "../../src/simulation/time.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import type { Connection } from "../../src/transport/transport.ts";

test("a worker says so to a scheduler whose epoch is older than one that it has heard, and does nothing of what it says", async () => {
  const time = virtualTime();
  const life = newLife(time);
  const worker = createWorker({
    description: { workerId: workerId("w1"), incarnation: "1", slots: 1, platform: {}, isolation: "none" },
    states: memoryStates(),
    clock: life,
    log: silentLog,
    defer: life.soon,
    effects: () => ({ run: () => {}, stop: () => {}, capture: () => {}, clean: () => {} }),
  });
  void worker.start();
  await time.run(time.now(), () => false);
  const connect = () => {
    let handler = (_: unknown): unknown => undefined;
    const closedWith: (Fault | undefined)[] = [];
    worker.attachScheduler(
      {
        peer: { protocol: "scoot-actors", version: 1, role: "scheduler", memberId: "scheduler", incarnation: "1" },
        remote: "test",
        send: () => {},
        bufferedBytes: 0,
        drained: () => Promise.resolve(),
        onMessage: (given) => void (handler = given),
        closed: new Promise(() => {}),
        close: (why) => void closedWith.push(why),
      } satisfies Connection,
    );
    const say = async (epoch: number, number: number): Promise<void> => {
      const hold = [{
        taskId: `j0123456789-000000/${epoch}`,
        attempt: 1,
        command: `${"c".repeat(64)}/1`,
        inputRoot: `${"c".repeat(64)}/1`,
        timeoutMs: 1,
      }] as ToWorker["hold"];
      handler(
        { type: "worker.should", epoch, number, full: true, hold, drop: [], acknowledged: [] } satisfies ToWorker,
      );
      await time.run(time.now(), () => false);
    };
    return { say, closedWith };
  };
  const first = connect();
  await first.say(7, 1);
  expect(worker.running).toBe(1);
  const replaced = connect();
  await replaced.say(1, 1);
  expect(worker.running).toBe(1);
  expect(replaced.closedWith[0]?.message).toMatch(/epoch must be at least 7: current value is 1/);
  await first.say(6, 9);
  expect(first.closedWith, "what comes late from a connection of the past says nothing of the present").toEqual([]);
});
