import { createHash } from "node:crypto";
import { type IncomingHttpHeaders, request } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Digest, emptyDigest, hashOf } from "../../src/domain/digest.ts";
import { type JobId, taskId } from "../../src/domain/ids.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { digestOf, writeBlob } from "../../src/snapshots/blobs/blobs.ts";
import { WebSocket } from "ws";
import { type Rig, startRig, token, until } from "./rig.ts";

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.close());

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly text: string;
  // deno-lint-ignore no-explicit-any -- tests read what they expect
  readonly json: any;
}
interface Ask {
  readonly body?: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  readonly token?: string | undefined;
}

/** With node:http, which sends any Host and Origin that it is told. */
const ask = (method: string, path: string, { body, headers = {}, ...rest }: Ask = {}): Promise<Answer> => {
  const given = "token" in rest ? rest.token : token;
  const url = new URL(rig.url);
  return new Promise((resolve, reject) => {
    const outgoing = request({
      host: url.hostname,
      port: url.port,
      method,
      path,
      agent: false,
      headers: {
        ...(given === undefined ? {} : { Authorization: `Bearer ${given}` }),
        ...(typeof body === "string" ? { "Content-Type": "application/json" } : {}),
        ...(body === undefined ? {} : { "Content-Length": String(Buffer.byteLength(body)) }),
        ...headers,
      },
    }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("error", reject);
      incoming.on("end", () => {
        const bytes = Buffer.concat(chunks);
        const text = bytes.toString();
        const isJson = incoming.headers["content-type"]?.startsWith("application/json") === true && text !== "";
        resolve({
          status: incoming.statusCode!,
          headers: incoming.headers,
          bytes,
          text,
          json: isJson ? JSON.parse(text) : undefined,
        });
      });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
};

let keys = 0;
const post = async (...argvs: string[][]): Promise<JobId> => {
  const job = { key: `http-${++keys}`, tasks: argvs.map((argv, index) => ({ name: `t${index}`, argv })) };
  const answer = await ask("POST", "/v1/jobs", { body: JSON.stringify(job) });
  expect(answer).toMatchObject({ status: 201, json: { existing: false } });
  expect(answer.headers.location).toBe(`/v1/jobs/${answer.json.jobId}`);
  return answer.json.jobId;
};
const ended = (jobId: JobId) =>
  until(`${jobId} ends`, async () => (await ask("GET", `/v1/jobs/${jobId}`)).json.job.state !== "running");

test("/healthz needs no token, and says whether the scheduler answers", async () => {
  await until("it is well", async () => (await ask("GET", "/healthz", { token: undefined })).status === 200);
  expect((await ask("GET", "/healthz", { token: undefined })).json).toEqual({ state: "open", epoch: 1 });
  await rig.stopScheduler();
  await until("it says so", async () => {
    const { status, json } = await ask("GET", "/healthz", { token: undefined });
    return status === 503 && json.code === "PEER_UNREACHABLE";
  });
  await rig.startScheduler();
  await until("it is well again", async () => (await ask("GET", "/healthz", { token: undefined })).status === 200);
});

test("a job is posted, read, listed and killed", async () => {
  const jobId = await post(["exit", "0", "said\n"], ["hold"]);
  await until("the second runs", () => rig.worker.running.has(taskId(jobId, 1)));
  const { json } = await ask("GET", `/v1/jobs/${jobId}`);
  expect(json).toMatchObject({
    job: { jobId, state: "running", tasks: 2 },
    tasks: [{ name: "t0" }, { name: "t1", state: "running" }],
  });
  expect((await ask("GET", "/v1/jobs?limit=1&state=running")).json.jobs).toMatchObject([{ jobId }]);
  expect(await ask("DELETE", `/v1/jobs/${jobId}?reason=enough`)).toMatchObject({ status: 204, text: "" });
  await ended(jobId);
  expect((await ask("GET", `/v1/jobs/${jobId}`)).json.job).toMatchObject({
    state: "cancelled",
    settled: { succeeded: 1, killed: 1 },
  });
});

test("the same key posted twice is one job", async () => {
  const body = JSON.stringify({ key: "twice", tasks: [{ name: "t", argv: ["exit", "0"] }] });
  const first = await ask("POST", "/v1/jobs", { body });
  const second = await ask("POST", "/v1/jobs", { body });
  expect([first.status, second.status]).toEqual([201, 200]);
  expect(second.json).toEqual({ jobId: first.json.jobId, existing: true });
});

test("the kept output of a task is given from an offset, and followed while it runs", async () => {
  const jobId = await post(["exit", "0", "0123456789"], ["hold"]);
  await until("the second runs", () => rig.worker.running.has(taskId(jobId, 1)));
  await until("the first is kept", async () => (await ask("GET", `/v1/jobs/${jobId}/tasks/0/stdout`)).status === 200);
  const kept = await ask("GET", `/v1/jobs/${jobId}/tasks/0/stdout?offset=6`);
  expect(kept.text).toBe("6789");
  expect(kept.headers).toMatchObject({
    "content-type": "text/plain; charset=utf-8",
    "x-content-type-options": "nosniff",
    "x-truncated-bytes": "0",
  });
  expect((await ask("GET", `/v1/jobs/${jobId}/tasks/0/stdout?offset=99`)).text).toBe("");
  expect((await ask("GET", `/v1/jobs/${jobId}/tasks/0/stderr`)).text).toBe("");
  expect(await ask("GET", `/v1/jobs/${jobId}/tasks/1/stdout`)).toMatchObject({
    status: 409,
    json: { code: "OUTPUT_MISSING" },
  });
  rig.worker.write(taskId(jobId, 1), "live");
  const following = ask("GET", `/v1/jobs/${jobId}/tasks/1/stdout?follow=1&offset=1`);
  await until("it is asked for", () => rig.worker.asked.at(-1) === 1);
  rig.worker.write(taskId(jobId, 1), "ly");
  await rig.worker.finish(taskId(jobId, 1));
  expect((await following).text).toBe("ively");
});

interface Event {
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
}
const eventsOf = (text: string): Event[] =>
  text.split("\n\n").filter((block) => block !== "" && !block.startsWith(":")).map((block) =>
    Object.fromEntries(
      block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
    )
  );

test("events are sent as they come, resume after Last-Event-ID, and say when there are no more", async () => {
  const jobId = await post(["hold"]);
  const whole = ask("GET", `/v1/jobs/${jobId}/events`);
  await until("it runs", () => rig.worker.running.has(taskId(jobId, 0)));
  await rig.worker.finish(taskId(jobId, 0));
  const { headers, text } = await whole;
  expect(headers["content-type"]).toBe("text/event-stream");
  const events = eventsOf(text);
  expect(events.at(-1)).toEqual({ event: "end", data: "{}" });
  expect(JSON.parse(events.at(-2)!.data!)).toMatchObject({ job: { state: "succeeded" } });
  expect(events.filter(({ event }) => event === "task").map(({ data }) => JSON.parse(data!).task.state)).toContain(
    "running",
  );

  const { id } = events[2]!;
  const rest = await ask("GET", `/v1/jobs/${jobId}/events`, { headers: { "Last-Event-ID": id! } });
  expect(eventsOf(rest.text)).toEqual(events.slice(3));
  const last = events.at(-2)!.id!;
  expect((await ask("GET", `/v1/jobs/${jobId}/events`, { headers: { "Last-Event-ID": last } })).status).toBe(204);
  expect((await ask("GET", `/v1/jobs/${jobId}/events?token=${token}`, { token: undefined })).status).toBe(200);
  expect((await ask("GET", `/v1/jobs/j0000000000-000000/events`)).json).toMatchObject({ code: "JOB_UNKNOWN" });
});

test("events go on over a restart of the scheduler", async () => {
  const jobId = await post(["hold"]);
  const whole = ask("GET", `/v1/jobs/${jobId}/events`);
  await until("it runs", () => rig.worker.running.has(taskId(jobId, 0)));
  await rig.stopScheduler();
  await rig.worker.finish(taskId(jobId, 0));
  await rig.startScheduler();
  const ids = eventsOf((await whole).text).map(({ id }) => id).filter((id) => id !== undefined);
  const again = eventsOf((await ask("GET", `/v1/jobs/${jobId}/events`)).text).map(({ id }) => id).filter((id) =>
    id !== undefined
  );
  expect(ids).toEqual(again);
});

test("workers and the cluster are told", async () => {
  expect((await ask("GET", "/v1/workers")).json.workers).toMatchObject([{ workerId: "w1", slots: 8 }]);
  expect((await ask("GET", "/v1/cluster")).json).toMatchObject({ state: "open", workers: 1, slots: 8 });
});

test("a blob is put, found, and given whole, in part, and as a head", async () => {
  const bytes = Buffer.from("0123456789".repeat(1000));
  const path = `/v1/blobs/${digestOf(bytes)}`;
  expect((await ask("HEAD", path)).status).toBe(404);
  expect(
    (await ask("POST", "/v1/blobs/missing", { body: JSON.stringify({ digests: [digestOf(bytes), emptyDigest] }) }))
      .json,
  ).toEqual({
    missing: [digestOf(bytes)],
  });
  const type = { "Content-Type": "application/octet-stream" };
  expect((await ask("PUT", path, { body: bytes, headers: type })).status).toBe(204);
  expect((await ask("HEAD", path)).headers["content-length"]).toBe("10000");
  expect((await ask("GET", path)).bytes.equals(bytes)).toBe(true);
  const part = async (range: string) => {
    const { status, headers, text } = await ask("GET", path, { headers: { Range: range } });
    return { status, text, range: headers["content-range"] };
  };
  expect(await part("bytes=3-5")).toEqual({ status: 206, text: "345", range: "bytes 3-5/10000" });
  expect(await part("bytes=9998-")).toEqual({ status: 206, text: "89", range: "bytes 9998-9999/10000" });
  expect(await part("bytes=-3")).toEqual({ status: 206, text: "789", range: "bytes 9997-9999/10000" });
  expect(await part("bytes=10000-")).toMatchObject({ status: 416, range: "bytes */10000" });
  expect((await part("bytes=0-1,5-6")).status).toBe(200);
  const wrong = await ask("PUT", `/v1/blobs/${"0".repeat(64)}/10000`, { body: bytes, headers: type });
  expect(wrong).toMatchObject({ status: 400, json: { code: "BLOB_CORRUPT" } });
});

test("a batch of blobs is stored but for those that are wrong, and given back", async () => {
  const contents = [Buffer.from("one"), Buffer.from("two"), Buffer.alloc(0)];
  const frame = (bytes: Buffer, hash = createHash("sha256").update(bytes).digest()): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([hash, length, bytes]);
  };
  const type = { "Content-Type": "application/octet-stream" };
  const body = Buffer.concat([frame(contents[0]!), frame(contents[1]!, Buffer.alloc(32)), frame(contents[2]!)]);
  const answer = await ask("POST", "/v1/blobs/upload", { body, headers: type });
  expect(answer.json).toMatchObject({ stored: 2, faults: [{ index: 1, code: "BLOB_CORRUPT" }] });
  const digests = contents.map(digestOf);
  const back = await ask("POST", "/v1/blobs/download", { body: JSON.stringify({ digests }) });
  expect(back.bytes.equals(Buffer.concat([frame(contents[0]!), frame(contents[2]!)]))).toBe(true);
  const cut = await ask("POST", "/v1/blobs/upload", { body: body.subarray(0, 50), headers: type });
  expect(cut).toMatchObject({ status: 400, json: { code: "REQUEST_INVALID" } });
  const large = { digests: [`${"ab".repeat(32)}/${17 * 1024 * 1024}`] };
  expect((await ask("POST", "/v1/blobs/download", { body: JSON.stringify(large) })).json).toMatchObject({
    code: "REQUEST_INVALID",
  });
});

test("names are moved only from where they point", async () => {
  const move = (name: string, expected: string | null, value: string | null) =>
    ask("PUT", `/v1/names/${name}`, { body: JSON.stringify({ expected, value }) });
  expect((await ask("GET", "/v1/names/main/latest")).json).toMatchObject({ code: "REF_UNKNOWN" });
  expect((await move("main/latest", null, "one")).status).toBe(204);
  expect(await move("main/latest", null, "two")).toMatchObject({ status: 409, json: { code: "REF_CONFLICT" } });
  expect((await ask("GET", "/v1/names/main%2Flatest")).json).toEqual({ name: "main/latest", value: "one" });
  expect((await ask("GET", "/v1/names?prefix=main/")).json).toEqual({ names: [{ name: "main/latest", value: "one" }] });
  expect((await move("main/latest", "one", null)).status).toBe(204);
  expect((await move("main%00", null, "one")).json).toMatchObject({ code: "REQUEST_INVALID" });
});

test("a snapshot's directories are lists, its files are shown without being run", async () => {
  const page = await writeBlob(rig.blobs, Buffer.from("<script>alert(1)</script>"));
  const binary = await writeBlob(rig.blobs, Buffer.from([1, 0, 2]));
  const inner = await writeBlob(
    rig.blobs,
    encodeDirectory([{ kind: "file", name: "a page.html", digest: page, executable: false }]),
  );
  const root: Digest = await writeBlob(
    rig.blobs,
    encodeDirectory([
      { kind: "file", name: "bin", digest: binary, executable: true },
      { kind: "directory", name: "dir", digest: inner },
      { kind: "symlink", name: "link", target: "dir/a page.html" },
    ]),
  );
  const at = (path: string, headers = {}) => ask("GET", `/v1/snapshots/${root}${path}`, { headers });
  expect((await at("")).json).toMatchObject({
    kind: "directory",
    digest: root,
    entries: [{ kind: "file", name: "bin", executable: true }, { kind: "directory", name: "dir" }, { kind: "symlink" }],
  });
  expect((await at("/dir")).json).toMatchObject({ kind: "directory", digest: inner });
  expect((await at("/link")).json).toMatchObject({ kind: "symlink", target: "dir/a page.html" });
  const file = await at("/dir/a%20page.html");
  expect(file.text).toBe("<script>alert(1)</script>");
  expect(file.headers).toMatchObject({
    "content-type": "text/plain; charset=utf-8",
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
  });
  expect((await at("/bin")).headers["content-type"]).toBe("application/octet-stream");
  expect((await at("/dir/a%20page.html", { Range: "bytes=1-6" })).text).toBe("script");
  expect((await at("/nothing")).json).toMatchObject({ code: "PATH_UNKNOWN" });
  expect((await at("/dir%2F..%2F..%2Fetc")).json).toMatchObject({ code: "PATH_INVALID" });
  expect((await at("/a%00b")).json).toMatchObject({ code: "PATH_INVALID" });
  expect((await ask("GET", `/v1/snapshots/${hashOf(root)}/1`)).json).toMatchObject({ code: "SNAPSHOT_UNKNOWN" });
  expect((await ask("GET", `/v1/snapshots/abc/1`)).json).toMatchObject({ code: "DIGEST_INVALID" });
});

test("a snapshot that has lost a part is not held, and neither a job nor a name may depend on it", async () => {
  const file = await writeBlob(rig.blobs, Buffer.from("here"));
  const lost = digestOf(Buffer.from("never put"));
  const inner = await writeBlob(
    rig.blobs,
    encodeDirectory([
      { kind: "file", name: "a", digest: file, executable: false },
      { kind: "file", name: "b", digest: lost, executable: false },
    ]),
  );
  const root = await writeBlob(rig.blobs, encodeDirectory([{ kind: "directory", name: "in", digest: inner }]));
  expect((await ask("GET", `/v1/held/${root}`)).json).toEqual({ held: false, missing: [lost] });
  expect((await ask("GET", `/v1/held/${file}`)).json).toEqual({ held: false, missing: [file] }); // no tree
  const submit = (key: string) =>
    ask("POST", "/v1/jobs", {
      body: JSON.stringify({
        key,
        tasks: [{ name: "t", argv: ["exit", "0"], input: { kind: "snapshot", snapshot: root } }],
      }),
    });
  const name = () => ask("PUT", "/v1/names/broken", { body: JSON.stringify({ expected: null, value: root }) });
  const why = `must be in the cluster's store: it lacks 1 of the blobs of ${root}, such as ${lost}. Capture it first`;
  const refused = await submit("part-lost");
  expect({ status: refused.status, ...refused.json }).toEqual({
    status: 404,
    code: "SNAPSHOT_UNKNOWN",
    message: `Cannot accept the job as the input of task "t" ${why}`,
  });
  expect((await name()).json).toEqual({
    code: "SNAPSHOT_UNKNOWN",
    message: `Cannot give the name "broken" as its snapshot ${why}`,
  });
  await rig.blobs.put(lost, Buffer.from("never put"));
  expect((await ask("GET", `/v1/held/${root}`)).json).toEqual({ held: true });
  expect((await submit("part-found")).status).toBe(201);
  expect((await name()).status).toBe(204);
  expect(await rig.client.holds(root)).toBe(true);
});

const absent = `${"ab".repeat(32)}/7`;
const refused:
  readonly (readonly [what: string, method: string, path: string, ask: Ask, status: number, code: string])[] = [
    ["no token", "GET", "/v1/jobs", { token: undefined }, 401, "TOKEN_INVALID"],
    ["a wrong token", "GET", "/v1/jobs", { token: "guess" }, 401, "TOKEN_INVALID"],
    [
      "a token in the URL of what changes something",
      "POST",
      `/v1/jobs?token=${token}`,
      { token: undefined, body: "{}" },
      401,
      "TOKEN_INVALID",
    ],
    ["a foreign Origin", "GET", "/v1/jobs", { headers: { Origin: "http://evil.example" } }, 403, "ORIGIN_REFUSED"],
    [
      "an Origin of this machine on another port",
      "GET",
      "/v1/jobs",
      { headers: { Origin: "http://127.0.0.1:1" } },
      403,
      "ORIGIN_REFUSED",
    ],
    ["an Origin null", "GET", "/healthz", { headers: { Origin: "null" } }, 403, "ORIGIN_REFUSED"],
    [
      "a foreign Origin on a POST",
      "POST",
      "/v1/jobs",
      { body: "{}", headers: { Origin: "http://evil.example" } },
      403,
      "ORIGIN_REFUSED",
    ],
    [
      "a foreign Origin's preflight",
      "OPTIONS",
      "/v1/jobs",
      { headers: { Origin: "http://evil.example" } },
      403,
      "ORIGIN_REFUSED",
    ],
    ["a foreign Host", "GET", "/v1/jobs", { headers: { Host: "evil.example" } }, 403, "ORIGIN_REFUSED"],
    [
      "a Host that only begins like ours",
      "GET",
      "/healthz",
      { headers: { Host: "127.0.0.1.evil.example" } },
      403,
      "ORIGIN_REFUSED",
    ],
    [
      "another media type",
      "POST",
      "/v1/jobs",
      { body: "{}", headers: { "Content-Type": "text/plain" } },
      415,
      "MEDIA_TYPE_REFUSED",
    ],
    ["no JSON", "POST", "/v1/jobs", { body: "{" }, 400, "REQUEST_INVALID"],
    ["JSON nested too deep", "POST", "/v1/jobs", { body: "[".repeat(1_000_000) }, 400, "REQUEST_INVALID"],
    [
      "bytes that are not UTF-8",
      "POST",
      "/v1/jobs",
      { body: Buffer.from([0x22, 0xff, 0x22]), headers: { "Content-Type": "application/json" } },
      400,
      "REQUEST_INVALID",
    ],
    ["too much JSON", "POST", "/v1/jobs", { body: " ".repeat(8 * 1024 * 1024 + 1) }, 413, "FRAME_TOO_LONG"],
    [
      "an unknown field",
      "POST",
      "/v1/jobs",
      { body: `{"key":"k","tasks":[{"name":"a","argv":["x"]}],"colour":1}` },
      400,
      "REQUEST_INVALID",
    ],
    [
      "a cycle",
      "POST",
      "/v1/jobs",
      { body: `{"key":"k","tasks":[{"name":"a","argv":["x"],"input":{"kind":"task","task":"a"}}]}` },
      400,
      "JOB_INVALID",
    ],
    [
      "an unknown snapshot",
      "POST",
      "/v1/jobs",
      { body: `{"key":"k","tasks":[{"name":"a","argv":["x"],"input":{"kind":"snapshot","snapshot":"${absent}"}}]}` },
      404,
      "SNAPSHOT_UNKNOWN",
    ],
    ...["../x", "/etc", "a/../../b", "[a"].map((path) =>
      [
        `a declared output ${path}`,
        "POST",
        "/v1/jobs",
        { body: JSON.stringify({ key: "k", tasks: [{ name: "a", argv: ["x"], outputs: [path] }] }) },
        400,
        "PATH_INVALID",
      ] as const
    ),
    ["an unknown route", "GET", "/v2/jobs", {}, 404, "ROUTE_UNKNOWN"],
    ["another method", "PATCH", "/v1/jobs", {}, 404, "ROUTE_UNKNOWN"],
    ["a job id that is none", "GET", "/v1/jobs/17", {}, 400, "REQUEST_INVALID"],
    ["a job that is unknown", "GET", "/v1/jobs/j0000000000-000000", {}, 404, "JOB_UNKNOWN"],
    ["a limit that is none", "GET", "/v1/jobs?limit=-1", {}, 400, "REQUEST_INVALID"],
    ["a blob that is absent", "GET", `/v1/blobs/${absent}`, {}, 404, "BLOB_MISSING"],
    [
      "an offset that is none",
      "GET",
      "/v1/jobs/j0000000000-000000/tasks/0/stdout?offset=x",
      {},
      400,
      "REQUEST_INVALID",
    ],
  ];
for (const [what, method, path, given, status, code] of refused) {
  test(`${what} is refused as ${code}`, async () => {
    const answer = await ask(method, path, given);
    expect({ status: answer.status, ...answer.json }).toEqual({
      status,
      code,
      message: expect.stringMatching(/^Cannot /),
    });
    expect(answer.headers["content-type"]).toMatch(/^application\/json/);
    expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
  });
}

test("the cluster's own page may ask", async () => {
  const { port } = new URL(rig.url);
  for (const host of ["127.0.0.1", "localhost", "[::1]"]) {
    const own = { Host: `${host}:${port}`, Origin: `http://${host}:${port}` };
    expect((await ask("GET", "/v1/cluster", { headers: own })).status).toBe(200);
  }
});

/** What an upgrade is answered with. */
const upgrade = (path: string, headers: Readonly<Record<string, string>>): Promise<number> =>
  new Promise((resolve, reject) => {
    const webSocket = new WebSocket(`${rig.url.replace("http", "ws")}${path}`, { headers });
    webSocket.on("open", () => {
      webSocket.terminate();
      resolve(101);
    });
    webSocket.on("unexpected-response", (outgoing, incoming) => {
      outgoing.destroy();
      resolve(incoming.statusCode ?? 0);
    });
    webSocket.on("error", reject);
  });

test("a WebSocket is opened for our own pages and for programs, and for nobody else", async () => {
  expect(await upgrade("/v1/connect", {})).toBe(101);
  expect(await upgrade("/v1/connect", { Origin: rig.url })).toBe(101);
  expect(await upgrade("/v1/connect", { Origin: "http://evil.example" })).toBe(403);
  expect(await upgrade("/v1/connect", { Host: "evil.example" })).toBe(403);
  expect(await upgrade("/v1/elsewhere", {})).toBe(404);
});

test("a body that is refused unread does not become the next request", async () => {
  const { hostname, port } = new URL(rig.url);
  const socket = connect({ host: hostname, port: Number(port) });
  let heard = "";
  socket.on("data", (chunk: Buffer) => heard += chunk.toString());
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const smuggled = `GET /v1/cluster HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n\r\n`;
  socket.write(
    `POST /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n${smuggled}`,
  );
  await until("it is refused", () => heard.includes("ORIGIN_REFUSED"));
  await ask("GET", "/healthz", { token: undefined });
  socket.end();
  await closed;
  expect(heard).not.toContain("200 OK");
  expect(heard).not.toContain("epoch");
});

test("settings are read and set; what is wrong names limit and value, and changes nothing", async () => {
  const set = async (settings: unknown) =>
    await ask("PUT", "/v1/settings?reason=test", { body: JSON.stringify(settings) });
  const before = (await ask("GET", "/v1/settings")).json as { policy: object };
  expect(before).toMatchObject({ policy: { classes: [{ name: "default", percent: 100, floor: 0 }] } });
  expect((await set({ policy: { classes: [{ name: "a", percent: 60 }], requestors: [] } })).json).toMatchObject({
    code: "REQUEST_INVALID",
    message: expect.stringContaining("must be 100: current value is 60"),
  });
  expect((await set({ policy: 1 })).status).toBe(400);
  expect((await ask("GET", "/v1/settings")).json).toEqual(before);
  expect((await set({ ...before, limits: { jobsPerRequestor: 77 } })).status).toBe(204);
  expect((await ask("GET", "/v1/settings")).json).toMatchObject({ limits: { jobsPerRequestor: 77 } });
});

test("a worker is set aside and reinstated; one that is unknown is told", async () => {
  const change = async (worker: string, what: string) => (await ask("POST", `/v1/workers/${worker}/${what}`)).status;
  const id = ((await ask("GET", "/v1/workers")).json as { workers: { workerId: string }[] }).workers[0]!.workerId;
  const state = async () => ((await ask("GET", "/v1/workers")).json as { workers: { offline?: object }[] }).workers[0];
  expect(await change(id, "offline?reason=disk")).toBe(204);
  expect(await state()).toMatchObject({ offline: { reason: "disk" } });
  expect(await change(id, "reinstate")).toBe(204);
  expect(await state()).not.toHaveProperty("offline");
  expect(await change("nobody", "offline")).toBe(404);
  expect(await change(id, "retire")).toBe(404);
});

test("why a job is as it is, now and at a time", async () => {
  const jobId = await post(["exit", "0"]);
  const why = async (query = "") => await ask("GET", `/v1/jobs/${jobId}/why${query}`);
  expect((await why()).json).toMatchObject({ job: { jobId }, tasks: [{ task: { taskId: `${jobId}/0` } }], more: 0 });
  expect((await why("?at=1")).json).toMatchObject({ code: "REQUEST_INVALID" });
  expect((await why("?at=soon")).status).toBe(400);
});
