/** Reads on in a frame: passes over bytes, then reads some, which tell what comes next; undefined ends the frame. */
interface Step {
  readonly passes: number;
  readonly reads: number;
  readonly then?: (read: Uint8Array) => Step | undefined;
}

const magic = 0xfd2fb528;
/** And the fifteen that follow. */
const skippableMagic = 0x184d2a50;
const dictionaryBytes = [0, 1, 2, 4];
const contentSizeBytes = [0, 2, 4, 8];

/** Each block costs a microsecond, though it may hold nothing: beyond so many they must have so many bytes on average. */
const blocksMax = 1_000;
const blockBytesMin = 16;

const numberIn = (bytes: Uint8Array): number => bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);

function begin(read: Uint8Array): Step {
  const found = numberIn(read.subarray(0, 4));
  if (found - found % 16 === skippableMagic) {
    const [lowest = 0] = read.subarray(4);
    return { passes: 0, reads: 3, then: (more) => ({ passes: numberIn(more) * 256 + lowest, reads: 0 }) };
  }
  if (found !== magic) throw new Error(`a frame begins with ${magic.toString(16)}, and not with ${found.toString(16)}`);
  const descriptor = read[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeCode = descriptor >> 6;
  const headBytes = (isSingleSegment ? 0 : 1) + dictionaryBytes[descriptor & 3]! +
    (sizeCode === 0 && isSingleSegment ? 1 : contentSizeBytes[sizeCode]!);
  return block(headBytes, (descriptor & 4) === 0 ? 0 : 4);
}

/** @param passes what lies before it. @param checksumBytes what lies behind the last one. */
const block = (passes: number, checksumBytes: number): Step => ({
  passes,
  reads: 3,
  then(read) {
    const head = numberIn(read);
    const isRepeated = (head >> 1 & 3) === 1;
    const bytes = isRepeated ? 1 : head >> 3;
    return (head & 1) === 0 ? block(bytes, checksumBytes) : { passes: bytes + checksumBytes, reads: 0 };
  },
});

/**
 * Where a frame of zstd ends, a skippable one too, found without decompressing it (RFC 8878, 3.1): that decoders agree is
 * not to be relied on.
 */
export function zstdFrame(): {
  /** How many of the bytes that come next are of this frame. @throws {Error} for what begins like none, or has blocks of next to nothing. */
  take(bytes: Uint8Array): number;
  isWhole(): boolean;
} {
  let step: Step | undefined = { passes: 0, reads: 5, then: begin };
  let steps = 0;
  let taken = 0;
  let passed = 0;
  let read: number[] = [];
  return {
    take(bytes) {
      let at = 0;
      while (step !== undefined) {
        const passing = Math.min(step.passes - passed, bytes.length - at);
        passed += passing;
        at += passing;
        if (passed < step.passes) break;
        while (read.length < step.reads && at < bytes.length) read.push(bytes[at++]!);
        if (read.length < step.reads) break;
        step = step.then?.(Uint8Array.from(read));
        if (++steps > blocksMax + (taken + at) / blockBytesMin) {
          throw new Error("its blocks are too many and too small");
        }
        passed = 0;
        read = [];
      }
      taken += at;
      return at;
    },
    isWhole: () => step === undefined,
  };
}
