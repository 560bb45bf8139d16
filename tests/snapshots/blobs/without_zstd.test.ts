import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as zlib from "node:zlib";
import { afterEach, expect, test, vi } from "vitest";
import { realClock } from "../../../src/runtime/clock.ts";
import * as runtime from "../../../src/runtime/zstd.ts";
import { digestOf } from "../../../src/snapshots/blobs/blobs.ts";
import { type LocalBlobs, localBlobs } from "../../../src/snapshots/blobs/local.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { collected } from "./contract.ts";

/** Whether the runtime has zstd: a store is filled by one that has, and opened by one that has not. */
const pretend = vi.hoisted(() => ({ hasZstd: true }));
vi.mock("../../../src/runtime/zstd.ts", async (original) => ({
  ...await original<typeof runtime>(),
  get hasZstd() {
    return pretend.hasZstd;
  },
}));

let blobs: LocalBlobs | undefined;
afterEach(async () => {
  pretend.hasZstd = true;
  await blobs?.close();
});

test.runIf(typeof zlib.zstdCompressSync === "function")(
  "a blob that lies as zstd is missing where the runtime has none, and is there again when it was put",
  async () => {
    const dir = temporaryFolder();
    blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
    const bytes = randomBytes(300_000);
    const digest = digestOf(bytes);
    const path = join(dir, "upload");
    writeFileSync(path, zlib.zstdCompressSync(bytes));
    await blobs.adopt!(digest, { path, compressor: "zstd" });
    expect((await blobs.missing(new Set([digest]))).size).toBe(0);

    pretend.hasZstd = false;
    expect([...await blobs.missing(new Set([digest]))]).toEqual([digest]);
    await expect(collected(blobs, digest)).rejects.toMatchObject({ code: "BLOB_MISSING" });
    await blobs.put(digest, bytes);
    expect((await blobs.missing(new Set([digest]))).size).toBe(0);
    expect(Buffer.compare(await collected(blobs, digest), bytes)).toBe(0);

    pretend.hasZstd = true;
    expect(Buffer.compare(await collected(blobs, digest), bytes)).toBe(0);
    expect(blobs.held.size().count).toBe(1);
  },
);
