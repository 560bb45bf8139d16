import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  acceptedAtMs,
  attemptAddress,
  indexOfTask,
  jobAddress,
  jobOfTask,
  kindOf,
  nameOf,
  newJobId,
  schedulerAddress,
  taskAddress,
  taskId,
} from "../../src/domain/ids.ts";
import { jobId as jobIdSchema, parse, taskId as taskIdSchema } from "../../src/protocol/schema.ts";

const atMs = fc.integer({ min: 0, max: 2 ** 50 - 1 });
const chance = fc.integer({ min: 0, max: 2 ** 30 - 1 });

describe("a job id", () => {
  test("is what the wire takes for one, and so are its tasks'", () => {
    fc.assert(fc.property(atMs, chance, fc.nat(99_999), (at, bits, index) => {
      const job = newJobId(at, bits);
      expect(() => parse(jobIdSchema, "an id", job)).not.toThrow();
      expect(() => parse(taskIdSchema, "an id", taskId(job, index))).not.toThrow();
    }));
  });

  test("tells when it was accepted", () => {
    fc.assert(fc.property(atMs, chance, (at, bits) => acceptedAtMs(newJobId(at, bits)) === at));
  });

  test("sorts by time", () => {
    fc.assert(fc.property(atMs, atMs, chance, chance, (a, b, bitsA, bitsB) => {
      if (a !== b) expect(newJobId(a, bitsA) < newJobId(b, bitsB)).toBe(a < b);
    }));
  });

  test("of one moment differs by chance", () => {
    expect(newJobId(1, 0)).not.toBe(newJobId(1, 1));
  });
});

describe("an address", () => {
  test("gives back what it was made of", () => {
    const job = newJobId(1_700_000_000_000, 7);
    const task = taskId(job, 12);
    expect([jobOfTask(task), indexOfTask(task)]).toEqual([job, 12]);
    expect([kindOf(taskAddress(task)), nameOf(taskAddress(task))]).toEqual(["task", task]);
    expect([kindOf(jobAddress(job)), nameOf(jobAddress(job))]).toEqual(["job", job]);
    expect(kindOf(attemptAddress(task, 1))).toBe("attempt");
    expect(kindOf(schedulerAddress)).toBe("scheduler");
  });
});
