import { describe, expect, test } from "vitest";
import { captureLines } from "../../src/cli/capture_line.ts";
import { progressBar } from "../../src/cli/progress.ts";
import { count, lookOf, outcomeText, paint, plain, size, span, table } from "../../src/cli/render.ts";
import { emptyDigest } from "../../src/domain/digest.ts";
import { taskId } from "../../src/domain/ids.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { fakeJobId, fakeSink } from "./fakes.ts";

test.each([
  [0, "0 ms"],
  [850, "850 ms"],
  [1_240, "1.2 s"],
  [59_940, "59.9 s"],
  [59_960, "1 min"],
  [185_000, "3 min 5 s"],
  [7_800_000, "2 h 10 min"],
  [273_600_000, "3 d 4 h"],
])("span(%d) is %s", (ms, text) => {
  expect(span(ms)).toBe(text);
});

test("size() and count() are for people", () => {
  expect(size(0)).toBe("0 B");
  expect(size(3_400_000)).toBe("3.4 MB");
  expect(count(1, "file")).toBe("1 file");
  expect(count(20_000, "file")).toBe("20,000 files");
});

describe("lookOf()", () => {
  const look = (isTerminal: boolean, env: Record<string, string>) =>
    lookOf({ stdout: fakeSink({ isTerminal, columns: 100 }), env });
  test("paints on a terminal only, and not under NO_COLOR or on a dumb one", () => {
    expect(look(true, {}).colours).toBe(true);
    expect(look(true, { NO_COLOR: "" }).colours).toBe(true);
    expect(look(true, { NO_COLOR: "1" }).colours).toBe(false);
    expect(look(true, { TERM: "dumb" }).colours).toBe(false);
    expect(look(false, {}).colours).toBe(false);
    expect(paint(look(false, {}), "red", "x")).toBe("x");
  });
  test("cuts lines for a terminal, never for a pipe", () => {
    expect(look(true, {}).columns).toBe(100);
    expect(look(false, {}).columns).toBe(Number.POSITIVE_INFINITY);
  });
});

test("plain() takes the power over the terminal out of text", () => {
  expect(plain("a\u001b[31mb\n\u202ec")).toBe("a\\u001b[31mb\\u000a\\u202ec");
  expect(plain("größe 大 ok")).toBe("größe 大 ok");
});

describe("table()", () => {
  test("aligns columns by what is seen, painted or not", () => {
    const look = { colours: true, columns: 80 };
    const text = table(look, ["A", "B"], [[paint(look, "red", "xx"), "1"], ["yyyy", "2"]]);
    // deno-lint-ignore no-control-regex
    expect(text.replace(/\u001b\[\d+m/g, "")).toBe("A     B\nxx    1\nyyyy  2\n");
  });
  test("cuts the last column at the edge of a terminal", () => {
    expect(table({ colours: false, columns: 20 }, ["A", "WHY"], [["x", "a very long reason indeed"]])).toBe(
      "A  WHY\nx  a very long reas…\n",
    );
  });
});

test("outcomeText() says each end", () => {
  expect(outcomeText({ kind: "exited", exitCode: 3 })).toBe("exited 3");
  expect(outcomeText({ kind: "exited", exitCode: 137, signal: "SIGKILL" })).toBe("ended by SIGKILL");
  expect(outcomeText({ kind: "timedOut", timeoutMs: 30_000 })).toBe("timed out after 30.0 s");
  expect(outcomeText({ kind: "killed", reason: "wrong" })).toBe("killed: wrong");
  expect(outcomeText({ kind: "skipped", because: taskId(fakeJobId, 0), reason: "build failed" })).toBe(
    "skipped: build failed",
  );
  expect(outcomeText({ kind: "failed", fault: { code: "NO_SPACE", message: "the disk is full" } })).toBe(
    "failed by us: the disk is full",
  );
});

describe("captureLines()", () => {
  const report = {
    snapshot: emptyDigest,
    files: 340,
    bytes: 12_000_000,
    sentFiles: 12,
    sentBytes: 3_400_000,
    leftOut: [".git", "node_modules"],
    leftOutCount: 2,
    privateKeys: [],
    collisions: [],
    changedWhileRead: [],
    tookMs: 85,
  };
  test("say what was sent and left out in one line", () => {
    expect(captureLines(report)).toBe(
      "scoot-actors: captured 340 files (12 MB), 12 files new (3.4 MB), in 85 ms; left out: .git, node_modules\n",
    );
    expect(captureLines({ ...report, sentFiles: 0, sentBytes: 0, leftOut: [], leftOutCount: 0 }))
      .toBe("scoot-actors: captured 340 files (12 MB), nothing of it new, in 85 ms\n");
    expect(
      captureLines({ ...report, sentFiles: 340, leftOut: ["a", "b", "c", "d", "e", "f", "g"], leftOutCount: 1_234 }),
    )
      .toBe(
        "scoot-actors: captured 340 files (12 MB), all of it new, in 85 ms; left out: a, b, c, d, e, f and 1,228 more\n",
      );
  });
  test("name private keys that stayed here, and names that are one elsewhere", () => {
    const { length, ...lines } = captureLines({
      ...report,
      privateKeys: ["id_rsa", "tls/server.key"],
      collisions: [["Readme", "README"]],
    }).split("\n");
    expect(length).toBe(4);
    expect(lines[1]).toBe(
      "scoot-actors: private keys were left out: id_rsa, tls/server.key; --include takes one all the same",
    );
    expect(lines[2]).toBe(
      "scoot-actors: Readme and README are one file where case or the form of letters does not count",
    );
  });
  test("tell of files that changed meanwhile, without their power over the terminal", () => {
    expect(captureLines({ ...report, changedWhileRead: ["log\u001b[2J"] }).split("\n")[1])
      .toBe("scoot-actors: 1 file changed while being read; each is whole as it was at one moment: log\\u001b[2J");
  });
});

describe("progressBar()", () => {
  test("shows nothing where there is no terminal", async () => {
    const stderr = fakeSink();
    const clock = manualClock();
    const bar = progressBar({ stderr, clock }, "Capturing");
    await clock.advance(1_000);
    bar.update({ files: 1, bytes: 1 });
    await bar.clear();
    expect(stderr.text()).toBe("");
  });
  test("shows nothing of what is done at once", async () => {
    const stderr = fakeSink({ isTerminal: true });
    const bar = progressBar({ stderr, clock: manualClock() }, "Capturing");
    bar.update({ files: 1, bytes: 1 });
    await bar.clear();
    expect(stderr.text()).toBe("");
  });
  test("moves within the line ten times a second at most, and leaves it empty", async () => {
    const stderr = fakeSink({ isTerminal: true, columns: 80 });
    const clock = manualClock();
    const bar = progressBar({ stderr, clock }, "Capturing");
    for (let files = 0; files < 3_000; files++) {
      if (files % 10 === 0) await clock.advance(1);
      bar.update({ files, bytes: files * 1_000 });
    }
    await bar.clear();
    const shown = stderr.text().split("\r").slice(1);
    expect(shown).toHaveLength(4);
    expect(shown[0]).toMatch(/^Capturing \[ █████ {14}\] 990 files, 990 kB, 100 ms/);
    for (const line of shown) expect(line.length).toBeLessThan(80 + 3);
    expect(shown.at(-1)).toBe("\u001b[K");
  });
});
