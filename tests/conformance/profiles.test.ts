import { Buffer } from "node:buffer";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startCluster, type TestCluster } from "../../scripts/support/cluster.ts";
import { endOf, prepare, resultOf, run, wireOf } from "../../src/conformance/asked.ts";
import { digestOfBytes, missingOf, newBytes, type ProbeClient, probeClient } from "../../src/conformance/client.ts";
import type { ActionResultData } from "../../src/domain/action_result.ts";
import type { CommandData } from "../../src/domain/command.ts";
import { requestMetadata } from "../../src/protocol/reapi/messages.ts";
import { methods } from "../../src/protocol/reapi/services.ts";

/** How clients that cannot be had on every machine ask, by what they were recorded and read to do. */
interface Profile {
  readonly tool: { readonly toolName: string; readonly toolVersion: string };
  /** In every request. */
  readonly digestFunction: number;
  readonly sends: "stream" | "batch" | "zstd";
  readonly reads: "stream" | "batch" | "zstd";
  readonly outputs: (files: readonly string[], folders: readonly string[]) => Partial<CommandData>;
  /** What it reads of a symlink `l` to `f` that it asked for as a file. */
  readonly linkOf: (result: ActionResultData) => string | undefined;
}

const sha256 = 1;
const paths: Profile["outputs"] = (files, folders) => ({ outputs: [...files, ...folders].sort() });
const lists: Profile["outputs"] = (outputFiles, outputDirectories) => ({ outputFiles, outputDirectories });
const newer: Profile["linkOf"] = ({ outputSymlinks: [link] }) => link?.target;
const older: Profile["linkOf"] = ({ outputFileSymlinks: [link] }) => link?.target;

const profiles: Readonly<Record<string, Profile>> = {
  "Bazel 7 to 9": {
    tool: { toolName: "bazel", toolVersion: "9.0.0" },
    digestFunction: sha256,
    sends: "zstd",
    reads: "zstd",
    outputs: paths,
    linkOf: (result) => newer(result) === older(result) ? newer(result) : "the lists disagree",
  },
  Buck2: {
    tool: { toolName: "buck2", toolVersion: "2025" },
    digestFunction: sha256,
    sends: "batch",
    reads: "batch",
    outputs: paths,
    linkOf: newer,
  },
  "the Go SDK and reclient": {
    tool: { toolName: "reclient", toolVersion: "0.1" },
    digestFunction: sha256,
    sends: "zstd",
    reads: "zstd",
    outputs: paths,
    linkOf: older,
  },
  Siso: {
    tool: { toolName: "siso", toolVersion: "1" },
    digestFunction: sha256,
    sends: "batch",
    reads: "stream",
    outputs: paths,
    linkOf: newer,
  },
  recc: {
    tool: { toolName: "recc", toolVersion: "1" },
    digestFunction: 0,
    sends: "batch",
    reads: "batch",
    outputs: lists,
    linkOf: older,
  },
};

let cluster: TestCluster;
let client: ProbeClient;
beforeAll(async () => {
  cluster = await startCluster(["--workers", "1"]);
  client = probeClient({ address: cluster.ready.grpc.replace("grpc://", ""), instance: "main" });
  await run(client, { script: "true" }); // its worker is there then
});
afterAll(async () => {
  client.close();
  await cluster.stop();
});

const headersOf = (toolDetails: Profile["tool"]) => ({
  "build.bazel.remote.execution.v2.requestmetadata-bin": requestMetadata.encode({
    toolDetails,
    toolInvocationId: "an invocation",
    actionMnemonic: "Compile",
    targetId: "//a:b",
  }),
});

async function send({ tool, digestFunction, sends }: Profile, bytes: Uint8Array): Promise<void> {
  const digest = digestOfBytes(bytes);
  const headers = headersOf(tool);
  if (sends === "batch") {
    const requests = [{ digest, data: bytes, compressor: 0 }];
    const { responses } = await client.unary(methods.batchUpdateBlobs, { requests, digestFunction }, headers);
    expect(responses.map((it) => [it.digest, it.status?.code ?? 0])).toEqual([[digest, 0]]);
    return;
  }
  const data = sends === "zstd" ? zstdCompressSync(bytes) : bytes;
  const resourceName = client.uploadName(digest, sends === "zstd" ? "compressed-blobs/zstd" : "blobs");
  const size = await client.write([{ resourceName, data, finishWrite: true }], headers);
  expect(tool.toolName === "bazel" ? [data.length, -1] : [bytes.length]).toContain(size);
}

async function load({ digestFunction, reads }: Profile, digest: ReturnType<typeof digestOfBytes>): Promise<Buffer> {
  if (reads === "batch") {
    const { responses: [answer] } = await client.unary(methods.batchReadBlobs, {
      digests: [digest],
      digestFunction,
      acceptableCompressors: [1],
    });
    return Buffer.from(answer!.compressor === 1 ? zstdDecompressSync(answer!.data) : answer!.data);
  }
  const resourceName = client.blobName(digest, reads === "zstd" ? "compressed-blobs/zstd" : "blobs");
  const whole = Buffer.concat((await client.stream(methods.read, { resourceName })).map(({ data }) => data));
  return reads === "zstd" ? zstdDecompressSync(whole) : whole;
}

describe.each(Object.entries(profiles))("as %s asks", (_name, profile) => {
  test("what is sent is there, and is read the same", async () => {
    const bytes = newBytes(10_000);
    const blobDigests = [digestOfBytes(bytes)];
    const { digestFunction } = profile;
    const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, { blobDigests, digestFunction });
    expect(missingBlobDigests).toEqual(blobDigests);
    await send(profile, bytes);
    expect(await missingOf(client, blobDigests)).toBe(0);
    expect((await load(profile, blobDigests[0]!)).equals(bytes)).toBe(true);
  });
  test("an action is executed, its outputs are told as this client reads them, and then it is a hit", async () => {
    const execute = async (action: Awaited<ReturnType<typeof prepare>>) => {
      const { digestFunction, tool } = profile;
      const request = { actionDigest: wireOf(action), digestFunction };
      return endOf(await client.stream(methods.execute, request, headersOf(tool))).response;
    };
    const action = await prepare(client, {
      script: "echo content > f; ln -s f l; mkdir d; echo 2 > d/f; echo $PATH",
      command: { ...profile.outputs(["f", "l"], ["d"]) },
    });
    const first = await execute(action);
    const result = resultOf(first);
    expect(first.cachedResult).toBe(false);
    expect(result.exitCode).toBe(0);
    expect(result.execution?.worker).not.toBe("");
    expect(profile.linkOf(result)).toBe("f");
    expect(result.outputDirectories.map(({ path }) => path)).toEqual(["d"]);
    const file = result.outputFiles.find(({ path }) => path === "f");
    expect((await load(profile, wireOf(file!.digest))).toString()).toBe("content\n");
    expect((await execute(action)).cachedResult).toBe(true);
  });
});

test("O-6: folders are told as it is asked: as a Tree, as Directories, or as both", async () => {
  const told = async (directoryFormat?: "directory" | "both") => {
    const { outputDirectories: [folder] } = await run(client, {
      script: "mkdir -p d/e; echo 1 > d/e/f",
      command: { outputs: ["d"], ...(directoryFormat === undefined ? {} : { directoryFormat }) },
    });
    return [folder!.tree !== undefined, folder!.rootDirectory !== undefined];
  };
  expect([await told(), await told("directory"), await told("both")]).toEqual([[true, false], [false, true], [
    true,
    true,
  ]]);
});
