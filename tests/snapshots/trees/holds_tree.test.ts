import { afterEach, beforeEach, expect, test } from "vitest";
import type { Digest } from "../../../src/domain/digest.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import { type Blobs, digestOf } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { capture } from "../../../src/snapshots/trees/capture.ts";
import { holdsTree } from "../../../src/snapshots/trees/holds_tree.ts";
import { lookup } from "../../../src/snapshots/trees/read_tree.ts";
import { temporaryFolder, writeTree } from "./git_repositories.ts";

let dir: string;
let remove: () => void;
let blobs: Blobs;
beforeEach(() => {
  ({ dir, remove } = temporaryFolder());
  blobs = memoryBlobs();
});
afterEach(() => remove());

/** The store without one blob. */
const without = (lost: Digest): Blobs => {
  const { peek: _, ...rest } = blobs;
  return {
    ...rest,
    async *get(digest, options) {
      yield* digest === lost ? memoryBlobs().get(digest, options) : blobs.get(digest, options);
    },
    async missing(digests) {
      const missing = new Set(await blobs.missing(digests));
      if (digests.has(lost)) missing.add(lost);
      return missing;
    },
  };
};

test("holdsTree() is true when every folder and file is there, and asks once after each", async () => {
  writeTree(dir, { "a": "1", "deep/er/b": "2", "deep/same": "1", "empty/..keep": "" });
  const { snapshot } = await capture({ dir, blobs, clock: realClock });
  const asked: Digest[] = [];
  const counted: Blobs = {
    ...blobs,
    missing(digests) {
      asked.push(...digests);
      return blobs.missing(digests);
    },
  };
  expect(await holdsTree(counted, snapshot)).toBe(true);
  expect(asked).toHaveLength(new Set(asked).size);
  expect(asked).toHaveLength(4 + 3); // the folders, and the different files
});

test("holdsTree() is false when any of it is gone, or it is no tree", async () => {
  writeTree(dir, { "a": "1", "deep/er/b": "2" });
  const { snapshot } = await capture({ dir, blobs, clock: realClock });
  const file = digestOf(Buffer.from("2"));
  const folder = await lookup(blobs, snapshot, "deep/er");
  for (const lost of [snapshot, file, (folder as { digest: Digest }).digest]) {
    expect(await holdsTree(without(lost), snapshot)).toBe(false);
  }
  expect(await holdsTree(blobs, file)).toBe(false);
  await expect(holdsTree(blobs, snapshot, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow(
    "enough",
  );
});
