import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Digest, digestOfHash, emptyDigest } from "../../src/domain/digest.ts";
import { jobId, type TaskId, taskId, workerId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import {
  inputRootOf,
  lossesMax,
  memoryRaisesMax,
  overtimeMs,
  type TaskContext,
  type TaskEvent,
  type TaskInput,
  taskMachine,
  treesOf,
  treeWantedBy,
} from "../../src/machines/task.ts";
import { type Running, running, typesOf } from "./running.ts";

const job = jobId("j0123456789-000000");
const id = taskId(job, 1);
const w1 = workerId("w1");
const w2 = workerId("w2");
const snapshot: Digest = digestOfHash("a".repeat(64), 3);
const output: Digest = digestOfHash("b".repeat(64), 7);

const input = (changes: Partial<TaskInput> = {}): TaskInput => ({
  taskId: id,
  name: "build",
  requestor: "ada",
  priority: 0,
  command: digestOfHash("c".repeat(64), 9),
  source: { kind: "snapshot", snapshot },
  dependents: [],
  timeoutMs: 1_000,
  retries: 0,
  platform: {},
  cache: "off",
  atMs: 10,
  ...changes,
});
/** Of a snapshot, and of the outputs of those tasks. */
const mounted = (...indexes: number[]): TaskInput["source"] => ({
  kind: "mounted",
  parts: [
    { path: "", name: "the snapshot", snapshot },
    ...indexes.map((index) => ({ path: `m${index}`, name: `task ${index}`, subtree: "x", index })),
  ],
});
const inputSettled = (index: number, made: Digest, atMs = 15): TaskEvent => ({
  type: "task.inputSettled",
  from: taskId(job, index),
  output: made,
  atMs,
});
const treeMade = (of: "inputs" | "output", tree: Digest, atMs = 16): TaskEvent => ({
  type: "task.treeMade",
  of,
  tree,
  atMs,
});
const treeFailed = (of: "inputs" | "output"): TaskEvent => ({
  type: "task.treeFailed",
  of,
  fault: { code: "PATH_INVALID", message: "Cannot put a and b into one tree" },
  atMs: 17,
});
type Task = Running<TaskContext, TaskEvent>;
const newTask = (changes: Partial<TaskInput> = {}): Task => running(taskMachine, input(changes));

const exited = (exitCode: number): Outcome => ({ kind: "exited", exitCode, startedAtMs: 25, endedAtMs: 30 });
const placed = (worker = w1, atMs = 20): TaskEvent => ({
  type: "task.placed",
  workerId: worker,
  why: "it is free",
  atMs,
});
const started = (attempt = 1, worker = w1): TaskEvent => ({
  type: "task.started",
  workerId: worker,
  attempt,
  startedAtMs: 25,
});
const ended = (outcome: Outcome, attempt = 1, worker = w1): TaskEvent => ({
  type: "task.ended",
  workerId: worker,
  attempt,
  outcome,
  atMs: 40,
});
const lost = (attempt = 1, worker = w1): TaskEvent => ({
  type: "task.attemptLost",
  workerId: worker,
  attempt,
  why: `its worker ${worker} was lost`,
  atMs: 50,
});
const putBack = (attempt = 1): TaskEvent => ({ type: "task.putBack", attempt, why: "the worker stops", atMs: 45 });
const held = (attempt = 1, worker = w1): TaskEvent => ({
  type: "task.held",
  workerId: worker,
  attempt,
  startedAtMs: 25,
});
const kill: TaskEvent = { type: "task.kill", reason: "no longer wanted", atMs: 60 };

describe("a task that needs more memory than it was given", () => {
  const exceeded = (heldBytes: number): Outcome => ({
    kind: "failed",
    fault: { code: "MEMORY_EXCEEDED", message: "Cannot finish it: it held too much" },
    usage: { peakMemoryBytes: heldBytes, cpuMs: 1 },
  });
  const limits = (task: Task) =>
    task.said.flatMap((said) =>
      (said as { type: string }).type === "attempt.hold" ? [(said as { memoryBytesMax?: number }).memoryBytesMax] : []
    );

  test("goes on with twice as much, and at least half as much again as it held", () => {
    const task = newTask({ needs: { memoryBytes: 100, cpuMillis: 500 } })
      .hear(placed(), started(), ended(exceeded(110)));
    expect(task.path).toBe("queued");
    expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
    expect(task.context.needs).toEqual({ memoryBytes: 200, cpuMillis: 500 });
    task.hear(placed(w2));
    expect(limits(task)).toEqual([200]);
    task.hear(ended(exceeded(1_001), 2, w2), placed(w1));
    expect(limits(task)).toEqual([1_502]);
    expect(task.context.attempts.map(({ reason }) => reason)).toEqual(["first", "memory", "memory"]);
    expect(task.context.attempts[0]).toMatchObject({
      ended: "It could not be run: Cannot finish it: it held too much",
    });
    expect(task.hear(ended(exited(0), 3)).path).toBe("settled");
    expect(task.context.failures).toBe(0);
  });

  test("is not given more for ever, and its last end is its outcome", () => {
    const task = newTask({ needs: { memoryBytes: 100 } });
    for (let attempt = 1; attempt <= memoryRaisesMax; attempt++) task.hear(placed(), ended(exceeded(1), attempt));
    expect(task.path).toBe("queued");
    expect(task.context.needs).toEqual({ memoryBytes: 100 * 2 ** memoryRaisesMax });
    task.hear(placed(), ended(exceeded(1), memoryRaisesMax + 1));
    expect(task.path).toBe("settled");
    expect(task.context.outcome).toMatchObject({
      fault: {
        code: "MEMORY_EXCEEDED",
        message: "Cannot finish it: it held too much; it was given more 3 times, and had 800 bytes at last",
      },
      usage: { peakMemoryBytes: 1 },
    });
  });

  test("is given no more than the largest worker has, and has failed when it held that", () => {
    const endedThere = (attempt: number, memoryBytesMost: number): TaskEvent => ({
      ...ended(exceeded(400), attempt),
      memoryBytesMost,
    } as TaskEvent);
    const task = newTask({ needs: { memoryBytes: 300 } }).hear(placed(), started(), endedThere(1, 500));
    expect(task.path).toBe("queued");
    expect(task.context.needs).toEqual({ memoryBytes: 500 });
    task.hear(placed(), endedThere(2, 500));
    expect(task.path).toBe("settled");
    expect(task.context.outcome).toMatchObject({
      fault: {
        code: "MEMORY_EXCEEDED",
        message:
          "Cannot finish it: it held too much; it had 500 bytes, and the largest worker that could run it has 500",
      },
    });
  });

  test("has no limit when it declared none", () => {
    const task = newTask({ needs: { memoryBytes: 0 } }).hear(placed());
    expect(task.said[0]).not.toHaveProperty("memoryBytesMax");
  });
});

describe("a task that no worker could run", () => {
  const nearest = { workerId: w1, has: ["no gpu"] };
  const told = (fails: boolean): TaskEvent => ({
    type: "task.unplaceable",
    unmet: { lacks: ["gpu=a"], nearest, toldAtMs: 70 },
    why: "no worker that takes tasks has gpu=a",
    fails,
  });

  test("stays queued with what it was told, until one could, or does", () => {
    const task = newTask().hear(told(false));
    expect(task.path).toBe("queued");
    expect(task.context.unmet).toEqual({ lacks: ["gpu=a"], nearest, toldAtMs: 70 });
    expect(task.hear({ type: "task.placeable" }).context.unmet).toBeUndefined();
    expect(task.hear(told(false), placed()).context.unmet).toBeUndefined();
    expect(task.hear(told(false), { type: "task.placeable" }).path, "what comes late changes nothing").toBe(
      "active.placed",
    );
  });

  test("has failed, and tells its job so, when it is not to wait for one", () => {
    const task = newTask().hear(told(true));
    expect(task.path).toBe("settled");
    expect(task.context.outcome).toMatchObject({
      kind: "failed",
      fault: {
        code: "TASK_UNPLACEABLE",
        message: expect.stringMatching(/^Cannot run .* as no worker that takes tasks has gpu=a: /),
      },
    });
    expect(task.context.settledAtMs).toBe(70);
    expect(typesOf(task.said)).toContain("job.taskSettled");
  });
});

describe("a task whose worker is not heard of", () => {
  const awaited = (atMs: number): TaskEvent => ({ type: "task.awaited", atMs });
  const reached = (atMs: number): TaskEvent => ({ type: "clock.reached", atMs });

  test("has its whole time again when its scheduler was away", () => {
    const task = newTask().hear(placed(), started(), awaited(5_000_000), reached(5_000_000));
    expect(task.path).toBe("active.running");
    expect(task.hear(reached(5_000_000 + 1_000 + overtimeMs)).path).toBe("settled");
  });

  test("is killed within a bounded time, though its time limit is far", () => {
    const task = newTask({ timeoutMs: 30 * 86_400_000 }).hear(placed(), started(), kill);
    expect(task.hear(reached(60 + overtimeMs)).context.outcome).toEqual({ kind: "killed", reason: "no longer wanted" });
    const later = newTask({ timeoutMs: 30 * 86_400_000 }).hear(placed(), started(), kill, awaited(1_000_000));
    expect(later.hear(reached(60 + overtimeMs)).path).toBe("stopping");
    expect(later.hear(reached(1_000_000 + overtimeMs)).path).toBe("settled");
  });

  test("goes on there when it comes back, though the command has not started yet", () => {
    const notStarted: TaskEvent = { type: "task.held", workerId: w1, attempt: 1 };
    const task = newTask().hear(placed(), lost(), notStarted);
    expect(task.path).toBe("active.placed");
    expect(task.context.attempts).toEqual([expect.not.objectContaining({ ended: expect.anything() })]);
    expect(task.hear(started()).path).toBe("active.running");
    expect(newTask().hear(placed(), putBack(), notStarted).path).toBe("queued");
  });

  test("takes no kill that nobody asked for as its result: it is made again", () => {
    const killed: Outcome = { kind: "killed", reason: "Its scheduler wants it no more" };
    const task = newTask().hear(placed(), started(), ended(killed));
    expect(task.path).toBe("queued");
    expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
    expect(task.hear(placed(w2)).context.attempts).toMatchObject([
      { ended: "It was killed: Its scheduler wants it no more" },
      { reason: "workerLost", workerId: w2 },
    ]);
    for (let attempt = 2; attempt <= lossesMax; attempt++) task.hear(ended(killed, attempt), placed());
    expect(task.hear(ended(killed, lossesMax + 1)).path, "not for ever").toBe("settled");
  });

  test("acknowledges the result of an earlier attempt while it is being killed", () => {
    const task = newTask().hear(placed(), lost(), placed(w2), kill, ended(exited(0)));
    expect(task.path).toBe("stopping");
    expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
  });
});

describe("a task", () => {
  test("with a snapshot is queued at birth, and one without files runs in the empty snapshot", () => {
    expect(newTask().path).toBe("queued");
    expect(inputRootOf(newTask().context)).toBe(snapshot);
    expect(inputRootOf(newTask({ source: { kind: "empty" } }).context)).toBe(emptyDigest);
  });

  test("that is placed asks its worker to hold attempt 1, with the reason and the time by which it must be heard of", () => {
    const task = newTask().hear(placed());
    expect(task.path).toBe("active.placed");
    expect(task.said).toEqual([{
      type: "attempt.hold",
      to: "member/w1",
      taskId: id,
      attempt: 1,
      command: input().command,
      inputRoot: snapshot,
      timeoutMs: 1_000,
    }]);
    expect(task.context.attempts).toEqual([
      { attempt: 1, reason: "first", workerId: w1, placedAtMs: 20, why: "it is free" },
    ]);
    expect(task.context.wakeAtMs).toBe(20 + 1_000 + overtimeMs);
  });

  test("counts its overtime from its start", () => {
    const task = newTask().hear(placed(), started());
    expect(task.path).toBe("active.running");
    expect(task.context.wakeAtMs).toBe(25 + 1_000 + overtimeMs);
  });

  test("settles with a result, tells its dependents and its job, and acknowledges, in that order", () => {
    const task = newTask({ dependents: [2, 5] }).hear(placed(), started(), ended({ ...exited(0), output } as Outcome));
    expect(task.path).toBe("settled");
    expect(task.context).toMatchObject({ outcome: { kind: "exited", exitCode: 0, output }, settledAtMs: 40 });
    expect(task.context.wakeAtMs).toBeUndefined();
    expect(task.said).toEqual([
      { type: "task.inputSettled", to: `task/${job}/2`, from: id, output, atMs: 40 },
      { type: "task.inputSettled", to: `task/${job}/5`, from: id, output, atMs: 40 },
      { type: "job.taskSettled", to: `job/${job}`, taskId: id, result: "succeeded", atMs: 40 },
      { type: "attempt.acknowledged", to: "member/w1", taskId: id, attempt: 1 },
    ]);
  });

  test("settles from placed too: a report that it started may be lost", () => {
    const task = newTask().hear(placed(), ended(exited(0)));
    expect(task.path).toBe("settled");
    expect(task.context.attempts[0]).toMatchObject({ attempt: 1, startedAtMs: 25 });
  });

  test("without declared output gives its dependents the empty snapshot", () => {
    const task = newTask({ dependents: [2] }).hear(placed(), ended(exited(0)));
    expect(task.said[0]).toMatchObject({ type: "task.inputSettled", output: emptyDigest });
  });

  test.each<[string, Outcome, string]>([
    ["exited with 1", exited(1), "failed"],
    ["timed out", { kind: "timedOut", timeoutMs: 1_000 }, "failed"],
    ["could not be run", { kind: "failed", fault: { code: "BLOB_MISSING", message: "no such blob" } }, "failed"],
    ["was killed", { kind: "killed", reason: "oom" }, "killed"],
  ])("that %s tells its dependents that they have no input, and its job the result", (_, outcome, result) => {
    const task = newTask({ dependents: [2] }).hear(placed());
    if (outcome.kind === "killed") task.hear(kill);
    task.hear(ended(outcome));
    expect(task.said[0]).toMatchObject({ type: "task.inputSettled", failed: expect.any(String) });
    expect(task.said[0]).not.toHaveProperty("output");
    expect(task.said[1]).toMatchObject({ type: "job.taskSettled", result });
  });

  test("settled acknowledges every late result, and changes no more", () => {
    const task = newTask().hear(placed(), ended(exited(0)));
    const settled = task.state;
    for (const event of [ended(exited(1)), ended(exited(1), 7, w2)]) {
      task.hear(event);
      expect(task.isUnchanged).toBe(true);
      expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
    }
    task.hear(kill, lost(), putBack(), held(), placed(), started(), { type: "clock.reached", atMs: 1e12 });
    expect(task.state).toEqual(settled);
  });
});

describe("a task whose input is another task", () => {
  const dependent = () => newTask({ source: { kind: "task", index: 0 }, dependents: [3] });
  const from: TaskId = taskId(job, 0);

  test("waits, and is queued with that task's output", () => {
    const task = dependent();
    expect(task.path).toBe("waiting");
    task.hear({ type: "task.inputSettled", from, output, atMs: 70 });
    expect(task.path).toBe("queued");
    expect(task.context).toMatchObject({ sourceOutput: output, queuedAtMs: 70 });
  });

  test("is skipped when that task did not exit with 0, and passes that on", () => {
    const task = dependent().hear({ type: "task.inputSettled", from, failed: "exited with 2", atMs: 70 });
    expect(task.context.outcome).toEqual({ kind: "skipped", because: from, reason: `its input ${from} exited with 2` });
    expect(typesOf(task.said)).toEqual(["task.inputSettled", "job.taskSettled"]);
    expect(task.said[1]).toMatchObject({ result: "skipped" });
  });

  test("is not placed before it has its input", () => {
    const task = dependent().hear(placed());
    expect(task.path).toBe("waiting");
    expect(task.isUnchanged).toBe(true);
  });
});

describe("a task with retries", () => {
  test("is queued again after a failure, tells nobody but the worker, and says why the next attempt is made", () => {
    const task = newTask({ retries: 1, dependents: [2] }).hear(placed(), started(), ended(exited(3)));
    expect(task.path).toBe("queued");
    expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
    expect(task.context.attempts[0]).toMatchObject({ ended: "It exited with 3" });
    task.hear(placed(w2));
    expect(task.context.attempts[1]).toMatchObject({ attempt: 2, reason: "retry", workerId: w2 });
  });

  test("settles with its last failure when none are left", () => {
    const task = newTask({ retries: 1 }).hear(placed(), ended(exited(3)), placed(w2), ended(exited(4), 2, w2));
    expect(task.context.outcome).toMatchObject({ exitCode: 4 });
  });

  test("is not retried after it was killed, or when it could not be run", () => {
    expect(newTask({ retries: 5 }).hear(placed(), kill, ended({ kind: "killed", reason: "x" })).path).toBe("settled");
    const fault = { code: "COMMAND_NOT_STARTED", message: "x" } as const;
    expect(newTask({ retries: 5 }).hear(placed(), ended({ kind: "failed", fault })).path).toBe("settled");
  });

  test("runs again when its worker failed at its part, a few times, whatever its retries", () => {
    const fault = { code: "CHECKOUT_FAILED", message: "its disk" } as const;
    const failed = (attempt: number) => ended({ kind: "failed", fault }, attempt);
    const task = newTask().hear(placed(), failed(1));
    expect(task.path).toBe("queued");
    task.hear(placed(), failed(2), placed());
    expect(task.context.attempts.map(({ reason }) => reason)).toEqual(["first", "workerFailed", "workerFailed"]);
    expect(task.context.attempts[0]).toMatchObject({ ended: expect.stringContaining("its disk") });
    expect(task.hear(failed(3)).context.outcome).toMatchObject({ kind: "failed", fault });
  });

  test("ignores the news of an attempt that was retried", () => {
    const task = newTask({ retries: 2 }).hear(placed(), ended(exited(3)));
    task.hear(held());
    expect(task.path).toBe("queued");
    task.hear(ended(exited(0)));
    expect(task.path).toBe("queued");
    expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
  });
});

describe("a task whose worker is lost", () => {
  test("is queued again, and the next attempt names the reason", () => {
    const task = newTask().hear(placed(), started(), lost());
    expect(task.path).toBe("queued");
    expect(task.context.wakeAtMs).toBeUndefined();
    expect(task.context.attempts[0]).toMatchObject({ givenUp: true, ended: "its worker w1 was lost" });
    expect(task.hear(placed(w2)).context.attempts[1]).toMatchObject({ attempt: 2, reason: "workerLost" });
  });

  test("takes its result all the same, when it comes before the next attempt", () => {
    const task = newTask().hear(placed(), lost(), ended(exited(0)));
    expect(task.path).toBe("settled");
    expect(task.context.attempts).toEqual([
      { attempt: 1, reason: "first", workerId: w1, placedAtMs: 20, why: "it is free", startedAtMs: 25 },
    ]);
  });

  test("takes its result all the same while the next attempt runs, and drops that one", () => {
    const task = newTask().hear(placed(), lost(), placed(w2), started(2, w2), ended(exited(0)));
    expect(task.path).toBe("settled");
    expect(task.said[0]).toEqual({
      type: "attempt.drop",
      to: "member/w2",
      taskId: id,
      attempt: 2,
      reason: "An earlier attempt delivered its result after all",
    });
    expect(task.context.attempts.filter((attempt) => attempt.ended === undefined)).toHaveLength(1);
  });

  test("does not take a late result that is none: it was killed, or could not be run", () => {
    const task = newTask().hear(placed(), lost(), ended({ kind: "killed", reason: "unwanted" }));
    expect(task.path).toBe("queued");
    expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
  });

  test("counts a late failure as one of its retries, once however often it is said", () => {
    const task = newTask({ retries: 1 }).hear(placed(), lost(), ended(exited(1)), ended(exited(1)));
    expect(task.path).toBe("queued");
    expect(task.context.failures).toBe(1);
    task.hear(placed(w2), ended(exited(1)));
    expect(task.path).toBe("active.placed");
    task.hear(ended(exited(2), 2, w2));
    expect(task.context).toMatchObject({ outcome: { exitCode: 2 } });
  });

  test("settles with a late failure when no retries are left", () => {
    expect(newTask().hear(placed(), lost(), ended(exited(1))).context.outcome).toMatchObject({ exitCode: 1 });
    const running = newTask().hear(placed(), lost(), placed(w2), ended(exited(1)));
    expect(running.context.outcome).toMatchObject({ exitCode: 1 });
    expect(running.said[0]).toMatchObject({ type: "attempt.drop", to: "member/w2" });
  });

  test("goes on there when the worker comes back with it before the next attempt", () => {
    const task = newTask().hear(placed(), started(), lost(), held());
    expect(task.path).toBe("active.running");
    expect(task.context.attempts).toHaveLength(1);
    expect(task.context.attempts[0]).not.toHaveProperty("givenUp");
    expect(task.context.wakeAtMs).toBe(25 + 1_000 + overtimeMs);
  });

  test("stays with its next attempt when the worker comes back later", () => {
    const task = newTask().hear(placed(), lost(), placed(w2), held(), started(1, w1));
    expect(task.path).toBe("active.placed");
    expect(task.context.attempt).toBe(2);
  });

  test(`TO-6: fails with WORKER_LOST after ${lossesMax + 1} losses`, () => {
    const task = newTask();
    for (let attempt = 1; attempt <= lossesMax; attempt++) {
      expect(task.hear(placed(), lost(attempt)).path).toBe("queued");
    }
    task.hear(placed(), lost(lossesMax + 1));
    expect(task.context.outcome).toMatchObject({ kind: "failed", fault: { code: "WORKER_LOST" } });
    expect(task.context.attempts).toHaveLength(lossesMax + 1);
  });

  test("ignores the loss of an earlier attempt", () => {
    const task = newTask().hear(placed(), lost(), placed(w2), lost(1));
    expect(task.path).toBe("active.placed");
    expect(task.context.losses).toBe(1);
  });
});

describe("a task that is put back", () => {
  test("is queued again with that reason, and its worker is told to drop it", () => {
    const task = newTask().hear(placed(), started(), putBack());
    expect(task.path).toBe("queued");
    expect(typesOf(task.said)).toEqual(["attempt.drop"]);
    expect(task.hear(placed(w2)).context.attempts[1]).toMatchObject({ reason: "drained" });
  });

  test("is not taken back by a report that crossed the drop: the worker is about to kill it", () => {
    const task = newTask().hear(placed(), putBack(), held(), ended({ kind: "killed", reason: "It was put back" }));
    expect(task.path).toBe("queued");
  });

  test("takes a result that was there before the drop", () => {
    expect(newTask().hear(placed(), putBack(), ended(exited(0))).context.outcome).toMatchObject({ exitCode: 0 });
  });
});

describe("a task whose inputs are mounted", () => {
  const tree: Digest = digestOfHash("d".repeat(64), 4);

  test("waits for every output, then for the tree, and is queued with that as its input", () => {
    const task = newTask({ source: mounted(0, 4) });
    expect(task.path).toBe("waiting");
    expect(treesOf(task.context)).toEqual([snapshot]);
    task.hear(inputSettled(4, output));
    expect(task.path).toBe("waiting");
    expect(treesOf(task.context)).toEqual([snapshot, output]);
    task.hear(inputSettled(0, emptyDigest));
    expect(task.path).toBe("mounting");
    expect(treeWantedBy(task.context)).toEqual({
      of: "inputs",
      parts: [
        { path: "", name: "the snapshot", snapshot },
        { path: "m0", name: "task 0", subtree: "x", snapshot: emptyDigest },
        { path: "m4", name: "task 4", subtree: "x", snapshot: output },
      ],
    });
    expect(task.hear(treeMade("output", snapshot)).isUnchanged).toBe(true);
    task.hear(treeMade("inputs", tree, 30));
    expect(task.path).toBe("queued");
    expect(inputRootOf(task.context)).toBe(tree);
    expect(treesOf(task.context)).toEqual([tree]);
    expect(task.context.queuedAtMs).toBe(30);
    expect(task.hear(treeMade("inputs", snapshot)).isUnchanged).toBe(true);
    expect(task.hear(placed()).said[0]).toMatchObject({ type: "attempt.hold", inputRoot: tree });
  });

  test("of snapshots alone wants its tree at once", () => {
    expect(newTask({ source: mounted() }).path).toBe("mounting");
  });

  test("is skipped by the first that fails, and fails when there can be no tree", () => {
    const skipped = newTask({ source: mounted(0, 4) }).hear(inputSettled(0, output), {
      type: "task.inputSettled",
      from: taskId(job, 4),
      failed: "exited with 1",
      atMs: 20,
    });
    expect(skipped.context.outcome).toMatchObject({ kind: "skipped", because: taskId(job, 4) });
    const failed = newTask({ source: mounted(0), dependents: [7] }).hear(inputSettled(0, output), treeFailed("inputs"));
    expect(failed.path).toBe("settled");
    expect(failed.context).toMatchObject({
      outcome: { kind: "failed", fault: { code: "PATH_INVALID" } },
      settledAtMs: 17,
    });
    expect(typesOf(failed.said)).toEqual(["task.inputSettled", "job.taskSettled"]);
    expect(newTask({ source: mounted(0) }).hear(inputSettled(0, output), kill).context.outcome?.kind).toBe("killed");
  });
});

describe("a task whose output is to be full", () => {
  const tree: Digest = digestOfHash("d".repeat(64), 4);
  const made = (): Outcome => ({ ...exited(0), output } as Outcome);

  test("wants what it made laid over its inputs, and gives that to others; its outcome keeps what it made alone", () => {
    const task = newTask({ output: "full", dependents: [3] }).hear(placed(), started(), ended(made()));
    expect(task.path).toBe("overlaying");
    expect(typesOf(task.said)).toEqual(["attempt.acknowledged"]);
    expect(treeWantedBy(task.context)).toEqual({ of: "output", base: snapshot, top: output });
    expect(treesOf(task.context)).toEqual([snapshot, output]);
    expect(typesOf(task.hear(ended(made())).said), "said again").toEqual(["attempt.acknowledged"]);
    expect(task.hear(treeMade("inputs", snapshot)).isUnchanged).toBe(true);
    task.hear(treeMade("output", tree, 50));
    expect(task.path).toBe("settled");
    expect(task.context).toMatchObject({ outcome: { output }, fullOutput: tree, settledAtMs: 50 });
    expect(task.said[0]).toMatchObject({ type: "task.inputSettled", output: tree });
  });

  test("that was not run wants it too", () => {
    const task = newTask({ output: "full" }).hear({
      type: "task.cached",
      outcome: made(),
      cached: { madeAtMs: 1, savedMs: 2 },
      atMs: 20,
    });
    expect(task.path).toBe("overlaying");
    expect(task.said).toEqual([]);
    expect(task.hear(treeMade("output", tree)).context).toMatchObject({ fullOutput: tree, cached: { savedMs: 2 } });
  });

  test("that made nothing gives its inputs, and one that had none what it made; neither wants a tree", () => {
    const nothing = newTask({ output: "full", dependents: [3] }).hear(placed(), ended(exited(0)));
    expect(nothing.said[0]).toMatchObject({ type: "task.inputSettled", output: snapshot });
    const alone = newTask({ output: "full", dependents: [3], source: { kind: "empty" } }).hear(placed(), ended(made()));
    expect(alone.said[0]).toMatchObject({ type: "task.inputSettled", output });
  });

  test("that failed, or whose tree cannot be, has no full output; what it wrote is kept", () => {
    expect(newTask({ output: "full" }).hear(placed(), ended({ ...exited(1), output } as Outcome)).path).toBe("settled");
    const stdout = { digest: output, truncatedBytes: 0 };
    const task = newTask({ output: "full", dependents: [3] }).hear(placed(), ended({ ...made(), stdout } as Outcome));
    task.hear(treeFailed("output"));
    expect(task.context.outcome).toMatchObject({ kind: "failed", fault: { code: "PATH_INVALID" }, stdout, output });
    expect(task.said[0]).toMatchObject({ failed: expect.stringContaining("Cannot put a and b") });
    const killed = newTask({ output: "full" }).hear(placed(), ended(made()), kill);
    expect(killed.context.outcome?.kind).toBe("killed");
  });

  test("is retried, and put back, before that as any other", () => {
    const task = newTask({ output: "full", retries: 1 }).hear(placed(), ended(exited(1)));
    expect(task.path).toBe("queued");
    expect(task.hear(placed(), ended(made(), 2)).path).toBe("overlaying");
  });
});

describe("a kill", () => {
  test("of a waiting or queued task settles it at once", () => {
    for (const source of [{ kind: "task", index: 0 }, { kind: "empty" }] as const) {
      const task = newTask({ source, dependents: [2] }).hear(kill);
      expect(task.context.outcome).toEqual({ kind: "killed", reason: "no longer wanted" });
      expect(typesOf(task.said)).toEqual(["task.inputSettled", "job.taskSettled"]);
    }
  });

  test.each<[string, readonly TaskEvent[]]>([["placed", [placed()]], ["running", [placed(), started()]]])(
    "of a %s task waits until its worker says how it ended",
    (_, events) => {
      const task = newTask().hear(...events, kill);
      expect(task.path).toBe("stopping");
      expect(typesOf(task.said)).toEqual(["attempt.drop"]);
      task.hear(kill);
      expect(task.isUnchanged).toBe(true);
      task.hear(ended({ kind: "killed", reason: "It was killed" }));
      expect(task.context.outcome).toMatchObject({ kind: "killed" });
      expect(typesOf(task.said)).toEqual(["job.taskSettled", "attempt.acknowledged"]);
    },
  );

  test("that comes too late leaves the result as it is", () => {
    expect(newTask().hear(placed(), kill, ended(exited(0))).context.outcome).toMatchObject({ exitCode: 0 });
  });

  test.each<[string, TaskEvent]>([
    ["its worker is lost", lost()],
    ["its worker stops", putBack()],
    ["nothing is heard of it", { type: "clock.reached", atMs: 20 + 1_000 + overtimeMs }],
  ])("of a task is done when %s", (_, event) => {
    const task = newTask({ retries: 3 }).hear(placed(), kill, event);
    expect(task.context.outcome).toEqual({ kind: "killed", reason: "no longer wanted" });
    expect(task.context.attempts[0]!.ended).toEqual(expect.any(String));
    expect(task.context.wakeAtMs).toBeUndefined();
  });
});

describe("an overdue task", () => {
  test("fails, and its worker is told to drop it", () => {
    const task = newTask().hear(placed());
    task.hear({ type: "clock.reached", atMs: task.context.wakeAtMs! - 1 });
    expect(task.path).toBe("active.placed");
    task.hear({ type: "clock.reached", atMs: task.context.wakeAtMs! });
    expect(task.context.outcome).toMatchObject({ kind: "failed", fault: { code: "WORKER_LOST" } });
    expect(typesOf(task.said)).toEqual(["attempt.drop", "job.taskSettled"]);
  });
});

describe("whatever a task hears, in whatever order", () => {
  const worker = fc.constantFrom(w1, w2);
  const attempt = fc.integer({ min: 1, max: 8 });
  const atMs = fc.integer({ min: 0, max: 2_000_000 });
  const outcome = fc.oneof(
    fc.constantFrom(0, 1, 137).map(exited),
    fc.constant<Outcome>({ kind: "timedOut", timeoutMs: 1_000 }),
    fc.constant<Outcome>({ kind: "killed", reason: "x" }),
    fc.constant<Outcome>({ kind: "failed", fault: { code: "CAPTURE_FAILED", message: "x" } }),
  );
  const event: fc.Arbitrary<TaskEvent> = fc.oneof(
    {
      arbitrary: fc.record({ workerId: worker, atMs }).map((e) => ({ type: "task.placed", why: "w", ...e })),
      weight: 4,
    },
    fc.record({ workerId: worker, attempt, startedAtMs: atMs }).map((e) => ({ type: "task.started", ...e })),
    fc.record({ workerId: worker, attempt, outcome, atMs }).map((e) => ({ type: "task.ended", ...e })),
    fc.record({ workerId: worker, attempt, startedAtMs: atMs }).map((e) => ({ type: "task.held", ...e })),
    {
      arbitrary: fc.record({ workerId: worker, attempt, atMs }).map((e) => ({
        type: "task.attemptLost",
        why: "l",
        ...e,
      })),
      weight: 2,
    },
    fc.record({ attempt, atMs }).map((e) => ({ type: "task.putBack", why: "p", ...e })),
    { arbitrary: atMs.map((at) => ({ type: "task.kill", reason: "k", atMs: at })), weight: 1 },
    atMs.map((at) => ({ type: "clock.reached", atMs: at })),
    fc.record({ atMs, isGood: fc.boolean(), from: fc.constantFrom(0, 0, 4) }).map(({ atMs: at, isGood, from }) =>
      isGood
        ? { type: "task.inputSettled", from: taskId(job, from), output, atMs: at }
        : { type: "task.inputSettled", from: taskId(job, from), failed: "exited with 1", atMs: at }
    ),
    fc.record({ atMs, of: fc.constantFrom("inputs", "output"), isGood: fc.constantFrom(true, true, false) }).map(
      ({ atMs: at, of, isGood }) =>
        isGood
          ? { type: "task.treeMade", of, tree: snapshot, atMs: at }
          : { type: "task.treeFailed", of, fault: { code: "PATH_INVALID", message: "x" }, atMs: at },
    ),
    fc.record({ atMs, outcome }).map(({ atMs: at, outcome: known }) => ({
      type: "task.cached",
      outcome: known,
      cached: { madeAtMs: 1, savedMs: 1 },
      atMs: at,
    })),
  ) as fc.Arbitrary<TaskEvent>;
  const anyInput = fc.record({
    retries: fc.integer({ min: 0, max: 3 }),
    dependents: fc.constantFrom([], [2], [2, 3]),
    source: fc.constantFrom<TaskInput["source"]>(
      { kind: "empty" },
      { kind: "snapshot", snapshot },
      {
        kind: "task",
        index: 0,
      },
      mounted(0),
      mounted(0, 4),
    ),
    output: fc.constantFrom("only" as const, "full" as const),
  }).map(({ output, ...rest }): Partial<TaskInput> & { readonly retries: number } => ({
    ...rest,
    ...(output === "full" ? { output } : {}),
  }));

  test("its attempts are consecutive, it settles once and for good, and an attempt without an end is the last or the result's", () => {
    fc.assert(
      fc.property(anyInput, fc.array(event, { maxLength: 60 }), (changes, events) => {
        const task = newTask(changes);
        let settlements = 0;
        let settled: unknown;
        for (const one of events) {
          const before = task.context;
          task.hear(one);
          const { attempts, attempt: current, failures, losses, outcome: result } = task.context;
          expect(attempts.map((each) => each.attempt)).toEqual(attempts.map((_, index) => index + 1));
          expect(current).toBe(attempts.length);
          expect(failures).toBeLessThanOrEqual(changes.retries);
          expect(losses).toBeLessThanOrEqual(lossesMax);
          expect(attempts.filter((each) => each.ended === undefined).length).toBeLessThanOrEqual(1);
          if (attempts.length > before.attempts.length) expect(one.type).toBe("task.placed");
          for (const { reason, attempt: number } of attempts) expect(reason === "first").toBe(number === 1);

          settlements += task.said.filter((message) => message.type === "job.taskSettled").length;
          const isOver = task.path === "settled";
          expect(settlements).toBe(isOver ? 1 : 0);
          expect(result !== undefined).toBe(isOver || task.path === "overlaying");
          expect(treeWantedBy(task.context) !== undefined).toBe(
            task.path === "mounting" || task.path === "overlaying" || (isOver && treeWantedBy(before) !== undefined),
          );
          if (settled !== undefined) expect(task.context).toEqual(settled);
          if (isOver) settled = task.context;

          const isWithWorker = task.path.startsWith("active") || task.path === "stopping";
          expect(task.context.wakeAtMs !== undefined).toBe(isWithWorker);
          if (isWithWorker) expect(attempts.at(-1)!.ended).toBeUndefined();
          if (one.type === "task.ended" && !["waiting", "mounting", "stopping"].includes(task.path)) {
            expect(typesOf(task.said), "every result is acknowledged").toContain("attempt.acknowledged");
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  test("a task that nobody kills settles, when its worker always ends what it holds", () => {
    fc.assert(fc.property(anyInput, fc.array(event, { maxLength: 40 }), outcome, (changes, events, last) => {
      const task = newTask({ ...changes, retries: 2 });
      for (const one of events) task.hear(one);
      for (const index of [0, 4]) {
        if (task.path === "waiting") task.hear(inputSettled(index, output));
      }
      for (let round = 0; round < 12 && task.path !== "settled"; round++) {
        if (task.path === "mounting") task.hear(treeMade("inputs", snapshot));
        if (task.path === "overlaying") task.hear(treeMade("output", snapshot));
        if (task.path === "queued") task.hear(placed(w2));
        if (task.context.attempts.length === 0) continue;
        task.hear(ended(last, task.context.attempt, task.context.attempts.at(-1)!.workerId));
      }
      expect(task.path).toBe("settled");
    }));
  });
});
