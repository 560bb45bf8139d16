import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

/** Names for files that are written beside and renamed; a file whose process is gone can be told by its name. */
export interface TemporaryFiles {
  /** A path that no file has, "<pid>.<start time>.<count>" in the folder. */
  next(): string;
}

/** Counts over all stores of this process, so that two that were opened on one folder do not meet. */
let count = 0;

/** Takes the folder, which must exist, in use, and removes what dead processes left in it. */
export function temporaryFiles(dir: string): TemporaryFiles {
  const own = `${process.pid}.${startOf(process.pid) ?? "0"}`;
  for (const name of readdirSync(dir)) {
    const [pid = "", start = ""] = name.split(".");
    const running = startOf(Number(pid));
    if (running === undefined || running !== start) rmSync(join(dir, name), { force: true });
  }
  return { next: () => join(dir, `${own}.${count++}`) };
}

/** When a process started, so that a number used again is another process; "0" where the system does not tell. */
function startOf(pid: number): string | undefined {
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return undefined;
  }
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "0"; // proc(5): field 22, starttime
  } catch {
    return "0";
  }
}
