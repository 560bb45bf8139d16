import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import process from "node:process";
import { root } from "./run_program.ts";

/**
 * What documents promise: a relative link leads to a file of the repository and to a heading that is there; and no text
 * of the repository names a path of the machine where it was written.
 */
const isText = /\.(md|ts|mjs|js|json|proto|html|css|sh|txt)$|^\.ci\/run$/;
/** Folders that exist only where this is developed. Written in pieces, so that this file passes. */
const machinePath = new RegExp(`(^|[^\\w./-])/(${["wo" + "rk/", "ro" + "ot/"].join("|")})`);

/** As GitHub names a heading: lower case, no punctuation, hyphens for blanks. */
const anchorOf = (heading: string): string =>
  heading.trim().toLowerCase().replaceAll(/[`*]/g, "").replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(/\s/g, "-");

const withoutCode = (text: string): string =>
  text.replaceAll(/^(```|~~~)[\s\S]*?^\1/gm, (code) => code.replaceAll(/[^\n]/g, "")).replaceAll(/`[^`\n]*`/g, "");

const anchors = (text: string): ReadonlySet<string> =>
  new Set(
    [...text.replaceAll(/^(```|~~~)[\s\S]*?^\1/gm, "").matchAll(/^#{1,6} +(.*)$/gm)].map(([, heading]) =>
      anchorOf(heading!)
    ),
  );

/** @param files paths from the root. */
export function checkDocs(files: readonly string[]): readonly string[] {
  const problems: string[] = [];
  const known = new Set(files);
  const isThere = (path: string): boolean => known.has(path) || files.some((file) => file.startsWith(`${path}/`));
  for (const path of files) {
    if (!isText.test(path) || !existsSync(join(root, path))) continue;
    const text = readFileSync(join(root, path), "utf8");
    for (const [index, line] of text.split("\n").entries()) {
      const found = machinePath.exec(line);
      if (found !== null) {
        problems.push(`${path}:${index + 1} names a path of one machine: ${line.trim()}`);
      }
    }
    if (!path.endsWith(".md")) continue;
    const prose = withoutCode(text);
    for (const match of prose.matchAll(/\]\(([^)\s]+)[^)]*\)/g)) {
      const link = match[1]!;
      if (/^[a-z]+:/.test(link)) continue;
      const [target, anchor] = link.split("#", 2) as [string, string?];
      const where = `${path}:${prose.slice(0, match.index).split("\n").length}`;
      const linked = target === "" ? path : normalize(join(dirname(path), target)).replace(/\/$/, "");
      if (!isThere(linked)) problems.push(`${where} links to ${link}, which is not there`);
      else if (
        anchor !== undefined && linked.endsWith(".md") && !anchors(readFileSync(join(root, linked), "utf8")).has(anchor)
      ) {
        problems.push(`${where} links to ${link}: ${linked} has no such heading`);
      }
    }
  }
  return problems;
}

if (import.meta.main) {
  const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  })
    .split("\n").filter((path) => path !== "");
  const problems = checkDocs(files);
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
