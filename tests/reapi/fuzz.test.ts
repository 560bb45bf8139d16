import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import process from "node:process";
import { status } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { newBytes, probeClient, statusOf, store } from "../../src/conformance/client.ts";
import { emptyDigest } from "../../src/domain/digest.ts";
import { Fault } from "../../src/domain/fault.ts";
import { decodeActionResult, encodeActionResult } from "../../src/protocol/reapi/action_result.ts";
import {
  decodeAction,
  decodeCommand,
  decodeDirectory,
  decodePlatform,
  decodeTree,
  encodeAction,
  encodeCommand,
  encodeDirectory,
  encodePlatform,
  encodeTree,
} from "../../src/protocol/reapi/canonical.ts";
import { requestMetadata } from "../../src/protocol/reapi/messages.ts";
import { parseBlobName, parseUploadName } from "../../src/protocol/reapi/resource_name.ts";
import { type Method, methods, opaque } from "../../src/protocol/reapi/services.ts";
import type { Tasks } from "../../src/reapi/tasks.ts";
import { startRig } from "./rig.ts";

const messagesInProcess = 100_000;
const messagesOverGrpc = 2_000;
/** Of what decoding so many small messages may leave behind before the collector comes. */
const heapGrowthMax = 256 * 1024 * 1024;

const digest = { hash: createHash("sha256").update("x").digest("hex"), sizeBytes: 1 };
const blobName = `a/b/blobs/${digest.hash}/1`;
const uploadName = `a/b/uploads/1/blobs/${digest.hash}/1/more`;

/** A request of each method, with all its fields. */
const samples: Readonly<Record<keyof typeof methods, Uint8Array | undefined>> = (() => {
  const said = { instanceName: "a/b", digestFunction: 1, actionDigest: digest };
  const requests: Record<string, object> = {
    getCapabilities: said,
    findMissingBlobs: { ...said, blobDigests: [digest, digest] },
    batchUpdateBlobs: { ...said, requests: [{ digest, data: Buffer.from("x"), compressor: 1 }] },
    batchReadBlobs: { ...said, digests: [digest], acceptableCompressors: [0, 1] },
    getTree: { ...said, rootDigest: digest, pageSize: 5, pageToken: "7" },
    splitBlob: { ...said, blobDigest: digest, chunkingFunction: 1 },
    spliceBlob: { ...said, blobDigest: digest, chunkDigests: [digest, digest], chunkingFunction: 2 },
    read: { resourceName: blobName, readOffset: 1, readLimit: -1 },
    write: { resourceName: uploadName, writeOffset: 5, finishWrite: true, data: Buffer.from("x") },
    queryWriteStatus: { resourceName: uploadName },
    getActionResult: { ...said, inlineStdout: true, inlineOutputFiles: ["f"] },
    updateActionResult: { ...said, actionResult: Buffer.from([0x20, 1]) },
    execute: { ...said, skipCacheLookup: true, executionPolicy: { priority: -1 } },
    waitOperation: { name: "operations/x", timeout: { seconds: 0, nanos: 1 } },
    listOperations: { pageSize: 3, pageToken: "x", filter: "y", name: "z" },
    fetchBlob: { ...said, uris: ["urn:a"], qualifiers: [{ name: "checksum.sri", value: "sha256-AA==" }] },
    fetchDirectory: { ...said, uris: ["urn:a"], oldestContentAccepted: { seconds: 1, nanos: 1 } },
    pushBlob: { ...said, uris: ["urn:a"], blobDigest: digest, referencesBlobs: [digest] },
    pushDirectory: { ...said, uris: ["urn:a"], rootDirectoryDigest: digest, expireAt: { seconds: 1, nanos: 1 } },
    createLogStream: { parent: "a/b" },
    checkHealth: { service: "x" },
  };
  const encoded = Object.entries(methods).map(([name, { request }]) => [
    name,
    (request as Method<object, object>["request"]).encode(requests[name] ?? { name: "a/operations/x" }),
  ]);
  return Object.fromEntries(encoded);
})();

const action = {
  command: emptyDigest,
  inputRoot: emptyDigest,
  timeoutMs: 1_500,
  doNotCache: true,
  salt: Uint8Array.of(1, 2),
  platform: [{ name: "a", value: "b" }],
};
const command = { argv: ["a"], env: { A: "b" }, outputs: ["o"], outputFiles: ["f"], outputDirectories: ["d"] };
const nodes = [
  { kind: "file", name: "f", digest: emptyDigest, executable: true },
  { kind: "directory", name: "d", digest: emptyDigest },
  { kind: "symlink", name: "s", target: "t" },
] as const;
const result = {
  outputFiles: [{ path: "f", digest: emptyDigest, executable: true, contents: Uint8Array.of(1) }],
  outputDirectories: [{ path: "d", tree: emptyDigest, isTopologicallySorted: true }],
  outputSymlinks: [{ path: "s", target: "t" }],
  outputFileSymlinks: [],
  outputDirectorySymlinks: [],
  exitCode: -1,
  stdout: emptyDigest,
  execution: {
    worker: "w",
    queuedAt: { seconds: 1, nanos: 2 },
    auxiliary: [{ typeUrl: "t", value: Uint8Array.of(1) }],
  },
};

/** All that reads bytes of strangers, and something of its kind. */
const decoders: readonly (readonly [name: string, decode: (bytes: Uint8Array) => unknown, sample: Uint8Array])[] = [
  ...Object.entries(methods).map(([name, { request }]) =>
    [name, request.decode, samples[name as keyof typeof methods]!] as const
  ),
  ["Directory", decodeDirectory, encodeDirectory(nodes)],
  ["Tree", decodeTree, encodeTree(encodeDirectory(nodes), [encodeDirectory([])])],
  ["Command", decodeCommand, encodeCommand({ ...command, platform: action.platform, workingDirectory: "w" })],
  ["Action", decodeAction, encodeAction(action)],
  ["Platform", decodePlatform, encodePlatform(action.platform)],
  ["ActionResult", decodeActionResult, encodeActionResult(result)],
  ["RequestMetadata", requestMetadata.decode, requestMetadata.encode({ toolInvocationId: "i", targetId: "//t" })],
  ["blob name", (bytes) => parseBlobName(Buffer.from(bytes).toString()), Buffer.from(blobName)],
  ["upload name", (bytes) => parseUploadName(Buffer.from(bytes).toString()), Buffer.from(uploadName)],
];

/** What is done to a message on its way here: a place of it, as a part of its length, and bytes. */
const harm = fc.record({
  kind: fc.constantFrom("flip", "cut", "put", "twice", "replace"),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  bytes: fc.uint8Array({ maxLength: 12 }),
});
function harmed(message: Uint8Array, harms: readonly { kind: string; at: number; bytes: Uint8Array }[]): Uint8Array {
  let bytes = Buffer.from(message);
  for (const { kind, at, bytes: more } of harms) {
    const place = Math.floor(at * bytes.length);
    if (kind === "flip" && place < bytes.length) bytes[place]! ^= 1 << (more.length % 8);
    else if (kind === "cut") bytes = bytes.subarray(0, place);
    else if (kind === "put") bytes = Buffer.concat([bytes.subarray(0, place), more, bytes.subarray(place)]);
    else if (kind === "twice") bytes = Buffer.concat([bytes, bytes.subarray(place)]);
    else if (kind === "replace") bytes = Buffer.from(more);
  }
  return bytes;
}
const harms = fc.array(harm, { minLength: 1, maxLength: 4 });

describe("bytes of strangers", () => {
  test(
    `${messagesInProcess} messages, harmed in every way, are read or refused by a fault, and leave nothing behind`,
    () => {
      const before = process.memoryUsage().heapUsed;
      let refused = 0;
      fc.assert(
        fc.property(fc.nat(decoders.length - 1), harms, (which, how) => {
          const [name, decode, sample] = decoders[which]!;
          try {
            decode(harmed(sample, how));
          } catch (thrown) {
            if (!(thrown instanceof Fault)) throw new Error(`${name}: ${thrown}`, { cause: thrown });
            refused++;
          }
        }),
        { numRuns: messagesInProcess },
      );
      expect(refused).toBeGreaterThan(messagesInProcess / 10); // they do reach what refuses
      expect(refused).toBeLessThan(messagesInProcess); // and what does not
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(heapGrowthMax);
    },
    120_000,
  );

  test(
    `${messagesOverGrpc} of them over gRPC are answered, never by INTERNAL or UNKNOWN, and the next request is served`,
    async () => {
      const refuses: Tasks = {
        accept: () => Promise.reject(new Fault("NO_SPACE", "There is no room for what strangers ask for")),
        async *watch() {},
        async *output() {},
        kill: () => Promise.resolve(),
        platforms: () => Promise.resolve([{}]),
      };
      const rig = await startRig({ tasks: () => refuses });
      const client = probeClient({ address: rig.address, instance: "a/b" });
      const kept = await store(client, newBytes());
      const names = Object.keys(methods) as (keyof typeof methods)[];
      try {
        await fc.assert(
          fc.asyncProperty(fc.constantFrom(...names), harms, async (name, how) => {
            const bytes = harmed(samples[name]!, how);
            const method = { ...methods[name], request: opaque, response: opaque };
            const isStream = method.kind === "serverStream";
            // One message is a whole stream of them, too.
            const { code } = await statusOf(isStream ? client.stream(method, bytes) : client.unary(method, bytes));
            if (code === status.INTERNAL || code === status.UNKNOWN) throw new Error(`${name} answers ${status[code]}`);
            const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, { blobDigests: [kept] });
            expect(missingBlobDigests).toEqual([]);
          }),
          { numRuns: messagesOverGrpc },
        );
      } finally {
        client.close();
        await rig.close();
      }
    },
    120_000,
  );
});
