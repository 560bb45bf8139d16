import { Buffer } from "node:buffer";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { processesWith, startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { type Client, connectClient } from "../../src/api/client.ts";
import { protocolVersion } from "../../src/protocol/version.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { capture } from "../../src/snapshots/trees/capture.ts";
import { encode } from "../../src/transport/codec.ts";
import { frameHeaderBytes, magic, writeFrameHeader } from "../../src/transport/frame.ts";
import { has, programPath } from "../support/machine.ts";

/** A name of the internet that was made to lead to this machine, after its page was loaded: DNS rebinding. */
const rebound = "rebound.example";

const frame = (kind: number, message: unknown): Buffer => {
  const body = encode(message);
  const bytes = Buffer.alloc(frameHeaderBytes + 1 + body.length);
  writeFrameHeader(bytes, 0, 1 + body.length);
  bytes[frameHeaderBytes] = kind;
  bytes.set(body, frameHeaderBytes + 1);
  return bytes;
};

describe.skipIf(!has("chromium"))("a page in a real browser", () => {
  let dir: string;
  let cluster: TestCluster;
  let client: Client;
  let browser: BrowserContext;
  let stranger: Server;
  let strangerPort: number;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "scoot-browser-"));
    cluster = await startCluster(["--workers", "1"]);
    client = connectClient({ url: cluster.ready.http, token: cluster.token });
    stranger = createServer((_, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<!doctype html><title>stranger</title>");
    });
    await new Promise<void>((resolve) => stranger.listen({ host: "127.0.0.1", port: 0 }, resolve));
    strangerPort = (stranger.address() as AddressInfo).port;
    browser = await chromium.launchPersistentContext(join(dir, "profile"), {
      executablePath: programPath("chromium")!,
      headless: true,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        `--host-resolver-rules=MAP ${rebound} 127.0.0.1`,
      ],
    });
  });

  afterAll(async () => {
    await browser?.close();
    stranger?.closeAllConnections();
    stranger?.close();
    await client?.close();
    expect(await cluster?.stop()).toBe(0);
    await until("the browser to be gone", () => processesWith(dir).length === 0);
    rmSync(dir, { recursive: true, force: true });
  });

  const open = async (url: string): Promise<Page> => {
    const page = await browser.newPage();
    onTestFinished(() => page.close());
    await page.goto(url);
    return page;
  };
  const jobs = async (): Promise<number> => (await client.jobs({ limit: 100 })).length;

  /** All that a script can try; it even knows the token. @returns what came of each. */
  const attempts = async (page: Page, token: string): Promise<Record<string, string>> => {
    const job = { key: "from-a-page", tasks: [{ name: "t", argv: ["true"] }] };
    const hello = {
      protocol: "scoot-actors",
      version: protocolVersion,
      role: "client",
      memberId: "page",
      incarnation: "page",
    };
    const conversation = (more: object): number[] => [
      ...magic,
      ...frame(1, { ...hello, ...more }),
      ...frame(0, { id: 1, sentAtMs: 1, body: { type: "job.submit", job } }),
    ];
    return await page.evaluate(async ({ url, token, body, withToken, withoutToken }) => {
      const call = async (path: string, init: RequestInit = {}): Promise<string> => {
        try {
          const response = await fetch(`${url}${path}`, init);
          return response.type === "opaque" ? "opaque" : `${response.status} ${await response.text()}`;
        } catch (error) {
          return (error as Error).name;
        }
      };
      const talk = (bytes: readonly number[]): Promise<string> =>
        new Promise((resolve) => {
          const socket = new WebSocket(`${url.replace("http", "ws")}/v1/connect`);
          let heard = "";
          socket.binaryType = "arraybuffer";
          socket.onopen = () => socket.send(new Uint8Array(bytes));
          socket.onmessage = ({ data }) => {
            heard += new TextDecoder().decode(data as ArrayBuffer);
            if (heard.includes("job.accepted")) socket.close();
          };
          socket.onclose = () => resolve(heard === "" ? "refused" : heard);
        });
      const authorization = `Bearer ${token}`;
      const json = "application/json";
      const post = { method: "POST", body } as const;
      return {
        "JSON with the token": await call("/v1/jobs", {
          ...post,
          headers: { authorization, "content-type": json },
        }),
        "JSON without the token": await call("/v1/jobs", { ...post, headers: { "content-type": json } }),
        "simple": await call("/v1/jobs", { ...post, headers: { "content-type": "text/plain" } }),
        "simple, token in the URL": await call(`/v1/jobs?token=${token}`, post),
        "no-cors": await call("/v1/jobs", { ...post, mode: "no-cors", headers: { authorization } }),
        "no-cors, token in the URL": await call(`/v1/jobs?token=${token}`, { ...post, mode: "no-cors" }),
        "beacon": String(
          navigator.sendBeacon(`${url}/v1/jobs?token=${token}`, new Blob([body], { type: "text/plain" })),
        ),
        "WebSocket with the token": await talk(withToken),
        "WebSocket without the token": await talk(withoutToken),
        "list": await call("/v1/jobs", { headers: { authorization } }),
        "list, token in the URL": await call(`/v1/jobs?token=${token}`),
        "list, no-cors": await call(`/v1/jobs?token=${token}`, { mode: "no-cors" }),
        "health": await call("/healthz"),
      };
    }, {
      url: cluster.ready.http,
      token,
      body: JSON.stringify(job),
      withToken: conversation({ token }),
      withoutToken: conversation({}),
    });
  };
  const nothing = {
    "JSON with the token": "TypeError",
    "JSON without the token": "TypeError",
    "simple": "TypeError",
    "simple, token in the URL": "TypeError",
    "no-cors": expect.stringMatching(/^(opaque|TypeError)$/),
    "no-cors, token in the URL": expect.stringMatching(/^(opaque|TypeError)$/),
    "WebSocket with the token": "refused",
    "WebSocket without the token": "refused",
    "list": "TypeError",
    "list, token in the URL": "TypeError",
    "list, no-cors": expect.stringMatching(/^(opaque|TypeError)$/),
    "health": "TypeError",
  };

  describe.each(["127.0.0.1", "localhost"])("from another port of %s", (host) => {
    test("a script cannot start a job, open a connection, or read anything, even with the token", async () => {
      const page = await open(`http://${host}:${strangerPort}/`);
      expect(await attempts(page, cluster.token)).toMatchObject(nothing);
      expect(await jobs()).toBe(0);
    });

    test.each(["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])(
      "a form of type %s cannot start a job",
      async (enctype) => {
        const page = await open(`http://${host}:${strangerPort}/`);
        const answered = page.waitForResponse((response) => response.url().startsWith(cluster.ready.http));
        await page.evaluate(({ action, enctype }) => {
          const form = document.createElement("form");
          Object.assign(form, { method: "post", action, enctype });
          const field = document.createElement("input");
          // As text/plain this is JSON: {"key":"k","tasks":[…],"tag":"="}
          field.name = '{"key":"from-a-form","tasks":[{"name":"t","argv":["true"]}],"tag":"';
          field.value = '"}';
          form.append(field);
          document.body.append(form);
          form.submit();
        }, { action: `${cluster.ready.http}/v1/jobs?token=${cluster.token}`, enctype });
        expect((await answered).status()).toBe(403);
        await page.waitForURL((url) => url.href.startsWith(cluster.ready.http));
        expect(await jobs()).toBe(0);
      },
    );
  });

  test("a name that was rebound to this machine reaches nothing, though page and cluster are one origin", async () => {
    const url = cluster.ready.http.replace("127.0.0.1", rebound);
    const page = await browser.newPage();
    onTestFinished(() => page.close());
    const answer = await page.goto(`${url}/v1/jobs?token=${cluster.token}`);
    expect(answer?.status()).toBe(403);
    expect(await answer?.json()).toMatchObject({ code: "ORIGIN_REFUSED" });
    const status = await page.evaluate(async (authorization) => {
      const headers = { authorization, "content-type": "application/json" };
      const body = JSON.stringify({ key: "rebound", tasks: [{ name: "t", argv: ["true"] }] });
      return (await fetch("/v1/jobs", { method: "POST", headers, body })).status;
    }, `Bearer ${cluster.token}`);
    expect(status).toBe(403);
    expect(await jobs()).toBe(0);
  });

  test("nor does a foreign Host by any client", async () => {
    const { port } = new URL(cluster.ready.http);
    for (
      const host of ["rebound.example", `rebound.example:${port}`, "127.0.0.1.rebound.example", "[::2]", "0.0.0.0"]
    ) {
      const status = await new Promise((resolve, reject) => {
        const call = request({
          host: "127.0.0.1",
          port,
          path: "/v1/jobs",
          method: "POST",
          headers: { host, "authorization": `Bearer ${cluster.token}`, "content-type": "application/json" },
        }, (response) => {
          response.resume();
          resolve(response.statusCode);
        });
        call.on("error", reject);
        call.end(JSON.stringify({ key: host, tasks: [{ name: "t", argv: ["true"] }] }));
      });
      expect(status, host).toBe(403);
    }
    expect(await jobs()).toBe(0);
  });

  test("files of a snapshot run no script: what looks like a page is shown as text, other bytes are downloaded", async () => {
    const files = join(dir, "files");
    mkdirSync(files);
    const script = `document.title = "ran"; fetch("/v1/jobs")`;
    writeFileSync(join(files, "evil.html"), `<!doctype html><title>evil</title><script>${script}</script>`);
    writeFileSync(
      join(files, "evil.svg"),
      `<svg xmlns="http://www.w3.org/2000/svg"><title>evil</title><script>${script}</script></svg>`,
    );
    writeFileSync(join(files, "evil.js"), script);
    writeFileSync(join(files, "binary.html"), `<!doctype html><title>evil</title><script>${script}</script>\0`);
    const { snapshot } = await capture({ dir: files, blobs: client.blobs, clock: realClock });
    const at = (name: string): string =>
      `${cluster.ready.http}/v1/snapshots/${snapshot}/${name}?token=${cluster.token}`;
    for (const name of ["evil.html", "evil.svg", "evil.js"]) {
      const page = await browser.newPage();
      onTestFinished(() => page.close());
      const asked: string[] = [];
      page.on("request", (made) => asked.push(new URL(made.url()).pathname));
      const answer = await page.goto(at(name));
      expect(answer?.headers(), name).toMatchObject({
        "content-type": "text/plain; charset=utf-8",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
      });
      expect(await page.title(), name).not.toMatch(/ran|evil/);
      expect(await page.textContent("body"), name).toContain(script);
      expect(asked.filter((path) => path === "/v1/jobs"), name).toEqual([]);
    }
    const page = await browser.newPage();
    onTestFinished(() => page.close());
    const download = page.waitForEvent("download");
    await expect(page.goto(at("binary.html"))).rejects.toThrow();
    await (await download).cancel();
    // By a page of the cluster itself a file cannot be loaded as a script either.
    const own = await open(`${cluster.ready.http}/healthz`);
    const loaded = await own.evaluate((src) =>
      new Promise((resolve) => {
        const script = document.createElement("script");
        script.onload = () => resolve("loaded");
        script.onerror = () => resolve("refused");
        script.src = src;
        document.head.append(script);
      }), at("evil.js"));
    expect(loaded).toBe("refused");
  });

  test("of the cluster's own origin, with the token, the same attempts do what they ask for", async () => {
    const page = await open(`${cluster.ready.http}/healthz`);
    const came = await attempts(page, cluster.token);
    expect(came["JSON with the token"]).toMatch(/^201 /);
    expect(came["JSON without the token"]).toMatch(/^401 .*TOKEN_INVALID/);
    expect(came["simple"]).toMatch(/^401 /);
    expect(came["simple, token in the URL"]).toMatch(/^401 /);
    expect(came["WebSocket with the token"]).toContain("job.accepted");
    expect(came["WebSocket without the token"]).toContain("TOKEN_INVALID");
    expect(came["list, token in the URL"]).toMatch(/^200 .*from-a-page|^200 .*"jobs":\[\{/);
    expect(await jobs()).toBe(1); // one key, one job
  });
});
