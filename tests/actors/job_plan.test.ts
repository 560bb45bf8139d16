import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planJob } from "../../src/actors/job_plan.ts";
import { digestOfHash } from "../../src/domain/digest.ts";
import { isFault } from "../../src/domain/fault.ts";
import type { EncodedJob } from "../../src/protocol/client_messages.ts";

type Task = EncodedJob["tasks"][number];
const task = (name: string, input: Task["input"] = { kind: "empty" }): Task => ({
  name,
  input,
  command: digestOfHash("c".repeat(64), 1),
  timeoutMs: 1_000,
  retries: 2,
  platform: { os: "linux" },
  cache: "off",
});
const after = (name: string): Task["input"] => ({ kind: "task", task: name });
const job = (...tasks: Task[]): EncodedJob => ({
  key: "k",
  requestor: "ada",
  basis: "",
  tag: "t",
  priority: 2,
  failFast: true,
  tasks,
});

function refusal(...tasks: Task[]): string {
  try {
    planJob(job(...tasks));
  } catch (thrown) {
    if (isFault(thrown, "JOB_INVALID")) return thrown.message;
    throw thrown;
  }
  return "accepted";
}

describe("planJob()", () => {
  test("makes places of names, in any order, and tells each task who waits for it", () => {
    const plan = planJob(job(task("test", after("build")), task("build"), task("pack", after("build"))));
    expect(plan.tasks.map(({ source, dependents }) => [source, dependents])).toEqual([
      [{ kind: "task", index: 1 }, []],
      [{ kind: "empty" }, [0, 2]],
      [{ kind: "task", index: 1 }, []],
    ]);
  });

  test("keeps all else as it was asked for", () => {
    const snapshot = { kind: "snapshot", snapshot: digestOfHash("a".repeat(64), 3) } as const;
    const plan = planJob(job(task("build", snapshot)));
    expect(plan).toMatchObject({ key: "k", requestor: "ada", tag: "t", priority: 2, failFast: true });
    expect(plan.tasks[0]).toMatchObject({
      name: "build",
      source: snapshot,
      timeoutMs: 1_000,
      retries: 2,
      platform: { os: "linux" },
      cache: "off",
    });
  });

  test("refuses two tasks of one name, an input that is no task of the job, and a task that waits for itself", () => {
    expect(refusal(task("a"), task("a"))).toContain('two of its tasks are called "a"');
    expect(refusal(task("a", after("b")))).toContain('"b", which is no task of the job');
    expect(refusal(task("a", after("a")))).toContain("a → a");
  });

  test("makes places of the names of all that is mounted, and tells each of those once who waits for it", () => {
    const name = "x";
    const parts = [
      { path: "", name, snapshot: digestOfHash("a".repeat(64), 3) },
      { path: "a", name, task: "a" },
      { path: "b", name, task: "b", subtree: "s" },
      { path: "c", name, task: "a" },
    ];
    const plan = planJob(job(task("t", { kind: "mounted", parts }), task("a"), task("b", after("a"))));
    expect(plan.tasks.map(({ source, dependents }) => [source, dependents])).toEqual([
      [{
        kind: "mounted",
        parts: [
          parts[0],
          { path: "a", name, index: 1 },
          { path: "b", name, index: 2, subtree: "s" },
          { path: "c", name, index: 1 },
        ],
      }, []],
      [{ kind: "empty" }, [0, 2]],
      [{ kind: "task", index: 1 }, [0]],
    ]);
  });

  test("names the cycle, from wherever it is entered", () => {
    expect(refusal(task("x", after("a")), task("a", after("c")), task("b", after("a")), task("c", after("b"))))
      .toContain("a → c → b → a");
  });

  test("plans 100,000 tasks in a chain, of names that mean something else to JavaScript", () => {
    const names = [
      "__proto__",
      "constructor",
      "toString",
      ...Array.from({ length: 99_997 }, (_, index) => `t${index}`),
    ];
    const plan = planJob(
      job(...names.map((name, index) => index === 0 ? task(name) : task(name, after(names[index - 1]!)))),
    );
    expect(plan.tasks.at(-1)!.source).toEqual({ kind: "task", index: 99_998 });
    expect(plan.tasks[0]!.dependents).toEqual([1]);
  });

  test("accepts exactly the graphs without a cycle, of tasks that need several", () => {
    const needs = fc.array(fc.uniqueArray(fc.nat(6), { maxLength: 3 }), { minLength: 1, maxLength: 7 });
    fc.assert(fc.property(needs, (list) => {
      const wanted = list.map((of) => [...new Set(of.map((at) => at % list.length))]);
      const tasks = wanted.map((of, index) =>
        task(`t${index}`, {
          kind: "mounted",
          parts: [
            { path: "", name: "", snapshot: digestOfHash("a".repeat(64), 3) },
            ...of.map((at) => ({
              path: `${at}`,
              name: "",
              task: `t${at}`,
            })),
          ],
        })
      );
      // What needs nothing that is left goes, until nothing does.
      let left = wanted.map((_, index) => index);
      for (let before = -1; before !== left.length;) {
        before = left.length;
        left = left.filter((index) => wanted[index]!.some((at) => left.includes(at)));
      }
      const told = refusal(...tasks);
      expect(told === "accepted").toBe(left.length === 0);
      if (left.length > 0) {
        const cycle = /each other: (.*)$/.exec(told)![1]!.split(" → ").map((name) => Number(name.slice(1)));
        expect(cycle.at(-1)).toBe(cycle[0]);
        cycle.slice(1).forEach((to, at) => expect(wanted[cycle[at]!]).toContain(to));
      }
    }));
  });

  test("accepts exactly the graphs without a cycle, and its dependents are the inverse of its sources", () => {
    const inputs = fc.array(fc.option(fc.nat(9), { nil: undefined }), { minLength: 1, maxLength: 10 });
    fc.assert(fc.property(inputs, (list) => {
      const tasks = list.map((of, index) =>
        task(`t${index}`, of === undefined ? { kind: "empty" } : after(`t${of % list.length}`))
      );
      const isAcyclic = list.every((_, start) => {
        let at: number | undefined = start;
        for (let steps = 0; at !== undefined && steps <= list.length; steps++) {
          const of: number | undefined = list[at];
          at = of === undefined ? undefined : of % list.length;
        }
        return at === undefined;
      });
      expect(refusal(...tasks) === "accepted").toBe(isAcyclic);
      if (!isAcyclic) return;
      const plan = planJob(job(...tasks));
      for (const [index, { source }] of plan.tasks.entries()) {
        for (const [other, { dependents }] of plan.tasks.entries()) {
          expect(dependents.includes(index)).toBe(source.kind === "task" && source.index === other);
        }
      }
    }));
  });
});
