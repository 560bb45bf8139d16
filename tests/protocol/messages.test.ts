import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { digestOfHash } from "../../src/domain/digest.ts";
import { Fault } from "../../src/domain/fault.ts";
import {
  parseAnswer,
  parseFromClient,
  parseFromGateway,
  parseJobSpec,
  parseToPassOn,
} from "../../src/protocol/client_messages.ts";
import {
  parseFromWorker,
  parseFromWorkerToGateway,
  parseToWorker,
  parseToWorkerFromGateway,
} from "../../src/protocol/worker_messages.ts";

const digest = digestOfHash("a".repeat(64), 3);
const jobId = "j01k3x9q7fa-0004m2";
const taskId = `${jobId}/0`;

/** The sentence with which it was refused. */
function refusal(parse: (input: unknown) => unknown, input: unknown): string {
  try {
    parse(input);
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(Fault);
    expect((thrown as Fault).code).toBe("REQUEST_INVALID");
    return (thrown as Fault).message;
  }
  return "accepted";
}

describe("a job as a client sends it", () => {
  const task = { name: "build", argv: ["make"] };
  const job = { key: "k", tasks: [task] };
  const withTask = (changes: Record<string, unknown>) => ({ ...job, tasks: [task, { ...task, ...changes }] });

  test("has defaults for all but its key and what its tasks are called and run", () => {
    expect(parseJobSpec(job)).toEqual({
      key: "k",
      requestor: "",
      basis: "",
      tag: "",
      priority: 0,
      failFast: false,
      tasks: [{
        name: "build",
        argv: ["make"],
        env: {},
        outputs: [],
        input: { kind: "empty" },
        timeoutMs: 1_800_000,
        retries: 0,
        platform: {},
        cache: "use",
      }],
    });
  });

  test.each<[string, unknown, string]>([
    ["a field that nobody knows", { ...job, color: "red" }, "color is wrong"],
    ["a task's field that nobody knows", withTask({ colour: "red" }), "tasks.1.colour is wrong"],
    ["no key", { tasks: [task] }, "key is wrong"],
    ["an empty key", { ...job, key: "" }, "key is wrong"],
    ["a key with a line break", { ...job, key: "a\nb" }, "key is wrong"],
    [
      "more tasks than one step can create",
      { ...job, tasks: Array.from({ length: 20_001 }, () => task) },
      "tasks is wrong: a job has at most 20000 tasks: make several jobs of it",
    ],
    ["no tasks", { ...job, tasks: [] }, "tasks is wrong"],
    ["no argv", withTask({ argv: [] }), "tasks.1.argv is wrong"],
    ["an empty command", withTask({ argv: ["", "x"] }), "tasks.1.argv is wrong: must start with a command"],
    ["argv that is text", withTask({ argv: "make all" }), "tasks.1.argv is wrong"],
    ["an argument that is a number", withTask({ argv: ["sleep", 5] }), "tasks.1.argv.1 is wrong"],
    ["a NUL in an argument", withTask({ argv: ["echo", "a\0b"] }), "tasks.1.argv.1 is wrong: must hold no NUL"],
    ["a NUL in a variable's value", withTask({ env: { A: "\0" } }), "tasks.1.env.A is wrong: must hold no NUL"],
    ["a NUL in a variable's name", withTask({ env: { "A\0B": "" } }), "tasks.1.env.A\\x00B is wrong: must hold no NUL"],
    ["a variable that is a number", withTask({ env: { A: 1 } }), "tasks.1.env.A is wrong"],
    ["a variable without a name", withTask({ env: { "": "x" } }), "tasks.1.env"],
    ["a variable that JavaScript takes for its own", withTask({ env: { constructor: "x" } }), "tasks.1.env is wrong"],
    ["an output with a NUL", withTask({ outputs: ["out\0"] }), "tasks.1.outputs.0 is wrong: must hold no NUL"],
    ["half a millisecond", withTask({ timeoutMs: 0.5 }), "tasks.1.timeoutMs is wrong"],
    ["a time limit of none", withTask({ timeoutMs: 0 }), "tasks.1.timeoutMs is wrong"],
    ["a time limit that is not a number", withTask({ timeoutMs: NaN }), "tasks.1.timeoutMs is wrong"],
    ["more retries than are good", withTask({ retries: 21 }), "tasks.1.retries is wrong"],
    ["an input of an unknown kind", withTask({ input: { kind: "zip" } }), "tasks.1.input.kind is wrong"],
    [
      "a snapshot that is no digest",
      withTask({ input: { kind: "snapshot", snapshot: "../x" } }),
      "input.snapshot is wrong",
    ],
    ["an unknown priority", { ...job, priority: 3 }, "priority is wrong"],
    ["a flag that is text", { ...job, failFast: "yes" }, "failFast is wrong"],
    [
      "too many properties",
      withTask({ platform: Object.fromEntries(Array.from({ length: 65 }, (_, n) => [n, ""])) }),
      "platform is wrong",
    ],
    ["an argument that is too long", withTask({ argv: ["x".repeat(1_000_001)] }), "tasks.1.argv.0 is wrong"],
    ["nothing", null, "it is wrong"],
    ["a list", [job], "is wrong"],
    ["text", "job", "it is wrong"],
  ])("is refused with %s, naming the place", (_, input, sentence) => {
    const message = refusal(parseJobSpec, input);
    expect(message).toMatch(/^Cannot read a job as /);
    expect(message).toContain(sentence);
  });

  test("is refused when a field hides behind the prototype's name", () => {
    expect(refusal(parseJobSpec, JSON.parse('{"key":"k","tasks":[{"name":"a","argv":["x"]}],"__proto__":{"x":1}}')))
      .toContain("__proto__ is wrong");
    expect(refusal(parseJobSpec, JSON.parse('{"key":"k","tasks":[{"name":"a","argv":["x"],"env":{"__proto__":"x"}}]}')))
      .toContain("env is wrong");
  });

  test("is refused in one sentence of bounded length without control characters, however long and strange its names are", () => {
    const name = fc.oneof(fc.string({ unit: "binary", maxLength: 40 }), fc.constant("k".repeat(100_000)));
    fc.assert(
      fc.property(name, fc.oneof(name, fc.integer(), fc.constant(null)), (key, value) => {
        for (const input of [{ ...job, [`x${key}`]: value }, withTask({ env: { [`x${key}`]: 1 } })]) {
          const message = refusal(parseJobSpec, input);
          expect(message).not.toBe("accepted");
          expect(message.length).toBeLessThan(1_000);
          // deno-lint-ignore no-control-regex -- those are what must not be in it
          expect(message.split(": ")[0]).not.toMatch(/[\u0000-\u001f]/);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("never becomes something else than a job or a fault, whatever is sent", () => {
    fc.assert(fc.property(fc.anything({ withNullPrototype: true, withBigInt: true, withTypedArray: true }), (input) => {
      for (
        const parse of [
          parseJobSpec,
          parseFromClient,
          parseFromGateway,
          parseAnswer,
          parseToPassOn,
          parseFromWorker,
          parseToWorker,
          parseToWorkerFromGateway,
          parseFromWorkerToGateway,
        ]
      ) {
        expect(refusal(parse, input)).not.toBe("accepted");
      }
    }));
  });
});

describe("messages between members", () => {
  const described = { workerId: "w1", incarnation: "1", slots: 2, platform: { os: "linux" }, isolation: "none" };
  const outcome = { kind: "exited", exitCode: 0, stdout: { digest, truncatedBytes: 0 }, startedAtMs: 1, endedAtMs: 2 };

  test.each<[string, (input: unknown) => unknown, unknown]>([
    ["worker.sync", parseFromWorker, {
      type: "worker.sync",
      number: 1,
      worker: described,
      attempts: [
        { stage: "held", taskId, attempt: 1 },
        { stage: "running", taskId, attempt: 1, startedAtMs: 5 },
        { stage: "ended", taskId, attempt: 2, outcome },
        { stage: "returned", taskId, attempt: 1, why: "it stops" },
      ],
    }],
    ["worker.should", parseToWorker, {
      type: "worker.should",
      epoch: 1,
      number: 1,
      full: true,
      hold: [{ taskId, attempt: 1, command: digest, inputRoot: digest, timeoutMs: 0 }],
      drop: [{ taskId, attempt: 1, reason: "" }],
      acknowledged: [{ taskId, attempt: 1 }],
    }],
    ["output.follow", parseToWorkerFromGateway, {
      type: "output.follow",
      follow: 1,
      taskId,
      attempt: 1,
      stream: "stdout",
      offset: 0,
    }],
    ["output.chunk", parseFromWorkerToGateway, {
      type: "output.chunk",
      follow: 1,
      offset: 0,
      bytes: new Uint8Array([1, 2]),
    }],
    ["job.get", parseFromClient, { id: 1, sentAtMs: 1, body: { type: "job.get", jobId } }],
    ["job.accept", parseFromGateway, {
      id: 1,
      sentAtMs: 1,
      body: {
        type: "job.accept",
        watch: 3,
        job: {
          key: "k",
          requestor: "",
          basis: "",
          tag: "",
          priority: 0,
          failFast: false,
          tasks: [{
            name: "a",
            input: { kind: "empty" },
            timeoutMs: 1,
            retries: 0,
            platform: {},
            needs: { cpuMillis: 500, memoryBytes: 1024, counters: { licence: 1 } },
            cache: "use",
            command: digest,
          }],
        },
      },
    }],
    ["an answer", parseAnswer, { re: 1, sentAtMs: 1, body: { type: "job.accepted", jobId, existing: false } }],
    ["a fault", parseAnswer, {
      re: 1,
      sentAtMs: 1,
      body: { type: "fault", fault: { code: "JOB_UNKNOWN", message: "x" } },
    }],
  ])("%s passes as it is", (_, parse, message) => {
    expect(parse(message)).toEqual(message);
  });

  test.each<[string, (input: unknown) => unknown, unknown, string]>([
    ["an attempt counted from 0", parseFromWorker, {
      type: "worker.report",
      number: 1,
      attempts: [{ stage: "held", taskId, attempt: 0 }],
    }, "attempts.0.attempt"],
    ["an unknown stage", parseFromWorker, {
      type: "worker.report",
      number: 1,
      attempts: [{ stage: "lost", taskId, attempt: 1 }],
    }, "attempts.0.stage"],
    ["a task id with a path in it", parseFromWorker, {
      type: "worker.report",
      number: 1,
      attempts: [{ stage: "held", taskId: `${jobId}/../1`, attempt: 1 }],
    }, "attempts.0.taskId"],
    ["an exit code that no system has", parseFromWorker, {
      type: "worker.report",
      number: 1,
      attempts: [{ stage: "ended", taskId, attempt: 1, outcome: { ...outcome, exitCode: 256 } }],
    }, "attempts.0.outcome.exitCode"],
    ["a worker whose name is a path", parseFromWorker, {
      type: "worker.sync",
      number: 1,
      worker: { ...described, workerId: "../w" },
      attempts: [],
    }, "worker.workerId"],
    ["more attempts than a worker has", parseFromWorker, {
      type: "worker.report",
      number: 1,
      attempts: Array.from({ length: 20_001 }, () => ({ stage: "held", taskId, attempt: 1 })),
    }, "attempts"],
    ["an epoch of 0", parseToWorker, {
      type: "worker.should",
      epoch: 0,
      number: 1,
      full: false,
      hold: [],
      drop: [],
      acknowledged: [],
    }, "epoch"],
    ["an unknown request", parseFromClient, { id: 1, sentAtMs: 1, body: { type: "job.destroy" } }, "body.type"],
    ["a request for gateways from a client", parseFromClient, {
      id: 1,
      sentAtMs: 1,
      body: { type: "cluster.drain", why: "" },
    }, "body.type"],
    ["an offset before the beginning", parseFromClient, {
      id: 1,
      sentAtMs: 1,
      body: { type: "output.follow", follow: 1, taskId, stream: "stdout", offset: -1 },
    }, "body.offset"],
    ["a stream that there is not", parseFromClient, {
      id: 1,
      sentAtMs: 1,
      body: { type: "output.follow", follow: 1, taskId, stream: "stdin", offset: 0 },
    }, "body.stream"],
    ["a fault of no code", parseAnswer, {
      re: 1,
      sentAtMs: 1,
      body: { type: "fault", fault: { code: "OOPS", message: "" } },
    }, "fault.code"],
    [
      "bytes that are text",
      parseFromWorkerToGateway,
      { type: "output.chunk", follow: 1, offset: 0, bytes: "abc" },
      "bytes",
    ],
  ])("%s is refused, naming the place", (_, parse, message, place) => {
    expect(refusal(parse, message)).toContain(`${place} is wrong`);
  });
});
