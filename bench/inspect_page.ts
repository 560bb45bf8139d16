import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { chromium } from "playwright-core";
import { startCluster } from "../scripts/support/cluster.ts";
import { connectClient } from "../src/api/client.ts";
import { report } from "./report.ts";

/**
 * The inspector in a real browser (Debian's Chromium) on a real cluster: how long until the first page says something, how
 * much comes for it, and how late what the scheduler has decided is on the screen.
 */
const loads = Number(process.env["BENCH_LOADS"] ?? 10);
const changes = Number(process.env["BENCH_CHANGES"] ?? 60);
const browserPath = "/usr/bin/chromium";
if (!existsSync(browserPath)) {
  console.error(`Cannot measure the page as ${browserPath} must be there: it is not`);
  process.exit(0);
}

const middle = (values: readonly number[], share = 0.5): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? NaN;
const profile = mkdtempSync(join(tmpdir(), "scoot-bench-page-"));
const cluster = await startCluster(["--workers", "2", "--slots", "2"]);
const client = connectClient({ url: cluster.ready.http, token: cluster.token });
const env = { PATH: "/usr/bin:/bin" };
const submit = async (key: string, ...argv: string[]) =>
  (await client.submit({ key, tasks: [{ name: "t", argv, env, cache: "off" }] })).jobId;
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: browserPath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"],
});
try {
  for (let number = 0; number < 20; number++) await submit(`before-${number}`, "true");
  const address = `${cluster.ready.http}/#token=${cluster.token}`;
  const first: number[] = [];
  let bytes = 0;
  for (let load = 0; load < loads; load++) {
    const page = await browser.newPage();
    // As if for the first time, and counted as it comes over the wire.
    const wire = await browser.newCDPSession(page);
    await wire.send("Network.enable");
    await wire.send("Network.setCacheDisabled", { cacheDisabled: true });
    const files = new Set<string>();
    bytes = 0;
    wire.on("Network.responseReceived", ({ requestId, response }) => {
      if (!response.url.includes("/v1/")) files.add(requestId);
    });
    wire.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
      if (files.has(requestId)) bytes += encodedDataLength;
    });
    await page.goto(address, { waitUntil: "commit" });
    first.push(
      await page.evaluate(() =>
        new Promise<number>((resolve) => {
          const look = (): void => {
            if (document.querySelector("#main tbody tr") === null) requestAnimationFrame(look);
            else requestAnimationFrame(() => resolve(performance.now()));
          };
          look();
        })
      ),
    );
    await page.close();
  }

  const page = await browser.newPage();
  await page.goto(address);
  await page.waitForSelector("#main tbody tr");
  const late: number[] = [];
  for (let number = 0; number < changes; number++) {
    const jobId = await submit(`late-${number}`, "sleep", String(0.3 + number * 0.037 % 0.4));
    const shownAtMs = await page.evaluate((jobId) =>
      new Promise<number>((resolve) => {
        const look = (): void => {
          const row = document.querySelector(`#main tr[data-key="${jobId}"]`);
          if (row?.textContent?.includes("succeeded") === true) resolve(Date.now());
          else requestAnimationFrame(look);
        };
        look();
      }), jobId);
    late.push(shownAtMs - (await client.job(jobId)).job.endedAtMs!);
  }
  report([
    {
      name: "the first page's first rows, the very first time",
      value: first[0]!,
      unit: "ms",
      target: { atMost: 1_000 },
    },
    { name: `the same, median of ${loads}`, value: middle(first), unit: "ms", target: { atMost: 1_000 } },
    { name: "bytes of the first load, compressed", value: bytes / 1024, unit: "KiB", target: { atMost: 250 } },
    {
      name: `from a job's end to the screen, median of ${changes}`,
      value: middle(late),
      unit: "ms",
      target: { atMost: 200 },
    },
    { name: "the same, 95 of 100", value: middle(late, 0.95), unit: "ms", target: { atMost: Infinity } },
  ], process.argv);
} finally {
  await browser.close();
  await client.close();
  await cluster.stop();
  rmSync(profile, { recursive: true, force: true });
}
