import { expect, test } from "vitest";
import { createWorker, type ReportEffect, type Worker } from "../../src/actors/worker_actor.ts";
import type { Fault } from "../../src/domain/fault.ts";
import { type TaskId, workerId } from "../../src/domain/ids.ts";
import { silentLog } from "../../src/observability/log.ts";
import type { FromWorker, ToWorker } from "../../src/protocol/worker_messages.ts";
import { newLife, type VirtualTime, virtualTime } from "../../src/simulation/time.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import type { Connection } from "../../src/transport/transport.ts";

const task = (index: number): TaskId => `j0123456789-000000/${index}` as TaskId;
const digest = `${"c".repeat(64)}/1` as ToWorker["hold"][number]["command"];
const quiet = async (time: VirtualTime): Promise<void> => void await time.run(time.now(), () => false);

/** A worker whose effects are done by the test. */
async function start(time: VirtualTime) {
  const life = newLife(time);
  const deeds: string[] = [];
  let report: ReportEffect = () => {};
  const worker: Worker = createWorker({
    description: { workerId: workerId("w1"), incarnation: "1", slots: 9, platform: {}, isolation: "none" },
    states: memoryStates(),
    clock: life,
    log: silentLog,
    defer: life.soon,
    effects: (given) => {
      report = given;
      return {
        run: ({ taskId, attempt }) => void deeds.push(`run ${taskId}#${attempt}`),
        stop: (taskId, attempt) => void deeds.push(`stop ${taskId}#${attempt}`),
        capture: ({ taskId, attempt }) => void deeds.push(`capture ${taskId}#${attempt}`),
        clean: (taskId, attempt) => void deeds.push(`clean ${taskId}#${attempt}`),
      };
    },
  });
  void worker.start();
  await quiet(time);
  /** A scheduler that dialled, or was. */
  const connect = () => {
    let handler = (_: unknown): unknown => undefined;
    const heard: FromWorker[] = [];
    const closedWith: (Fault | undefined)[] = [];
    worker.attachScheduler(
      {
        peer: { protocol: "scoot-actors", version: 1, role: "scheduler", memberId: "scheduler", incarnation: "1" },
        remote: "test",
        send: (message) => void heard.push(message as FromWorker),
        bufferedBytes: 0,
        drained: () => Promise.resolve(),
        onMessage: (given) => void (handler = given),
        closed: new Promise(() => {}),
        close: (why) => void closedWith.push(why),
      } satisfies Connection,
    );
    let number = 0;
    const hold = async (epoch: number, ...tasks: readonly TaskId[]): Promise<void> => {
      handler(
        {
          type: "worker.should",
          epoch,
          number: ++number,
          full: true,
          hold: tasks.map((taskId) => ({ taskId, attempt: 1, command: digest, inputRoot: digest, timeoutMs: 1 })),
          drop: [],
          acknowledged: [],
        } satisfies ToWorker,
      );
      await quiet(time);
    };
    return { hold, heard, closedWith };
  };
  return { worker, deeds, connect, report: (...given: Parameters<ReportEffect>) => report(...given) };
}

test("a worker tells a scheduler whose epoch is older than one that it has heard, and does nothing of what it says", async () => {
  const time = virtualTime();
  const { worker, connect } = await start(time);
  const first = connect();
  await first.hold(7, task(7));
  expect(worker.running).toBe(1);
  const replaced = connect();
  await replaced.hold(1, task(1));
  expect(worker.running).toBe(1);
  expect(replaced.closedWith[0]?.message).toMatch(/epoch must be at least 7: current value is 1/);
  await first.hold(6, task(6));
  expect(first.closedWith, "what comes late from a connection of the past says nothing of the present").toEqual([]);
});

test("a worker that leaves gives back what it runs when that is gone, waits for captures, and takes nothing more", async () => {
  const time = virtualTime();
  const { worker, deeds, connect, report } = await start(time);
  const { hold, heard } = connect();
  await hold(1, task(0), task(1));
  for (const index of [0, 1]) report(task(index), 1, { type: "attempt.started", atMs: time.now() });
  report(task(1), 1, { type: "attempt.finished", ending: { kind: "exited", exitCode: 0 } });
  await quiet(time);
  const left = worker.leave("it stops");
  await quiet(time);
  expect(deeds).toContain(`stop ${task(0)}#1`);
  await hold(1, task(0), task(1), task(2));
  expect(deeds.filter((deed) => deed.startsWith("run"))).toEqual([`run ${task(0)}#1`, `run ${task(1)}#1`]);
  const stagesOf = (): string[] =>
    heard.filter(({ type }) => type === "worker.report").flatMap(({ attempts }) =>
      attempts.map(({ taskId, stage }) => `${taskId} ${stage}`)
    );
  expect(stagesOf().filter((said) => said.endsWith("returned"))).toEqual([]);
  report(task(0), 1, { type: "attempt.finished", ending: { kind: "killed", reason: "it stops" } });
  report(task(1), 1, { type: "attempt.captured", leavings: {} });
  await time.run(time.now() + 200, () => false);
  await left;
  expect(stagesOf().slice(-2).sort()).toEqual([`${task(0)} returned`, `${task(1)} ended`]);
  expect(time.now() - 1_700_000_000_000, "it does not wait longer than it must").toBeLessThan(1_000);
});

test("a worker that pauses says so at once, and at each sync, until it goes on", async () => {
  const time = virtualTime();
  const { worker, connect } = await start(time);
  worker.pause("Its disk is full");
  const { heard, hold } = connect();
  const said = () =>
    heard.map((message) => message.type === "worker.sync" ? message.worker.paused ?? "goes on" : "report");
  expect(said()).toEqual(["Its disk is full"]);
  await hold(1, task(1));
  expect(worker.running, "what it is to hold it holds").toBe(1);
  worker.pause("Its disk is full");
  worker.pause(undefined);
  expect(said().slice(1)).toEqual(["goes on"]);
  worker.pause("Its disk is full");
  await time.run(time.now() + 5_000, () => false);
  expect(said().slice(2)).toEqual(["Its disk is full", "Its disk is full"]);
});

test("a worker that leaves does not wait for ever", async () => {
  const time = virtualTime();
  const { worker, connect } = await start(time);
  const { hold, heard } = connect();
  await hold(1, task(0));
  const left = worker.leave("it stops");
  await time.run(time.now() + 8_200, () => false);
  await left;
  expect(heard.at(-1)).toMatchObject({ attempts: [{ stage: "returned", taskId: task(0), why: "it stops" }] });
});
