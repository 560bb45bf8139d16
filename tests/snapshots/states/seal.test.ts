import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { deflateRawSync } from "node:zlib";
import { Encoder } from "cbor-x";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Digest } from "../../../src/domain/digest.ts";
import { digestOfHash } from "../../../src/domain/digest.ts";
import { seededRandom } from "../../../src/runtime/random.ts";
import { realClock } from "../../../src/runtime/clock.ts";
import type { Blobs } from "../../../src/snapshots/blobs/blobs.ts";
import { digestOf, readBlob, writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { localStates } from "../../../src/snapshots/states/local.ts";
import { memoryStates } from "../../../src/snapshots/states/memory.ts";
import {
  exportTree,
  importSealed,
  openSealed,
  readTree,
  type SealedManifest,
  sealJob,
  type SealOptions,
  sealTree,
} from "../../../src/snapshots/states/seal.ts";
import type { Entry, States } from "../../../src/snapshots/states/states.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { collect, entry, said } from "./contract.ts";

const tasks = 60;
/** A job with tasks that did three things each, and others in between. */
function life(): Entry[] {
  const entries: Entry[] = [];
  const add = (address: string, rest: Partial<Entry> = {}): void => {
    const seq = entries.length + 1;
    entries.push({ ...entry(seq, address), said: [said(seq, 0, "member/w1")], ...rest });
  };
  add("job/a", { reason: "it was sent" });
  add("job/ab");
  for (let step = 0; step < 3; step++) {
    for (let task = 0; task < tasks; task++) {
      add(`task/a/${task}`);
      add(`task/ab/${task}`);
    }
  }
  add("task/a/0", { state: null });
  add("job/a");
  return entries;
}

const randomBytes = (length: number, seed: number): Uint8Array => {
  const random = seededRandom(seed);
  return Uint8Array.from({ length }, () => random.integer(256));
};

async function sealable(
  states: States = memoryStates(),
): Promise<SealOptions & { readonly payloads: Map<Digest, Uint8Array> }> {
  await states.tail((to) => !to.startsWith("member/"));
  await states.commit(life());
  const blobs = memoryBlobs();
  const payloads = new Map<Digest, Uint8Array>();
  for (const bytes of [new Uint8Array(0), randomBytes(300_000, 1), new TextEncoder().encode("log ".repeat(500_000))]) {
    payloads.set(await writeBlob(blobs, bytes), bytes);
  }
  return { states, addresses: ["job/a", "task/a/"], blobs, digests: new Set(payloads.keys()), payloads };
}

const isOfJob = ({ address }: Entry): boolean => address === "job/a" || address.startsWith("task/a/");
const byActor = (a: Entry, b: Entry): number => a.address < b.address ? -1 : a.address > b.address ? 1 : a.seq - b.seq;

async function fileOf(options: SealOptions): Promise<Uint8Array> {
  return Buffer.concat(await collect(sealJob(options)));
}

async function* chunked(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

/** Reads all of a file. */
async function readAll(stream: AsyncIterable<Uint8Array>) {
  const { root, manifest, entries, blobs } = await openSealed(stream);
  const found = await collect(entries);
  const payloads = new Map<Digest, Uint8Array>();
  for await (const { digest, bytes } of blobs) {
    payloads.set(digest, new Uint8Array(Buffer.concat(await collect(bytes))));
  }
  return { root, manifest, entries: found, payloads };
}

describe("a sealed job", () => {
  test("goes to a file and comes back, whatever the chunks", async () => {
    const options = await sealable();
    const file = await fileOf(options);
    for (const length of [1, 7, 1000, file.length]) {
      if (length === 1 && file.length > 1_000_000) continue;
      const { manifest, entries, payloads } = await readAll(chunked(file, length));
      expect(entries).toEqual(life().filter(isOfJob).sort(byActor));
      expect(manifest).toMatchObject({ actors: tasks + 1, entries: entries.length, absent: [] });
      expect(manifest.leaves).toHaveLength(3);
      expect(payloads).toEqual(options.payloads);
    }
  });

  test("goes into another blob store, where the tree can be read", async () => {
    const options = await sealable();
    const there = memoryBlobs();
    const root = await importSealed({ stream: sealJob(options), blobs: there });
    const { manifest, entries } = await readTree({ blobs: there, root });
    expect(await collect(entries)).toEqual(life().filter(isOfJob).sort(byActor));
    for (const [digest, bytes] of options.payloads) expect(await readBlob(there, digest, 3_000_000)).toEqual(bytes);
    expect(new Set(manifest.blobs)).toEqual(options.digests);
    expect(Buffer.concat(await collect(exportTree({ blobs: there, root })))).toEqual(
      Buffer.from(await fileOf(options)),
    );
  });

  test("has the same root from another store, and another one when anything differs", async () => {
    const local = await localStates({ dir: temporaryFolder(), clock: realClock });
    const here = await sealable();
    const there = await sealable(local);
    const root = await sealTree(here);
    expect(await sealTree(there)).toBe(root);
    await local.commit([entry(life().length + 1, "task/ab/0")]);
    expect(await sealTree(there)).toBe(root);
    await local.commit([entry(life().length + 2, "task/a/0")]);
    expect(await sealTree(there)).not.toBe(root);
    expect(await sealTree({ ...here, digests: new Set() })).not.toBe(root);
    await local.close();
  });

  test("starts with what each actor was when the kept history begins", async () => {
    const options = await sealable();
    const { firstSeq } = await options.states.prune({ beforeMs: 1_000 + 200, bytesMax: Infinity });
    expect(firstSeq).toBe(200);
    const { entries } = await readTree({ blobs: options.blobs, root: await sealTree(options) });
    const found = await collect(entries);
    const expected = life().filter(isOfJob).filter((one, _, all) =>
      one.seq >= firstSeq || !all.some(({ address, seq }) => address === one.address && seq > one.seq && seq < firstSeq)
    );
    expect(found).toEqual(expected.sort(byActor));
  });

  test("names blobs that are gone as absent", async () => {
    const options = await sealable();
    const gone = digestOf(new TextEncoder().encode("collected"));
    const { manifest, payloads } = await readAll(sealJob({ ...options, digests: new Set([...options.digests, gone]) }));
    expect(manifest.absent).toEqual([gone]);
    expect(payloads).toEqual(options.payloads);
  });

  test("is read in parts: blobs alone, or half of one", async () => {
    const options = await sealable();
    const { blobs } = await openSealed(chunked(await fileOf(options), 5000));
    const seen: Digest[] = [];
    for await (const { digest, bytes } of blobs) {
      seen.push(digest);
      for await (const chunk of bytes) if (chunk.length > 0) break;
    }
    expect(seen).toEqual([...options.digests].sort());
  });

  test("gives back any bytes, those of a page file with many zeros too", async () => {
    const pages = readFileSync(fileURLToPath(new URL("../../compat/states_v1/store/index/data.mdb", import.meta.url)));
    const sparse = fc.array(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.nat(80_000).map((n) => new Uint8Array(n))), {
      maxLength: 6,
    }).map((parts) => new Uint8Array(Buffer.concat(parts)));
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.constant(new Uint8Array(pages)), sparse), async (bytes) => {
        const blobs = memoryBlobs();
        const digests = new Set([await writeBlob(blobs, bytes)]);
        const there = memoryBlobs();
        await importSealed({
          stream: sealJob({ states: memoryStates(), addresses: [], blobs, digests }),
          blobs: there,
        });
        for (const digest of digests) expect(digestOf(await readBlob(there, digest, bytes.length))).toBe(digest);
      }),
      { numRuns: 60 },
    );
  });

  test("streams a blob that is larger than what it holds", async () => {
    const chunk = new TextEncoder().encode("a line of a long log\n".repeat(50_000));
    const chunks = 40;
    const hash = createHash("sha256");
    for (let index = 0; index < chunks; index++) hash.update(chunk);
    const long = digestOfHash(hash.digest("hex"), chunk.length * chunks);
    const memory = memoryBlobs();
    let read = 0;
    const blobs: Blobs = {
      ...memory,
      missing: () => Promise.resolve(new Set()),
      get: async function* (digest, options) {
        if (digest !== long) return yield* memory.get(digest, options);
        for (let index = 0; index < chunks; index++) {
          read++;
          yield chunk;
        }
      },
    };
    const file = await openSealed(sealJob({ states: memoryStates(), addresses: [], blobs, digests: new Set([long]) }));
    let bytes = 0;
    for await (const blob of file.blobs) {
      for await (const part of blob.bytes) {
        bytes += part.length;
        // What is written is read at once: neither side runs ahead by more than a few chunks.
        expect(read * chunk.length - bytes).toBeLessThan(3 * chunk.length);
      }
    }
    expect(bytes).toBe(chunk.length * chunks);
  }, 30_000);
});

describe("a sealed file that is not whole", () => {
  const small = async (): Promise<Uint8Array> => {
    const states = memoryStates();
    await states.commit([entry(1, "job/a"), entry(2, "task/a/0")]);
    const blobs = memoryBlobs();
    const digests = new Set([await writeBlob(blobs, new TextEncoder().encode("hello"))]);
    return await fileOf({ states, addresses: ["job/a", "task/a/"], blobs, digests });
  };

  test("is STORE_CORRUPT wherever it is cut off", async () => {
    const file = await small();
    for (let length = 0; length < file.length; length++) {
      await expect(readAll(chunked(file.subarray(0, length), 64)), `${length}`).rejects.toMatchObject({
        code: "STORE_CORRUPT",
      });
    }
  });

  test("is STORE_CORRUPT or STORE_NEWER whatever bit is flipped, and STORE_CORRUPT when anything follows", async () => {
    const file = await small();
    for (let at = 0; at < file.length; at++) {
      const flipped = Uint8Array.from(file);
      flipped[at]! ^= 1 << (at % 8);
      const result = await readAll(chunked(flipped, 64)).catch((error) => error);
      expect(result, `byte ${at}`).toMatchObject({ code: expect.stringMatching(/^STORE_(CORRUPT|NEWER)$/) });
    }
    await expect(readAll(chunked(Buffer.concat([file, Buffer.of(0)]), 64))).rejects.toMatchObject({
      code: "STORE_CORRUPT",
    });
  });

  test("is STORE_NEWER in a later format", async () => {
    const file = Buffer.from(await small());
    file.writeUInt32LE(2, 8);
    await expect(openSealed(chunked(file, 64))).rejects.toMatchObject({
      code: "STORE_NEWER",
      message: expect.stringContaining("format 2, this one knows up to 1"),
    });
  });

  const cbor = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });
  /** A file of one manifest, with digests that are right. */
  function forged(
    manifest: Uint8Array,
    size = manifest.length,
    deflated: Uint8Array = deflateRawSync(manifest),
  ): Buffer {
    const header = Buffer.alloc(12 + 41);
    header.write("scootjob");
    header.writeUInt32LE(1, 8);
    header[12] = 1;
    createHash("sha256").update(manifest).digest().copy(header, 13);
    header.writeDoubleLE(size, 45);
    const lengths = Buffer.alloc(8);
    lengths.writeUInt32LE(Math.min(manifest.length, 65536), 0);
    lengths.writeUInt32LE(deflated.length, 4);
    return Buffer.concat([header, lengths, deflated, Buffer.alloc(4)]);
  }
  const manifest: SealedManifest = {
    format: 1,
    addresses: [],
    actors: 0,
    entries: 0,
    leaves: [],
    blobs: [],
    absent: [],
  };

  test("costs little when it inflates to more than it says", async () => {
    const bomb = deflateRawSync(new Uint8Array(64 * 1024 * 1024));
    const before = process.memoryUsage().arrayBuffers;
    const file = forged(new Uint8Array(1000), 1000, bomb);
    await expect(openSealed(chunked(file, 65536))).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      message: expect.stringContaining("a frame differs in length"),
    });
    await expect(openSealed(chunked(forged(new Uint8Array(1000), 999), 65536))).rejects.toMatchObject({
      message: expect.stringContaining("there are more"),
    });
    await expect(openSealed(chunked(forged(new Uint8Array(1000), 1000, new Uint8Array(70_000)), 65536))).rejects
      .toMatchObject({ message: expect.stringContaining("must have at most 66560 bytes") });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
    await expect(openSealed(chunked(forged(new Uint8Array(10), 2 ** 40), 64))).rejects.toMatchObject({
      message: expect.stringContaining("at most"),
    });
  });

  test("is STORE_CORRUPT when its manifest is not one", async () => {
    let deep: unknown = 1;
    for (let depth = 0; depth < 100; depth++) deep = [deep];
    const manifests: Uint8Array[] = [
      cbor.encode({ ...manifest, leaves: ["no digest"] }),
      cbor.encode({ ...manifest, entries: -1 }),
      cbor.encode({ ...manifest, format: "1" }),
      cbor.encode(null),
      cbor.encode(deep),
      new Encoder({ structuredClone: true }).encode({ ...manifest, addresses: [new Error("a class")] }),
      Buffer.concat([cbor.encode(manifest), Buffer.of(0)]),
      Buffer.of(0x9b, 0, 0, 0, 1, 0, 0, 0, 0),
      Buffer.of(0x5f, 0xff),
      Buffer.alloc(0),
    ];
    for (const [index, bytes] of manifests.entries()) {
      await expect(openSealed(chunked(forged(bytes), 64)), `${index}`).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    }
    const { manifest: read } = await openSealed(chunked(forged(cbor.encode(manifest)), 64));
    expect(read).toEqual(manifest);
  });
});
