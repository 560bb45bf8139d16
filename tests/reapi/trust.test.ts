import { Buffer } from "node:buffer";
import { Metadata, status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { Fault } from "../../src/domain/fault.ts";
import { methods } from "../../src/protocol/reapi/services.ts";
import { codeOf, digestOfText, nameOf, type Rig, rigToken, startRig } from "./rig.ts";

let rig: Rig;
afterEach(() => rig.close());

const bearing = (token: string): Metadata => {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
};
const blob = Buffer.from("hello");
const resourceName = `uploads/u/blobs/${nameOf(digestOfText(blob))}`;

test("whoever is not trusted brings the token with every call, or is UNAUTHENTICATED", async () => {
  rig = await startRig({ isTrusted: false });
  const digest = digestOfText("x");
  const metadatas = [new Metadata(), bearing("wrong"), bearing("")];
  for (const metadata of metadatas) {
    expect(await codeOf(rig.unary(methods.getCapabilities, {}, metadata))).toBe(status.UNAUTHENTICATED);
    expect(await codeOf(rig.upload([{ resourceName, data: blob, finishWrite: true }], { metadata })))
      .toBe(status.UNAUTHENTICATED);
    const update = { actionDigest: digest, actionResult: new Uint8Array(0) };
    expect(await codeOf(rig.unary(methods.updateActionResult, update, metadata))).toBe(status.UNAUTHENTICATED);
  }
  expect(await codeOf(rig.stream(methods.read, { resourceName: `blobs/${nameOf(digestOfText(""))}` })))
    .toBe(status.UNAUTHENTICATED);
  const metadata = bearing(rigToken);
  expect(await rig.upload([{ resourceName, data: blob, finishWrite: true }], { metadata })).toBe(blob.length);
  const { missingBlobDigests } = await rig.unary(
    methods.findMissingBlobs,
    { blobDigests: [digestOfText(blob)] },
    metadata,
  );
  expect(missingBlobDigests).toEqual([]);
});

test("nothing is uploaded when there is no room for it", async () => {
  rig = await startRig({
    needSpace: (what) => {
      throw new Fault("NO_SPACE", `Cannot take ${what}`);
    },
  });
  const update = { requests: [{ digest: digestOfText(blob), data: blob, compressor: 0 }] };
  expect(await codeOf(rig.unary(methods.batchUpdateBlobs, update))).toBe(status.RESOURCE_EXHAUSTED);
  expect(await codeOf(rig.upload([{ resourceName, data: blob, finishWrite: true }]))).toBe(status.RESOURCE_EXHAUSTED);
  const { missingBlobDigests } = await rig.unary(methods.findMissingBlobs, { blobDigests: [digestOfText(blob)] });
  expect(missingBlobDigests).toEqual([digestOfText(blob)]);
});
