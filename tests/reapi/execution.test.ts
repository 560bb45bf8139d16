import { Buffer } from "node:buffer";
import { Metadata, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CommandData } from "../../src/domain/command.ts";
import { type Digest, emptyDigest, hashOf, sizeOf } from "../../src/domain/digest.ts";
import { Fault } from "../../src/domain/fault.ts";
import { type JobId, jobId, taskId, workerId } from "../../src/domain/ids.ts";
import type { Outcome } from "../../src/domain/job.ts";
import type { TaskView } from "../../src/protocol/client_messages.ts";
import { decodeActionResult, encodeActionResult } from "../../src/protocol/reapi/action_result.ts";
import {
  decodeDirectory,
  decodeTree,
  encodeAction,
  encodeCommand,
  encodeDirectory,
} from "../../src/protocol/reapi/canonical.ts";
import type { MessageOf } from "../../src/protocol/reapi/codec.ts";
import {
  executeOperationMetadata,
  executeResponse,
  type operation,
  preconditionFailure,
  requestMetadata,
  stages,
} from "../../src/protocol/reapi/messages.ts";
import { methods } from "../../src/protocol/reapi/services.ts";
import { graceMs, repeatMs } from "../../src/reapi/operations.ts";
import type { AskedTask, Tasks } from "../../src/reapi/tasks.ts";
import { digestOf, readBlob, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { codeOf, type Rig, startRig } from "./rig.ts";

/** Tasks that do what the test says. */
class PretendTasks implements Tasks {
  readonly accepted: AskedTask[] = [];
  readonly killed: JobId[] = [];
  readonly views = new Map<JobId, TaskView>();
  workers: Record<string, string>[] = [{}];
  #changed = new Set<() => void>();

  accept(task: AskedTask, signal: AbortSignal): ReturnType<Tasks["accept"]> {
    this.accepted.push(task);
    const id = jobId(`j0000000000-${String(this.accepted.length).padStart(6, "0")}`);
    const { name, command, inputRoot, action, timeoutMs } = task;
    this.views.set(id, {
      taskId: taskId(id, 0),
      name,
      state: "queued",
      command,
      inputRoot,
      action,
      timeoutMs,
      attempts: [],
      queuedAtMs: 5_000,
      why: "It waits.",
    });
    return Promise.resolve({ jobId: id, changes: this.watch(id, signal) });
  }
  async *watch(id: JobId, signal: AbortSignal): AsyncIterable<TaskView> {
    let told: TaskView | undefined;
    for (;;) {
      const view = this.views.get(id);
      if (view === undefined) throw new Fault("JOB_UNKNOWN", "There is no such job");
      if (view !== told) yield view;
      told = view;
      if (view.state === "settled") return;
      await new Promise<void>((resolve, reject) => {
        this.#changed.add(resolve);
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
    }
  }
  readonly outputs: { readonly id: JobId; readonly stream: string; readonly offset: number }[] = [];
  async *output(id: JobId, stream: "stdout" | "stderr", offset: number): AsyncIterable<Uint8Array> {
    this.outputs.push({ id, stream, offset });
    yield Buffer.from(`${stream} of it`).subarray(offset);
  }
  kill(id: JobId): Promise<void> {
    this.killed.push(id);
    return Promise.resolve();
  }
  platforms = () => Promise.resolve(this.workers);

  change(number: number, change: Partial<TaskView>): void {
    const id = [...this.views.keys()][number - 1]!;
    this.views.set(id, { ...this.views.get(id)!, ...change });
    for (const wake of this.#changed) wake();
    this.#changed.clear();
  }
  settle(number: number, outcome: Outcome): void {
    this.change(number, { state: "settled", outcome, why: "It ended so." });
  }
}

let rig: Rig;
let tasks: PretendTasks;
let clock: ReturnType<typeof manualClock>;
beforeEach(async () => {
  tasks = new PretendTasks();
  clock = manualClock();
  rig = await startRig({ tasks: () => tasks, clock });
});
afterEach(() => rig.close());

const put = (bytes: Uint8Array): Promise<Digest> => writeBlob(rig.blobs, bytes);
const wire = (digest: Digest) => ({ hash: hashOf(digest), sizeBytes: sizeOf(digest) });

interface Asked {
  readonly command?: Partial<CommandData>;
  readonly inputRoot?: Digest;
  readonly platform?: readonly { name: string; value: string }[];
  readonly timeoutMs?: number;
  readonly doNotCache?: boolean;
}
async function action({ command, inputRoot = emptyDigest, platform = [], ...more }: Asked = {}): Promise<Digest> {
  const encoded = { argv: ["true"], env: {}, outputs: [], platform: [], workingDirectory: "", ...command };
  return await put(
    encodeAction({ command: await put(encodeCommand(encoded)), inputRoot, doNotCache: false, platform, ...more }),
  );
}
type Operation = MessageOf<typeof operation>;
type Stream = ReturnType<typeof execute>;
const execute = (digest: Digest, more: object = {}, metadata?: Metadata) =>
  rig.open(methods.execute, { actionDigest: wire(digest), ...more }, metadata);
const wait = (name: string) => rig.open(methods.waitExecution, { name });
const next = async (stream: Stream): Promise<Operation> => {
  const { done, value } = await stream.next();
  if (done) throw new Error("the stream has ended");
  return value;
};
const last = async (stream: Stream): Promise<Operation> => {
  let operation: Operation | undefined;
  for await (const each of stream) operation = each;
  return operation!;
};
const stageOf = ({ metadata }: Operation) => executeOperationMetadata.decode(metadata!.value);
const responseOf = ({ done, error, response }: Operation) => {
  expect(done).toBe(true);
  expect(error).toBeUndefined();
  return executeResponse.decode(response!.value);
};
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
};
async function result(exitCode = 0): Promise<Digest> {
  return await put(encodeActionResult({
    outputFiles: [{ path: "out", digest: await put(Buffer.from("made")), executable: false }],
    outputDirectories: [],
    outputSymlinks: [],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode,
    execution: { worker: "w1", auxiliary: [] },
  }));
}

describe("An operation's name", () => {
  /** What another door took in, and what this one did before it was started anew. */
  const begun = async (): Promise<string> => {
    const stream = execute(await action());
    const { name } = await next(stream);
    stream.cancel();
    await rig.restart();
    return name;
  };
  const follow = (name: string) => expect(last(wait(name))).rejects;

  test("of a job of another door kills nothing, however often it is waited for", async () => {
    const name = await begun();
    const { action: _, ...other } = [...tasks.views.values()][0]!;
    tasks.views.set([...tasks.views.keys()][0]!, other as TaskView);
    await follow(name).toMatchObject({ code: status.NOT_FOUND });
    await expect(rig.unary(methods.cancelOperation, { name })).rejects.toMatchObject({ code: status.NOT_FOUND });
    await clock.advance(2 * graceMs);
    expect(tasks.killed).toEqual([]);
  });
  test("with another instance neither cancels nor kills", async () => {
    const name = await begun();
    await follow(`other/${name}`).toMatchObject({ code: status.NOT_FOUND });
    await clock.advance(2 * graceMs);
    const stream = wait(name);
    await next(stream);
    await expect(rig.unary(methods.cancelOperation, { name: `other/${name}` })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
    tasks.settle(1, { kind: "exited", exitCode: 0, result: await result() });
    expect(responseOf(await last(stream)).status).toBeUndefined();
    expect(tasks.killed).toEqual([]);
  });
  test("E-7: that is cancelled while it is looked for is told so once it is found", async () => {
    const name = await begun();
    const look = tasks.watch.bind(tasks);
    let found = (): void => {};
    const held = new Promise<void>((resolve) => found = resolve);
    let looked = false;
    tasks.watch = async function* (id, signal) {
      looked = true;
      await held;
      yield* look(id, signal);
    };
    const stream = wait(name);
    const end = last(stream);
    await until(() => looked);
    const cancelled = rig.unary(methods.cancelOperation, { name });
    await rig.unary(methods.getCapabilities, {}); // the gateway still answers
    found();
    await cancelled;
    expect(responseOf(await end).status).toMatchObject({ code: status.CANCELLED });
    expect(tasks.killed).toHaveLength(1);
  });
  test("that nobody knows costs nothing once it was cancelled", async () => {
    const name = "operations/j0000000000-abcdef/0123456789abcdef";
    for (let round = 0; round < 2; round++) {
      await expect(rig.unary(methods.cancelOperation, { name })).rejects.toMatchObject({ code: status.NOT_FOUND });
    }
    expect(clock.waiting()).toBe(0);
  });
});

describe("Execute", () => {
  test("C-4 C-5 C-11: is told of in the capabilities", async () => {
    const { executionCapabilities } = await rig.unary(methods.getCapabilities, {});
    expect(executionCapabilities).toMatchObject({
      digestFunction: 1,
      digestFunctions: [1],
      execEnabled: true,
      executionPriorityCapabilities: { priorities: [{ minPriority: -2, maxPriority: 0 }] },
    });
  });
  test("E-1 E-2 E-3 E-5: tells its name at once, then its stages, then the result with its times", async () => {
    const digest = await action({ timeoutMs: 60_000, platform: [] });
    const stream = execute(digest, { executionPolicy: { priority: -2 } });
    const queued = await next(stream);
    expect(queued.name).toMatch(/^operations\/j/);
    expect(queued.metadata!.typeUrl).toBe(
      "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata",
    );
    expect(stageOf(queued)).toMatchObject({ stage: stages.queued, actionDigest: wire(digest) });
    expect(tasks.accepted).toMatchObject([{
      timeoutMs: 60_000,
      cache: "use",
      priority: 2,
      inputRoot: emptyDigest,
      action: { instance: "", digest },
    }]);
    const by = {
      attempt: 1,
      reason: "first",
      workerId: workerId("w1"),
      placedAtMs: 6_000,
      why: "It was free.",
    } as const;
    tasks.change(1, { state: "running", attempts: [{ ...by, startedAtMs: 7_000 }] });
    let running = await next(stream);
    while (stageOf(running).stage === stages.queued) running = await next(stream);
    expect(stageOf(running)).toMatchObject({
      stage: stages.executing,
      partialExecutionMetadata: { worker: "w1", executionStartTimestamp: { seconds: 7, nanos: 0 } },
    });
    tasks.settle(1, { kind: "exited", exitCode: 0, result: await result() });
    const end = await last(stream);
    expect(end.name).toBe(queued.name);
    expect(stageOf(end).stage).toBe(stages.completed);
    const response = responseOf(end);
    expect(response.status).toBeUndefined();
    expect(response.cachedResult).toBe(false);
    expect(decodeActionResult(response.result)).toMatchObject({
      outputFiles: [{ path: "out" }],
      execution: { worker: "w1", queuedAt: { seconds: 5, nanos: 0 } },
    });
  });
  test("X-4: answers what is known before anything is queued; skip_cache_lookup runs it", async () => {
    const digest = await action();
    const known = encodeActionResult({
      ...decodeActionResult(new Uint8Array(0)),
      exitCode: 0,
      execution: { worker: "w9", auxiliary: [] },
    });
    await rig.actions.put({ instance: "", action: digest }, known, { by: "upload", atMs: 1, durationMs: 0 });
    const response = responseOf(await last(execute(digest)));
    expect(response.cachedResult).toBe(true);
    expect(decodeActionResult(response.result).execution!.worker).toBe("w9");
    expect(tasks.accepted).toEqual([]);
    const stream = execute(digest, { skipCacheLookup: true });
    await next(stream);
    expect(tasks.accepted).toMatchObject([{ cache: "refresh" }]);
    stream.cancel();
  });
  test("X-4 A-7: who is told of a new result finds it from then on, and not the older one", async () => {
    const digest = await action();
    const getResult = async (): Promise<string> =>
      Buffer.from(
        decodeActionResult(await rig.unary(methods.getActionResult, { actionDigest: wire(digest) })).stdoutRaw!,
      ).toString();
    const resultThatSays = (said: string) => ({
      ...decodeActionResult(new Uint8Array(0)),
      outputFiles: [{ path: "f", digest: digestOf(Buffer.from(said)), executable: false }],
      stdoutRaw: Buffer.from(said),
      execution: { worker: "w1", auxiliary: [] },
    });
    for (const said of ["older", "newer"]) await put(Buffer.from(said));
    const made = { by: "job", atMs: 1, durationMs: 0 } as const;
    await rig.actions.put({ instance: "", action: digest }, encodeActionResult(resultThatSays("older")), made);
    const stream = execute(digest, { skipCacheLookup: true });
    await next(stream);
    tasks.settle(1, { kind: "exited", exitCode: 0, result: await put(encodeActionResult(resultThatSays("newer"))) });
    await last(stream);
    expect(await getResult()).toBe("newer");
    const failed = execute(digest, { skipCacheLookup: true });
    await next(failed);
    tasks.settle(2, { kind: "exited", exitCode: 1, result: await result(1) });
    await last(failed);
    expect(await getResult()).toBe("newer");
  });
  test("X-4 M-1: who wants it anew joins what runs, and what is to run anew; not what may yet be answered from the cache", async () => {
    const digest = await action();
    const streams = [execute(digest)];
    const join = async (more: object): Promise<number> => {
      streams.push(execute(digest, more));
      await next(streams.at(-1)!);
      return tasks.accepted.length;
    };
    await next(streams[0]!);
    expect(await join({ skipCacheLookup: true })).toBe(2);
    expect(await join({ skipCacheLookup: true })).toBe(2);
    expect(await join({})).toBe(2);
    for (const number of [1, 2]) tasks.settle(number, { kind: "exited", exitCode: 1, result: await result(1) });
    for (const stream of streams) await last(stream);
    streams.push(execute(digest));
    await next(streams.at(-1)!);
    tasks.change(3, { state: "running" });
    while (stageOf(await next(streams.at(-1)!)).stage !== stages.executing);
    expect(await join({ skipCacheLookup: true })).toBe(3);
    for (const stream of streams) stream.cancel();
  });
  test("A-2: what a job kept as one tree is told output by output", async () => {
    const [file, leaf] = [await put(Buffer.from("file")), await put(Buffer.from("leaf"))];
    const folder = await put(encodeDirectory([{ kind: "file", name: "leaf", digest: leaf, executable: false }]));
    const root = await put(encodeDirectory([
      { kind: "file", name: "bin", digest: file, executable: true },
      { kind: "directory", name: "dir", digest: folder },
      { kind: "symlink", name: "link", target: "bin" },
    ]));
    const kept = {
      ...decodeActionResult(new Uint8Array(0)),
      outputDirectories: [{
        path: "",
        rootDirectory: root,
        isTopologicallySorted: false,
      }],
    };
    const made = { by: "job", taskId: taskId(jobId("j1"), 0), atMs: 1, durationMs: 0 } as const;
    for (
      const command of [{ outputs: ["bin", "dir", "link", "nope"] }, {
        outputFiles: ["bin", "link"],
        outputDirectories: ["dir"],
      }]
    ) {
      const digest = await action({ command });
      await rig.actions.put({ instance: "", action: digest }, encodeActionResult(kept), made);
      const bytes = await rig.unary(methods.getActionResult, { actionDigest: wire(digest) });
      const told = decodeActionResult(bytes);
      expect(told.outputFiles).toEqual([{ path: "bin", digest: file, executable: true }]);
      expect(told.outputDirectories).toMatchObject([{ path: "dir" }]);
      expect(told.outputSymlinks).toEqual([{ path: "link", target: "bin" }]);
      const { root: top, children } = decodeTree(await readBlob(rig.blobs, told.outputDirectories[0]!.tree!, 1e6));
      expect(decodeDirectory(top)).toMatchObject([{ name: "leaf", digest: leaf }]);
      expect(children).toEqual([]);
      expect(responseOf(await last(execute(digest))).cachedResult).toBe(true);
    }
  });
  test("X-1 X-2 X-3: tells all that is missing, as violations", async () => {
    const command = digestOf(Buffer.from("nowhere"));
    const tree = digestOf(Buffer.from("no tree"));
    const digest = await put(encodeAction({ command, inputRoot: tree, doNotCache: false, platform: [] }));
    const nothing = digestOf(Buffer.from("no action"));
    for (const [asked, missing] of [[digest, [command, tree]], [nothing, [nothing]]] as const) {
      const { status: told, result: none } = responseOf(await last(execute(asked)));
      expect(none).toHaveLength(0);
      expect(told).toMatchObject({ code: status.FAILED_PRECONDITION });
      expect(told!.details).toHaveLength(1);
      expect(told!.details[0]!.typeUrl).toBe("type.googleapis.com/google.rpc.PreconditionFailure");
      expect(preconditionFailure.decode(told!.details[0]!.value).violations).toEqual(
        missing.map((one) => ({ type: "MISSING", subject: `blobs/${one}` })),
      );
    }
    expect(tasks.accepted).toEqual([]);
  });
  describe("of its inputs", () => {
    const [file, folder] = [digestOf(Buffer.from("a file")), digestOf(Buffer.from("a folder"))];
    const treeOf = async (name: string): Promise<Digest> =>
      await put(encodeDirectory([
        {
          kind: "directory",
          name: "a",
          digest: await put(encodeDirectory([{ kind: "file", name: "f", digest: file, executable: false }])),
        },
        { kind: "directory", name: "b", digest: folder },
        { kind: "symlink", name, target: "a" },
      ]));
    const violationsOf = (operation: Operation): Set<string> => {
      const { status: told } = responseOf(operation);
      expect(told).toMatchObject({ code: status.FAILED_PRECONDITION });
      return new Set(preconditionFailure.decode(told!.details[0]!.value).violations.map(({ subject }) => subject));
    };
    const both = new Set([`blobs/${file}`, `blobs/${folder}`]);

    test("X-1: what is missing below the root is told before it is queued", async () => {
      const digest = await action({ inputRoot: await treeOf("l") });
      expect(violationsOf(await last(execute(digest)))).toEqual(both);
      expect(tasks.accepted).toEqual([]);
    });
    test("X-1: more than a hundred that are missing are all told", async () => {
      const absent = Array.from({ length: 250 }, (_, n) => digestOf(Buffer.from(`file ${n}`)));
      const inputRoot = await put(encodeDirectory(
        absent.map((digest, n) => ({
          kind: "file" as const,
          name: String(n).padStart(3, "0"),
          digest,
          executable: false,
        })),
      ));
      expect(violationsOf(await last(execute(await action({ inputRoot }))))).toEqual(
        new Set(absent.map((digest) => `blobs/${digest}`)),
      );
    });
    test("X-1: what went missing since is told when it could not be checked out", async () => {
      const lost = new Set<Digest>();
      const blobs = memoryBlobs();
      await rig.close();
      rig = await startRig({
        tasks: () => tasks,
        clock,
        blobs: {
          ...blobs,
          missing: async (digests) =>
            new Set([...await blobs.missing(digests), ...[...digests].filter((digest) => lost.has(digest))]),
        },
      });
      const inputRoot = await put(encodeDirectory([{ kind: "file", name: "f", digest: file, executable: false }]));
      await put(Buffer.from("a file"));
      const stream = execute(await action({ inputRoot }));
      await next(stream);
      lost.add(file);
      tasks.settle(1, { kind: "failed", fault: { code: "BLOB_MISSING", message: "It is not there" } });
      expect(violationsOf(await last(stream))).toEqual(new Set([`blobs/${file}`]));
    });
    test("X-1: all of a tree is asked about, so that it stays; of one that is much the same, what is new", async () => {
      const asked: Digest[] = [];
      const blobs = memoryBlobs();
      await rig.close();
      rig = await startRig({
        tasks: () => tasks,
        clock,
        blobs: {
          ...blobs,
          missing(digests) {
            asked.push(...digests);
            return blobs.missing(digests);
          },
        },
      });
      const leaf = await put(Buffer.from("a file"));
      const below = await put(encodeDirectory([{ kind: "file", name: "f", digest: leaf, executable: false }]));
      const rootOf = async (text: string) =>
        await put(encodeDirectory([
          { kind: "directory", name: "a", digest: below },
          { kind: "file", name: "b", digest: await put(Buffer.from(text)), executable: false },
        ]));
      for (const text of ["one", "two"]) {
        asked.length = 0;
        const inputRoot = await rootOf(text);
        const stream = execute(await action({ inputRoot }));
        await next(stream);
        const own = [inputRoot, digestOf(Buffer.from(text))];
        expect(new Set(asked)).toEqual(new Set(text === "one" ? [...own, below, leaf] : own));
        stream.cancel();
      }
    });
    test("what is named as a folder and is none is not told as missing: the run tells", async () => {
      const none = await put(Buffer.from("no folder at all"));
      const inputRoot = await put(encodeDirectory([{ kind: "directory", name: "a", digest: none }]));
      const stream = execute(await action({ inputRoot }));
      await next(stream);
      expect(tasks.accepted).toMatchObject([{ inputRoot }]);
      stream.cancel();
    });
  });
  test("X-5 X-7 X-8 X-11: what cannot be run is refused", async () => {
    tasks.workers = [{ os: "linux" }];
    const refused = [
      await action({ command: { argv: [] } }),
      await action({ command: { outputs: ["/etc/passwd"] } }),
      await action({ command: { outputs: ["../x"] } }),
      await action({ command: { workingDirectory: "../x" } }),
      await action({ timeoutMs: 31 * 24 * 3_600_000 }),
      await action({ platform: [{ name: "os", value: "plan9" }] }),
      await put(Buffer.from("no action")),
    ];
    for (const digest of refused) expect(await codeOf(last(execute(digest)))).toBe(status.INVALID_ARGUMENT);
    const fine = await action({ platform: [{ name: "os", value: "linux" }] });
    expect(await codeOf(last(execute(fine, { executionPolicy: { priority: 1 } })))).toBe(status.INVALID_ARGUMENT);
    expect(tasks.accepted).toEqual([]);
    tasks.workers = []; // they may come back
    const stream = execute(await action({ platform: [{ name: "os", value: "plan9" }] }));
    await next(stream);
    expect(tasks.accepted).toMatchObject([{ platform: { os: "plan9" } }]);
    stream.cancel();
  });
  test("M-7 X-M1: says whose build it is; without a word of the client too", async () => {
    const metadata = new Metadata();
    metadata.set(
      "build.bazel.remote.execution.v2.requestmetadata-bin",
      Buffer.from(requestMetadata.encode({
        toolDetails: { toolName: "bazel", toolVersion: "" },
        toolInvocationId: "one",
        correlatedInvocationsId: "all",
        actionMnemonic: "CppCompile",
        targetId: "//:x",
      })),
    );
    const streams = [execute(await action(), {}, metadata), execute(await action({ doNotCache: true }))];
    for (const stream of streams) await next(stream);
    expect(tasks.accepted).toMatchObject([
      { requestor: "bazel/all", tag: "CppCompile //:x", cache: "use" },
      { requestor: "reapi", cache: "off" },
    ]);
    for (const stream of streams) stream.cancel();
  });
});

describe("the end of an action", () => {
  const ended = async (outcome: Outcome) => {
    const stream = execute(await action());
    await next(stream);
    tasks.settle(1, outcome);
    return responseOf(await last(stream));
  };
  test("TO-3 E-12 E-13: an exit code is a result, with the reason and logs for people", async () => {
    const response = await ended({ kind: "exited", exitCode: 3, result: await result(3) });
    expect(response.status).toBeUndefined();
    expect(decodeActionResult(response.result).exitCode).toBe(3);
    expect(response.message).toContain("It ended so.");
    expect(response.serverLogs).toMatchObject([{ value: { humanReadable: true } }]);
    expect(response.message).toContain("http://here/#/job/j0000000000-000001");
  });
  test("E-12: the address of its page alone, where nothing is to be said; what it waited for, if that was long", async () => {
    const fine = { kind: "exited", exitCode: 0, result: await result() } as const;
    expect((await ended(fine)).message).toBe("http://here/#/job/j0000000000-000001");
    const stream = execute(await action({ timeoutMs: 1_000 }));
    await next(stream);
    tasks.change(2, {
      attempts: [{
        attempt: 1,
        workerId: workerId("w1"),
        reason: "first",
        placedAtMs: 65_000,
        startedAtMs: 65_000,
        why: "It was the first in its class.",
      }],
    });
    tasks.settle(2, fine);
    expect(responseOf(await last(stream)).message).toBe(
      "It was queued for 60 s: It was the first in its class. http://here/#/job/j0000000000-000002",
    );
  });
  test("TO-1 TO-2: a time-out is DEADLINE_EXCEEDED with what there is", async () => {
    const response = await ended({ kind: "timedOut", timeoutMs: 1, result: await result(124) });
    expect(response.status).toMatchObject({
      code: status.DEADLINE_EXCEEDED,
      message: "execution timeout exceeded",
    });
    expect(decodeActionResult(response.result).outputFiles).toHaveLength(1);
  });
  test("M-5: one that was killed is CANCELLED", async () => {
    expect((await ended({ kind: "killed", reason: "by hand" })).status).toMatchObject({ code: status.CANCELLED });
  });
  test("E-9 TO-6: what was lost with its workers is UNAVAILABLE after all attempts, which are told", async () => {
    const stream = execute(await action());
    await next(stream);
    const message = "Cannot finish it as its worker was lost 6 times";
    tasks.change(1, {
      attempts: [1, 2].map((attempt) => ({
        attempt,
        workerId: workerId(`w${attempt}`),
        reason: attempt === 1 ? "first" as const : "workerLost" as const,
        placedAtMs: 6_000,
        why: "It was free.",
        ended: `its worker w${attempt} was lost`,
      })),
    });
    tasks.settle(1, { kind: "failed", fault: { code: "WORKER_LOST", message } });
    const { status: told, serverLogs: [log] } = responseOf(await last(stream));
    expect(told).toMatchObject({ code: status.UNAVAILABLE, message });
    expect(told!.details[0]!.typeUrl).toBe("type.googleapis.com/google.rpc.RetryInfo");
    const { hash, sizeBytes } = log!.value!.digest!;
    const text = Buffer.from(await readBlob(rig.blobs, `${hash}/${sizeBytes}` as Digest, 10_000)).toString();
    expect(text).toContain("Attempt 2 (workerLost) on w2: It was free. its worker w2 was lost");
  });
  test("E-4: a result that has gone is UNAVAILABLE with a time to come again", async () => {
    const gone = digestOf(Buffer.from("gone"));
    const { status: told } = await ended({ kind: "exited", exitCode: 0, result: gone });
    expect(told).toMatchObject({ code: status.UNAVAILABLE });
    expect(told!.details[0]!.typeUrl).toBe("type.googleapis.com/google.rpc.RetryInfo");
  });
});

describe("what no worker could ever run", () => {
  test("X-7: is told to all who wait, with what is lacking, and ended", async () => {
    const digest = await action();
    const streams = [execute(digest), execute(digest)];
    for (const stream of streams) await next(stream);
    tasks.change(1, {
      unmet: { lacks: ["os=plan9"], nearest: { workerId: workerId("w1"), has: ["os=linux"] }, toldAtMs: 60_000 },
    });
    for (const stream of streams) {
      const response = responseOf(await last(stream));
      expect(response.status).toMatchObject({ code: status.FAILED_PRECONDITION });
      expect(response.status!.message).toBe(
        "Cannot run the action as no worker that is here could ever run it: none has os=plan9; w1, which comes nearest, has os=linux",
      );
      expect(response.message).toContain("http://here/#/job/j0000000000-000001");
    }
    await until(() => tasks.killed.length > 0);
    const again = execute(digest); // it may be asked for again, and is a job of its own
    await next(again);
    expect(tasks.accepted).toHaveLength(2);
    again.cancel();
  });
});

describe("operations", () => {
  test("E-6 E-8: WaitExecution tells the state at once, then the end; of one that has ended too, after a restart too", async () => {
    const stream = execute(await action(), { instanceName: "a/b" });
    const { name } = await next(stream);
    expect(name).toMatch(/^a\/b\/operations\//);
    const other = wait(name);
    expect(stageOf(await next(other)).stage).toBe(stages.queued);
    stream.cancel();
    tasks.settle(1, { kind: "exited", exitCode: 0, result: await result() });
    expect(responseOf(await last(other)).status).toBeUndefined();
    await rig.restart();
    const late = await last(wait(name));
    expect(late.name).toBe(name);
    expect(decodeActionResult(responseOf(late).result).outputFiles).toHaveLength(1);
    expect(await rig.unary(methods.getOperation, { name })).toMatchObject({ name, done: true });
    expect(tasks.accepted).toHaveLength(1);
  });
  test("E-7: an unknown name is NOT_FOUND, and one of another instance", async () => {
    const stream = execute(await action());
    const { name } = await next(stream);
    const unknown = name.replace("000001", "000009");
    for (const wrong of ["", "operations/x", unknown, `b/${name}`]) {
      expect(await codeOf(last(wait(wrong)))).toBe(status.NOT_FOUND);
      expect(await codeOf(rig.unary(methods.getOperation, { name: wrong }))).toBe(status.NOT_FOUND);
      expect(await codeOf(rig.unary(methods.cancelOperation, { name: wrong }))).toBe(status.NOT_FOUND);
    }
    expect(tasks.killed).toEqual([]);
    stream.cancel();
  });
  test("T-3: the state is said again while nothing changes", async () => {
    const stream = execute(await action());
    const first = await next(stream);
    let again: Operation | undefined;
    const heard = next(stream).then(async (operation) => {
      // The watch's first word may come as a message of its own.
      again = stageOf(operation).partialExecutionMetadata === undefined ? await next(stream) : operation;
      again = await next(stream);
    });
    while (again === undefined) {
      await clock.advance(repeatMs);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await heard;
    expect(again).toMatchObject({ name: first.name, done: false });
    stream.cancel();
  });
  test("M-2: a more urgent one that is identical is a job of its own, which later ones join", async () => {
    const digest = await action();
    const streams = [];
    for (const priority of [0, -1, 0, -1]) {
      const stream = execute(digest, { executionPolicy: { priority } });
      streams.push(stream);
      await next(stream);
    }
    expect(tasks.accepted.map(({ priority }) => priority)).toEqual([0, 1]);
    for (const stream of streams) stream.cancel();
  });
  test("M-1: identical actions in flight are one job with an operation each; not those that may not be cached", async () => {
    const digest = await action();
    const streams = [execute(digest), execute(digest), execute(digest, { skipCacheLookup: true })];
    const names = [];
    for (const stream of streams) names.push((await next(stream)).name);
    expect(new Set(names).size).toBe(3);
    expect(tasks.accepted).toHaveLength(1);
    const alone = await action({ doNotCache: true });
    const others = [execute(alone), execute(alone)];
    for (const stream of others) await next(stream);
    expect(tasks.accepted).toHaveLength(3);
    tasks.settle(1, { kind: "exited", exitCode: 0, result: await result() });
    for (const stream of streams) expect(responseOf(await last(stream)).status).toBeUndefined();
    for (const stream of others) stream.cancel();
  });
  test("M-3 M-4: what nobody waits for is ended after a grace; who comes back within it goes on", async () => {
    const stream = execute(await action());
    const { name } = await next(stream);
    const { operations } = await rig.unary(methods.listOperations, {});
    expect(operations.map((operation) => operation.name)).toEqual([name]);
    const left = async () => (await rig.unary(methods.listOperations, {})).operations.length === 0;
    stream.cancel();
    while (!await left());
    await clock.advance(graceMs - 1);
    const back = wait(name);
    await next(back);
    await clock.advance(graceMs);
    expect(tasks.killed).toEqual([]);
    back.cancel();
    while (!await left());
    await clock.advance(graceMs);
    await until(() => tasks.killed.length > 0);
    expect(tasks.killed).toEqual([[...tasks.views.keys()][0]]);
  });
  test("T-8: who follows is UNAVAILABLE when the gateway stops, and finds it again by its name", async () => {
    const stream = execute(await action());
    const { name } = await next(stream);
    const stopped = rig.stop();
    expect(await codeOf(last(stream))).toBe(status.UNAVAILABLE);
    await rig.restart();
    await stopped;
    const back = wait(name);
    expect(await next(back)).toMatchObject({ name, done: false });
    expect(tasks.killed).toEqual([]);
    back.cancel();
  });
  test("X-M5: what it writes has names while it runs, which are read as it is written, in its instance alone", async () => {
    const digest = await action();
    const stream = rig.open(methods.execute, { actionDigest: wire(digest), instanceName: "a/b" });
    expect(stageOf(await next(stream)).stdoutStreamName).toBe("");
    tasks.change(1, { state: "running" });
    let stage = stageOf(await next(stream));
    while (stage.stage !== stages.executing) stage = stageOf(await next(stream));
    const [id] = tasks.views.keys();
    expect(stage).toMatchObject({
      stdoutStreamName: `a/b/logstreams/${id}.stdout`,
      stderrStreamName: `a/b/logstreams/${id}.stderr`,
    });
    const read = async (resourceName: string, more: object = {}): Promise<string> =>
      Buffer.concat((await rig.stream(methods.read, { resourceName, ...more })).map(({ data }) => data)).toString();
    expect(await read(stage.stdoutStreamName)).toBe("stdout of it");
    expect(await read(stage.stderrStreamName, { readOffset: 7, readLimit: 2 })).toBe("of");
    expect(await codeOf(read(stage.stdoutStreamName.replace("a/b/", "")))).toBe(status.NOT_FOUND);
    expect(await codeOf(read("logstreams/j0000000000-999999.stdout"))).toBe(status.NOT_FOUND);
    stream.cancel();
  });
  test("E-14: which worker runs it, and since when, while it runs; M-6: the lower, the sooner", async () => {
    const streams = [];
    for (const priority of [0, -1, -2]) {
      const stream = execute(await action({ timeoutMs: 1_000 - priority }), { executionPolicy: { priority } });
      await next(stream);
      streams.push(stream);
    }
    expect(tasks.accepted.map(({ priority }) => priority)).toEqual([0, 1, 2]);
    tasks.change(1, {
      state: "running",
      attempts: [{
        attempt: 1,
        workerId: workerId("w1"),
        reason: "first",
        placedAtMs: 6_000,
        startedAtMs: 7_000,
        why: "It was free.",
      }],
    });
    let stage = stageOf(await next(streams[0]!));
    while (stage.stage !== stages.executing) stage = stageOf(await next(streams[0]!));
    expect(stage.partialExecutionMetadata).toMatchObject({
      worker: "w1",
      queuedTimestamp: { seconds: 5 },
      executionStartTimestamp: { seconds: 7 },
    });
    for (const stream of streams) stream.cancel();
  });
  test("X-6 X-9: the Action's platform before the Command's, an empty one asks for nothing; absolute symlinks may be", async () => {
    tasks.workers = [{ os: "linux" }, { os: "plan9" }];
    const [linux, plan9] = ["linux", "plan9"].map((value) => [{ name: "os", value }]);
    const root = await put(encodeDirectory([{ kind: "symlink", name: "l", target: "/etc/hosts" }]));
    const asked = [
      await action({ platform: linux!, command: { platform: plan9! } }),
      await action({ command: { platform: plan9! } }),
      await action({ platform: [], command: { platform: [] }, inputRoot: root }),
    ];
    for (const digest of asked) {
      const stream = execute(digest);
      await next(stream);
      stream.cancel();
    }
    expect(tasks.accepted.map(({ platform }) => platform)).toEqual([{ os: "linux" }, { os: "plan9" }, {}]);
  });
  test("C-13: outputs whose properties are asked for are INVALID_ARGUMENT, for none are told to be kept", async () => {
    const command = await put(Buffer.concat([
      encodeCommand({ argv: ["true"], env: {}, outputs: [], platform: [], workingDirectory: "" }),
      Buffer.from([0x42, 3, 0x78, 0x79, 0x7a]), // output_node_properties: "xyz"
    ]));
    const digest = await put(encodeAction({ command, inputRoot: emptyDigest, doNotCache: false, platform: [] }));
    expect(await codeOf(last(execute(digest)))).toBe(status.INVALID_ARGUMENT);
    expect(tasks.accepted).toEqual([]);
  });
  test("X-10 E-10: a queue that is full is RESOURCE_EXHAUSTED, and what comes back is served", async () => {
    const accept = tasks.accept.bind(tasks);
    tasks.accept = () => Promise.reject(new Fault("LIMIT_EXCEEDED", "Too many tasks wait"));
    const digest = await action();
    expect(await codeOf(last(execute(digest)))).toBe(status.RESOURCE_EXHAUSTED);
    tasks.accept = accept;
    const stream = execute(digest);
    await next(stream);
    stream.cancel();
  });
  test("E-11: CancelOperation is for one operation; the job goes on while another waits for it", async () => {
    const digest = await action();
    const [one, two] = [execute(digest), execute(digest)];
    const names = [(await next(one)).name, (await next(two)).name];
    await rig.unary(methods.cancelOperation, { name: names[0]! });
    expect(responseOf(await last(one)).status).toMatchObject({ code: status.CANCELLED });
    expect(tasks.killed).toEqual([]);
    await rig.unary(methods.cancelOperation, { name: names[1]! });
    expect(responseOf(await last(two)).status).toMatchObject({ code: status.CANCELLED });
    expect(tasks.killed).toHaveLength(1);
  });
  test("E-11: WaitOperation answers with the end, or with how it stands when the time is up; lists come in pages", async () => {
    const streams = [execute(await action()), execute(await action({ timeoutMs: 1_000 }))];
    const names = [];
    for (const stream of streams) names.push((await next(stream)).name);
    const other = execute(await action({ timeoutMs: 2_000 }), { instanceName: "a/b" });
    const { name: otherName } = await next(other);
    for (const name of ["a/b", "a/b/operations"]) {
      expect((await rig.unary(methods.listOperations, { name })).operations.map((each) => each.name)).toEqual([
        otherName,
      ]);
    }
    expect((await rig.unary(methods.listOperations, { name: "c" })).operations).toEqual([]);
    expect(await codeOf(rig.unary(methods.listOperations, { filter: "done" }))).toBe(status.INVALID_ARGUMENT);
    await rig.unary(methods.cancelOperation, { name: otherName });
    const soon = rig.unary(methods.waitOperation, { name: names[0]!, timeout: { seconds: 0, nanos: 0 } });
    while (clock.waiting() < 3) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(0);
    expect(await soon).toMatchObject({ name: names[0], done: false });
    const page = await rig.unary(methods.listOperations, { pageSize: 1 });
    const rest = await rig.unary(methods.listOperations, { pageSize: 1, pageToken: page.nextPageToken });
    expect([...page.operations, ...rest.operations].map(({ name }) => name)).toEqual(names.toSorted());
    expect(rest.nextPageToken).toBe("");
    const waited = rig.unary(methods.waitOperation, { name: names[0]!, timeout: { seconds: 5, nanos: 0 } });
    let answered = false;
    void waited.then(() => answered = true);
    while (!answered) {
      await clock.advance(5_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await waited).toMatchObject({ name: names[0], done: false });
    tasks.settle(2, { kind: "exited", exitCode: 0, result: await result() });
    expect(await rig.unary(methods.waitOperation, { name: names[1]! })).toMatchObject({ done: true });
    for (const stream of streams) stream.cancel();
  });
});

describe("what an end says", () => {
  test("E-6: of an action that ended long ago, whose outputs are gone: to execute it again", async () => {
    const file = digestOf(Buffer.from("an output"));
    const outputFiles = [{ path: "f", digest: file, executable: false }];
    const made = await put(encodeActionResult({
      ...decodeActionResult(new Uint8Array(0)),
      outputFiles,
      execution: { worker: "w1", auxiliary: [] },
    }));
    const stream = execute(await action());
    const { name } = await next(stream);
    tasks.settle(1, { kind: "exited", exitCode: 0, result: made });
    expect(responseOf(await last(stream)).result.length).toBeGreaterThan(0);
    expect(responseOf(await last(wait(name))).status).toMatchObject({ code: status.UNAVAILABLE });
    await put(Buffer.from("an output"));
    expect(responseOf(await last(wait(name))).status).toBeUndefined();
  });
  test("is told without server logs where there is no room for those", async () => {
    const blobs = memoryBlobs();
    let isFull = false;
    await rig.close();
    rig = await startRig({
      tasks: () => tasks,
      clock,
      blobs: {
        ...blobs,
        put: (digest, bytes, options) =>
          isFull ? Promise.reject(new Fault("NO_SPACE", "The disk is full")) : blobs.put(digest, bytes, options),
      },
    });
    const stream = execute(await action());
    await next(stream);
    const outcome = { kind: "exited", exitCode: 3, result: await result(3) } as const;
    isFull = true;
    tasks.settle(1, outcome);
    const { status: told, serverLogs, result: bytes } = responseOf(await last(stream));
    expect([told, serverLogs, decodeActionResult(bytes).exitCode]).toEqual([undefined, [], 3]);
  });
});
