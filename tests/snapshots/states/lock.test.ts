import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { lockStore } from "../../../src/snapshots/states/lock.ts";

/** What the system says of a process: its state, and so on. */
function fieldsOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}
/** As the lock's file has it. */
const nameOf = (pid: number): string =>
  `${pid} ${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()} ${fieldsOf(pid)[19]}`;

test("a lock of a process that is dead and that nobody has waited for is superseded; of one that lives, it holds", async () => {
  const dir = mkdtempSync(join(tmpdir(), "scoot-actors-lock-"));
  // The sleep stays where the shell was, and never waits for the child that the shell has left behind.
  const parent = spawn("sh", ["-c", "sleep 600 & echo $!; exec sleep 600"], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    const child = await new Promise<number>((resolve) => parent.stdout.once("data", (text) => resolve(Number(text))));
    writeFileSync(join(dir, "lock.1"), `${nameOf(child)}\n`);
    await expect(lockStore(dir)).rejects.toMatchObject({ code: "STORE_LOCKED" });
    process.kill(child, "SIGKILL");
    await expect.poll(() => fieldsOf(child)[0]).toBe("Z");
    const lock = await lockStore(dir);
    expect(readdirSync(dir)).toEqual(["lock.2"]);
    await lock.release();
  } finally {
    process.kill(parent.pid!, "SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
});
