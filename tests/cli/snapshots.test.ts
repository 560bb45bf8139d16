import { chmodSync, lstatSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryFolder } from "../snapshots/temporary_folder.ts";
import { fakeCluster, fakeWorld, type } from "./fakes.ts";

function project(): string {
  const dir = temporaryFolder();
  mkdirSync(join(dir, "src"));
  writeFileSync(join(dir, "src", "a.ts"), "export {};\n");
  writeFileSync(join(dir, "run.sh"), "#!/bin/sh\n");
  chmodSync(join(dir, "run.sh"), 0o755);
  symlinkSync("src/a.ts", join(dir, "link"));
  return dir;
}

/** A cluster that holds the project under the name "it". */
async function captured() {
  const cluster = fakeCluster();
  const world = fakeWorld({ cluster, userDir: project() });
  expect(await type(world, "snapshot", "capture", "--name", "it")).toBe(0);
  return { cluster, id: world.stdout.text().trim() };
}

test("snapshot capture prints the id alone on stdout, and what was sent on stderr", async () => {
  const world = fakeWorld({ userDir: project() });
  expect(await type(world, "snapshot", "capture")).toBe(0);
  expect(world.stdout.text()).toMatch(/^[0-9a-f]{64}\/\d+\n$/);
  expect(world.stderr.text()).toMatch(/^scoot-actors: captured \d files? .*\n$/);
  const json = fakeWorld({ userDir: project() });
  expect(await type(json, "snapshot", "capture", "--json")).toBe(0);
  expect(JSON.parse(json.stdout.text())).toMatchObject({ type: "captured", snapshot: world.stdout.text().trim() });
  expect(json.stderr.text()).toBe("");
});

test("snapshot checkout writes it all, by id or by name", async () => {
  const { cluster, id } = await captured();
  for (const name of [id, "it"]) {
    const world = fakeWorld({ cluster });
    const dir = join(world.userDir, "copy");
    expect(await type(world, "snapshot", "checkout", name, "copy")).toBe(0);
    expect(world.stdout.text()).toBe(`${dir}\n`);
    expect(readFileSync(join(dir, "src", "a.ts"), "utf8")).toBe("export {};\n");
    expect(lstatSync(join(dir, "run.sh")).mode & 0o777).toBe(0o755);
    expect(readlinkSync(join(dir, "link"))).toBe("src/a.ts");
  }
});

test("snapshot checkout refuses a folder in which something is", async () => {
  const { cluster, id } = await captured();
  const world = fakeWorld({ cluster, userDir: project() });
  expect(await type(world, "snapshot", "checkout", id, ".")).toBe(1);
  expect(world.stderr.text()).toMatch(/^scoot-actors: Cannot check out into .* as it must be empty/);
});

describe("snapshot ls", () => {
  test("lists all, or what is below a path", async () => {
    const { cluster } = await captured();
    const world = fakeWorld({ cluster });
    expect(await type(world, "snapshot", "ls", "it")).toBe(0);
    expect(world.stdout.text().split("\n").sort()).toEqual([
      "",
      "-           11  src/a.ts",
      "d               src/",
      "l               link -> src/a.ts",
      "x           10  run.sh",
    ]);
    const part = fakeWorld({ cluster });
    expect(await type(part, "snapshot", "ls", "it", "src")).toBe(0);
    expect(part.stdout.text()).toBe("-           11  src/a.ts\n");
  });

  test("gives programs digests, an object a line", async () => {
    const { cluster } = await captured();
    const world = fakeWorld({ cluster });
    expect(await type(world, "snapshot", "ls", "it", "src/a.ts", "--json")).toBe(0);
    expect(JSON.parse(world.stdout.text())).toEqual({
      path: "src/a.ts",
      kind: "file",
      digest: expect.stringMatching(/\/11$/),
      executable: false,
    });
  });

  test("shows names on a terminal such that they cannot steer it", async () => {
    const dir = temporaryFolder();
    writeFileSync(join(dir, "a\u001b[2J"), "");
    const cluster = fakeCluster();
    expect(await type(fakeWorld({ cluster, userDir: dir }), "snapshot", "capture", "--name", "it")).toBe(0);
    const terminal = fakeWorld({ cluster, isTerminal: true });
    await type(terminal, "snapshot", "ls", "it");
    expect(terminal.stdout.text()).toContain("a\\u001b[2J\n");
    const pipe = fakeWorld({ cluster });
    await type(pipe, "snapshot", "ls", "it");
    expect(pipe.stdout.text()).toContain("a\u001b[2J\n");
  });
});

describe("snapshot cat", () => {
  test("prints a file byte for byte", async () => {
    const { cluster } = await captured();
    const world = fakeWorld({ cluster });
    expect(await type(world, "snapshot", "cat", "it", "src/a.ts")).toBe(0);
    expect(world.stdout.text()).toBe("export {};\n");
  });

  test.each([
    ["src", 'Cannot print "src" as it must be a file: current value is a directory'],
    ["link", 'Cannot print "link" as it must be a file: current value is a symlink to "src/a.ts"'],
    ["nope", 'Cannot read "nope": the snapshot has nothing at that path'],
  ])("of %s is a fault", async (path, sentence) => {
    const { cluster } = await captured();
    const world = fakeWorld({ cluster });
    expect(await type(world, "snapshot", "cat", "it", path)).toBe(1);
    expect(world.stderr.text()).toBe(`scoot-actors: ${sentence}\n`);
  });
});

describe("snapshot name", () => {
  test("gives, moves, tells and lists names", async () => {
    const { cluster, id } = await captured();
    const told = fakeWorld({ cluster });
    expect(await type(told, "snapshot", "name", "it")).toBe(0);
    expect(told.stdout.text()).toBe(`${id}\n`);
    const { cluster: _, id: other } = await captured();
    const moved = fakeWorld({ cluster });
    expect(await type(moved, "snapshot", "name", "also", "it")).toBe(0);
    expect(await type(moved, "snapshot", "name", "it", other)).toBe(0);
    const all = fakeWorld({ cluster });
    expect(await type(all, "snapshot", "name", "--json")).toBe(0);
    expect(all.stdout.text().trimEnd().split("\n").map((line) => JSON.parse(line))).toEqual([{
      name: "also",
      snapshot: id,
    }, { name: "it", snapshot: other }]);
  });

  test("that nobody gave is a fault, and so is an unknown snapshot", async () => {
    const world = fakeWorld();
    expect(await type(world, "snapshot", "name", "nope")).toBe(1);
    expect(world.stderr.text()).toBe('scoot-actors: Cannot find the name "nope": no snapshot was given it\n');
    const other = fakeWorld();
    expect(await type(other, "snapshot", "ls", "nope")).toBe(1);
    expect(other.stderr.text()).toContain('Cannot find the snapshot "nope"');
  });

  test("is moved although somebody else moves it at the same moment", async () => {
    const { cluster, id } = await captured();
    const { names } = cluster.client;
    let races = 3;
    const world = fakeWorld({ cluster });
    const racing = {
      ...world,
      connect: () =>
        Promise.resolve({
          ...cluster.client,
          names: {
            ...names,
            async get(name: string) {
              const found = await names.get(name);
              if (races-- > 0) await names.compareAndSet(name, found, `elsewhere ${races}`);
              return found;
            },
          },
        }),
    };
    expect(await type(racing, "snapshot", "name", "busy", id)).toBe(0);
    expect(await names.get("busy")).toBe(id);
  });
});
