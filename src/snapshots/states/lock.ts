import { readFileSync } from "node:fs";
import { link, mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { Fault } from "../../domain/fault.ts";
import { randomHex } from "../../runtime/random.ts";

export interface StoreLock {
  release(): Promise<void>;
}

/**
 * A process with its start time, which together never name another one: ids are used again after a restart, and soon
 * in a container. Without /proc the id alone. Undefined when there is no such process.
 */
function processName(pid: number): string | undefined {
  try {
    // Fields after the name in brackets, which may hold anything; the 22nd of all is the start time in ticks.
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // Dead, though whoever started it has not asked how it ended; in a container nobody may ever do so.
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    return `${pid} ${boot} ${fields[19]}`;
  } catch {
    try {
      process.kill(pid, 0);
      return `${pid}`;
    } catch (error) {
      return (error as { code?: string }).code === "EPERM" ? `${pid}` : undefined;
    }
  }
}

const pattern = /^lock\.([1-9][0-9]{0,14})$/;

/**
 * Makes this process the only writer of a folder; for processes of one machine. The holder is whom the file `lock.<n>`
 * with the highest number names; an empty one, or one whose process is dead, is superseded by the next number. Of many
 * that try, one creates that file, and a file is removed only once it is superseded: so whoever created one and sees
 * none higher holds the lock.
 *
 * @throws {Fault} `STORE_LOCKED` with the id of the process that holds it.
 */
export async function lockStore(dir: string): Promise<StoreLock> {
  await mkdir(dir, { recursive: true });
  const numbers = async (): Promise<number[]> =>
    (await readdir(dir)).map((name) => Number(pattern.exec(name)?.[1] ?? 0)).sort((a, b) => a - b);
  const pathOf = (number: number): string => join(dir, `lock.${number}`);
  const mine = join(dir, `lock-of-${process.pid}-${randomHex(4)}`);
  await writeFile(mine, `${processName(process.pid)}\n`, { flag: "wx" });
  try {
    for (;;) {
      const last = (await numbers()).at(-1) ?? 0;
      if (last > 0) {
        const holder = await readFile(pathOf(last), "latin1").catch(() => undefined);
        if (holder === undefined) continue;
        const pid = Number.parseInt(holder, 10);
        if (Number.isInteger(pid) && processName(pid) === holder.trim()) throw locked(dir, pid);
      }
      const number = last + 1;
      // A link appears with its content or not at all.
      if (!(await link(mine, pathOf(number)).then(() => true, isThere))) continue;
      const all = await numbers();
      if (all.at(-1)! > number) {
        await rm(pathOf(number), { force: true });
        continue;
      }
      for (const old of all) if (old > 0 && old < number) await rm(pathOf(old), { force: true });
      return { release: () => truncate(pathOf(number), 0) };
    }
  } finally {
    await rm(mine, { force: true });
  }
}

function isThere(error: { readonly code?: string }): false {
  if (error.code === "EEXIST") return false;
  throw error;
}

const locked = (dir: string, pid: number): Fault =>
  new Fault(
    "STORE_LOCKED",
    `Cannot open ${dir} for writing as one process may write it: it is open in process ${pid}`,
  );
