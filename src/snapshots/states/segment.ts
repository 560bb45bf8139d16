import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import { Fault } from "../../domain/fault.ts";
import { type FileHandle, readFully } from "./files.ts";

/**
 * The format of a log segment: a header, then batches. Numbers are little-endian; a CRC is CRC-32 as in zlib.
 *
 * ```
 * header  32 B  "scootlog" | u32 format | f64 seq of the first entry | f64 atMs of the last entry before it
 *               | u32 CRC of the 28 bytes before
 * batch   28 B  u32 magic | u32 body bytes | u32 entries | u32 bytes of this segment durable before this write
 *               | f64 seq of the first entry | u32 CRC of the 24 bytes before; then the body: records
 * record   8 B  u32 payload bytes | u32 CRC of the payload; then the payload:
 *               u8 flags (1: the actor is gone) | u8 address bytes | address | CBOR array of the other fields
 *               (seq, atMs, epoch, machine, version, cause.id, state, cause.from, cause.event, said, and reason if any)
 * ```
 *
 * A batch is what one `commit` brought: it counts whole or not at all. The durable length in each batch tells damage
 * from a torn end: what one batch says was durable before it cannot have been torn by the crash that ended the log.
 */
export const logFormat = 1;
export const headerBytes = 32;
export const batchBytes = 28;
export const recordBytes = 8;
/**
 * Bound on one entry, in bytes of its record's payload. The longest that is made says something to every task of the
 * largest job, some 40 MiB when all names and texts in it are as long as they may be.
 */
export const entryBytesMax = 64 * 1024 * 1024;
/** Bound on the records of one batch, in bytes. */
export const bodyBytesMax = 512 * 1024 * 1024;

const headerMagic = Buffer.from("scootlog", "latin1");
const batchMagic = Buffer.from("btch", "latin1");
const goneFlag = 1;

export interface SegmentHeader {
  readonly firstSeq: number;
  /** When the last entry before this segment was made, epoch ms; 0 before the first. */
  readonly previousAtMs: number;
}

/** A record, inside a buffer that holds it. */
export interface LogRecord {
  readonly seq: number;
  readonly address: string;
  readonly gone: boolean;
  /** Of the record from the start of the segment. */
  readonly offset: number;
  readonly payloadBytes: number;
  /** The other fields of the entry, as CBOR: a view. */
  readonly bytes: Uint8Array;
}

export interface Batch {
  /** Of the batch from the start of the segment. */
  readonly offset: number;
  /** The whole batch; the records are views of it. */
  readonly bytes: Buffer;
  readonly records: readonly LogRecord[];
}

export const segmentName = (ordinal: number): string => `${String(ordinal).padStart(10, "0")}.seg`;
export function ordinalOf(name: string): number | undefined {
  return /^\d{10}\.seg$/.test(name) ? Number(name.slice(0, 10)) : undefined;
}

export function segmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  headerMagic.copy(bytes, 0);
  bytes.writeUInt32LE(logFormat, 8);
  bytes.writeDoubleLE(header.firstSeq, 12);
  bytes.writeDoubleLE(header.previousAtMs, 20);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
  return bytes;
}

/**
 * @returns undefined when the bytes are not a whole header: damaged, or never written to their end.
 * @throws {Fault} `STORE_NEWER` for a later format.
 */
export function parseSegmentHeader(bytes: Buffer, path: string): SegmentHeader | undefined {
  if (bytes.length < headerBytes || !bytes.subarray(0, 8).equals(headerMagic)) return undefined;
  const format = bytes.readUInt32LE(8);
  if (format > logFormat) {
    throw new Fault(
      "STORE_NEWER",
      `Cannot read ${path} as it was made by a newer version: format ${format}, this one knows up to ${logFormat}`,
    );
  }
  if (crc32(bytes.subarray(0, 28)) !== bytes.readUInt32LE(28)) return undefined;
  return { firstSeq: bytes.readDoubleLE(12), previousAtMs: bytes.readDoubleLE(20) };
}

/** Batches on their way to the disk, one after the other in one buffer. */
export interface BatchWriter {
  /** Opens a batch; `record` fills it, `end` closes it. */
  begin(firstSeq: number): void;
  /** @returns the bytes of its payload. @throws {Fault} `REQUEST_INVALID` for one that is too long. */
  record(address: string, gone: boolean, bytes: Uint8Array): number;
  end(): void;
  /** Drops the batch that is open. */
  abandon(): void;
  /** Completes every batch, now that it is known what is durable before it. Nothing may be added after. */
  seal(durableBytes: number): Buffer;
  readonly bytes: number;
  /** Where the batches are, to be used again when they are written. */
  readonly buffer: Buffer;
}

/** @param buffer to write to; one that is too small is replaced. */
export function batchWriter(buffer: Buffer): BatchWriter {
  let length = 0;
  let begun = 0;
  let count = 0;
  const batches: number[] = [];
  const reserve = (bytes: number): void => {
    if (length + bytes <= buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(buffer.length * 2, length + bytes));
    buffer.copy(grown, 0, 0, length);
    buffer = grown;
  };
  return {
    begin(firstSeq) {
      reserve(batchBytes);
      begun = length;
      count = 0;
      batchMagic.copy(buffer, begun);
      buffer.writeDoubleLE(firstSeq, begun + 16);
      length += batchBytes;
    },
    record(address, gone, bytes) {
      const payloadBytes = 2 + address.length + bytes.length;
      if (payloadBytes > entryBytesMax || length + payloadBytes - begun > bodyBytesMax) {
        throw new Fault(
          "REQUEST_INVALID",
          `Cannot save the state of ${address} as an entry must be at most ${entryBytesMax} bytes and a commit ` +
            `${bodyBytesMax}: current value is ${payloadBytes} bytes after ${length - begun}`,
        );
      }
      reserve(recordBytes + payloadBytes);
      const start = length;
      const payload = start + recordBytes;
      buffer[payload] = gone ? goneFlag : 0;
      buffer[payload + 1] = address.length;
      buffer.write(address, payload + 2, "latin1");
      buffer.set(bytes, payload + 2 + address.length);
      buffer.writeUInt32LE(payloadBytes, start);
      buffer.writeUInt32LE(crc32(buffer.subarray(payload, payload + payloadBytes)), start + 4);
      length += recordBytes + payloadBytes;
      count++;
      return payloadBytes;
    },
    end() {
      buffer.writeUInt32LE(length - begun - batchBytes, begun + 4);
      buffer.writeUInt32LE(count, begun + 8);
      batches.push(begun);
    },
    abandon() {
      length = begun;
    },
    seal(durableBytes) {
      for (const start of batches) {
        buffer.writeUInt32LE(durableBytes, start + 12);
        buffer.writeUInt32LE(crc32(buffer.subarray(start, start + 24)), start + 24);
      }
      return buffer.subarray(0, length);
    },
    get bytes() {
      return length;
    },
    get buffer() {
      return buffer;
    },
  };
}

export interface BatchHeader {
  readonly bodyBytes: number;
  readonly count: number;
  readonly durableBytes: number;
  readonly firstSeq: number;
}

/** Undefined: it is not whole, or damaged. */
export function parseBatchHeader(bytes: Buffer, at: number): BatchHeader | undefined {
  if (at + batchBytes > bytes.length || bytes.compare(batchMagic, 0, 4, at, at + 4) !== 0) return undefined;
  if (crc32(bytes.subarray(at, at + 24)) !== bytes.readUInt32LE(at + 24)) return undefined;
  const bodyBytes = bytes.readUInt32LE(at + 4);
  if (bodyBytes > bodyBytesMax) return undefined;
  return {
    bodyBytes,
    count: bytes.readUInt32LE(at + 8),
    durableBytes: bytes.readUInt32LE(at + 12),
    firstSeq: bytes.readDoubleLE(at + 16),
  };
}

/**
 * One record, checked.
 *
 * @param at of the record in `bytes`. @param offset of the record in its segment.
 * @returns undefined when it is not whole or its CRC differs.
 */
export function parseRecord(bytes: Buffer, at: number, offset: number, seq: number): LogRecord | undefined {
  if (at + recordBytes > bytes.length) return undefined;
  const payloadBytes = bytes.readUInt32LE(at);
  const payload = at + recordBytes;
  if (payloadBytes < 3 || payload + payloadBytes > bytes.length) return undefined;
  if (crc32(bytes.subarray(payload, payload + payloadBytes)) !== bytes.readUInt32LE(at + 4)) return undefined;
  const addressEnd = payload + 2 + bytes[payload + 1]!;
  if (addressEnd > payload + payloadBytes) return undefined;
  return {
    seq,
    address: bytes.toString("latin1", payload + 2, addressEnd),
    gone: (bytes[payload]! & goneFlag) !== 0,
    offset,
    payloadBytes,
    bytes: bytes.subarray(addressEnd, payload + payloadBytes),
  };
}

/** Whose record that is and how long, unchecked: of a whole batch. */
export function glanceAtRecord(
  bytes: Buffer,
  at: number,
): { readonly address: string; readonly gone: boolean; readonly payloadBytes: number } {
  const payload = at + recordBytes;
  return {
    address: bytes.toString("latin1", payload + 2, payload + 2 + bytes[payload + 1]!),
    gone: (bytes[payload]! & goneFlag) !== 0,
    payloadBytes: bytes.readUInt32LE(at),
  };
}

/** The records of a batch whose body starts at `at`; undefined when one of them is damaged. */
function parseBody(bytes: Buffer, at: number, offset: number, header: BatchHeader): LogRecord[] | undefined {
  const records: LogRecord[] = [];
  const body = bytes.subarray(0, at + header.bodyBytes);
  let next = at;
  for (let index = 0; index < header.count; index++) {
    const record = parseRecord(body, next, offset + next - at, header.firstSeq + index);
    if (record === undefined) return undefined;
    records.push(record);
    next += recordBytes + record.payloadBytes;
  }
  return next === at + header.bodyBytes ? records : undefined;
}

const windowBytes = 1024 * 1024;

/**
 * The whole batches of a segment in order; returns where the next one would start, which is the end of the file
 * or where the first batch that is not whole lies. Holds one batch and at most 1 MiB beside it.
 *
 * @param from of a batch, in bytes from the start of the segment. @param to end of what is to be read.
 * @param fromSeq batches that end before this entry are passed over, their bodies unread; 0 for none.
 */
export async function* readBatches(
  file: FileHandle,
  from: number,
  to: number,
  fromSeq = 0,
): AsyncGenerator<Batch, number> {
  let window: Buffer = Buffer.alloc(0);
  /** Of the window in the segment. */
  let base = from;
  let at = from;
  const need = async (bytes: number): Promise<boolean> => {
    if (at + bytes > to) return false;
    if (at + bytes > base + window.length) {
      window = await readFully(file, at, Math.min(to - at, Math.max(bytes, windowBytes)));
      base = at;
    }
    return at + bytes <= base + window.length;
  };
  while (await need(batchBytes)) {
    const header = parseBatchHeader(window, at - base);
    if (header === undefined) return at;
    if (header.firstSeq + header.count <= fromSeq && at + batchBytes + header.bodyBytes <= to) {
      at += batchBytes + header.bodyBytes;
      continue;
    }
    if (!(await need(batchBytes + header.bodyBytes))) return at;
    const offset = at + batchBytes;
    const records = parseBody(window, offset - base, offset, header);
    if (records === undefined) return at;
    const bytes = window.subarray(at - base, offset - base + header.bodyBytes);
    yield { offset: at, bytes, records };
    at += bytes.length;
  }
  return at;
}

/**
 * Whether something after `bad` shows that the bytes at `bad` were once durable: then they are damage, not the torn
 * end of a log whose writer was stopped.
 */
export async function wasDurable(file: FileHandle, bad: number, to: number): Promise<boolean> {
  // Windows overlap by a header less one byte, so that none is missed on their border.
  for (let base = bad; base < to; base += windowBytes) {
    const window = await readFully(file, base, Math.min(to - base, windowBytes + batchBytes - 1));
    for (let at = window.indexOf(batchMagic); at >= 0; at = window.indexOf(batchMagic, at + 1)) {
      const header = parseBatchHeader(window, at);
      if (header !== undefined && header.durableBytes > bad) return true;
    }
  }
  return false;
}
