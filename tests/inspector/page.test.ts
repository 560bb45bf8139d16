import axe from "axe-core";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { processesWith, startCluster, type TestCluster, until } from "../../scripts/support/cluster.ts";
import { type Client, connectClient } from "../../src/api/client.ts";
import type { Digest } from "../../src/domain/digest.ts";
import type { JobId } from "../../src/domain/ids.ts";
import { encodeDirectory } from "../../src/protocol/reapi/canonical.ts";
import { digestOf } from "../../src/snapshots/blobs/blobs.ts";
import { viewTokenOf } from "../../src/transport/secret.ts";
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
  type Task = Parameters<Client["submit"]>[0]["tasks"][number];
  const sh = (name: string, script: string, more: Partial<Task> = {}): Task => ({
    name,
    argv: ["sh", "-c", script],
    env,
    ...more,
  });
  const submit = async (tag: string, ...tasks: Task[]): Promise<JobId> =>
    (await client.submit({ key: tag, requestor: "ada", tag, tasks })).jobId;
  const stateOf = async (id: JobId): Promise<string> => (await client.job(id)).tasks[0]!.state;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "scoot-inspector-"));
    cluster = await startCluster(["--workers", "1", "--slots", "1"]);
    client = connectClient({ url: cluster.ready.http, token: cluster.token });
    done = await submit(
      "done",
      sh(
        "colours",
        'printf \'\\033[32mgreen\\033[0m plain\\n\'; seq 1 50000; mkdir out; echo made > out/file; awk \'BEGIN { text = sprintf("%3000s", ""); gsub(/ /, "x", text); for (line = 1; line <= 600; line++) print text line }\' >&2',
        {
          outputs: ["out"],
        },
      ),
      sh("fails", "cat out/file; echo no >&2; exit 3", { input: { kind: "task", task: "colours" } }),
      sh("never", "true", { input: { kind: "task", task: "fails" } }),
    );
    await until("the first job to end", async () => (await client.job(done)).job.state !== "running");
    busy = await submit("busy", sh("holds", "while read line; do echo $line; done; echo begun; sleep 600"));
    await until("it to run", async () => await stateOf(busy) === "running");
    stuck = await submit("stuck", sh("waits", "true"));
    await until("the other to wait", async () => await stateOf(stuck) === "queued");
    browser = await chromium.launchPersistentContext(join(dir, "profile"), {
      executablePath: programPath("chromium")!,
      headless: true,
      viewport: { width: 1280, height: 900 },
      args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"],
    });
    page = await browser.newPage();
    watch(page);
  }, 120_000);

  function watch(page: Page): void {
    page.on("request", (made) => {
      if (!made.url().startsWith(cluster.ready.http) && !made.url().startsWith("blob:")) wrong.push(made.url());
    });
    page.on("pageerror", (error) => wrong.push(String(error)));
    page.on("console", (message) => {
      const isOfStatus = /status of [45]|ERR_INTERNET_DISCONNECTED/.test(message.text());
      if (message.type() === "error" && !isOfStatus) wrong.push(message.text());
    });
  }

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
  const why = () => page.locator(".why .sentence");

  test("asks for the token, refuses a wrong one, and takes it from the address without leaving it there", async () => {
    await page.goto(`${cluster.ready.http}/`);
    await page.getByLabel("Token").fill("wrong");
    await page.getByRole("button", { name: "Open" }).click();
    await page.getByText("The cluster's token, please").waitFor();
    await page.goto("about:blank");
    await page.goto(`${cluster.ready.http}/#token=${cluster.token}`);
    await page.getByRole("link", { name: "done" }).waitFor();
    expect(page.url()).not.toContain(cluster.token);
    const answer = await fetch(`${cluster.ready.http}/`);
    expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect((await fetch(`${cluster.ready.http}/v1/inspect/bounds`)).status).toBe(401);
    await answer.body?.cancel();
    await page.locator(".skip").focus();
    await page.keyboard.press("Enter");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("main");
    await page.getByRole("link", { name: "done" }).waitFor();
    // In a page that is open too, where an address with another token loads nothing anew.
    await page.evaluate(() => void (location.hash = "#token=wrong"));
    await page.getByText("The cluster's token, please").waitFor();
    expect(page.url()).not.toContain("wrong");
    await page.evaluate((token) => void (location.hash = `#token=${token}`), cluster.token);
    await page.getByRole("link", { name: "done" }).waitFor();
    expect(page.url()).not.toContain(cluster.token);
  });

  test("home has the jobs, the newest first, and one box finds ids, requestors and commands", async () => {
    await open("#/jobs");
    expect(await page.locator("tbody tr .id").allTextContents()).toEqual([stuck, busy, done]);
    expect(await page.locator("tbody tr td:first-child").allTextContents()).toEqual(["queued", "running", "failed"]);
    const waits = page.locator("tbody tr", { hasText: stuck }).locator(".says");
    await expect.poll(() => waits.textContent()).toMatch(/every slot that it could use is busy/);
    await keep("home");
    await page.keyboard.press("/");
    await page.keyboard.type("exit 3");
    await page.keyboard.press("Enter");
    await page.locator("mark", { hasText: "exit 3" }).waitFor();
    expect(await page.locator("tbody tr td:nth-child(2) a").allTextContents()).toEqual(["fails"]);
    await keep("search");
    await page.getByRole("searchbox").fill(stuck);
    await page.keyboard.press("Enter");
    await page.locator("h1", { hasText: "stuck" }).waitFor();
  });

  test("a stuck job says why, leads to the moment of the decision, and that moment has an address", async () => {
    await open(`#/job/${stuck}`);
    await expect.poll(() => why().textContent()).toMatch(/every slot that it could use is busy/);
    await keep("stuck");
    await page.getByRole("link", { name: "Go to that moment" }).click();
    await page.locator(".chart .lit text", { hasText: "queued" }).waitFor();
    await expect.poll(() => why().textContent()).toMatch(/every slot that it could use is busy/);
    await page.locator("svg.sequence a.marked", { hasText: "task.create" }).first().waitFor();
    expect(page.url()).toMatch(/at=\d+$/);
    await keep("decision");
    const link = page.url();
    await browser.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.getByRole("button", { name: "Copy link" }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(link);
    const other = await browser.newPage();
    onTestFinished(() => other.close());
    watch(other);
    await other.goto(link); // its token is borrowed from the first one
    await other.locator(".chart .lit text", { hasText: "queued" }).waitFor();
    expect(await other.locator("body").getAttribute("data-when")).toBe("past");
  });

  test("a job is killed after a question, and what changes is shown without being asked for", async () => {
    await open(`#/job/${stuck}`);
    await page.getByRole("button", { name: "Kill" }).click();
    await page.getByLabel("Why, for whoever asks later").fill("nobody wants it");
    await keep("question");
    await page.getByRole("button", { name: "Kill the job" }).click();
    await page.locator("h1 .badge", { hasText: "cancelled" }).waitFor();
    await expect.poll(() => why().textContent()).toContain("nobody wants it");
    expect(await page.locator("#said").textContent()).toContain("stuck is cancelled");
  });

  test("what is open and what is written outlive what is new", async () => {
    await open("#/jobs");
    const found = page.getByRole("searchbox");
    await found.fill("half a wo");
    const row = await page.locator("tbody tr", { hasText: "done" }).elementHandle();
    const { jobId } = await client.submit({ key: "news", requestor: "ada", tag: "news", tasks: [sh("news", "true")] });
    await page.locator("tbody tr", { hasText: "news" }).waitFor();
    expect(await found.inputValue()).toBe("half a wo");
    expect(await found.evaluate((input) => input === document.activeElement)).toBe(true);
    expect(await row!.evaluate((element) => element.isConnected)).toBe(true);
    await found.fill("");
    await client.kill(jobId, "it was but news");
    await page.locator("tbody tr", { hasText: "it was but news" }).waitFor();
  });

  test("an actor's page has its chart, what led there, and goes back and forth in time", async () => {
    await open(`#/actor/task/${stuck}/0`);
    await page.locator(".chart .lit text", { hasText: "settled" }).waitFor();
    expect(await page.locator(".chart .taken .now").allTextContents()).toEqual(["kill"]);
    await keep("actor");
    await page.getByRole("button", { name: "The step before, of what is shown" }).press("Enter");
    await page.locator(".chart .lit text", { hasText: "queued" }).waitFor();
    expect(page.url()).toMatch(/at=\d+$/);
    await page.keyboard.press("]");
    await page.locator(".chart .lit text", { hasText: "settled" }).waitFor();
    await page.keyboard.press("[");
    await page.locator(".chart .lit text", { hasText: "queued" }).waitFor();
    await page.keyboard.press("l");
    await page.locator(".chart .lit text", { hasText: "settled" }).waitFor();
    expect(await page.locator("body").getAttribute("data-when")).toBe("now");
  });

  test("the slider goes through the history by keys and by the mouse, and the page follows", async () => {
    await open(`#/actor/task/${stuck}/0`);
    const slider = page.locator("#moment");
    await slider.focus();
    await page.keyboard.press("Home");
    await page.getByText("it was not there").waitFor();
    await page.locator("output", { hasText: /entry 1$/ }).waitFor();
    await page.keyboard.press("End");
    await page.locator(".chart .lit text", { hasText: "settled" }).waitFor();
    const { x, y, width, height } = (await slider.boundingBox())!;
    await page.mouse.move(x + width - 8, y + height / 2);
    await page.mouse.down();
    await page.mouse.move(x + 2, y + height / 2, { steps: 5 });
    await page.getByText("it was not there").waitFor(); // while it is held
    await page.mouse.up();
    expect(page.url()).toMatch(/at=1$/);
    await page.getByRole("link", { name: "this page now" }).click();
    await page.locator(".chart .lit text", { hasText: "settled" }).waitFor();
  });

  test("one may go to a time or an entry, and is told when that cannot be understood", async () => {
    await open("#/jobs");
    await page.keyboard.press("t");
    await page.keyboard.type("whenever");
    await page.keyboard.press("Enter");
    const box = page.locator("input[name=when]");
    expect(await box.evaluate((input: HTMLInputElement) => input.validity.valid)).toBe(false);
    await box.fill("#2");
    await page.keyboard.press("Enter");
    await page.locator("output", { hasText: "entry 2" }).waitFor();
    await page.getByText("There were no jobs at that moment.").waitFor();
    await box.fill("now");
    await page.keyboard.press("Enter");
    await page.locator("tbody tr", { hasText: "done" }).waitFor();
  });

  test("a job's page has its graph and where its time went; once more runs what failed", async () => {
    await open(`#/job/${done}`);
    expect(await why().textContent()).toMatch(/fails: It exited with 3/);
    await page.locator(".why .tail pre", { hasText: /^no/ }).waitFor();
    expect(await page.locator(".graph .node .name").allTextContents()).toEqual(["colours", "fails", "never"]);
    expect(await page.locator(".graph .node .says").allTextContents()).toEqual(["succeeded", "failed", "skipped"]);
    expect(await page.locator(".graph .edge").count()).toBe(2);
    await page.locator(".timeline .span-run").first().waitFor();
    await keep("job");
    const saved = page.waitForEvent("download");
    await page.getByRole("button", { name: "Mermaid" }).click();
    expect((await saved).suggestedFilename()).toBe(`${done}-tasks.mmd`);
    const sealed = page.waitForEvent("download");
    await page.getByRole("button", { name: "Sealed file" }).click();
    expect((await sealed).suggestedFilename()).toBe(`${done}.scootjob`);
    await page.getByRole("button", { name: "Run again" }).click();
    await page.getByRole("button", { name: "Run it again" }).click();
    await page.waitForFunction((done) => /^#\/job\/j/.test(location.hash) && !location.hash.includes(done), done);
    await page.locator(".graph .node.is-succeeded", { hasText: "colours" }).waitFor();
    await page.getByRole("button", { name: "Kill" }).click();
    await page.getByRole("button", { name: "Kill the job" }).click();
    await page.locator("h1 .badge", { hasText: "cancelled" }).waitFor();
  });

  test("of a job of 1,500 tasks the page has the rows that are seen, and any other when it is scrolled to", async () => {
    const names = Array.from({ length: 1_500 }, (_, place) => `part-${place}`);
    const tasks = names.map((name) => ({ ...sh(name, "true"), platform: { gpu: "none" } }));
    const { jobId } = await client.submit({ key: "many", requestor: "ada", tag: "many", tasks });
    await open(`#/job/${jobId}`);
    await page.locator(".tasks .badge").first().waitFor();
    await expect.poll(() => why().textContent(), { timeout: 20_000 }).toContain("gpu=none");
    await page.locator(".tasks .view").evaluate((view) => view.scrollTo(0, view.scrollHeight));
    await page.locator(".tasks").getByRole("link", { name: "part-1499" }).waitFor();
    expect(await page.locator(".tasks [data-row]").count()).toBeLessThan(60);
    await keep("many");
    await client.kill(jobId, "seen");
    await page.locator("h1 .badge", { hasText: "cancelled" }).waitFor();
  });

  test("output has its colours, is searched, and of 50,000 lines the page has but what is seen", async () => {
    await open(`#/output/${done}/0/stdout`);
    await page.locator(".output .ansi-green", { hasText: "green" }).waitFor();
    expect(await page.locator(".output .line").count()).toBeLessThan(100);
    await page.locator(".output .view").evaluate((view) => view.scrollTo(0, view.scrollHeight));
    await page.locator(".output .text", { hasText: /^50000$/ }).waitFor();
    expect(await page.locator(".output .line").count()).toBeLessThan(100);
    await page.getByLabel("Find in this output").fill("31415");
    await page.keyboard.press("Enter");
    await page.locator(".hits").getByRole("link", { name: "31,416" }).click();
    await page.locator(".output .wanted", { hasText: "31415" }).waitFor();
    await keep("output");
    // Of long lines an answer has fewer than are asked for.
    await open(`#/output/${done}/0/stderr?line=450`);
    await page.locator(".output .wanted", { hasText: /xxx451$/ }).waitFor();
    await open(`#/output/${busy}/0/stdout`);
    await page.locator(".output .line", { hasText: "begun" }).waitFor(); // while it runs
  });

  test("the cluster has workers, slots and shares; a worker is set aside and reinstated", async () => {
    await open("#/cluster");
    await page.locator(".worker .slots .busy").waitFor();
    await page.locator(".share", { hasText: "used" }).first().waitFor();
    await keep("cluster");
    await page.locator("a.worker", { hasText: "w1" }).click();
    await page.getByRole("link", { name: `${busy}/0` }).waitFor();
    await page.getByRole("button", { name: "Set aside" }).click();
    await page.getByRole("button", { name: "Set it aside" }).click();
    await expect.poll(() => why().textContent()).toContain("set aside by an operator");
    await keep("worker");
    await page.getByRole("button", { name: "Reinstate" }).click();
    await page.getByRole("button", { name: "Reinstate it" }).click();
    await page.locator("h1 .badge", { hasText: "present" }).waitFor();
    await open("#/machine/task");
    await page.locator(".chart a", { hasText: "running" }).click();
    await page.getByRole("link", { name: `task/${busy}/0` }).waitFor();
  });

  test("a conversation is a sequence diagram, is filtered by type, and leads to the state that came of a message", async () => {
    await open(`#/conversation?with=${encodeURIComponent(`job/${done},task/${done}/0,member/w1`)}`);
    await page.locator("svg.sequence a.message").first().waitFor();
    await page.getByTitle("Show worker/w1 too").click();
    await page.locator("svg.sequence .member", { hasText: "worker w1" }).waitFor();
    await keep("conversation");
    await page.getByRole("link", { name: /^task\.create/ }).click();
    await page.waitForFunction(() => document.querySelectorAll("svg.sequence a.message").length === 1);
    await page.locator("svg.sequence a.message").focus();
    await page.keyboard.press("Enter");
    await page.locator("h1", { hasText: "colours" }).waitFor();
    await page.locator("svg.sequence a.marked", { hasText: "task.create" }).first().waitFor();
  });

  test("a task's output is compared with its input in one click, and its files are read", async () => {
    await open(`#/actor/task/${done}/0`);
    await page.getByRole("link", { name: "against its input" }).click();
    await page.locator("tbody tr", { hasText: "added" }).waitFor();
    await keep("diff");
    await page.getByRole("link", { name: "out", exact: true }).click();
    await page.getByRole("link", { name: "file", exact: true }).click();
    await page.locator("pre.file", { hasText: "made" }).waitFor();
    await page.locator("h1.path").getByRole("link", { name: "out", exact: true }).click();
    await page.getByRole("link", { name: "file", exact: true }).waitFor();
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
    expect(await why().textContent()).toContain("Start 1 of this scheduler");
    await open("#/actor/scheduler");
    expect(await why().textContent()).toContain("Start 2 of this scheduler");
    await open(`#/worker/w1?at=${before.seq}`);
    await page.getByRole("link", { name: `${busy}/0` }).waitFor();
    expect(await page.getByRole("button", { name: "Set aside" }).count()).toBe(0); // the past is not changed
    await keep("past");
  });

  test("a cluster that is away is said to be, what was seen stays, and it comes back by itself", async () => {
    await open("#/jobs");
    await browser.setOffline(true);
    onTestFinished(() => browser.setOffline(false));
    await page.getByRole("link", { name: "Failed" }).click();
    await page.locator("#trouble", { hasText: "The cluster does not answer" }).waitFor();
    expect(await page.locator("tbody tr").count()).toBeGreaterThan(2);
    await keep("away");
    await browser.setOffline(false);
    await page.waitForFunction(() => document.getElementById("trouble")!.childElementCount === 0);
    await page.waitForFunction(() => document.querySelectorAll("tbody .badge:not(.is-failed)").length === 0);
  });

  test("everything can be done by keys, and ? says by which", async () => {
    await open("#/jobs");
    await page.keyboard.press("?");
    await page.locator("dialog", { hasText: "go to a time" }).waitFor();
    await keep("keys");
    await page.keyboard.press("Escape");
    await page.locator("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("j");
    expect(await page.evaluate(() => document.activeElement?.closest("tbody tr") !== null)).toBe(true);
    await page.keyboard.press("2");
    await page.locator("h1", { hasText: "Cluster" }).waitFor();
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement!).outlineStyle);
    expect(outline).not.toBe("none");
  });

  test(
    "no page has a serious finding of axe-core, light or dark, wide or narrow, and none is wider than its window",
    async () => {
      onTestFinished(async () => {
        await page.emulateMedia({ colorScheme: "light" });
        await page.setViewportSize({ width: 1280, height: 900 });
      });
      const { output } = await ask(`action?task=${done}/0`) as { readonly output: string };
      const hashes = [
        "#/jobs",
        "#/search?text=sh",
        `#/job/${done}`,
        `#/actor/task/${done}/0`,
        `#/output/${done}/0/stdout`,
        "#/cluster",
        "#/worker/w1",
        "#/actors",
        "#/machine/task",
        `#/conversation?with=${encodeURIComponent(`job/${done},task/${done}/0`)}`,
        "#/snapshot",
        `#/snapshot/${output}`,
        `#/snapshot/${output}?against=${encodeURIComponent(output)}`,
      ];
      const found: string[] = [];
      for (const [colorScheme, width] of [["light", 1280], ["dark", 400]] as const) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        for (const hash of hashes) {
          await open(hash);
          await page.evaluate(axe.source);
          const violations = await page.evaluate(async () => {
            const { axe } = globalThis as unknown as {
              axe: { run(): Promise<{ violations: { id: string; impact: string }[] }> };
            };
            return (await axe.run()).violations;
          });
          const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
          found.push(...serious.map(({ id }) => `${hash} ${colorScheme}: ${id}`));
          const wide = await page.evaluate(() => document.documentElement.scrollWidth);
          if (wide > width) found.push(`${hash} is ${wide} px wide in a window of ${width}`);
          if (colorScheme === "dark" && hash.startsWith("#/job/")) await keep("dark");
        }
      }
      expect(found).toEqual([]);
    },
    120_000,
  );

  test("whoever may only look sees no buttons that change anything", async () => {
    const view = await browser.newPage();
    onTestFinished(() => view.close());
    watch(view);
    await view.goto(`${cluster.ready.http}/#token=${viewTokenOf(cluster.token)}`);
    await view.getByText("read-only").waitFor();
    await view.goto(`${cluster.ready.http}/#/job/${busy}`);
    await view.locator("h1", { hasText: "busy" }).waitFor();
    expect(await view.getByRole("button", { name: "Kill" }).count()).toBe(0);
    await page.bringToFront();
  });

  test("a folder of any name is gone through page by page", async () => {
    const put = async (bytes: Uint8Array): Promise<Digest> => {
      const digest = digestOf(bytes);
      const answer = await fetch(`${cluster.ready.http}/v1/blobs/${digest}`, {
        method: "PUT",
        headers: { "authorization": `Bearer ${cluster.token}`, "content-type": "application/octet-stream" },
        body: bytes as Uint8Array<ArrayBuffer>,
      });
      expect(answer.status).toBe(204);
      return digest;
    };
    const links = Array.from(
      { length: 600 },
      (_, place) => ({ kind: "symlink", name: `${1_000 + place}`, target: "x" } as const),
    );
    const inner = await put(encodeDirectory(links));
    const root = await put(encodeDirectory([{ kind: "directory", name: "100% a?b#c", digest: inner }]));
    await open(`#/snapshot/${root}`);
    await page.getByRole("link", { name: "100% a?b#c/" }).click();
    await page.getByRole("link", { name: "1000", exact: true }).waitFor();
    await page.getByRole("link", { name: "More entries" }).click();
    await page.getByRole("link", { name: "1599", exact: true }).waitFor();
  });

  test("no text of somebody's keeps a page from being shown", async () => {
    const odd = await submit("odd", sh("<img src=x onerror=alert(1)>", "true"));
    await client.kill(odd, "at 2026-99-99T99:99:99Z <b>");
    await open("#/jobs");
    await page.locator(".says", { hasText: "at 2026-99-99T99:99:99Z <b>" }).waitFor();
    await open(`#/actor/job/${odd}`);
    await page.locator("#children ~ * a", { hasText: "<img src=x" }).waitFor();
  });

  test("the whole page is small", async () => {
    await page.goto("about:blank");
    await open("#/jobs");
    const bytes = await page.evaluate(() =>
      performance.getEntriesByType("resource").filter(({ name }) => name.includes("/inspector/"))
        .reduce((sum, entry) => sum + (entry as PerformanceResourceTiming).decodedBodySize, 0)
    );
    expect(bytes).toBeGreaterThan(50_000);
    expect(bytes).toBeLessThan(250 * 1024);
  });

  test("nothing was loaded from elsewhere, and no script failed", () => {
    expect(wrong).toEqual([]);
  });
});
