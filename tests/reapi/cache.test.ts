import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync, inflateRawSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { emptyDigest } from "../../src/domain/digest.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { bytes, digest, int, message, text } from "../../src/protocol/reapi/codec.ts";
import { requestMetadata, rpcStatus } from "../../src/protocol/reapi/messages.ts";
import { methods } from "../../src/protocol/reapi/services.ts";
import { hasZstd } from "../../src/runtime/zstd.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { digestOf, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { localBlobs } from "../../src/snapshots/blobs/local.ts";
import { codeOf, digestOfText, nameOf, type Rig, startRig } from "./rig.ts";

let rig: Rig;
beforeEach(async () => {
  rig = await startRig();
});
afterEach(() => rig.close());

const empty = { hash: emptyDigest.slice(0, 64), sizeBytes: 0 };
const hello = digestOfText("hello");
const put = (content: string | Uint8Array) => writeBlob(rig.blobs, Buffer.from(content));
const uploadName = (digest: { hash: string; sizeBytes: number }, instance = "", id: string = randomUUID()) =>
  `${instance}uploads/${id}/blobs/${nameOf(digest)}`;
const missing = async (...blobDigests: { hash: string; sizeBytes: number }[]) =>
  (await rig.unary(methods.findMissingBlobs, { blobDigests })).missingBlobDigests;
const big = (size: number): Uint8Array => {
  const made = new Uint8Array(size);
  for (let i = 0; i < size; i++) made[i] = (i * 2654435761) >>> 13;
  return made;
};
const read = async (resourceName: string, more: { readOffset?: number; readLimit?: number } = {}) =>
  Buffer.concat((await rig.stream(methods.read, { resourceName, ...more })).map(({ data }) => data));

describe("Capabilities", () => {
  test("C-1 C-2 C-4 C-6 C-7 C-8 C-9: versions, SHA-256 first, updates on, a batch limit, for any instance", async () => {
    const answer = await rig.unary(methods.getCapabilities, { instanceName: "a/b" });
    expect(answer.lowApiVersion).toMatchObject({ major: 2, minor: 0 });
    expect(answer.highApiVersion).toMatchObject({ major: 2, minor: 2 });
    expect(answer.cacheCapabilities).toMatchObject({
      digestFunctions: [1],
      actionCacheUpdateCapabilities: { updateEnabled: true },
      symlinkAbsolutePathStrategy: 2,
    });
    expect(answer.cacheCapabilities!.maxBatchTotalSizeBytes).toBeGreaterThan(2 ** 21);
    expect(answer.cacheCapabilities!.maxBatchTotalSizeBytes).toBeLessThan(2 ** 22);
  });
  test("C-5: an endpoint without execution leaves it out", async () => {
    expect((await rig.unary(methods.getCapabilities, {})).executionCapabilities).toBeUndefined();
  });
  test("C-10: zstd is listed only where it is served", async () => {
    const { cacheCapabilities } = await rig.unary(methods.getCapabilities, {});
    expect(cacheCapabilities!.supportedCompressors).toEqual(hasZstd ? [1, 2] : [2]);
    expect(cacheCapabilities!.supportedBatchUpdateCompressors).toEqual(hasZstd ? [1, 2] : [2]);
  });
});

describe("transport", () => {
  test("T-6: a fault's details hold its code and message", async () => {
    const error: ServiceError = await rig.unary(methods.findMissingBlobs, { digestFunction: 9 }).then(
      () => expect.unreachable(),
      (thrown) => thrown,
    );
    const details = rpcStatus.decode(error.metadata.get("grpc-status-details-bin")[0] as Buffer);
    expect(details).toMatchObject({ code: status.INVALID_ARGUMENT, message: error.details });
    expect(details.message).toContain("SHA256");
  });
  test("T-7: a method that is not here is UNIMPLEMENTED", async () => {
    const unknown = { ...methods.getCapabilities, path: "/build.bazel.remote.execution.v2.Nothing/Nothing" };
    expect(await codeOf(rig.unary(unknown, {}))).toBe(status.UNIMPLEMENTED);
  });
  test("X-M1: any metadata header, or a broken one, does no harm", async () => {
    for (
      const header of [
        Buffer.from([0xff, 0xff]),
        Buffer.from(requestMetadata.encode({ toolDetails: { toolName: "bazel", toolVersion: "" } })),
      ]
    ) {
      const metadata = new Metadata();
      metadata.set("build.bazel.remote.execution.v2.requestmetadata-bin", header);
      const committed = await rig.upload([{
        resourceName: uploadName(hello),
        data: Buffer.from("hello"),
        finishWrite: true,
      }], { metadata });
      expect(committed).toBe(5);
    }
  });
  test("T-9: health", async () => {
    expect((await rig.unary(methods.checkHealth, {})).status).toBe(1);
    expect(await codeOf(rig.unary(methods.checkHealth, { service: "no.Such" }))).not.toBe(0);
  });
});

describe("digests and instances", () => {
  test("D-1: digests out of form are INVALID_ARGUMENT", async () => {
    const { hash } = hello;
    for (
      const bad of [{ hash: "", sizeBytes: 0 }, { hash: hash.toUpperCase(), sizeBytes: 5 }, {
        hash: hash.slice(1),
        sizeBytes: 5,
      }, { hash, sizeBytes: -1 }]
    ) {
      expect(await codeOf(missing(bad))).toBe(status.INVALID_ARGUMENT);
    }
    expect(await missing(hello)).toEqual([hello]); // the next request is served
  });
  test("D-2 D-3: no digest function means SHA-256; an unknown one is INVALID_ARGUMENT", async () => {
    for (const digestFunction of [0, 1]) await rig.unary(methods.findMissingBlobs, { digestFunction });
    expect(await codeOf(rig.unary(methods.findMissingBlobs, { digestFunction: 9 }))).toBe(status.INVALID_ARGUMENT);
  });
  test("D-4 W-15: the empty blob is always there", async () => {
    expect(await missing(empty)).toEqual([]);
    expect(await read(`blobs/${nameOf(empty)}`)).toHaveLength(0);
    expect(await rig.upload([{ resourceName: uploadName(empty), finishWrite: true }])).toBe(0);
    const { responses } = await rig.unary(methods.batchReadBlobs, { digests: [empty] });
    expect(responses[0]!.status!.code).toBe(0);
    expect(await rig.stream(methods.getTree, { rootDigest: empty })).toHaveLength(1);
  });
  test("D-5: instance names of several segments; reserved words are refused in them", async () => {
    await rig.unary(methods.findMissingBlobs, { instanceName: "a/b/c" });
    for (
      const word of ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"]
    ) {
      expect(await codeOf(rig.unary(methods.findMissingBlobs, { instanceName: `a/${word}` }))).toBe(
        status.INVALID_ARGUMENT,
      );
    }
  });
  test("D-7: with a list of instances, others are INVALID_ARGUMENT with the list", async () => {
    const listed = await startRig({ instances: ["main", "a/b"] });
    try {
      await listed.unary(methods.findMissingBlobs, { instanceName: "a/b" });
      const error = await listed.unary(methods.findMissingBlobs, { instanceName: "c" }).catch((thrown) => thrown);
      expect(error).toMatchObject({ code: status.INVALID_ARGUMENT, details: expect.stringContaining('"main"') });
    } finally {
      await listed.close();
    }
  });
});

describe("FindMissingBlobs", () => {
  test("F-1 F-3 F-5: exactly the absent ones that were asked; a wrong size is absent", async () => {
    await put("hello");
    const other = digestOfText("other");
    expect(await missing(hello, other, other)).toEqual([other]);
    expect(await missing({ ...hello, sizeBytes: 6 })).toEqual([{ ...hello, sizeBytes: 6 }]);
  });
  test("F-4: 100,000 digests in one call", async () => {
    await put("hello");
    const many = Array.from(
      { length: 100_000 },
      (_, n) => ({ hash: n.toString(16).padStart(64, "0"), sizeBytes: n + 1 }),
    );
    expect(await missing(hello, ...many)).toHaveLength(100_000);
  });
});

describe("batches", () => {
  test("BU-1 BU-3 BU-8: each blob has its own status and digest; nothing wrong is stored", async () => {
    const other = digestOfText("other");
    const { responses } = await rig.unary(methods.batchUpdateBlobs, {
      requests: [
        { digest: hello, data: Buffer.from("hello"), compressor: 0 },
        { digest: other, data: Buffer.from("wrong"), compressor: 0 },
        { digest: hello, data: Buffer.from("hello"), compressor: 0 },
        { digest: { hash: "xyz", sizeBytes: 1 }, data: Buffer.from("a"), compressor: 0 },
        { digest: digestOfText("b"), data: Buffer.from("b"), compressor: 3 },
      ],
    });
    expect(responses.map((it) => it.status!.code)).toEqual([0, 3, 0, 3, 3]);
    expect(responses.map((it) => it.digest!.hash)).toEqual([
      hello.hash,
      other.hash,
      hello.hash,
      "xyz",
      digestOfText("b").hash,
    ]);
    expect(await missing(hello, other)).toEqual([other]);
  });
  test("BU-2: more than the limit together is INVALID_ARGUMENT, and nothing is stored", async () => {
    const halves = [big(2_200_000), big(2_200_001)];
    const requests = halves.map((data) => ({ digest: digestOfText(data), data, compressor: 0 }));
    expect(await codeOf(rig.unary(methods.batchUpdateBlobs, { requests }))).toBe(status.INVALID_ARGUMENT);
    expect(await missing(...requests.map((it) => it.digest))).toHaveLength(2);
    expect(await codeOf(rig.unary(methods.batchReadBlobs, { digests: requests.map((it) => it.digest) }))).toBe(3);
  });
  test("BU-4 BU-7: a missing blob is NOT_FOUND by itself; IDENTITY is answered whatever is acceptable", async () => {
    await put("hello");
    const { responses } = await rig.unary(methods.batchReadBlobs, {
      digests: [digestOfText("x"), hello],
      acceptableCompressors: [1],
    });
    expect(responses.map((it) => it.status!.code)).toEqual([5, 0]);
    expect(Buffer.from(responses[1]!.data).toString()).toBe("hello");
    expect(responses[1]!.compressor).toBe(0);
  });
  test("BU-5: empty batches succeed", async () => {
    expect((await rig.unary(methods.batchUpdateBlobs, {})).responses).toEqual([]);
    expect((await rig.unary(methods.batchReadBlobs, {})).responses).toEqual([]);
  });
  test.runIf(hasZstd)("zstd in a batch; a bomb costs no more than the blob's size", async () => {
    const [bomb, small] = [zstdCompressSync(new Uint8Array(50_000_000)), zstdCompressSync(Buffer.from("hello"))];
    const { responses } = await rig.unary(methods.batchUpdateBlobs, {
      requests: [{ digest: digestOfText("abc"), data: bomb, compressor: 1 }, {
        digest: hello,
        data: small,
        compressor: 1,
      }],
    });
    expect(responses.map((it) => it.status!.code)).toEqual([3, 0]);
  });
});

describe("ByteStream.Write", () => {
  test("W-1: with and without instance, of several segments, with more after the size", async () => {
    for (const [n, instance] of ["", "main/", "a/b/c/"].entries()) {
      const content = `content ${n}`;
      const resourceName = `${uploadName(digestOfText(content), instance)}/some/file.txt`;
      expect(await rig.upload([{ resourceName, data: Buffer.from(content), finishWrite: true }])).toBe(content.length);
      expect((await read(`${instance}blobs/${nameOf(digestOfText(content))}`)).toString()).toBe(content);
    }
  });
  test("W-2: the name in the first message or in every one, but the same", async () => {
    const resourceName = uploadName(hello);
    const two = (
      second: string,
    ) => [{ resourceName, data: Buffer.from("he") }, {
      resourceName: second,
      writeOffset: 2,
      data: Buffer.from("llo"),
      finishWrite: true,
    }];
    expect(await codeOf(rig.upload(two(uploadName(hello))))).toBe(status.INVALID_ARGUMENT);
    expect(await missing(hello)).toHaveLength(1);
    expect(await rig.upload(two(resourceName))).toBe(5);
  });
  test("W-3: gaps and overlaps are INVALID_ARGUMENT", async () => {
    for (const writeOffset of [1, 3]) {
      const messages = [{ resourceName: uploadName(hello), data: Buffer.from("he") }, {
        writeOffset,
        data: Buffer.from("llo"),
        finishWrite: true,
      }];
      expect(await codeOf(rig.upload(messages))).toBe(status.INVALID_ARGUMENT);
    }
    expect(await missing(hello)).toHaveLength(1);
  });
  test("W-4: finish_write may come alone; a stream that ends without it stores nothing", async () => {
    const resourceName = uploadName(hello);
    await rig.upload([{ resourceName, data: Buffer.from("hello") }]);
    expect(await missing(hello)).toHaveLength(1);
    expect(await rig.upload([{ resourceName, data: Buffer.from("hello") }, { writeOffset: 5, finishWrite: true }]))
      .toBe(5);
  });
  test("W-5 W-7 N-6: 9 MB in 16 KiB messages", async () => {
    const content = big(9_000_000);
    const resourceName = uploadName(digestOfText(content));
    const messages = [];
    for (let at = 0; at < content.length; at += 16_384) {
      messages.push({
        resourceName: at === 0 ? resourceName : "",
        writeOffset: at,
        data: content.subarray(at, at + 16_384),
        finishWrite: at + 16_384 >= content.length,
      });
    }
    expect(await rig.upload(messages)).toBe(content.length);
    expect(await read(`blobs/${nameOf(digestOfText(content))}`)).toEqual(Buffer.from(content));
  });
  test("W-6: wrong bytes, too few, too many: INVALID_ARGUMENT, and nothing is visible", async () => {
    const large = digestOfText(big(600_000));
    for (const [digest, data] of [[hello, "hullo"], [hello, "hell"], [hello, "hello!"], [large, "x"]] as const) {
      const messages = [{ resourceName: uploadName(digest), data: Buffer.from(data), finishWrite: true }];
      expect(await codeOf(rig.upload(messages))).toBe(status.INVALID_ARGUMENT);
      expect(await missing(digest)).toHaveLength(1);
    }
  });
  test("W-8: a blob that is there is answered early, with its full size", async () => {
    const content = big(9_000_000);
    await put(content);
    const resourceName = uploadName(digestOfText(content));
    expect(
      await rig.upload([{ resourceName, data: content.subarray(0, 16_384) }], { end: false }).catch(() =>
        content.length
      ),
    ).toBe(content.length);
    expect(await rig.upload([{ resourceName, data: content.subarray(0, 16_384) }])).toBe(content.length);
  });
  test("W-11 W-12: an upload that broke off goes on where it stood, after a restart too", async () => {
    const content = big(3_000_000);
    const resourceName = uploadName(digestOfText(content));
    expect(await rig.unary(methods.queryWriteStatus, { resourceName })).toEqual({ committedSize: 0, complete: false });
    await rig.upload([{ resourceName, data: content.subarray(0, 1_000_000) }]);
    await rig.restart();
    const { committedSize, complete } = await rig.unary(methods.queryWriteStatus, { resourceName });
    expect([committedSize, complete]).toEqual([1_000_000, false]);
    const rest = [{
      resourceName,
      writeOffset: committedSize,
      data: content.subarray(committedSize),
      finishWrite: true,
    }];
    expect(await rig.upload(rest)).toBe(content.length);
    expect(await rig.unary(methods.queryWriteStatus, { resourceName })).toEqual({
      committedSize: content.length,
      complete: true,
    });
  });
  test("W-11: an upload goes on where it was said to stand, though its lost connection had brought more", async () => {
    const content = big(3_000_000);
    const resourceName = uploadName(digestOfText(content));
    const client = new Client(rig.address, credentials.createInsecure());
    const lost = client.makeClientStreamRequest(
      methods.write.path,
      (bytes: Uint8Array) => Buffer.from(bytes),
      methods.write.response.decode,
      () => {},
    );
    try {
      lost.write(methods.write.request.encode({ resourceName, data: content.subarray(0, 1_000_000) }));
      const whole = 3 * 256 * 1024; // the rest of what came waits for more
      let committedSize = 0;
      while (committedSize < whole) {
        ({ committedSize } = await rig.unary(methods.queryWriteStatus, { resourceName }));
      }
      expect(committedSize).toBe(whole);
      const rest = { resourceName, writeOffset: whole, data: content.subarray(whole), finishWrite: true };
      expect(await rig.upload([rest])).toBe(content.length);
      expect(await read(`blobs/${nameOf(digestOfText(content))}`)).toEqual(Buffer.from(content));
    } finally {
      client.close();
    }
  });
  test("W-4: a message may have any size from a byte on", async () => {
    const content = big(3_000);
    const resourceName = uploadName(digestOfText(content));
    const messages = Array.from({ length: 3_000 }, (_, at) => ({
      resourceName,
      writeOffset: at,
      data: content.subarray(at, at + 1),
      finishWrite: at === 2_999,
    }));
    expect(await rig.upload(messages)).toBe(3_000);
    expect(await read(`blobs/${nameOf(digestOfText(content))}`)).toEqual(Buffer.from(content));
  });
  test("W-13: two uploads of one blob at once both succeed, one that breaks off hurts nobody", async () => {
    const content = big(2_000_000);
    const whole = (id: string) =>
      rig.upload([{ resourceName: uploadName(digestOfText(content), "", id), data: content, finishWrite: true }]);
    const broken = codeOf(
      rig.upload([{ resourceName: uploadName(digestOfText(content)), data: content.subarray(0, 9) }], { end: false }),
    );
    expect(await Promise.all([whole("one"), whole("two")])).toEqual([content.length, content.length]);
    expect(await broken).toSatisfy((code: number) => code === status.CANCELLED || code === status.OK);
  });
  test("W-16: the header must name the same resource", async () => {
    const metadata = new Metadata();
    metadata.set("build.bazel.remote.execution.v2.resource-name", "another");
    const messages = [{ resourceName: uploadName(hello), data: Buffer.from("hello"), finishWrite: true }];
    expect(await codeOf(rig.upload(messages, { metadata }))).toBe(status.INVALID_ARGUMENT);
  });
  test.runIf(hasZstd)(
    "W-9 W-10: compressed uploads count compressed bytes, or raw ones for clients that insist",
    async () => {
      for (const [toolName, sizes] of [["bazel", "sent"], ["siso", "raw"]] as const) {
        const content = Buffer.concat([big(400_000), Buffer.from(toolName)]);
        const sent = zstdCompressSync(content);
        const metadata = new Metadata();
        metadata.set(
          "build.bazel.remote.execution.v2.requestmetadata-bin",
          Buffer.from(requestMetadata.encode({ toolDetails: { toolName, toolVersion: "1" } })),
        );
        const resourceName = `uploads/${randomUUID()}/compressed-blobs/zstd/${nameOf(digestOfText(content))}`;
        const messages = [{ resourceName, data: sent.subarray(0, 100) }, {
          writeOffset: 100,
          data: sent.subarray(100),
          finishWrite: true,
        }];
        expect(await rig.upload(messages, { metadata })).toBe(sizes === "raw" ? content.length : sent.length);
        expect(await rig.upload(messages, { metadata })).toBe(sizes === "raw" ? content.length : -1);
        expect(zstdDecompressSync(await read(`compressed-blobs/zstd/${nameOf(digestOfText(content))}`))).toEqual(
          content,
        );
        expect(
          zstdDecompressSync(await read(`compressed-blobs/zstd/${nameOf(digestOfText(content))}`, { readOffset: 7 })),
        ).toEqual(content.subarray(7));
      }
    },
  );
  test.runIf(hasZstd)("what is no zstd, or inflates to more, is INVALID_ARGUMENT", async () => {
    const large = digestOfText(big(600_000));
    for (
      const [digest, data] of [[hello, Buffer.from("hello")], [large, Buffer.from("hello")], [
        large,
        zstdCompressSync(new Uint8Array(9_000_000)),
      ]] as const
    ) {
      const resourceName = `uploads/${randomUUID()}/compressed-blobs/zstd/${nameOf(digest)}`;
      expect(await codeOf(rig.upload([{ resourceName, data, finishWrite: true }]))).toBe(status.INVALID_ARGUMENT);
    }
  });
});

describe("compressed blobs", () => {
  test("C-10 W-9 R-3: deflate is taken and given by stream and in batches", async () => {
    for (const size of [1_000, 600_000]) {
      const content = big(size);
      const sent = deflateRawSync(content);
      const digest = digestOfText(content);
      const resourceName = `uploads/${randomUUID()}/compressed-blobs/deflate/${nameOf(digest)}`;
      expect(await rig.upload([{ resourceName, data: sent, finishWrite: true }])).toBe(sent.length);
      expect(inflateRawSync(await read(`compressed-blobs/deflate/${nameOf(digest)}`))).toEqual(Buffer.from(content));
      const rest = await read(`compressed-blobs/deflate/${nameOf(digest)}`, { readOffset: 7 });
      expect(inflateRawSync(rest)).toEqual(Buffer.from(content).subarray(7));
    }
    const { responses } = await rig.unary(methods.batchUpdateBlobs, {
      requests: [
        { digest: hello, data: deflateRawSync(Buffer.from("hello")), compressor: 2 },
        { digest: digestOfText("abc"), data: deflateRawSync(new Uint8Array(50_000_000)), compressor: 2 },
      ],
    });
    expect(responses.map((it) => it.status!.code)).toEqual([0, 3]);
  });
  test("what is kept on a disk is given as it lies: what came compressed as it came, small text as it was deflated", async () => {
    const dir = mkdtempSync(join(tmpdir(), "scoot-reapi-blobs-"));
    const blobs = localBlobs({ dir, clock: realClock });
    const kept = await startRig({ blobs });
    const given = async (resourceName: string) =>
      Buffer.concat((await kept.stream(methods.read, { resourceName })).map(({ data }) => data));
    try {
      const content = Buffer.from("a line of text, and another\n".repeat(30_000));
      const forms = { deflate: deflateRawSync, ...(hasZstd ? { zstd: zstdCompressSync } : {}) };
      for (const [place, [compressor, compress]] of Object.entries(forms).entries()) {
        content.writeUInt8(65 + place, 0); // another blob for each
        const sent = compress(content);
        const digest = nameOf(digestOfText(content));
        const resourceName = `uploads/u/compressed-blobs/${compressor}/${digest}`;
        expect(await kept.upload([{ resourceName, data: sent, finishWrite: true }])).toBe(sent.length);
        expect(await given(`compressed-blobs/${compressor}/${digest}`)).toEqual(sent);
        expect(await given(`blobs/${digest}`)).toEqual(content);
      }
      const small = Buffer.from("const answer = 42;\n".repeat(300));
      const digest = await writeBlob(blobs, small);
      expect(inflateRawSync(await given(`compressed-blobs/deflate/${digest}`))).toEqual(small);
    } finally {
      await kept.close();
      await blobs.close();
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

describe("ByteStream.Read", () => {
  test("R-1 R-2 R-3: names, offsets and limits", async () => {
    await put("hello");
    const name = `x/y/blobs/${nameOf(hello)}`;
    expect((await read(name, { readOffset: 1 })).toString()).toBe("ello");
    expect((await read(name, { readOffset: 1, readLimit: 2 })).toString()).toBe("el");
    expect(await read(name, { readOffset: 5 })).toHaveLength(0);
    for (const readOffset of [6, -1]) expect(await codeOf(read(name, { readOffset }))).toBe(status.OUT_OF_RANGE);
    if (hasZstd) expect(await codeOf(read(`compressed-blobs/zstd/${nameOf(hello)}`, { readLimit: 1 }))).toBe(3);
  });
  test("R-4: a missing blob is NOT_FOUND", async () => {
    expect(await codeOf(read(`blobs/${nameOf(hello)}`))).toBe(status.NOT_FOUND);
    if (hasZstd) expect(await codeOf(read(`compressed-blobs/zstd/${nameOf(hello)}`))).toBe(status.NOT_FOUND);
  });
  test("R-5: loss met half-way is an error", async () => {
    const content = big(3_000_000);
    await put(content);
    const losing = await startRig({
      blobs: {
        ...rig.blobs,
        async *get() {
          yield content.subarray(0, 1_000);
          throw new Error("the disk is gone");
        },
      },
    });
    try {
      expect(await codeOf(losing.stream(methods.read, { resourceName: `blobs/${nameOf(digestOfText(content))}` })))
        .toBe(status.INTERNAL);
    } finally {
      await losing.close();
    }
  });
  test("R-6: messages are of at most 1 MiB", async () => {
    const content = big(3_000_000);
    await put(content);
    const answers = await rig.stream(methods.read, { resourceName: `blobs/${nameOf(digestOfText(content))}` });
    expect(Math.max(...answers.map(({ data }) => data.length))).toBeLessThanOrEqual(1024 * 1024);
  });
  test("R-8: names out of form, and of uploads, are INVALID_ARGUMENT", async () => {
    const { hash } = hello;
    for (
      const name of [
        "",
        "blobs",
        `blobs/${hash}`,
        `blobs/${hash}/-1`,
        `blobs/${hash}/5/x`,
        `blobs/${hash.toUpperCase()}/5`,
        `blobs/blake3/${hash}/5`,
        `compressed-blobs/brotli/${hash}/5`,
        `a//blobs/${hash}/5`,
        uploadName(hello),
      ]
    ) {
      expect(await codeOf(read(name)), name).toBe(status.INVALID_ARGUMENT);
    }
  });
});

describe("GetTree", () => {
  const tree = async () => {
    const leaf = encodeDirectory([{ kind: "symlink", name: "l", target: "x" }]);
    const absent = digestOf(encodeDirectory([{ kind: "symlink", name: "gone", target: "x" }]));
    const leafDigest = await put(leaf);
    const root = encodeDirectory([
      { kind: "directory", name: "a", digest: leafDigest },
      { kind: "directory", name: "b", digest: leafDigest },
      { kind: "directory", name: "c", digest: absent },
    ]);
    return { root, leaf, rootDigest: digestOfText(await put(root).then(() => root)) };
  };
  test("G-1 G-2: all in one stream, each once; what is missing below is left out, a missing root is NOT_FOUND", async () => {
    const { root, leaf, rootDigest } = await tree();
    const pages = await rig.stream(methods.getTree, { rootDigest, pageSize: 1 });
    expect(pages.flatMap((it) => it.directories.map((bytes) => Buffer.from(bytes)))).toEqual(
      [root, leaf].map((it) => Buffer.from(it)),
    );
    expect(pages.map((it) => it.nextPageToken)).toEqual(["1", ""]);
    expect(await codeOf(rig.stream(methods.getTree, { rootDigest: hello }))).toBe(status.NOT_FOUND);
  });
  test("G-3: from a token on; a token that was never answered is INVALID_ARGUMENT", async () => {
    const { leaf, rootDigest } = await tree();
    const [page] = await rig.stream(methods.getTree, { rootDigest, pageToken: "1" });
    expect(page!.directories.map((it) => Buffer.from(it))).toEqual([Buffer.from(leaf)]);
    for (const pageToken of ["x", "-1", "99"]) {
      expect(await codeOf(rig.stream(methods.getTree, { rootDigest, pageToken }))).toBe(status.INVALID_ARGUMENT);
    }
  });
});

describe("ActionCache", () => {
  const actionDigest = digestOfText("an action");
  const result = message("an ActionResult", { exitCode: int(4), stdoutRaw: bytes(5) });
  test("A-1 A-4: a miss is NOT_FOUND; what was uploaded is answered, never as no bytes", async () => {
    expect(await codeOf(rig.unary(methods.getActionResult, { actionDigest }))).toBe(status.NOT_FOUND);
    const actionResult = result.encode({ exitCode: 3, stdoutRaw: Buffer.from("said") });
    expect(await rig.unary(methods.updateActionResult, { actionDigest, actionResult })).toEqual(
      Buffer.from(actionResult),
    );
    expect(result.decode(await rig.unary(methods.getActionResult, { actionDigest }))).toMatchObject({ exitCode: 3 });
    await rig.unary(methods.updateActionResult, { actionDigest: hello, actionResult: new Uint8Array(0) });
    expect((await rig.unary(methods.getActionResult, { actionDigest: hello })).length).toBeGreaterThan(0);
  });
  test("A-2 A-5: nothing is taken or answered that refers to what is not there", async () => {
    const output = message("an ActionResult", { stdoutDigest: digest(6) }).encode({ stdoutDigest: hello });
    const update = () => rig.unary(methods.updateActionResult, { actionDigest, actionResult: output });
    expect(await codeOf(update())).toBe(status.FAILED_PRECONDITION);
    expect(await codeOf(rig.unary(methods.getActionResult, { actionDigest }))).toBe(status.NOT_FOUND);
    await put("hello");
    await update();
    expect(await rig.unary(methods.getActionResult, { actionDigest })).toEqual(Buffer.from(output));
  });
  test("A-7: the last update wins", async () => {
    for (const exitCode of [1, 2]) {
      await rig.unary(methods.updateActionResult, { actionDigest, actionResult: result.encode({ exitCode }) });
    }
    expect(result.decode(await rig.unary(methods.getActionResult, { actionDigest }))).toMatchObject({ exitCode: 2 });
  });
  test("D-1: what is no ActionResult, or no action's digest, is INVALID_ARGUMENT", async () => {
    const actionResult = Uint8Array.of(0x0a, 0xff);
    expect(await codeOf(rig.unary(methods.updateActionResult, { actionDigest, actionResult }))).toBe(3);
    expect(await codeOf(rig.unary(methods.getActionResult, {}))).toBe(3);
  });
  test("D-7: entries do not cross instances", async () => {
    await rig.unary(methods.updateActionResult, {
      instanceName: "one",
      actionDigest,
      actionResult: result.encode({ exitCode: 1 }),
    });
    expect(await codeOf(rig.unary(methods.getActionResult, { instanceName: "two", actionDigest }))).toBe(
      status.NOT_FOUND,
    );
  });
});

describe("strangers", () => {
  test("bytes that are no message are INVALID_ARGUMENT, and the next request is served", async () => {
    expect(await codeOf(rig.unary(methods.findMissingBlobs, Uint8Array.of(0x0a, 0xff)))).toBe(status.INVALID_ARGUMENT);
    expect(await missing()).toEqual([]);
  });
  test("decoders answer any bytes with a message or a fault", () => {
    const all = [...Object.values(methods).flatMap((it) => [it.request, it.response]), requestMetadata, rpcStatus];
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (given) => {
        for (const codec of all) {
          try {
            (codec as typeof rpcStatus).encode((codec as typeof rpcStatus).decode(given));
          } catch (thrown) {
            if ((thrown as { code?: unknown }).code !== "REQUEST_INVALID") throw thrown;
          }
        }
      }),
      { numRuns: 4_000 },
    );
  });
  test("digests of any size and form are decoded as they were encoded", () => {
    const hash = fc.oneof(
      fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: 64, maxLength: 64 }),
      fc.string({ maxLength: 64 }),
    );
    const size = fc.oneof(fc.maxSafeInteger(), fc.integer({ min: 0, max: 2 ** 29 }));
    fc.assert(
      fc.property(fc.array(fc.record({ hash, sizeBytes: size })), (blobDigests) => {
        const { request } = methods.findMissingBlobs;
        expect(request.decode(request.encode({ blobDigests })).blobDigests).toEqual(blobDigests);
      }),
    );
  });
  test("N-10: what is encoded is decoded the same, negative and large numbers too", () => {
    const codec = message("a Test", { number: int(1), text: text(2), bytes: bytes(16) });
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.string({ unit: "binary" }), fc.uint8Array(), (number, text, bytes) => {
        const read = codec.decode(codec.encode({ number, text, bytes }));
        expect({ ...read, bytes: Uint8Array.from(read.bytes) }).toEqual({ number, text, bytes });
      }),
    );
  });
});
