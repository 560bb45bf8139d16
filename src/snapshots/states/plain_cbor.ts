import { Buffer } from "node:buffer";
import { Encoder, type Options } from "cbor-x";
import { Fault } from "../../domain/fault.ts";

const options: Options & { readonly int64AsNumber: true } = {
  useRecords: false,
  mapsAsObjects: true,
  variableMapSize: true,
  tagUint8Array: false,
  // A byte string that is kept must not keep the buffer alive that it was read from.
  copyBuffers: true,
  // Not in the types of cbor-x 1.6.9.
  int64AsNumber: true,
};
/** Plain maps and no tags, so that any CBOR reader can read what is kept. */
const cbor = new Encoder(options);

export const encodePlain = (value: unknown): Uint8Array => cbor.encode(value);

// A slice of a Buffer is a Buffer: what is decoded should be the same wherever the bytes come from.
const plainBytes = (bytes: Uint8Array, from = 0): Uint8Array =>
  from === 0 && bytes.constructor === Uint8Array
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset + from, bytes.byteLength - from);

/** For bytes that this program wrote and that are checked by their CRC. */
export const decodePlain = (bytes: Uint8Array): unknown => cbor.decode(plainBytes(bytes));

/** The first `count` values, at least one, of such an array of at most 23; the others are not decoded. */
export function decodeFirst(bytes: Uint8Array, count: number): unknown[] {
  const values: unknown[] = [];
  // The head of so short an array is one byte; behind it stands one value after the other.
  cbor.decodeMultiple(plainBytes(bytes, 1), (value) => values.push(value) < count) as void;
  return values;
}

const nestingMax = 64;
/** Values, keys included: an empty map is one byte here and some 56 in memory. */
const itemsMax = 4_000_000;

/**
 * For bytes that strangers give us: plain data only, as cbor-x would also honour tags (records, classes, cycles) and
 * recurse as deep as it is told. Time and memory are bounded by the length and the number of values.
 *
 * @throws {Fault} `STORE_CORRUPT`
 */
export function decodeForeign(bytes: Uint8Array): unknown {
  scan(bytes);
  try {
    return decodePlain(bytes);
  } catch (cause) {
    throw new Fault("STORE_CORRUPT", `Cannot decode what is sealed: ${(cause as Error).message}`, { cause });
  }
}

/** Reads every head once, without recursion. */
function scan(bytes: Uint8Array): void {
  const refuse = (at: number, found: string): never => {
    throw new Fault("STORE_CORRUPT", `Cannot decode what is sealed as it must be plain CBOR: byte ${at} is ${found}`);
  };
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** Items that are still to come, in each container that is open. */
  const left = [1];
  let at = 0;
  for (let items = 0; left.length > 0; items++) {
    if (left.at(-1) === 0) {
      left.pop();
      continue;
    }
    left[left.length - 1]!--;
    if (items > itemsMax) refuse(at, "one value too many");
    if (at >= view.length) refuse(at, "the end");
    const head = view[at++]!;
    const major = head >> 5;
    let argument = head & 31;
    if (major === 6 || argument > 27) refuse(at - 1, `head ${head}`);
    if (argument >= 24) {
      const width = 2 ** (argument - 24);
      if (at + width > view.length) refuse(at, "the end");
      argument = width === 8 ? Number(view.readBigUInt64BE(at)) : view.readUIntBE(at, width);
      at += width;
    }
    if (major === 2 || major === 3) at += argument;
    const isContainer = major === 4 || major === 5;
    if (at > view.length || (isContainer && argument > view.length - at)) refuse(at, "the end");
    if (!isContainer) continue;
    if (left.length > nestingMax) refuse(at, `nested deeper than ${nestingMax}`);
    left.push(major === 5 ? argument * 2 : argument);
  }
  if (at !== view.length) refuse(at, "more");
}
