import { expect, onTestFinished, test } from "vitest";
import { realClock } from "../../../src/runtime/clock.ts";
import { localActions } from "../../../src/snapshots/actions/local.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { startChild } from "../child.ts";
import { temporaryFolder } from "../temporary_folder.ts";
import { actionsContract } from "./contract.ts";
import { keyOf, made, resultOf } from "./results.ts";

actionsContract("localActions()", (blobs) => localActions({ dir: temporaryFolder(), blobs, clock: realClock }));

test("localActions() keeps entries and their uses over a restart, and says so of a cache that was closed", async () => {
  const dir = temporaryFolder();
  const options = { dir, blobs: memoryBlobs(), clock: realClock };
  const first = localActions(options);
  await first.put(keyOf(1), resultOf(), made());
  await first.get(keyOf(1));
  await first.close();
  await expect(first.get(keyOf(1))).rejects.toMatchObject({ code: "DRAINING" });
  const second = localActions(options);
  onTestFinished(() => second.close());
  expect(await second.show(keyOf(1))).toMatchObject({ made: made(), useCount: 1 });
});

test("what a process was told is kept is there when it was killed", { timeout: 60_000 }, async () => {
  const dir = temporaryFolder();
  const cache = localActions({ dir, blobs: memoryBlobs(), clock: realClock });
  onTestFinished(() => cache.close());
  const children = [0, 1].map((n) =>
    startChild(new URL("./putting_child.ts", import.meta.url), dir, String(n * 1_000_000))
  );
  const told: number[] = [];
  for (const child of children) {
    for (let n = 0; n < 50; n++) told.push(Number((await child.lines.next()).value));
    child.process.kill("SIGKILL");
    await child.ended;
    for await (const line of child.lines) if (line !== "") told.push(Number(line));
  }
  for (const n of told) expect(await cache.get(keyOf(n))).toMatchObject({ made: made(n) });
  expect(await cache.put(keyOf(-1), resultOf(), made())).toEqual({ kind: "stored" });
});
