import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { attemptEffects, placesOf } from "../../src/actors/attempt_effects.ts";
import { jobId, taskId } from "../../src/domain/ids.ts";
import { silentLog } from "../../src/observability/log.ts";
import { simulatedRunner } from "../../src/runner/simulated.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { memoryBlobs } from "../../src/snapshots/blobs/memory.ts";
import { asOrdinaryUser } from "../support/machine.ts";

const task = taskId(jobId("j0123456789-000000"), 0);

test("what a task left is removed, also folders that are closed, by clean() and by the next start", async () => {
  const parent = mkdtempSync(join(tmpdir(), "scoot-actors-effects-"));
  chmodSync(parent, 0o777);
  try {
    await asOrdinaryUser(() => {
      const dir = join(parent, "attempts");
      const start = () =>
        attemptEffects({
          dir,
          path: "/bin",
          blobs: memoryBlobs(),
          runner: simulatedRunner({ clock: realClock }),
          clock: realClock,
          log: silentLog,
          outputBytesMax: 1,
          graceMs: 1,
          report: () => {},
        });
      const leave = (attempt: number): string => {
        const { root } = placesOf(dir, task, attempt);
        const closed = join(root, "cache", "module");
        mkdirSync(closed, { recursive: true });
        writeFileSync(join(closed, "file"), "x");
        chmodSync(closed, 0o555);
        chmodSync(join(root, "cache"), 0);
        return placesOf(dir, task, attempt).dir;
      };
      const effects = start();
      const first = leave(1);
      effects.clean(task, 1);
      expect(existsSync(first)).toBe(false);
      const second = leave(2);
      start();
      expect(existsSync(second)).toBe(false);
      return Promise.resolve();
    });
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
});
