import { randomUUID } from "node:crypto";
import { methods } from "../protocol/reapi/services.ts";
import { WireWriter } from "../protocol/reapi/wire.ts";
import { execute, failureOf, prepare, resultOf, send } from "./asked.ts";
import { digestOfBytes, expectIsOneOf, expectThat, load, newBytes, NotOffered, statusOf } from "./client.ts";
import { compressorNames, compressWith, decompressWith } from "./compressors.ts";
import { digestFunctions, hashWith } from "./digest_functions.ts";
import type { Check } from "./run.ts";
import { decodeDirectory, encodeDirectory } from "../protocol/reapi/canonical.ts";

const strategies = { disallowed: 1, allowed: 2 } as const;

/** Part 2: Capabilities. */
export const checks: readonly Check[] = [
  {
    id: "C-1",
    says: "low_api_version is 2.0",
    holds(_client, { lowApiVersion: low }) {
      expectThat(low?.major === 2 && low.minor === 0, `it is ${low?.major}.${low?.minor}`);
      return Promise.resolve();
    },
  },
  {
    id: "C-2",
    says: "high_api_version is of 2, and not below low_api_version",
    holds(_client, { lowApiVersion: low, highApiVersion: high }) {
      expectThat(high?.major === 2 && high.minor >= (low?.minor ?? 0), `it is ${high?.major}.${high?.minor}`);
      return Promise.resolve();
    },
  },
  {
    id: "C-3",
    says: "a server without 2.0 says that it is deprecated",
    holds(_client, { lowApiVersion: low, deprecatedApiVersion: deprecated }) {
      const hasIt = low?.major === 2 && low.minor === 0;
      expectThat(hasIt || (deprecated?.major === 2 && deprecated.minor === 0), "clients that speak only 2.0 stop");
      return Promise.resolve();
    },
  },
  {
    id: "C-4",
    says: "both fields of execution for digest functions have SHA256",
    needs: "execution",
    holds(_client, { executionCapabilities: it }) {
      expectThat(it?.digestFunction === digestFunctions.SHA256, `digest_function is ${it?.digestFunction}`);
      expectThat(
        it.digestFunctions.length === 0 || it.digestFunctions.includes(digestFunctions.SHA256),
        `digest_functions are ${it.digestFunctions.join(", ")}`,
      );
      return Promise.resolve();
    },
  },
  {
    id: "C-5",
    says: "exec_enabled tells whether Execute is there",
    async holds(client, { executionCapabilities }) {
      const { code } = await statusOf(client.stream(methods.execute, { actionDigest: digestOfBytes(newBytes()) }));
      const refuses = code === 12 || code === 7;
      const says = executionCapabilities?.execEnabled === true;
      expectThat(says !== refuses, `it says ${says}, and Execute answers with code ${code}`);
    },
  },
  {
    id: "C-6",
    says: "SHA256 is the first digest function of the cache, and each that is listed is served",
    async holds(client, { cacheCapabilities }) {
      const listed = cacheCapabilities?.digestFunctions ?? [];
      expectThat(listed[0] === digestFunctions.SHA256, `they are ${listed.join(", ")}`);
      for (const digestFunction of listed) {
        const data = newBytes();
        const digest = hashWith(digestFunction, data);
        if (digest === undefined) continue; // none that can be computed here
        const { responses } = await client.unary(methods.batchUpdateBlobs, {
          requests: [{ digest, data, compressor: 0 }],
          digestFunction,
        });
        expectIsOneOf(responses[0]?.status?.code ?? 0, ["OK"], `for function ${digestFunction} it answers`);
        const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, {
          blobDigests: [digest],
          digestFunction,
        });
        expectThat(missingBlobDigests.length === 0, `a blob of function ${digestFunction} is missing`);
      }
    },
  },
  {
    id: "C-7",
    says: "update_enabled tells whether action results may be written",
    async holds(client, { cacheCapabilities }) {
      const { code } = await statusOf(client.unary(methods.updateActionResult, {
        actionDigest: digestOfBytes(newBytes()),
        actionResult: Uint8Array.of(0x20, 0), // exit_code 0, said
      }));
      const says = cacheCapabilities?.actionCacheUpdateCapabilities?.updateEnabled === true;
      if (says) expectIsOneOf(code, ["OK", "PERMISSION_DENIED"], "it says that they may, and answers");
      else expectIsOneOf(code, ["PERMISSION_DENIED", "UNIMPLEMENTED"], "it says that they may not, and answers");
    },
  },
  {
    id: "C-8",
    says: "max_batch_total_size_bytes is neither 0 nor above 4 MiB",
    holds(_client, { cacheCapabilities }) {
      const max = cacheCapabilities?.maxBatchTotalSizeBytes ?? 0;
      expectThat(max > 0 && max <= 2 ** 22, `it is ${max}`);
      return Promise.resolve();
    },
  },
  {
    id: "C-9",
    says: "an instance that is unknown has capabilities, or is refused in plain words",
    async holds(client) {
      const { code, message } = await statusOf(client.unary(methods.getCapabilities, { instanceName: randomUUID() }));
      expectIsOneOf(code, ["OK", "NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED"]);
      expectThat(code === 0 || message !== "", "it does not say why");
    },
  },
  {
    id: "C-10",
    says: "each compressor that is listed is served, for reads and for writes",
    async holds(client, { cacheCapabilities }) {
      const listed = (cacheCapabilities?.supportedCompressors ?? []).filter((compressor) => compressor !== 0);
      if (listed.length === 0) throw new NotOffered("it lists no compressor");
      for (const compressor of listed) {
        const name = compressorNames[compressor];
        expectThat(name !== undefined, `compressor ${compressor} is none`);
        const data = newBytes(10_000);
        const digest = digestOfBytes(data);
        await client.write([{
          resourceName: client.uploadName(digest, `compressed-blobs/${name}`),
          data: compressWith(name, data),
          finishWrite: true,
        }]);
        expectThat((await load(client, digest)).equals(data), `what was written by ${name} reads as something else`);
        const read = await client.stream(methods.read, {
          resourceName: client.blobName(digest, `compressed-blobs/${name}`),
        });
        expectThat(
          decompressWith(name, read.map((part) => part.data)).equals(data),
          `it reads by ${name} as something else`,
        );
      }
    },
  },
  {
    id: "C-11",
    says: "both ends of each priority range are taken",
    needs: "execution",
    async holds(client, { executionCapabilities }) {
      const ranges = executionCapabilities?.executionPriorityCapabilities?.priorities ?? [];
      if (ranges.length === 0) throw new NotOffered("it has no priorities");
      for (const { minPriority, maxPriority } of ranges) {
        expectThat(minPriority <= maxPriority, `a range is from ${minPriority} to ${maxPriority}`);
        for (const priority of [minPriority, maxPriority]) {
          resultOf((await execute(client, await prepare(client, { script: "true" }), { priority })).response);
        }
      }
    },
  },
  {
    id: "C-12",
    says: "it says whether symlinks may be absolute",
    holds(_client, { cacheCapabilities }) {
      const strategy = cacheCapabilities?.symlinkAbsolutePathStrategy ?? 0;
      expectThat(strategy === strategies.allowed || strategy === strategies.disallowed, `it says ${strategy}`);
      return Promise.resolve();
    },
  },
  {
    id: "C-13",
    says: "a property of nodes that is not listed is refused in a Command",
    needs: "execution",
    async holds(client, { executionCapabilities }) {
      const unknown = `conformance-${randomUUID()}`;
      expectThat(!executionCapabilities!.supportedNodeProperties.includes(unknown), "it lists anything");
      const { code } = await failureOf(
        client,
        await prepare(client, { script: "true", alsoInCommand: (writer) => writer.text(8, unknown, unknown.length) }),
      );
      expectIsOneOf(code, ["INVALID_ARGUMENT"]);
    },
  },
  {
    id: "C-13",
    says: "a property of an input that is not listed is passed over",
    needs: "execution",
    async holds(client) {
      const file = await send(client, newBytes());
      const [node] = fieldsOf(encodeDirectory([{ kind: "file", name: "f", digest: file, executable: false }]));
      const property = new WireWriter();
      property.text(1, "bazel_tool_input", 16);
      const properties = new WireWriter();
      properties.bytes(1, property.finish());
      const folder = new WireWriter();
      const extra = new WireWriter();
      extra.bytes(6, properties.finish());
      folder.bytes(1, Uint8Array.of(...node!, ...extra.finish()));
      const root = folder.finish();
      expectThat(decodeDirectory(root).length === 1, "the check itself is wrong");
      const { exitCode } = resultOf(
        (await execute(client, await prepare(client, { script: "test -e f", inputRoot: await send(client, root) })))
          .response,
      );
      expectThat(exitCode === 0, `it exits with ${exitCode}`);
    },
  },
];

/** The one field of a message of one field below 128 bytes each. */
const fieldsOf = (message: Uint8Array): Uint8Array[] => [message.subarray(2, 2 + message[1]!)];
