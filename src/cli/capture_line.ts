import type { RevisionReport } from "../snapshots/trees/capture_revision.ts";
import type { CaptureReport } from "../snapshots/trees/tree.ts";
import { count, plain, size, span, thousands } from "./render.ts";

const namesMax = 6;

/** The one line that says what was sent and left out, and others for what its user should know. */
export function captureLines(report: CaptureReport): string {
  const lines = [`captured ${captured(report)}, in ${span(report.tookMs)}${leftOut(report)}`];
  const { changedWhileRead, privateKeys, collisions } = report;
  if (privateKeys.length > 0) {
    lines.push(
      `private keys were left out: ${names(privateKeys, privateKeys.length)}; --include takes one all the same`,
    );
  }
  for (const [one, other] of collisions) {
    lines.push(`${plain(one)} and ${plain(other)} are one file where case or the form of letters does not count`);
  }
  if (changedWhileRead.length > 0) {
    lines.push(
      `${count(changedWhileRead.length, "file")} changed while being read; each is whole as it was at one moment: ${
        names(changedWhileRead, changedWhileRead.length)
      }`,
    );
  }
  return lines.map((line) => `scoot-actors: ${line}\n`).join("");
}

/** The same of a commit. */
export const revisionLine = (revision: string, report: RevisionReport, tookMs: number): string =>
  `scoot-actors: captured ${plain(revision)}: ${captured(report)}, in ${span(tookMs)}${
    report.leftOutCount === 0 ? "" : `; left out as submodules: ${names(report.leftOut, report.leftOutCount)}`
  }\n`;

function captured({ files, bytes, sentFiles, sentBytes }: CaptureReport | RevisionReport): string {
  const sent = sentBytes === 0 ? "nothing of it new" : sentFiles === 0
    ? "no file new" // but names, folders, execute bits
    : sentFiles === files
    ? "all of it new"
    : `${count(sentFiles, "file")} new (${size(sentBytes)})`;
  return `${count(files, "file")} (${size(bytes)}), ${sent}`;
}

const leftOut = (report: CaptureReport): string =>
  report.leftOutCount === 0 ? "" : `; left out: ${names(report.leftOut, report.leftOutCount)}`;

function names(some: readonly string[], total: number): string {
  const shown = some.slice(0, namesMax);
  const more = total - shown.length;
  return shown.map(plain).join(", ") + (more > 0 ? ` and ${thousands(more)} more` : "");
}
