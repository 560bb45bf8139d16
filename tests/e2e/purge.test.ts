import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { program } from "../../src/cli/program.ts";
import { isAlive } from "../../src/roles/this_user.ts";
import { realClock } from "../../src/runtime/clock.ts";
import { fakeWorld } from "../cli/fakes.ts";
import { typeTo } from "./command_line.ts";
import { clusterOfTest, temporaryFolder } from "./support.ts";

test("stop --purge leaves nothing of a cluster, and of its folder what is not its own", async () => {
  const dir = temporaryFolder();
  const cluster = await clusterOfTest([], dir);
  const data = join(dir, "data");
  await typeTo(cluster, temporaryFolder(), ["run", "--out", "x", "--no-download", "--", "sh", "-c", "echo 1 > x"]);
  const made = fakeWorld({
    clock: realClock,
    processes: { isAlive, commandLine: () => undefined, terminate: (pid) => void process.kill(pid, "SIGTERM") },
  });
  mkdirSync(join(made.env["XDG_CACHE_HOME"]!, "scoot-actors", "captures"), { recursive: true });
  writeFileSync(join(data, "notes.txt"), "mine");
  const world = { ...made, env: { ...made.env, SCOOT_READY_FILE: join(dir, "ready.json") } };
  expect(await program(["stop", "--purge"], world)).toBe(0);
  expect(made.stdout.text()).toContain(`Removed what was kept in ${data} and `);
  expect(made.stdout.text()).toContain("; what else is in it stays: notes.txt.\n");
  expect(readdirSync(data)).toEqual(["notes.txt"]);
  expect(existsSync(join(made.env["XDG_CACHE_HOME"]!, "scoot-actors"))).toBe(false);
});

test("stop --purge refuses a folder that is no cluster's, and one on which a cluster runs", async () => {
  const other = temporaryFolder();
  writeFileSync(join(other, "precious"), "");
  const world = fakeWorld();
  expect(await program(["stop", "--purge", "--data", other], world)).toBe(1);
  expect(world.stderr.text()).toContain("it has neither a token nor a lock");
  expect(readdirSync(other)).toEqual(["precious"]);
  const dir = temporaryFolder();
  await clusterOfTest([], dir);
  const busy = fakeWorld();
  expect(await program(["stop", "--purge", "--data", join(dir, "data")], busy)).toBe(2);
  expect(busy.stderr.text()).toContain("one process may write it");
  expect(existsSync(join(dir, "data", "states"))).toBe(true);
});
