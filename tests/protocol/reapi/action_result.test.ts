import fc from "fast-check";
import { expect, test } from "vitest";
import type { ActionResultData } from "../../../src/domain/action_result.ts";
import { type Digest, digestOfHash, emptyDigest } from "../../../src/domain/digest.ts";
import { Fault } from "../../../src/domain/fault.ts";
import { decodeActionResult, encodeActionResult } from "../../../src/protocol/reapi/action_result.ts";
import { compareUtf8 } from "../../../src/protocol/reapi/wire.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const anyText = fc.string({ unit: "grapheme" });
const anyDigest: fc.Arbitrary<Digest> = fc.tuple(fc.stringMatching(/^[0-9a-f]{64}$/), fc.nat())
  .map(([hash, size]) => digestOfHash(hash, size));
const anyBytes = fc.uint8Array({ minLength: 1, maxLength: 40 });
const anyTime = fc.record({
  seconds: fc.oneof(fc.maxSafeInteger(), fc.nat()),
  nanos: fc.integer({ min: -999_999_999, max: 999_999_999 }),
});
const byPath = (a: { path: string }, b: { path: string }): number => compareUtf8(a.path, b.path);
const sorted = <Output extends { path: string }>(output: fc.Arbitrary<Output>): fc.Arbitrary<Output[]> =>
  fc.uniqueArray(output, { selector: ({ path }) => path, maxLength: 6 }).map((list) => list.sort(byPath));
const anySymlinks = sorted(fc.record({ path: anyText, target: anyText }));
const anyDirectory = fc.record(
  { path: anyText, tree: anyDigest, rootDirectory: anyDigest, isTopologicallySorted: fc.boolean() },
  { requiredKeys: ["path", "tree", "isTopologicallySorted"] },
);
const anyResult = fc.record({
  outputFiles: sorted(fc.record(
    { path: anyText, digest: anyDigest, executable: fc.boolean(), contents: anyBytes },
    { requiredKeys: ["path", "digest", "executable"] },
  )),
  outputDirectories: sorted(anyDirectory),
  outputSymlinks: anySymlinks,
  outputFileSymlinks: anySymlinks,
  outputDirectorySymlinks: anySymlinks,
  exitCode: fc.integer(),
  stdoutRaw: anyBytes,
  stdout: anyDigest,
  stderrRaw: anyBytes,
  stderr: anyDigest,
  execution: fc.record({
    worker: anyText,
    queuedAt: anyTime,
    workerStartedAt: anyTime,
    workerCompletedAt: anyTime,
    inputFetchStartedAt: anyTime,
    inputFetchCompletedAt: anyTime,
    executionStartedAt: anyTime,
    executionCompletedAt: anyTime,
    outputUploadStartedAt: anyTime,
    outputUploadCompletedAt: anyTime,
    virtualExecution: anyTime,
    auxiliary: fc.array(fc.record({ typeUrl: anyText, value: fc.uint8Array({ maxLength: 20 }) }), { maxLength: 3 }),
  }, { requiredKeys: ["worker", "auxiliary"] }),
}, {
  requiredKeys: [
    "outputFiles",
    "outputDirectories",
    "outputSymlinks",
    "outputFileSymlinks",
    "outputDirectorySymlinks",
    "exitCode",
  ],
}) as fc.Arbitrary<ActionResultData>;

test("an ActionResult read after it was written is what was written, and written again has the same bytes", () => {
  fc.assert(fc.property(anyResult, (result) => {
    const bytes = encodeActionResult(result);
    expect(decodeActionResult(bytes)).toEqual(result);
    expect(hex(encodeActionResult(decodeActionResult(bytes)))).toBe(hex(bytes));
  }));
});

test("an ActionResult has the same bytes whatever the order of its outputs", () => {
  fc.assert(fc.property(anyResult, (result) => {
    const turned = { ...result, outputFiles: result.outputFiles.toReversed() };
    expect(hex(encodeActionResult(turned))).toBe(hex(encodeActionResult(result)));
  }));
});

test("an ActionResult has the bytes that any protobuf encoder gives", () => {
  const result: ActionResultData = {
    outputFiles: [{ path: "a", digest: emptyDigest, executable: true }],
    outputDirectories: [],
    outputSymlinks: [{ path: "l", target: "t" }],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode: -1,
    stdoutRaw: Buffer.from("hi"),
    execution: { worker: "w", queuedAt: { seconds: 1, nanos: 2 }, auxiliary: [] },
  };
  const digest = hex(Buffer.from(emptyDigest.slice(0, 64)));
  expect(hex(encodeActionResult(result))).toBe(
    `1249` + `0a0161` + `1242` + `0a40${digest}` + `2001` + `20ffffffffffffffffff01` + `2a026869` +
      `4a09` + `0a0177` + `1204` + `08011002` + `6206` + `0a016c` + `120174`,
  );
});

test("an ActionResult's unknown fields are skipped", () => {
  fc.assert(fc.property(anyResult, fc.uint8Array({ maxLength: 20 }), (result, unknown) => {
    const extra = Buffer.concat([Buffer.of(0xfa, 0x06, unknown.length), unknown]); // field 111
    expect(decodeActionResult(Buffer.concat([extra, encodeActionResult(result), extra]))).toEqual(result);
  }));
});

test("an ActionResult from strangers gives a result or a fault, whatever the bytes", () => {
  const anyMangled = fc.tuple(anyResult, fc.nat(), fc.integer({ min: 0, max: 255 })).map(([result, place, byte]) => {
    const bytes = encodeActionResult(result);
    if (bytes.length > 0) bytes[place % bytes.length] = byte;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), anyMangled), (bytes) => {
      try {
        encodeActionResult(decodeActionResult(bytes));
      } catch (error) {
        expect(error).toBeInstanceOf(Fault);
        expect(error).toMatchObject({ code: "REQUEST_INVALID" });
      }
    }),
    { numRuns: 2000 },
  );
});
