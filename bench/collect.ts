/** How long it takes to bring a store of 100,000 blobs into its budget, what it costs others meanwhile, and to look. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Digest } from "../src/domain/digest.ts";
import { encodeDirectory } from "../src/protocol/reapi/canonical.ts";
import { silentLog } from "../src/observability/log.ts";
import { realClock } from "../src/runtime/clock.ts";
import { digestOf, writeBlob } from "../src/snapshots/blobs/blobs.ts";
import { localBlobs } from "../src/snapshots/blobs/local.ts";
import { createCollector } from "../src/snapshots/collect.ts";
import { type Figure, report } from "./report.ts";

const count = 100_000;
const blobBytes = 1500;
const filesPerFolder = 50;
const dir = await mkdtemp(join(tmpdir(), "scoot-actors-bench-"));
let aheadMs = 0;
const clock = { ...realClock, now: () => realClock.now() + aheadMs };
const blobs = localBlobs({ dir, clock });

const figures: Figure[] = [];
async function measured<Answer>(name: string, atMost: number, act: () => Promise<Answer>): Promise<Answer> {
  const start = performance.now();
  const answer = await act();
  figures.push({ name, value: (performance.now() - start) / 1000, unit: "s", target: { atMost } });
  return answer;
}

try {
  const digests: Digest[] = [];
  for (let n = 0; n < count; n += 5000) {
    digests.push(
      ...await Promise.all(Array.from({ length: 5000 }, async (_, at) => {
        const bytes = Buffer.alloc(blobBytes, `${n + at} `);
        const digest = digestOf(bytes);
        await blobs.put(digest, bytes);
        return digest;
      })),
    );
  }
  const folders: Digest[] = [];
  for (let n = 0; n < count / 2; n += filesPerFolder) {
    const nodes = digests.slice(n, n + filesPerFolder)
      .map((digest, at) => ({ kind: "file", name: String(at), digest, executable: false } as const));
    folders.push(await writeBlob(blobs, encodeDirectory(nodes)));
  }
  const top = await writeBlob(
    blobs,
    encodeDirectory(folders.map((digest, n) => ({ kind: "directory", name: String(n), digest }))),
  );
  const collector = createCollector({
    blobs,
    async *roots() {
      yield await Promise.resolve({ digest: top, kind: "tree", why: "named" } as const);
    },
    statesBytes: () => 0,
    clock,
    log: silentLog,
    maxBytes: 1,
  });
  aheadMs = 3 * 3600_000;

  const start = performance.now();
  for (let n = 0; n < 1000; n++) collector.df();
  figures.push({
    name: "how much there is",
    value: performance.now() - start,
    unit: "µs",
    target: { atMost: 200 },
  });
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await measured(
    "what would go of 100,000 blobs, half of them in a named tree",
    3,
    () => collector.collect({ dryRun: true }),
  );
  const { goes } = await measured("removing 50,000 blobs of 100,000", 10, () => collector.collect());
  delay.disable();
  if (goes.count !== count / 2) throw new Error(`${goes.count} went`);
  figures.push({
    name: "others wait meanwhile, in 99 of 100 cases at most",
    value: delay.percentile(99) / 1e6,
    unit: "ms",
    target: { atMost: 50 },
  });
  report(figures, process.argv);
} finally {
  await blobs.close();
  await rm(dir, { recursive: true, force: true });
}
