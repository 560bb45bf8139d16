import { link, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { Fault } from "../../domain/fault.ts";
import { randomHex } from "../../runtime/random.ts";

export interface StoreLock {
  release(): Promise<void>;
}

/**
 * A process and its start time, which together never name another one: ids are used again after a restart, and soon
 * in a container. Without /proc the id alone.
 */
function processName(pid: number): string | undefined {
  try {
    // Fields after the name in brackets, which may hold anything; the 22nd of all is the start time in ticks.
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    return `${pid} ${boot} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    try {
      process.kill(pid, 0);
      return `${pid}`;
    } catch (error) {
      return (error as { code?: string }).code === "EPERM" ? `${pid}` : undefined;
    }
  }
}

/**
 * Makes this process the only writer of a folder, by a file `lock` that names it. One that a dead process left is
 * taken over. For processes of one machine.
 *
 * @throws {Fault} `STORE_LOCKED` with the id of the process that holds it.
 */
export async function lockStore(dir: string): Promise<StoreLock> {
  await mkdir(dir, { recursive: true });
  const path = join(dir, "lock");
  const mine = join(dir, `lock.${process.pid}.${randomHex(4)}`);
  await writeFile(mine, `${processName(process.pid)}\n`, { flag: "wx" });
  try {
    for (;;) {
      // A link appears with its content or not at all.
      const made = await link(mine, path).then(() => true, (error) => {
        if (error.code === "EEXIST") return false;
        throw error;
      });
      if (made) return { release: () => rm(path, { force: true }) };
      const holder = await readFile(path, "latin1").catch(() => undefined);
      if (holder === undefined) continue;
      const pid = Number.parseInt(holder, 10);
      if (Number.isInteger(pid) && processName(pid) === holder.trim()) throw locked(dir, pid);
      // Whoever renames it first takes it away; if that was a lock taken meanwhile, it is put back.
      const stale = `${mine}.stale`;
      const moved = await rename(path, stale).then(() => true, () => false);
      if (!moved) continue;
      if ((await readFile(stale, "latin1")) !== holder) await link(stale, path).catch(() => undefined);
      await rm(stale, { force: true });
    }
  } finally {
    await rm(mine, { force: true });
  }
}

const locked = (dir: string, pid: number): Fault =>
  new Fault(
    "STORE_LOCKED",
    `Cannot open ${dir} for writing as one process may write it: it is open in process ${pid}`,
  );
