/** Puts results into a cache until it is killed, and prints the number of each once it is acknowledged. */
import { writeSync } from "node:fs";
import { realClock } from "../../../src/runtime/clock.ts";
import { localActions } from "../../../src/snapshots/actions/local.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { keyOf, made, resultOf } from "./results.ts";

const [dir = "", from = "0"] = process.argv.slice(2);
const cache = localActions({ dir, blobs: memoryBlobs(), clock: realClock });
for (let n = Number(from);; n++) {
  await cache.put(keyOf(n), resultOf(), made(n));
  writeSync(1, `${n}\n`);
}
