import { noResults } from "../../src/actors/task_results.ts";
import { describe, expect, test } from "vitest";
import { createScheduler, type Scheduler, type SchedulerOptions } from "../../src/actors/scheduler_actor.ts";
import { digestOfHash, emptyDigest } from "../../src/domain/digest.ts";
import type { Fault } from "../../src/domain/fault.ts";
import {
  jobAddress,
  type JobId,
  taskAddress,
  type TaskId,
  taskId,
  workerAddress,
  type WorkerId,
  workerId,
} from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import { pathOf, type State } from "../../src/machines/step.ts";
import { overtimeMs, type TaskContext } from "../../src/machines/task.ts";
import { silentLog } from "../../src/observability/log.ts";
import type { EncodedJob, Push } from "../../src/protocol/client_messages.ts";
import type { FromWorker, HeldAttempt, ToWorker } from "../../src/protocol/worker_messages.ts";
import { seededRandom } from "../../src/runtime/random.ts";
import { type Life, newLife, type VirtualTime, virtualTime } from "../../src/simulation/time.ts";
import { encodeEntry } from "../../src/snapshots/states/entry_codec.ts";
import { memoryStates } from "../../src/snapshots/states/memory.ts";
import { entryBytesMax } from "../../src/snapshots/states/segment.ts";
import type { Entry, States } from "../../src/snapshots/states/states.ts";
import type { Connection } from "../../src/transport/transport.ts";

const w1 = workerId("w1");
const command = digestOfHash("c".repeat(64), 9);
const lostAfterMs = 10_000;
const timeoutMs = 60_000;

/** The far end of a connection. */
interface Peer {
  say(message: unknown): void;
  /** What the scheduler said, in order. */
  readonly heard: unknown[];
  cut(): void;
  /** What the scheduler closed it with; undefined while it is open. */
  readonly closedWith: { readonly why: Fault | undefined } | undefined;
}
function connect(
  attach: (connection: Connection) => void,
  role: "worker" | "gateway",
  memberId: string,
  incarnation = "1",
): Peer {
  let handler = (_: unknown): unknown => undefined;
  let end = (_: Fault | undefined): void => {};
  const heard: unknown[] = [];
  let closedWith: { readonly why: Fault | undefined } | undefined;
  attach({
    peer: { protocol: "scoot-actors", version: 1, role, memberId, incarnation },
    remote: "test",
    send: (message) => void heard.push(message),
    bufferedBytes: 0,
    drained: () => Promise.resolve(),
    onMessage: (given) => void (handler = given),
    closed: new Promise((resolve) => end = resolve),
    close(why) {
      closedWith ??= { why };
      end(undefined);
    },
  });
  return {
    say: (message) => void handler(message),
    heard,
    cut: () => end(undefined),
    get closedWith() {
      return closedWith;
    },
  };
}

/** One life of a scheduler, with nothing of the world but what a test gives it. */
async function start(time: VirtualTime, states: States, options: Partial<SchedulerOptions> = {}) {
  const life: Life = newLife(time);
  const scheduler: Scheduler = createScheduler({
    states,
    clock: life,
    random: seededRandom(1),
    log: silentLog,
    defer: life.soon,
    lostAfterMs,
    keepJobsMs: 3_600_000,
    keepJobsMax: 1_000,
    keepTasksMax: 1_000_000,
    hasSpace: () => true,
    results: noResults,
    ...options,
  });
  void scheduler.start();
  await quiet(time);
  const gateway = connect(scheduler.attachGateway, "gateway", "gateway");
  let asked = 0;
  const ask = async (body: Record<string, unknown>): Promise<Record<string, unknown>> => {
    const id = ++asked;
    gateway.say({ id, sentAtMs: time.now(), body });
    await quiet(time);
    const answered = () => gateway.heard.find((message) => (message as { re?: number }).re === id);
    if (answered() === undefined) await pass(time, 5); // while all slots are taken
    return (answered() as { body: Record<string, unknown> }).body;
  };
  return {
    scheduler,
    life,
    gateway,
    ask,
    async submit(job: Partial<EncodedJob> = {}): Promise<JobId> {
      return (await ask({ type: "job.accept", job: { ...jobOf(1), ...job } }))["jobId"] as JobId;
    },
    worker(id: WorkerId = w1, incarnation = "1", more: WorkerMore = {}): WorkerPeer {
      return workerPeer(connect(scheduler.attachWorker, "worker", id, incarnation), id, incarnation, more);
    },
  };
}

interface WorkerMore {
  paused?: string;
  readonly memoryBytes?: number;
  readonly slots?: number;
  readonly platform?: Record<string, string>;
}
interface WorkerPeer extends Peer {
  sync(...attempts: readonly HeldAttempt[]): void;
  report(...attempts: readonly HeldAttempt[]): void;
  /** All that it was told, the newest last. */
  readonly told: ToWorker[];
}
function workerPeer(peer: Peer, id: WorkerId, incarnation: string, more: WorkerMore): WorkerPeer {
  let number = 0;
  const say = (message: FromWorker): void => peer.say(message);
  return Object.assign(Object.create(peer) as Peer, {
    sync: (...attempts: readonly HeldAttempt[]) =>
      say({
        type: "worker.sync",
        number: ++number,
        worker: { workerId: id, incarnation, slots: 2, platform: {}, isolation: "none", ...more },
        attempts: [...attempts],
      }),
    report: (...attempts: readonly HeldAttempt[]) =>
      say({ type: "worker.report", number: ++number, attempts: [...attempts] }),
    told: peer.heard as ToWorker[],
  });
}

const jobOf = (tasks: number): EncodedJob => ({
  key: "k",
  requestor: "ada",
  basis: "",
  tag: "",
  priority: 0,
  failFast: false,
  tasks: Array.from({ length: tasks }, (_, index) => ({
    name: `t${index}`,
    command,
    input: { kind: "empty" as const },
    timeoutMs,
    retries: 0,
    platform: {},
    cache: "off",
  })),
});
const running = (task: TaskId, attempt = 1): HeldAttempt => ({
  stage: "running",
  taskId: task,
  attempt,
  startedAtMs: 1_700_000_000_000,
});
const held = (task: TaskId, attempt = 1): HeldAttempt => ({ stage: "held", taskId: task, attempt });
const ended = (task: TaskId, attempt = 1, exitCode = 0): HeldAttempt => {
  const outcome: Outcome = { kind: "exited", exitCode, output: emptyDigest };
  return { stage: "ended", taskId: task, attempt, outcome };
};
const quiet = async (time: VirtualTime): Promise<void> => void await time.run(time.now(), () => false);
const pass = async (time: VirtualTime, ms: number): Promise<void> => void await time.run(time.now() + ms, () => false);
const taskIn = async (states: States, task: TaskId): Promise<{ path: string; context: TaskContext }> => {
  const state = (await states.get(taskAddress(task)))!.state as State;
  return { path: pathOf(state.value), context: state.context as TaskContext };
};
const addresses = (list: readonly { readonly taskId: TaskId; readonly attempt: number }[]): string[] =>
  list.map(({ taskId, attempt }) => `${taskId}#${attempt}`);

describe("who waits for a task from the moment that it is accepted", () => {
  const waiting = async () => {
    const time = virtualTime();
    const states = memoryStates();
    const rig = await start(time, states);
    const peer = rig.worker();
    peer.sync();
    await quiet(time);
    const from = rig.gateway.heard.length;
    const { jobId } = await rig.ask({ type: "job.accept", job: jobOf(1), watch: 7 });
    const pushes = () =>
      rig.gateway.heard.slice(from).map((message) => (message as { body: Push }).body)
        .filter((body) => "watch" in body)
        .map((body) => [body.type, body.watch, body.type === "task.changed" ? body.task.state : undefined]);
    return { ...rig, time, states, peer, pushes, task: taskId(jobId as JobId, 0), jobId: jobId as JobId };
  };

  test("is told of one that is soon over only how it ended, at once, and nothing after that", async () => {
    const { time, peer, pushes, task } = await waiting();
    peer.report(running(task));
    await pass(time, 99);
    expect(pushes()).toEqual([]);
    peer.report(ended(task));
    await quiet(time);
    expect(pushes()).toEqual([["task.changed", 7, "settled"]]);
    await pass(time, 1_000);
    expect(pushes()).toHaveLength(1);
  });

  test("is told that it runs once that has lasted, and not when it only waits elsewhere", async () => {
    const { time, peer, pushes, task } = await waiting();
    await pass(time, 1_000);
    expect(pushes()).toEqual([]); // it is placed
    peer.report(running(task));
    await pass(time, 250);
    expect(pushes()).toEqual([["task.changed", 7, "running"]]);
    peer.report({ stage: "returned", taskId: task, attempt: 1, why: "it stops" });
    await pass(time, 250);
    expect(pushes()).toEqual([["task.changed", 7, "running"], ["task.changed", 7, "queued"]]);
  });

  test("is told that a job is accepted with the next result, or soon, while all slots are taken: it waits anyway", async () => {
    const { time, states, ask, gateway, peer, task } = await waiting();
    await ask({ type: "job.accept", job: { ...jobOf(1), key: "two" } });
    const accept = (key: string) =>
      gateway.say({ id: 100, sentAtMs: time.now(), body: { type: "job.accept", job: { ...jobOf(1), key } } });
    const accepted = () => gateway.heard.filter((message) => (message as { re?: number }).re === 100).length;
    const saved = async () => (await states.bounds()).lastSeq;
    accept("three");
    await pass(time, 4);
    expect(accepted()).toBe(0);
    await pass(time, 1);
    expect(accepted()).toBe(1);
    accept("four");
    const before = await saved();
    peer.report(ended(task));
    await quiet(time);
    expect(accepted()).toBe(2);
    expect(await saved() - before).toBe(5); // the job, its task, the result, the end of its job, and who comes next
  });

  test("hears no more of it when it wants no more, nor when it has gone", async () => {
    for (const leave of [true, false]) {
      const { time, peer, pushes, task, ask, gateway } = await waiting();
      peer.report(running(task));
      if (leave) gateway.cut();
      else await ask({ type: "job.unwatch", watch: 7 });
      peer.report(ended(task));
      await pass(time, 1_000);
      expect(pushes()).toEqual([]);
    }
  });

  test("is told how it is when the job was accepted before, also while that is on its way to the disk", async () => {
    const { time, ask, peer, pushes, task, jobId } = await waiting();
    expect(await ask({ type: "job.accept", job: jobOf(1), watch: 8 })).toMatchObject({ jobId, existing: true });
    expect(pushes()).toEqual([["task.changed", 8, "placed"]]);
    peer.report(ended(task));
    await quiet(time);
    expect(await ask({ type: "job.accept", job: jobOf(1), watch: 9 })).toMatchObject({ existing: true });
    expect(pushes().slice(1).map(([, watch, state]) => [watch, state])).toEqual(
      [[7, "settled"], [8, "settled"], [9, "settled"]],
    );

    const { gateway } = await start(time, memoryStates());
    const job = { ...jobOf(1), key: "at once" };
    for (const watch of [1, 2]) {
      gateway.say({ id: watch, sentAtMs: time.now(), body: { type: "job.accept", job, watch } });
    }
    await quiet(time);
    expect(gateway.heard.map((message) => (message as { body: { type: string } }).body.type)).toEqual(
      ["job.accepted", "task.changed", "job.accepted"],
    );
  });
});

describe("a scheduler that was away for longer than its tasks may take", () => {
  test("gives their workers the whole time to come back and say how they ended", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    const before = first.worker();
    before.sync();
    const task = taskId(await first.submit(), 0);
    await quiet(time);
    before.report(running(task));
    await quiet(time);
    first.life.kill();
    await pass(time, 24 * 3_600_000);

    const second = await start(time, states);
    await pass(time, 5_000);
    second.worker().sync(ended(task));
    await quiet(time);
    const { context } = await taskIn(states, task);
    expect(context.outcome).toMatchObject({ kind: "exited", exitCode: 0 });
    expect(context.attempts).toHaveLength(1);
  });

  test("runs them again when the workers have gone as well", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    const before = first.worker();
    before.sync();
    const task = taskId(await first.submit(), 0);
    await quiet(time);
    before.report(running(task));
    await quiet(time);
    first.life.kill();
    await pass(time, 24 * 3_600_000);

    const second = await start(time, states);
    const after = second.worker(w1, "2");
    after.sync();
    await quiet(time);
    expect(await taskIn(states, task)).toMatchObject({
      path: "active.placed",
      context: { attempts: [{ ended: "its worker w1 restarted" }, { reason: "workerLost" }] },
    });
    expect(addresses(after.told.at(-1)!.hold)).toEqual([`${task}#2`]);
  });

  test("gives up what nobody says anything of, after the same time as ever", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    const before = first.worker();
    before.sync();
    const task = taskId(await first.submit(), 0);
    await quiet(time);
    first.life.kill();
    await pass(time, 1_000);
    const second = await start(time, states);
    second.worker().sync(held(task));
    await pass(time, timeoutMs + overtimeMs - 1_000);
    expect((await taskIn(states, task)).path).toBe("active.placed");
    await pass(time, 2_000);
    expect((await taskIn(states, task)).context.outcome).toMatchObject({ kind: "failed" });
  });
});

describe("a machine that sleeps for longer than its tasks may take", () => {
  /** As one's own clock is after a sleep: later, while what waits has waited no longer. */
  const sleepy = (time: VirtualTime) => {
    let sleptMs = 0;
    const now = (): number => time.now() + sleptMs;
    return {
      clock: { now, at: (atMs: number, wake: () => void) => time.at(time.now() + Math.max(0, atMs - now()), wake) },
      sleep: (ms: number) => void (sleptMs += ms),
    };
  };
  test("leaves its tasks the time that they have, though another deadline is reached at once", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { clock, sleep } = sleepy(time);
    const rig = await start(time, states, { clock });
    const peer = rig.worker();
    peer.sync();
    const task = taskId(await rig.submit(), 0);
    await quiet(time);
    peer.report({ stage: "running", taskId: task, attempt: 1, startedAtMs: clock.now() });
    const other = rig.worker(workerId("w2"));
    other.sync();
    await pass(time, 300);
    other.cut();
    // Between two looks at the clock, and less than the next of them away from where the other one is given up.
    await pass(time, lostAfterMs - 100);
    sleep(24 * 3_600_000);
    await pass(time, 400);
    expect(((await rig.ask({ type: "worker.list" }))["workers"] as object[])[1]).toMatchObject({
      workerId: "w2",
      state: "lost",
    });
    expect((await taskIn(states, task)).path).toBe("active.running");
    await pass(time, 60_000);
    peer.report(ended(task));
    await quiet(time);
    expect((await taskIn(states, task)).context.outcome).toMatchObject({ kind: "exited", exitCode: 0 });
  });

  test("gives up in the end what nobody says anything of", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { clock, sleep } = sleepy(time);
    const rig = await start(time, states, { clock });
    const peer = rig.worker();
    peer.sync();
    const task = taskId(await rig.submit(), 0);
    await quiet(time);
    sleep(24 * 3_600_000);
    const { timeoutMs } = (await taskIn(states, task)).context;
    await pass(time, timeoutMs + 600_000);
    expect((await taskIn(states, task)).path).toBe("active.placed");
    await pass(time, 5_000);
    expect((await taskIn(states, task)).path).not.toBe("active.placed");
  });
});

describe("a worker that comes back after it was given up", () => {
  test("goes on with what it is still preparing", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    const before = worker();
    before.sync();
    const task = taskId(await submit(), 0);
    await quiet(time);
    before.cut();
    await pass(time, lostAfterMs + 1_000);
    expect((await taskIn(states, task)).path).toBe("queued");

    const after = worker();
    after.sync(held(task));
    await quiet(time);
    expect(addresses(after.told.at(-1)!.hold)).toEqual([`${task}#1`]);
    after.report(running(task));
    after.report(ended(task));
    await quiet(time);
    expect((await taskIn(states, task)).context).toMatchObject({
      outcome: { exitCode: 0 },
      attempts: [{ attempt: 1 }],
    });
  });

  test("with the result: it counts, its successor is dropped on the other worker, and nothing runs twice", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    const before = worker();
    before.sync();
    const jobId = await submit({ tasks: jobOf(2).tasks.map((task) => ({ ...task, retries: 3 })) });
    const [a, b] = [taskId(jobId, 0), taskId(jobId, 1)];
    await quiet(time);
    before.report(running(a), running(b));
    await quiet(time);
    before.cut();
    await pass(time, lostAfterMs + 1_000);
    const other = worker(workerId("w2"));
    other.sync();
    await quiet(time);
    expect(addresses(other.told.at(-1)!.hold)).toEqual([`${a}#2`, `${b}#2`]);
    other.report(running(a, 2), held(b, 2));
    await quiet(time);

    const after = worker();
    after.sync(ended(a), running(b));
    await quiet(time);
    expect(addresses(other.told.at(-1)!.drop)).toEqual([`${a}#2`]);
    expect(after.told.at(-1), "what runs elsewhere by now is not to be held here").toMatchObject({
      full: true,
      hold: [],
      acknowledged: [{ taskId: a, attempt: 1 }],
    });
    other.report({ stage: "ended", taskId: a, attempt: 2, outcome: { kind: "killed", reason: "dropped" } });
    other.report(ended(b, 2));
    await quiet(time);
    const { path, context } = await taskIn(states, a);
    expect(path).toBe("settled");
    expect(context).toMatchObject({
      outcome: { exitCode: 0 },
      attempts: [{ attempt: 1, workerId: w1 }, { attempt: 2, ended: "Attempt 1 delivered its result after all" }],
    });
    expect((await taskIn(states, b)).context.attempts).toMatchObject([{ reason: "first" }, { reason: "workerLost" }]);
    expect([...before.told, ...after.told, ...other.told].flatMap(({ hold }) => addresses(hold)).sort(), "each once")
      .toEqual([`${a}#1`, `${a}#2`, `${b}#1`, `${b}#2`]);
  });

  test("and was started anew: what it ran is lost, though it has the result of an earlier attempt", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    const first = worker();
    first.sync();
    const task = taskId(await submit({ tasks: [{ ...jobOf(1).tasks[0]!, retries: 1 }] }), 0);
    await quiet(time);
    first.report(running(task));
    await quiet(time);
    first.cut();
    await pass(time, lostAfterMs + 1_000);
    // It comes back without the attempt, and is given the next one; the first one's failure is found when it starts anew.
    const second = worker();
    second.sync();
    await quiet(time);
    second.report(running(task, 2));
    await quiet(time);
    second.cut();
    await quiet(time);
    const third = worker(w1, "2");
    third.sync(ended(task, 1, 7));
    await quiet(time);
    expect(addresses(third.told.at(-1)!.hold)).toEqual([`${task}#3`]);
    expect((await taskIn(states, task)).context.attempts).toMatchObject([
      { ended: "It exited with 7" },
      { ended: "its worker w1 restarted" },
      { attempt: 3 },
    ]);
  });
});

test("what was said to a worker while the disk was slow is not heard by its next process", async () => {
  const time = virtualTime();
  const kept = memoryStates();
  let isSlow: Promise<void> | undefined;
  const states: States = {
    ...kept,
    async commit(entries) {
      await isSlow;
      await kept.commit(entries);
    },
  };
  const { scheduler, worker, submit } = await start(time, states);
  const first = worker();
  first.sync();
  const task = taskId(await submit(), 0);
  await quiet(time);
  first.report(running(task));
  await quiet(time);
  let goOn = (): void => {};
  isSlow = new Promise<void>((resolve) => goOn = resolve);
  void scheduler.drain("it stops");
  await quiet(time);
  first.sync(running(task));
  await quiet(time);
  first.cut();
  await quiet(time);
  void scheduler.putBack("it stops");
  const second = worker(w1, "2");
  second.sync();
  await quiet(time);
  isSlow = undefined;
  goOn();
  await quiet(time);
  expect(second.told.flatMap(({ hold }) => addresses(hold))).toEqual([]);
  expect(second.told.at(-1)).toMatchObject({ full: true });
});

test("what a leaving worker gives back is placed elsewhere, and waits when there is nobody else", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const { worker, submit } = await start(time, states);
  const leaving = worker();
  leaving.sync();
  const task = taskId(await submit(), 0);
  await quiet(time);
  leaving.report(running(task));
  leaving.report({ stage: "returned", taskId: task, attempt: 1, why: "it stops" });
  await quiet(time);
  expect(await taskIn(states, task)).toMatchObject({ path: "queued", context: { attempts: [{ ended: "it stops" }] } });
  const other = worker(workerId("w2"));
  other.sync();
  await quiet(time);
  expect(addresses(other.told.at(-1)!.hold)).toEqual([`${task}#2`]);
});

describe("two processes with the id of one worker", () => {
  test("are not served both: the second is told so, and what the first runs goes on", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    const first = worker(w1, "1");
    first.sync();
    const task = taskId(await submit(), 0);
    await quiet(time);
    first.report(running(task));
    const second = worker(w1, "2");
    second.sync();
    await quiet(time);
    expect(second.closedWith?.why).toMatchObject({ code: "WORKER_ID_TAKEN" });
    expect(second.heard).toEqual([]);
    expect(first.closedWith).toBeUndefined();
    await pass(time, 100); // it is only noted that it runs
    expect((await taskIn(states, task)).path).toBe("active.running");
    first.cut();
    await quiet(time);
    const third = worker(w1, "2");
    third.sync();
    await quiet(time);
    expect(third.closedWith, "once the first has gone it is served").toBeUndefined();
    expect(addresses(third.told.at(-1)!.hold)).toEqual([`${task}#2`]);
  });

  test("are one when it is the same process that has dialled again", async () => {
    const time = virtualTime();
    const { worker } = await start(time, memoryStates());
    const first = worker();
    first.sync();
    const again = worker();
    again.sync();
    await quiet(time);
    expect(first.closedWith).toEqual({ why: undefined });
    expect(again.told).toHaveLength(1);
  });
});

describe("what is forgotten", () => {
  test("is a worker that was given up long ago, and it may come back", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, ask } = await start(time, states);
    const listed = async (): Promise<unknown> => (await ask({ type: "worker.list" }))["workers"];
    const first = worker();
    first.sync();
    await quiet(time);
    first.cut();
    await pass(time, 1_800_000);
    expect(await listed()).toMatchObject([{ workerId: w1, state: "lost" }]);
    await pass(time, 1_900_000);
    expect(await listed()).toEqual([]);
    expect(await states.get(workerAddress(w1))).toBeUndefined();
    const numbers = first.told.map(({ number }) => number);
    const back = worker();
    back.sync();
    await quiet(time);
    expect(await listed()).toMatchObject([{ workerId: w1, state: "present" }]);
    expect(back.told[0]!.number, "or it would not listen").toBeGreaterThan(Math.max(...numbers));
  });

  test("is a job, with all of its tasks, whatever their number", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { submit, ask } = await start(time, states, { keepJobsMs: 60_000 });
    for (const key of ["a", "b", "c"]) {
      await ask({ type: "job.kill", jobId: await submit({ ...jobOf(700), key }), reason: "x" });
    }
    await pass(time, 50_000);
    expect((await ask({ type: "job.list", limit: 10 }))["jobs"]).toHaveLength(3);
    await pass(time, 12_000);
    expect((await ask({ type: "job.list", limit: 10 }))["jobs"]).toEqual([]);
    const left: string[] = [];
    for await (const { address } of states.current()) left.push(address);
    expect(left).toEqual(["scheduler"]);
  });

  test("is a job when those that ended since have more tasks than are kept, but not within its first minute", async () => {
    const time = virtualTime();
    const { submit, ask } = await start(time, memoryStates(), { keepTasksMax: 1_500 });
    const ids: string[] = [];
    for (const key of ["a", "b", "c"]) {
      ids.push(await submit({ ...jobOf(700), key }));
      await ask({ type: "job.kill", jobId: ids.at(-1)!, reason: "x" });
    }
    const listed = async (): Promise<unknown> => (await ask({ type: "job.list", limit: 10 }))["jobs"];
    await pass(time, 50_000);
    expect(await listed()).toHaveLength(3);
    await pass(time, 12_000);
    expect(await listed()).toMatchObject([{ jobId: ids[2] }, { jobId: ids[1] }]);
  });
});

describe("the largest job", () => {
  test("is saved, killed and ended in steps that a store takes", async () => {
    const time = virtualTime();
    const states = memoryStates();
    /** A fifth of the largest: every step that is long is so by what it says to each task. */
    const tasks = 4_000;
    let longest = 0;
    const measured: States = {
      ...states,
      commit(entries: readonly Entry[]) {
        for (const entry of entries) {
          if (entry.said.length > 100) longest = Math.max(longest, encodeEntry(entry).length);
        }
        return states.commit(entries);
      },
    };
    const { submit, ask } = await start(time, measured, { stepsPerTurn: 5_000 });
    const wide = "\u{20ac}".repeat(1_000);
    const one = jobOf(1).tasks[0]!;
    const jobId = await submit({
      requestor: wide.slice(0, 200),
      tasks: Array.from({ length: tasks }, (_, index) => ({
        ...one,
        name: `${wide.slice(0, 60)}${index}`,
        input: index === 0 ? one.input : { kind: "task" as const, task: `${wide.slice(0, 60)}0` },
      })),
    });
    await ask({ type: "job.kill", jobId, reason: wide });
    expect((await ask({ type: "job.get", jobId }))["job"]).toMatchObject({
      state: "cancelled",
      settled: { killed: tasks },
    });
    expect(longest * 5).toBeGreaterThan(20 * 1024 * 1024);
    expect(longest * 5).toBeLessThan(entryBytesMax);
  });
});

describe("what an operator sets", () => {
  const settings = {
    policy: { classes: [{ name: "ci", percent: 70 }, { name: "others", percent: 30 }], requestors: [] },
    limits: { jobsPerRequestor: 2, requestors: 1, tasksPerJob: 3 },
  };

  test("is kept over a restart, and what is wrong changes nothing and names the limit", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    const set = (to: unknown) => first.ask({ type: "settings.set", settings: to, reason: "a test" });
    expect(await set(settings)).toEqual({ type: "done" });
    const wrong = { ...settings, policy: { ...settings.policy, classes: [{ name: "ci", percent: 70 }] } };
    expect(await set(wrong)).toMatchObject({
      fault: { code: "REQUEST_INVALID", message: expect.stringContaining("70") },
    });
    first.life.kill();
    const second = await start(time, states);
    const { settings: found } = await second.ask({ type: "settings.get" });
    expect(found).toMatchObject({ limits: settings.limits, policy: { classes: [{ floor: 0, percent: 70 }, {}] } });
  });

  test("bounds what is taken in: jobs of one requestor, requestors, tasks of a job", async () => {
    const { ask } = await start(virtualTime(), memoryStates());
    await ask({ type: "settings.set", settings, reason: "a test" });
    const accept = async (key: string, tasks: number, requestor = "ada") =>
      await ask({ type: "job.accept", job: { ...jobOf(tasks), key, requestor } });
    expect(await accept("large", 4)).toMatchObject({
      fault: { code: "LIMIT_EXCEEDED", message: expect.stringContaining("limits.tasksPerJob): current value is 4") },
    });
    expect(await accept("one", 3)).toMatchObject({ type: "job.accepted" });
    expect(await accept("other", 1, "bob")).toMatchObject({
      fault: { code: "LIMIT_EXCEEDED", message: expect.stringContaining("limits.requestors): current value is 1") },
    });
    expect(await accept("two", 1)).toMatchObject({ type: "job.accepted" });
    expect(await accept("three", 1)).toMatchObject({
      fault: {
        code: "LIMIT_EXCEEDED",
        message: expect.stringContaining("limits.jobsPerRequestor): current value is 2"),
      },
    });
    expect(await accept("two", 1), "one that was accepted is no new one").toMatchObject({ existing: true });
  });

  test("a worker that is offline is given nothing, over restarts, until it is reinstated", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    first.worker().sync();
    await quiet(time);
    expect(await first.ask({ type: "worker.offline", workerId: w1, reason: "its disk" })).toEqual({ type: "done" });
    expect(await first.ask({ type: "worker.offline", workerId: "w9", reason: "" })).toMatchObject({
      fault: { code: "WORKER_UNKNOWN", message: expect.stringContaining("Cannot find worker w9") },
    });
    const task = taskId(await first.submit(), 0);
    await quiet(time);
    expect((await taskIn(states, task)).path).toBe("queued");
    first.life.kill();
    const second = await start(time, states);
    second.worker(w1, "2").sync();
    await quiet(time);
    expect((await taskIn(states, task)).path).toBe("queued");
    expect(await second.ask({ type: "worker.list" })).toMatchObject({ workers: [{ offline: { reason: "its disk" } }] });
    await second.ask({ type: "worker.reinstate", workerId: w1, reason: "a new disk" });
    await quiet(time);
    expect((await taskIn(states, task)).path).toBe("active.placed");
  });
});

test("a worker that says that it is paused goes on with what it has and is given no more, until it says so no more", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const { ask, submit, worker } = await start(time, states);
  const more: WorkerMore = {};
  const peer = worker(w1, "1", more);
  peer.sync();
  const first = taskId(await submit(), 0);
  await quiet(time);
  more.paused = "Its disk is full";
  peer.sync(running(first));
  const second = taskId(await submit({ key: "2" }), 0);
  await quiet(time);
  expect((await taskIn(states, first)).path).toBe("active.running");
  expect((await taskIn(states, second)).path).toBe("queued");
  expect(await ask({ type: "worker.list" })).toMatchObject({
    workers: [{ state: "present", paused: "Its disk is full" }],
  });
  peer.report(ended(first));
  await quiet(time);
  expect((await taskIn(states, first)).path).toBe("settled");
  delete more.paused;
  peer.sync();
  await quiet(time);
  expect((await taskIn(states, second)).path).toBe("active.placed");
  expect(((await ask({ type: "worker.list" }))["workers"] as object[])[0]).not.toHaveProperty("paused");
});

describe("trees that tasks want", () => {
  const tree = digestOfHash("e".repeat(64), 5);
  const name = "n";
  const mounting: EncodedJob["tasks"] = [
    { ...jobOf(1).tasks[0]!, name: "a" },
    {
      ...jobOf(1).tasks[0]!,
      name: "b",
      input: { kind: "mounted", parts: [{ path: "", name, snapshot: tree }, { path: "m", name, task: "a" }] },
      output: "full",
    },
  ];
  const wanted = (heard: readonly unknown[]) =>
    heard.flatMap((one) => {
      const { body } = one as { body?: { type?: string; taskId: TaskId; tree: { of: string } } };
      return body?.type === "tree.wanted" ? [[body.taskId.split("/")[1], body.tree.of]] : [];
    });
  const leases = async (ask: (body: Record<string, unknown>) => Promise<Record<string, unknown>>) =>
    ((await ask({ type: "task.leases" }))["leases"] as { inputs: string[] }[]).map(({ inputs }) => inputs);

  test("are asked of a gateway, over a kill -9 too, and what they are made of is leased meanwhile", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    const worker = first.worker();
    worker.sync();
    const job = await first.submit({ tasks: mounting });
    const [a, b] = [taskId(job, 0), taskId(job, 1)];
    await quiet(time);
    expect(await leases(first.ask)).toEqual([[emptyDigest], [tree]]);
    worker.report(ended(a));
    await quiet(time);
    expect((await taskIn(states, b)).path).toBe("mounting");
    expect(wanted(first.gateway.heard), "nobody is there who makes them").toEqual([]);
    expect(await leases(first.ask)).toEqual([[tree, emptyDigest]]);
    await first.ask({ type: "tree.serve", watch: 4 });
    expect(wanted(first.gateway.heard)).toEqual([["1", "inputs"]]);
    first.life.kill();

    const second = await start(time, states);
    const again = second.worker();
    again.sync();
    await second.ask({ type: "tree.serve", watch: 1 });
    expect(wanted(second.gateway.heard)).toEqual([["1", "inputs"]]);
    expect(await second.ask({ type: "tree.made", taskId: b, of: "output", tree })).toEqual({ type: "done" });
    expect((await taskIn(states, b)).path).toBe("mounting");
    await second.ask({ type: "tree.made", taskId: b, of: "inputs", tree });
    await quiet(time);
    expect((await taskIn(states, b)).path).toBe("active.placed");
    const output = digestOfHash("f".repeat(64), 6);
    const outcome: Outcome = { kind: "exited", exitCode: 0, output };
    again.report({ stage: "ended", taskId: b, attempt: 1, outcome });
    await quiet(time);
    expect((await taskIn(states, b)).path).toBe("overlaying");
    expect(again.told.at(-1)!.acknowledged).toEqual([{ taskId: b, attempt: 1 }]);
    expect(wanted(second.gateway.heard)).toEqual([["1", "inputs"], ["1", "output"]]);
    expect(await leases(second.ask)).toEqual([[tree, output]]);
    const view = async () =>
      ((await second.ask({ type: "job.get", jobId: job }))["tasks"] as { outcome?: object; why: string }[])[1]!;
    expect((await view()).outcome, "it is not over").toBeUndefined();
    expect((await view()).why).toBe("It exited with 0; what it made is being laid over its inputs.");
    await second.ask({ type: "tree.made", taskId: b, of: "output", tree });
    await quiet(time);
    expect(await view()).toMatchObject({ outcome: { kind: "exited", output: tree } });
    expect(await leases(second.ask)).toEqual([]);
  });

  test("that cannot be made are the end of their task; one that was killed meanwhile stays so", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { ask, submit, worker } = await start(time, states);
    const peer = worker();
    peer.sync();
    await ask({ type: "tree.serve", watch: 1 });
    const mounted = async (key: string) => {
      const job = await submit({ key, tasks: mounting });
      peer.report(ended(taskId(job, 0)));
      await quiet(time);
      return [job, taskId(job, 1)] as const;
    };
    const [, b] = await mounted("1");
    await ask({
      type: "tree.failed",
      taskId: b,
      of: "inputs",
      fault: { code: "PATH_INVALID", message: "Cannot put x" },
    });
    await quiet(time);
    expect((await taskIn(states, b)).context.outcome).toMatchObject({
      kind: "failed",
      fault: { code: "PATH_INVALID" },
    });
    const [job, killed] = await mounted("2");
    await ask({ type: "job.kill", jobId: job, reason: "unwanted" });
    await quiet(time);
    await ask({ type: "tree.made", taskId: killed, of: "inputs", tree });
    await quiet(time);
    expect((await taskIn(states, killed)).context.outcome).toMatchObject({ kind: "killed" });
  });

  test("keep nobody waiting who shares the result: that is known before they are made, and outlasts their task", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { ask, submit, worker } = await start(time, states);
    const peer = worker();
    peer.sync();
    const shared = {
      ...jobOf(1).tasks[0]!,
      input: { kind: "snapshot" as const, snapshot: tree },
      cache: "use" as const,
    };
    const jobId = await submit({ key: "1", tasks: [{ ...shared, output: "full" }] });
    const [full, only] = [taskId(jobId, 0), taskId(await submit({ key: "2", tasks: [shared] }), 0)];
    const output = digestOfHash("f".repeat(64), 6);
    const outcome: Outcome = { kind: "exited", exitCode: 0, output };
    peer.report({ stage: "ended", taskId: full, attempt: 1, outcome });
    await quiet(time);
    expect((await taskIn(states, full)).path).toBe("overlaying");
    expect((await taskIn(states, only)).context).toMatchObject({ outcome, cached: { taskId: full, workerId: w1 } });
    await ask({ type: "job.kill", jobId, reason: "unwanted" });
    await quiet(time);
    expect((await taskIn(states, full)).context.outcome).toMatchObject({ kind: "killed" });
    expect((await taskIn(states, only)).context).toMatchObject({ outcome, attempts: [] });
  });

  test("that cannot be laid over its inputs say nothing of the worker that ran it", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { ask, submit, worker } = await start(time, states);
    const peer = worker(w1, "1", { slots: 9 });
    peer.sync();
    worker(workerId("w2")).sync();
    await ask({ type: "tree.serve", watch: 1 });
    const input = { kind: "snapshot" as const, snapshot: tree };
    for (let round = 0; round < 5; round++) {
      const tasks = [{ ...jobOf(1).tasks[0]!, input, output: "full" as const }];
      const task = taskId(await submit({ key: `${round}`, tasks }), 0);
      await quiet(time);
      const outcome: Outcome = { kind: "exited", exitCode: 0, output: digestOfHash("f".repeat(64), 6) };
      peer.report({ stage: "ended", taskId: task, attempt: 1, outcome });
      await quiet(time);
      const fault = { code: "SNAPSHOT_UNKNOWN", message: "Cannot lay it" };
      await ask({ type: "tree.failed", taskId: task, of: "output", fault });
      await quiet(time);
      expect((await taskIn(states, task)).context).toMatchObject({
        outcome: { kind: "failed", fault },
        attempts: [{ ended: "It exited with 0" }],
      });
    }
    const { context } = (await states.get(workerAddress(w1)))!.state as State;
    expect(context).not.toHaveProperty("faults");
  });
});

test("a newer job of the same requestor and basis replaces the older one", async () => {
  const { ask } = await start(virtualTime(), memoryStates());
  const accept = async (key: string, requestor: string, basis: string): Promise<string> =>
    (await ask({ type: "job.accept", job: { ...jobOf(1), key, requestor, basis } }))["jobId"] as string;
  const stateOf = async (
    jobId: string,
  ) => ((await ask({ type: "job.get", jobId }))["job"] as { state: string; why: string });
  const old = await accept("1", "ada", "branch");
  const others = [await accept("2", "bob", "branch"), await accept("3", "ada", "other"), await accept("4", "ada", "")];
  const next = await accept("5", "ada", "branch");
  expect(await stateOf(old)).toMatchObject({ state: "cancelled", why: expect.stringContaining(`Job ${next}`) });
  for (const jobId of [...others, next]) expect((await stateOf(jobId)).state).toBe("running");
});

test("a newer job of the same basis takes over the action that the older one runs, though they share it", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const first = await start(time, states);
  const peer = first.worker();
  peer.sync();
  const tasks = jobOf(1).tasks.map((task) => ({ ...task, cache: "use" as const }));
  const stateOf = async (id: JobId) => pathOf(((await states.get(jobAddress(id)))!.state as State).value);
  const old = await first.submit({ key: "old", basis: "main", tasks });
  await quiet(time);
  peer.report(running(taskId(old, 0)));
  await quiet(time);
  // The newer one's task follows the older one's, which is killed for it.
  const fresh = await first.submit({ key: "fresh", basis: "main", tasks });
  await quiet(time);
  expect((await taskIn(states, taskId(old, 0))).path).toBe("stopping");
  const outcome: Outcome = { kind: "killed", reason: "it was replaced" };
  peer.report({ stage: "ended", taskId: taskId(old, 0), attempt: 1, outcome });
  await quiet(time);
  expect(addresses(peer.told.at(-1)!.hold)).toEqual([`${taskId(fresh, 0)}#1`]);
  peer.report(ended(taskId(fresh, 0)));
  await quiet(time);
  expect([await stateOf(old), await stateOf(fresh)]).toEqual(["cancelled", "succeeded"]);

  // What has ended is replaced by nobody; what has not is, also when a restart was between them.
  const third = await first.submit({ key: "third", basis: "main", tasks: jobOf(1).tasks });
  await quiet(time);
  first.life.kill();
  const second = await start(time, states);
  const fourth = await second.submit({ key: "fourth", basis: "main", tasks: jobOf(1).tasks });
  await quiet(time);
  expect((await taskIn(states, taskId(third, 0))).context.stopReason).toContain(`Job ${fourth} of the same requestor`);
  expect(await stateOf(fresh)).toBe("succeeded");
});

describe("why", () => {
  test("a job is as it is, now and at a moment before a kill -9, from what is saved", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    first.worker().sync();
    await quiet(time);
    const jobId = await first.submit({ ...jobOf(4) });
    await quiet(time);
    const queuedAtMs = time.now();
    const why = async (one: typeof first, atMs?: number) =>
      await one.ask({ type: "job.why", jobId, ...(atMs === undefined ? {} : { atMs }) });
    const before = await why(first);
    expect(before).toMatchObject({
      job: { jobId, state: "running" },
      jobCause: { event: "job.create" },
      tasks: [
        { task: { state: "placed", why: expect.stringContaining("Given to w1") }, cause: { event: "task.placed" } },
        { task: { state: "placed" }, cause: { reason: expect.stringContaining("slots free") } },
        { task: { state: "queued", why: expect.stringContaining("busy; 0 ") }, cause: { event: "task.create" } },
        { task: { state: "queued", why: expect.stringContaining("busy; 1 ") } },
      ],
      more: 0,
    });
    first.life.kill();
    await pass(time, 60_000);
    const second = await start(time, states);
    second.worker(w1, "2").sync();
    await quiet(time);
    await second.ask({ type: "job.kill", jobId, reason: "enough" });
    await pass(time, 1_000);
    expect(await why(second)).toMatchObject({ job: { why: expect.stringContaining("enough") } });
    const again = await why(second, queuedAtMs);
    expect(again["tasks"]).toEqual(before["tasks"]);
    expect(again["job"]).toEqual(before["job"]);
  });

  test("is refused for a job that was not there then, and for a time of which nothing is kept", async () => {
    const time = virtualTime();
    await pass(time, 5_000);
    const { ask, submit } = await start(time, memoryStates());
    await pass(time, 1_000);
    const startedAtMs = time.now() - 500;
    const jobId = await submit();
    expect(await ask({ type: "job.why", jobId, atMs: startedAtMs })).toMatchObject({ fault: { code: "JOB_UNKNOWN" } });
    expect(await ask({ type: "job.why", jobId, atMs: 0 })).toMatchObject({ fault: { code: "REQUEST_INVALID" } });
    expect(await ask({ type: "job.why", jobId: "j0123456789-000000" })).toMatchObject({
      fault: { code: "JOB_UNKNOWN" },
    });
  });
});

test("a worker that fails at what others succeed at is set aside, and tried again later", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const { worker, submit, ask } = await start(time, states);
  // Another one is there, and has no slot free.
  worker(workerId("w2")).sync();
  await quiet(time);
  await submit({ ...jobOf(2), key: "others" });
  await quiet(time);
  const bad = worker();
  bad.sync();
  await quiet(time);
  const fault: Outcome = { kind: "failed", fault: { code: "CHECKOUT_FAILED", message: "its disk" } };
  const task = taskId(await submit(), 0);
  for (const attempt of [1, 2, 3]) {
    await quiet(time);
    bad.report({ stage: "ended", taskId: task, attempt, outcome: fault });
  }
  await quiet(time);
  expect((await taskIn(states, task)).context.attempts.map(({ reason }) => reason)).toEqual([
    "first",
    "workerFailed",
    "workerFailed",
  ]);
  expect(await ask({ type: "worker.list" })).toMatchObject({
    workers: [{ flaky: { why: `It could not do its part of task ${task}`, untilMs: time.now() + 60_000 } }, {}],
  });
  const next = taskId(await submit({ key: "next" }), 0);
  await pass(time, 59_000);
  expect((await taskIn(states, next)).path).toBe("queued");
  await pass(time, 2_000);
  expect((await taskIn(states, next)).path).toBe("active.placed");
  bad.report(ended(next));
  await quiet(time);
  expect(((await ask({ type: "worker.list" })) as { workers: object[] }).workers[0]).not.toHaveProperty("flaky");
});

test("a task that held more memory than it declared goes on with more, and its worker is not to blame", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const { worker, submit, ask } = await start(time, states);
  const peer = worker();
  peer.sync();
  await quiet(time);
  const { tasks } = jobOf(1);
  const task = taskId(await submit({ tasks: [{ ...tasks[0]!, needs: { memoryBytes: 1_000 } }] }), 0);
  const fault = { code: "MEMORY_EXCEEDED" as const, message: "Cannot finish it as it held too much" };
  const outcome: Outcome = { kind: "failed", fault, usage: { peakMemoryBytes: 1_200, cpuMs: 5 } };
  const limits = () => peer.told.flatMap(({ hold }) => hold).map(({ memoryBytesMax }) => memoryBytesMax);
  for (const attempt of [1, 2, 3, 4]) {
    await quiet(time);
    peer.report({ stage: "ended", taskId: task, attempt, outcome });
  }
  await quiet(time);
  expect(limits()).toEqual([1_000, 2_000, 4_000, 8_000]);
  const { path, context } = await taskIn(states, task);
  expect(path).toBe("settled");
  expect(context.attempts.map(({ reason }) => reason)).toEqual(["first", "memory", "memory", "memory"]);
  const { workers } = await ask({ type: "worker.list" }) as { workers: object[] };
  expect(workers[0]).not.toHaveProperty("flaky");
  const { context: record } = (await states.get(workerAddress(w1)))!.state as { context: object };
  expect(record).not.toHaveProperty("faults");

  const second = taskId(await submit({ key: "2", tasks: [{ ...tasks[0]!, needs: { memoryBytes: 500 } }] }), 0);
  await quiet(time);
  peer.sync(running(second));
  await quiet(time);
  expect(peer.told.at(-1), "what it is told in answer to a sync has the limit too").toMatchObject({
    full: true,
    hold: [{ taskId: second, memoryBytesMax: 500 }],
  });
});

test("a task that held all that the largest worker has is given no more: it fails with the figures", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const { worker, submit } = await start(time, states);
  const small = worker(w1, "1", { memoryBytes: 1_500 });
  small.sync();
  const large = worker(workerId("w2"), "1", { memoryBytes: 5_000 });
  large.sync();
  await quiet(time);
  const task = taskId(await submit({ tasks: [{ ...jobOf(1).tasks[0]!, needs: { memoryBytes: 2_000 } }] }), 0);
  const fault = { code: "MEMORY_EXCEEDED" as const, message: "Cannot finish it as it held too much" };
  const outcome: Outcome = { kind: "failed", fault, usage: { peakMemoryBytes: 2_100, cpuMs: 5 } };
  for (const attempt of [1, 2, 3]) {
    await quiet(time);
    large.report({ stage: "ended", taskId: task, attempt, outcome });
  }
  await quiet(time);
  expect(large.told.flatMap(({ hold }) => hold).map(({ memoryBytesMax }) => memoryBytesMax)).toEqual([
    2_000,
    4_000,
    5_000,
  ]);
  const { path, context } = await taskIn(states, task);
  expect(path).toBe("settled");
  expect(context.outcome).toMatchObject({
    fault: { code: "MEMORY_EXCEEDED", message: expect.stringContaining("5000 bytes, and the largest worker") },
  });
});

describe("a task that no worker could ever run", () => {
  const gpuJob = { tasks: [{ ...jobOf(1).tasks[0]!, platform: { gpu: "a" } }] };
  type Changed = { body: { type: string; task?: { state: string; why: string; unmet?: object } } };
  const changes = (gateway: Peer): string[] =>
    gateway.heard.map((message) => (message as Changed).body).filter(({ type }) => type === "task.changed")
      .map(({ task }) => `${task!.unmet === undefined ? "" : "unmet "}${task!.why}`);

  test("is told so without having asked, in its row and to who watches, and goes on when one comes", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit, ask, gateway } = await start(time, states);
    const peer = worker();
    peer.sync();
    await quiet(time);
    const jobId = await submit(gpuJob);
    const task = taskId(jobId, 0);
    void ask({ type: "job.watch", jobId, watch: 1, afterSeq: 0 });
    await pass(time, 58_000);
    expect((await taskIn(states, task)).context.unmet).toBeUndefined();
    await pass(time, 4_000);
    expect((await taskIn(states, task)).context.unmet).toMatchObject({
      lacks: ["gpu=a"],
      nearest: { workerId: w1, has: ["no gpu"] },
    });
    const told = "no worker that takes tasks has gpu=a; w1 comes nearest, with no gpu";
    expect(changes(gateway)).toEqual(["Queued.", `unmet Queued: ${told}.`]);
    const entries: Entry[] = [];
    for await (const entry of states.history(taskAddress(task))) entries.push(entry);
    expect(entries.at(-1)).toMatchObject({ reason: told, cause: { event: { type: "task.unplaceable" } } });
    const why = await ask({ type: "job.why", jobId }) as { tasks: { task: { unmet: object; why: string } }[] };
    expect(why.tasks[0]!.task).toMatchObject({ unmet: { lacks: ["gpu=a"] }, why: `Queued: ${told}.` });
    await pass(time, 600_000);
    expect(changes(gateway), "once").toHaveLength(2);

    const other = worker(workerId("w2"), "1", { platform: { gpu: "a" } });
    other.sync();
    await pass(time, 2_000);
    expect(changes(gateway).at(-1)).toMatch(/^Given to w2 as attempt 1/);
    expect((await taskIn(states, task)).context.unmet).toBeUndefined();
    other.report(ended(task));
    await quiet(time);
    expect((await taskIn(states, task)).path).toBe("settled");
  });

  test("is told once, over a kill -9 too, and that one could run it when such a worker is there and busy", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const first = await start(time, states);
    first.worker().sync();
    await quiet(time);
    const { tasks } = gpuJob;
    const jobId = await first.submit({ tasks: [tasks[0]!, { ...tasks[0]!, name: "t1" }] });
    const [a, b] = [taskId(jobId, 0), taskId(jobId, 1)];
    await pass(time, 62_000);
    const { unmet } = (await taskIn(states, b)).context;
    expect(unmet).toBeDefined();
    first.life.kill();

    const second = await start(time, states);
    second.worker().sync();
    await pass(time, 120_000);
    expect((await taskIn(states, b)).context.unmet, "what it was told, when it was told").toEqual(unmet);
    second.worker(workerId("w2"), "1", { platform: { gpu: "a" }, slots: 1 }).sync();
    await pass(time, 2_000);
    expect((await taskIn(states, a)).path).toBe("active.placed");
    const { path, context } = await taskIn(states, b);
    expect([path, context.unmet]).toEqual(["queued", undefined]);
  });

  test("tells those that wait for its result as well, also who comes later; and that one could run it", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    worker().sync();
    await quiet(time);
    const tasks = gpuJob.tasks.map((task) => ({ ...task, cache: "use" as const }));
    const jobs = [await submit({ key: "1", tasks }), await submit({ key: "2", tasks })];
    await pass(time, 62_000);
    jobs.push(await submit({ key: "3", tasks }));
    await quiet(time);
    const unmet = async () =>
      await Promise.all(jobs.map(async (id) => (await taskIn(states, taskId(id, 0))).context.unmet?.lacks.join()));
    expect(await unmet()).toEqual(["gpu=a", "gpu=a", "gpu=a"]);
    const gpu = worker(workerId("w2"), "1", { platform: { gpu: "a" } });
    gpu.sync();
    await quiet(time);
    expect(addresses(gpu.told.at(-1)!.hold)).toEqual([`${taskId(jobs[0]!, 0)}#1`]);
    expect(await unmet()).toEqual([undefined, undefined, undefined]);
    gpu.report(ended(taskId(jobs[0]!, 0)));
    await quiet(time);
    for (const id of jobs) expect((await taskIn(states, taskId(id, 0))).path).toBe("settled");
  });

  test("does not keep the same action of one that asks for less from running, and has its result", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    const peer = worker(w1, "1", { memoryBytes: 1_000 });
    peer.sync();
    await quiet(time);
    const task = { ...jobOf(1).tasks[0]!, cache: "use" as const };
    const large = taskId(await submit({ key: "1", tasks: [{ ...task, needs: { memoryBytes: 2_000 } }] }), 0);
    const small = taskId(await submit({ key: "2", tasks: [task] }), 0);
    await pass(time, 62_000);
    expect((await taskIn(states, large)).context.unmet?.lacks).toEqual(["memoryBytes=2000"]);
    expect((await taskIn(states, small)).path).toBe("active.placed");
    peer.report(ended(small));
    await quiet(time);
    expect((await taskIn(states, large)).context).toMatchObject({
      outcome: { exitCode: 0 },
      cached: { taskId: small },
      attempts: [],
    });
  });

  test("may run beside it when a worker comes: what comes of the other then does not queue it again", async () => {
    for (const end of ["killed", "failed"] as const) {
      const time = virtualTime();
      const states = memoryStates();
      const { ask, worker, submit, scheduler } = await start(time, states);
      const peer = worker(w1, "1", { memoryBytes: 1_000 });
      peer.sync();
      await quiet(time);
      const task = { ...jobOf(1).tasks[0]!, cache: "use" as const };
      const large = taskId(
        await submit({ key: "1", tasks: [{ ...task, retries: 1, needs: { memoryBytes: 2_000 } }] }),
        0,
      );
      const jobId = await submit({ key: "2", tasks: [task] });
      const small = taskId(jobId, 0);
      await pass(time, 62_000);
      peer.sync(running(small));
      const other = worker(workerId("w2"), "1", { memoryBytes: 4_000 });
      other.sync();
      await quiet(time);
      other.report(running(large));
      await pass(time, 100); // it is only noted that it runs
      expect((await taskIn(states, large)).path).toBe("active.running");
      if (end === "failed") peer.report(ended(small, 1, 3));
      else {
        await ask({ type: "job.kill", jobId, reason: "unwanted" });
        peer.report({ stage: "ended", taskId: small, attempt: 1, outcome: { kind: "killed", reason: "unwanted" } });
      }
      await quiet(time);
      expect((await ask({ type: "cluster.get" }))["cluster"]).toMatchObject({ queued: 0, busy: 1 });
      other.report(ended(large));
      await quiet(time);
      expect((await taskIn(states, large)).context).toMatchObject({ outcome: { exitCode: 0 }, attempt: 1 });
      expect(scheduler.running).toBe(0);
    }
  });

  test("has the result of the same action of one that asks for less over a kill -9 as well", async () => {
    for (const isTold of [true, false]) {
      const time = virtualTime();
      const states = memoryStates();
      const first = await start(time, states);
      const peer = first.worker(w1, "1", { memoryBytes: 1_000, slots: 1 });
      peer.sync();
      await quiet(time);
      const task = { ...jobOf(1).tasks[0]!, cache: "use" as const };
      const busy = taskId(await first.submit({ key: "0" }), 0);
      peer.sync(running(busy));
      const large = taskId(await first.submit({ key: "1", tasks: [{ ...task, needs: { memoryBytes: 2_000 } }] }), 0);
      const small = taskId(await first.submit({ key: "2", tasks: [task] }), 0);
      await pass(time, isTold ? 62_000 : 1_000);
      first.life.kill();
      const second = await start(time, states);
      const again = second.worker(w1, "1", { memoryBytes: 1_000, slots: 1 });
      again.sync(running(busy));
      await pass(time, 62_000);
      again.report(ended(busy));
      await quiet(time);
      expect((await taskIn(states, small)).path).toBe("active.placed");
      again.report(ended(small));
      await quiet(time);
      expect((await taskIn(states, large)).context).toMatchObject({ cached: { taskId: small }, attempts: [] });
    }
  });

  test("that runs after all gives its result to the one that waits instead of it", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    const peer = worker(w1, "1", { memoryBytes: 1_000, slots: 1 });
    peer.sync();
    await quiet(time);
    const task = { ...jobOf(1).tasks[0]!, cache: "use" as const };
    const busy = taskId(await submit({ key: "0" }), 0);
    const large = taskId(await submit({ key: "1", tasks: [{ ...task, needs: { memoryBytes: 2_000 } }] }), 0);
    const small = taskId(await submit({ key: "2", tasks: [task] }), 0);
    peer.sync(running(busy));
    await pass(time, 62_000);
    const other = worker(workerId("w2"), "1", { memoryBytes: 4_000, slots: 1 });
    other.sync();
    await quiet(time);
    const placed = (await taskIn(states, large)).path === "active.placed" ? large : small;
    other.report(ended(placed));
    await quiet(time);
    expect(placed).toBe(large);
    expect((await taskIn(states, small)).context).toMatchObject({ cached: { taskId: large }, attempts: [] });
  });

  test("fails when settings say so", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit, ask } = await start(time, states);
    worker().sync();
    const { settings } = await ask({ type: "settings.get" }) as { settings: { policy: object } };
    const policy = { ...settings.policy, failUnmetAfterMs: 120_000 };
    await ask({ type: "settings.set", settings: { ...settings, policy }, reason: "nobody is to wait for ever" });
    const task = taskId(await submit(gpuJob), 0);
    await pass(time, 119_000);
    expect((await taskIn(states, task)).path).toBe("queued");
    await pass(time, 3_000);
    expect((await taskIn(states, task)).context.outcome).toMatchObject({
      kind: "failed",
      fault: { code: "TASK_UNPLACEABLE", message: expect.stringContaining("no worker that takes tasks has gpu=a") },
    });
  });
});

test.each([
  ["was so before", true],
  ["has come to be so since", false],
])(
  "what a requestor has queued that is throttled, and %s, keeps nobody else from the same action",
  async (_, before) => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit, ask } = await start(time, states);
    const { settings } = await ask({ type: "settings.get" }) as { settings: { policy: object } };
    const policy = { ...settings.policy, throttles: [{ pattern: "bots", running: 1 }] };
    await ask({ type: "settings.set", settings: { ...settings, policy }, reason: "bots" });
    const peer = worker();
    const come = async (): Promise<void> => {
      peer.sync();
      await pass(time, 3_000);
    };
    if (before) await come();
    await submit({ key: "1", requestor: "bots" });
    await quiet(time);
    const tasks = [{ ...jobOf(1).tasks[0]!, cache: "use" as const }];
    const bots = taskId(await submit({ key: "2", requestor: "bots", tasks }), 0);
    const ada = taskId(await submit({ key: "3", requestor: "ada", tasks }), 0);
    if (before) await quiet(time);
    else await come();
    expect((await taskIn(states, bots)).path).toBe("queued");
    expect((await taskIn(states, ada)).path).toBe("active.placed");
    peer.report(ended(ada));
    await quiet(time);
    expect((await taskIn(states, bots)).context).toMatchObject({ cached: { taskId: ada }, attempts: [] });
  },
);

test("a requestor that may run one task at once runs one, and is told why the other waits", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const { worker, submit, ask } = await start(time, states);
  const { settings } = await ask({ type: "settings.get" }) as { settings: { policy: object } };
  const policy = { ...settings.policy, throttles: [{ pattern: "a.*", running: 1 }] };
  await ask({ type: "settings.set", settings: { ...settings, policy }, reason: "bots" });
  const peer = worker();
  peer.sync();
  const { tasks } = jobOf(2);
  const jobId = await submit({ tasks });
  await quiet(time);
  expect((await taskIn(states, taskId(jobId, 1))).path).toBe("queued");
  const why = await ask({ type: "job.why", jobId }) as { tasks: { task: { why: string } }[] };
  expect(why.tasks.map(({ task }) => task.why).join()).toContain("waits as ada may run 1 at once");
  peer.report(ended(taskId(jobId, 0)));
  await quiet(time);
  expect((await taskIn(states, taskId(jobId, 1))).path).toBe("active.placed");
});

describe("what tasks like it took", () => {
  const gigabyte = 1024 ** 3;
  const took = (task: TaskId, peakMemoryBytes: number): HeldAttempt => ({
    stage: "ended",
    taskId: task,
    attempt: 1,
    outcome: {
      kind: "exited",
      exitCode: 0,
      startedAtMs: 1_000,
      endedAtMs: 3_000,
      usage: { peakMemoryBytes, cpuMs: 10 },
    },
  });
  const placedOn = async (states: States, ...tasks: readonly TaskId[]) =>
    await Promise.all(tasks.map(async (task) => {
      const { path, context } = await taskIn(states, task);
      return path === "queued" ? undefined : context.attempts.at(-1)!.workerId;
    }));

  test("is what a task is given room for that declared nothing, is shown with it, and outlasts a restart", async () => {
    const time = virtualTime();
    const states = memoryStates();
    let life = await start(time, states);
    let peer = life.worker(w1, "1", { memoryBytes: 4 * gigabyte });
    peer.sync();
    const { tasks: [template] } = jobOf(1);
    const named = (...names: readonly string[]) => names.map((name) => ({ ...template!, name }));
    const first = taskId(await life.submit({ tasks: named("big") }), 0);
    await quiet(time);
    peer.report(took(first, 2_900_000_000));
    await quiet(time);
    expect((await taskIn(states, first)).context).not.toHaveProperty("estimate");

    life.life.kill();
    life = await start(time, states);
    peer = life.worker(w1, "1", { memoryBytes: 4 * gigabyte });
    peer.sync();
    await quiet(time);
    const [a, b] = [
      taskId(await life.submit({ key: "a", tasks: named("big") }), 0),
      taskId(await life.submit({ key: "b", tasks: named("big") }), 0),
    ];
    expect(await life.ask({ type: "job.why", jobId: b.split("/")[0] })).toMatchObject({
      tasks: [{ task: { why: expect.stringContaining("no worker that it could use has enough memory free") } }],
    });
    const small = taskId(await life.submit({ key: "small", tasks: named("small") }), 0);
    await quiet(time);
    expect(await placedOn(states, a, b, small), "two of them do not fit at once").toEqual([w1, undefined, w1]);
    const estimate = { durationMs: 2_000, peakMemoryBytes: 2_900_000_000 };
    expect((await taskIn(states, a)).context.estimate).toEqual(estimate);
    peer.report(took(small, 1), took(a, 2_900_000_000));
    await quiet(time);
    expect(await placedOn(states, b)).toEqual([w1]);
    expect(peer.told.flatMap(({ hold }) => hold).filter((one) => one.memoryBytesMax !== undefined)).toEqual([]);
  });

  test("keeps no task from a smaller worker when the larger one is gone, nor from one that counts nothing", async () => {
    const time = virtualTime();
    const states = memoryStates();
    const { worker, submit } = await start(time, states);
    const large = worker(w1, "1", { memoryBytes: 8 * gigabyte });
    large.sync();
    const tasks = [{ ...jobOf(1).tasks[0]!, name: "big" }];
    const first = taskId(await submit({ tasks }), 0);
    await quiet(time);
    large.report(took(first, 6 * gigabyte));
    await quiet(time);
    const one = taskId(await submit({ key: "1", tasks }), 0);
    const two = taskId(await submit({ key: "2", tasks }), 0);
    const w2 = workerId("w2");
    worker(w2, "1", { memoryBytes: gigabyte }).sync();
    await quiet(time);
    expect(await placedOn(states, one, two)).toEqual([w1, undefined]);
    large.cut();
    await quiet(time);
    expect(await placedOn(states, one, two)).toEqual([w1, w2]);
  });
});

test("a worker that is the only one is not set aside for what it cannot do", async () => {
  const time = virtualTime();
  const states = memoryStates();
  const { worker, submit, ask } = await start(time, states);
  const only = worker();
  only.sync();
  await quiet(time);
  const fault: Outcome = { kind: "failed", fault: { code: "NO_SPACE", message: "the disk is full" } };
  const task = taskId(await submit(), 0);
  for (const attempt of [1, 2, 3]) {
    await quiet(time);
    only.report({ stage: "ended", taskId: task, attempt, outcome: fault });
  }
  await quiet(time);
  expect((await taskIn(states, task)).context.outcome).toEqual(fault);
  expect(((await ask({ type: "worker.list" })) as { workers: object[] }).workers[0]).not.toHaveProperty("flaky");
});
