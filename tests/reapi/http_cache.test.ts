import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { type Digest, emptyDigest, hashOf } from "../../src/domain/digest.ts";
import { silentLog } from "../../src/observability/log.ts";
import { bytes, digest, int, message } from "../../src/protocol/reapi/codec.ts";
import { type Method, methods } from "../../src/protocol/reapi/services.ts";
import { httpCache } from "../../src/reapi/http_cache.ts";
import { type GatewayRoleOptions, startGateway } from "../../src/roles/gateway.ts";
import { sniffSocket } from "../../src/roles/sniff.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { localActions } from "../../src/snapshots/actions/local.ts";
import { writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { localBlobs } from "../../src/snapshots/blobs/local.ts";
import { memoryRefs } from "../../src/snapshots/refs/memory.ts";
import { digestOfText } from "./rig.ts";

const token = "the-token";
const bearer = { Authorization: `Bearer ${token}` };

/** A gateway without a scheduler on a store of its own: HTTP and gRPC on one port. */
async function startPort(options: Partial<GatewayRoleOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), "scoot-http-cache-"));
  const blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
  const actions = localActions({ dir: join(dir, "actions"), blobs, clock: realClock });
  const role = startGateway({
    dataDir: dir,
    token,
    log: silentLog,
    blobs,
    sealed: {} as GatewayRoleOptions["sealed"],
    states: () => Promise.resolve(undefined),
    names: memoryRefs(),
    actions,
    hosts: [],
    origin: () => "http://here",
    dialScheduler: (_hello, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    acceptCbor: (socket) => socket.destroy(),
    ...options,
  });
  const sockets = new Set<Socket>();
  const listener = createServer({ pauseOnConnect: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    sniffSocket(socket, role.takers, realClock);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  return {
    port,
    blobs,
    actions,
    ask: (method: string, path: string, body?: Uint8Array | string, headers: Record<string, string> = bearer) =>
      fetch(`http://127.0.0.1:${port}${path}`, {
        method,
        headers,
        ...(body === undefined ? {} : { body: body as string }),
      }),
    call: <Request, Response>(method: Method<Request, Response>, request: Partial<Request>): Promise<Response> =>
      new Promise((resolve, reject) =>
        client.makeUnaryRequest(
          method.path,
          (encoded: Uint8Array) => Buffer.from(encoded),
          method.response.decode,
          method.request.encode(request),
          (error, response) => error === null ? resolve(response!) : reject(error),
        )
      ),
    async close() {
      client.close();
      role.stop();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
      await actions.close();
      await blobs.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

let port: Awaited<ReturnType<typeof startPort>>;
afterEach(() => port.close());

/** The status of an answer whose body is of no interest. */
const statusOf = async (answer: Promise<Response>): Promise<number> => {
  const { status, body } = await answer;
  await body?.cancel();
  return status;
};
const big = Buffer.alloc(9_000_000, "a line of a file that is larger than one chunk\n");
const result = message("an ActionResult", { exitCode: int(4), stdoutRaw: bytes(5), stdoutDigest: digest(6) });

describe("/cas/", () => {
  test("X-M6: a blob that was put is there, whole, also over gRPC; one that was not is 404", async () => {
    port = await startPort();
    for (const content of [Buffer.from("hello"), big]) {
      const { hash } = digestOfText(content);
      expect(await statusOf(port.ask("GET", `/cas/${hash}`))).toBe(404);
      expect(await statusOf(port.ask("HEAD", `/cas/${hash}`))).toBe(404);
      for (const _again of [1, 2]) expect(await statusOf(port.ask("PUT", `/cas/${hash}`, content))).toBe(204);
      const head = await port.ask("HEAD", `/cas/${hash}`);
      expect([head.status, head.headers.get("content-length")]).toEqual([200, String(content.length)]);
      const got = await port.ask("GET", `/cas/${hash}`);
      expect(Buffer.compare(Buffer.from(await got.arrayBuffer()), content)).toBe(0);
      const { missingBlobDigests } = await port.call(methods.findMissingBlobs, {
        blobDigests: [digestOfText(content)],
      });
      expect(missingBlobDigests).toEqual([]);
    }
  });
  test("X-M6: an instance before it changes nothing for blobs; the empty blob is always there", async () => {
    port = await startPort();
    await port.ask("PUT", `/a/b/cas/${digestOfText("hello").hash}`, "hello");
    const got = await port.ask("GET", `/c/cas/${digestOfText("hello").hash}`);
    expect(await got.text()).toBe("hello");
    const empty = await port.ask("GET", `/cas/${hashOf(emptyDigest)}`);
    expect([empty.status, await empty.text()]).toEqual([200, ""]);
  });
  test("X-M6: what is not of that hash is refused, and nothing is kept; the next request is served", async () => {
    port = await startPort();
    const { hash } = digestOfText("hello");
    for (const wrong of ["hullo", "hell", ""]) {
      expect(await statusOf(port.ask("PUT", `/cas/${hash}`, wrong))).toBe(400);
    }
    const { hash: largeHash } = digestOfText(big);
    expect(await statusOf(port.ask("PUT", `/cas/${largeHash}`, big.subarray(1)))).toBe(400);
    for (const each of [hash, largeHash]) expect(await statusOf(port.ask("GET", `/cas/${each}`))).toBe(404);
    for (const bad of ["xyz", hash.toUpperCase(), hash.slice(1)]) {
      for (const kind of ["ac", "cas"]) expect(await statusOf(port.ask("GET", `/${kind}/${bad}`))).toBe(400);
    }
    expect(await statusOf(port.ask("PUT", `/cas/${hash}`, "hello"))).toBe(204);
  });
});

describe("/ac/", () => {
  const action = digestOfText("an action");
  const path = `/ac/${action.hash}`;
  test("X-M6 A-5: a result is taken only with what it refers to, and found over gRPC under its action's digest", async () => {
    port = await startPort();
    const given = result.encode({ exitCode: 0, stdoutDigest: digestOfText("said") });
    expect(await statusOf(port.ask("GET", path))).toBe(404);
    expect(await statusOf(port.ask("PUT", path, given))).toBe(409);
    expect(await statusOf(port.ask("GET", path))).toBe(404);
    await writeBlob(port.blobs, Buffer.from("said"));
    await writeBlob(port.blobs, Buffer.from("an action"));
    expect(await statusOf(port.ask("PUT", path, given))).toBe(204);
    const got = await port.ask("GET", path);
    expect([got.status, Buffer.from(await got.arrayBuffer())]).toEqual([200, Buffer.from(given)]);
    const head = await port.ask("HEAD", path);
    expect([head.status, head.headers.get("content-length")]).toEqual([200, String(given.length)]);
    expect(Buffer.from(await port.call(methods.getActionResult, { actionDigest: action }))).toEqual(Buffer.from(given));
  });
  test("X-M6 A-2: a result whose outputs are gone is no hit", async () => {
    port = await startPort();
    const said = digestOfText("said");
    await port.ask("PUT", `/cas/${said.hash}`, "said");
    expect(await statusOf(port.ask("PUT", path, result.encode({ stdoutDigest: said })))).toBe(204);
    await port.blobs.held.remove([Buffer.from(said.hash, "hex")], realClock.now() + 3_600_000);
    expect(await statusOf(port.ask("GET", path))).toBe(404);
  });
  test("X-M6: what came over gRPC is found by its hash alone; the last put wins; instances are kept apart", async () => {
    port = await startPort();
    const update = (exitCode: number) =>
      port.call(methods.updateActionResult, {
        instanceName: "a/b",
        actionDigest: action,
        actionResult: result.encode({ exitCode }),
      });
    await update(1);
    const exitCode = async () =>
      result.decode(new Uint8Array(await (await port.ask("GET", `/a/b${path}`)).arrayBuffer())).exitCode;
    expect(await exitCode()).toBe(1);
    await port.ask("PUT", `/a/b${path}`, result.encode({ exitCode: 2 }));
    expect(await exitCode()).toBe(2);
    expect(result.decode(await port.call(methods.getActionResult, { instanceName: "a/b", actionDigest: action })))
      .toMatchObject({ exitCode: 2 });
    for (const other of ["", "/a"]) expect(await statusOf(port.ask("GET", `${other}${path}`))).toBe(404);
  });
  test("X-M6: other bytes are refused, unless the setting lets them in: then they come back as they were", async () => {
    const foreign = Buffer.from([0xff, 0xff, 1, 2, 3]);
    port = await startPort();
    expect(await statusOf(port.ask("PUT", path, foreign))).toBe(400);
    expect(await statusOf(port.ask("PUT", path, Buffer.alloc(5_000_000)))).toBe(413);
    await port.close();
    port = await startPort({ takesAnyResult: true });
    await port.ask("PUT", path, result.encode({ exitCode: 1 }));
    expect(await statusOf(port.ask("PUT", path, foreign))).toBe(204);
    const got = await port.ask("GET", path);
    expect(Buffer.from(await got.arrayBuffer())).toEqual(foreign);
    await port.ask("PUT", path, result.encode({ exitCode: 1 }));
    expect(result.decode(new Uint8Array(await (await port.ask("GET", path)).arrayBuffer())).exitCode).toBe(1);
  });
});

test("X-M6: whoever asks brings the token, as Bearer or as the password in the address", async () => {
  port = await startPort();
  const path = `/cas/${digestOfText("hello").hash}`;
  const basic = (secret: string) => ({ Authorization: `Basic ${Buffer.from(`me:${secret}`).toString("base64")}` });
  const strangers: Record<string, string>[] = [{}, basic("x"), { Authorization: "Bearer x" }, {
    Authorization: `Basic ${Buffer.from(token).toString("base64")}`,
  }];
  for (const headers of strangers) {
    expect(await statusOf(port.ask("PUT", path, "hello", headers))).toBe(401);
    expect(await statusOf(port.ask("GET", path, undefined, headers))).toBe(401);
  }
  expect(await statusOf(port.ask("PUT", path, "hello", basic(token)))).toBe(204);
  expect(await statusOf(port.ask("GET", path))).toBe(200);
});

test("D-7: with a list of instances, others are refused over HTTP too", async () => {
  port = await startPort({ instances: ["main"] });
  const { hash } = digestOfText("hello");
  expect(await statusOf(port.ask("PUT", `/main/cas/${hash}`, "hello"))).toBe(204);
  for (const instance of ["", "/other", "/%ff", "/blobs"]) {
    expect(await statusOf(port.ask("GET", `${instance}/cas/${hash}`))).toBe(400);
  }
  const known: Digest | undefined = port.blobs.find(hash);
  expect(known).toBe(`${hash}/5`);
});

test("X-M6: what is there already is taken whole all the same, and the connection goes on", async () => {
  port = await startPort();
  const bytes = Buffer.alloc(8_000_000, "x");
  const hash = createHash("sha256").update(bytes).digest("hex");
  expect(await statusOf(port.ask("PUT", `/cas/${hash}`, bytes))).toBe(204);
  const socket = connect(port.port, "127.0.0.1");
  let heard = "";
  socket.on("data", (part: Buffer) => heard += part.toString("latin1"));
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const head = (method: string, more: string): string =>
    `${method} /cas/${hash} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n${more}\r\n`;
  for (let times = 0; times < 3; times++) {
    socket.write(head("PUT", `Content-Length: ${bytes.length}\r\n`));
    socket.write(bytes);
  }
  socket.write(head("HEAD", "Connection: close\r\n"));
  await closed;
  expect(heard.match(/HTTP\/1\.1 \d+/g)).toEqual([204, 204, 204, 200].map((status) => `HTTP/1.1 ${status}`));
});

test("a result whose body is shorter or longer than it was told to be is refused, and nothing is kept of it", async () => {
  port = await startPort();
  const cache = httpCache({
    blobs: port.blobs,
    actions: port.actions,
    instances: "any",
    takesAnyResult: true,
    needSpace: () => {},
    clock: realClock,
  });
  const { hash } = digestOfText("an action");
  for (const body of ["", "short", "a body that is longer"]) {
    const put = cache({
      method: "PUT",
      path: `/ac/${hash}`,
      lengthBytes: 10,
      async *body() {
        yield Buffer.from(body);
      },
    });
    await expect(put).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  }
  expect(port.actions.size().entries).toBe(0);
});
