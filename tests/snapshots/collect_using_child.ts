/**
 * Asks for each of the numbered blobs and puts those that are not there, reads them at once, and prints the digest of
 * each: from here on it must stay. Prints "lost" and a digest for one that it could not read.
 */
import process from "node:process";
import { realClock } from "../../src/runtime/clock.ts";
import { digestOf, readBlob } from "../../src/snapshots/blobs/blobs.ts";
import { localBlobs } from "../../src/snapshots/blobs/local.ts";
import { numbered } from "./blobs/numbered.ts";

const [dir = "", from = "0", count = "0", step = "1"] = process.argv.slice(2);
const blobs = localBlobs({ dir, clock: realClock });
let next = Number(from);
let left = Number(count);
await Promise.all(Array.from({ length: 4 }, async () => {
  while (left-- > 0) {
    const n = next;
    next += Number(step);
    const bytes = numbered(n);
    const digest = digestOf(bytes);
    if (n % 3 === 0 || (await blobs.missing(new Set([digest]))).size > 0) await blobs.put(digest, bytes);
    const read = await readBlob(blobs, digest, bytes.length).catch((error: unknown) => error);
    const isWhole = read instanceof Uint8Array && Buffer.compare(read, bytes) === 0;
    console.log(isWhole ? digest : `lost ${digest} ${String(read)}`);
  }
}));
await blobs.close();
