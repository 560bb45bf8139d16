/// <reference lib="es2024.string" />
/**
 * Messages as CBOR (RFC 8949), by cbor-x, of which only plain data is let through: null, booleans, numbers, text, byte
 * strings, arrays, and maps with text keys. cbor-x would also honour tags (record definitions, classes, cycles, packed
 * tables) and recurse as deep as it is told: what strangers send is therefore scanned before it is decoded.
 */
import { Encoder, type Options } from "cbor-x";
import { Fault } from "../domain/fault.ts";
import type { Limits } from "./transport.ts";

export const nestingMaxDefault = 32;
/**
 * Values in one message, keys included. An empty map is one byte on the wire and some 56 in memory, so the bound on
 * bytes alone would let 8 MiB become half a gigabyte.
 */
export const itemsMax = 1_000_000;

const options: Options & { readonly int64AsNumber: true } = {
  useRecords: false,
  mapsAsObjects: true,
  variableMapSize: true,
  tagUint8Array: false,
  // A small byte string that is kept must not keep the chunk alive in which it came.
  copyBuffers: true,
  // Not in the types of cbor-x 1.6.9. The scanner has refused what a number cannot hold.
  int64AsNumber: true,
};
const cbor = new Encoder(options);

/**
 * A message as CBOR. Properties that are undefined are left out, undefined in an array becomes null, a lone surrogate in
 * a text becomes U+FFFD.
 *
 * @returns a view of a buffer that is shared with other messages: copy what is kept for long.
 * @throws {Fault} `FRAME_INVALID` for what {@link decode} would refuse: objects that are not plain, arrays or
 *   Uint8Arrays; functions, symbols and bigints; containers nested too deep, cycles among them.
 */
export const encode = (message: unknown, limits: Pick<Limits, "nestingMax"> = {}): Uint8Array =>
  cbor.encode(plain(message, limits.nestingMax ?? nestingMaxDefault));

/** The value itself when the wire carries it as it is, which is nearly always; else a copy of it that the wire carries. */
function plain(value: unknown, nestingLeft: number): unknown {
  if (typeof value === "string") return value.isWellFormed() ? value : value.toWellFormed();
  if (typeof value === "number" || typeof value === "boolean" || value === null) return value;
  if (value === undefined) return null;
  if (typeof value !== "object") throw unencodable(`a ${typeof value}`);
  if (value instanceof Uint8Array) return value;
  if (nestingLeft === 0) throw unencodable("nested deeper than that");
  if (Array.isArray(value)) return plainArray(value, nestingLeft - 1);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) {
    return plainObject(value as Record<string, unknown>, nestingLeft - 1);
  }
  throw unencodable(`an instance of ${value.constructor.name}`);
}

function plainArray(array: readonly unknown[], nestingLeft: number): readonly unknown[] {
  let copy: unknown[] | undefined;
  for (let index = 0; index < array.length; index++) {
    const kept = plain(array[index], nestingLeft);
    if (kept !== array[index]) (copy ??= [...array])[index] = kept;
  }
  return copy ?? array;
}

function plainObject(object: Readonly<Record<string, unknown>>, nestingLeft: number): Record<string, unknown> {
  let copy: Record<string, unknown> | undefined;
  const keys = Object.keys(object);
  for (let index = 0; index < keys.length; index++) {
    const key = keys[index] as string;
    if (key === "__proto__") throw unencodable("a map with the key __proto__");
    const value = object[key];
    const kept = value === undefined ? undefined : plain(value, nestingLeft);
    if (copy === undefined) {
      if (kept !== undefined && kept === value && key.isWellFormed()) continue;
      copy = {};
      for (const earlier of keys.slice(0, index)) copy[earlier] = object[earlier];
    }
    if (kept !== undefined) copy[key.toWellFormed()] = kept;
  }
  return copy ?? object;
}

const unencodable = (found: string): Fault =>
  new Fault(
    "FRAME_INVALID",
    `Cannot encode a message as it must be plain data (null, booleans, numbers, text, Uint8Array, arrays, plain objects ` +
      `nested at most ${nestingMaxDefault} deep): current value is ${found}`,
  );

/**
 * The message in `bytes`, which must be exactly one item of CBOR. Maps are plain objects (of equal keys the last one
 * counts), byte strings are copies, integers are numbers. Time and memory are bounded by the length and
 * {@link itemsMax}.
 *
 * @throws {Fault} `FRAME_INVALID`: tags, indefinite lengths, undefined and other simple values, integers beyond 2^53,
 *   keys that are not text, the key "__proto__", text that is not UTF-8, too deep, too many items, cut off, or followed
 *   by more.
 */
export function decode(bytes: Uint8Array, limits: Pick<Limits, "nestingMax"> = {}): unknown {
  scan(bytes, limits.nestingMax ?? nestingMaxDefault);
  try {
    // A slice of a Buffer is a Buffer: what is decoded should be the same wherever the bytes come from.
    return cbor.decode(
      bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    );
  } catch (cause) {
    throw new Fault("FRAME_INVALID", `Cannot decode a message: ${(cause as Error).message}`, { cause });
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Reads every head once, without recursion and without building anything. @throws {Fault} `FRAME_INVALID`. */
function scan(bytes: Uint8Array, nestingMax: number): void {
  const end = bytes.length;
  let at = 0;
  let items = 0;
  /** Items still to come in the innermost open container, whether it is a map; and the same of those around it. */
  let left = 1;
  let inMap = false;
  const outerLeft: number[] = [];
  const outerInMap: boolean[] = [];

  while (true) {
    while (left === 0) {
      if (outerLeft.length === 0) {
        if (at !== end) throw undecodable(at, "must end here", `${end - at} more bytes`);
        return;
      }
      left = outerLeft.pop() as number;
      inMap = outerInMap.pop() as boolean;
    }
    if (++items > itemsMax) throw undecodable(at, `must have at most ${itemsMax} items`, "more");
    if (at >= end) throw undecodable(at, "must go on", "the end");
    // A map of n pairs is 2n items: before each key an even number of them is left.
    const isKey = inMap && (left & 1) === 0;
    left--;
    const head = bytes[at++] as number;
    const major = head >> 5;
    let argument = head & 0x1f;
    if (major === 7) {
      if (argument >= 25 && argument <= 27) at += 2 << (argument - 25);
      else if (argument < 20 || argument > 22) throw undecodable(at - 1, "must be plain data", `head ${head}`);
      if (isKey) throw undecodable(at - 1, "must have text as keys", `head ${head}`);
      continue;
    }
    if (argument >= 24) {
      const width = 1 << (argument - 24);
      if (argument > 27) throw undecodable(at - 1, "must have definite lengths", `head ${head}`);
      if (at + width > end) throw undecodable(at, "must go on", "the end");
      argument = 0;
      for (let index = 0; index < width; index++) argument = argument * 256 + (bytes[at++] as number);
      if (argument > Number.MAX_SAFE_INTEGER) throw undecodable(at - width, "must have safe integers", `${argument}`);
    }
    if (isKey && major !== 3) throw undecodable(at - 1, "must have text as keys", `head ${head}`);
    if (major < 2) continue;
    if (major === 6) throw undecodable(at - 1, "must not have tags", `tag ${argument}`);
    if (major < 4) {
      if (argument > end - at) throw undecodable(at, "must go on", `the end, ${argument} bytes were announced`);
      if (major === 3) {
        checkText(bytes, at, at + argument);
        if (isKey && argument === 9 && bytes[at] === 0x5f && isProto(bytes, at)) {
          throw undecodable(at, "must not have the key", "__proto__");
        }
      }
      at += argument;
      continue;
    }
    const count = major === 5 ? argument * 2 : argument;
    if (count > end - at) throw undecodable(at, "must go on", `the end, ${count} items were announced`);
    if (outerLeft.length >= nestingMax) throw undecodable(at, `must nest at most ${nestingMax} deep`, "deeper");
    outerLeft.push(left);
    outerInMap.push(inMap);
    left = count;
    inMap = major === 5;
  }
}

function checkText(bytes: Uint8Array, from: number, to: number): void {
  let any = 0;
  for (let at = from; at < to; at++) any |= bytes[at] as number;
  if (any < 0x80) return;
  try {
    utf8.decode(bytes.subarray(from, to));
  } catch {
    throw undecodable(from, "must have text in UTF-8", `${to - from} bytes that are not`);
  }
}

const proto = new TextEncoder().encode("__proto__");
const isProto = (bytes: Uint8Array, at: number): boolean => proto.every((byte, index) => byte === bytes[at + index]);

const undecodable = (at: number, must: string, found: string): Fault =>
  new Fault("FRAME_INVALID", `Cannot decode a message as it ${must}: current value at byte ${at} is ${found}`);
