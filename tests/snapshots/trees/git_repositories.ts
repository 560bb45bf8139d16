import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** A folder of its own for one test, removed by the returned function. */
export function temporaryFolder(): { readonly dir: string; readonly remove: () => void } {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), "scoot-trees-")));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Runs the real git, which sees no configuration of this machine's user but what `home` holds. */
export function git(dir: string, args: readonly string[], home = join(dir, "no-home")): string {
  return execFileSync("git", args as string[], {
    cwd: dir,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      HOME: home,
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_AUTHOR_NAME: "t",
      GIT_AUTHOR_EMAIL: "t@t",
      GIT_COMMITTER_NAME: "t",
      GIT_COMMITTER_EMAIL: "t@t",
    },
  });
}

/** What git says belongs to the working folder. */
export const gitFiles = (dir: string, home?: string): string[] =>
  [
    ...new Set(
      git(dir, ["ls-files", "--cached", "--others", "--exclude-standard", "-z"], home).split("\0").filter((path) =>
        path !== ""
      ),
    ),
  ].sort();

/** Writes files, and the folders they are in. */
export function writeTree(dir: string, files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  }
}
