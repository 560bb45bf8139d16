import { randomUUID } from "node:crypto";
import { methods } from "../protocol/reapi/services.ts";
import {
  digestOfBytes,
  emptyBlob,
  expectCode,
  expectIsOneOf,
  expectThat,
  load,
  missingOf,
  newBytes,
  statusOf,
  store,
} from "./client.ts";
import { digestFunctions, hashWith } from "./digest_functions.ts";
import type { Check } from "./run.ts";

/** Part 3: digests and instance names. */
export const checks: readonly Check[] = [
  {
    id: "D-1",
    says: "a digest out of form is INVALID_ARGUMENT",
    async holds(client) {
      const { hash } = digestOfBytes(newBytes());
      const bad = [hash.slice(1), hash.toUpperCase(), "x".repeat(64), ""].map((it) => ({ hash: it, sizeBytes: 1 }));
      for (const digest of [...bad, { hash, sizeBytes: -1 }]) {
        await expectCode(missingOf(client, [digest]), "INVALID_ARGUMENT");
        if (digest.hash === "") continue; // no name at all
        await expectCode(client.stream(methods.read, { resourceName: client.blobName(digest) }), "INVALID_ARGUMENT");
      }
    },
  },
  {
    id: "D-2",
    says: "a request with no digest function means SHA256 by the hash's length",
    async holds(client) {
      const digest = await store(client, newBytes());
      for (const digestFunction of [0, digestFunctions.SHA256]) {
        const found = await client.unary(methods.findMissingBlobs, { blobDigests: [digest], digestFunction });
        expectThat(found.missingBlobDigests.length === 0, `it is missing for function ${digestFunction}`);
      }
    },
  },
  {
    id: "D-3",
    says: "a digest function that is not listed is INVALID_ARGUMENT",
    async holds(client, { cacheCapabilities }) {
      const listed = cacheCapabilities?.digestFunctions ?? [];
      const digestFunction = [digestFunctions.MD5, digestFunctions.SHA1, 200].find((it) => !listed.includes(it))!;
      const digest = hashWith(digestFunction, newBytes()) ?? digestOfBytes(newBytes());
      await expectCode(
        client.unary(methods.findMissingBlobs, { blobDigests: [digest], digestFunction }),
        "INVALID_ARGUMENT",
      );
    },
  },
  {
    id: "D-4",
    says: "the empty blob is always there",
    async holds(client) {
      expectThat(await missingOf(client, [emptyBlob]) === 0, "it is reported missing");
      expectThat((await load(client, emptyBlob)).length === 0, "it reads as something");
      const { responses: [answer] } = await client.unary(methods.batchReadBlobs, { digests: [emptyBlob] });
      expectThat(
        (answer?.status?.code ?? 0) === 0 && answer?.data.length === 0,
        `a batch answers with code ${answer?.status?.code}`,
      );
    },
  },
  {
    id: "D-4",
    says: "the empty blob is a folder without anything",
    async holds(client) {
      const status = await statusOf(client.stream(methods.getTree, { rootDigest: emptyBlob }));
      expectIsOneOf(status.code, ["OK", "UNIMPLEMENTED"]);
    },
  },
  {
    id: "D-5",
    says: "an instance name with a reserved word for a segment is refused",
    async holds(client) {
      const digest = await store(client, newBytes());
      for (const word of ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities"]) {
        const instanceName = client.instance === "" ? word : `${client.instance}/${word}`;
        const request = client.unary(methods.findMissingBlobs, { instanceName, blobDigests: [digest] });
        await expectCode(request, "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED");
      }
    },
  },
  {
    id: "D-6",
    says: "the function in a resource name is one that is served",
    async holds(client, { cacheCapabilities }) {
      const digest = digestOfBytes(newBytes());
      const isListed = cacheCapabilities?.digestFunctions.includes(digestFunctions.BLAKE3) === true;
      await expectCode(
        client.stream(methods.read, { resourceName: client.blobName(digest, "blobs/blake3") }),
        ...(isListed ? ["NOT_FOUND"] as const : ["INVALID_ARGUMENT", "NOT_FOUND"] as const),
      );
    },
  },
  {
    id: "D-7",
    says: "another instance is not given an action's result",
    async holds(client, { cacheCapabilities }) {
      const actionDigest = digestOfBytes(newBytes());
      if (cacheCapabilities?.actionCacheUpdateCapabilities?.updateEnabled === true) {
        await client.unary(methods.updateActionResult, { actionDigest, actionResult: Uint8Array.of(0x20, 1) });
      }
      await expectCode(
        client.unary(methods.getActionResult, { instanceName: randomUUID(), actionDigest }),
        "NOT_FOUND",
        "INVALID_ARGUMENT",
        "PERMISSION_DENIED",
      );
    },
  },
];
