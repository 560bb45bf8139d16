import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import type { ActionResultData } from "../domain/action_result.ts";
import type { ActionData, CommandData } from "../domain/command.ts";
import { type Digest, digestOfHash, emptyDigest, hashOf, sizeOf } from "../domain/digest.ts";
import type { Node } from "../domain/node.ts";
import { decodeActionResult } from "../protocol/reapi/action_result.ts";
import { encodeAction, encodeCommand, encodeDirectory } from "../protocol/reapi/canonical.ts";
import type { MessageOf, WireDigest } from "../protocol/reapi/codec.ts";
import {
  executeOperationMetadata,
  executeResponse,
  type operation,
  preconditionFailure,
  requestMetadata,
} from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { WireWriter } from "../protocol/reapi/wire.ts";
import { expectThat, type Headers, load, type ProbeClient, type Status, statusOf, store } from "./client.ts";

/** Actions to be executed. */

export interface Asked {
  /** For `/bin/sh -c`, unless the command has arguments of its own. */
  readonly script?: string;
  readonly command?: Partial<CommandData>;
  readonly timeoutMs?: number;
  readonly doNotCache?: boolean;
  /** Of the Action; that of the Command is in {@link command}. */
  readonly platform?: ActionData["platform"];
  readonly inputs?: readonly Node[];
  /** Instead of {@link inputs}. */
  readonly inputRoot?: Digest;
  /** Fields that the encoder does not know. */
  readonly alsoInCommand?: (writer: WireWriter) => void;
  readonly alsoInAction?: (writer: WireWriter) => void;
}

/** Uploads it. */
export async function send(client: ProbeClient, bytes: Uint8Array): Promise<Digest> {
  const { hash, sizeBytes } = await store(client, bytes);
  return digestOfHash(hash, sizeBytes);
}

const withMore = (bytes: Uint8Array, more: Asked["alsoInCommand"]): Uint8Array => {
  if (more === undefined) return bytes;
  const writer = new WireWriter();
  more(writer);
  return Buffer.concat([bytes, writer.finish()]);
};

/** @returns the digest of an action that no server has seen before, with all that it is made of uploaded. */
export async function prepare(client: ProbeClient, asked: Asked): Promise<Digest> {
  const { script = "true", command = {}, timeoutMs, inputs = [], inputRoot, doNotCache = false, platform = [] } = asked;
  const own = encodeCommand({
    argv: ["/bin/sh", "-c", `: ${randomUUID()}; ${script}`],
    env: {},
    outputs: [],
    platform: [],
    workingDirectory: "",
    ...command,
  });
  const action = encodeAction({
    command: await send(client, withMore(own, asked.alsoInCommand)),
    inputRoot: inputRoot ?? (inputs.length === 0 ? emptyDigest : await send(client, encodeDirectory(inputs))),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    doNotCache,
    salt: Buffer.from(randomUUID()), // commands with arguments of their own may be the same
    platform,
  });
  return await send(client, withMore(action, asked.alsoInAction));
}

export const wireOf = (digest: Digest): WireDigest => ({ hash: hashOf(digest), sizeBytes: sizeOf(digest) });

export type Operation = MessageOf<typeof operation>;
export type Response = MessageOf<typeof executeResponse>;

export interface ExecuteOptions {
  readonly skipCacheLookup?: boolean;
  readonly priority?: number;
  readonly resultsCachePolicy?: { readonly priority: number };
  readonly headers?: Headers;
}

const requestOf = (action: Digest, { skipCacheLookup = false, priority, resultsCachePolicy }: ExecuteOptions) => ({
  actionDigest: wireOf(action),
  skipCacheLookup,
  executionPolicy: priority === undefined ? undefined : { priority },
  resultsCachePolicy,
});

export interface Executed {
  readonly name: string;
  readonly operations: readonly Operation[];
  readonly last: Operation;
  readonly response: Response;
}

/** To its end. */
export async function execute(client: ProbeClient, action: Digest, options: ExecuteOptions = {}): Promise<Executed> {
  return endOf(await client.stream(methods.execute, requestOf(action, options), options.headers));
}

export function endOf(operations: readonly Operation[]): Executed {
  const last = operations.at(-1);
  expectThat(last?.done === true, "the stream ends without a done operation");
  expectThat(last.error === undefined && last.response !== undefined, "it has no response");
  return { name: operations[0]!.name, operations, last, response: executeResponse.decode(last.response.value) };
}

export interface Begun {
  readonly name: string;
  readonly first: Operation;
  /** All that follow. */
  readonly answers: AsyncIterableIterator<Operation> & { cancel(): void };
  /** Reads to the end. */
  end(): Promise<Executed>;
}

/** As soon as it has been answered. */
export async function begin(client: ProbeClient, action: Digest, options: ExecuteOptions = {}): Promise<Begun> {
  return await begunOf(client.open(methods.execute, requestOf(action, options), options.headers));
}

export async function begunOf(answers: Begun["answers"]): Promise<Begun> {
  const { value: first, done } = await answers.next();
  expectThat(!done, "the stream ends without an operation");
  return {
    name: first.name,
    first,
    answers,
    async end() {
      const operations = [first];
      if (!first.done) { for await (const each of answers) operations.push(each); }
      return endOf(operations);
    },
  };
}

/** @throws when it has none, or failed. */
export function resultOf(response: Response): ActionResultData {
  expectThat(
    (response.status?.code ?? 0) === 0,
    `its status is ${response.status?.code}: ${response.status?.message}`,
  );
  expectThat(response.result.length > 0, "its status is OK, and it has no result");
  return decodeActionResult(response.result);
}

export const run = async (client: ProbeClient, asked: Asked): Promise<ActionResultData> =>
  resultOf((await execute(client, await prepare(client, asked))).response);

/** How an action fails that must not run, whether the call says it or its response. */
export async function failureOf(client: ProbeClient, action: Digest, options?: ExecuteOptions): Promise<Status> {
  let status: Status | undefined;
  const called = await statusOf(
    execute(client, action, options).then(({ response }) => {
      status = response.status;
    }),
  );
  return called.code === 0 ? status ?? called : called;
}

export async function textOf(client: ProbeClient, digest: Digest | undefined): Promise<string> {
  return digest === undefined ? "" : (await load(client, wireOf(digest))).toString();
}

/** The output of a run. */
export async function stdoutOf(client: ProbeClient, { stdout, stdoutRaw }: ActionResultData): Promise<string> {
  return stdout === undefined && stdoutRaw !== undefined
    ? Buffer.from(stdoutRaw).toString()
    : await textOf(client, stdout);
}

export function metadataOf({ metadata }: Operation) {
  return executeOperationMetadata.decode(metadata?.value ?? new Uint8Array(0));
}

/** What a failure says is missing. */
export const missingIn = ({ details }: Status): readonly string[] =>
  details.filter(({ typeUrl }) => typeUrl.endsWith("/google.rpc.PreconditionFailure"))
    .flatMap(({ value }) => preconditionFailure.decode(value).violations)
    .filter(({ type }) => type === "MISSING").map(({ subject }) => subject);

export const subjectOf = (digest: Digest): string => `blobs/${hashOf(digest)}/${sizeOf(digest)}`;

export const metadataHeader = "build.bazel.remote.execution.v2.requestmetadata-bin";
/** The header of a client that builds something. */
export const asBuild = (toolInvocationId: string): Headers => ({
  [metadataHeader]: requestMetadata.encode({
    toolDetails: { toolName: "conformance", toolVersion: "" },
    toolInvocationId,
  }),
});
