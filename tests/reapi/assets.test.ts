import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type ServiceError, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { badRequest, rpcStatus } from "../../src/protocol/reapi/messages.ts";
import { methods } from "../../src/protocol/reapi/services.ts";
import { digestOf, readBlob, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { manualClock } from "../transport/manual_clock.ts";
import { codeOf, digestOfText, type Rig, startRig } from "./rig.ts";

let rig: Rig;
let clock: ReturnType<typeof manualClock>;
let web: Server;
let origin: string;
/** What was asked of the web server. */
let asked: { readonly path: string; readonly headers: Readonly<Record<string, unknown>> }[];
const content = Buffer.alloc(300_000, "an archive ");

beforeEach(async () => {
  asked = [];
  web = createServer((request, response) => {
    const path = request.url ?? "";
    asked.push({ path, headers: request.headers });
    const [, code] = /^\/status\/(\d+)$/.exec(path) ?? [];
    if (path === "/never") return; // it is not answered
    if (path === "/moved") return response.writeHead(302, { location: "/archive" }).end();
    if (path === "/short") {
      return void response.writeHead(200, { "content-length": "9" }).write("half", () => response.destroy());
    }
    if (code !== undefined) return response.writeHead(Number(code)).end("no");
    response.end(content);
  });
  await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
  clock = manualClock();
  rig = await startRig({ fetch, clock });
});
afterEach(async () => {
  await rig.close();
  web.closeAllConnections();
  await new Promise((resolve) => web.close(resolve));
});

const sri = (algorithm: string, of: Uint8Array | string = content): string =>
  `${algorithm}-${createHash(algorithm).update(of).digest("base64")}`;
const checksum = (...value: string[]) => ({ name: "checksum.sri", value: value.join(" ") });
const fetchBlob = (uris: readonly string[], qualifiers: readonly { name: string; value: string }[] = [], more = {}) =>
  rig.unary(methods.fetchBlob, { uris: uris.map((uri) => uri.replace(/^\//, `${origin}/`)), qualifiers, ...more });
const faultOf = (call: Promise<unknown>): Promise<ServiceError> =>
  call.then(() => expect.unreachable("it succeeds"), (thrown) => thrown);

describe("FetchBlob", () => {
  test("X-M3: what lies at an address becomes a blob", async () => {
    const answer = await fetchBlob(["/moved"]);
    expect(answer).toMatchObject({ uri: `${origin}/moved`, blobDigest: digestOfText(content), digestFunction: 1 });
    expect(answer.status?.code).toBe(0);
    expect(Buffer.from(await readBlob(rig.blobs, digestOf(content), content.length)).equals(content)).toBe(true);
  });
  test("X-M3: one of its checksums must hold, of any of the kinds; else nothing is kept", async () => {
    for (const kind of ["sha256", "sha384", "sha512"]) {
      const { blobDigest } = await fetchBlob(["/archive"], [checksum(sri("sha256", "another"), sri(kind))]);
      expect(blobDigest).toEqual(digestOfText(content));
    }
    expect(await codeOf(fetchBlob(["/other"], [checksum(sri("sha384", "another"))]))).toBe(status.FAILED_PRECONDITION);
    for (const bad of ["", "md5-AAAA", "sha256-AAAA", "sha256"]) {
      expect(await codeOf(fetchBlob(["/archive"], [checksum(bad)])), bad).toBe(status.INVALID_ARGUMENT);
    }
  });
  test("what is here by its checksum, or was fetched by one, is not fetched again; what has none is", async () => {
    await writeBlob(rig.blobs, content);
    await fetchBlob(["/archive"], [checksum(sri("sha512"))]);
    const again = await fetchBlob(["/elsewhere", "/archive"], [checksum(sri("sha512"))]);
    expect(again.uri).toBe(`${origin}/archive`);
    expect(asked.map(({ path }) => path)).toEqual(["/archive"]);
    await fetchBlob(["/archive"], [checksum(sri("sha512"))], {
      oldestContentAccepted: { seconds: Math.ceil(clock.now() / 1_000) + 1, nanos: 0 },
    });
    await fetchBlob(["/archive"]);
    await fetchBlob(["/archive"]);
    expect(asked).toHaveLength(4);
  });
  test("X-M3: the headers of an address are sent there and to no other; who asks at once costs one request", async () => {
    const qualifiers = [
      { name: "bazel.canonical_id", value: "an id" },
      { name: "bazel.auth_headers", value: JSON.stringify({ [`${origin}/b`]: { Authorization: "Basic abc" } }) },
      { name: "http_header:X-All", value: "1" },
      { name: "http_header_url:0:X-First", value: "2" },
    ];
    const uris = ["/status/404", "/b"];
    const answers = await Promise.all([fetchBlob(uris, qualifiers), fetchBlob(uris, qualifiers)]);
    expect(answers.map(({ uri }) => uri)).toEqual([`${origin}/b`, `${origin}/b`]);
    expect(asked.map(({ path, headers }) => [path, headers["authorization"], headers["x-all"], headers["x-first"]]))
      .toEqual([["/status/404", undefined, "1", "2"], ["/b", "Basic abc", "1", undefined]]);
    for (const value of ["no json", "5"]) {
      expect(await codeOf(fetchBlob(["/b"], [{ name: "bazel.auth_headers", value }]))).toBe(status.INVALID_ARGUMENT);
    }
    expect(await codeOf(fetchBlob(["/b"], [{ name: "http_header:a b", value: "c" }]))).toBe(status.INVALID_ARGUMENT);
  });
  test("X-M3: failures are the call's, by what would help", async () => {
    const codes: [string, number][] = [
      ["/status/404", status.NOT_FOUND],
      ["/status/403", status.PERMISSION_DENIED],
      ["/status/401", status.PERMISSION_DENIED],
      ["/status/500", status.UNAVAILABLE],
      ["/status/429", status.UNAVAILABLE],
      ["/short", status.UNAVAILABLE],
      ["http://127.0.0.1:1/", status.UNAVAILABLE],
      ["http://[", status.NOT_FOUND],
      ["file:///etc/hosts", status.NOT_FOUND],
      ["urn:nobody:knows:it", status.NOT_FOUND],
    ];
    for (const [uri, code] of codes) expect([uri, await codeOf(fetchBlob([uri]))]).toEqual([uri, code]);
    const late = codeOf(fetchBlob(["/never"], [], { timeout: { seconds: 5, nanos: 0 } }));
    while (!asked.some(({ path }) => path === "/never")) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(5_000);
    expect(await late).toBe(status.UNAVAILABLE);
  });
  test("X-M3: a qualifier that cannot be kept to is INVALID_ARGUMENT, and which it is is told", async () => {
    const error = await faultOf(
      fetchBlob(["/archive"], [{ name: "vcs.branch", value: "main" }, checksum(sri("sha256"))]),
    );
    expect(error.code).toBe(status.INVALID_ARGUMENT);
    const { details } = rpcStatus.decode(error.metadata.get("grpc-status-details-bin")[0] as Buffer);
    expect(details.map(({ typeUrl }) => typeUrl)).toEqual(["type.googleapis.com/google.rpc.BadRequest"]);
    expect(badRequest.decode(details[0]!.value).fieldViolations).toEqual([
      { field: "qualifiers.name", description: '"vcs.branch" not supported' },
    ]);
    expect(asked).toEqual([]);
  });
});

test("X-M4: an empty request is INVALID_ARGUMENT; so are names that are there twice, and another function", async () => {
  for (const method of [methods.fetchBlob, methods.fetchDirectory, methods.pushBlob, methods.pushDirectory]) {
    const bad = [
      {},
      { uris: [""] },
      { uris: ["urn:a"], qualifiers: [checksum(sri("sha256")), checksum(sri("sha256"))] },
      { uris: ["urn:a"], digestFunction: 9, blobDigest: digestOfText(""), rootDirectoryDigest: digestOfText("") },
      { uris: ["urn:a"], instanceName: "blobs" },
    ];
    for (const request of bad) {
      expect(await codeOf(rig.unary(method as typeof methods.fetchBlob, request))).toBe(status.INVALID_ARGUMENT);
    }
  }
});

describe("what was pushed", () => {
  const uris = ["urn:a", "https://b.example/c"];
  const own = [{ name: "resource_type", value: "application/x-git" }, { name: "vcs.branch", value: "main" }];
  test("is found by any of its addresses, with its qualifiers in any order, in its instance alone", async () => {
    await writeBlob(rig.blobs, content);
    const blobDigest = digestOfText(content);
    await rig.unary(methods.pushBlob, { instanceName: "i", uris, qualifiers: own, blobDigest });
    const find = (more: object = {}) =>
      rig.unary(methods.fetchBlob, { instanceName: "i", uris: [uris[1]!], qualifiers: own.toReversed(), ...more });
    expect(await find()).toMatchObject({ uri: uris[1], blobDigest });
    expect(await codeOf(find({ instanceName: "" }))).toBe(status.INVALID_ARGUMENT);
    expect(await codeOf(find({ qualifiers: [] }))).toBe(status.UNAVAILABLE); // nobody is there
    expect(await codeOf(rig.unary(methods.fetchDirectory, { instanceName: "i", uris, qualifiers: own })))
      .toBe(status.NOT_FOUND);
  });
  test("folders are found whole, or not at all", async () => {
    const file = await writeBlob(rig.blobs, content);
    const inner = encodeDirectory([{ kind: "file", name: "f", digest: file, executable: false }]);
    const root = encodeDirectory([{ kind: "directory", name: "d", digest: digestOf(inner) }]);
    await writeBlob(rig.blobs, root);
    const rootDirectoryDigest = digestOfText(root);
    const push = () => rig.unary(methods.pushDirectory, { uris, qualifiers: own, rootDirectoryDigest });
    expect(await codeOf(push())).toBe(status.FAILED_PRECONDITION);
    await writeBlob(rig.blobs, inner);
    await push();
    expect(await rig.unary(methods.fetchDirectory, { uris: ["urn:x", uris[0]!], qualifiers: own })).toMatchObject({
      uri: uris[0],
      rootDirectoryDigest,
    });
  });
  test("expires, and is as new as it was pushed last; what it refers to must be there", async () => {
    const blobDigest = digestOfText(await writeBlob(rig.blobs, content) && content);
    const at = (ms: number) => ({ seconds: Math.floor(ms / 1_000), nanos: (ms % 1_000) * 1e6 });
    const find = (more: object = {}) => codeOf(rig.unary(methods.fetchBlob, { uris: ["urn:a"], ...more }));
    const refers = { referencesBlobs: [digestOfText("not here")] };
    expect(await codeOf(rig.unary(methods.pushBlob, { uris: ["urn:a"], blobDigest, ...refers })))
      .toBe(status.FAILED_PRECONDITION);
    const expireAt = at(clock.now() + 5_000);
    await rig.unary(methods.pushBlob, { uris: ["urn:a"], blobDigest, expireAt });
    const oldestContentAccepted = at(clock.now() + 1_000);
    await clock.advance(2_000);
    expect(await find({ oldestContentAccepted })).toBe(status.NOT_FOUND);
    await rig.unary(methods.pushBlob, { uris: ["urn:a"], blobDigest, expireAt });
    expect(await find({ oldestContentAccepted })).toBe(status.OK);
    await clock.advance(4_000);
    expect(await find()).toBe(status.NOT_FOUND);
    await rig.unary(methods.pushBlob, { uris: ["urn:a"], blobDigest });
    expect(await find()).toBe(status.OK);
  });
});
