import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { jobId } from "../../src/domain/ids.ts";
import { submittedJob, typeTo } from "./command_line.ts";
import { clientOf, clusterOfTest } from "./support.ts";

/** Holds 100 MB until it is told to go on, or for a while. */
const script = "{ head -c 100000000 /dev/zero; sleep 2; } | tail -c 100000000 > /dev/null; echo done";

test("run --memory: what holds more is ended and goes on with more, and the next of its kind shows what it was expected to take", async () => {
  const cluster = await clusterOfTest(["--workers", "2", "--slots", "1"]);
  const client = clientOf(cluster);
  const dir = mkdtempSync(join(tmpdir(), "scoot-memory-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const line = (memory: string) => [
    ...["run", "--json", "--no-cache", "--name", "hog", "--memory", memory],
    ...["--", "sh", "-c", script],
  ];

  const first = await typeTo(cluster, dir, line("60M"));
  expect(first.code).toBe(0);
  const { tasks: [ran] } = await client.job(jobId(submittedJob(first)));
  expect(ran!.attempts.map(({ reason }) => reason)).toEqual(["first", "memory"]);
  expect(ran!.attempts[0]!.ended).toMatch(/may hold 60 MB of memory, .*: it held \d+ MB$/);
  expect(ran!.outcome).toMatchObject({ kind: "exited", exitCode: 0 });
  const { usage } = ran!.outcome as { usage: { peakMemoryBytes: number } };
  expect(usage.peakMemoryBytes).toBeGreaterThan(100e6);

  const second = await typeTo(cluster, dir, line("500M"));
  const { tasks: [again] } = await client.job(jobId(submittedJob(second)));
  expect(again!.attempts).toHaveLength(1);
  expect(again!.estimate!.peakMemoryBytes).toBe(usage.peakMemoryBytes);
  expect(again!.why).toMatch(/It held \d+ MB and took .* of processor time; tasks like it had taken .* s and \d+ MB\./);
});
