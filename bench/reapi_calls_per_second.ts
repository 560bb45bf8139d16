/**
 * What a Remote Execution call costs beyond gRPC itself: FindMissingBlobs of 1,000 digests and a hit in the action cache
 * with four files and a stdout, 64 callers, over the gateway on a store on the disk; the baseline is a bare grpc-js method
 * that answers at once and has messages of the same size. Both ends are in this process. Then the hit again, from
 * gateways that are processes of their own: one that listens itself, and one behind a door.
 */
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { cliArgs } from "../scripts/support/cluster.ts";
import { type Digest, digestOfHash } from "../src/domain/digest.ts";
import { silentLog } from "../src/observability/log.ts";
import { encodeActionResult } from "../src/protocol/reapi/action_result.ts";
import { methods } from "../src/protocol/reapi/services.ts";
import { reapiServer } from "../src/reapi/server.ts";
import { outliveHttp2Farewells } from "../src/roles/http2_on_deno.ts";
import { realClock } from "../src/runtime/clock.ts";
import { localActions } from "../src/snapshots/actions/local.ts";
import { treeKeeper } from "../src/snapshots/lease.ts";
import { localBlobs } from "../src/snapshots/blobs/local.ts";
import { type Figure, report } from "./report.ts";

outliveHttp2Farewells();
const callers = 64;
const warmUpMs = 500;
const measuredMs = 2_000;
const rounds = 3;

const dir = mkdtempSync(join(tmpdir(), "scoot-bench-"));
const blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock });
const actions = localActions({ dir: join(dir, "actions"), blobs, clock: realClock });
const uploadsDir = join(dir, "uploads");
const ours = reapiServer({
  blobs,
  trees: treeKeeper({ blobs, clock: realClock, rememberMs: 0 }),
  actions,
  uploadsDir,
  instances: "any",
  token: "",
  needSpace() {},
  pageOf: (jobId) => `http://here/#/job/${jobId}`,
  guaranteedAgeMs: 3_600_000,
  fetch,
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
  return blobs.put(digestOfHash(hash, sizeBytes), bytes);
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

interface Figures {
  readonly rate: number;
  readonly p99Ms: number;
}

/** @returns calls a second, and the 99th percentile of how long one took, in ms. */
async function measure(client: Client, path: string, request: Uint8Array): Promise<Figures> {
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

/** By turns, so that both have the same of a machine that does other things too; of each what is in the middle. */
async function measureBoth(
  ...subjects: readonly (readonly [client: Client, path: string, request: Uint8Array])[]
): Promise<readonly Figures[]> {
  const found = subjects.map((): Figures[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [place, subject] of subjects.entries()) found[place]!.push(await measure(...subject));
  }
  const middle = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;
  return found.map((all) => ({ rate: middle(all.map(({ rate }) => rate)), p99Ms: middle(all.map((it) => it.p99Ms)) }));
}

const figures: Figure[] = [];
async function compare(name: string, method: { readonly path: string }, request: Uint8Array): Promise<void> {
  bareAnswer = await call(gateway.client, method.path, request);
  const [bareFigures, ourFigures] = await measureBoth(
    [plain.client, "/bare/Call", request],
    [gateway.client, method.path, request],
  ) as [Figures, Figures];
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

/** A gateway as a process of its own, which says where it listens. */
async function startRole(role: "gateway" | "door") {
  const args = [role, "--data", join(dir, role), "--listen", "127.0.0.1:0", "--scheduler", "127.0.0.1:1"];
  const child = spawn(process.execPath, cliArgs(...args), { stdio: ["ignore", "pipe", "ignore"] });
  const address = await new Promise<string>((resolve, reject) => {
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      const found = /ready at http:\/\/(\S+?);|ready at http:\/\/(\S+?),/.exec(said);
      if (found !== null) resolve(found[1] ?? found[2]!);
    });
    child.once("exit", (code) => reject(new Error(`The ${role} ended with ${code}: ${said}`)));
  });
  const client = new Client(address, credentials.createInsecure());
  return {
    client,
    async stop() {
      client.close();
      const gone = once(child, "exit");
      child.kill();
      await gone;
    },
  };
}

/** The answer to the same question, by a gateway that listens itself and by one behind a door. */
async function compareDoor(): Promise<void> {
  const [direct, behind] = [await startRole("gateway"), await startRole("door")];
  try {
    for (const { client } of [direct, behind]) {
      for (const bytes of [stdout, ...outputs]) await call(client, methods.batchUpdateBlobs.path, batchOf(bytes));
      await call(client, methods.updateActionResult.path, update);
    }
    const [directFigures, behindFigures] = await measureBoth(
      [direct.client, methods.getActionResult.path, getResult],
      [behind.client, methods.getActionResult.path, getResult],
    ) as [Figures, Figures];
    figures.push({
      name: "GetActionResult through the door, 64 callers",
      value: behindFigures.rate,
      baseline: directFigures.rate,
      unit: "calls/s",
      target: { atLeast: directFigures.rate * 0.8 },
    });
  } finally {
    for (const each of [direct, behind]) await each.stop();
  }
}

const outputs = Array.from({ length: 4 }, (_, n) => Buffer.from(`output ${n}`));
const stdout = Buffer.from("what it said");
const batchOf = (data: Buffer): Uint8Array =>
  methods.batchUpdateBlobs.request.encode({ requests: [{ digest: digestOf(data), data, compressor: 0 }] });
const digestText = ({ hash, sizeBytes }: ReturnType<typeof digestOf>): Digest => digestOfHash(hash, sizeBytes);
const update = methods.updateActionResult.request.encode({
  actionDigest,
  actionResult: encodeActionResult({
    outputFiles: outputs.map((bytes, n) => ({
      path: `bazel-out/k8-fastbuild/bin/lib/some_file_${n}.o`,
      digest: digestText(digestOf(bytes)),
      executable: false,
    })),
    outputDirectories: [],
    outputSymlinks: [],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode: 0,
    stdout: digestText(digestOf(stdout)),
    execution: { worker: "w1", auxiliary: [] },
  }),
});
for (const bytes of [stdout, ...outputs]) await call(gateway.client, methods.batchUpdateBlobs.path, batchOf(bytes));
await call(gateway.client, methods.updateActionResult.path, update);
await compare("GetActionResult, a hit", methods.getActionResult, getResult);
await compare("FindMissingBlobs of 1,000 digests, all there", methods.findMissingBlobs, findMissing);
await compareDoor();
report(figures, process.argv.slice(2));

for (const { client, server } of [gateway, plain]) {
  client.close();
  server.close();
}
await ours.close(0);
bare.forceShutdown();
await actions.close();
await blobs.close();
rmSync(dir, { recursive: true, force: true });
