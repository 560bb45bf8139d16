import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { processesWith, startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { type Client, connectClient } from "../../src/api/client.ts";
import type { JobId } from "../../src/domain/ids.ts";
import { has, programPath } from "../support/machine.ts";

/** INSPECTOR_PICTURES=DIR also keeps pictures of the pages. */
const pictures = process.env["INSPECTOR_PICTURES"];

describe.skipIf(!has("chromium"))("the inspector in a real browser", () => {
  let dir: string;
  let cluster: TestCluster;
  let client: Client;
  let browser: BrowserContext;
  let done: JobId;
  let busy: JobId;
  let stuck: JobId;
  let page: Page;
  /** What a page tried to load from anywhere else, and what its policy or a script of it complained of. */
  const wrong: string[] = [];

  const env = { PATH: "/usr/bin:/bin" };
  const submit = async (key: string, ...tasks: { name: string; argv: string[] }[]): Promise<JobId> =>
    (await client.submit({ key, requestor: "ada", tag: key, tasks: tasks.map((task) => ({ ...task, env })) })).jobId;
  const stateOf = async (id: JobId): Promise<string> => (await client.job(id)).tasks[0]!.state;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "scoot-inspector-"));
    cluster = await startCluster(["--workers", "1", "--slots", "1"]);
    client = connectClient({ url: cluster.ready.http, token: cluster.token });
    done = await submit(
      "done",
      { name: "colours", argv: ["sh", "-c", "printf '\\033[32mgreen\\033[0m plain\\n'"] },
      { name: "fails", argv: ["sh", "-c", "echo no >&2; exit 3"] },
    );
    await until("the first job to end", async () => (await client.job(done)).job.state !== "running");
    busy = await submit("busy", { name: "holds", argv: ["sleep", "600"] });
    await until("it to run", async () => await stateOf(busy) === "running");
    stuck = await submit("stuck", { name: "waits", argv: ["true"] });
    await until("the other to wait", async () => await stateOf(stuck) === "queued");
    browser = await chromium.launchPersistentContext(join(dir, "profile"), {
      executablePath: programPath("chromium")!,
      headless: true,
      viewport: { width: 1280, height: 900 },
      args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"],
    });
    page = await browser.newPage();
    page.on("request", (made) => {
      if (!made.url().startsWith(cluster.ready.http)) wrong.push(made.url());
    });
    page.on("pageerror", (error) => wrong.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" && !message.text().includes("status of 4")) wrong.push(message.text());
    });
  }, 120_000);

  afterAll(async () => {
    await browser?.close();
    if (busy !== undefined) await client.kill(busy, "the test is over");
    await client?.close();
    expect(await cluster?.stop()).toBe(0);
    await until("the browser to be gone", () => processesWith(dir).length === 0);
    rmSync(dir, { recursive: true, force: true });
  }, 60_000);

  const keep = async (name: string): Promise<void> => {
    if (pictures === undefined) return;
    mkdirSync(pictures, { recursive: true });
    await page.screenshot({ path: join(pictures, `${name}.png`) });
  };
  const open = async (hash: string): Promise<void> => {
    await page.goto(`${cluster.ready.http}/${hash}`);
    await page.waitForFunction((hash) => document.getElementById("main")?.dataset["shown"] === hash, hash);
  };
  const ask = async (path: string): Promise<{ readonly [field: string]: unknown }> => {
    const response = await fetch(`${cluster.ready.http}/v1/inspect/${path}`, {
      headers: { authorization: `Bearer ${cluster.token}` },
    });
    expect(response.status, path).toBe(200);
    return await response.json();
  };

  test("asks for the token, refuses a wrong one, and takes it from the address without leaving it there", async () => {
    await page.goto(`${cluster.ready.http}/`);
    await page.getByLabel("Token").fill("wrong");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByText("The cluster's token, please").waitFor();
    await page.goto("about:blank");
    await page.goto(`${cluster.ready.http}/#token=${cluster.token}`);
    await page.getByRole("link", { name: done }).waitFor();
    expect(page.url()).not.toContain(cluster.token);
    const answer = await fetch(`${cluster.ready.http}/`);
    expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect((await fetch(`${cluster.ready.http}/v1/inspect/bounds`)).status).toBe(401);
    await answer.body?.cancel();
  });

  test("home has the jobs, the newest first, and finds them", async () => {
    await open("#/jobs");
    const ids = await page.locator("tbody tr td:first-child").allTextContents();
    expect(ids).toEqual([stuck, busy, done]);
    await keep("home");
    await page.getByLabel("Search").fill("stuck");
    await page.getByRole("button", { name: "Search" }).click();
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
    expect(await page.locator("tbody tr td:first-child").allTextContents()).toEqual([stuck]);
  });

  test("the page of a stuck job says why, and what changes is shown without being asked for", async () => {
    await open(`#/job/${stuck}`);
    const why = page.locator("p.why");
    await expect.poll(() => why.textContent()).toMatch(/every slot that it could use is busy/);
    await keep("stuck");
    await client.kill(stuck, "nobody wants it");
    await page.locator("h1 .badge", { hasText: "cancelled" }).waitFor();
    await expect.poll(() => why.textContent()).toContain("nobody wants it");
  });

  test("an actor's page has its chart, what led there, and goes back and forth in time", async () => {
    await open(`#/actor/task/${stuck}/0`);
    await page.locator(".chart .lit text", { hasText: "settled" }).waitFor();
    expect(await page.locator(".chart .taken text").allTextContents()).toEqual(["task.kill"]);
    await keep("actor");
    await page.getByRole("button", { name: "The step before, of what is shown" }).press("Enter");
    await page.locator(".chart .lit text", { hasText: "queued" }).waitFor();
    expect(page.url()).toMatch(/at=\d+$/);
    const link = page.url();
    await page.getByRole("button", { name: "The next step of what is shown" }).press("Enter");
    await page.locator(".chart .lit text", { hasText: "settled" }).waitFor();
    await page.goto("about:blank");
    await page.goto(link);
    await page.locator(".chart .lit text", { hasText: "queued" }).waitFor();
  });

  test("the job's timeline, output in colours, and the cluster", async () => {
    await open(`#/job/${done}`);
    await page.locator("svg.timeline rect.span-run").first().waitFor();
    expect(await page.locator("p.why").textContent()).toMatch(/fails: It exited with 3/);
    await keep("job");
    await page.getByRole("link", { name: "stdout" }).first().click();
    await page.locator("pre.output .ansi-green", { hasText: "green" }).waitFor();
    await keep("output");
    await open("#/cluster");
    await page.locator(".slots .busy", { hasText: busy }).waitFor();
    await keep("cluster");
  });

  test("a conversation is a sequence diagram, and leads to the state of who spoke", async () => {
    await open(`#/conversation?with=${encodeURIComponent(`job/${done},task/${done}/0,member/w1`)}`);
    await page.locator("svg.sequence a.message").first().waitFor();
    await keep("conversation");
    const created = page.locator("svg.sequence a.message", { hasText: "task.create" }).first();
    await created.focus();
    await page.keyboard.press("Enter");
    await page.locator("h1", { hasText: `job/${done}` }).waitFor();
  });

  test("a moment before a kill -9 is shown as it was, and one after it as it is", async () => {
    const before = (await ask("bounds"))["last"] as { readonly seq: number };
    const [pid] = cluster.pids("scheduler");
    process.kill(pid!, "SIGKILL");
    await until("the next scheduler", async () => {
      const answer = await ask("actor?address=scheduler");
      return (answer["seq"] as number) > before.seq;
    });
    await open(`#/actor/scheduler?at=${before.seq}`);
    expect(await page.locator("p.why").textContent()).toContain("Start 1 of this scheduler");
    await open("#/actor/scheduler");
    expect(await page.locator("p.why").textContent()).toContain("Start 2 of this scheduler");
    await open(`#/cluster?at=${before.seq}`);
    await page.locator(".slots .busy", { hasText: busy }).waitFor();
    await keep("past");
  });

  test("dark too, and small", async () => {
    onTestFinished(() => page.emulateMedia({ colorScheme: "light" }));
    await page.emulateMedia({ colorScheme: "dark" });
    await open(`#/actor/task/${done}/0`);
    await keep("dark");
    const names = ["index.html", "style.css", "icon.svg", "main.js", "pages.ts", "data.ts", "dom.ts", "chart.ts"];
    let bytes = 0;
    for (const name of names) {
      bytes += (await (await fetch(`${cluster.ready.http}/inspector/${name}`)).arrayBuffer()).byteLength;
    }
    expect(bytes).toBeGreaterThan(20_000);
    expect(bytes).toBeLessThan(250 * 1024);
  });

  test("nothing was loaded from elsewhere, and no script failed", () => {
    expect(wrong).toEqual([]);
  });
});
