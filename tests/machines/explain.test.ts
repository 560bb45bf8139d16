import type { TaskId } from "../../src/domain/ids.ts";
import type { Outlook } from "../../src/scheduling/plan.ts";
import { describe, expect, test } from "vitest";
import { digestOfHash, emptyDigest } from "../../src/domain/digest.ts";
import { jobId, taskId, workerId } from "../../src/domain/ids.ts";
import {
  explainJob,
  explainTask,
  jobState,
  jobView,
  taskState,
  taskView,
  workerView,
} from "../../src/machines/explain.ts";
import { type JobContext, type JobEvent, jobMachine } from "../../src/machines/job.ts";
import { type TaskContext, type TaskEvent, taskMachine } from "../../src/machines/task.ts";
import { workerMachine } from "../../src/machines/worker.ts";
import {
  jobView as jobSchema,
  taskView as taskSchema,
  workerView as workerSchema,
} from "../../src/protocol/client_messages.ts";
import { parse } from "../../src/protocol/schema.ts";
import { running } from "./running.ts";

const job = jobId("j0123456789-000000");
const command = digestOfHash("c".repeat(64), 9);
const newTask = (source: unknown = { kind: "empty" }) =>
  running<TaskContext, TaskEvent>(taskMachine, {
    taskId: taskId(job, 1),
    name: "build",
    requestor: "ada",
    priority: 0,
    command,
    source,
    dependents: [],
    timeoutMs: 1_000,
    retries: 1,
    platform: { gpu: "a100" },
    atMs: 10,
  });
const w1 = workerId("w1");
const placed: TaskEvent = { type: "task.placed", workerId: w1, why: "w1 is the only worker", atMs: 20 };
const started: TaskEvent = { type: "task.started", workerId: w1, attempt: 1, startedAtMs: 25 };
const exited: TaskEvent = {
  type: "task.ended",
  workerId: w1,
  attempt: 1,
  outcome: { kind: "exited", exitCode: 1, startedAtMs: 25, endedAtMs: 1_525 },
  atMs: 1_600,
};

const mountedOf = (...indexes: number[]) => ({
  kind: "mounted",
  parts: [{ path: "", name: "s", snapshot: emptyDigest }, ...indexes.map((index) => ({ path: "m", name: "t", index }))],
});
const settledInput = (index: number): TaskEvent => ({
  type: "task.inputSettled",
  from: taskId(job, index),
  output: emptyDigest,
  atMs: 15,
});

describe("a task's state as a sentence", () => {
  test.each<[string, unknown, readonly TaskEvent[], string]>([
    ["waiting", { kind: "task", index: 0 }, [], "Waits for task 0 of its job, whose output is its input."],
    [
      "waiting",
      mountedOf(2, 5, 5, 7),
      [settledInput(5)],
      "Waits for 2 tasks of its job, whose outputs are among its inputs: 2, 7.",
    ],
    [
      "waiting",
      mountedOf(2, 5),
      [settledInput(5)],
      "Waits for task 2 of its job, whose output is among its inputs.",
    ],
    [
      "waiting",
      mountedOf(...Array.from({ length: 12 }, (_, at) => at + 2)),
      [],
      "Waits for 12 tasks of its job, whose outputs are among its inputs: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ….",
    ],
    [
      "waiting",
      mountedOf(2),
      [settledInput(2)],
      "What its inputs are made of is there; they are being put together.",
    ],
    ["queued", { kind: "empty" }, [], "Queued."],
    ["placed", { kind: "empty" }, [placed], "Given to w1 as attempt 1: w1 is the only worker. It has not started."],
    ["running", { kind: "empty" }, [placed, started], "Runs on w1 as attempt 1: w1 is the only worker."],
    [
      "stopping",
      { kind: "empty" },
      [placed, started, { type: "task.kill", reason: "unwanted", atMs: 30 }],
      "Is being killed on w1: unwanted.",
    ],
    ["queued", { kind: "empty" }, [placed, exited], "Queued. Attempt 1 on w1 ended: It exited with 1."],
    [
      "settled",
      { kind: "empty" },
      [placed, exited, { ...placed, atMs: 2_000 }, { ...exited, attempt: 2 } as TaskEvent],
      "It exited with 1 after 1.50 s. Attempt 1 on w1 had ended: It exited with 1.",
    ],
  ])("%s", (state, source, events, sentence) => {
    const task = newTask(source).hear(...events);
    expect(taskState(task.state)).toBe(state);
    expect(explainTask(task.state)).toBe(sentence);
    expect(() => parse(taskSchema, "a task's view", taskView(task.state))).not.toThrow();
  });

  test("with what tasks like it took, beside what it used", () => {
    const estimate = { durationMs: 1_400, peakMemoryBytes: 200_000_000 };
    const task = newTask().hear({ ...placed, estimate }, started);
    expect(explainTask(task.state)).toBe(
      "Runs on w1 as attempt 1: w1 is the only worker. Tasks like it took 1.40 s and 200 MB.",
    );
    const usage = { peakMemoryBytes: 210_000_000, cpuMs: 2_500 };
    const ended: TaskEvent = {
      type: "task.ended",
      workerId: w1,
      attempt: 1,
      outcome: { kind: "exited", exitCode: 0, startedAtMs: 25, endedAtMs: 1_525, usage },
      atMs: 1_600,
    };
    task.hear(ended);
    expect(explainTask(task.state)).toBe(
      "It exited with 0 after 1.50 s. It held 210 MB and took 2.50 s of processor time; " +
        "tasks like it had taken 1.40 s and 200 MB.",
    );
    const view = parse(taskSchema, "a task's view", taskView(task.state));
    expect(view).toMatchObject({ estimate, outcome: { usage } });
    expect(explainTask(newTask().hear({ ...placed, estimate: { durationMs: 5 } }, started).state)).toContain(
      "Tasks like it took 0.01 s.",
    );
    expect(explainTask(newTask().hear(placed, started, ended).state)).toBe(
      "It exited with 0 after 1.50 s. It held 210 MB and took 2.50 s of processor time.",
    );
  });

  test("queued, with what the queue knows", () => {
    const { state } = newTask();
    const outlook: Outlook = {
      class: "ci",
      target: 5,
      used: 3,
      waitingInClass: 9,
      ahead: 0,
      aheadOf: [],
      waitsFor: "slot",
    };
    const said = (changes: Partial<Outlook>) => explainTask(state, { ...outlook, ...changes });
    expect(said({ unmet: { lacks: ["gpu=a100"] } })).toBe(
      "Queued: no worker that takes tasks has gpu=a100.",
    );
    const nearest = { workerId: workerId("w2"), has: ["gpu=b", "memoryBytes=5"] };
    expect(said({ unmet: { lacks: [], nearest } })).toBe(
      "Queued: no worker that takes tasks could run it; w2 comes nearest, with gpu=b, memoryBytes=5.",
    );
    const aside = [{ workerId: workerId("w1"), why: "Its disk is full" }, {
      workerId: workerId("w3"),
      why: "it fails",
    }];
    expect(said({ unmet: { lacks: [] }, aside })).toBe(
      "Queued: no worker that takes tasks could run it; w1 takes none: its disk is full; w3 takes none: it fails.",
    );
    expect(said({ waitsFor: "throttle", runningMax: 2 })).toContain(
      "Queued: waits as ada may run 2 at once; 0 go ahead",
    );
    expect(said({})).toBe(
      "Queued: every slot that it could use is busy; 0 go ahead of it. Its class ci has 3 of the 5 slots that are its share.",
    );
    const aheadOf = [{ requestor: "bob", tasks: 5, running: 1 }, { requestor: "", tasks: 2, running: 0 }];
    expect(said({ ahead: 7, aheadOf, waitsFor: "share" })).toContain(
      "coming to other classes; 7 go ahead of it (bob: 5, nobody by name: 2). Its class",
    );
    const told = newTask().hear({
      type: "task.unplaceable",
      unmet: { lacks: ["gpu=a100"], nearest, toldAtMs: 30 },
      why: "no worker that takes tasks has gpu=a100",
      fails: false,
    }).state;
    expect(explainTask(told)).toBe(
      "Queued: no worker that takes tasks has gpu=a100; w2 comes nearest, with gpu=b, memoryBytes=5.",
    );
    expect(parse(taskSchema, "a task", taskView(told)).unmet).toEqual({ lacks: ["gpu=a100"], nearest, toldAtMs: 30 });
    expect(taskView(told, { ...outlook, unmet: { lacks: ["os=x"] } }).unmet, "what is lacking now")
      .toEqual(
        { lacks: ["os=x"], toldAtMs: 30 },
      );
    expect(taskView(told, outlook), "one that could run it is there, and busy").not.toHaveProperty("unmet");
    expect(explainTask(state, outlook, "j0123456789-000000/3" as TaskId)).toContain(
      "task j0123456789-000000/3 runs the same",
    );
  });
});

describe("a job's state as a sentence", () => {
  const newJob = (failFast = false) =>
    running<JobContext, JobEvent>(jobMachine, {
      jobId: job,
      key: "k",
      requestor: "ada",
      tag: "",
      priority: 0,
      failFast,
      tasks: [1, 2].map((n) => ({
        name: `t${n}`,
        command,
        source: { kind: "empty" },
        dependents: [],
        timeoutMs: 1,
        retries: 0,
        platform: {},
      })),
      atMs: 10,
    });
  const settled = (index: number, result: "succeeded" | "failed" | "killed"): JobEvent => ({
    type: "job.taskSettled",
    taskId: taskId(job, index),
    result,
    atMs: 20,
  });
  const kill: JobEvent = { type: "job.kill", reason: "unwanted", atMs: 15 };

  test.each<[string, readonly JobEvent[], string]>([
    ["running", [settled(0, "succeeded")], "1 of 2 tasks settled (1 exited with 0)."],
    ["running", [kill], "Ending: unwanted. 0 of 2 tasks settled."],
    ["succeeded", [settled(0, "succeeded"), settled(1, "succeeded")], "All 2 tasks exited with 0."],
    ["failed", [settled(0, "succeeded"), settled(1, "failed")], "2 of 2 tasks settled (1 exited with 0, 1 failed)."],
    [
      "cancelled",
      [kill, settled(0, "killed"), settled(1, "killed")],
      "Killed: unwanted. 2 of 2 tasks settled (2 killed).",
    ],
  ])("%s", (state, events, sentence) => {
    const actor = newJob().hear(...events);
    expect(jobState(actor.state)).toBe(state);
    expect(explainJob(actor.state)).toBe(sentence);
    expect(() => parse(jobSchema, "a job's view", jobView(actor.state))).not.toThrow();
  });
});

test("a worker's view passes the schema of the wire", () => {
  const worker = { workerId: w1, incarnation: "1", slots: 2, platform: { os: "linux" }, isolation: "none" };
  const { state } = running(workerMachine, { worker, lostAfterMs: 1_000, atMs: 10 });
  const view = workerView(state, 1);
  expect(view).toMatchObject({ state: "present", busy: 1, slots: 2 });
  expect(() => parse(workerSchema, "a worker's view", view)).not.toThrow();
  const room = { cpuMillis: 1_000, memoryBytes: 5 };
  const counting = running(workerMachine, { worker: { ...worker, ...room }, lostAfterMs: 1_000, atMs: 10 });
  expect(parse(workerSchema, "a worker's view", workerView(counting.state, 1))).toMatchObject(room);
});

test("a task's view says what its job asked for, so that it can be run again", () => {
  const asked = {
    needs: { cpuMillis: 500, memoryBytes: 5, counters: { licence: 1 } },
    caches: [{ path: "target", name: "cargo" }],
    output: "full" as const,
  };
  const { state } = newTask();
  const view = taskView({ ...state, context: { ...state.context as TaskContext, ...asked } });
  expect(parse(taskSchema, "a task's view", view)).toMatchObject(asked);
  for (const name of Object.keys(asked)) expect(taskView(state)).not.toHaveProperty(name);
});

test("a task's view names the empty snapshot as its input when it has no files", () => {
  expect(taskView(newTask().state).inputRoot).toBe(emptyDigest);
});
