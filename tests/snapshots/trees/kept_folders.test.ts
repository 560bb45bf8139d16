import { expect, test } from "vitest";
import { emptyDigest } from "../../../src/domain/digest.ts";
import { silentLog } from "../../../src/observability/log.ts";
import { writeBlob } from "../../../src/snapshots/blobs/blobs.ts";
import { memoryBlobs } from "../../../src/snapshots/blobs/memory.ts";
import { memoryRefs } from "../../../src/snapshots/refs/memory.ts";
import { keptFolders, keptFoldersMax } from "../../../src/snapshots/trees/kept_folders.ts";
import { encodeDirectory } from "../../../src/protocol/reapi/canonical.ts";
import { manualClock } from "../../transport/manual_clock.ts";

function rig() {
  const blobs = memoryBlobs();
  const refs = memoryRefs();
  const clock = manualClock();
  const folders = keptFolders({ refs, blobs, clock, log: silentLog });
  const folder = async (name: string) => ({
    content: await writeBlob(blobs, encodeDirectory([{ kind: "symlink", name, target: "x" }])),
    madeFor: emptyDigest,
  });
  return { blobs, refs, clock, folders, folder };
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

test("names of any length and writing are apart, and each finds what was kept last", async () => {
  const { folders, folder } = rig();
  const names = ["a", "a/b", "ä".repeat(200), "%", "", "a\u0000b"].flatMap((one) =>
    ["a", "b", "🜂".repeat(100)].map((other) => ({ requestor: one, name: other }))
  );
  for (const [at, of] of names.entries()) await folders.keep(of, await folder(`${at}`));
  for (const [at, of] of names.entries()) expect(await folders.find(of)).toMatchObject(await folder(`${at}`));
  await folders.keep(names[0]!, await folder("again"));
  expect(await folders.find(names[0]!)).toMatchObject(await folder("again"));
  expect(await all(folders.snapshots(Infinity))).toHaveLength(names.length);
});

test("many that keep under one name at once all get their turn, and the name leads to one of theirs", async () => {
  const { folders, folder } = rig();
  const folder20 = await Promise.all(Array.from({ length: 20 }, (_, at) => folder(`${at}`)));
  const of = { requestor: "ada", name: "target" };
  await Promise.all(folder20.map((one) => folders.keep(of, one)));
  expect(folder20.map(({ content }) => content)).toContain((await folders.find(of))?.content);
});

test("forget() takes away what was found, and nothing newer", async () => {
  const { folders, folder } = rig();
  const of = { requestor: "", name: "x" };
  await folders.keep(of, await folder("1"));
  const first = (await folders.find(of))!;
  await folders.keep(of, await folder("2"));
  await folders.forget(of, first);
  const second = (await folders.find(of))!;
  expect(second).toMatchObject(await folder("2"));
  await folders.forget(of, second);
  expect(await folders.find(of)).toBeUndefined();
});

test("of more names than may be, the least lately kept goes", async () => {
  const { folders, folder, clock } = rig();
  const one = await folder("x");
  const name = (at: number) => ({ requestor: "", name: `${at}` });
  for (let at = 0; at < keptFoldersMax; at++) {
    await clock.advance(1);
    await folders.keep(name(at), one);
  }
  await clock.advance(1);
  await folders.keep(name(0), one); // it is the newest now
  await folders.keep(name(keptFoldersMax), one);
  expect(await folders.find(name(0))).toBeDefined();
  expect(await folders.find(name(1))).toBeUndefined();
  expect(await all(folders.snapshots(Infinity))).toHaveLength(keptFoldersMax);
});

test("what is to stay are the most lately kept, as far as their bytes fit; a file that is in one twice counts once", async () => {
  const { blobs, clock, folders } = rig();
  const filled = async (name: string, bytes: number) => {
    const digest = await writeBlob(blobs, new Uint8Array(bytes).fill(name.charCodeAt(0)));
    const nodes = ["a", "b"].map((called) => ({ kind: "file" as const, name: called, digest, executable: false }));
    const content = await writeBlob(blobs, encodeDirectory(nodes));
    await folders.keep({ requestor: "", name }, { content, madeFor: emptyDigest });
    await clock.advance(1);
    return (await folders.find({ requestor: "", name }))!.snapshot;
  };
  const [first, second, third] = [await filled("1", 100), await filled("2", 10), await filled("3", 1)];
  expect(await all(folders.snapshots(111))).toEqual([third, second, first]);
  expect(await all(folders.snapshots(110))).toEqual([third, second]);
  expect(await all(folders.snapshots(10))).toEqual([third]);
  expect(await all(folders.snapshots(0))).toEqual([]);
});
