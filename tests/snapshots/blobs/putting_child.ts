/**
 * Puts blobs into a store until it is killed or has put so many, and prints the digest of each once it is acknowledged.
 * Every tenth is large.
 */
import { realClock } from "../../../src/runtime/clock.ts";
import { digestOf } from "../../../src/snapshots/blobs/blobs.ts";
import { localBlobs } from "../../../src/snapshots/blobs/local.ts";
import { numbered } from "./numbered.ts";

const [dir = "", from = "0", count = "0"] = process.argv.slice(2);
const blobs = localBlobs({ dir, clock: realClock });
let next = Number(from);
const end = next + Number(count);
await Promise.all(Array.from({ length: 8 }, async () => {
  while (next < end) {
    const bytes = numbered(next++);
    const digest = digestOf(bytes);
    await blobs.put(digest, bytes);
    console.log(digest);
  }
}));
await blobs.close();
