import { lstatSync, readFileSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import { gitConfigPaths, type GitEnvironment, readGitConfig, withHome } from "./git_config.ts";
import { byteText, type IgnoreRules, parseIgnoreRules } from "./git_ignore.ts";
import { readGitIndex, type Tracked } from "./git_index.ts";

/** What a git working folder says about which of its files count. Read without git. */
export interface GitRepository {
  /** Absolute path of its top folder. */
  readonly top: string;
  /** Read once, when first asked for. @throws {Fault} `CAPTURE_FAILED` for an index that cannot be read. */
  tracked(): Tracked;
  /** Rules for the whole repository: its info/exclude, then the user's own. */
  readonly rules: readonly IgnoreRules[];
  readonly isCaseIgnored: boolean;
}

/** The repository that a folder is in, or undefined. @param dir absolute. */
export function findRepository(dir: string, environment: GitEnvironment): GitRepository | undefined {
  for (let top = dir;; top = dirname(top)) {
    const found = repositoryAt(top, environment);
    if (found !== undefined || top === dirname(top)) return found;
  }
}

/** The repository whose top folder this is, or undefined. @param top absolute. */
export function repositoryAt(top: string, environment: GitEnvironment): GitRepository | undefined {
  const gitDir = gitDirOf(top);
  if (gitDir === undefined) return undefined;
  const common = readText(join(gitDir, "commondir"))?.trim();
  const commonDir = common === undefined ? gitDir : resolve(gitDir, common);
  if (!exists(join(gitDir, "HEAD")) || !exists(join(commonDir, "objects")) || !exists(join(commonDir, "refs"))) {
    return undefined;
  }
  const { HOME: home, XDG_CONFIG_HOME: configHome } = environment;
  const paths = gitConfigPaths(commonDir, environment);
  const config = readGitConfig([...paths, join(gitDir, "config.worktree")], home);
  const isCaseIgnored = config.get("core.ignorecase")?.toLowerCase() === "true";
  const rules: IgnoreRules[] = [];
  const excludesFile = config.get("core.excludesfile");
  const own = excludesFile !== undefined
    ? resolve(top, withHome(excludesFile, home))
    : configHome
    ? join(configHome, "git/ignore")
    : home
    ? join(home, ".config/git/ignore")
    : undefined;
  for (const path of [join(commonDir, "info/exclude"), own]) {
    const read = path === undefined ? undefined : readRules(path, "", isCaseIgnored);
    if (read !== undefined) rules.push(read);
  }
  let tracked: Tracked | undefined;
  return {
    top,
    tracked: () =>
      tracked ??= readGitIndex(join(gitDir, "index"), config.get("extensions.objectformat") === "sha256" ? 32 : 20),
    rules,
    isCaseIgnored,
  };
}

/**
 * The rules of a file, or undefined when it is not there, cannot be read or has none.
 *
 * @param base the folder that they are for, byte text from the repository's top: "" or "src/web/".
 */
export function readRules(path: string, base: string, isCaseIgnored: boolean): IgnoreRules | undefined {
  try {
    const rules = parseIgnoreRules(readFileSync(path), isCaseIgnored);
    return rules.length === 0 ? undefined : { rules, baseLength: base.length };
  } catch {
    return undefined;
  }
}

type RulesFile = ".gitignore" | ".scootignore";

/** The rules of a folder's own file of that name; a symlink does not count. */
export function readFolderRules(
  dir: string,
  base: string,
  isCaseIgnored: boolean,
  name: RulesFile = ".gitignore",
): IgnoreRules | undefined {
  const path = join(dir, name);
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() ? readRules(path, base, isCaseIgnored) : undefined;
}

/** The rules in files of that name in the folders above a folder, up to the repository's top, nearest first. */
export function rulesAbove(repository: GitRepository, dir: string, name: RulesFile): IgnoreRules[] {
  const rules: IgnoreRules[] = [];
  const segments = relative(repository.top, dir).split("/").filter((segment) => segment !== "");
  let folder = repository.top;
  let base = "";
  for (const segment of segments) {
    const read = readFolderRules(folder, base, repository.isCaseIgnored && name === ".gitignore", name);
    if (read !== undefined) rules.unshift(read);
    folder = join(folder, segment);
    base += `${byteText(segment)}/`;
  }
  return rules;
}

/** `.git` is a folder, or in worktrees and submodules a file that says where it is. */
function gitDirOf(top: string): string | undefined {
  const path = join(top, ".git");
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  if (!stat.isFile()) return path;
  const target = /^gitdir: (.*?)[\r\n]*$/s.exec(readText(path) ?? "")?.[1];
  if (target === undefined) return undefined;
  return isAbsolute(target) ? target : join(top, target);
}

const exists = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
