/**
 * Large blobs over ByteStream: 256 MB written and read, in pieces of 256 KiB, by one client; the baseline is a bare
 * grpc-js stream of the same messages, which a server throws away or makes up. The server is a process of its own, with its
 * store on the disk: of it are the CPU seconds and the memory. Blobs that cannot be made smaller, and text; and the same
 * sent and asked for as zstd, where this runtime has it.
 */
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import * as zlib from "node:zlib";
import {
  Client,
  credentials,
  Server,
  ServerCredentials,
  type ServerReadableStream,
  type ServerWritableStream,
} from "@grpc/grpc-js";
import { runtimeArgs } from "../scripts/support/cluster.ts";
import { silentLog } from "../src/observability/log.ts";
import { methods } from "../src/protocol/reapi/services.ts";
import { reapiServer } from "../src/reapi/server.ts";
import { hasZstd } from "../src/runtime/zstd.ts";
import { outliveHttp2Farewells } from "../src/roles/http2_on_deno.ts";
import { realClock } from "../src/runtime/clock.ts";
import { localActions } from "../src/snapshots/actions/local.ts";
import { localBlobs } from "../src/snapshots/blobs/local.ts";
import { treeKeeper } from "../src/snapshots/lease.ts";
import { threadPool } from "../src/snapshots/pool/pool.ts";
import { type Figure, report } from "./report.ts";

const pieceBytes = 256 * 1024;
const blobBytes = Number(process.env["BENCH_BLOB_MB"] ?? 256) * 1_000_000;
const rounds = 3;
const messageBytesMax = 16 * 1024 * 1024;
const same = (bytes: Uint8Array): Buffer => bytes as Buffer;

interface Usage {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

if (process.argv[2] === "serve") await serve(process.argv[3]!);
else await bench();

/** Both servers, in the process that is measured. It answers "usage" with what it took since it was last asked. */
async function serve(dir: string): Promise<void> {
  outliveHttp2Farewells();
  const pool = threadPool({ threads: 2 });
  const blobs = localBlobs({ dir: join(dir, "blobs"), clock: realClock, pool });
  const actions = localActions({ dir: join(dir, "actions"), blobs, clock: realClock });
  const ours = reapiServer({
    blobs,
    trees: treeKeeper({ blobs, clock: realClock, rememberMs: 0 }),
    actions,
    uploadsDir: join(dir, "uploads"),
    instances: "any",
    token: "",
    needSpace() {},
    pageOf: (jobId) => jobId,
    guaranteedAgeMs: 3_600_000,
    fetch,
    clock: realClock,
    log: silentLog,
  });
  const bare = new Server({ "grpc.max_receive_message_length": messageBytesMax });
  const answer = Buffer.from(methods.read.response.encode({ data: Buffer.alloc(pieceBytes, "x") }));
  bare.register(
    "/bare/Read",
    (call: ServerWritableStream<Buffer, Buffer>) => {
      void (async () => {
        for (let left = blobBytes; left > 0; left -= pieceBytes) {
          await new Promise<void>((resolve) => call.write(answer, () => resolve()));
        }
        call.end();
      })();
    },
    same,
    same,
    "serverStream",
  );
  bare.register(
    "/bare/Write",
    (call: ServerReadableStream<Buffer, Buffer>, respond: (error: null, bytes: Buffer) => void) => {
      call.on("data", () => {}).on("end", () => respond(null, Buffer.alloc(0)));
    },
    same,
    same,
    "clientStream",
  );
  const injector = bare.createConnectionInjector(ServerCredentials.createInsecure());
  const listen = async (take: Parameters<typeof createServer>[1]): Promise<number> => {
    const server = createServer({ noDelay: true }, take);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (server.address() as AddressInfo).port;
  };
  const ports = {
    ours: await listen((socket) => ours.take(socket, true)),
    bare: await listen((socket) => injector.injectConnection(socket)),
  };
  let residentBytes = 0;
  setInterval(() => residentBytes = Math.max(residentBytes, process.memoryUsage.rss()), 20);
  let before = process.cpuUsage();
  process.on("message", () => {
    const { user, system } = process.cpuUsage(before);
    before = process.cpuUsage();
    process.send!({ cpuSeconds: (user + system) / 1e6, residentBytes } satisfies Usage);
    residentBytes = 0;
  });
  process.once("disconnect", () => process.exit(0));
  process.send!(ports);
}

async function bench(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "scoot-bench-"));
  const child = spawn(process.execPath, [...runtimeArgs(fileURLToPath(import.meta.url)), "serve", dir], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  try {
    const [ports] = await once(child, "message") as [{ readonly ours: number; readonly bare: number }];
    const dial = (port: number): Client =>
      new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
        "grpc.max_receive_message_length": messageBytesMax,
      });
    const clients = { ours: dial(ports.ours), bare: dial(ports.bare) };
    const figures: Figure[] = [];
    for (const [kind, content] of [["random", randomBytes(blobBytes)], ["text", text()]] as const) {
      figures.push(...await compare(kind, content, child, clients));
    }
    report(figures, process.argv.slice(2));
    for (const client of Object.values(clients)) client.close();
  } finally {
    const gone = once(child, "exit");
    child.disconnect();
    await gone;
    rmSync(dir, { recursive: true, force: true });
  }
}

/** As a log or a linker's map has it: lines alike, no two the same. */
function text(): Buffer {
  const lines: string[] = [];
  for (let bytes = 0, n = 0; bytes < blobBytes; n++) {
    const number = Math.imul(n, 2654435761) >>> 0;
    const line = `0x${number.toString(16).padStart(8, "0")} _ZN4scoot${n % 977}Ev ${(number % 65_537) * 3} .text\n`;
    bytes += line.length;
    lines.push(line);
  }
  return Buffer.from(lines.join("")).subarray(0, blobBytes);
}

interface Took {
  readonly seconds: number;
  readonly usage: Usage;
}

async function compare(
  kind: string,
  content: Buffer,
  child: ChildProcess,
  clients: { readonly ours: Client; readonly bare: Client },
): Promise<Figure[]> {
  const usage = async (): Promise<Usage> => {
    const answered = once(child, "message");
    child.send("usage");
    return (await answered)[0] as Usage;
  };
  const taken: Record<string, Took[]> = {};
  const measure = async (name: string, run: () => Promise<unknown>): Promise<void> => {
    await usage();
    const beganMs = performance.now();
    await run();
    const seconds = (performance.now() - beganMs) / 1_000;
    (taken[name] ??= []).push({ seconds, usage: await usage() });
  };
  for (let round = 0; round < rounds; round++) {
    content.writeUInt32LE(round, 0); // another blob each time
    const name = `blobs/${createHash("sha256").update(content).digest("hex")}/${content.length}`;
    const writing = `uploads/${round}/${name}`;
    await measure("bare write", () => write(clients.bare, "/bare/Write", writing, content));
    await measure("write", () => write(clients.ours, methods.write.path, writing, content));
    await measure("bare read", () => read(clients.bare, "/bare/Read", name));
    await measure("read", () => read(clients.ours, methods.read.path, name));
    if (!hasZstd) continue;
    content.writeUInt32LE(round, 4);
    const other = `compressed-blobs/zstd/${createHash("sha256").update(content).digest("hex")}/${content.length}`;
    const frame = zlib.zstdCompressSync(content);
    await measure("zstd write", () => write(clients.ours, methods.write.path, `uploads/${round}/${other}`, frame));
    await measure("zstd read", () => read(clients.ours, methods.read.path, other));
    await measure(
      "zstd read of what came raw",
      () => read(clients.ours, methods.read.path, `compressed-${name.replace("/", "/zstd/")}`),
    );
  }
  const megabytes = blobBytes / 1e6;
  const middle = (name: string): Took =>
    taken[name]!.toSorted((a, b) => a.seconds - b.seconds)[taken[name]!.length >> 1]!;
  const figures: Figure[] = [];
  for (const name of Object.keys(taken).filter((each) => !each.startsWith("bare"))) {
    const [own, bare] = [middle(name), middle(name.includes("read") ? "bare read" : "bare write")];
    const ratio = name.startsWith("zstd") ? 0.1 : 0.7;
    figures.push(
      {
        name: `${kind}: ${name}`,
        value: megabytes / own.seconds,
        baseline: megabytes / bare.seconds,
        unit: "MB/s",
        target: { atLeast: (megabytes / bare.seconds) * ratio },
      },
      {
        name: `${kind}: ${name}, CPU of the server`,
        value: own.usage.cpuSeconds / (megabytes / 1_000),
        baseline: bare.usage.cpuSeconds / (megabytes / 1_000),
        unit: "s/GB",
        target: { atMost: 60 },
      },
      {
        name: `${kind}: ${name}, memory of the server`,
        value: own.usage.residentBytes / 1e6,
        baseline: bare.usage.residentBytes / 1e6,
        unit: "MB",
        target: { atMost: bare.usage.residentBytes / 1e6 + 128 },
      },
    );
  }
  return figures;
}

/** As fast as the server takes them. */
async function write(client: Client, path: string, resourceName: string, content: Buffer): Promise<void> {
  let answered = (): void => {};
  let failed = (_why: unknown): void => {};
  const done = new Promise<void>((resolve, reject) => [answered, failed] = [resolve, reject]);
  const call = client.makeClientStreamRequest(path, same, same, (error) => error === null ? answered() : failed(error));
  for (let at = 0; at < content.length; at += pieceBytes) {
    const message = methods.write.request.encode({
      ...(at === 0 ? { resourceName } : {}),
      writeOffset: at,
      data: content.subarray(at, at + pieceBytes),
      finishWrite: at + pieceBytes >= content.length,
    });
    if (!call.write(Buffer.from(message.buffer, message.byteOffset, message.length))) {
      await Promise.race([once(call, "drain"), done]);
    }
  }
  call.end();
  await done;
}

async function read(client: Client, path: string, resourceName: string): Promise<void> {
  const call = client.makeServerStreamRequest(
    path,
    same,
    same,
    Buffer.from(methods.read.request.encode({ resourceName })),
  );
  let bytes = 0;
  call.on("data", (message: Buffer) => bytes += message.length);
  await once(call, "end");
  if (bytes === 0) throw new Error(`${resourceName} has no bytes`);
}
