import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { chunksBy, type Cutting, fastCdc2020 } from "../../../src/protocol/reapi/fast_cdc.ts";
import { seededRandom } from "../../../src/runtime/random.ts";

/** With the masks of the paper's code for 2^16 and 2^12, as the vectors of the API have them. */
const small: Cutting = {
  averageBytes: 16 * 1024,
  minBytes: 4 * 1024,
  maxBytes: 65_535,
  maskBefore: 0x0000d90303537000n,
  maskAfter: 0x0000d90103530000n,
};

function noise(seed: number, length: number): Uint8Array {
  const random = seededRandom(seed);
  return Uint8Array.from({ length }, () => random.integer(256));
}
async function* inPieces(bytes: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}
async function cut(cutting: Cutting, bytes: Uint8Array, pieceBytes = 1_000): Promise<Uint8Array[]> {
  const chunks = [];
  for await (const chunk of chunksBy(cutting, inPieces(bytes, pieceBytes))) chunks.push(chunk.slice());
  return chunks;
}
const lengthsOf = (chunks: readonly Uint8Array[]): readonly number[] => chunks.map(({ length }) => length);

/** The paper's pseudo code, two bytes at a time and with all 64 bits. */
function asThePaper({ averageBytes, minBytes, maxBytes, maskBefore, maskAfter }: Cutting, bytes: Uint8Array): number[] {
  const gear = Array.from(
    { length: 256 },
    (_, byte) => createHash("md5").update(Buffer.alloc(64, byte)).digest().readBigUInt64BE(),
  );
  const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);
  const lengths = [];
  for (let from = 0; from < bytes.length;) {
    const data = bytes.subarray(from);
    const end = Math.min(data.length, maxBytes);
    let length = end;
    let hash = 0n;
    if (data.length > minBytes) {
      for (let at = minBytes & ~1; at < (end & ~1); at += 2) {
        const mask = at < (Math.min(averageBytes, end) & ~1) ? maskBefore : maskAfter;
        hash = wrap((hash << 2n) + wrap(gear[data[at]!]! << 1n));
        if ((hash & (mask << 1n)) === 0n) {
          length = at;
          break;
        }
        hash = wrap(hash + gear[data[at + 1]!]!);
        if ((hash & mask) === 0n) {
          length = at + 1;
          break;
        }
      }
    }
    lengths.push(length);
    from += length;
  }
  return lengths;
}

test("G-6: chunks are those of the paper, however the bytes come", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 2 ** 31 }),
      fc.integer({ min: 0, max: 200_000 }),
      fc.integer({ min: 1, max: 100_000 }),
      async (seed, length, pieceBytes) => {
        const bytes = noise(seed, length);
        const chunks = await cut(small, bytes, pieceBytes);
        expect(Buffer.concat(chunks).equals(Buffer.from(bytes))).toBe(true);
        expect(lengthsOf(chunks)).toEqual(asThePaper(small, bytes));
      },
    ),
    { numRuns: 20 },
  );
});

test("G-6: with the numbers of the API chunks have from a quarter of the average to four times that", async () => {
  const bytes = noise(1, 12_000_001);
  const lengths = lengthsOf(await cut(fastCdc2020, bytes, 256 * 1024));
  expect(lengths).toEqual(asThePaper(fastCdc2020, bytes));
  expect(Math.min(...lengths.slice(0, -1))).toBeGreaterThanOrEqual(fastCdc2020.averageBytes / 4);
  expect(Math.max(...lengths)).toBeLessThanOrEqual(fastCdc2020.averageBytes * 4);
});

test("G-6: where nothing tells bytes apart, chunks are of the greatest length; there are none of nothing", async () => {
  const { maxBytes } = fastCdc2020;
  expect(lengthsOf(await cut(fastCdc2020, new Uint8Array(2 * maxBytes + 5), 1_000_000))).toEqual([
    maxBytes,
    maxBytes,
    5,
  ]);
  expect(await cut(fastCdc2020, new Uint8Array(0))).toEqual([]);
});
