import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { attemptEffects, placesOf } from "../../src/actors/attempt_effects.ts";
import { digestOfHash, emptyDigest } from "../../src/domain/digest.ts";
import type { CommandData } from "../../src/domain/command.ts";
import { Fault, type FaultData } from "../../src/domain/fault.ts";
import { jobId, taskId, workerId } from "../../src/domain/ids.ts";
import type { Leavings, Outcome } from "../../src/domain/job.ts";
import { type AttemptEvent, effectsAddress, type KeptFolderSpec } from "../../src/machines/attempt.ts";
import { silentLog } from "../../src/observability/log.ts";
import { encodeCommand, encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { outcome as outcomeSchema, parse } from "../../src/protocol/schema.ts";
import { processRunner } from "../../src/runner/process.ts";
import type { Runner } from "../../src/runner/runner.ts";
import { simulatedRunner } from "../../src/runner/simulated.ts";
import { type Clock, realClock } from "../../src/runtime/clock.ts";
import { type Blobs, readBlob, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { memoryRefs } from "../../src/snapshots/refs/memory.ts";
import type { Refs } from "../../src/snapshots/refs/refs.ts";
import { writeKeptFolder } from "../../src/snapshots/trees/kept_folder.ts";
import { type KeptFolders, keptFolders } from "../../src/snapshots/trees/kept_folders.ts";
import { capture } from "../../src/snapshots/trees/capture.ts";
import { walk } from "../../src/snapshots/trees/read_tree.ts";
import { asOrdinaryUser } from "../support/machine.ts";

const task = taskId(jobId("j0123456789-000000"), 0);

test("what a task left is removed, also folders that are closed, by clean() and by the next start", async () => {
  const parent = mkdtempSync(join(tmpdir(), "scoot-actors-effects-"));
  chmodSync(parent, 0o777);
  try {
    await asOrdinaryUser(() => {
      const dir = join(parent, "attempts");
      const start = () =>
        attemptEffects({
          workerId: workerId("w1"),
          dir,
          path: "/bin",
          blobs: memoryBlobs(),
          runner: simulatedRunner({ clock: realClock }),
          keptFolders: keptFolders({ refs: memoryRefs(), blobs: memoryBlobs(), clock: realClock, log: silentLog }),
          clock: realClock,
          log: silentLog,
          outputBytesMax: 1,
          graceMs: 1,
          report: () => {},
        });
      const leave = (attempt: number): string => {
        const { root } = placesOf(dir, task, attempt);
        const closed = join(root, "cache", "module");
        mkdirSync(closed, { recursive: true });
        writeFileSync(join(closed, "file"), "x");
        chmodSync(closed, 0o555);
        chmodSync(join(root, "cache"), 0);
        return root;
      };
      const effects = start();
      const first = leave(1);
      effects.clean(task, 1);
      expect(existsSync(first)).toBe(false);
      const second = leave(2);
      start();
      expect(existsSync(second)).toBe(false);
      return Promise.resolve();
    });
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
});

test("that a command has started is told when it lasts; of one that is soon over, its end alone", async () => {
  const top = mkdtempSync(join(tmpdir(), "scoot-actors-effects-"));
  try {
    let nowMs = 1_000;
    const wakes = new Set<() => void>();
    const end: (() => void)[] = [];
    const blobs = memoryBlobs();
    const clock: Clock = {
      now: () => nowMs,
      at(_atMs, wake) {
        wakes.add(wake);
        return () => wakes.delete(wake);
      },
    };
    const told: AttemptEvent[] = [];
    let heard = (): void => {};
    const effects = attemptEffects({
      workerId: workerId("w1"),
      dir: join(top, "attempts"),
      path: "/bin",
      blobs,
      runner: {
        ...simulatedRunner({ clock }),
        start: () => {
          heard();
          const over = { startedAtMs: 1_000, endedAtMs: 1_001, stdoutTruncatedBytes: 0, stderrTruncatedBytes: 0 };
          return Promise.resolve({
            pid: 1,
            startedAtMs: 1_000,
            exit: new Promise((resolve) => end.push(() => resolve({ kind: "exited", exitCode: 0, ...over }))),
            stop() {},
          });
        },
      },
      keptFolders: keptFolders({ refs: memoryRefs(), blobs, clock, log: silentLog }),
      clock,
      log: silentLog,
      outputBytesMax: 1,
      graceMs: 1,
      report(_task, _attempt, event) {
        told.push(event);
        heard();
      },
    });
    const next = (): Promise<void> => new Promise((resolve) => heard = resolve);
    const bytes = encodeCommand({ env: {}, outputs: [], platform: [], workingDirectory: "", argv: ["true"] });
    const input = {
      taskId: task,
      command: await writeBlob(blobs, bytes),
      inputRoot: emptyDigest,
      timeoutMs: 9,
      atMs: 0,
    };
    const run = async (attempt: number): Promise<void> => {
      const begun = next();
      effects.run({ ...input, attempt });
      await begun;
      while (wakes.size === 0) await Promise.resolve();
    };
    const over = async (): Promise<void> => {
      const ended = next();
      end.pop()!();
      await ended;
    };

    await run(1);
    await over();
    expect(told.map(({ type }) => type)).toEqual(["attempt.finished"]);
    expect(wakes.size).toBe(0);

    told.length = 0;
    await run(2);
    nowMs = 1_100;
    for (const wake of wakes) wake();
    expect(told).toEqual([{ type: "attempt.started", atMs: 1_000 }]);
    await over();
    expect(told.map(({ type }) => type)).toEqual(["attempt.started", "attempt.finished"]);
  } finally {
    rmSync(top, { recursive: true, force: true });
  }
});

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe("an attempt's command", () => {
  let top: string;
  let source: string;
  let blobs: Blobs;
  let refs: Refs;
  let folders: KeptFolders;
  let runner: Runner;
  let warnings: string[];
  beforeEach(() => {
    top = realpathSync(mkdtempSync(join(tmpdir(), "scoot-actors-effects-")));
    source = join(top, "source");
    mkdirSync(source);
    blobs = memoryBlobs();
    refs = memoryRefs();
    folders = keptFolders({
      refs,
      blobs,
      clock: realClock,
      log: { ...silentLog, warn: (what) => warnings.push(what) },
    });
    runner = processRunner({ dir: join(top, "running"), clock: realClock });
    warnings = [];
  });
  afterEach(async () => {
    await runner.close();
    rmSync(top, { recursive: true, force: true });
  });

  interface Ended {
    readonly ending?: Outcome;
    readonly leavings?: Leavings;
    readonly fault?: FaultData;
    readonly stdout: string;
    readonly stderr: string;
  }
  /** Captures the source folder, runs a command on it as a worker does, and tells what came of it. */
  async function attempt(
    command: Partial<CommandData> & Pick<CommandData, "argv">,
    caches: readonly KeptFolderSpec[] = [],
    more: { readonly memoryBytesMax?: number } = {},
  ): Promise<Ended> {
    const { snapshot: inputRoot } = await capture({ dir: source, blobs, clock: realClock });
    const bytes = encodeCommand({ env: {}, outputs: [], platform: [], workingDirectory: "", ...command });
    const input = {
      taskId: task,
      attempt: 1,
      command: await writeBlob(blobs, bytes),
      inputRoot,
      timeoutMs: 60_000,
      atMs: 0,
      caches,
      ...more,
    };
    const events: AttemptEvent[] = [];
    let next: (event: AttemptEvent) => void = () => {};
    const heard = (...types: string[]): Promise<AttemptEvent> =>
      new Promise((resolve) => {
        next = (event) => types.includes(event.type) ? resolve(event) : undefined;
        events.forEach(next);
      });
    const effects = attemptEffects({
      workerId: workerId("w1"),
      dir: mkdtempSync(join(top, "attempts-")),
      path: process.env["PATH"] ?? "/bin",
      blobs,
      runner,
      clock: realClock,
      log: { ...silentLog, warn: (what) => warnings.push(what) },
      outputBytesMax: 1_000_000,
      graceMs: 1_000,
      keptFolders: folders,
      report(_task, _attempt, event) {
        events.push(event);
        next(event);
      },
    });
    effects.run(input);
    const finished = await heard("attempt.finished", "attempt.failed");
    if (finished.type === "attempt.failed") return { fault: finished.fault, stdout: "", stderr: "" };
    if (finished.type !== "attempt.finished") throw new Error(finished.type);
    const { ending } = finished;
    effects.capture({
      type: "effect.capture",
      to: effectsAddress,
      taskId: task,
      attempt: 1,
      command: input.command,
      ending,
    });
    const captured = await heard("attempt.captured", "attempt.failed");
    if (captured.type !== "attempt.captured") throw new Error(JSON.stringify(captured));
    const text = async (stream: Leavings["stdout"]) =>
      Buffer.from(await readBlob(blobs, stream!.digest, 1e6)).toString();
    const { leavings, fault } = captured;
    return {
      ending,
      leavings,
      ...(fault === undefined ? {} : { fault }),
      stdout: await text(leavings.stdout),
      stderr: await text(leavings.stderr),
    };
  }
  const pathsIn = async (leavings: Leavings | undefined): Promise<string[]> => {
    const paths: string[] = [];
    for await (const { path } of walk(blobs, leavings!.output!)) paths.push(path);
    return paths.sort();
  };

  test("that holds more memory than its task said is ended, and what it used and wrote is kept", async () => {
    const script = "echo begins; { head -c 100000000 /dev/zero; sleep 600; } | tail -c 100000000";
    const { ending, leavings, stdout, fault } = await attempt(
      { argv: ["/bin/sh", "-c", script] },
      [],
      { memoryBytesMax: 50_000_000 },
    );
    expect(fault).toBeUndefined();
    expect(ending).toMatchObject({ kind: "failed", fault: { code: "MEMORY_EXCEEDED" } });
    expect(ending!.kind === "failed" && ending!.fault.message).toMatch(
      /^Cannot finish it as it may hold 50 MB of memory, as its task said it needs: it held \d+ MB$/,
    );
    expect(leavings!.usage!.peakMemoryBytes).toBeGreaterThan(50_000_000);
    expect(stdout).toBe("begins\n");
    expect(parse(outcomeSchema, "an outcome", { ...ending, ...leavings })).toBeDefined();
  });

  test("has exactly the declared environment, PATH, HOME and SOURCE_DATE_EPOCH", async () => {
    const { stdout } = await attempt({ argv: ["env"], env: { A: "1", HOME: "/x" } });
    const told = stdout.trim().split("\n").filter((line) => !line.startsWith("DENO_")); // Deno adds one of its own
    expect(told.sort()).toEqual(
      ["A=1", "HOME=/x", `PATH=${process.env["PATH"]}`, "SOURCE_DATE_EPOCH=1262304000"].sort(),
    );
  });

  test("sees files that were all changed at SOURCE_DATE_EPOCH, its own or the one for all", async () => {
    mkdirSync(join(source, "sub"));
    writeFileSync(join(source, "sub/a"), "");
    const argv = ["stat", "-c", "%Y", ".", "sub", "sub/a"];
    const times = async (env: Record<string, string>) =>
      (await attempt({ argv, env })).stdout.trim().split("\n").slice(1);
    expect(await times({})).toEqual(["1262304000", "1262304000"]);
    expect(await times({ SOURCE_DATE_EPOCH: "1000000000" })).toEqual(["1000000000", "1000000000"]);
    expect(await times({ SOURCE_DATE_EPOCH: "yesterday" })).toEqual(["1262304000", "1262304000"]);
  });

  test("starts in its working folder, with the folders of its outputs, also when no input makes them", async () => {
    const { stdout, leavings, ending } = await attempt({
      argv: [
        "sh",
        "-c",
        "pwd; find . | sort; echo 1 > out/deep/a; echo 2 > dist/b.js; mkdir dist/c; echo 3 > dist/c/d.js",
      ],
      workingDirectory: "sub/folder",
      outputs: ["out/deep/a", "dist/**/*.js"],
    });
    expect(ending).toMatchObject({ kind: "exited", exitCode: 0 });
    expect(stdout).toMatch(/\/sub\/folder\n\.\n\.\/dist\n\.\/out\n\.\/out\/deep\n$/);
    expect(await pathsIn(leavings)).toEqual([
      "dist",
      "dist/b.js",
      "dist/c",
      "dist/c/d.js",
      "out",
      "out/deep",
      "out/deep/a",
    ]);
  });

  test("fails with the outputs that it did not make; of one that failed, what is there is kept", async () => {
    const outputs = ["made", "forgotten", "dist/*.js"];
    const { fault } = await attempt({ argv: ["touch", "made"], outputs });
    expect(fault).toMatchObject({
      code: "OUTPUT_MISSING",
      message: expect.stringMatching(/"forgotten", "dist\/\*\.js" are not there/),
    });
    const failed = await attempt({ argv: ["sh", "-c", "touch made; exit 3"], outputs });
    expect(failed.fault).toBeUndefined();
    expect(failed.ending).toMatchObject({ exitCode: 3 });
    expect(await pathsIn(failed.leavings)).toEqual(["made"]);
  });

  test("is not started when an output or its folder would be outside", async () => {
    symlinkSync("/tmp", join(source, "elsewhere"));
    for (const outputs of [["../x"], ["dist/../../*"], ["elsewhere/x"]]) {
      expect((await attempt({ argv: ["touch", "ran"], outputs })).fault).toMatchObject({ code: "PATH_INVALID" });
    }
    expect((await attempt({ argv: ["pwd"], workingDirectory: "elsewhere" })).fault).toMatchObject({
      code: "PATH_INVALID",
    });
  });

  test("may write the same as one before it: a store that has that reads no file, and none is left open", async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on("uncaughtException", note);
    try {
      for (let i = 0; i < 3; i++) expect((await attempt({ argv: ["echo", "same"] })).stdout).toBe("same\n");
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      process.off("uncaughtException", note);
    }
    expect(unhandled).toEqual([]);
  });

  describe("with a kept folder", () => {
    const kept = [{ path: "target", requestor: "ada", name: "target" }];
    const found = () => folders.find(kept[0]!);
    const lost = digestOfHash("0".repeat(64), 5);
    const rest = { requestor: "ada", name: "target", keptAtMs: 1, bytes: 1 };
    const makefile = [
      "target/prog: target/a.o target/b.o",
      "\tcat $^ > $@; echo link",
      "target/%.o: src/%.c src/all.h",
      "\t@mkdir -p target",
      "\tcat $^ > $@; echo compile $*",
      "",
    ].join("\n");
    const make = async (): Promise<string[]> => {
      const { ending, stdout, stderr, fault } = await attempt(
        { argv: ["make", "-s", "target/prog"], outputs: ["target/prog"] },
        kept,
      );
      expect({ stderr, fault, ending }).toMatchObject({ stderr: "", fault: undefined, ending: { exitCode: 0 } });
      return stdout.trim().split("\n");
    };
    const write = (path: string, text: string): void => {
      mkdirSync(join(source, path, ".."), { recursive: true });
      writeFileSync(join(source, path), text);
    };
    beforeEach(() => {
      write("Makefile", makefile);
      write("src/a.c", "a1\n");
      write("src/b.c", "b1\n");
      write("src/all.h", "h\n");
    });

    test("make makes again what was made of what has changed, and nothing else", async () => {
      expect(await make()).toEqual(["compile a", "compile b", "link"]);
      expect(await make()).toEqual([""]);
      write("src/a.c", "a2\n");
      expect(await make()).toEqual(["compile a", "link"]);
      expect(await make()).toEqual([""]);
      write("src/a.c", "a1\n"); // what it was before is a change, too
      expect(await make()).toEqual(["compile a", "link"]);
      write("src/all.h", "h2\n");
      expect(await make()).toEqual(["compile a", "compile b", "link"]);
    });

    test("a run that fails keeps nothing; what is lost, whole or in part, is made anew", async () => {
      await make();
      const before = await found();
      await attempt({ argv: ["sh", "-c", "echo bad > target/a.o; exit 1"] }, kept);
      expect(await found()).toEqual(before);
      expect(await make()).toEqual([""]);
      const [[ref, value] = []] = await all(refs.list(""));
      await refs.compareAndSet(ref!, value, "{}");
      expect(await make()).toEqual(["compile a", "compile b", "link"]);
      expect(warnings).toEqual([expect.stringContaining("Cannot read a kept folder")]);
      const torn = writeKeptFolder(blobs, {
        content: await writeBlob(
          blobs,
          encodeDirectory([{ kind: "file", name: "a.o", digest: lost, executable: false }]),
        ),
        madeFor: before!.madeFor,
      });
      await refs.compareAndSet(ref!, await refs.get(ref!), JSON.stringify({ snapshot: await torn, ...rest }));
      expect(await make()).toEqual(["compile a", "compile b", "link"]);
      expect(warnings.slice(1)).toEqual([expect.stringContaining("Cannot lay out a kept folder")]);
      expect(await make()).toEqual([""]);
    });

    test("a run that succeeded has succeeded, though there is no room to keep its folder; the next finds the one before", async () => {
      await make();
      const before = await found();
      const whole = folders;
      folders = { ...whole, keep: () => Promise.reject(new Fault("NO_SPACE", "Cannot write: the disk is full")) };
      write("src/a.c", "a2\n");
      expect(await make()).toEqual(["compile a", "link"]);
      expect(warnings).toEqual([expect.stringContaining("Cannot keep a folder")]);
      folders = whole;
      expect(await found()).toEqual(before);
      expect(await make()).toEqual(["compile a", "link"]);
    });

    test("of two runs that end at once one is kept whole, and other names and requestors have their own", async () => {
      const write = (text: string, requestor: string, name: string) =>
        attempt({ argv: ["sh", "-c", `mkdir -p target && echo ${text} | tee target/1 > target/2`] }, [{
          path: "target",
          requestor,
          name,
        }]);
      const read = async (requestor: string, name: string) =>
        (await attempt({ argv: ["sh", "-c", "cat target/* 2>&1 | sort -u"] }, [{ path: "target", requestor, name }]))
          .stdout;
      await Promise.all([
        write("a", "ada", "x"),
        write("b", "ada", "x"),
        write("c", "ada", "y"),
        write("d", "bob", "x"),
      ]);
      expect(["a\n", "b\n"]).toContain(await read("ada", "x"));
      expect(await read("ada", "y")).toBe("c\n");
      expect(await read("bob", "x")).toBe("d\n");
      expect(await read("", "adax")).toContain("No such file");
      expect(warnings).toEqual([]);
    });

    test("keeps nothing that a task has put behind a symlink, and lets it make none at all", async () => {
      await attempt({ argv: ["ln", "-s", "/etc", "target"] }, kept);
      await attempt({ argv: ["true"] }, kept);
      expect(await found()).toBeUndefined();
      const deep = { path: "deep/apt", requestor: "", name: "x" };
      await attempt({ argv: ["sh", "-c", "mkdir -p /dev/null/x 2>&1; ln -s /etc deep"] }, [deep]);
      expect(await folders.find(deep)).toBeUndefined();
    });

    test("a run that cannot begin holds no working folder from then on", async () => {
      const { snapshot: inputRoot } = await capture({ dir: source, blobs, clock: realClock });
      const inUse = new Set<object>();
      let failed = (_: AttemptEvent): void => {};
      const effects = attemptEffects({
        workerId: workerId("w1"),
        dir: mkdtempSync(join(top, "attempts-")),
        path: "/bin",
        blobs,
        runner,
        clock: realClock,
        log: silentLog,
        outputBytesMax: 1_000,
        graceMs: 1_000,
        keptFolders: folders,
        folders: {
          checkout({ dir }) {
            mkdirSync(join(dir, "src"), { recursive: true });
            const laid = { dir };
            inUse.add(laid);
            return Promise.resolve(laid);
          },
          leave: (laid) => Promise.resolve(void inUse.delete(laid)),
          forget: (laid) => void inUse.delete(laid),
          drop() {},
        },
        report: (_task, _attempt, event) => failed(event),
      });
      const bytes = encodeCommand({ env: {}, outputs: [], platform: [], workingDirectory: "", argv: ["true"] });
      const command = await writeBlob(blobs, bytes);
      const caches = [{ path: "src", requestor: "", name: "x" }];
      const event = await new Promise<AttemptEvent>((resolve) => {
        failed = resolve;
        effects.run({ taskId: task, attempt: 1, command, inputRoot, timeoutMs: 1_000, atMs: 0, caches });
      });
      expect(event).toMatchObject({ type: "attempt.failed", fault: { code: "PATH_INVALID" } });
      expect(inUse.size).toBe(1);
      effects.clean(task, 1);
      expect(inUse.size).toBe(0);
    });

    test("refuses one that the inputs have, in the first run already, and one outside", async () => {
      const fault = async (path: string) =>
        (await attempt({ argv: ["true"] }, [{ path, requestor: "", name: "x" }])).fault;
      for (const path of ["src", "src/a.c", "src/a.c/x", "../x", "", "/x"]) {
        expect(await fault(path)).toMatchObject({ code: "PATH_INVALID" });
      }
      expect(existsSync(join(top, "x"))).toBe(false);
      expect(readFileSync(join(source, "src/a.c"), "utf8")).toBe("a1\n");
    });
  });
});
