/**
 * Actions of the Remote Execution API that print a line, none like another, 5,000 of them and 200 in flight: through a
 * cluster with real processes, compared with the same command spawned plainly by this runtime; and through a scheduler
 * and a gateway of their own with a simulated worker, which tells what all but the processes costs.
 */
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import process from "node:process";
import { Client, credentials } from "@grpc/grpc-js";
import { startCluster } from "../scripts/support/cluster.ts";
import { hashOf, sizeOf } from "../src/domain/digest.ts";
import { decodeActionResult, encodeActionResult } from "../src/protocol/reapi/action_result.ts";
import { encodeAction, encodeCommand } from "../src/protocol/reapi/canonical.ts";
import { executeResponse } from "../src/protocol/reapi/messages.ts";
import { type Method, methods } from "../src/protocol/reapi/services.ts";
import { emptyDigest } from "../src/domain/digest.ts";
import { digestOf } from "../src/snapshots/blobs/blobs.ts";
import { type Figure, report } from "./report.ts";
import { startParts, usageOf } from "./support/parts.ts";

const count = Number(process.env["BENCH_ACTIONS"] ?? 5_000);
const inFlight = 200;
const warmUp = Math.ceil(count / 10);
const cores = availableParallelism();
const echo = "/bin/echo";

const buffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const wire = (digest: ReturnType<typeof digestOf>) => ({ hash: hashOf(digest), sizeBytes: sizeOf(digest) });

/** Runs all, so many at once. @returns how many a second, those of the warm-up left out. */
async function rateOf(run: (number: number) => Promise<void>, atOnce: number): Promise<number> {
  let next = 0;
  let done = 0;
  let beganMs = 0;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (next < count + warmUp) {
      await run(next++);
      if (++done === warmUp) beganMs = performance.now();
    }
  }));
  return count / ((performance.now() - beganMs) / 1_000);
}

const plain = (number: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(echo, [`line ${number}`], { stdio: ["ignore", "ignore", "ignore"], env: {} });
    child.once("exit", () => resolve()).once("error", reject);
  });

function clientOf(address: string) {
  const client = new Client(address, credentials.createInsecure());
  return {
    unary: <Request, Response>(method: Method<Request, Response>, request: Partial<Request>): Promise<Response> =>
      new Promise((resolve, reject) =>
        client.makeUnaryRequest(
          method.path,
          buffer,
          method.response.decode,
          method.request.encode(request),
          (error, response) => error === null ? resolve(response!) : reject(error),
        )
      ),
    /** The response of an action, once it is done. */
    async execute(action: ReturnType<typeof digestOf>) {
      const call = client.makeServerStreamRequest(
        methods.execute.path,
        buffer,
        methods.execute.response.decode,
        methods.execute.request.encode({ actionDigest: wire(action) }),
      );
      for await (const { done, response } of call) if (done) return executeResponse.decode(response!.value);
      throw new Error("A stream ended before its action");
    },
    close: () => client.close(),
  };
}

/** Puts the commands and actions that are run, as a client has them already when it asks. */
async function putActions(client: ReturnType<typeof clientOf>) {
  const actions: ReturnType<typeof digestOf>[] = [];
  let batch: { digest: ReturnType<typeof wire>; data: Uint8Array; compressor: number }[] = [];
  const put = (data: Uint8Array) => {
    const digest = digestOf(data);
    batch.push({ digest: wire(digest), data, compressor: 0 });
    return digest;
  };
  for (let number = 0; number < count + warmUp; number++) {
    const command = put(
      encodeCommand({ argv: [echo, `line ${number}`], env: {}, outputs: [], platform: [], workingDirectory: "" }),
    );
    actions.push(put(encodeAction({ command, inputRoot: emptyDigest, doNotCache: false, platform: [] })));
    if (batch.length < 2_000 && number < count + warmUp - 1) continue;
    await client.unary(methods.batchUpdateBlobs, { requests: batch });
    batch = [];
  }
  return actions;
}

async function run(address: string, check: (line: string, number: number) => void): Promise<number> {
  const client = clientOf(address);
  try {
    const actions = await putActions(client);
    return await rateOf(async (number) => {
      const { result, status } = await client.execute(actions[number]!);
      if (status !== undefined && status.code !== 0) throw new Error(status.message);
      check(Buffer.from(decodeActionResult(result).stdoutRaw ?? []).toString(), number);
    }, inFlight);
  } finally {
    client.close();
  }
}

const figures: Figure[] = [];

const plainRate = await rateOf(plain, cores * 2);
const cluster = await startCluster(["--workers", "2", "--slots", String(cores)]);
const roles = ["gateway", "scheduler", "worker"] as const;
/** Of its processes and those that they started and that live yet: a worker has another start its commands. */
const cpuOf = (role: typeof roles[number]): number =>
  cluster.pids(role).flatMap((pid) => [pid, ...childrenOf(pid)]).reduce((sum, pid) => sum + usageOf(pid).cpuSeconds, 0);
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").split(" ").filter((word) => word !== "").map(Number);
try {
  const before = roles.map(cpuOf);
  const rate = await run(new URL(cluster.ready.http).host, (line, number) => {
    if (line !== `line ${number}\n`) throw new Error(`Action ${number} said "${line}"`);
  });
  figures.push({
    name: `echo actions a second, ${inFlight} in flight, real processes`,
    value: rate,
    baseline: plainRate,
    unit: "actions/s",
    target: { atLeast: plainRate * 0.6 },
  });
  for (const [place, role] of roles.entries()) {
    figures.push({
      name: `CPU of the ${role} an action, real processes`,
      value: ((cpuOf(role) - before[place]!) * 1e6) / (count + warmUp),
      unit: "µs",
      target: { atMost: Infinity },
    });
  }
} finally {
  await cluster.stop();
}

const parts = await startParts();
try {
  const nothing = encodeActionResult({
    outputFiles: [],
    outputDirectories: [],
    outputSymlinks: [],
    outputFileSymlinks: [],
    outputDirectorySymlinks: [],
    exitCode: 0,
    execution: { worker: "noop", auxiliary: [] },
  });
  const address = new URL(parts.gatewayUrl).host;
  const client = clientOf(address);
  const requests = [{ digest: wire(digestOf(nothing)), data: nothing, compressor: 0 }];
  await client.unary(methods.batchUpdateBlobs, { requests });
  client.close();
  parts.start("./noop_worker.ts", [parts.schedulerAddress, parts.token, "200", digestOf(nothing)]);
  const before = [usageOf(parts.gateway.pid), usageOf(parts.scheduler.pid)];
  const rate = await run(address, () => {});
  const after = [usageOf(parts.gateway.pid), usageOf(parts.scheduler.pid)];
  figures.push({
    name: `echo actions a second, ${inFlight} in flight, a simulated worker`,
    value: rate,
    unit: "actions/s",
    target: { atLeast: 1_000 },
  });
  for (const [place, role] of ["gateway", "scheduler"].entries()) {
    figures.push({
      name: `CPU of the ${role} an action, what it needs to be put included`,
      value: ((after[place]!.cpuSeconds - before[place]!.cpuSeconds) * 1e6) / (count + warmUp),
      unit: "µs",
      target: { atMost: Infinity },
    });
  }
} finally {
  await parts.stop();
}
report(figures, process.argv.slice(2));
