import { describe, expect, expectTypeOf, test } from "vitest";
import { didYouMean, duration, list, parseLine, text, textOf, toggle, whole } from "../../src/cli/flags.ts";

const table = {
  dir: text("PATH", "a folder"),
  timeout: textOf("TIME", "how long", duration(86_400_000)),
  retries: textOf("N", "how often", whole(0, 20)),
  env: list("K=V", "variables"),
  follow: toggle("stay", "f"),
} as const;
const parse = (...line: string[]) => parseLine("run", table, line);

describe("parseLine()", () => {
  test("reads flags of every kind, words, and what follows --", () => {
    const { flags, words, rest } = parse(
      "a",
      "--dir",
      "x",
      "--env",
      "A=1",
      "--env=B=2",
      "-f",
      "b",
      "--timeout",
      "1h30m",
      "--",
      "-x",
      "--",
      "y",
    );
    expect(flags).toEqual({ dir: "x", env: ["A=1", "B=2"], follow: true, timeout: 5_400_000, retries: undefined });
    expect(words).toEqual(["a", "b"]);
    expect(rest).toEqual(["-x", "--", "y"]);
    expectTypeOf(flags.timeout).toEqualTypeOf<number | undefined>();
    expectTypeOf(flags.env).toEqualTypeOf<readonly string[]>();
    expectTypeOf(flags.follow).toEqualTypeOf<boolean>();
  });

  test("gives what was not typed as nothing, an empty list, or off", () => {
    const { flags, words, rest } = parse();
    expect(flags).toEqual({ dir: undefined, env: [], follow: false, timeout: undefined, retries: undefined });
    expect(words).toEqual([]);
    expect(rest).toBeUndefined();
  });

  test("tells nothing after -- from no --", () => {
    expect(parse("--").rest).toEqual([]);
  });

  test.each([
    [["--dri", "x"], 'Cannot read --dri: run has no such flag. Did you mean "--dir"?'],
    [["--zebra"], 'Cannot read --zebra: run has no such flag; "scoot-actors help run" lists those it has'],
    [["-z"], 'Cannot read -z: run has no such flag; "scoot-actors help run" lists those it has'],
    [["--__proto__=1"], 'Cannot read --__proto__: run has no such flag; "scoot-actors help run" lists those it has'],
    [["--dir"], "Cannot read --dir as it must be followed by PATH"],
    [
      ["--dir", "--env"],
      'Cannot read --dir as it must be followed by PATH: current value is "--env"; one that starts with a dash is written --dir=--env',
    ],
    [["--follow=1"], 'Cannot read --follow as it must stand alone: current value is "1"'],
    [["--retries", "21"], 'Cannot read --retries as it must be a whole number from 0 to 20: current value is "21"'],
    [["--retries", "1e1"], 'Cannot read --retries as it must be a whole number from 0 to 20: current value is "1e1"'],
    [
      ["--timeout", "30"],
      'Cannot read --timeout as it must be a time such as 30s, 5m or 1h30m, at most 1d: current value is "30"',
    ],
    [
      ["--timeout", "2d"],
      'Cannot read --timeout as it must be a time such as 30s, 5m or 1h30m, at most 1d: current value is "2d"',
    ],
    [
      ["--timeout", "0s"],
      'Cannot read --timeout as it must be a time such as 30s, 5m or 1h30m, at most 1d: current value is "0s"',
    ],
  ])("refuses %j in one sentence", (line, sentence) => {
    expect(() => parse(...line)).toThrow(expect.objectContaining({ code: "USAGE_INVALID", message: sentence }));
  });

  test("takes a value that starts with a dash after an equals sign", () => {
    expect(parse("--dir=-x").flags.dir).toBe("-x");
    expect(parse("--dir", "-").flags.dir).toBe("-");
  });
});

test("duration() reads sums of parts and rounds up to whole milliseconds", () => {
  const read = duration(Number.MAX_SAFE_INTEGER);
  expect(read("500ms", "it")).toBe(500);
  expect(read("1.5s", "it")).toBe(1_500);
  expect(read("1d2h3m4s5ms", "it")).toBe(93_784_005);
  expect(read("0.1ms", "it")).toBe(1);
});

describe("didYouMean()", () => {
  test("offers what is near, or the only word that begins so", () => {
    expect(didYouMean("clutser", ["cluster", "run"])).toBe('. Did you mean "cluster"?');
    expect(didYouMean("snap", ["snapshot", "stop"])).toBe('. Did you mean "snapshot"?');
  });
  test("is silent when nothing is near", () => {
    expect(didYouMean("zzzzz", ["cluster", "run"])).toBe("");
    expect(didYouMean("x", ["cd"])).toBe("");
    expect(didYouMean("x", [])).toBe("");
  });
});
