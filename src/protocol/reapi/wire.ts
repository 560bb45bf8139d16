import { Buffer } from "node:buffer";
import { Fault, type FaultCode } from "../../domain/fault.ts";

/**
 * The proto3 wire format, as far as the messages need it that we hash or read often.
 * (Protocol Buffers, "Encoding": tag = field number · 8 + wire type; varints are base 128, low groups first.)
 */

export const varintWire = 0;
export const fixed64Wire = 1;
export const bytesWire = 2;
export const fixed32Wire = 5;

const fieldNumberMax = 2 ** 29 - 1;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Builds one message, fields in the order of the calls. Grows as needed; the result is a copy of the exact length. */
export class WireWriter {
  #bytes: Buffer;
  #at = 0;

  constructor(capacityBytes = 1024) {
    this.#bytes = Buffer.allocUnsafe(capacityBytes);
  }

  /** The message so far; the writer is then empty and can be used again. */
  finish(): Uint8Array<ArrayBuffer> {
    const message = new Uint8Array(this.#at);
    message.set(this.#bytes.subarray(0, this.#at));
    this.#at = 0;
    return message;
  }

  /** The message so far, without a copy: it may hold more memory than it shows, for who lets go of it soon. Ends the writer. */
  take(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#bytes.buffer as ArrayBuffer, this.#bytes.byteOffset, this.#at);
  }

  /** @param value an integer from 0 to 2^53-1. */
  varint(value: number): void {
    this.#reserve(10);
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[this.#at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[this.#at++] = rest;
  }

  /** An int64 or int32 that may be negative: then ten bytes, two's complement. @param value an integer from -2^53+1 to 2^53-1. */
  signed(value: number): void {
    if (value >= 0) return this.varint(value);
    this.#reserve(10);
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest >= 0x80n; rest >>= 7n) this.#bytes[this.#at++] = Number(rest & 0x7fn) | 0x80;
    this.#bytes[this.#at++] = Number(rest);
  }

  tag(field: number, wire: number): void {
    this.varint(field * 8 + wire);
  }

  bytes(field: number, value: Uint8Array): void {
    this.tag(field, bytesWire);
    this.varint(value.length);
    this.#reserve(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  /** @param utf8Bytes the text's length in UTF-8, as {@link utf8Length} has it. */
  text(field: number, value: string, utf8Bytes: number): void {
    this.tag(field, bytesWire);
    this.varint(utf8Bytes);
    this.#reserve(utf8Bytes);
    if (utf8Bytes === value.length) {
      for (let i = 0; i < utf8Bytes; i++) this.#bytes[this.#at + i] = value.charCodeAt(i);
    } else this.#bytes.write(value, this.#at, "utf8");
    this.#at += utf8Bytes;
  }

  #reserve(more: number): void {
    if (this.#at + more <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + more));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
  }
}

/** Bytes of the varint of an integer from 0 to 2^53-1. */
export function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++;
  return length;
}

/** Bytes of a text in UTF-8, or -1 when it has a surrogate without its other half, which UTF-8 cannot say. */
export function utf8Length(text: string): number {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) >= 0x80) return /\p{Cs}/u.test(text) ? -1 : Buffer.byteLength(text, "utf8");
  }
  return text.length;
}

/** Compares texts as their UTF-8 bytes compare, which is by code point; `<` compares UTF-16 units. */
export function compareUtf8(a: string, b: string): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left === right) continue;
    // Surrogates (D800–DFFF) stand for code points above all single units, E000–FFFF among them.
    const isPairLeft = left >= 0xd800 && left < 0xe000;
    const isPairRight = right >= 0xd800 && right < 0xe000;
    return isPairLeft === isPairRight ? left - right : isPairLeft ? 1 : -1;
  }
  return a.length - b.length;
}

/** Reads one message, field by field: `while (reader.next()) switch (reader.field) …`. Never reads outside of it. */
export class WireReader {
  /** Of the field that {@link next} found. */
  field = 0;
  wire = 0;
  #bytes: Buffer;
  #at: number;
  #end: number;
  #what: string;
  #code: FaultCode;

  /**
   * @param what names the message in faults: "a Directory".
   * @param code of the fault that malformed bytes are.
   */
  constructor(bytes: Uint8Array, what: string, code: FaultCode) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = 0;
    this.#end = bytes.byteLength;
    this.#what = what;
    this.#code = code;
  }

  fail(why: string): never {
    throw new Fault(this.#code, `Cannot read ${this.#what} as ${why}`);
  }

  /** Goes to the next field; false at the end of the message. Its value must then be taken, or {@link skip}ped. */
  next(): boolean {
    if (this.#at === this.#end) return false;
    const tag = this.#varint();
    this.field = Math.floor(tag / 8);
    this.wire = tag % 8;
    if (this.field < 1 || this.field > fieldNumberMax) {
      this.fail(`a field number must be from 1 to ${fieldNumberMax}: current value is ${this.field}`);
    }
    return true;
  }

  /** Steps over a value that we do not know. */
  skip(): void {
    if (this.wire === varintWire) this.#varintSkip();
    else if (this.wire === bytesWire) this.#take(this.#varint());
    else if (this.wire === fixed64Wire) this.#take(8);
    else if (this.wire === fixed32Wire) this.#take(4);
    else this.fail(`the wire type of field ${this.field} must be 0, 1, 2 or 5: current value is ${this.wire}`);
  }

  bool(): boolean {
    this.#expect(varintWire);
    const from = this.#at;
    this.#varintSkip();
    for (let i = from; i < this.#at; i++) if ((this.#bytes[i]! & 0x7f) !== 0) return true;
    return false;
  }

  /** An int64 or int32 that must be from 0 to 2^53-1. */
  integer(): number {
    this.#expect(varintWire);
    return this.#varint();
  }

  /** An int64 or int32 that may be negative, from -2^53+1 to 2^53-1. */
  signed(): number {
    this.#expect(varintWire);
    const from = this.#at;
    this.#varintSkip();
    if (this.#at - from < 10) {
      this.#at = from;
      return this.#varint();
    }
    let value = 0n;
    for (let i = 9; i >= 0; i--) value = value << 7n | BigInt(this.#bytes[from + i]! & 0x7f);
    const signed = Number(BigInt.asIntN(64, value));
    if (Number.isSafeInteger(signed)) return signed;
    return this.fail("an integer must be from -2^53+1 to 2^53-1: current value is not");
  }

  /** The integers of a repeated field: one, or many packed into one value. */
  integers(into: number[]): void {
    if (this.wire === varintWire) {
      into.push(this.#varint());
      return;
    }
    this.#expect(bytesWire);
    const length = this.#varint();
    const to = this.#take(length) + length;
    this.#at = to - length;
    while (this.#at < to) into.push(this.#varint());
    if (this.#at !== to) this.fail(`field ${this.field} must end with its last integer`);
  }

  /** A view of the message's own memory. */
  bytes(): Uint8Array {
    this.#expect(bytesWire);
    const length = this.#varint();
    const from = this.#take(length);
    return this.#bytes.subarray(from, from + length);
  }

  text(): string {
    this.#expect(bytesWire);
    const length = this.#varint();
    const from = this.#take(length);
    const to = from + length;
    let isAscii = true;
    for (let i = from; i < to && isAscii; i++) isAscii = this.#bytes[i]! < 0x80;
    if (isAscii) return this.#bytes.toString("latin1", from, to);
    try {
      return strictUtf8.decode(this.#bytes.subarray(from, to));
    } catch {
      return this.fail(`field ${this.field} must be UTF-8: current value is not`);
    }
  }

  #expect(wire: number): void {
    if (this.wire !== wire) {
      this.fail(`the wire type of field ${this.field} must be ${wire}: current value is ${this.wire}`);
    }
  }

  #take(length: number): number {
    const from = this.#at;
    const left = this.#end - from;
    if (length > left) this.fail(`field ${this.field} must end within the message: ${length} of ${left} bytes wanted`);
    this.#at = from + length;
    return from;
  }

  #varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      if (this.#at === this.#end) this.fail("a varint must end within the message");
      const byte = this.#bytes[this.#at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (Number.isSafeInteger(value)) return value;
        this.fail("an integer must be from 0 to 2^53-1: current value is negative or more");
      }
      scale *= 0x80;
    }
    return this.fail("a varint must have at most 10 bytes");
  }

  #varintSkip(): void {
    for (let i = 0; i < 10; i++) {
      if (this.#at === this.#end) this.fail("a varint must end within the message");
      if (this.#bytes[this.#at++]! < 0x80) return;
    }
    this.fail("a varint must have at most 10 bytes");
  }
}
