import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { type HttpCalls, httpCalls } from "../../src/api/http_calls.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { realRandom } from "../../src/runtime/random.ts";

/** A server of that kind, and who asks it. */
async function asked(
  answer: Parameters<typeof createServer>[1],
  ask: (calls: HttpCalls) => Promise<void>,
): Promise<void> {
  const server = createServer(answer!);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const options = {
    url,
    token: undefined,
    clock: realClock,
    random: realRandom,
    waitMs: 45_000,
    advice: "Look there.",
  };
  const calls = httpCalls({ ...options, silentMs: 50 });
  try {
    await ask(calls);
  } finally {
    calls.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

const silent = { code: "PEER_SILENT", message: expect.stringMatching(/must answer within 0\.05 s: .* Look there\.$/) };

test("a server that takes a request and never answers is given up", () =>
  asked(() => {}, async (calls) => {
    await expect(calls.json({ method: "GET", path: "/v1/store" })).rejects.toMatchObject(silent);
    const body = new Uint8Array(10);
    await expect(calls.bytes({ method: "POST", path: "/", body: () => body })).rejects.toMatchObject(silent);
  }));

test("a server that takes no more of a stream is given up", () =>
  asked((request) => void request.pause(), async (calls) => {
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield await Promise.resolve(new Uint8Array(65_536));
    }
    await expect(calls.bytes({ method: "PUT", path: "/", body: endless })).rejects.toMatchObject(silent);
  }));

async function echo(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request) chunks.push(chunk as Uint8Array);
  response.end(Buffer.concat(chunks));
}
test("a stream that is slow to come, and an answer that is slow to be read, are nobody's silence", () =>
  asked((request, response) => void echo(request, response), async (calls) => {
    const pause = (): Promise<void> => new Promise((resolve) => realClock.at(realClock.now() + 100, resolve));
    async function* slow(): AsyncGenerator<Uint8Array> {
      for (let piece = 0; piece < 3; piece++) {
        await pause();
        yield new Uint8Array([piece]);
      }
    }
    const incoming = await calls.send({ method: "PUT", path: "/", body: slow });
    await pause();
    const bytes: number[] = [];
    for await (const chunk of incoming) bytes.push(...chunk as Uint8Array);
    expect(bytes).toEqual([0, 1, 2]);
  }));

test("what is no JSON is told in a sentence", () =>
  asked((_, response) => void response.end("<html>"), async (calls) => {
    await expect(calls.json({ method: "GET", path: "/v1/store" })).rejects.toMatchObject({
      code: "PEER_UNREACHABLE",
      message: expect.stringMatching(/must be JSON: what listens there is no cluster$/),
    });
  }));
