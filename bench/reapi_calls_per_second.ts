/**
 * What a Remote Execution call costs beyond gRPC itself: FindMissingBlobs of 1,000 digests and a hit in the action cache,
 * 64 callers, over the gateway on a store on the disk; the baseline is a bare grpc-js method that answers at once and has
 * messages of the same size. Both ends are in this process.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { silentLog } from "../src/observability/log.ts";
import { methods } from "../src/protocol/reapi/services.ts";
import { reapiServer } from "../src/reapi/server.ts";
import { outliveHttp2Farewells } from "../src/roles/http2_on_deno.ts";
import { realClock } from "../src/runtime/clock.ts";
import { localActions } from "../src/snapshots/actions/local.ts";
import { localBlobs } from "../src/snapshots/blobs/local.ts";
import { type Figure, report } from "./report.ts";

outliveHttp2Farewells();
const callers = 64;
const warmUpMs = 1_000;
const measuredMs = 4_000;

const dir = mkdtempSync(join(tmpdir(), "scoot-bench-"));
const blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
const actions = localActions({ dir: join(dir, "actions"), blobs, clock: realClock });
const uploadsDir = join(dir, "uploads");
const ours = reapiServer({
  blobs,
  actions,
  uploadsDir,
  instances: "any",
  token: "",
  needSpace() {},
  pageOf: (jobId) => `http://here/#/job/${jobId}`,
  guaranteedAgeMs: 3_600_000,
  clock: realClock,
  log: silentLog,
});

const digestOf = (bytes: Uint8Array) => ({
  hash: createHash("sha256").update(bytes).digest("hex"),
  sizeBytes: bytes.length,
});
const contents = Array.from({ length: 1_000 }, (_, n) => Buffer.from(`blob ${n}`));
await Promise.all(contents.map((bytes) => {
  const { hash, sizeBytes } = digestOf(bytes);
  return blobs.put(`${hash}/${sizeBytes}` as Parameters<typeof blobs.put>[0], bytes);
}));
const findMissing = methods.findMissingBlobs.request.encode({ blobDigests: contents.map(digestOf) });
const actionDigest = digestOf(Buffer.from("an action"));
const getResult = methods.getActionResult.request.encode({ actionDigest });

const same = (bytes: Uint8Array): Buffer => bytes as Buffer;
let bareAnswer: Buffer = Buffer.alloc(0);
const bare = new Server();
bare.register(
  "/bare/Call",
  (_call: unknown, respond: (error: null, bytes: Buffer) => void) => respond(null, bareAnswer),
  same,
  same,
  "unary",
);
const injector = bare.createConnectionInjector(ServerCredentials.createInsecure());

const listen = async (take: Parameters<typeof createServer>[1]) => {
  const server = createServer({ noDelay: true }, take);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    server,
    client: new Client(`127.0.0.1:${(server.address() as AddressInfo).port}`, credentials.createInsecure()),
  };
};
const [gateway, plain] = [
  await listen((socket) => ours.take(socket, true)),
  await listen((socket) => injector.injectConnection(socket)),
];

const call = (client: Client, path: string, request: Uint8Array): Promise<Buffer> =>
  new Promise((resolve, reject) =>
    client.makeUnaryRequest(
      path,
      same,
      same,
      Buffer.from(request),
      (error, answer) => error === null ? resolve(answer!) : reject(error),
    )
  );

/** @returns calls a second, and the 99th percentile of how long one took, in ms. */
async function measure(client: Client, path: string, request: Uint8Array): Promise<{ rate: number; p99Ms: number }> {
  const tookMs: number[] = [];
  const beganMs = performance.now();
  const [fromMs, toMs] = [beganMs + warmUpMs, beganMs + warmUpMs + measuredMs];
  await Promise.all(Array.from({ length: callers }, async () => {
    for (let atMs = performance.now(); atMs < toMs;) {
      await call(client, path, request);
      const nowMs = performance.now();
      if (atMs >= fromMs) tookMs.push(nowMs - atMs);
      atMs = nowMs;
    }
  }));
  tookMs.sort((a, b) => a - b);
  return { rate: tookMs.length / (measuredMs / 1_000), p99Ms: tookMs[Math.floor(tookMs.length * 0.99)]! };
}

const figures: Figure[] = [];
async function compare(name: string, method: { readonly path: string }, request: Uint8Array): Promise<void> {
  bareAnswer = await call(gateway.client, method.path, request);
  const bareFigures = await measure(plain.client, "/bare/Call", request);
  const ourFigures = await measure(gateway.client, method.path, request);
  figures.push(
    {
      name: `${name}, 64 callers`,
      value: ourFigures.rate,
      baseline: bareFigures.rate,
      unit: "calls/s",
      target: { atLeast: bareFigures.rate * 0.6 },
    },
    {
      name: `${name}, 99 %`,
      value: ourFigures.p99Ms,
      baseline: bareFigures.p99Ms,
      unit: "ms",
      target: { atMost: bareFigures.p99Ms * 2 },
    },
  );
}
const update = methods.updateActionResult.request.encode({ actionDigest, actionResult: Uint8Array.of(0x20, 0x01) });
await call(gateway.client, methods.updateActionResult.path, update);
await compare("GetActionResult, a hit", methods.getActionResult, getResult);
await compare("FindMissingBlobs of 1,000 digests, all there", methods.findMissingBlobs, findMissing);
report(figures, process.argv.slice(2));

for (const { client, server } of [gateway, plain]) {
  client.close();
  server.close();
}
ours.close();
bare.forceShutdown();
await actions.close();
await blobs.close();
rmSync(dir, { recursive: true, force: true });
