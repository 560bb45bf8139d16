/** Collects everything that may go, and prints a line before and after each removal. */
import process from "node:process";
import { silentLog } from "../../src/observability/log.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { localBlobs } from "../../src/snapshots/blobs/local.ts";
import { createCollector } from "../../src/snapshots/collect.ts";

const [dir = ""] = process.argv.slice(2);
const blobs = localBlobs({ dir, clock: realClock });
const collector = createCollector({
  blobs: {
    ...blobs,
    held: {
      ...blobs.held,
      async remove(keys, beforeMs) {
        console.log("removing");
        const taken = await blobs.held.remove(keys, beforeMs);
        console.log(`removed ${taken.count}`);
        return taken;
      },
    },
  },
  async *roots() {},
  statesBytes: () => 0,
  clock: realClock,
  log: silentLog,
  maxBytes: 1,
});
await collector.collect();
await blobs.close();
