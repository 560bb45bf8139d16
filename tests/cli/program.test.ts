import { describe, expect, test } from "vitest";
import { catalogue } from "../../src/cli/catalogue.ts";
import { manualClock, settle } from "../transport/manual_clock.ts";
import { fakeCluster, fakeJobId, fakeWorld, type } from "./fakes.ts";

describe("program()", () => {
  test.each([
    [["rnu"], 'scoot-actors: Cannot do "rnu": there is no such command. Did you mean "run"?\n'],
    [["zzz"], 'scoot-actors: Cannot do "zzz": there is no such command; "scoot-actors help" lists them\n'],
    [
      ["job"],
      'scoot-actors: Cannot do "job" alone: it must be followed by one of submit, list, why, status, watch, logs, kill, export, import\n',
    ],
    [["job", "satus"], 'scoot-actors: Cannot do "job satus": there is no such command. Did you mean "job status"?\n'],
    [
      ["--cluster", "x", "run"],
      'scoot-actors: Cannot read --cluster as flags must follow a command: "scoot-actors help" lists the commands\n',
    ],
    [
      ["workers", "x"],
      'scoot-actors: Cannot read "x" as nothing more is expected there: scoot-actors workers [FLAGS]\n',
    ],
    [
      ["workers", "--", "x"],
      "scoot-actors: Cannot read what follows -- as workers takes no command: scoot-actors workers [FLAGS]\n",
    ],
    [
      ["job", "status"],
      'scoot-actors: Cannot do "job status" as more must follow: scoot-actors job status ID[/N] [FLAGS]\n',
    ],
    [
      ["run", "make", "test"],
      'scoot-actors: Cannot read "make" as the command to run must follow --: scoot-actors run -- make test\n',
    ],
    [
      ["workers", "--cluster", "ftp://x"],
      'scoot-actors: Cannot use --cluster as it must be a URL such as http://127.0.0.1:9090: current value is "ftp://x"\n',
    ],
    [
      ["job", "kill", "x"],
      'scoot-actors: Cannot find a job as its id must look like j01k3x9q7fa-0004m2: current value is "x"\n',
    ],
    [
      ["job", "kill", "j01k3x9q7fa-0004m2/1"],
      "scoot-actors: Cannot do this to one task as it must be a whole job: write j01k3x9q7fa-0004m2 instead of j01k3x9q7fa-0004m2/1\n",
    ],
    [
      ["cluster", "--host", "0.0.0.0", "--data", "d"],
      /^scoot-actors: Cannot listen on 0\.0\.0\.0 as .* add --allow-network, and give the token in .*d\/token to those who may\n$/,
    ],
  ])("refuses %j in one sentence and exits 2", async (line, sentence) => {
    const world = fakeWorld();
    expect(await type(world, ...line)).toBe(2);
    expect(world.stderr.text()).toMatch(sentence);
    expect(world.stdout.text()).toBe("");
  });

  test("tells a fault as an object to programs", async () => {
    const world = fakeWorld();
    expect(await type(world, "job", "status", "j01k3x9q7fa-999999", "--json")).toBe(1);
    expect(JSON.parse(world.stderr.text())).toEqual({
      type: "fault",
      code: "JOB_UNKNOWN",
      message: "Cannot find job j01k3x9q7fa-999999: this cluster does not have it",
    });
  });

  test("exits 3 with how to start one when there is no cluster", async () => {
    const world = fakeWorld({ env: { SCOOT_CLUSTER: "" } });
    expect(await type(world, "workers")).toBe(3);
    expect(world.stderr.text()).toBe(
      'scoot-actors: Cannot find a cluster: start one with "scoot-actors cluster", or name one with --cluster URL or SCOOT_CLUSTER\n',
    );
  });

  test("asks for a report, with all there is, when the mistake is ours", async () => {
    const world = fakeWorld();
    expect(await type({ ...world, connect: () => Promise.reject(new TypeError("x is not a function")) }, "workers"))
      .toBe(1);
    expect(world.stderr.text()).toContain("This is a mistake in scoot-actors itself; please report it");
    expect(world.stderr.text()).toContain("TypeError: x is not a function\n");
  });

  test("says what the system refuses without a stack", async () => {
    const world = fakeWorld();
    expect(await type(world, "job", "submit", "none.json")).toBe(1);
    expect(world.stderr.text()).toMatch(
      /^scoot-actors: Cannot open '.*none\.json': no such file or directory \(ENOENT\)\n$/,
    );
  });

  test("exits 141 and says nothing when its reader is gone", async () => {
    const world = fakeWorld();
    world.stdout.close();
    expect(await type(world, "help")).toBe(141);
    expect(world.stderr.text()).toBe("");
  });

  test("says on a terminal that a cluster does not answer, once that takes a while", async () => {
    const cluster = fakeCluster();
    cluster.silence();
    const clock = manualClock();
    const world = fakeWorld({ cluster, clock, isTerminal: true });
    const code = type(world, "job", "watch", fakeJobId);
    await clock.advance(1_999);
    while (clock.waiting() === 0) await settle();
    await clock.advance(1_999);
    expect(world.stderr.text()).toBe("");
    await clock.advance(1);
    expect(world.stderr.text()).toBe(
      "scoot-actors: waiting for the cluster at http://127.0.0.1:9090, which does not answer\n",
    );
    cluster.speak();
    cluster.settle({ kind: "exited", exitCode: 0 });
    expect(await code).toBe(0);
  });

  test("closes the client whether or not the command went well", async () => {
    const cluster = fakeCluster();
    await type(fakeWorld({ cluster }), "workers");
    expect(cluster.calls).toEqual(["close"]);
    await type(fakeWorld({ cluster }), "job", "status", "j01k3x9q7fa-999999");
    expect(cluster.calls).toEqual(["close", "close"]);
  });
});

describe("help", () => {
  test.each([[[]], [["help"]], [["--help"]], [["-h"]]])("%j lists every command", async (line) => {
    const world = fakeWorld();
    expect(await type(world, ...line)).toBe(0);
    for (const { name, does } of catalogue) {
      expect(world.stdout.text()).toMatch(new RegExp(`^  ${name} +${does}$`, "m"));
    }
  });

  test.each(catalogue.map(({ name }) => [name]))(
    "of %s shows examples first, then usage and every flag, and loads what the catalogue says",
    async (name) => {
      const world = fakeWorld();
      expect(await type(world, ...name.split(" "), "--help")).toBe(0);
      const text = world.stdout.text();
      const command = await catalogue.find((entry) => entry.name === name)!.load();
      expect(command.name).toBe(name);
      expect(text.indexOf("\nExamples\n")).toBeGreaterThan(0);
      expect(text.indexOf("\nExamples\n")).toBeLessThan(text.indexOf("\nUsage\n"));
      for (const flag of Object.keys(command.flags)) expect(text).toContain(`--${flag}`);
      for (const usage of command.usage) expect(text).toContain(`  scoot-actors ${usage}\n`);
      for (const line of text.split("\n").slice(0, text.split("\n").indexOf(""))) {
        expect(line.length)
          .toBeLessThanOrEqual(100);
      }
      expect(text).not.toContain("\u001b");
    },
  );

  test("of a group shows each of its commands", async () => {
    const world = fakeWorld();
    expect(await type(world, "help", "job")).toBe(0);
    expect(world.stdout.text()).toContain("scoot-actors job submit FILE|-");
    expect(world.stdout.text()).toContain("scoot-actors job kill ID");
  });

  test("of what is none asks whether another was meant", async () => {
    const world = fakeWorld();
    expect(await type(world, "help", "clutser")).toBe(2);
    expect(world.stderr.text()).toBe(
      'scoot-actors: Cannot explain "clutser": there is no such command. Did you mean "cluster"?\n',
    );
  });

  test("asked for after -- belongs to the command that is run", async () => {
    const cluster = fakeCluster();
    cluster.settle({ kind: "exited", exitCode: 0 });
    expect(await type(fakeWorld({ cluster }), "run", "--", "ls", "--help")).toBe(0);
    expect(cluster.submitted()?.tasks[0]?.argv).toEqual(["ls", "--help"]);
  });

  test("--json gives the same as data", async () => {
    const world = fakeWorld();
    expect(await type(world, "help", "run", "--json")).toBe(0);
    expect(JSON.parse(world.stdout.text())).toMatchObject({
      name: "run",
      flags: expect.arrayContaining([expect.objectContaining({ flag: "timeout" })]),
    });
  });
});

test("version says the version, as text and as an object", async () => {
  const world = fakeWorld();
  expect(await type(world, "--version")).toBe(0);
  expect(world.stdout.text()).toMatch(/^scoot-actors \d+\.\d+\.\d+ \(protocol \d+, (deno|node) [\d.]+\)\n$/);
  const other = fakeWorld();
  expect(await type(other, "version", "--json")).toBe(0);
  expect(Object.keys(JSON.parse(other.stdout.text()))).toEqual(["version", "protocol", "runtime"]);
});
