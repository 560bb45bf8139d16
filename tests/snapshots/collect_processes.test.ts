import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type Digest, digestOfHash } from "../../src/domain/digest.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { digestOf, readBlob } from "../../src/snapshots/blobs/blobs.ts";
import { numbered } from "./blobs/numbered.ts";
import { type LocalBlobs, localBlobs, type LocalBlobsOptions } from "../../src/snapshots/blobs/local.ts";
import { startChild } from "./child.ts";
import { temporaryFolder } from "./temporary_folder.ts";

const collecting = new URL("./collect_child.ts", import.meta.url);
const using = new URL("./collect_using_child.ts", import.meta.url);

const dayMs = 24 * 3600_000;
const perRound = 1200;

function opened(dir: string, options: Partial<LocalBlobsOptions> = {}): LocalBlobs {
  const blobs = localBlobs({ dir, clock: realClock, ...options });
  onTestFinished(() => blobs.close());
  return blobs;
}

test(
  "what processes use while others collect and are killed stays whole, and nothing is left half",
  { timeout: 120_000 },
  async () => {
    const dir = temporaryFolder();
    const yesterday = opened(dir, { clock: { ...realClock, now: () => Date.now() - dayMs } });
    const used = new Set<Digest>();
    const lost: string[] = [];
    let removed = 0;
    for (let round = 0; round < 3; round++) {
      const from = round * perRound;
      const numbers = Array.from({ length: perRound }, (_, n) => numbered(from + n));
      await Promise.all(numbers.map((bytes) => yesterday.put(digestOf(bytes), bytes)));
      const users = [
        startChild(using, dir, String(from), String(perRound / 2), "2"),
        startChild(using, dir, String(from + perRound - 2), String(perRound / 4), "-2"),
      ];
      const following = users.map(async ({ lines }) => {
        for await (const line of lines) {
          if (line.startsWith("lost")) lost.push(line);
          else used.add(line as Digest);
        }
      });
      const doomed = startChild(collecting, dir);
      let slices = 0;
      for await (const line of doomed.lines) {
        if (line.startsWith("removed ")) removed += Number(line.slice(8));
        // In the middle of a slice: a different one each time, or when it has ended before.
        else if (slices++ === round) doomed.process.kill("SIGKILL");
      }
      await doomed.ended;
      const next = startChild(collecting, dir); // the killed one left no lock behind
      for await (const line of next.lines) if (line.startsWith("removed ")) removed += Number(line.slice(8));
      expect(await next.ended).toBe(0);
      await Promise.all(following);
      expect(await Promise.all(users.map(({ ended }) => ended))).toEqual([0, 0]);
    }
    expect(lost).toEqual([]);
    expect(used.size).toBe(3 * perRound / 2);
    expect(removed).toBeGreaterThan(0);

    const blobs = opened(dir);
    expect(await blobs.missing(used)).toEqual(new Set());
    const sizes = new Map(
      Array.from({ length: 3 * perRound }, (_, n) => digestOf(numbered(n))).map((each) => [each.slice(0, 64), each]),
    );
    const held = blobs.held.page(undefined, 1_000_000);
    for (const { key } of held) {
      const digest = sizes.get(key.toString("hex")) ?? digestOfHash(key.toString("hex"), 0);
      expect(digestOf(await readBlob(blobs, digest, 10_000_000))).toBe(digest);
    }
    // What was killed between a row and its file left that file: it goes once it is old.
    const later = opened(dir, { clock: { ...realClock, now: () => Date.now() + dayMs } });
    await later.held.removeOrphans();
    const files = readdirSync(join(dir, "objects"), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath, entry.name)).size);
    const large = held.filter(({ key }) => Number(sizes.get(key.toString("hex"))!.slice(65)) > 128 * 1024);
    expect(files.length).toBe(large.length);
    expect(files.reduce((sum, size) => sum + Math.ceil(size / 4096) * 4096, 0))
      .toBe(large.reduce((sum, { bytes }) => sum + bytes, 0));
  },
);
