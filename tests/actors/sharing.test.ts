import { describe, expect, test } from "vitest";
import { createSharing, type Sharing } from "../../src/actors/sharing.ts";
import { type Found, noResults, type TaskResults } from "../../src/actors/task_results.ts";
import { type Digest, digestOfHash } from "../../src/domain/digest.ts";
import { jobId, type TaskId, taskId, workerId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import type { TaskContext } from "../../src/machines/task.ts";

const job = jobId("j0123456789-000000");
const [a, b, c] = [0, 1, 2].map((index) => taskId(job, index)) as [TaskId, TaskId, TaskId];
const command = (letter: string): Digest => digestOfHash(letter.repeat(64), 9);
const exited = (exitCode: number): Outcome => ({ kind: "exited", exitCode, startedAtMs: 10, endedAtMs: 40 });

const task = (id: TaskId, changes: Partial<TaskContext> = {}): TaskContext => ({
  taskId: id,
  name: "build",
  requestor: "ada",
  priority: 0,
  command: command("c"),
  source: { kind: "empty" },
  dependents: [],
  timeoutMs: 1_000,
  retries: 0,
  platform: {},
  cache: "use",
  queuedAtMs: 5,
  attempt: 0,
  nextReason: "first",
  attempts: [],
  failures: 0,
  losses: 0,
  ...changes,
});

function world(results: Partial<TaskResults> = {}) {
  const tasks = new Map<TaskId, TaskContext>();
  const queued: TaskId[] = [];
  const withWorkers = new Set<TaskId>();
  const throttled = new Set<string>();
  /** Requestors of one class that has slots to claim, and of another that has its share. */
  const before = new Map<string, string>();
  const answered = new Map<TaskId, Found>();
  const work: (() => void)[] = [];
  const kept: TaskId[] = [];
  const followed: (readonly [TaskId, TaskId])[] = [];
  const sharing: Sharing = createSharing({
    results: {
      ...noResults,
      keep: ({ taskId }) => {
        kept.push(taskId);
        return Promise.resolve();
      },
      ...results,
    },
    taskOf: (id) => tasks.get(id),
    isQueued: (id) => !withWorkers.has(id),
    isThrottled: (requestor) => throttled.has(requestor),
    goesBefore: (one, other) => !throttled.has(one) && (throttled.has(other) || before.get(one) === other),
    queue: (id) => void queued.push(id),
    dequeue: (id) => void queued.splice(queued.indexOf(id), 1),
    follows: (id, leader) => void followed.push([id, leader]),
    settle: (id, outcome, cached) => {
      answered.set(id, { outcome, cached });
      tasks.delete(id);
    },
    enqueue: (one) => void work.push(one),
  });
  return {
    sharing,
    queued,
    throttled,
    before,
    answered,
    place(id: TaskId) {
      if (queued.includes(id)) queued.splice(queued.indexOf(id), 1);
      withWorkers.add(id);
      const { unmet: _unmet, ...rest } = tasks.get(id)!;
      tasks.set(id, rest);
    },
    kept,
    followed,
    arrive(id: TaskId, changes: Partial<TaskContext> = {}) {
      tasks.set(id, task(id, changes));
      sharing.arrived(id);
    },
    told(id: TaskId, unmet: NonNullable<TaskContext["unmet"]>) {
      tasks.set(id, { ...tasks.get(id)!, unmet });
    },
    end(id: TaskId, outcome: Outcome) {
      const before = tasks.get(id)!;
      tasks.delete(id);
      const attempts = [{ attempt: 1, reason: "first", workerId: workerId("w1"), placedAtMs: 6, why: "" }] as const;
      sharing.settled({ ...before, attempt: 1, attempts, outcome, settledAtMs: 50 });
    },
    async quiet() {
      await new Promise((resolve) => setImmediate(resolve));
      for (const one of work.splice(0)) one();
    },
  };
}

describe("tasks of one action in flight", () => {
  test("one is queued; the others have its result, whatever the exit code", () => {
    for (const exitCode of [0, 3]) {
      const { arrive, end, queued, answered, followed, sharing } = world();
      arrive(a);
      arrive(b);
      arrive(c);
      expect(queued).toEqual([a]);
      expect(sharing.followed(b)).toBe(a);
      expect([followed, [...sharing.followersOf(a)]]).toEqual([[[b, a], [c, a]], [b, c]]);
      end(a, exited(exitCode));
      expect([...answered.keys()]).toEqual([b, c]);
      expect(answered.get(b)).toEqual({
        outcome: exited(exitCode),
        cached: { taskId: a, workerId: "w1", madeAtMs: 50, savedMs: 30 },
      });
      expect(sharing.followed(b)).toBeUndefined();
    }
  });

  test("are told what came of it some at once, and of very many each in a step of its own", async () => {
    const { arrive, end, answered, quiet, queued } = world();
    const all = Array.from({ length: 1_000 }, (_, index) => taskId(job, index));
    for (const id of all) arrive(id);
    end(all[0]!, exited(0));
    expect(answered.size).toBe(250);
    end(all[999]!, { kind: "killed", reason: "asked" });
    await quiet();
    expect([answered.size, queued]).toEqual([998, [all[0]]]);
  });

  test("are not those that differ in command, time limit, platform, or that share nothing", () => {
    const { arrive, queued } = world();
    arrive(a);
    arrive(b, { command: command("d") });
    arrive(c, { timeoutMs: 2_000 });
    arrive(taskId(job, 3), { platform: { os: "linux" } });
    arrive(taskId(job, 4), { source: { kind: "snapshot", snapshot: command("e") } });
    expect(queued).toHaveLength(5);
  });

  test("the next of them runs when the first was killed, timed out, or could not be run", () => {
    const ends: Outcome[] = [{ kind: "killed", reason: "asked" }, { kind: "timedOut", timeoutMs: 1 }];
    for (const outcome of ends) {
      const { arrive, end, queued, answered, sharing } = world();
      arrive(a);
      arrive(b);
      arrive(c);
      end(a, outcome);
      expect(queued).toEqual([a, b]);
      expect(sharing.followed(c)).toBe(b);
      expect(answered.size).toBe(0);
    }
  });

  test("one that may retry more often runs by itself when the other failed", () => {
    const { arrive, end, queued, answered } = world();
    arrive(a);
    arrive(b, { retries: 1 });
    end(a, exited(1));
    expect(queued).toEqual([a, b]);
    expect(answered.size).toBe(0);
  });

  test("a more urgent one is queued instead of one that waits; what is with a worker goes on", () => {
    const { arrive, end, queued, answered, followed, sharing } = world();
    arrive(a);
    arrive(b);
    arrive(c, { priority: 2 });
    expect(queued).toEqual([c]);
    expect([sharing.followed(a), sharing.followed(b), sharing.followed(c)]).toEqual([c, c, undefined]);
    expect(followed).toContainEqual([a, c]);
    end(c, exited(0));
    expect([...answered.keys()].sort()).toEqual([a, b]);

    const running = world();
    running.arrive(a);
    running.place(a);
    running.arrive(b, { priority: 2 });
    expect(running.sharing.followed(b)).toBe(a);
  });

  test("nobody waits for a requestor that runs as many as it may, and none such overtakes", () => {
    const { arrive, end, queued, answered, throttled, sharing } = world();
    throttled.add("bots");
    arrive(a, { requestor: "bots" });
    arrive(b);
    expect([queued, sharing.followed(a)]).toEqual([[b], b]);
    arrive(c, { requestor: "bots", priority: 2 });
    expect([queued, sharing.followed(c)]).toEqual([[b], b]);
    end(b, exited(0));
    expect([...answered.keys()].sort()).toEqual([a, c]);
  });

  test("what waits as its requestor has come to run as many as it may gives way to what another asks for", () => {
    const { arrive, end, place, queued, answered, throttled, sharing } = world();
    const others = Array.from({ length: 2_000 }, (_, index) => taskId(job, 10 + index));
    for (const [at, id] of others.entries()) arrive(id, { command: command("d"), requestor: at === 0 ? "eve" : "ada" });
    for (const id of [a, b]) arrive(id, { requestor: "bots" });
    arrive(c);
    throttled.add("bots");
    for (let call = 0; call < 5; call++) sharing.passHeld();
    expect([queued, sharing.followed(a), sharing.followed(b)]).toEqual([[others[0], c], c, c]);
    end(c, exited(0));
    expect([...answered.keys()].sort()).toEqual([a, b]);

    throttled.add("eve");
    place(others[0]!);
    for (let call = 0; call < 5; call++) sharing.passHeld();
    expect(sharing.followed(others[9]!), "what runs goes on").toBe(others[0]);
  });

  test("nobody waits for a class that has its share while another has slots to claim", () => {
    const { arrive, before, queued, sharing } = world();
    arrive(a, { requestor: "ci" });
    arrive(b);
    expect(queued).toEqual([a]);
    before.set("ada", "ci");
    sharing.passHeld();
    sharing.passHeld();
    expect([queued, sharing.followed(a)]).toEqual([[b], b]);
    arrive(c, { requestor: "ci", priority: 2 });
    expect([queued, sharing.followed(c)], "more urgent, and would wait longer").toEqual([[b], b]);
    before.set("ci", "ada").delete("ada");
    sharing.passHeld();
    expect(queued, "the first of those that need not wait").toEqual([a]);
  });

  test("one of very many that need not wait for it is found, some looks at a time", () => {
    const { arrive, before, queued, sharing } = world();
    for (let index = 0; index < 3_000; index++) arrive(taskId(job, index), { requestor: "ci" });
    const last = taskId(job, 3_000);
    arrive(last, { requestor: "eve" });
    before.set("eve", "ci");
    sharing.passHeld();
    expect(queued).toEqual([taskId(job, 0)]);
    for (let call = 0; call < 3; call++) sharing.passHeld();
    expect(queued).toEqual([last]);
  });

  test("one that was overtaken is queued again when the more urgent one is killed", () => {
    const { arrive, end, queued } = world();
    arrive(a);
    arrive(b, { priority: 1 });
    expect(queued).toEqual([b]);
    end(b, { kind: "killed", reason: "asked" });
    expect(queued).toEqual([b, a]);
  });

  test("one that leaves while it follows gets nothing, and a later twin does not follow who has gone", () => {
    const { arrive, end, queued, answered } = world();
    arrive(a);
    arrive(b);
    end(b, { kind: "killed", reason: "asked" });
    end(a, exited(0));
    arrive(c);
    expect(answered.size).toBe(0);
    expect(queued).toEqual([a, c]);
  });
});

describe("a task that no worker could run", () => {
  const needs = { memoryBytes: 100 };
  const unmet = { lacks: ["memoryBytes=100"], toldAtMs: 9 };

  test("gives way to one that needs something else, and has its result, as have all that wait", () => {
    const { arrive, told, end, queued, answered, sharing } = world();
    arrive(a, { needs });
    arrive(b, { needs });
    arrive(c);
    told(a, unmet);
    expect(sharing.giveWay(a)).toBe(true);
    expect(queued).toEqual([a, c]);
    expect([a, b, c].map((id) => sharing.followed(id))).toEqual([c, c, undefined]);
    end(c, exited(0));
    expect([...answered.keys()].sort()).toEqual([a, b]);
    expect([a, b].map((id) => sharing.followed(id))).toEqual([undefined, undefined]);
  });

  test("goes on leading those that need the same, and not one that comes later and needs something else", () => {
    const { arrive, told, end, queued, answered, sharing } = world();
    arrive(a, { needs });
    arrive(b, { needs });
    told(a, unmet);
    told(b, unmet);
    expect(sharing.giveWay(a)).toBe(false);
    expect(sharing.followed(b)).toBe(a);
    arrive(c, { needs: { memoryBytes: 5 } });
    expect(queued).toEqual([a, c]);
    expect([a, b].map((id) => sharing.followed(id))).toEqual([c, c]);
    end(c, { kind: "killed", reason: "unwanted" });
    expect(answered.size).toBe(0);
    expect(sharing.followed(a) ?? sharing.followed(b), "one of them leads again").toBeDefined();
  });

  test("may run all the same: the other has its result if it waits, as have those that follow it, and else goes on", () => {
    for (const isRunning of [false, true]) {
      const { arrive, told, place, end, answered, sharing } = world();
      arrive(a, { needs });
      arrive(c);
      arrive(b);
      told(a, unmet);
      sharing.giveWay(a);
      place(a);
      if (isRunning) place(c);
      end(a, exited(0));
      expect([...answered.keys()]).toEqual(isRunning ? [] : [c]);
      if (isRunning) continue;
      const { outcome, cached } = answered.get(c)!;
      expect(cached.taskId).toBe(a);
      sharing.settled({ ...task(c), outcome, cached, settledAtMs: 60 });
      expect(answered.get(b), "the run is the one that was made").toEqual({ outcome, cached });
    }
  });

  test("runs beside the other, is not queued when that one fails, and leads from then on", () => {
    const { arrive, told, place, end, answered, queued, sharing } = world();
    arrive(a, { needs, retries: 1 });
    arrive(c);
    told(a, unmet);
    sharing.giveWay(a);
    place(a);
    place(c);
    end(c, exited(1));
    expect([queued, answered.size]).toEqual([[], 0]);
    arrive(b);
    expect(sharing.followed(b)).toBe(a);
  });
});

describe("known results", () => {
  const known: Found = { outcome: exited(0), cached: { madeAtMs: 1, savedMs: 7 } };

  test("answer a task before it is queued", async () => {
    const { arrive, queued, answered, quiet } = world({ find: () => Promise.resolve(known) });
    arrive(a);
    await quiet();
    expect(queued).toEqual([]);
    expect(answered.get(a)).toEqual(known);
  });

  test("that are no longer whole let it run, once for all that ask", async () => {
    const { arrive, queued, quiet } = world({ find: () => Promise.resolve(undefined) });
    arrive(a);
    arrive(b);
    await quiet();
    expect(queued).toEqual([a]);
  });

  test("are looked for before a task is placed that a restart had queued", async () => {
    const results: { found?: Promise<Found> } = {};
    const { arrive, queued, answered, quiet, sharing } = world({ find: () => results.found });
    arrive(a);
    expect(sharing.mayPlace(a)).toBe(true);
    results.found = Promise.resolve(known);
    expect(sharing.mayPlace(a)).toBe(false);
    expect(queued).toEqual([]);
    await quiet();
    expect(answered.get(a)).toEqual(known);
  });

  test("that turn out not to be whole queue nothing that its worker has come back with meanwhile", async () => {
    const results: { found?: Promise<undefined> } = {};
    const { arrive, place, queued, quiet, sharing } = world({ find: () => results.found });
    arrive(a);
    results.found = Promise.resolve(undefined);
    expect(sharing.mayPlace(a)).toBe(false);
    place(a);
    await quiet();
    expect(queued).toEqual([]);
    expect(sharing.followed(a)).toBeUndefined();
  });

  test("are kept of what ran, and not of what was shared or asked to be off", () => {
    const { arrive, end, kept } = world();
    arrive(a);
    end(a, exited(0));
    arrive(b, { cache: "off" });
    end(b, exited(0));
    arrive(c, { cached: known.cached });
    end(c, exited(0));
    expect(kept).toEqual([a]);
  });
});
