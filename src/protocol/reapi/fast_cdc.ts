import { createHash } from "node:crypto";

/**
 * FastCDC as the API has it ("FastCdc2020Params" of remote_execution.proto): where bytes are cut so that most chunks stay the
 * same when some bytes change (Xia et al., "The Design of Fast Content-Defined Chunking", 2020). Clients and servers that
 * cut alike share chunks, so every number here is given.
 */
export interface Cutting {
  readonly averageBytes: number;
  readonly minBytes: number;
  readonly maxBytes: number;
  /** What must be 0 of the rolling hash where a chunk ends that is shorter than the average: most bits, so it is rare. */
  readonly maskBefore: bigint;
  /** The same for longer ones: few bits. */
  readonly maskAfter: bigint;
}

/** As the API advises; its masks are those of the paper's code for 2^21 and 2^17: two levels of normalization away. */
export const fastCdc2020: Cutting = {
  averageBytes: 512 * 1024,
  minBytes: 128 * 1024,
  maxBytes: 2 * 1024 * 1024,
  maskBefore: 0x0000d91767537000n,
  maskAfter: 0x0000d90703537000n,
};

/*
 * The hash is h = 2 h + gear[byte], modulo 2^64. No mask looks at a bit from 48 on, so two numbers of 24 bits are kept of it:
 * in integers of 32 bits there is room for what is carried.
 */
const half = 0xffffff;
const gearLow = new Int32Array(256);
const gearHigh = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  const gear = createHash("md5").update(new Uint8Array(64).fill(byte)).digest().readBigUInt64BE();
  gearLow[byte] = Number(gear & 0xffffffn);
  gearHigh[byte] = Number((gear >> 24n) & 0xffffffn);
}

/**
 * How long the chunk is that begins at `from`.
 *
 * @param bytes all that is left, or at least the longest chunk of it.
 */
function cut(bytes: Uint8Array, from: number, { averageBytes, minBytes, maxBytes, maskBefore, maskAfter }: Cutting) {
  const left = bytes.length - from;
  if (left <= minBytes) return left;
  const end = Math.min(left, maxBytes);
  let low = 0;
  let high = 0;
  let at = from + minBytes;
  /** The paper takes two bytes at a time: of an odd number the last one is not looked at. */
  const pass = (to: number, mask: bigint): boolean => {
    const [maskLow, maskHigh] = [Number(mask & 0xffffffn), Number(mask >> 24n)];
    for (; at < to; at++) {
      const byte = bytes[at]!;
      low = (low << 1) + gearLow[byte]!;
      high = ((high << 1) + gearHigh[byte]! + (low >>> 24)) & half;
      low &= half;
      if (((low & maskLow) | (high & maskHigh)) === 0) return true;
    }
    return false;
  };
  const average = from + (Math.min(averageBytes, end) & ~1);
  return pass(average, maskBefore) || pass(from + (end & ~1), maskAfter) ? at - from : end;
}

/** The chunks of a stream, in order. Each is a view that is overwritten when the next is asked for; holds two of the longest. */
export async function* chunksBy(cutting: Cutting, stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { maxBytes } = cutting;
  const memory = new Uint8Array(2 * maxBytes);
  let from = 0;
  let to = 0;
  for await (const given of stream) {
    for (let taken = 0; taken < given.length;) {
      if (to === memory.length) {
        memory.copyWithin(0, from, to);
        to -= from;
        from = 0;
      }
      const part = given.subarray(taken, taken + memory.length - to);
      memory.set(part, to);
      taken += part.length;
      to += part.length;
      while (to - from >= maxBytes) {
        const length = cut(memory.subarray(0, to), from, cutting);
        yield memory.subarray(from, from + length);
        from += length;
      }
    }
  }
  while (from < to) {
    const length = cut(memory.subarray(0, to), from, cutting);
    yield memory.subarray(from, from + length);
    from += length;
  }
}
