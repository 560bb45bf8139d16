/** How many results a second the action cache keeps and answers, and how quickly it says that it has none. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { TaskId } from "../src/domain/ids.ts";
import { encodeActionResult } from "../src/protocol/reapi/action_result.ts";
import { realClock } from "../src/runtime/clock.ts";
import { localActions } from "../src/snapshots/actions/local.ts";
import { digestOf, writeBlob } from "../src/snapshots/blobs/blobs.ts";
import { localBlobs } from "../src/snapshots/blobs/local.ts";
import { type Figure, report } from "./report.ts";

const count = 5000;
const lanes = 64;
const dir = await mkdtemp(join(tmpdir(), "scoot-actors-bench-"));
const blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
const actions = localActions({ dir: join(dir, "actions"), blobs, clock: realClock });

const figures: Figure[] = [];
async function perSecond(name: string, atLeast: number, act: (n: number) => Promise<unknown>): Promise<void> {
  const start = performance.now();
  let next = 0;
  await Promise.all(Array.from({ length: lanes }, async () => {
    while (next < count) await act(next++);
  }));
  const value = count / ((performance.now() - start) / 1000);
  figures.push({ name, value, unit: "results/s", target: { atLeast } });
}

try {
  const outputs = await Promise.all([1, 2, 3].map((n) => writeBlob(blobs, Buffer.alloc(4000, n))));
  const result = encodeActionResult({
    outputFiles: outputs.map((digest, n) => ({ path: `out/${n}`, digest, executable: false })),
    outputDirectories: [],
    outputSymlinks: [],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode: 0,
  });
  const keys = Array.from(
    { length: 2 * count },
    (_, n) => ({ instance: "", action: digestOf(Buffer.from(String(n))) }),
  );
  await perSecond(
    "results kept, durable, 64 at a time",
    3000,
    (n) => actions.put(keys[n]!, result, { by: "job", atMs: n, durationMs: 1 }),
  );
  await perSecond(
    "hits with three outputs, looked for each time",
    5000,
    (n) => actions.get(keys[n]!, { usedBy: `j/${n}` as TaskId }),
  );
  await perSecond("misses", 20_000, (n) => actions.get(keys[count + n]!));
  report(figures, process.argv);
} finally {
  await actions.close();
  await blobs.close();
  await rm(dir, { recursive: true, force: true });
}
