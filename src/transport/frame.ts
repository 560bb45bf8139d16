/**
 * Frames: a byte stream cut into pieces. Four bytes of length (unsigned, big-endian), then so many bytes of payload.
 * Pure: bytes in, frames out; what a payload means is the connection's affair.
 */
import { Fault } from "../domain/fault.ts";

/** What the dialling side sends before its first frame, so that a port shared with HTTP can tell: "SCOOT/1\n". */
export const magic: Uint8Array = new TextEncoder().encode("SCOOT/1\n");

/** Of the length that stands before each payload. */
export const frameHeaderBytes = 4;

/** What a gathered frame begins with; it grows by doubling, so a length that is only claimed costs no memory. */
const gatherBytesMin = 64 * 1024;

export interface FrameReader {
  /** Of one payload, in bytes. May be changed between frames: a stranger gets a smaller one than a peer. */
  payloadBytesMax: number;
  /** Takes a chunk of any size, in order; a frame may span several. The chunk must not be changed afterwards. */
  push(chunk: Uint8Array): void;
  /**
   * The next payload that is complete, or undefined until more is pushed. It may be a view into a pushed chunk.
   *
   * @throws {Fault} `FRAME_TOO_LONG` as soon as the length is read, `FRAME_INVALID` when the stream does not begin with
   *   the prefix. The reader is of no use afterwards.
   */
  next(): Uint8Array | undefined;
}

/** @param options.prefix what must come before the first frame; nothing by default. */
export function frameReader(
  options: { readonly payloadBytesMax: number; readonly prefix?: Uint8Array },
): FrameReader {
  let prefix = options.prefix;
  /** Chunks not yet read, in order; `offset` bytes of the first are. */
  let chunks: Uint8Array[] = [];
  let offset = 0;
  /** Of the next payload, once its header is read. */
  let payloadBytes: number | undefined;
  /** The beginning of what spans several chunks. */
  let gathered = new Uint8Array(0);
  let gatheredBytes = 0;

  const advance = (first: Uint8Array, bytes: number): void => {
    offset += bytes;
    if (offset < first.length) return;
    offset = 0;
    if (chunks.length === 1) chunks = [];
    else chunks.shift();
  };

  /** Exactly so many bytes in one piece, or undefined when they are not all there yet. */
  const take = (bytes: number): Uint8Array | undefined => {
    const first = chunks[0];
    if (gatheredBytes === 0 && first !== undefined && first.length - offset >= bytes) {
      const piece = first.subarray(offset, offset + bytes);
      advance(first, bytes);
      return piece;
    }
    for (let chunk = chunks[0]; chunk !== undefined && gatheredBytes < bytes; chunk = chunks[0]) {
      const piece = chunk.subarray(offset, offset + bytes - gatheredBytes);
      if (gatheredBytes + piece.length > gathered.length) {
        const wanted = Math.max(gatherBytesMin, gathered.length * 2, gatheredBytes + piece.length);
        const larger = new Uint8Array(Math.min(bytes, wanted));
        larger.set(gathered.subarray(0, gatheredBytes));
        gathered = larger;
      }
      gathered.set(piece, gatheredBytes);
      gatheredBytes += piece.length;
      advance(chunk, piece.length);
    }
    if (gatheredBytes < bytes) return undefined;
    const whole = gathered.subarray(0, bytes);
    gathered = new Uint8Array(0);
    gatheredBytes = 0;
    return whole;
  };

  const reader: FrameReader = {
    payloadBytesMax: options.payloadBytesMax,
    push(chunk) {
      if (chunk.length > 0) chunks.push(chunk);
    },
    next() {
      if (prefix !== undefined) {
        const start = take(prefix.length);
        if (start === undefined) return undefined;
        if (start.some((byte, index) => byte !== prefix?.[index])) {
          throw new Fault(
            "FRAME_INVALID",
            `Cannot read frames as the first bytes must be ${printable(prefix)}: current value is ${printable(start)}`,
          );
        }
        prefix = undefined;
      }
      if (payloadBytes === undefined) {
        const header = take(frameHeaderBytes);
        if (header === undefined) return undefined;
        const length = new DataView(header.buffer, header.byteOffset, frameHeaderBytes).getUint32(0);
        if (length > reader.payloadBytesMax) {
          throw new Fault(
            "FRAME_TOO_LONG",
            `Cannot read a frame as its payload must be at most ${reader.payloadBytesMax} bytes: current value is ` +
              `${length} bytes (${printable(header)})`,
          );
        }
        payloadBytes = length;
      }
      const payload = take(payloadBytes);
      if (payload !== undefined) payloadBytes = undefined;
      return payload;
    },
  };
  return reader;
}

/** Writes the length of a payload at `at` of `target`. */
export function writeFrameHeader(target: Uint8Array, at: number, payloadBytes: number): void {
  target[at] = payloadBytes >>> 24;
  target[at + 1] = payloadBytes >>> 16;
  target[at + 2] = payloadBytes >>> 8;
  target[at + 3] = payloadBytes;
}

/** For people: what a port that does not speak our protocol has sent is often readable ("HTTP"). */
const printable = (bytes: Uint8Array): string => JSON.stringify(String.fromCharCode(...bytes));
