import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { digestOfHash } from "../../src/domain/digest.ts";
import { jobId, taskId } from "../../src/domain/ids.ts";
import { type JobContext, type JobEvent, type JobInput, jobMachine, type JobTask } from "../../src/machines/job.ts";
import { type Running, running, typesOf } from "./running.ts";

const id = jobId("j0123456789-000000");
const task = (index: number): JobTask => ({
  name: `task ${index}`,
  command: digestOfHash("c".repeat(64), index),
  source: index === 0 ? { kind: "empty" } : { kind: "task", index: 0 },
  dependents: index === 0 ? [1] : [],
  timeoutMs: 1_000,
  retries: 2,
  platform: { os: "linux" },
  cache: "off",
});
const newJob = (tasks: number, changes: Partial<JobInput> = {}): Running<JobContext, JobEvent> =>
  running(jobMachine, {
    jobId: id,
    key: "k",
    requestor: "ada",
    tag: "nightly",
    priority: 1,
    failFast: false,
    tasks: Array.from({ length: tasks }, (_, index) => task(index)),
    atMs: 10,
    ...changes,
  });
type Result = Extract<JobEvent, { type: "job.taskSettled" }>["result"];
const settled = (index: number, result: Result, atMs = 20): JobEvent => ({
  type: "job.taskSettled",
  taskId: taskId(id, index),
  result,
  atMs,
});
const kill: JobEvent = { type: "job.kill", reason: "no longer wanted", atMs: 15 };

describe("a job", () => {
  test("creates its tasks at birth, in order, with what they share, and does not keep them", () => {
    const job = newJob(2);
    expect(job.path).toBe("running.open");
    expect(typesOf(job.said)).toEqual(["task.create", "task.create"]);
    expect(job.said[1]).toEqual({
      type: "task.create",
      to: `task/${id}/1`,
      input: { taskId: `${id}/1`, ...task(1), requestor: "ada", priority: 1, atMs: 10 },
    });
    expect(job.context).not.toHaveProperty("tasks");
  });

  test("has succeeded when every task exited with 0, and not before", () => {
    const job = newJob(2).hear(settled(1, "succeeded"));
    expect(job.path).toBe("running.open");
    expect(job.context.endedAtMs).toBeUndefined();
    job.hear(settled(0, "succeeded", 30));
    expect(job.path).toBe("succeeded");
    expect(job.context).toMatchObject({ succeeded: 2, endedAtMs: 30 });
  });

  test.each<Result>(["failed", "skipped", "killed"])(
    "has failed when one task is %s, and its siblings go on",
    (result) => {
      const job = newJob(2).hear(settled(0, result));
      expect(job.path).toBe("running.open");
      expect(job.said).toEqual([]);
      expect(job.hear(settled(1, "succeeded")).path).toBe("failed");
    },
  );

  test("that fails fast kills the rest at the first failure, with the reason", () => {
    const job = newJob(3, { failFast: true }).hear(settled(1, "failed"));
    expect(job.path).toBe("running.ending");
    expect(typesOf(job.said)).toEqual(["task.kill", "task.kill", "task.kill"]);
    expect(job.said[0]).toMatchObject({
      to: `task/${id}/0`,
      reason: `Its task ${id}/1 failed, and it asked to fail fast`,
    });
    job.hear(settled(0, "killed"), settled(2, "skipped"));
    expect(job.path).toBe("failed");
  });

  test("that fails fast has nobody to kill when its last task fails", () => {
    const job = newJob(2, { failFast: true }).hear(settled(0, "succeeded"), settled(1, "failed"));
    expect(job.path).toBe("failed");
    expect(job.said).toEqual([]);
  });

  test("tells its tasks of a long reason what fits, as it tells all of them at once", () => {
    const job = newJob(2).hear({ ...kill, reason: "r".repeat(1_000) });
    expect(job.said).toMatchObject([{ reason: "r".repeat(200) }, { reason: "r".repeat(200) }]);
    expect(job.context.endReason).toBe("r".repeat(1_000));
  });

  test("that is killed tells every task once, and is cancelled when all have settled", () => {
    const job = newJob(2).hear(kill);
    expect(typesOf(job.said)).toEqual(["task.kill", "task.kill"]);
    expect(job.path).toBe("running.ending");
    job.hear(kill);
    expect(job.isUnchanged).toBe(true);
    expect(job.said).toEqual([]);
    job.hear(settled(0, "succeeded"), settled(1, "killed"));
    expect(job.path).toBe("cancelled");
    expect(job.context).toMatchObject({ endReason: "no longer wanted", succeeded: 1, killed: 1 });
  });

  test("that is killed too late has succeeded", () => {
    expect(newJob(1).hear(kill, settled(0, "succeeded")).path).toBe("succeeded");
    const over = newJob(1).hear(settled(0, "succeeded"));
    over.hear(kill);
    expect(over.isUnchanged).toBe(true);
  });

  test("adds up whatever its tasks become, ends exactly with the last one, and changes no more", () => {
    const results = fc.array(fc.constantFrom<Result>("succeeded", "failed", "skipped", "killed"), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(fc.property(results, fc.boolean(), fc.option(fc.nat(12)), (list, failFast, killAt) => {
      const job = newJob(list.length, { failFast });
      let kills = 0;
      const hear = (event: JobEvent): void => {
        job.hear(event);
        if (typesOf(job.said).includes("task.kill")) kills++;
      };
      for (const [index, result] of list.entries()) {
        if (killAt === index) hear(kill);
        expect(job.path.startsWith("running")).toBe(true);
        hear(settled(index, result, 20 + index));
        const { succeeded, failed, skipped, killed } = job.context;
        expect(succeeded + failed + skipped + killed).toBe(index + 1);
      }
      expect(kills).toBeLessThanOrEqual(1);
      const { context, path } = job;
      expect(context.endedAtMs).toBe(20 + list.length - 1);
      expect(path).toBe(
        list.every((result) => result === "succeeded") ? "succeeded" : context.cancelled ? "cancelled" : "failed",
      );
      job.hear(settled(0, "failed"), kill);
      expect(job.context).toEqual(context);
    }));
  });
});
