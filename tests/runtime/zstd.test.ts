import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { constants, createZstdCompress, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hasZstd, zstdDecompressed, zstdDecompressedSync } from "../../src/runtime/zstd.ts";
import { zstdFrame } from "../../src/runtime/zstd_frame.ts";

/** As a source that gives pieces of that size. */
async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}
const decompress = async (bytes: Uint8Array, size = 64 * 1024): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of zstdDecompressed(pieces(bytes, size))) chunks.push(chunk);
  return Buffer.concat(chunks);
};
const { ZSTD_c_checksumFlag, ZSTD_c_compressionLevel, ZSTD_c_contentSizeFlag, ZSTD_c_windowLog } = constants;
/** A frame with and without what may be in its head and at its end. */
const forms = [
  {},
  { [ZSTD_c_checksumFlag]: 1 },
  { [ZSTD_c_contentSizeFlag]: 0 },
  { [ZSTD_c_contentSizeFlag]: 0, [ZSTD_c_checksumFlag]: 1, [ZSTD_c_windowLog]: 10 },
  { [ZSTD_c_compressionLevel]: 19 },
];
const skippable = (magic: number, bytes: Uint8Array): Buffer => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(magic, 0);
  head.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([head, bytes]);
};
const random = randomBytes(400_000);
/** Contents of every kind of block: as they are, one byte repeated, compressed; of several blocks; none. */
const contents = {
  random: (length: number): Buffer => random.subarray(0, length),
  zeros: (length: number): Buffer => Buffer.alloc(length),
  text: (length: number): Buffer => Buffer.from("a line of text\n".repeat(Math.ceil(length / 15))),
} as const;
/** Told as numbers, so that what fails can be read. */
const frame = fc.record({
  kind: fc.constantFrom("random", "zeros", "text", "skippable"),
  length: fc.oneof(fc.nat(2_000), fc.nat(400_000)),
  form: fc.nat(4),
});
type Frame = typeof frame extends fc.Arbitrary<infer Value> ? Value : never;
const made = ({ kind, length, form }: Frame): { readonly raw: Buffer; readonly sent: Buffer } => {
  if (kind === "skippable") {
    return { raw: Buffer.alloc(0), sent: skippable(0x184d2a50 + form * 3, contents.random(length)) };
  }
  const raw = contents[kind](length);
  return { raw, sent: zstdCompressSync(raw, { params: forms[form]! }) };
};

describe.runIf(hasZstd)("frames of zstd", () => {
  test("end where they end, in pieces of any size", () => {
    fc.assert(
      fc.property(frame, fc.integer({ min: 1, max: 70_000 }), (one, size) => {
        // Runtimes may put an empty frame behind one.
        const { sent } = made(one);
        const lengths: number[] = [];
        for (let at = 0, found = zstdFrame(), length = 0; at < sent.length;) {
          const taken = found.take(sent.subarray(at, at + size));
          expect(taken).toBeGreaterThan(0);
          at += taken;
          length += taken;
          if (!found.isWhole()) continue;
          lengths.push(length);
          [found, length] = [zstdFrame(), 0];
        }
        expect(lengths.reduce((sum, each) => sum + each, 0)).toBe(sent.length);
        expect(lengths.slice(1).every((length) => length <= 13)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
  test("are decompressed one after the other", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(frame, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 300_000 }),
        async (described, size) => {
          const frames = described.map(made);
          const raw = Buffer.concat(frames.map((each) => each.raw));
          const sent = Buffer.concat(frames.map((each) => each.sent));
          expect(Buffer.compare(zstdDecompressedSync(sent, raw.length), raw)).toBe(0);
          if (raw.length > 0) expect(() => zstdDecompressedSync(sent, raw.length - 1)).toThrow();
          expect(Buffer.compare(await decompress(sent, Math.max(size, Math.ceil(sent.length / 500))), raw)).toBe(0);
        },
      ),
      { numRuns: 30 },
    );
  });
  test("that are cut off, or have something else before, behind or between them, are refused", async () => {
    const one = zstdCompressSync(randomBytes(200_000));
    const bad = [
      one.subarray(0, -1),
      one.subarray(0, 3),
      one.subarray(1),
      Buffer.concat([one, Buffer.from("x")]),
      Buffer.concat([one, Buffer.from("more than a head")]),
      Buffer.concat([one, one.subarray(0, 100)]),
      Buffer.concat([one, Buffer.alloc(1), one]),
      skippable(0x184d2a50, randomBytes(20)).subarray(0, 20),
      Buffer.from("no zstd"),
    ];
    for (const bytes of bad) {
      expect(() => zstdDecompressedSync(bytes, 1_000_000)).toThrow();
      await expect(decompress(bytes)).rejects.toThrow();
    }
    expect(() => zstdDecompressedSync(new Uint8Array(0), 0)).toThrow();
    expect(await decompress(new Uint8Array(0))).toHaveLength(0);
  });
  test("are of a bounded number, and of fewer where all else waits for them", async () => {
    const some = (count: number) => Buffer.concat(new Array(count).fill(skippable(0x184d2a50, new Uint8Array(0))));
    await expect(decompress(some(10_001))).rejects.toThrow("more than 10000 frames");
    expect(zstdDecompressedSync(some(16), 0)).toHaveLength(0);
    expect(() => zstdDecompressedSync(some(17), 0)).toThrow("more than 16 frames");
    expect(() => zstdDecompressedSync(some(81), 4 * 1024 * 1024)).toThrow("more than 80 frames");
  });
  test("with very many blocks of nothing are refused; those of a writer that flushes often are not", async () => {
    const [head, empty, last] = [[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58], [0, 0, 0], [1, 0, 0]];
    const blocks = (count: number) => Buffer.from([...head, ...new Array(count).fill(empty).flat(), ...last]);
    expect(zstdDecompressedSync(blocks(900), 0)).toHaveLength(0);
    for (const count of [2_000, 100_000]) {
      expect(() => zstdDecompressedSync(blocks(count), 1_000_000)).toThrow("too small");
      await expect(decompress(blocks(count))).rejects.toThrow("too small");
    }
    const writer = createZstdCompress();
    const sent: Uint8Array[] = [];
    writer.on("data", (bytes) => sent.push(bytes));
    for (let line = 0; line < 3_000; line++) {
      writer.write(`${line} is a line of ${randomBytes(20).toString("hex")}\n`);
      await new Promise<void>((resolve) => writer.flush(constants.ZSTD_e_flush, resolve));
    }
    await new Promise<void>((resolve) => writer.end(resolve));
    expect((await decompress(Buffer.concat(sent))).toString().split("\n")).toHaveLength(3_001);
  });
  test("a source that fails, or is left, is let go of", async () => {
    const sent = zstdCompressSync(randomBytes(2_000_000));
    let isLeft = false;
    const source = async function* (fails: boolean): AsyncGenerator<Uint8Array> {
      try {
        yield* pieces(sent.subarray(0, 1_000_000), 50_000);
        if (fails) throw new Error("the disk is gone");
        yield* pieces(sent.subarray(1_000_000), 50_000);
      } finally {
        isLeft = true;
      }
    };
    await expect((async () => {
      for await (const _ of zstdDecompressed(source(true)));
    })()).rejects.toThrow("the disk is gone");
    expect(isLeft).toBe(true);
    isLeft = false;
    for await (const _ of zstdDecompressed(source(false))) break;
    expect(isLeft).toBe(true);
  });
});
