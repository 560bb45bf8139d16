import { addExtension, Encoder } from "cbor-x";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Fault } from "../../src/domain/fault.ts";
import { decode, encode } from "../../src/transport/codec.ts";

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));

/** Plain data of every kind that a message may have. */
const { message: anyMessage } = fc.letrec((tie) => ({
  message: fc.oneof(
    { depthSize: "small" },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true }).map((n) => Object.is(n, -0) ? 0 : n),
    fc.string({ unit: "grapheme" }),
    fc.uint8Array({ maxLength: 100 }),
    fc.array(tie("message"), { maxLength: 30 }),
    fc.dictionary(fc.string({ unit: "grapheme" }).filter((key) => key !== "__proto__"), tie("message"), {
      noNullPrototype: true,
    }),
  ),
}));

test("decode() gives back what encode() was given", () => {
  fc.assert(fc.property(anyMessage, (message) => {
    expect(decode(encode(message))).toStrictEqual(message);
  }));
});

test("encode() writes maps, texts and integers as RFC 8949 has them, in the fewest bytes", () => {
  expect(Buffer.from(encode({ a: 1, b: [2, 3], c: "IETF", d: new Uint8Array([1]), e: null, f: -1000 })).toString("hex"))
    .toBe("a6616101616282020361636449455446616441016165f66166" + "3903e7");
});

test("encode() leaves undefined properties out, at any depth, and changes nothing that it was given", () => {
  const message = Object.freeze({ a: undefined, b: Object.freeze([undefined, { c: undefined, d: 1 }]), e: Number.NaN });
  expect(decode(encode(message))).toStrictEqual({ b: [null, { d: 1 }], e: Number.NaN });
  expect(Object.keys(message)).toEqual(["a", "b", "e"]);
});

test("encode() replaces lone surrogates, in keys too", () => {
  expect(decode(encode({ "k\ud800": ["x\udc00y", "𝄞"] }))).toEqual({ "k\ufffd": ["x\ufffdy", "𝄞"] });
});

test("encode() refuses what is no plain data", () => {
  const cycle: unknown[] = [];
  cycle.push(cycle);
  class Point {
    readonly x = 1;
  }
  const refused = [
    new Date(0),
    new Map([[1, 2]]),
    new Set([1]),
    /x/,
    new Error("x"),
    new Point(),
    new Float64Array(1),
    new ArrayBuffer(1),
    () => 1,
    Symbol("x"),
    10n,
    Object.fromEntries([["__proto__", 1]]),
    cycle,
  ];
  for (const value of refused) {
    expect(() => encode({ in: [value] })).toThrow(expect.objectContaining({ name: "Fault", code: "FRAME_INVALID" }));
  }
});

test("encode() and decode() agree on how deep a message may be", () => {
  const nested = (depth: number): unknown => depth === 0 ? 1 : [nested(depth - 1)];
  expect(decode(encode(nested(32)))).toEqual(nested(32));
  expect(() => encode(nested(33))).toThrow(Fault);
  expect(() => decode(encode(nested(33), { nestingMax: 40 }))).toThrow(Fault);
  expect(decode(encode(nested(33), { nestingMax: 40 }), { nestingMax: 40 })).toEqual(nested(33));
});

test("decode() copies byte strings, so that a small one does not hold a large chunk", () => {
  const chunk = new Uint8Array(100_000);
  chunk.set(encode(new Uint8Array([7, 8])), 500);
  const decoded = decode(chunk.subarray(500, 503)) as Uint8Array;
  chunk.fill(0);
  expect(decoded).toStrictEqual(new Uint8Array([7, 8]));
  expect(decoded.buffer.byteLength).toBe(2);
});

const refused: readonly (readonly [string, string])[] = [
  ["nothing", ""],
  ["two items", "01 01"],
  ["a tag (date)", "c1 00"],
  ["a tag (bignum)", "c2 41 ff"],
  ["a tag (self-described)", "d9d9f7 01"],
  ["a class (27)", "d8 1b 82 61 41 01"],
  ["a shared value (28, 29)", "d8 1c 81 d8 1d 00"],
  ["a packed table (51)", "d8 33 84 81 01 80 80 01"],
  ["an explicit map (259)", "d9 0103 a0"],
  ["a record definition", "d9 dffe 83 19 e000 81 61 61 01"],
  ["an inline record", "d9 dfff 83 19 e000 81 61 61 01"],
  ["bundled strings", "d9 dff9 82 1a 00000000 01"],
  ["an array without a length", "9f 01 ff"],
  ["a map without a length", "bf 61 61 01 ff"],
  ["a text without a length", "7f 61 61 ff"],
  ["a lone break", "ff"],
  ["undefined", "f7"],
  ["an unassigned simple value", "e0"],
  ["a simple value of two bytes", "f8 20"],
  ["reserved lengths", "1c"],
  ["an integer above 2^53", "1b 0020000000000000"],
  ["a negative integer below -2^53", "3b 0020000000000000"],
  ["a text of 2^32 bytes", "7b 0000000100000000"],
  ["an array of 2^63 items", "9b 8000000000000000"],
  ["an array of which little is there", "9a 00ffffff 01"],
  ["a map of which little is there", "ba 00ffffff 61 61 01"],
  ["a cut text", "63 61 61"],
  ["a cut number", "19 01"],
  ["a cut float", "fb 00000000"],
  ["a number as key", "a1 01 01"],
  ["an array as key", "a1 80 01"],
  ["null as key", "a1 f6 01"],
  ["the key __proto__", "a1 69 5f5f70726f746f5f5f a0"],
  ["text that is not UTF-8", "62 c3 28"],
  ["text with an encoded surrogate", "63 ed a0 80"],
];
for (const [what, bytes] of refused) {
  test(`decode() refuses ${what}`, () => {
    expect(() => decode(hex(bytes))).toThrow(expect.objectContaining({ name: "Fault", code: "FRAME_INVALID" }));
  });
}

test("decode() reads integers of every width as numbers", () => {
  expect(decode(hex("87 17 18ff 19ffff 1affffffff 1b001fffffffffffff 3affffffff 3b001ffffffffffffe"))).toEqual(
    [23, 255, 65535, 2 ** 32 - 1, Number.MAX_SAFE_INTEGER, -(2 ** 32), Number.MIN_SAFE_INTEGER],
  );
});

test("decode() reads floats of every width", () => {
  expect(decode(hex("83 f93e00 fa3fc00000 fb3ff8000000000000"))).toEqual([1.5, 1.5, 1.5]);
});

test("decode() refuses a million empty maps instead of spending 56 MB on each megabyte", () => {
  const bytes = new Uint8Array(8 * 1024 * 1024).fill(0xa0);
  bytes.set(hex("9a 007ffffb"));
  expect(() => decode(bytes)).toThrow(expect.objectContaining({ message: expect.stringContaining("1000000 items") }));
});

test("decode() is not changed by what other users of cbor-x register", () => {
  class Exotic {}
  addExtension({ Class: Exotic, tag: 43_311, encode: () => new Uint8Array(0), decode: () => new Exotic() });
  expect(() => decode(new Uint8Array(new Encoder().encode(new Exotic())))).toThrow(Fault);
});

const valueOrFault = (bytes: Uint8Array): unknown => {
  try {
    return decode(bytes);
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(Fault);
    expect((thrown as Fault).code).toBe("FRAME_INVALID");
    return undefined;
  }
};

test("decode() never does anything with random bytes but to decode them or to report FRAME_INVALID", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void valueOrFault(bytes)), { numRuns: 2000 });
});

test("decode() never does anything with a changed message but to decode it or to report FRAME_INVALID", () => {
  const changes = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(anyMessage, changes, fc.nat({ max: 5 }), (message, changes, cutBytes) => {
      const bytes = Uint8Array.from(encode(message));
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
      valueOrFault(bytes.subarray(0, bytes.length - cutBytes));
    }),
    { numRuns: 2000 },
  );
});

test("what decode() accepts is plain data, which encode() accepts", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      const value = valueOrFault(bytes);
      if (value !== undefined) expect(decode(encode(value))).toStrictEqual(value);
    }),
    { numRuns: 2000 },
  );
});
