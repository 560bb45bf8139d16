import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import type { ActionResultData } from "../domain/action_result.ts";
import type { CommandData } from "../domain/command.ts";
import { type Digest, digestOfHash, emptyDigest } from "../domain/digest.ts";
import type { Node } from "../domain/node.ts";
import { decodeActionResult } from "../protocol/reapi/action_result.ts";
import {
  decodeDirectory,
  decodeTree,
  encodeAction,
  encodeCommand,
  encodeDirectory,
} from "../protocol/reapi/canonical.ts";
import type { MessageOf } from "../protocol/reapi/codec.ts";
import { executeResponse, preconditionFailure } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { digestOfBytes, expectCode, expectThat, newBytes, type ProbeClient } from "./client.ts";
import type { Check } from "./run.ts";

interface Asked {
  /** For `/bin/sh -c`. */
  readonly script: string;
  readonly command?: Partial<CommandData>;
  readonly timeoutMs?: number;
  readonly inputs?: readonly Node[];
}

/** @returns the digest of an action that no server has seen before, with all that it is made of uploaded. */
async function prepare(client: ProbeClient, { script, command = {}, timeoutMs, inputs = [] }: Asked): Promise<Digest> {
  const send = async (bytes: Uint8Array): Promise<Digest> => {
    const digest = digestOfBytes(bytes);
    const resourceName = client.uploadName(digest);
    if (bytes.length > 0) await client.write([{ resourceName, data: bytes, finishWrite: true }]);
    return digestOfHash(digest.hash, digest.sizeBytes);
  };
  return await send(encodeAction({
    command: await send(encodeCommand({
      argv: ["/bin/sh", "-c", `: ${randomUUID()}; ${script}`],
      env: {},
      outputs: [],
      platform: [],
      workingDirectory: "",
      ...command,
    })),
    inputRoot: inputs.length === 0 ? emptyDigest : await send(encodeDirectory(inputs)),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    doNotCache: false,
    platform: [],
  }));
}

const wire = (digest: Digest) => ({ hash: digest.slice(0, 64), sizeBytes: Number(digest.slice(65)) });

async function execute(client: ProbeClient, action: Digest) {
  const operations = await client.stream(methods.execute, { actionDigest: wire(action) });
  const last = operations.at(-1);
  expectThat(last?.done === true, "the stream ends without a done operation");
  expectThat(last!.error === undefined && last!.response !== undefined, "it has no response");
  return { name: operations[0]!.name, last: last!, response: executeResponse.decode(last!.response!.value) };
}

type Response = MessageOf<typeof executeResponse>;
function resultOf(response: Response): ActionResultData {
  expectThat(
    (response.status?.code ?? 0) === 0,
    `its status is ${response.status?.code}: ${response.status?.message}`,
  );
  expectThat(response.result.length > 0, "its status is OK, and it has no result");
  return decodeActionResult(response.result);
}
const run = async (client: ProbeClient, asked: Asked): Promise<ActionResultData> =>
  resultOf((await execute(client, await prepare(client, asked))).response);

async function textOf(client: ProbeClient, digest: Digest | undefined): Promise<string> {
  if (digest === undefined) return "";
  const read = await client.stream(methods.read, { resourceName: client.blobName(wire(digest)) });
  return Buffer.concat(read.map(({ data }) => data)).toString();
}

/** Parts 10, 11, 14 and 15, for servers that execute. */
export const checks: readonly Check[] = [
  {
    id: "C-4",
    says: "the older digest_function of execution is SHA256",
    async holds(client) {
      const { executionCapabilities } = await client.unary(methods.getCapabilities, {});
      expectThat(executionCapabilities?.digestFunction === 1, `it is ${executionCapabilities?.digestFunction}`);
    },
  },
  {
    id: "X-1",
    says: "an action that is not there is FAILED_PRECONDITION with what is missing",
    async holds(client) {
      const digest = digestOfBytes(newBytes());
      const { response } = await execute(client, digestOfHash(digest.hash, digest.sizeBytes));
      expectThat(response.status?.code === 9, `its status is ${response.status?.code}`);
      const [details] = response.status!.details;
      const { violations } = preconditionFailure.decode(details?.value ?? new Uint8Array(0));
      const subject = `blobs/${digest.hash}/${digest.sizeBytes}`;
      expectThat(
        violations.some((one) => one.type === "MISSING" && one.subject === subject),
        `no violation is of ${subject}`,
      );
    },
  },
  {
    id: "X-4",
    says: "what succeeded before is answered from the cache, for GetActionResult too",
    async holds(client) {
      const action = await prepare(client, { script: "true" });
      const first = (await execute(client, action)).response;
      resultOf(first);
      expectThat(!first.cachedResult, "the first run is said to be cached");
      expectThat((await execute(client, action)).response.cachedResult, "the second is not cached");
      await client.unary(methods.getActionResult, { actionDigest: wire(action) });
    },
  },
  {
    id: "E-5",
    says: "a result has metadata of its execution, in the order of time",
    async holds(client) {
      const { execution } = await run(client, { script: "true" });
      const times = [execution?.queuedAt, execution?.workerStartedAt, execution?.executionStartedAt]
        .concat([execution?.executionCompletedAt, execution?.workerCompletedAt])
        .map((time) => time === undefined ? -1 : time.seconds * 1e3 + time.nanos / 1e6);
      expectThat(
        times.every((time, place) => time > 0 && time >= (times[place - 1] ?? 0)),
        `the times are ${times.join(", ")}`,
      );
    },
  },
  {
    id: "E-6",
    says: "WaitExecution tells the end of what has ended",
    async holds(client) {
      const action = await prepare(client, { script: "exit 4" });
      const { name } = await execute(client, action);
      const last = (await client.stream(methods.waitExecution, { name })).at(-1);
      expectThat(last?.done === true && last.name === name, "it does not end with that operation");
      expectThat(resultOf(executeResponse.decode(last!.response!.value)).exitCode === 4, "its exit code is another");
    },
  },
  {
    id: "E-7",
    says: "WaitExecution of an unknown name is NOT_FOUND",
    holds: (client) => expectCode(client.stream(methods.waitExecution, { name: randomUUID() }), "NOT_FOUND"),
  },
  {
    id: "I-6",
    says: "the working directory is there though no input makes it",
    async holds(client) {
      const { stdout } = await run(client, { script: "pwd", command: { workingDirectory: "a/b" } });
      const text = await textOf(client, stdout);
      expectThat(text.endsWith("/a/b\n"), `it is ${text}`);
    },
  },
  {
    id: "I-7",
    says: "the environment is what was declared",
    async holds(client) {
      const { stdout } = await run(client, {
        script: "echo ${HOME-no} ${USER-no} $MINE",
        command: { env: { MINE: "x" } },
      });
      const text = await textOf(client, stdout);
      expectThat(text === "no no x\n", `it is ${text}`);
    },
  },
  {
    id: "I-10",
    says: "parents of outputs are there, and outputs are not",
    async holds(client) {
      const { exitCode, outputFiles } = await run(client, {
        script: "test ! -e a/b/c && echo made > a/b/c",
        command: { outputFiles: ["a/b/c"] },
      });
      expectThat(exitCode === 0 && outputFiles.length === 1, `it exits with ${exitCode}`);
      expectThat(await textOf(client, outputFiles[0]!.digest) === "made\n", "its output is another");
    },
  },
  {
    id: "O-1",
    says: "output_paths counts before the older lists",
    async holds(client) {
      const { outputFiles } = await run(client, {
        script: "touch new old",
        command: { outputs: ["new"], outputFiles: ["old"] },
      });
      expectThat(outputFiles.map(({ path }) => path).join() === "new", `it has ${outputFiles.length} outputs`);
    },
  },
  {
    id: "O-2",
    says: "an output that is not made is left out",
    async holds(client) {
      const result = await run(client, { script: "true", command: { outputFiles: ["f"], outputDirectories: ["d"] } });
      expectThat(result.outputFiles.length + result.outputDirectories.length === 0, "it is told");
    },
  },
  {
    id: "O-4",
    says: "an output folder is a Tree with every folder below, each once",
    async holds(client) {
      const { outputDirectories: [made] } = await run(client, {
        script: "mkdir -p d/x/same d/y/same d/empty; echo 1 > d/x/same/f; echo 1 > d/y/same/f",
        command: { outputDirectories: ["d"] },
      });
      expectThat(made?.tree !== undefined, "it has no tree");
      const parts = await client.stream(methods.read, { resourceName: client.blobName(wire(made!.tree!)) });
      const { root, children } = decodeTree(Buffer.concat(parts.map(({ data }) => data)));
      const there = new Set(children.map((bytes) => digestOfBytes(bytes).hash));
      expectThat(there.size === children.length, "a folder is there twice");
      for (const bytes of [root, ...children]) {
        for (const node of decodeDirectory(bytes)) {
          expectThat(
            node.kind !== "directory" || there.has(node.digest.slice(0, 64)),
            `folder ${node.name} is not there`,
          );
        }
      }
    },
  },
  {
    id: "O-7",
    says: "a symlink is told as one, in the newer list",
    async holds(client) {
      const { outputSymlinks: [link] } = await run(client, {
        script: "echo > f; ln -s f l",
        command: { outputs: ["l"] },
      });
      expectThat(link?.path === "l" && link.target === "f", `it is ${JSON.stringify(link)}`);
    },
  },
  {
    id: "O-16",
    says: "a command that was killed by signal 9 exits with 137",
    async holds(client) {
      const { exitCode } = await run(client, { script: "kill -9 $$" });
      expectThat(exitCode === 137, `it exits with ${exitCode}`);
    },
  },
  {
    id: "TO-1",
    says: "a time-out is DEADLINE_EXCEEDED, with what was written so far",
    async holds(client) {
      const action = await prepare(client, { script: "echo begun; sleep 600", timeoutMs: 1_000 });
      const { response } = await execute(client, action);
      expectThat(response.status?.code === 4, `its status is ${response.status?.code}`);
      const { stdout, exitCode } = decodeActionResult(response.result);
      expectThat(exitCode !== 0 && await textOf(client, stdout) === "begun\n", "what was written is not there");
    },
  },
  {
    id: "TO-3",
    says: "an exit code is a result, and is not kept",
    async holds(client) {
      const action = await prepare(client, { script: "echo no >&2; exit 3" });
      const { exitCode, stderr } = resultOf((await execute(client, action)).response);
      expectThat(exitCode === 3 && await textOf(client, stderr) === "no\n", `it exits with ${exitCode}`);
      await expectCode(client.unary(methods.getActionResult, { actionDigest: wire(action) }), "NOT_FOUND");
    },
  },
];
