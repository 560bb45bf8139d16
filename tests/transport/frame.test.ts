import fc from "fast-check";
import { expect, test } from "vitest";
import { Fault } from "../../src/domain/fault.ts";
import { frameHeaderBytes, frameReader, magic, writeFrameHeader } from "../../src/transport/frame.ts";
import { joined } from "./connection_contract.ts";

function framed(payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(frameHeaderBytes + payload.length);
  writeFrameHeader(bytes, 0, payload.length);
  bytes.set(payload, frameHeaderBytes);
  return bytes;
}

/** The bytes cut at the given places. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, index) => bytes.slice(at[index], end));
}

const payloads = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 });
const places = fc.array(fc.nat(), { maxLength: 40 });

test("frameReader() gives back what was framed, however the bytes are cut and whenever it is asked", () => {
  fc.assert(fc.property(payloads, places, fc.boolean(), fc.boolean(), (payloads, places, asksLate, hasPrefix) => {
    const reader = frameReader({ payloadBytesMax: 300, ...(hasPrefix ? { prefix: magic } : {}) });
    const read: Uint8Array[] = [];
    const ask = (): void => {
      for (let frame = reader.next(); frame !== undefined; frame = reader.next()) read.push(frame);
    };
    for (const chunk of cut(joined(...(hasPrefix ? [magic] : []), ...payloads.map(framed)), places)) {
      reader.push(chunk);
      if (!asksLate) ask();
    }
    ask();
    expect(read.map((frame) => [...frame])).toEqual(payloads.map((payload) => [...payload]));
  }));
});

test("frameReader() never does anything with random bytes but to wait, to read, or to report a fault", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 64 })), fc.boolean(), (chunks, hasPrefix) => {
    const reader = frameReader({ payloadBytesMax: 1000, ...(hasPrefix ? { prefix: magic } : {}) });
    try {
      for (const chunk of chunks) {
        reader.push(chunk);
        for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
          expect(frame.length).toBeLessThanOrEqual(1000);
        }
      }
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(Fault);
    }
  }));
});

test("frameReader() refuses a frame that is too long as soon as it has read the length", () => {
  const reader = frameReader({ payloadBytesMax: 1000 });
  reader.push(new Uint8Array([0, 0, 3]));
  expect(reader.next()).toBeUndefined();
  reader.push(new Uint8Array([0xe9]));
  expect(() => reader.next()).toThrow(expect.objectContaining({
    code: "FRAME_TOO_LONG",
    message: expect.stringContaining("at most 1000 bytes: current value is 1001"),
  }));
});

test("frameReader() takes a frame of exactly the greatest length, of up to 4 GB", () => {
  const reader = frameReader({ payloadBytesMax: 2 ** 32 - 1 });
  reader.push(new Uint8Array([255, 255, 255, 255]));
  expect(reader.next()).toBeUndefined();
});

test("frameReader() spends no memory on a length that is only claimed", () => {
  const readers = Array.from({ length: 1000 }, () => {
    const reader = frameReader({ payloadBytesMax: 8 * 1024 * 1024 });
    reader.push(new Uint8Array([0, 0x7f, 0xff, 0xff, 1]));
    expect(reader.next()).toBeUndefined();
    return reader;
  });
  // 1,000 strangers, 64 KiB each; eight gigabytes if they were believed.
  expect(process.memoryUsage().arrayBuffers).toBeLessThan(200 * 1024 * 1024);
  expect(readers).toHaveLength(1000);
});

test("frameReader() reads 8 MiB that come in chunks of 1,000 bytes, copying each byte a few times at most", () => {
  const payload = new Uint8Array(8 * 1024 * 1024).map((_, index) => index % 253);
  const bytes = framed(payload);
  const reader = frameReader({ payloadBytesMax: payload.length });
  let read: Uint8Array | undefined;
  const startMs = performance.now();
  for (let at = 0; at < bytes.length; at += 1000) {
    reader.push(bytes.subarray(at, at + 1000));
    read = reader.next();
  }
  expect(Buffer.compare(read as Uint8Array, payload)).toBe(0);
  // Quadratic copying would take a minute.
  expect(performance.now() - startMs).toBeLessThan(2000);
});

test("frameReader() says readably what came instead of the prefix", () => {
  const reader = frameReader({ payloadBytesMax: 10, prefix: magic });
  reader.push(new TextEncoder().encode("GET / HTTP/1.1"));
  expect(() => reader.next()).toThrow(expect.objectContaining({
    code: "FRAME_INVALID",
    message: expect.stringContaining(String.raw`must be "SCOOT/1\n": current value is "GET / HT"`),
  }));
});
