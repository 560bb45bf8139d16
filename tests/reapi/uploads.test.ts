import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fileUploads } from "../../src/reapi/uploads.ts";
import { manualClock } from "../transport/manual_clock.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "scoot-uploads-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("of uploads that broke off the oldest are forgotten when they have too many bytes together; those that go on stay", async () => {
  const clock = manualClock();
  const uploads = fileUploads(dir, clock, 1_000);
  const take = (name: string) => uploads.take(name, { onTaken: () => {}, isHashed: false });
  const going = await take("goes on");
  await going.append(new Uint8Array(5_000));
  for (const [place, name] of ["oldest", "older", "young"].entries()) {
    const before = new Set(readdirSync(dir));
    const upload = await take(name);
    await upload.append(new Uint8Array(400));
    await upload.close(false);
    const file = readdirSync(dir).find((each) => !before.has(each))!;
    utimesSync(join(dir, file), 1_000 + place, 1_000 + place);
  }
  expect(await uploads.sizeOf("oldest")).toBe(400);
  await clock.advance(60_000);
  await (await take("the next")).close(true);
  const sizes = await Promise.all(["oldest", "older", "young"].map((name) => uploads.sizeOf(name)));
  expect(sizes).toEqual([0, 400, 400]);
  await going.append(new Uint8Array(10));
  const { path } = await going.asFile!();
  expect(statSync(path).size).toBe(5_010);
  await going.close(true);
});
