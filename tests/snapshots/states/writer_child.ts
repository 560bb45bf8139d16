/**
 * Commits to the store in the folder that it is given as fast as it can, and prints the last seq of each durable commit.
 * The second argument, if any, is when it flushes.
 */
import { writeSync } from "node:fs";
import process from "node:process";
import { realClock } from "../../../src/runtime/clock.ts";
import { localStates } from "../../../src/snapshots/states/local.ts";
import { entry } from "./contract.ts";

const flush = process.argv[3] === "later" ? "later" : "first";
const states = await localStates({ dir: process.argv[2]!, clock: realClock, segmentBytes: 256 * 1024, flush });
let { lastSeq } = await states.bounds();
/** One of three that overlap. */
async function lane(): Promise<void> {
  for (let turn = 0; turn < 100_000; turn++) {
    const entries = Array.from({ length: 1 + (turn % 40) }, () => {
      const seq = ++lastSeq;
      return entry(seq, `task/a/${seq % 97}`, { state: { seq, padding: "p".repeat(seq % 300) } });
    });
    await states.commit(entries);
    writeSync(1, `${entries.at(-1)!.seq}\n`);
    if (turn % 50 === 49) await states.prune({ beforeMs: 0, bytesMax: 2 * 1024 * 1024 });
  }
}
await Promise.all([lane(), lane(), lane()]);
