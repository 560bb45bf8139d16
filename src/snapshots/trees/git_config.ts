import { readFileSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";

/** Variables of the user's environment that say where git's own configuration is: HOME, XDG_CONFIG_HOME, GIT_CONFIG_… */
export type GitEnvironment = Readonly<Record<string, string | undefined>>;

const includesMax = 10;

/**
 * Git's configuration as a map from "section.key" and "section.name.key", sections and keys in lower case; the last
 * value counts. Files that are not there count as empty. `include.path` is followed, `includeIf` is not.
 *
 * @param paths from the least to the most telling.
 */
export function readGitConfig(paths: readonly string[], home: string | undefined): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const path of paths) readInto(values, path, home, 0);
  return values;
}

/** Where git looks for a repository's settings, and the user's and system's before. */
export function gitConfigPaths(commonDir: string, environment: GitEnvironment): string[] {
  const { HOME, XDG_CONFIG_HOME, GIT_CONFIG_GLOBAL, GIT_CONFIG_SYSTEM, GIT_CONFIG_NOSYSTEM } = environment;
  const paths: string[] = [];
  if (GIT_CONFIG_NOSYSTEM === undefined) paths.push(GIT_CONFIG_SYSTEM ?? "/etc/gitconfig");
  if (GIT_CONFIG_GLOBAL !== undefined) paths.push(GIT_CONFIG_GLOBAL);
  else {
    if (XDG_CONFIG_HOME) paths.push(join(XDG_CONFIG_HOME, "git/config"));
    else if (HOME) paths.push(join(HOME, ".config/git/config"));
    if (HOME) paths.push(join(HOME, ".gitconfig"));
  }
  paths.push(join(commonDir, "config"));
  return paths;
}

/** `~/x` in the home folder. */
export const withHome = (path: string, home: string | undefined): string =>
  home !== undefined && path.startsWith("~/") ? join(home, path.slice(2)) : path;

function readInto(values: Map<string, string>, path: string, home: string | undefined, depth: number): void {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return; // git, too, goes on without a file that it cannot read
  }
  let section = "";
  // A backslash at the end of a line joins the next to it.
  for (const line of text.replace(/^\ufeff/, "").replace(/\\\r?\n/g, "").split(/\r?\n/)) {
    const header = /^\s*\[\s*([-.\w]+)\s*(?:"((?:[^"\\]|\\.)*)")?\s*\]/.exec(line);
    if (header !== null) {
      section = header[1]!.toLowerCase();
      if (header[2] !== undefined) section += `.${header[2].replace(/\\(.)/g, "$1")}`;
    }
    const setting = /^\s*([a-zA-Z][-\w]*)\s*(?:=\s*(.*))?$/.exec(header === null ? line : line.slice(header[0].length));
    if (setting === null) continue;
    const key = `${section}.${setting[1]!.toLowerCase()}`;
    const value = setting[2] === undefined ? "true" : valueOf(setting[2]);
    if (key !== "include.path") values.set(key, value);
    else if (depth < includesMax) {
      const included = withHome(value, home);
      readInto(values, isAbsolute(included) ? included : join(dirname(path), included), home, depth + 1);
    }
  }
}

/** A value without its quotes, escapes, comment and the spaces at its end. */
function valueOf(text: string): string {
  const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", b: "\b" };
  let value = "";
  let end = 0;
  let isQuoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (char === '"') {
      isQuoted = !isQuoted;
      end = value.length;
    } else if (!isQuoted && (char === "#" || char === ";")) break;
    else {
      if (char === "\\" && i + 1 < text.length) {
        i++;
        value += escapes[text[i]!] ?? text[i]!;
        end = value.length;
      } else {
        value += char;
        if (isQuoted || !/\s/.test(char)) end = value.length;
      }
    }
  }
  return value.slice(0, end);
}
