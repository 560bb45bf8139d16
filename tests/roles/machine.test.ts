import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeDataDir, readOrMakeToken } from "../../src/roles/machine.ts";

function inFolder(work: (dir: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), "scoot-actors-token-"));
  try {
    work(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test("the token is made once, for its user alone, and nothing lies beside it", () => {
  inFolder((dir) => {
    const path = join(dir, "data", "token");
    const token = readOrMakeToken(path);
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    expect(readOrMakeToken(path)).toBe(token);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(dir, "data"))).toEqual(["token"]);
  });
});

test("a token that is empty or could be guessed is refused, and its file named; a long one of one's own is taken", () => {
  inFolder((dir) => {
    const path = join(dir, "token");
    for (const short of ["\n", "hunter2\n", "x".repeat(31)]) {
      writeFileSync(path, short);
      expect(() => readOrMakeToken(path)).toThrow(
        `Cannot use the token in ${path} as it must have at least 32 characters`,
      );
    }
    writeFileSync(path, `${"x".repeat(32)}\n`);
    expect(readOrMakeToken(path)).toBe("x".repeat(32));
  });
});

test("a data folder is made with those above it, for its user alone; what is there is left as it is", () => {
  inFolder((dir) => {
    const data = join(dir, "a b", "c", "data");
    makeDataDir(data);
    makeDataDir(data);
    for (const each of [data, join(data, "..")]) expect(statSync(each).mode & 0o777).toBe(0o700);
    expect(readdirSync(data)).toEqual([]);
  });
});

test("a data folder that cannot be made is named at once, with what the system says", () => {
  inFolder((dir) => {
    const file = join(dir, "file");
    writeFileSync(file, "");
    // Under /proc a recursive mkdir of Node never returns.
    for (const path of ["/proc/nowhere/of/it", file, join(file, "data")]) {
      expect(() => makeDataDir(path)).toThrow(`Cannot use ${path} as the data folder: `);
    }
  });
});
