import { noOutputs } from "../domain/action_result.ts";
import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import { request } from "node:http";
import { encodeActionResult } from "../protocol/reapi/action_result.ts";
import { badRequest } from "../protocol/reapi/messages.ts";
import { methods } from "../protocol/reapi/services.ts";
import { begin, metadataHeader, metadataOf, prepare } from "./asked.ts";
import {
  digestOfBytes,
  expectCode,
  expectIsOneOf,
  expectThat,
  newBytes,
  NotOffered,
  type ProbeClient,
  statusOf,
  store,
  within,
} from "./client.ts";
import type { Check } from "./run.ts";

interface HttpAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/** @throws {NotOffered} when nothing there speaks HTTP. */
function http(client: ProbeClient, method: string, path: string, body?: Uint8Array): Promise<HttpAnswer> {
  const prefix = client.instance === "" ? "" : `/${client.instance}`;
  const headers = Object.fromEntries(
    Object.entries(client.headers).flatMap(([name, value]) => typeof value === "string" ? [[name, value]] : []),
  );
  return new Promise((resolve, reject) => {
    const sent = request(
      `http://${client.address}${prefix}${path}`,
      { method, headers, timeout: 10_000 },
      (response) => {
        const parts: Uint8Array[] = [];
        response.on("data", (part) => parts.push(part)).on("error", reject);
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts) }));
      },
    );
    sent.on("error", () => reject(new NotOffered("no HTTP is spoken there")));
    sent.on("timeout", () => sent.destroy(new Error("it does not answer")));
    sent.end(body);
  });
}

/** @throws {NotOffered} when there is no HTTP cache at that address. */
async function needsHttp(client: ProbeClient): Promise<void> {
  const data = newBytes();
  const { status } = await http(client, "PUT", `/cas/${digestOfBytes(data).hash}`, data);
  if (status === 401 || status === 403) throw new NotOffered("over HTTP it wants a token");
  if (status === 404 || status === 405 || status === 501) throw new NotOffered("there is no HTTP cache there");
}

const good = [200, 201, 202, 204];

/** @throws {NotOffered} when there are none. */
async function newLog(client: ProbeClient) {
  const { code } = await statusOf(client.unary(methods.createLogStream, { parent: client.instance }));
  if (code === 12) throw new NotOffered("it has no log streams");
  return await client.unary(methods.createLogStream, { parent: client.instance });
}

/** Part 16: metadata, assets, logs, HTTP. */
export const checks: readonly Check[] = [
  {
    id: "X-M1",
    says: "metadata of a request may be absent, empty or no metadata at all",
    async holds(client) {
      for (
        const header of [new Uint8Array(0), Uint8Array.of(0x0a, 0), Uint8Array.of(0x0a, 0xff, 0xff), newBytes(300)]
      ) {
        await client.unary(methods.findMissingBlobs, {}, { [metadataHeader]: header });
        await client.unary(methods.getCapabilities, {}, { [metadataHeader]: header });
      }
    },
  },
  {
    id: "X-M3",
    says: "what cannot be fetched is an error of the call",
    async holds(client) {
      const uris = [`urn:uuid:${randomUUID()}`];
      const { code } = await statusOf(client.unary(methods.fetchBlob, { uris }));
      if (code === 12) throw new NotOffered("it fetches no assets");
      expectIsOneOf(code, ["NOT_FOUND", "INVALID_ARGUMENT"]);
    },
  },
  {
    id: "X-M3",
    says: "a qualifier that it cannot keep to is INVALID_ARGUMENT, and which it is is told",
    async holds(client) {
      const qualifiers = [{ name: `conformance.${randomUUID()}`, value: "x" }];
      const uris = ["https://conformance.invalid/"];
      const { code, details } = await statusOf(client.unary(methods.fetchBlob, { uris, qualifiers }));
      if (code === 12) throw new NotOffered("it fetches no assets");
      expectIsOneOf(code, ["INVALID_ARGUMENT"]);
      const violations = details.filter(({ typeUrl }) => typeUrl.endsWith("/google.rpc.BadRequest"))
        .flatMap(({ value }) => badRequest.decode(value).fieldViolations);
      const isTold = violations.some((it) => it.field === "qualifiers.name" && it.description.includes("conformance."));
      expectThat(isTold, `its details name ${violations.map(({ field }) => field).join(", ") || "nothing"}`);
    },
  },
  {
    id: "X-M3",
    says: "what was pushed is found by its address",
    async holds(client) {
      const uris = [`urn:uuid:${randomUUID()}`];
      const blobDigest = await store(client, newBytes());
      const { code } = await statusOf(client.unary(methods.pushBlob, { uris, blobDigest }));
      if (code === 12) throw new NotOffered("nothing can be pushed");
      expectIsOneOf(code, ["OK"], "the push is answered");
      const found = await client.unary(methods.fetchBlob, { uris });
      expectThat((found.status?.code ?? 0) === 0, `its status is ${found.status?.code}`);
      expectThat(found.blobDigest?.hash === blobDigest.hash, "it is another blob");
    },
  },
  {
    id: "X-M4",
    says: "an empty request to an asset method that is there is INVALID_ARGUMENT",
    async holds(client) {
      let offered = 0;
      for (const name of ["fetchBlob", "fetchDirectory", "pushBlob", "pushDirectory"] as const) {
        const { code } = await statusOf(client.unary(methods[name] as typeof methods.fetchBlob, {}));
        if (code === 12) continue;
        offered++;
        expectIsOneOf(code, ["INVALID_ARGUMENT"], `${name} answers`);
      }
      if (offered === 0) throw new NotOffered("it has no assets");
    },
  },
  {
    id: "X-M5",
    says: "a log stream has a name to read and another to write, which cannot be read",
    async holds(client) {
      const { name, writeResourceName } = await newLog(client);
      expectThat(name !== "" && name !== writeResourceName, "they are the same");
      await expectCode(client.stream(methods.read, { resourceName: writeResourceName }), "INVALID_ARGUMENT");
    },
  },
  {
    id: "X-M5",
    says: "a log stream is read while it is written, from any byte, until it is finished",
    async holds(client) {
      const { name, writeResourceName } = await newLog(client);
      const reader = client.open(methods.read, { resourceName: name });
      const read = async (): Promise<string> => {
        const { done, value } = await within(10_000, "a reader hears of what was written, which", reader.next());
        return done ? "its end" : Buffer.from(value.data).toString();
      };
      const write = (text: string, writeOffset: number, finishWrite: boolean) =>
        client.write([{ resourceName: writeResourceName, writeOffset, data: Buffer.from(text), finishWrite }]);
      expectThat(await write("one ", 0, false) === 4, "it does not say that all is kept");
      const first = await read();
      expectThat(first === "one ", `it reads ${first}`);
      expectThat(await write("two", 4, true) === 7, "it does not say that all is kept");
      const rest = [await read(), await read()];
      expectThat(rest[0] === "two" && rest[1] === "its end", `then it reads ${rest.join(", ")}`);
      const later = await client.stream(methods.read, { resourceName: name, readOffset: 2 });
      expectThat(
        Buffer.concat(later.map(({ data }) => data)).toString() === "e two",
        "from byte 2 it is something else",
      );
    },
  },
  {
    id: "X-M5",
    says: "streams that are named while an action runs can be read",
    needs: "execution",
    async holds(client) {
      const running = await begin(client, await prepare(client, { script: "echo now; sleep 2" }));
      const operations = [...(await running.end()).operations];
      const names = operations.map((each) => metadataOf(each).stdoutStreamName).filter((name) => name !== "");
      if (names.length === 0) throw new NotOffered("it names none");
      const read = await client.stream(methods.read, { resourceName: names[0]! });
      expectThat(Buffer.concat(read.map(({ data }) => data)).toString() === "now\n", "it reads as something else");
    },
  },
  {
    id: "X-M6",
    says: "blobs are kept over HTTP, and only as their hash says",
    async holds(client) {
      await needsHttp(client);
      const data = newBytes(100_000);
      const path = `/cas/${digestOfBytes(data).hash}`;
      const bad = await http(client, "PUT", path, newBytes(100_000));
      expectThat(bad.status >= 400, `other bytes are answered ${bad.status}`);
      expectThat((await http(client, "GET", path)).status === 404, "a miss is not 404");
      expectThat(good.includes((await http(client, "PUT", path, data)).status), "it is not taken");
      expectThat((await http(client, "HEAD", path)).status === 200, "HEAD does not find it");
      const { status, body } = await http(client, "GET", path);
      expectThat(status === 200 && body.equals(data), `it is answered ${status}`);
      const { missingBlobDigests } = await client.unary(methods.findMissingBlobs, {
        blobDigests: [digestOfBytes(data)],
      });
      expectThat(missingBlobDigests.length === 0, "it is missing by gRPC");
    },
  },
  {
    id: "X-M6",
    says: "results are kept over HTTP, for gRPC too",
    async holds(client) {
      await needsHttp(client);
      const actionDigest = digestOfBytes(newBytes());
      const path = `/ac/${actionDigest.hash}`;
      const result = encodeActionResult({
        ...noOutputs,
        exitCode: 0,
        execution: { worker: "conformance", auxiliary: [] },
      });
      expectThat((await http(client, "GET", path)).status === 404, "a miss is not 404");
      const put = await http(client, "PUT", path, result);
      expectThat(good.includes(put.status), `it is answered ${put.status}: ${put.body.toString().slice(0, 200)}`);
      const { status, body } = await http(client, "GET", path);
      expectThat(status === 200 && body.equals(Buffer.from(result)), `it is answered ${status}`);
    },
  },
];
