import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readOrMakeToken } from "../../src/roles/machine.ts";

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

test("an empty token opens nothing: it is refused, and its file named", () => {
  inFolder((dir) => {
    const path = join(dir, "token");
    writeFileSync(path, "\n");
    expect(() => readOrMakeToken(path)).toThrow(`Cannot use the token in ${path} as it must not be empty`);
  });
});
